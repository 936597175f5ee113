"""Who is told of a zone's names hears of each exactly while it exists."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from mesos_dns.config import DnsConfig
from mesos_dns.zone import ZoneView
from tests.fakes.questions import AGENT, MARATHON, drop, put, soa, static, task


class Heard:
    """A Presence that remembers what it was told."""

    def __init__(self) -> None:
        self.owners: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()

    def enter(self, owner: str) -> None:
        self.owners[owner] += 1

    def leave(self, owner: str) -> None:
        self.owners[owner] -= 1
        assert self.owners[owner] >= 0, owner

    def enter_mark(self, mark: str) -> None:
        self.marks[mark] += 1

    def leave_mark(self, mark: str) -> None:
        self.marks[mark] -= 1
        assert self.marks[mark] >= 0, mark

    def names(self) -> set[str]:
        """The owners that are there, and what is above them."""
        there = {owner for owner, count in self.owners.items() if count}
        return {".".join(owner.split(".")[start:]) for owner in there for start in range(owner.count(".") + 1)} - {""}


def told(**config: Any) -> tuple[ZoneView, dict[str, Heard]]:
    heard: dict[str, Heard] = defaultdict(Heard)
    return ZoneView(DnsConfig(**config), ns_addresses=("127.0.0.1",), presence=heard.__getitem__), heard


def marks(heard: Heard) -> set[str]:
    return {mark for mark, count in heard.marks.items() if count}


def test_owners_come_and_go_with_their_records() -> None:
    view, heard = told()
    assert heard["domain"].names() == {"ns1"}
    view.apply(put(AGENT, MARATHON))
    there = {"ns1", "slave", "_slave._tcp", "_tcp", "marathon", "_framework._tcp.marathon", "_tcp.marathon"}
    assert heard["domain"].names() == there
    view.apply(drop(AGENT.key, MARATHON.key))
    assert heard["domain"].names() == {"ns1"}


def test_an_owner_is_there_until_its_last_record_is_gone() -> None:
    view, heard = told()
    first, second = AGENT, msgspec.structs.replace(AGENT, id="agent-S1", addresses=("10.1.0.2",))
    view.apply(put(first, second))
    assert heard["domain"].owners["slave"] == 1
    view.apply(drop(first.key))
    assert heard["domain"].owners["slave"] == 1
    view.apply(drop(second.key))
    assert heard["domain"].owners["slave"] == 0


def test_tasks_that_look_alike_are_one_group_of_names_and_a_mark_each() -> None:
    view, heard = told()
    view.apply(put(AGENT, MARATHON, task(0), task(1)))
    domain = heard["domain"]
    assert {"web.marathon", "web.marathon.slave", "marathon.slave"} <= domain.names()
    assert len(marks(domain)) == 2
    assert all(mark.startswith("-") and mark.endswith("-s0") for mark in marks(domain))
    assert not marks(heard["directory"])
    assert "web.marathon.agentip" in heard["directory"].names()
    view.apply(drop(task(0).key))
    assert (len(marks(domain)), "web.marathon" in domain.names()) == (1, True)
    view.apply(drop(task(1).key))
    assert (marks(domain), "web.marathon" in domain.names(), "agentip" in heard["directory"].names()) == (
        set(),
        False,
        False,
    )


def test_a_withheld_task_has_no_names() -> None:
    view, heard = told()
    view.apply(put(task()))
    assert (heard["domain"].names(), marks(heard["domain"])) == ({"ns1"}, set())
    view.apply(put(AGENT, MARATHON))
    assert "web.marathon" in heard["domain"].names()
    view.apply(drop(AGENT.key))
    assert "web.marathon" not in heard["domain"].names()
    assert not marks(heard["domain"])


def test_a_canonical_name_with_dots_is_told_with_what_is_above_it() -> None:
    view, heard = told()
    agent = msgspec.structs.replace(AGENT, id="ip-10.ec2.internal")
    view.apply(put(agent, MARATHON, task(node=agent.id)))
    names = heard["domain"].names()
    assert {"ec2.internal.marathon", "internal.marathon", "internal.marathon.slave"} <= names
    assert all(mark.endswith("-10") for mark in marks(heard["domain"]))
    view.apply(drop(task(node=agent.id).key))
    assert not [name for name in heard["domain"].names() if "internal" in name]


def test_zones_of_files_have_names_of_their_own() -> None:
    view, heard = told()
    zone = "example.org."
    sets = [static(zone, "SOA", soa(), zone=zone), static("*.a.example.org.", "A", b"\x0a\0\0\1", zone=zone)]
    view.apply(put(*sets))
    assert heard["static:example.org"].names() == {"*.a", "a"}
    view.apply(put(static("b.mesos.", "A", b"\x0a\0\0\1")))
    assert "b" in heard["domain"].names()
    view.apply(drop(*(each.key for each in sets)))
    assert heard["static:example.org"].names() == set()


def test_what_is_told_is_what_exists() -> None:
    view, heard = told()
    entities = (
        AGENT,
        MARATHON,
        task(0, "a.b"),
        task(1, discovery_name="x.y"),
        static("q.w.mesos.", "A", b"\x0a\0\0\1"),
    )
    view.apply(put(*entities))
    for entity in (None, *entities):
        if entity is not None:
            view.apply(drop(entity.key))
        for zone in view.zones.values():
            names = heard[zone.tag].names()
            assert all(zone.exists(name) for name in names)
            assert set(zone.store.owners()) - {""} <= names
            assert zone.tasks is None or set(zone.tasks.owners()) <= names
