"""lb4.trouble: failures are told once and tried again."""

from __future__ import annotations

import errno
import logging
from math import inf

import pytest

from lb4 import trouble
from lb4.services import BackendKey, Destination, Failure, Kind, Operation, ServiceKey, Settings
from lb4.trouble import Troubles, errno_name, needless, primary, surprising

WEB, API = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "11.0.0.2", 80)
A = BackendKey("10.0.0.1", 8080)


SIX = ServiceKey("tcp", "fd01:c::1", 80)


def failure(key: ServiceKey = WEB, number: int = errno.EPERM, kind: Kind = Kind.SET_DESTINATION) -> Failure:
    backend = A if "destination" in kind else None
    return Failure(Operation(kind, key, Settings(), backend, Destination()), number, "no")


@pytest.fixture
def troubles(caplog: pytest.LogCaptureFixture) -> Troubles:
    caplog.set_level(logging.WARNING)
    return Troubles()


def test_tries_come_further_apart(troubles: Troubles) -> None:
    now = 0.0
    for delay in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        troubles.note([WEB], [failure()], now)
        assert troubles.next == now + delay
        assert troubles.due(now + delay - 0.1) == []
        assert troubles.due(now + delay) == [WEB]
        now += delay


def test_success_ends_it(troubles: Troubles) -> None:
    troubles.note([WEB, API], [failure(), failure(API)], 0.0)
    troubles.note([WEB], [], 1.0)
    assert list(troubles.keys) == [API]
    assert len(troubles) == 1
    assert troubles.of(WEB) == ()
    assert troubles.of(API) == (failure(API),)
    troubles.note([API], [], 1.0)
    assert troubles.next == inf
    troubles.note([WEB], [failure()], 2.0)
    assert troubles.next == 3.0


