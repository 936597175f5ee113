"""Operations on a kernel that a test made up: batches, errnos, and changes that others make meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import pytest

from lb4 import ipvs_wire
from lb4.ipvs_changes import ROUNDS, carry_out
from lb4.services import BackendKey, Destination, Failure, Kind, Operation, ServiceKey, Settings
from tests.fakes.ipvs_kernel import Addresses

KEY = ServiceKey("tcp", "11.0.0.1", 80)
BACKEND = BackendKey("10.0.0.1", 8080)
ADD, SET, DROP = (
    Operation(kind, KEY, Settings("wlc")) for kind in (Kind.ADD_SERVICE, Kind.SET_SERVICE, Kind.DROP_SERVICE)
)
ADD_TO, SET_IN, DROP_FROM = (
    Operation(kind, KEY, None, BACKEND, Destination(2))
    for kind in (Kind.ADD_DESTINATION, Kind.SET_DESTINATION, Kind.DROP_DESTINATION)
)
SECOND = ADD_TO._replace(backend=BackendKey("10.0.0.2", 8080))


class Kernel:
    """Notes batches, and answers with the errnos that are given, one list for each batch; then 0."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)
        self.batches: list[list[bytes]] = []

    def send(self, payloads: Sequence[bytes]) -> list[int]:
        """One batch."""
        self.batches.append(list(payloads))
        errnos = self.answers.pop(0) if self.answers else []
        return (errnos + [0] * len(payloads))[: len(payloads)]


def payloads(*operations: Operation) -> list[bytes]:
    """What is sent for them."""
    return [ipvs_wire.change(operation) for operation in operations]


def otherwise(operation: Operation, kind: Kind) -> Operation:
    """The same, done in another way."""
    return operation._replace(kind=kind)


def address(kind: Kind, text: str) -> Operation:
    """An operation on an address."""
    return Operation(kind, ServiceKey("", text, 0))


def done(*operations: Operation, answers: Sequence[list[int]] = ()) -> tuple[list[Failure], Kernel]:
    """The failures, and the kernel that was asked."""
    kernel = Kernel(*answers)
    return carry_out(operations, kernel.send, Addresses()), kernel


def test_runs_are_batches_in_order() -> None:
    kernel, addresses = Kernel(), Addresses()
    gone, new = address(Kind.DROP_ADDRESS, "11.0.0.9"), address(Kind.ADD_ADDRESS, "11.0.0.1")
    order: list[str] = []

    def send(some: Sequence[bytes]) -> list[int]:
        order.append(f"{len(some)} of {len(addresses.changes)}")
        return kernel.send(some)

    more = address(Kind.ADD_ADDRESS, "11.0.0.2")
    assert carry_out([gone, ADD, ADD_TO, SECOND, new, more, DROP], send, addresses) == []
    assert kernel.batches == [payloads(ADD, ADD_TO, SECOND), payloads(DROP)]
    assert addresses.changes == [([], ["11.0.0.9"]), (["11.0.0.1", "11.0.0.2"], [])]
    assert order == ["3 of 1", "1 of 2"]
    assert carry_out([], send, addresses) == []
    assert len(order) == 2


def test_an_address_that_comes_twice_is_changed_in_order() -> None:
    addresses = Addresses()
    twice = [address(kind, text) for kind, text in ((Kind.ADD_ADDRESS, "11.0.0.1"), (Kind.DROP_ADDRESS, "11.0.0.1"))]
    carry_out([*twice, address(Kind.ADD_ADDRESS, "11.0.0.2")], Kernel().send, addresses)
    assert addresses.changes == [(["11.0.0.1"], []), (["11.0.0.2"], ["11.0.0.1"])]


def test_addresses_that_fail() -> None:
    addresses, kernel = Addresses(), Kernel()
    addresses.errors["11.0.0.2"] = OSError(errno.ENODEV, "No such device")
    adds = [address(Kind.ADD_ADDRESS, f"11.0.0.{number}") for number in (1, 2, 3)]
    assert carry_out([*adds, ADD], kernel.send, addresses) == [Failure(adds[1], errno.ENODEV, "No such device")]
    addresses.broken = OSError("no socket")
    assert carry_out([*adds, ADD], kernel.send, addresses) == [Failure(add, 0, "no socket") for add in adds]
    assert kernel.batches == [payloads(ADD)] * 2


