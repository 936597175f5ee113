"""The records of a VIP's name, and what is told of their changes."""

from __future__ import annotations

import pytest

from lb4.names import Named, VipNames, vip_records
from mesos_dns.model import VipAddress
from mesos_dns.names import AAAA, SRV, A, Record

FOUR, SIX = b"\x0b\0\0\7", b"\xfd\1\0\x0c" + bytes(11) + b"\7"
WEB = VipAddress("web.marathon", "11.0.0.7")
BOTH = VipAddress("web.marathon", "11.0.0.7", "fd01:c::7")


class Heard:
    """What a listener was told, one pair for each change."""

    def __init__(self) -> None:
        self.changes: list[tuple[list[Record], list[Record]]] = []

    def __call__(self, old: list[Record], new: list[Record]) -> None:
        self.changes.append((old, new))

    def take(self) -> list[tuple[set[Record], set[Record]]]:
        found = [(set(old), set(new)) for old, new in self.changes]
        self.changes.clear()
        return found


def test_all_records_of_a_name() -> None:
    assert vip_records("web.marathon", BOTH, [("tcp", 443), ("udp", 80), ("tcp", 80)]) == [
        ("web.marathon", A, FOUR),
        ("web.marathon", AAAA, SIX),
        ("web.marathon", SRV, (80, "web.marathon")),
        ("_80._tcp.web.marathon", SRV, (80, "web.marathon")),
        ("_web._tcp.marathon", SRV, (80, "web.marathon")),
        ("web.marathon", SRV, (443, "web.marathon")),
        ("_443._tcp.web.marathon", SRV, (443, "web.marathon")),
        ("_web._tcp.marathon", SRV, (443, "web.marathon")),
        ("_80._udp.web.marathon", SRV, (80, "web.marathon")),
        ("_web._udp.marathon", SRV, (80, "web.marathon")),
    ]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("api.hello-world.marathon", "_api._tcp.hello-world.marathon"),
        ("web.dev.team.marathon", "_web._tcp.dev.team.marathon"),
        ("web", "_web._tcp"),
    ],
)
def test_the_first_label_is_the_service(name: str, owner: str) -> None:
    owners = [record[0] for record in vip_records(name, WEB, [("tcp", 80)])]
    assert owners == [name, name, f"_80._tcp.{name}", owner]


@pytest.mark.parametrize("address", [None, VipAddress("web.marathon"), VipAddress("web.marathon", "no address", "")])
def test_without_an_address_there_is_no_name(address: VipAddress | None) -> None:
    assert vip_records("web.marathon", address, [("tcp", 80)]) == []


def test_the_zone_itself_is_no_vip() -> None:
    assert vip_records("", WEB, [("tcp", 80)]) == []


def test_a_broken_address_costs_only_itself() -> None:
    assert vip_records("web.marathon", VipAddress("web.marathon", "11.0.0.256", "fd01:c::7"), []) == [
        ("web.marathon", AAAA, SIX)
    ]
    assert vip_records("w", VipAddress("w", "11.0.0.7", "11.0.0.7"), []) == [("w", A, FOUR)]


def test_only_differences_are_told() -> None:
    names, heard = VipNames(), Heard()
    names.listen(heard)
    names.put("web.marathon", WEB, [("tcp", 80)])
    everything = set(vip_records("web.marathon", WEB, [("tcp", 80)]))
    assert heard.take() == [(set(), everything)]
    names.put("web.marathon", WEB, {("tcp", 80)})
    assert heard.take() == []
    names.put("web.marathon", BOTH, [("tcp", 80)])
    assert heard.take() == [(set(), {("web.marathon", AAAA, SIX)})]
    names.put("web.marathon", VipAddress("web.marathon", "11.0.0.8", "fd01:c::7"), [("tcp", 80)])
    assert heard.take() == [({("web.marathon", A, FOUR)}, {("web.marathon", A, b"\x0b\0\0\x08")})]
    names.put("web.marathon", WEB, [])
    names.put("web.marathon", None, [("tcp", 80)])
    assert heard.take()[-1] == ({("web.marathon", A, FOUR)}, set())
    assert (len(names), list(names.records())) == (0, [])


def test_what_goes_and_what_was_never_there() -> None:
    names, heard = VipNames(), Heard()
    names.put("web.marathon", WEB, [("tcp", 80)])
    names.listen(heard)
    names.drop("other.marathon")
    names.put("other.marathon", None, [])
    assert heard.take() == []
    names.drop("web.marathon")
    names.drop("web.marathon")
    assert heard.take() == [(set(vip_records("web.marathon", WEB, [("tcp", 80)])), set())]


def test_many_are_one_change() -> None:
    names, heard = VipNames(), Heard()
    names.put("gone.marathon", VipAddress("gone.marathon", "11.0.0.1"), [])
    names.listen(heard)
    names.change(
        {
            "gone.marathon": None,
            "web.marathon": Named(WEB, [("tcp", 80)]),
            "db.marathon": Named(VipAddress("db.marathon", "11.0.0.2"), []),
        }
    )
    ((old, new),) = heard.take()
    assert old == {("gone.marathon", A, b"\x0b\0\0\1")}
    assert new == {*vip_records("web.marathon", WEB, [("tcp", 80)]), ("db.marathon", A, b"\x0b\0\0\2")}
    assert set(names.records()) == new


def test_who_left_hears_nothing() -> None:
    names, heard, other = VipNames(), Heard(), Heard()
    names.listen(heard)
    names.listen(other)
    names.unlisten(heard)
    names.unlisten(heard)
    names.put("web.marathon", WEB, [])
    assert heard.take() == []
    assert len(other.take()) == 1


def test_a_listener_may_leave_while_it_is_told() -> None:
    names, heard = VipNames(), Heard()

    def leave(old: list[Record], new: list[Record]) -> None:
        names.unlisten(leave)

    names.listen(leave)
    names.listen(heard)
    names.put("web.marathon", WEB, [])
    assert len(heard.take()) == 1
