"""The counted store and its empty non-terminals."""

from __future__ import annotations

import itertools

import pytest

from mesos_dns.names import AAAA, SRV, A
from mesos_dns.records import RecordStore, fold, legal_owner, room_below

ONE, TWO = b"\x0a\0\0\1", b"\x0a\0\0\2"


@pytest.mark.parametrize(
    ("owner", "room", "legal"),
    [
        ("", 2, True),
        ("web", 5, True),
        ("web", 4, False),
        ("web.marathon", 255, True),
        ("a..b", 255, False),
        (".a", 255, False),
        ("a.", 255, False),
        ("a" * 63, 65, True),
        ("a" * 63, 64, False),
        ("a" * 64, 255, False),
        ("a" * 40 + "." + "b" * 64, 255, False),
        (".".join(["a" * 63] * 3), 255, True),
        ("é" * 31, 64, True),
        ("é" * 31, 63, False),
        ("é" * 32, 255, False),
    ],
)
def test_legal_owner(owner: str, room: int, legal: bool) -> None:
    assert legal_owner(owner, room) is legal


def test_room_below_an_origin() -> None:
    room = room_below("mesos")
    assert legal_owner(".".join(["a" * 63] * 3 + ["b" * (room - 3 * 64 - 2)]), room)
    assert not legal_owner(".".join(["a" * 63] * 3 + ["b" * (room - 3 * 64 - 1)]), room)
    assert room_below("") == 255


def test_fold_lowers_ascii_only() -> None:
    assert fold("Web.MESOS") == "web.mesos"
    assert fold("ÉWeb") == "Éweb"


def test_records_are_counted() -> None:
    store = RecordStore()
    assert store.add("Slave", A, ONE)
    assert store.add("slave", A, ONE)
    store.remove("slave", A, ONE)
    assert store.rrset("slave", A) == [ONE]
    store.remove("SLAVE", A, ONE)
    assert store.rrset("slave", A) == []
    assert len(store) == 0


def test_several_records_at_one_owner() -> None:
    store = RecordStore()
    for rtype, rdata in ((A, ONE), (A, TWO), (AAAA, bytes(16)), (SRV, (80, "web"))):
        store.add("web", rtype, rdata)
    assert store.types("web") == [A, AAAA, SRV]
    assert store.rrset("web", A) == [ONE, TWO]
    store.add("web", A, TWO)
    for rtype, rdata in ((A, TWO), (A, ONE), (AAAA, bytes(16)), (SRV, (80, "web"))):
        store.remove("web", rtype, rdata)
    assert store.rrset("web", A) == [TWO]
    assert store.types("web") == [A]
    assert list(store.owners()) == ["web"]


def test_what_cannot_stand_on_the_wire_is_refused() -> None:
    store = RecordStore(room=20)
    assert not store.add("a" * 19, A, ONE)
    assert not store.add("web", SRV, (80, "b" * 19))
    store.remove("a" * 19, A, ONE)
    store.remove("web", SRV, (80, "b" * 19))
    assert len(store) == 0


def test_every_change_is_reported() -> None:
    touched: list[str] = []
    store = RecordStore(255, touched.append)
    store.add("Web", A, ONE)
    store.remove("Web", A, ONE)
    assert touched == ["web", "web"]


def test_empty_non_terminals() -> None:
    store = RecordStore()
    owners = ["a.b.c", "x.b.c", "b.c", "c", "p.q.r"]
    for order in itertools.permutations(owners):
        for owner in order:
            store.add(owner, A, ONE)
        for gone, owner in enumerate(order):
            left = order[gone:]
            expected = {".".join(name.split(".")[n:]) for name in left for n in range(3)} - {""}
            assert {
                name for name in ("a.b.c", "x.b.c", "b.c", "c", "p.q.r", "q.r", "r", "z") if store.exists(name)
            } == (expected)
            store.remove(owner, A, ONE)
    assert not store.exists("c")


def test_a_copy_stays_as_it_was() -> None:
    touched: list[str] = []
    store = RecordStore(touch=touched.append)
    for owner, data in (("one", ONE), ("two", ONE), ("two", TWO), ("a.b", ONE)):
        store.add(owner, A, data)
    other = store.copy()
    touched.clear()
    store.remove("two", A, ONE)
    store.remove("one", A, ONE)
    store.add("new", A, ONE)
    assert list(other.owners()) == ["one", "two", "a.b"]
    assert other.rrset("two", A) == [ONE, TWO]
    assert other.exists("b")
    other.add("more", A, ONE)
    assert touched == ["two", "one", "new"]
    assert not store.exists("more")
