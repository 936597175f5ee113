"""The native table with less memory than there are questions: what stays, what goes, and that it never stalls."""

from __future__ import annotations

from mesos_dns._native import Table
from mesos_dns.answer import Answer
from tests.fakes.fast_answers import cluster
from tests.fakes.fast_packets import question
from tests.fakes.native_table import MESOS, NEGATIVE_ZONE, PLAIN, SOA, answer, ask, key_of, table_of
from tests.fakes.questions import drop, put, task

SIZE = 1 << 18


def put_many(table: Table, count: int, prefix: str = "") -> int:
    """How many of so many small answers found room."""
    return sum(table.put(key_of(f"{prefix}{n}.mesos"), answer(n), [n], 0, 1, 0) for n in range(count))


def held(table: Table, names: list[str]) -> list[str]:
    return [name for name in names if ask(table, key_of(f"{name}.mesos")) is not None]


def test_the_oldest_go_when_memory_is_full() -> None:
    table = table_of(SIZE)
    stored = put_many(table, 5000)
    figures = table.figures()
    assert stored > 4900
    assert figures["evicted"] > 2000
    assert figures["evicted"] + figures["answers"] == stored
    assert figures["memory"] <= SIZE
    newest, oldest = [f"{n}" for n in range(4900, 5000)], [f"{n}" for n in range(100)]
    assert len(held(table, newest)) > 90
    assert not held(table, oldest)


def test_answers_that_are_asked_for_stay() -> None:
    table = table_of(SIZE)
    hot = [f"hot-{n}" for n in range(50)]
    for n, name in enumerate(hot):
        table.put(key_of(f"{name}.mesos"), answer(n), [name], 0, 1, 0)
    for n in range(20_000):
        table.put(key_of(f"{n}.mesos"), answer(n), [n], 0, 1, 0)
        assert n % 4 or held(table, [hot[n // 4 % 50]]), n
    assert table.figures()["evicted"] > 15_000
    assert held(table, hot) == hot


def test_an_answer_that_goes_leaves_nothing_behind() -> None:
    table = table_of(SIZE)
    put_many(table, 5000)
    for n in range(5000):
        table.touch(n)
    assert table.figures()["answers"] == 0
    before = table.figures()["memory"]
    for _ in range(3):
        put_many(table, 5000)
        for n in range(5000):
            table.touch(n)
    assert table.figures()["answers"] == 0
    assert table.figures()["memory"] <= max(before, SIZE // 2)


def test_answers_of_another_size_find_room() -> None:
    table = table_of(SIZE)
    put_many(table, 5000)
    large = Answer(0, [bytes(40)] * 50)
    stored = sum(table.put(key_of(f"large-{n}.mesos"), large, [n], 0, 1, 0) for n in range(2000))
    assert stored > 1000
    assert table.figures()["flushed"] >= 1
    assert put_many(table, 5000, "again-") > 2500


def test_a_clear_leaves_an_empty_table_with_room_for_any_size() -> None:
    table = table_of(8 << 20)
    assert table.enter(77, "web")
    empty = table.figures()
    for turn in range(3):
        assert put_many(table, 20_000, f"{turn}-") == 20_000
        assert table.figures()["memory"] > empty["memory"] + 20_000 * 100
        table.clear()
        assert table.figures() == empty
        assert not held(table, [f"{turn}-{n}" for n in range(100)])
        assert table.touch(1) == 0
        large = Answer(0, [bytes(40)] * (50 + turn))
        stored = sum(table.put(key_of(f"large-{n}.mesos"), large, [n], 0, 1, 0) for n in range(2000))
        figures = table.figures()
        assert (stored, figures["answers"], figures["evicted"], figures["refused"]) == (2000, 2000, 0, 0)
        assert len(held(table, [f"large-{n}" for n in range(2000)])) == 2000
        assert table.touch(7) == 1
        table.clear()
        assert table.figures() == empty


def test_a_full_table_is_cleared_as_well() -> None:
    table = table_of(SIZE)
    empty = table.figures()["memory"]
    put_many(table, 5000)
    table.clear()
    figures = table.figures()
    assert (figures["answers"], figures["memory"], figures["flushed"], figures["refused"]) == (0, empty, 0, 0)
    assert put_many(table, 500, "again-") == 500
    assert table.figures()["evicted"] == figures["evicted"]


def test_settings_find_room_whatever_is_kept() -> None:
    table = table_of(SIZE)
    put_many(table, 5000)
    for count in (2, 60, 5, 64, 0, 1):
        zones = [(MESOS, SOA, 77, 0, 1)] * count
        assert table.configure(PLAIN, [], zones)
        put_many(table, 2000)
    assert table.figures()["memory"] <= SIZE


def test_names_find_room_whatever_is_kept() -> None:
    table = table_of(1 << 20)
    assert table.configure(PLAIN, [], [(MESOS, SOA, 77, NEGATIVE_ZONE, 1)])
    put_many(table, 20_000)
    assert all(table.enter(77, f"name-{n}") for n in range(10_000))
    assert ask(table, key_of("absent.mesos")) is not None
    assert ask(table, key_of("name-1.mesos")) is None


def questions() -> list[bytes]:
    """Everything that an app is asked for."""
    names = [
        f"{prefix}app{n}{suffix}.marathon{tail}"
        for n in range(60)
        for prefix, suffix in (("", ""), ("_", "._tcp"), ("_", "._udp"))
        for tail in (".mesos", ".slave.mesos", ".mesos.thisdcos.directory")
    ]
    return [question(name, rtype) for name in names for rtype in (1, 28, 33, 16, 255, 2, 5, 12, 15, 65)]


def test_every_answer_is_right_while_they_push_each_other_out() -> None:
    tasks = [task(n, f"app{n % 60}", host_ports=(n, n + 1)) for n in range(600)]
    twins = cluster(*tasks, answer_memory=1)
    asked = questions()
    for turn in range(3):
        ready = 0
        for query in asked:
            twins.warm(query)
            ready += twins.agreed(query, "tcp", turn=turn << 29) is not None
            assert twins.path.table.figures()["memory"] <= 1 << 20
        assert ready > len(asked) / 2
        changed = tasks[turn::7]
        twins.apply(put(*(task(n, f"app{n % 60}", host_ports=(turn,)) for n in range(turn, 600, 7))))
        assert len(changed) > 80
        for query in asked:
            twins.agreed(query, "tcp")
    assert twins.path.table.figures()["evicted"] > 1000
    twins.apply(drop(*(each.key for each in tasks)))
    assert twins.path.table.figures()["answers"] == 0