def test_an_error_is_told_once_until_it_changes(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        troubles.note([WEB], [failure(), failure()], 0.0)
    assert len(caplog.records) == 1
    assert "operation=set-destination service=tcp/11.0.0.1:80 backend=10.0.0.1:8080 error=EPERM" in caplog.text
    troubles.note([WEB], [failure(number=errno.ENOMEM)], 0.0)
    troubles.note([API], [failure(API, kind=Kind.ADD_ADDRESS)], 0.0)
    assert len(caplog.records) == 3
    assert "backend=- " in caplog.records[-1].getMessage()
    troubles.note([WEB], [], 0.0)
    troubles.note([WEB], [failure(number=errno.ENOMEM)], 0.0)
    assert len(caplog.records) == 4


def test_many_failures_are_few_lines(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    keys = [ServiceKey("tcp", "11.0.0.1", port) for port in range(100)]
    troubles.note(keys, [failure(key) for key in keys], 0.0)
    assert len(caplog.records) == trouble.LINES + 1
    assert "more=90" in caplog.records[-1].getMessage()


def test_what_only_follows_is_not_told() -> None:
    add = failure(kind=Kind.ADD_SERVICE)
    follows = failure(number=errno.ESRCH, kind=Kind.ADD_DESTINATION)
    other = failure(API, number=errno.ESRCH, kind=Kind.ADD_DESTINATION)
    assert primary([add, follows, other]) == [add, other]


def test_kinds_of_failures() -> None:
    assert needless(failure(number=errno.ENOENT, kind=Kind.DROP_DESTINATION))
    assert needless(failure(number=errno.ESRCH, kind=Kind.DROP_SERVICE))
    assert not needless(failure(number=errno.EPERM, kind=Kind.DROP_SERVICE))
    assert not needless(failure(number=errno.ENOENT))
    assert surprising(failure(number=errno.ENOENT))
    assert surprising(failure(number=errno.EEXIST, kind=Kind.ADD_SERVICE))
    assert not surprising(failure(number=errno.EPERM))
    assert not surprising(failure(number=errno.ENOENT, kind=Kind.ADD_SERVICE))  # no such scheduler
    assert not surprising(failure(number=errno.ENOENT, kind=Kind.SET_SERVICE))
    assert errno_name(errno.EPERM) == "EPERM"
    assert errno_name(0) == ""


def six(number: int, kind: Kind, port: int = 80) -> Failure:
    return failure(SIX._replace(port=port), number, kind)


@pytest.mark.parametrize(
    "found",
    [
        six(errno.EAFNOSUPPORT, Kind.ADD_SERVICE),
        six(errno.EAFNOSUPPORT, Kind.SET_DESTINATION),
        six(errno.EACCES, Kind.ADD_ADDRESS),
        six(errno.EPERM, Kind.ADD_SERVICE),
        six(errno.EADDRNOTAVAIL, Kind.ADD_SERVICE),
    ],
)
def test_a_machine_without_ipv6_is_told_once_and_not_tried_by_itself(
    troubles: Troubles, caplog: pytest.LogCaptureFixture, found: Failure
) -> None:
    for port in (80, 81):
        one = found._replace(operation=found.operation._replace(service=SIX._replace(port=port)))
        troubles.note([one.operation.service], [one], 0.0)
        assert troubles.is_lack(one.operation.service)
    assert len(caplog.records) == 1
    assert "this machine has no IPv6" in caplog.text
    assert (len(troubles), len(troubles.keys), troubles.next, troubles.due(1e9)) == (0, 2, inf, [])
    troubles.note([SIX], [], 1.0)
    assert not troubles.is_lack(SIX)
    assert SIX not in troubles.keys


@pytest.mark.parametrize(
    "found",
    [
        failure(WEB, errno.EAFNOSUPPORT, Kind.ADD_SERVICE),
        failure(WEB, errno.EACCES, Kind.ADD_ADDRESS),
        six(errno.ENOMEM, Kind.ADD_ADDRESS),
        six(errno.ENOENT, Kind.ADD_SERVICE),
        six(errno.EPERM, Kind.SET_DESTINATION),
    ],
)
def test_other_failures_are_failures(troubles: Troubles, found: Failure) -> None:
    troubles.note([found.operation.service], [found], 0.0)
    assert not troubles.is_lack(found.operation.service)
    assert (len(troubles), troubles.next) == (1, 1.0)


def test_where_ipv6_has_worked_its_refusal_is_a_failure(troubles: Troubles) -> None:
    troubles.ipv6.did([failure(kind=Kind.ADD_ADDRESS).operation, six(0, Kind.ADD_SERVICE).operation])
    troubles.note([SIX], [six(errno.EACCES, Kind.ADD_ADDRESS)], 0.0)
    assert troubles.is_lack(SIX)  # services can be added, addresses can't
    troubles.note([SIX], [six(errno.EACCES, Kind.ADD_SERVICE)], 0.0)
    assert not troubles.is_lack(SIX)
    assert troubles.next == 1.0  # as if it had never failed before
    troubles.ipv6.had(Kind.ADD_ADDRESS)
    troubles.note([SIX], [six(errno.EACCES, Kind.ADD_ADDRESS)], 1.0)
    assert not troubles.is_lack(SIX)


def test_one_other_failure_of_a_service_is_enough(troubles: Troubles) -> None:
    troubles.note([SIX], [six(errno.EACCES, Kind.ADD_ADDRESS), six(errno.ENOMEM, Kind.ADD_DESTINATION)], 0.0)
    assert len(troubles.of(SIX)) == 2
    assert len(troubles) == 1


def test_ipv6_may_come_and_go_again(troubles: Troubles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gone = six(errno.EAFNOSUPPORT, Kind.ADD_ADDRESS)
    troubles.note([SIX], [gone], 0.0)
    troubles.ipv6.did([six(0, kind).operation for kind in (Kind.ADD_SERVICE, Kind.ADD_ADDRESS)])
    troubles.note([SIX], [gone], 1.0)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(",")[0] for text in texts] == [
        "this machine has no IPv6",
        "IPv6 virtual addresses can be served now",
        "this machine has no IPv6",
    ]
