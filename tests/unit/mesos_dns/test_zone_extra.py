"""Records of virtual addresses in the zone view: what they give, touch and never take over."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mesos_dns.config import DnsConfig
from mesos_dns.model import Framework
from mesos_dns.names import AAAA, SRV, A, Rdata, Record
from mesos_dns.presence import Presence
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from mesos_dns.zone_extra import ExtraRecords
from tests.fakes.extra_records import Extra
from tests.fakes.questions import put, static

L4LB = "l4lb.thisdcos.directory"
FOUR, OTHER, SIX = b"\x0b\0\0\7", b"\x0b\0\0\x08", b"\xfd\1\0\x0c" + bytes(11) + b"\7"
WEB: list[Record] = [("web.marathon", A, FOUR), ("_80._tcp.web.marathon", SRV, (80, "web.marathon"))]
KEY = "yb3kh1ngz9zfpdzc4z5eyx6rkw9p6hbqpc9ehx4hxo3ypo6x1cty"


def view_over(extra: Extra, **options: Any) -> ZoneView:
    view = ZoneView(DnsConfig(), extra=extra, **options)
    assert not view.fill_extra()
    return view


def rrset(view: ZoneView, name: str, rtype: int = A) -> list[Rdata]:
    wire = name_to_wire(name)
    zone = view.find(wire)
    assert zone is not None
    return zone.rrset(view.relative(wire, zone), rtype)


def test_a_new_view_has_all_and_follows() -> None:
    extra = Extra(*WEB)
    view = view_over(extra, cluster_key=KEY)
    parents = ("thisdcos.directory", "thisdcos.global", f"{KEY}.dcos.directory")
    origins = [f"{label}.{parent}" for label in ("l4lb", "dclb") for parent in parents]
    assert [rrset(view, f"web.marathon.{origin}") for origin in origins] == [[FOUR]] * 6
    assert rrset(view, f"_80._tcp.web.marathon.{L4LB}", SRV) == [(80, "web.marathon")]
    extra.swap([("web.marathon", A, FOUR)], [("web.marathon", A, OTHER), ("web.marathon", AAAA, SIX)])
    for origin in origins:
        assert (rrset(view, f"web.marathon.{origin}"), rrset(view, f"web.marathon.{origin}", AAAA)) == ([OTHER], [SIX])
    extra.swap(extra.now, [])
    assert len(view.zones[name_to_wire(L4LB)].store) == 0
    assert len(view.pointers) == 0


def test_it_is_filled_by_and_by() -> None:
    records: list[Record] = [(f"a{number}", A, bytes((11, 0, 0, number))) for number in range(10)]
    extra = Extra(*records)
    view = ZoneView(DnsConfig(), extra=extra)
    store = view.zones[name_to_wire(L4LB)].store
    assert len(store) == 0
    assert view.fill_extra(4)
    # One that is there, one that is still to come, and one that is replaced before it came.
    extra.swap([records[0], records[9]], [])
    extra.swap([records[8]], [("a8", A, OTHER)])
    assert sorted(store.owners()) == ["a1", "a2", "a3", "a8"]
    assert not view.fill_extra()
    assert sorted(store.owners()) == [f"a{number}" for number in range(1, 9)]
    assert store.rrset("a8", A) == [OTHER]
    assert not view.fill_extra()
    extra.swap(extra.now, [])
    assert len(store) == len(view.pointers) == 0


def test_exactly_what_changes_is_touched() -> None:
    extra = Extra(*WEB, ("db.marathon", A, b"\x0b\0\0\1"))
    view = view_over(extra)
    touched: set[tuple[str, str]] = set()
    told: list[int] = []
    view.tell(lambda tag, owner: touched.add((tag, owner)), lambda: told.append(view.serial))
    before = view.serial
    extra.swap([("web.marathon", A, FOUR)], [("web.marathon", A, OTHER)])
    assert touched == {("l4lb", "web.marathon"), ("reverse", FOUR.hex()), ("reverse", OTHER.hex())}
    assert told == [view.serial]
    assert view.serial > before
    touched.clear()
    extra.swap([], [])
    assert (touched, len(told)) == (set(), 1)


def test_a_view_that_left_hears_nothing() -> None:
    extra = Extra(*WEB)
    old, new = view_over(extra), view_over(extra)
    old.leave_extra()
    old.leave_extra()
    serial = old.serial
    extra.swap([("web.marathon", A, FOUR)], [("web.marathon", A, OTHER)])
    assert (rrset(old, f"web.marathon.{L4LB}"), old.serial) == ([FOUR], serial)
    assert rrset(new, f"web.marathon.{L4LB}") == [OTHER]
    assert len(extra.listeners) == 1
    assert not old.fill_extra()


def test_without_the_directory_nothing_is_heard() -> None:
    extra = Extra(*WEB)
    view = ZoneView(DnsConfig(directory=""), extra=extra)
    assert not view.fill_extra()
    view.leave_extra()
    assert extra.listeners == []
    assert not ZoneView(DnsConfig()).fill_extra()


def test_the_presence_of_names_is_told() -> None:
    present: set[str] = set()

    class Hears:
        def enter(self, owner: str) -> None:
            present.add(owner)

        def leave(self, owner: str) -> None:
            present.remove(owner)

        def enter_mark(self, mark: str) -> None:
            raise AssertionError

        leave_mark = enter_mark

    def presence(tag: str) -> Presence | None:
        return Hears() if tag == "l4lb" else None

    extra = Extra(*WEB)
    view_over(extra, presence=presence)
    assert present == {"web.marathon", "_80._tcp.web.marathon"}
    extra.swap([WEB[1]], [])
    assert present == {"web.marathon"}


@pytest.mark.parametrize("owner", ["", "*", "*.marathon", "_80._tcp.*.marathon", "a..b", ".a", "x" * 64])
def test_names_that_can_not_be(owner: str, caplog: pytest.LogCaptureFixture) -> None:
    extra = Extra(*WEB)
    view = view_over(extra)
    record: Record = (owner, A, OTHER)
    service: Record = ("_80._tcp.marathon", SRV, (80, owner))
    with caplog.at_level(logging.WARNING):
        extra.swap([], [record])
        extra.swap([record], [])
        extra.swap([], [record, service, ("other.marathon", A, OTHER)])
    assert view.refused == 3
    assert len(caplog.records) == 2
    zone = view.zones[name_to_wire(L4LB)]
    assert set(zone.store.owners()) == {"web.marathon", "_80._tcp.web.marathon", "other.marathon"}
    assert not zone.rrset("", A)
    assert view.pointed(OTHER) == (zone, "other.marathon")


def test_where_an_address_points() -> None:
    extra = Extra(("Web.marathon", A, FOUR), ("web.marathon", AAAA, SIX), ("a.marathon", A, OTHER))
    view = view_over(extra)
    zone = view.zones[name_to_wire(L4LB)]
    assert view.pointed(FOUR) == view.pointed(SIX) == (zone, "web.marathon")
    assert view.pointed(b"\x0b\0\0\x09") is None
    # Whatever else has the address is the better name.
    view.apply(put(Framework("f-1", "chronos", addresses=("11.0.0.8",), port=1)))
    assert view.pointed(OTHER) == (view.domain, "chronos")


def test_records_of_files_stay_beside_them() -> None:
    extra = Extra(*WEB)
    view = view_over(extra)
    view.apply(put(static(f"web.marathon.{L4LB}.", "A", FOUR)))
    extra.swap([WEB[0]], [])
    assert rrset(view, f"web.marathon.{L4LB}") == [FOUR]


def test_a_fault_costs_only_its_change(caplog: pytest.LogCaptureFixture) -> None:
    extra = Extra(*WEB)
    view = view_over(extra)
    extra.swap([("never.there", A, FOUR)], [])
    assert "could not take a change in" in caplog.text
    extra.swap([], [("other.marathon", A, OTHER)])
    assert rrset(view, f"other.marathon.{L4LB}") == [OTHER]


def test_the_rest_is_dropped_by_who_leaves() -> None:
    came: list[Record] = []
    extra = Extra(*WEB)
    records = ExtraRecords(extra, lambda old, new: came.extend(new), lambda owner, why: None)
    assert records.fill(1)
    records.leave()
    assert not records.fill(1)
    assert came == WEB[:1]
