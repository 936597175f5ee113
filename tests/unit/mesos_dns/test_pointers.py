"""The choice of the name that an address points back to, and who gives candidates."""

from __future__ import annotations

import itertools

import pytest

from mesos_dns.names import AAAA, SRV, A, Record, Rules, TaskPlace, unique_suffix
from mesos_dns.pointers import PointerStore, Rank, pointers_of, task_pointers
from tests.fakes.questions import task

ONE, TWO, SIX = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\xfd" + bytes(14) + b"\1"


def test_the_best_pointer_wins_in_any_order() -> None:
    candidates = [(3, "marathon"), (2, "web-2.marathon"), (2, "web-1.marathon"), (1, "slave"), (0, "master0")]
    for order in itertools.permutations(candidates):
        store = PointerStore()
        for rank, name in order:
            store.add(ONE, rank, name)
        assert store.name(ONE) == "master0"
        left = list(order)
        while left:
            rank, name = left.pop()
            store.remove(ONE, rank, name)
            assert store.name(ONE) == (min(left)[1] if left else None)
        assert len(store) == 0
        assert store.best(ONE) is None


def test_pointers_are_counted_and_reported() -> None:
    touched: list[bytes] = []
    store = PointerStore(touched.append)
    store.add(ONE, 1, "slave")
    store.add(ONE, 1, "slave")
    store.remove(ONE, 1, "slave")
    assert store.name(ONE) == "slave"
    store.remove(ONE, 1, "slave")
    assert store.name(ONE) is None
    assert touched[-1] == ONE


def test_a_virtual_address_comes_last() -> None:
    store = PointerStore()
    store.add(ONE, Rank.VIRTUAL, "a")
    assert store.best(ONE) == (Rank.VIRTUAL, "a")
    for rank in (Rank.FRAMEWORK, Rank.TASK, Rank.NODE, Rank.MASTER):
        store.add(ONE, rank, "b")
        assert store.best(ONE) == (rank, "b")


def test_candidates_are_swapped() -> None:
    touched: list[bytes] = []
    store = PointerStore(touched.append)
    store.swap(Rank.TASK, [], [(ONE, "a"), (TWO, "b")])
    touched.clear()
    store.swap(Rank.TASK, [(ONE, "a")], [(ONE, "a")])
    assert touched == []
    store.swap(Rank.TASK, [(ONE, "a")], [(ONE, "c")])
    assert (store.name(ONE), store.name(TWO)) == ("c", "b")
    assert set(touched) == {ONE}


def test_addresses_alone_give_pointers() -> None:
    records: list[Record] = [
        ("Web.x", A, ONE),
        ("web.x", AAAA, SIX),
        ("_web._tcp.x", SRV, (80, "web.x")),
        ("a" * 64, A, TWO),
    ]
    assert pointers_of(records, 255) == [(ONE, "web.x"), (SIX, "web.x")]
    assert pointers_of(records, 4) == []


@pytest.mark.parametrize(
    ("framework", "at", "found"), [("marathon", (), True), ("", (), False), ("marathon", ("9.0.0.1",), False)]
)
def test_a_task_gives_its_own_addresses(framework: str, at: tuple[str, ...], found: bool) -> None:
    place = TaskPlace(task(), framework, at)
    name = f"web{unique_suffix(place.task)}.marathon"
    assert task_pointers(place, Rules(), 255) == ([(b"\x09\0\0\1", name)] if found else [])
    assert task_pointers(place, Rules(), len(name) + 1) == []
    assert task_pointers(None, Rules(), 255) == []
