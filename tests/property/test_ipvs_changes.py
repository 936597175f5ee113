"""Whatever is done to services at once ends as if it had been done one by one, and whatever is there already."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lb4 import ipvs_found, ipvs_wire
from lb4.ipvs_changes import carry_out
from lb4.netlink import NLM_F_DUMP, Answer
from lb4.services import BackendKey, Destination, Failure, Kind, Operation, ServiceKey, Settings
from tests.fakes.ipvs_kernel import FAMILY, Addresses, IpvsKernel

Model = dict[ServiceKey, tuple[Settings, dict[BackendKey, Destination]]]

SERVICES = st.sampled_from([ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("udp", "fd01:c::1", 80)])
OF_SERVICES = st.builds(
    Operation,
    st.sampled_from([Kind.ADD_SERVICE, Kind.SET_SERVICE, Kind.DROP_SERVICE]),
    SERVICES,
    st.sampled_from([Settings("rr"), Settings("wlc")]),
    st.none(),
    st.none(),
)


@st.composite
def of_destinations(draw: st.DrawFn) -> Operation:
    """An operation on a backend of its service's family."""
    service = draw(SERVICES)
    kind = draw(st.sampled_from([Kind.ADD_DESTINATION, Kind.SET_DESTINATION, Kind.DROP_DESTINATION]))
    backend = BackendKey("fd00::1" if ":" in service.address else "10.0.0.1", draw(st.integers(1, 2)))
    return Operation(kind, service, None, backend, Destination(draw(st.integers(0, 3))))


OPERATIONS = st.lists(OF_SERVICES | of_destinations(), max_size=14)


def one_by_one(operations: list[Operation], model: Model) -> list[Operation]:
    """Change the model; the operations that fail: those on destinations of a service that is not there."""
    failed = []
    for operation in operations:
        key, backend = operation.service, operation.backend
        if backend is None:
            if operation.kind is Kind.DROP_SERVICE:
                model.pop(key, None)
            else:
                assert operation.settings is not None
                model[key] = (operation.settings, model.get(key, (None, {}))[1])
        elif operation.kind is Kind.DROP_DESTINATION:
            if key in model:
                model[key][1].pop(backend, None)
        elif key not in model:
            failed.append(operation)
        else:
            assert operation.destination is not None
            model[key][1][backend] = operation.destination
    return failed


def at_once(kernel: IpvsKernel, operations: list[Operation]) -> list[Failure]:
    """In one batch a round."""

    def send(payloads: Sequence[bytes]) -> list[int]:
        replies = [kernel.answer(Answer(FAMILY, 0, 0, payload)) for payload in payloads]
        return [reply if isinstance(reply, int) else 0 for reply in replies]

    return carry_out(operations, send, Addresses())


def read(kernel: IpvsKernel) -> Model:
    """What the kernel has."""
    model: Model = {}
    for payload in _dumped(kernel, bytes([4, 1, 0, 0])):
        found = ipvs_found.read_service(payload)
        assert found is not None
        question = ipvs_wire.destinations_question(found.key)
        backends = [ipvs_found.read_destination(payload) for payload in _dumped(kernel, question)]
        model[found.key] = (found.settings, {backend.key: backend.destination for backend in backends})
    return model


def _dumped(kernel: IpvsKernel, question: bytes) -> list[bytes]:
    reply = kernel.answer(Answer(FAMILY, NLM_F_DUMP, 0, question))
    assert not isinstance(reply, int)
    return reply


@given(OPERATIONS, OPERATIONS)
def test_at_once_is_as_one_by_one(before: list[Operation], operations: list[Operation]) -> None:
    kernel, model = IpvsKernel(), Model()
    for some in (before, operations):
        failed = one_by_one(some, model)
        failures = at_once(kernel, some)
        assert [failure.operation for failure in failures] == failed
        assert {failure.errno for failure in failures} <= {errno.ESRCH}
        assert read(kernel) == model
