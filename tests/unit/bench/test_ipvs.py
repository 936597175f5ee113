"""The measurement of IPVS gives both sides the same services."""

from __future__ import annotations

from lb4.plan import plan
from lb4.services import Actual, Kind
from tests.bench.ipvs import desired, options, restored


def test_both_sides_make_the_same() -> None:
    services = desired(300)
    assert len(services) == 300
    expected = []
    for operation in plan(services, Actual(), lambda address: False):
        key, backend = operation.service, operation.backend
        if operation.kind is Kind.ADD_SERVICE:
            expected.append(f"-A -t {key.address}:{key.port} -s wlc")
        elif operation.kind is Kind.ADD_DESTINATION and backend is not None:
            expected.append(f"-a -t {key.address}:{key.port} -r {backend.address}:{backend.port} -m -w 1")
    assert restored(services).splitlines() == expected
    assert len(expected) == 1200


def test_options() -> None:
    assert options([]) == {"services": 10_000, "rounds": 1}
    assert options(["--services", "20"])["services"] == 20
