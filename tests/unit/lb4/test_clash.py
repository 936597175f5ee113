"""lb4.clash: backends of more than one service."""

from __future__ import annotations

import logging

import pytest

from lb4 import clash
from lb4.clash import Clashes, Endpoint
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings

WEB = ServiceKey("tcp", "11.0.0.1", 80)
API = ServiceKey("tcp", "11.0.0.2", 80)
UDP = ServiceKey("udp", "11.0.0.1", 80)
OTHER = ServiceKey("tcp", "11.0.0.3", 80)
END = Endpoint("tcp", "10.0.0.1", 8080)


def service(*hosts: int) -> Service:
    return Service(Settings(), {BackendKey(f"10.0.0.{host}", 8080): Destination() for host in hosts})


@pytest.fixture
def clashes(caplog: pytest.LogCaptureFixture) -> Clashes:
    caplog.set_level(logging.WARNING)
    return Clashes()


def test_two_services_with_one_backend(clashes: Clashes) -> None:
    clashes.keep(API, service(1, 2))
    clashes.keep(WEB, service(1, 3))
    clashes.keep(UDP, service(1))
    assert clashes.clashes == {END: [WEB, API]}
    assert len(clashes) == 1
    assert clashes.others(WEB) == {API}
    assert clashes.others(UDP) == set()
    assert clashes.others(OTHER) == set()


def test_it_follows_changes(clashes: Clashes) -> None:
    clashes.keep(WEB, service(1))
    clashes.keep(API, service(1))
    clashes.keep(OTHER, service(1))
    assert clashes.clashes == {END: [WEB, API, OTHER]}
    clashes.keep(API, service(2))
    assert clashes.clashes == {END: [WEB, OTHER]}
    clashes.drop(WEB)
    clashes.drop(WEB)
    assert clashes.clashes == {}
    clashes.keep(API, service(1, 2))
    assert clashes.clashes == {END: [API, OTHER]}
    clashes.drop(OTHER)
    clashes.drop(API)
    assert len(clashes) == 0


def test_two_services_are_told_once(clashes: Clashes, caplog: pytest.LogCaptureFixture) -> None:
    clashes.keep(WEB, service(1))
    clashes.keep(API, service(1))
    clashes.say()
    assert [record.getMessage().partition("protocol=")[2] for record in caplog.records] == [
        "tcp backend=10.0.0.1 port=8080 services=11.0.0.1:80,11.0.0.2:80"
    ]
    clashes.keep(WEB, service(1, 2))
    clashes.keep(API, service(1, 2))
    clashes.drop(API)
    clashes.keep(API, service(1))
    clashes.say()
    assert len(caplog.records) == 1


def test_of_several_backends_one_that_still_clashes_is_told(clashes: Clashes, caplog: pytest.LogCaptureFixture) -> None:
    for gone, stays in ((1, 2), (2, 1)):
        caplog.clear()
        fresh = Clashes()
        for key in (WEB, API):
            fresh.keep(key, service(gone))
            fresh.keep(key, service(1, 2))
        fresh.keep(API, service(stays))
        fresh.say()
        assert [f"backend=10.0.0.{stays} " in record.getMessage() for record in caplog.records] == [True]


def test_a_clash_that_ended_before_it_was_told(clashes: Clashes, caplog: pytest.LogCaptureFixture) -> None:
    clashes.keep(WEB, service(1))
    clashes.keep(API, service(1))
    clashes.drop(API)
    clashes.say()
    assert not caplog.records


def test_many_are_told_in_few_lines(clashes: Clashes, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        clashes.keep(ServiceKey("tcp", "11.0.1.1", number), service(number))
        clashes.keep(ServiceKey("tcp", "11.0.1.2", number), service(number))
    clashes.say()
    assert len(caplog.records) == clash.LINES + 1
    assert "more=90" in caplog.records[-1].getMessage()


def test_what_was_told_is_bounded(clashes: Clashes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clash, "REMEMBERED", 3)
    for number in range(10):
        clashes.keep(ServiceKey("tcp", "11.0.1.1", number), service(number))
        clashes.keep(ServiceKey("tcp", "11.0.1.2", number), service(number))
        clashes.say()
    assert len(clashes._told) <= 4
