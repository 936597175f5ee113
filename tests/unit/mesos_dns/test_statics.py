"""Records from files: the zone each belongs to, and zones that exist only for them."""

from __future__ import annotations

import itertools

import pytest

from mesos_dns.names import AAAA, SOA, A
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import EVERYTHING, ZoneView
from tests.fakes.questions import drop, put, soa, static, task, view_of

ONE, TWO = b"\x0a\0\0\1", b"\x0a\0\0\2"


def where(view: ZoneView, name: str) -> tuple[str, list[object]]:
    """The origin of the zone that has a name, and its A records."""
    zone = view.find(name_to_wire(name))
    assert zone is not None
    return zone.origin, list(zone.rrset(view.relative(name_to_wire(name), zone), A))


def test_a_record_in_the_domain_with_its_own_ttl() -> None:
    view = view_of(static("db.mesos.", "A", ONE, TWO, ttl=7))
    assert where(view, "db.mesos") == ("mesos", [ONE, TWO])
    assert view.domain.ttl_of("db", A) == 7
    assert view.domain.ttl_of("db", AAAA) == 60
    view.apply(put(static("db.mesos.", "A", TWO, ttl=8)))
    assert where(view, "db.mesos") == ("mesos", [TWO])
    assert view.domain.ttl_of("db", A) == 8
    view.apply(drop(static("db.mesos.", "A").key))
    assert not view.domain.exists("db")
    assert view.domain.ttl_of("db", A) == 60


def test_a_record_beside_tasks() -> None:
    view = view_of(task(), static("web.marathon.mesos.", "A", ONE))
    assert where(view, "web.marathon.mesos")[1] == [ONE, b"\x09\0\0\1"]


def test_a_plain_zone_opens_and_closes() -> None:
    view = view_of()
    touched: list[tuple[str, str]] = []
    view.touch = lambda tag, owner: touched.append((tag, owner))
    zone = "example.org."
    view.apply(put(static("example.org.", "SOA", soa(), zone=zone), static("www.example.org.", "A", ONE, zone=zone)))
    assert (EVERYTHING, "") in touched
    assert where(view, "www.example.org") == ("example.org", [ONE])
    found = view.find(name_to_wire("example.org"))
    assert found is not None
    assert found.plain
    assert found.soa(99) == soa()
    view.apply(drop(static("example.org.", "SOA").key))
    assert view.find(name_to_wire("www.example.org")) is found
    touched.clear()
    view.apply(drop(static("www.example.org.", "A").key))
    assert (EVERYTHING, "") in touched
    assert view.find(name_to_wire("www.example.org")) is None


def test_a_change_within_a_plain_zone_leaves_other_answers_alone() -> None:
    view = view_of(static("example.org.", "SOA", soa(), zone="example.org."))
    touched: list[tuple[str, str]] = []
    view.touch = lambda tag, owner: touched.append((tag, owner))
    view.apply(put(static("example.org.", "SOA", soa(serial=8), zone="example.org.")))
    assert set(touched) == {("static:example.org", "")}


def test_records_move_when_zones_come_and_go() -> None:
    # A record without a zone used to be taken out of whatever zone was the closest then.
    loose = static("www.sub.mesos.", "A", ONE)
    apex = static("sub.mesos.", "SOA", soa(), zone="sub.mesos.")
    outside = static("www.example.org.", "A", ONE)
    org = static("example.org.", "SOA", soa(), zone="example.org.")
    for order in itertools.permutations((loose, apex, outside, org)):
        view = view_of(*order)
        assert where(view, "www.sub.mesos") == ("sub.mesos", [ONE])
        assert where(view, "www.example.org") == ("example.org", [ONE])
        view.apply(drop(apex.key, org.key))
        assert where(view, "www.sub.mesos") == ("mesos", [ONE])
        assert view.find(name_to_wire("www.example.org")) is None
        view.apply(put(apex))
        assert where(view, "www.sub.mesos") == ("sub.mesos", [ONE])
        assert not view.domain.store.exists("www.sub")
        view.apply(drop(loose.key, outside.key))
        assert where(view, "www.sub.mesos") == ("sub.mesos", [])


def test_a_file_for_one_of_our_zones_adds_to_it() -> None:
    view = view_of(static("mesos.", "SOA", soa(), zone="mesos."), static("x.mesos.", "A", ONE, zone="mesos."))
    assert where(view, "x.mesos") == ("mesos", [ONE])
    assert not view.domain.plain
    assert view.domain.soa(view.serial) != soa()
    assert view.domain.types("").count(SOA) == 1
    view.apply(drop(static("mesos.", "SOA").key, static("x.mesos.", "A").key))
    assert view.find(name_to_wire("mesos")) is view.domain


@pytest.mark.parametrize(
    "records",
    [
        static("www.example.org.", "A", ONE),
        static("www.example.net.", "A", ONE, zone="example.org."),
        static("badexample.org.", "A", ONE, zone="example.org."),
        static("a" * 64 + ".mesos.", "A", ONE),
    ],
    ids=["no zone", "outside its zone", "no part of its zone", "illegal"],
)
def test_records_that_cannot_be_served(records: object) -> None:
    view = view_of(records)  # type: ignore[arg-type]  # static records
    assert view.refused == 1
    assert view.find(name_to_wire("www.example.net")) is None
    view.apply(drop(records.key))  # type: ignore[attr-defined]


def test_a_record_that_changes_its_zone() -> None:
    view = view_of(static("www.example.org.", "A", ONE, zone="example.org."))
    view.apply(put(static("www.example.org.", "A", TWO, zone="org.")))
    assert where(view, "www.example.org") == ("org", [TWO])
    assert [zone.origin for zone in view.zones.values() if zone.plain] == ["org"]
