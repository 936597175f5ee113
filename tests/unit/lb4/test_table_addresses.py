"""VIPs of addresses that labels name themselves: reserved, and withheld where the address is another's."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from lb4.record import VipRecord
from lb4.vip import VipKey
from mesos_dns.catalog import Delta
from mesos_dns.model import Endpoint, Ensemble, Entity, Leadership, Network, Node, Vip, VipAddress
from tests.fakes.vip_tables import NotingTable as Table
from tests.fakes.vip_tables import X, up
from tests.fakes.vip_tables import vip_task as task

SECOND = Node("agent-S1", "agent1", ("10.1.0.2", "fd00::2"), 5051)
FIXED = VipKey("tcp", "11.1.2.3", 80)


def test_a_vip_of_an_address_takes_its_family() -> None:
    dual = (Network("", ("172.19.0.2", "fd01:b::2")),)
    table = Table(task(0, "11.1.2.3:80", "[fd01:c::5]:80", "/x:80", networks=dual))
    assert [place[0] for place in table.told(FIXED)] == ["172.19.0.2"]
    assert [place[0] for place in table.told(VipKey("tcp", "fd01:c::5", 80))] == ["fd01:b::2"]
    assert [place[0] for place in table.told()] == ["172.19.0.2", "fd01:b::2"]
    assert set(table.fixed_addresses) == {"11.1.2.3", "fd01:c::5"}
    table.drop(task(0))
    assert not table.fixed_addresses


def test_configured_addresses_are_reserved_without_a_backend() -> None:
    vip = Vip("11.1.2.3", 80)
    table = Table(vip)
    assert set(table.fixed_addresses) == {"11.1.2.3"}
    assert len(table) == 0
    table.drop(vip)
    assert not table.fixed_addresses


def test_a_vip_with_a_nodes_own_address_is_withheld(caplog: pytest.LogCaptureFixture) -> None:
    own = VipKey("tcp", "10.1.0.2", 80)
    table = Table(task(0, "10.1.0.2:80"))
    assert table.told(own) == [up(0)]
    table.put(SECOND)
    assert table.get(own) is None
    assert table.hears(own)
    assert dict(table.withheld) == {own: "the address of a node"}
    assert table.bad_labels == {"node-address": 1}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "10.1.0.2:80/tcp" in caplog.text
    assert set(table.fixed_addresses) == {"10.1.0.2"}, "nor is it to be allocated"
    table.put(task(1, "10.1.0.2:80"))
    assert table.hears()
    assert table.bad_labels == {"node-address": 1}, "a change of it is no other one"
    table.protect(["10.1.0.2"])
    table.drop(SECOND)
    assert dict(table.withheld) == {own: "an address of this machine"}
    table.put(SECOND)
    table.protect(())
    assert dict(table.withheld) == {own: "the address of a node"}
    assert table.hears()
    assert len(caplog.records) == 2
    table.drop(SECOND)
    assert table.told(own) == [up(0), up(1)]
    assert not table.withheld
    assert table.hears(own)
    table.put(SECOND)
    table.drop(task(0), task(1))
    assert not table.withheld
    assert len(caplog.records) == 2, "each logged once"


def test_addresses_of_any_family_of_a_node_are_its_own() -> None:
    own = VipKey("tcp", "fd00::2", 80)
    table = Table(SECOND, task(0, "[fd00::2]:80", networks=(Network("", ("fd01::1",)),)))
    assert list(table.withheld) == [own]


def test_masters_zookeepers_and_protected_addresses_are_withheld(caplog: pytest.LogCaptureFixture) -> None:
    numbers = range(1, 6)
    asking = [task(number, f"10.7.0.{number}:5050") for number in numbers]
    vips = [VipKey("tcp", f"10.7.0.{number}", 5050) for number in numbers]
    table = Table(*asking, task(0))
    masters = Leadership(Endpoint("10.7.0.1", 5050), (Endpoint("10.7.0.1", 5050), Endpoint("10.7.0.2", 5050)))
    table.put(masters, Ensemble((("10.7.0.3",), ())))
    assert table.hears(*vips[:3])
    table.protect(["10.7.0.4", "::ffff:10.7.0.5", "nonsense"])
    assert table.hears(*vips[3:])
    kinds = ["a master", "a master", "a ZooKeeper server"]
    reasons = [f"the address of {kind}" for kind in kinds] + ["an address of this machine"] * 2
    assert dict(table.withheld) == dict(zip(vips, reasons, strict=True))
    assert table.bad_labels == {"master-address": 2, "zookeeper-address": 1, "own-address": 2}
    assert len(caplog.records) == 5
    table.protect(["10.7.0.5"])
    assert table.hears(vips[3])
    table.put(Leadership(None, masters.masters[:1]))
    assert table.hears(vips[1])
    table.drop(masters, Ensemble())
    assert table.hears(vips[0], vips[2])
    assert list(table.withheld) == vips[4:]
    table.protect(())
    table.protect(["10.7.0.4"])
    assert list(table.withheld) == [vips[3]]
    assert len(caplog.records) == 5, "each logged once"


def test_protecting_touches_only_the_vips_of_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(task(0), task(1, "10.7.0.1:80"), task(2, "10.7.0.2:80"))
    made = _made(monkeypatch)
    table.protect(["10.7.0.1", "10.9.9.9"])
    table.protect(["10.7.0.1", "10.8.8.8"])
    assert made == [VipKey("tcp", "10.7.0.1", 80)]


def _made(monkeypatch: pytest.MonkeyPatch) -> list[VipKey]:
    """The VIPs that are made anew from now on."""
    found: list[VipKey] = []
    make = VipRecord.made

    def notes(self: VipRecord, *args: Any) -> Any:
        found.append(self.key)
        return make(self, *args)

    monkeypatch.setattr(VipRecord, "made", notes)
    return found


# --- addresses that were allocated to names ---------------------------------------------------------

GIVEN = VipAddress("x.marathon", "11.1.2.3", "fd01:c::5")
GIVEN6 = VipKey("tcp", "fd01:c::5", 80)
OTHER_PORT = VipKey("tcp", "11.1.2.3", 666)


def test_an_address_that_a_name_in_use_was_given_is_withheld(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the port: a label with a number must not take another's address over."""
    dual = (Network("", ("172.19.0.2", "fd01:b::2")),)
    table = Table(GIVEN, task(0))
    table.put(task(1, "11.1.2.3:80", "11.1.2.3:666", "[fd01:c::5]:80", networks=dual))
    assert table.hears()
    assert dict(table.withheld) == dict.fromkeys((FIXED, OTHER_PORT, GIVEN6), "the address of x.marathon")
    assert table.bad_labels == {"allocated-address": 3}
    assert table.told() == [up(0)]
    table.put(VipAddress("x.marathon", "11.1.2.3", "fd01:c::6"))
    assert table.hears(X, GIVEN6)
    table.drop(task(0))
    assert table.hears(X, FIXED, OTHER_PORT), "it comes back when the name goes"
    assert not table.withheld
    table.put(task(0))
    assert table.hears(X, FIXED, OTHER_PORT)
    assert table.get(FIXED) is None
    table.drop(GIVEN)
    assert table.hears(X, FIXED, OTHER_PORT)
    assert table.told(FIXED)[0][:2] == ("172.19.0.2", 8080)
    assert len(caplog.records) == 3, "each logged once"


