"""Look-ups of one name: rows, cases, families, and the empty row."""

from __future__ import annotations

import pytest

from mesos_dns.api_lookup import address_text, asked_name, hosts, services
from mesos_dns.api_shapes import Host, Service
from mesos_dns.model import Endpoint, Health, Leadership
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import soa, static, task, view_of

LEADER = Leadership(Endpoint("10.0.0.11", 5050), (Endpoint("10.0.0.11", 5050),))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("leader.mesos", "leader.mesos"),
        ("Leader.MESOS.", "leader.mesos"),
        ("lea.*der.mesos.", "leader.mesos"),
        ("É.mesos", "É.mesos"),
        ("..", "."),
        ("", ""),
    ],
)
def test_asked_name(text: str, name: str) -> None:
    assert asked_name(text) == name


def test_address_text() -> None:
    assert address_text(bytes((10, 0, 0, 255))) == "10.0.0.255"
    assert address_text(b"\xfd" + bytes(14) + b"\1") == "fd00::1"


@pytest.mark.parametrize("text", ["leader.mesos", "LEADER.mesos.", "leader.*.mesos."])
def test_host_rows(text: str) -> None:
    assert hosts(view_of(LEADER), text) == [Host("leader.mesos.", "10.0.0.11")]


@pytest.mark.parametrize("text", ["nope.mesos", "mesos", "example.org", ".", "a..mesos", "x" * 64 + ".mesos", "\udc80"])
def test_a_name_without_addresses_gives_one_empty_row(text: str) -> None:
    view = view_of(LEADER)
    assert hosts(view, text) == [Host("", "")]
    assert services(view, text) == [Service("", "", "", "")]


def test_both_families_ipv4_first() -> None:
    view = view_of(Leadership(None, (Endpoint("fd00::5", 5050), Endpoint("10.0.0.5", 5050))))
    assert [row.ip for row in hosts(view, "master.mesos")] == ["10.0.0.5", "fd00::5"]


def test_service_rows() -> None:
    rows = services(view_of(LEADER), "_Leader._TCP.mesos")
    assert rows == [Service("_leader._tcp.mesos.", "leader.mesos.", "10.0.0.11", "5050")]


def test_one_address_of_each_family_is_chosen() -> None:
    records = [
        static("_x._tcp.mesos.", "SRV", bytes((0, 1, 0, 2, 0, 80)) + name_to_wire("Two.mesos"), zone=""),
        static("two.mesos.", "A", b"\x0a\0\0\1", b"\x0a\0\0\2"),
        static("two.mesos.", "AAAA", b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2"),
    ]
    rows = services(view_of(*records), "_x._tcp.mesos", choose=lambda addresses: addresses[-1])
    assert rows == [
        Service("_x._tcp.mesos.", "Two.mesos.", "10.0.0.2", "80"),
        Service("_x._tcp.mesos.", "Two.mesos.", "fd00::2", "80"),
    ]


def test_a_target_without_address_gives_no_row() -> None:
    record = static("_x._tcp.mesos.", "SRV", bytes((0, 1, 0, 2, 0, 80)) + name_to_wire("gone.mesos"))
    assert services(view_of(record), "_x._tcp.mesos") == [Service()]


def test_other_zones_are_looked_up_too() -> None:
    view = view_of(
        LEADER,
        static("example.org.", "SOA", soa(), zone="example.org."),
        static("www.example.org.", "A", b"\x0a\0\0\7", zone="example.org."),
    )
    assert hosts(view, "www.example.org") == [Host("www.example.org.", "10.0.0.7")]
    assert hosts(view, "leader.mesos.thisdcos.directory") == [Host("leader.mesos.thisdcos.directory.", "10.0.0.11")]


def test_unhealthy_tasks_are_left_out_as_in_dns() -> None:
    view = view_of(task(1, host_ports=(31000,)), task(2, host_ports=(31000,), health=Health.UNHEALTHY))
    assert len(services(view, "_web._tcp.marathon.slave.mesos")) == 1
