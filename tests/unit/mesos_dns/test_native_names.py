"""The native table's names: which names it says are absent, and that it never denies one that is there."""

from __future__ import annotations

import pytest

from mesos_dns._native import Table
from tests.fakes.native_table import (
    MESOS,
    NEGATIVE_ZONE,
    PLAIN,
    SOA,
    ask,
    key_of,
)


def negative(*names: str) -> Table:
    """A table that knows all names of mesos, these."""
    table = Table(1 << 20, 1, 1)
    assert table.configure(PLAIN, [], [(MESOS, SOA, 77, NEGATIVE_ZONE, 1)])
    for name in names:
        table.enter(77, name)
    return table


def absent(table: Table, name: str) -> bool:
    """Whether the table says NXDOMAIN by itself."""
    reply = ask(table, key_of(f"{name}.mesos"))
    if reply is not None:
        assert reply == b"\xab\xcd\x85\3\0\1\0\0\0\1\0\0" + key_of(f"{name}.mesos") + SOA
    return reply is not None


def test_names_that_were_not_entered_are_absent() -> None:
    table = negative("a.b.c", "d")
    assert not [name for name in ("c", "b.c", "a.b.c", "d", "A.b.C") if absent(table, name)]
    others = ("a", "b", "a.c", "x.b.c", "x.a.b.c", "x.c", "x.d", "c.d", "a.b", "aa.b.c", "-", "x-y-z")
    assert [name for name in others if absent(table, name)] == list(others)
    assert ask(table, key_of("mesos")) is None


def test_a_name_is_there_as_often_as_it_was_entered() -> None:
    table = negative("a.b", "a.b", "c.b")
    assert table.figures()["names"] == 3
    table.leave(77, "a.b")
    assert not absent(table, "a.b")
    table.leave(77, "a.b")
    assert absent(table, "a.b")
    assert not absent(table, "b")
    table.leave(77, "c.b")
    assert absent(table, "b")
    assert table.figures()["names"] == 0
    table.leave(77, "a.b")  # one too many does no harm
    table.enter(77, "a.b")
    assert not absent(table, "a.b")


@pytest.mark.parametrize("owner", ["", ".", "a..b", ".a", "a.", "x" * 64, ".".join(["x" * 63] * 4), "é" * 32])
def test_an_owner_that_cannot_stand_on_the_wire_is_no_name(owner: str) -> None:
    table = negative()
    assert not table.enter(77, owner)
    table.leave(77, owner)
    assert table.figures()["names"] == 0


def test_names_below_another_apex_are_other_names() -> None:
    table = negative()
    table.enter(78, "web")
    assert absent(table, "web")


@pytest.mark.parametrize("text", ["été", "a\\", "a b", "\udc80", "a\udc2eb", "\udce9t", "é\udc2e"])
def test_a_name_is_known_by_the_octets_that_it_is_asked_with(text: str) -> None:
    # In an owner, "\udc2e" is a dot inside a label and "\udc80" to "\udcff" are octets that are no UTF-8 (wire.py).
    label = text.replace("\udc2e", ".").encode("utf-8", "surrogateescape")
    key = bytes((len(label),)) + label + MESOS + b"\0\1\0\1"
    table = negative()
    assert ask(table, key) is not None
    table.enter(77, text)
    assert ask(table, key) is None
    table.leave(77, text)
    assert ask(table, key) is not None
    assert table.figures()["names"] == 0


def test_what_is_above_a_label_that_no_question_has_exists() -> None:
    table = negative("web.\ud800.marathon")
    assert not absent(table, "marathon")
    assert absent(table, "web.marathon")
    table.leave(77, "web.\ud800.marathon")
    assert absent(table, "marathon")


def test_many_names_come_and_go() -> None:
    table = negative()
    names = [f"task-{number}.framework-{number % 7}" for number in range(3000)]
    for name in names:
        assert table.enter(77, name)
    assert table.figures()["names"] == 3007
    assert not [name for name in names if absent(table, name)]
    for name in names[::2]:
        table.leave(77, name)
    assert [name for name in names if absent(table, name)] == names[::2]
    for name in names[1::2]:
        table.leave(77, name)
    assert table.figures()["names"] == 0
    assert all(absent(table, name) for name in names)


def test_with_more_names_than_there_is_room_for_absence_is_pythons_to_tell() -> None:
    table = Table(1 << 16, 1, 1)
    assert table.configure(PLAIN, [], [(MESOS, SOA, 77, NEGATIVE_ZONE, 1)])
    assert absent(table, "x")
    entered = [table.enter(77, f"name-{number}") for number in range(10_000)]
    assert not all(entered)
    assert not absent(table, "x")
    for number in range(10_000):
        table.leave(77, f"name-{number}")
    assert not absent(table, "x")  # what was not counted can't be counted off