def test_whatever_comes_first_an_allocated_address_is_withheld() -> None:
    parts: list[Entity] = [GIVEN, task(0), task(1, "11.1.2.3:80")]
    for order in (parts, parts[::-1], parts[1:] + parts[:1]):
        whole, single = Table(*order), Table()
        for entity in order:
            single.put(entity)
        for table in (whole, single):
            assert list(table.withheld) == [FIXED]
            assert list(table.keys()) == [X]
        whole.apply(Delta(1, {task(0).key: (None, None), task(1).key: (None, task(1, "11.1.2.3:666"))}))
        assert list(whole.keys()) == [OTHER_PORT]
        assert whole.bad_labels == {"allocated-address": 1}, "the name went in the same delta"


def test_an_address_of_a_name_out_of_use_is_free_and_that_of_a_configured_one_is_not() -> None:
    table = Table(VipAddress("db.prod", "11.1.2.3"), task(1, "11.1.2.3:80"))
    assert table.told(FIXED) == [up(1)]
    table.put(Vip("db.prod", 5432))
    assert dict(table.withheld) == {FIXED: "the address of db.prod"}
    table.put(VipAddress("db.prod", "11.1.2.4", cluster="a-cluster"))
    assert table.told(FIXED) == [up(1)], "the first cluster's counts"
    table.drop(VipAddress("db.prod", cluster="a-cluster"))
    assert list(table.withheld) == [FIXED]
    table.drop(Vip("db.prod", 5432))
    assert table.told(FIXED) == [up(1)]


def test_of_two_names_with_one_address_either_withholds_it() -> None:
    table = Table(GIVEN, VipAddress("y.marathon", "11.1.2.3"), task(0), task(2, "/y:80"), task(1, "11.1.2.3:80"))
    assert dict(table.withheld) == {FIXED: "the address of x.marathon"}
    table.drop(task(0))
    assert list(table.withheld) == [FIXED]
    table.drop(task(2))
    assert not table.withheld


def test_a_change_of_a_name_touches_only_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(GIVEN, task(0), task(1, "11.1.2.3:80"), task(2, "11.1.2.4:80"), task(3, "/y:80"))
    made = _made(monkeypatch)
    table.put(task(0, port=1))
    assert made == [X], "it stays in use"
    table.drop(task(0))
    assert made == [X, X, FIXED]