def test_what_fails_is_told_and_the_rest_goes_on() -> None:
    failures, kernel = done(ADD, ADD_TO, SECOND, answers=[[0, errno.EPERM, 0]])
    assert failures == [Failure(ADD_TO, errno.EPERM, os.strerror(errno.EPERM))]
    assert len(kernel.batches) == 1


def test_what_can_not_be_said_is_told_and_the_rest_goes_on() -> None:
    bad = ADD_TO._replace(backend=BackendKey("nowhere", 1))
    failures, kernel = done(ADD, bad, ADD_TO)
    assert [(failure.operation, failure.errno) for failure in failures] == [(bad, errno.EINVAL)]
    assert "nowhere" in failures[0].reason
    assert kernel.batches == [payloads(ADD, ADD_TO)]
    assert len(done(bad)[1].batches) == 0


@pytest.mark.parametrize(
    ("operation", "code", "instead"),
    [
        (ADD, errno.EEXIST, Kind.SET_SERVICE),
        (SET, errno.ESRCH, Kind.ADD_SERVICE),
        (ADD_TO, errno.EEXIST, Kind.SET_DESTINATION),
        (SET_IN, errno.ENOENT, Kind.ADD_DESTINATION),
        (ADD, errno.ENOBUFS, Kind.ADD_SERVICE),
        (DROP_FROM, errno.ENOBUFS, Kind.DROP_DESTINATION),
    ],
)
def test_what_others_did_before_is_no_failure(operation: Operation, code: int, instead: Kind) -> None:
    failures, kernel = done(operation, answers=[[code]])
    assert failures == []
    assert kernel.batches == [payloads(operation), payloads(otherwise(operation, instead))]


@pytest.mark.parametrize(
    ("operation", "code"), [(DROP, errno.ESRCH), (DROP_FROM, errno.ENOENT), (DROP_FROM, errno.ESRCH)]
)
def test_what_is_gone_is_dropped(operation: Operation, code: int) -> None:
    failures, kernel = done(operation, answers=[[code]])
    assert failures == []
    assert len(kernel.batches) == 1


def test_destinations_of_a_service_that_others_dropped() -> None:
    failures, kernel = done(SET, SET_IN, SECOND, DROP_FROM, answers=[[errno.ESRCH] * 3])
    assert failures == []
    again = payloads(otherwise(SET, Kind.ADD_SERVICE), ADD_TO, SECOND)
    assert kernel.batches == [payloads(SET, SET_IN, SECOND), again, payloads(DROP_FROM)]


def test_a_destination_of_no_service_is_a_failure() -> None:
    failures, kernel = done(ADD_TO, answers=[[errno.ESRCH]])
    assert failures == [Failure(ADD_TO, errno.ESRCH, "no such service")]
    assert len(kernel.batches) == 1


@pytest.mark.parametrize("later", [DROP, DROP_FROM])
def test_a_later_operation_is_not_undone(later: Operation) -> None:
    failures, kernel = done(ADD, SET_IN, later, answers=[[0, errno.ENOENT]])
    assert failures == []
    added = otherwise(SET_IN, Kind.ADD_DESTINATION)
    assert kernel.batches == [payloads(ADD, SET_IN), payloads(added), payloads(later)]


def test_a_race_that_does_not_end() -> None:
    codes = [errno.EEXIST, errno.ENOENT] * ROUNDS
    failures, kernel = done(ADD_TO, answers=[[code] for code in codes])
    assert failures == [Failure(ADD_TO, codes[ROUNDS - 1], "no such destination")]
    assert len(kernel.batches) == ROUNDS


@pytest.mark.parametrize(
    ("operation", "code", "reason"),
    [
        (ADD, errno.ENOENT, "no scheduler 'wlc'"),
        (SET, errno.ENOENT, "no scheduler 'wlc'"),
        (ADD_TO, errno.ERANGE, "lower threshold"),
        (ADD_TO, errno.EINVAL, "Invalid argument"),
    ],
)
def test_reasons(operation: Operation, code: int, reason: str) -> None:
    ((failure,), kernel) = done(operation, answers=[[code]])
    assert reason in failure.reason
    assert len(kernel.batches) == 1


def test_a_kernel_that_can_not_be_asked() -> None:
    def send(some: Sequence[bytes]) -> list[int]:
        raise TimeoutError(errno.ETIMEDOUT, "silent")

    with pytest.raises(TimeoutError):
        carry_out([ADD], send, Addresses())
