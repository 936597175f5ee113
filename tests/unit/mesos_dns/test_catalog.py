"""The catalog: coalesced deltas, merged sources, Syncs that yield real changes only."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mesos_dns.catalog import Catalog, Changes, Delta
from mesos_dns.model import Drop, Entity, Framework, Key, Leadership, Node, Put, Sync, Task


def node(name: str, hostname: str = "h") -> Node:
    return Node(id=name, hostname=hostname)


def task(name: str, state: str = "TASK_RUNNING") -> Task:
    return Task(framework_id="f", id=name, name=name, node_id="n", state=state)


class Recorder:
    """A listener that keeps every delta and a copy of the catalog made from them alone."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.copy: dict[Key, Entity] = {}

    def __call__(self, delta: Delta) -> None:
        self.deltas.append(delta)
        for key, (before, after) in delta.changes.items():
            assert self.copy.get(key) == before
            assert before != after
            if after is None:
                del self.copy[key]
            else:
                self.copy[key] = after

    @property
    def last(self) -> Changes:
        return self.deltas[-1].changes


def watched(*sources: str) -> tuple[Catalog, Recorder]:
    catalog, seen = Catalog(), Recorder()
    for source in sources or ("mesos",):
        catalog.register(source)
    catalog.listen(seen)
    return catalog, seen


@pytest.mark.asyncio
async def test_one_delta_per_loop_turn_however_much_was_published() -> None:
    catalog, seen = watched()
    for number in range(10):
        catalog.publish("mesos", Put(node(str(number))))
    assert seen.deltas == []
    await asyncio.sleep(0)
    assert len(seen.deltas) == 1
    assert len(seen.last) == 10
    assert all(before is None for before, _ in seen.last.values())
    assert seen.deltas[0].version == catalog.version == 10
    await asyncio.sleep(0)
    assert len(seen.deltas) == 1


@pytest.mark.asyncio
async def test_before_is_what_the_listener_last_saw_and_after_is_what_is() -> None:
    catalog, seen = watched()
    catalog.publish("mesos", Put(node("a", "1")))
    await asyncio.sleep(0)
    for hostname in ("2", "3", "4"):
        catalog.publish("mesos", Put(node("a", hostname)))
    await asyncio.sleep(0)
    assert seen.last == {node("a").key: (node("a", "1"), node("a", "4"))}
    catalog.publish("mesos", Drop(node("a").key))
    await asyncio.sleep(0)
    assert seen.last == {node("a").key: (node("a", "4"), None)}


@pytest.mark.asyncio
async def test_a_value_that_returned_is_left_out() -> None:
    catalog, seen = watched()
    catalog.publish("mesos", Put(node("a")))
    catalog.publish("mesos", Drop(node("a").key))
    await asyncio.sleep(0)
    assert seen.deltas == []
    catalog.publish("mesos", Put(node("a")))
    await asyncio.sleep(0)
    catalog.publish("mesos", Put(node("a", "other")))
    catalog.publish("mesos", Put(node("b")))
    catalog.publish("mesos", Put(node("a")))
    await asyncio.sleep(0)
    assert list(seen.last) == [node("b").key]


@pytest.mark.asyncio
async def test_the_same_again_is_no_change() -> None:
    catalog, seen = watched()
    catalog.publish("mesos", Put(node("a")))
    catalog.flush()
    version = catalog.version
    catalog.publish("mesos", Put(node("a")))
    catalog.publish("mesos", Drop(("node", "mesos", "unknown")))
    await asyncio.sleep(0)
    assert (catalog.version, len(seen.deltas)) == (version, 1)


@pytest.mark.asyncio
async def test_listeners_are_told_apart_and_each_sees_its_own_past() -> None:
    catalog, early = watched()
    catalog.publish("mesos", Put(node("a", "1")))
    await asyncio.sleep(0)
    replayed, later = Recorder(), Recorder()
    catalog.listen(replayed)
    catalog.listen(later, replay=False)
    later.copy[node("a").key] = node("a", "1")
    catalog.publish("mesos", Put(node("a", "2")))
    await asyncio.sleep(0)
    assert early.last == {node("a").key: (node("a", "1"), node("a", "2"))}
    assert replayed.last == {node("a").key: (None, node("a", "2"))}
    assert later.last == early.last
    catalog.unlisten(early)
    catalog.publish("mesos", Drop(node("a").key))
    await asyncio.sleep(0)
    assert (len(early.deltas), len(replayed.deltas), len(later.deltas)) == (2, 2, 2)


@pytest.mark.asyncio
async def test_replay_of_an_empty_catalog_says_nothing_and_listening_again_starts_afresh() -> None:
    catalog, seen = watched()
    await asyncio.sleep(0)
    assert seen.deltas == []
    catalog.publish("mesos", Put(node("a")))
    catalog.listen(seen, replay=False)
    await asyncio.sleep(0)
    assert seen.deltas == []


@pytest.mark.asyncio
async def test_a_listener_that_raises_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog()
    catalog.register("mesos")

    def broken(delta: Delta) -> None:
        raise RuntimeError("boom")

    seen = Recorder()
    catalog.listen(broken)
    catalog.listen(seen)
    with caplog.at_level(logging.ERROR):
        for name in ("a", "b"):
            catalog.publish("mesos", Put(node(name)))
            await asyncio.sleep(0)
    assert set(seen.copy) == {node("a").key, node("b").key}
    assert catalog.listener_errors == 2
    assert "a catalog listener failed" in caplog.text
    assert "boom" in caplog.text


@pytest.mark.asyncio
async def test_a_listener_may_publish_and_unlisten_while_it_is_called() -> None:
    catalog, seen = watched()

    def chained(delta: Delta) -> None:
        catalog.unlisten(chained)
        catalog.publish("mesos", Put(node("b")))

    catalog.listen(chained)
    catalog.publish("mesos", Put(node("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert set(seen.copy) == {node("a").key, node("b").key}
    assert len(seen.deltas) == 2


@pytest.mark.asyncio
async def test_flush_delivers_at_once_and_the_turn_after_has_nothing_to_say() -> None:
    catalog, seen = watched()
    catalog.publish("mesos", Put(node("a")))
    catalog.flush()
    assert len(seen.deltas) == 1
    await asyncio.sleep(0)
    assert len(seen.deltas) == 1
    catalog.publish("mesos", Put(node("b")))
    await asyncio.sleep(0)
    assert len(seen.deltas) == 2


def test_without_listeners_no_loop_is_needed() -> None:
    catalog = Catalog()
    catalog.register("mesos")
    catalog.publish("mesos", Put(node("a")))
    assert len(catalog) == 1
    assert list(catalog.entities()) == [node("a")]


@pytest.mark.asyncio
async def test_the_source_registered_first_wins_and_hands_over() -> None:
    catalog, seen = watched("mesos", "marathon", "file")
    key = node("a").key
    catalog.publish("file", Put(node("a", "file")))
    catalog.publish("marathon", Put(node("a", "marathon")))
    assert catalog.get(key) == node("a", "marathon")
    catalog.publish("mesos", Put(node("a", "mesos")))
    catalog.publish("file", Put(node("a", "file2")))
    assert catalog.get(key) == node("a", "mesos")
    catalog.publish("mesos", Drop(key))
    assert catalog.get(key) == node("a", "marathon")
    catalog.publish("marathon", Drop(key))
    assert catalog.get(key) == node("a", "file2")
    catalog.publish("mesos", Drop(key))
    assert catalog.get(key) == node("a", "file2")
    catalog.publish("file", Drop(key))
    assert catalog.get(key) is None
    await asyncio.sleep(0)
    assert seen.deltas == []


@pytest.mark.asyncio
async def test_a_hand_over_of_the_same_value_is_no_change() -> None:
    catalog, seen = watched("mesos", "marathon")
    for source in ("mesos", "marathon"):
        catalog.publish(source, Put(node("a")))
    await asyncio.sleep(0)
    version = catalog.version
    catalog.publish("mesos", Drop(node("a").key))
    await asyncio.sleep(0)
    assert (catalog.version, len(seen.deltas), len(catalog)) == (version, 1, 1)


def test_an_unknown_source_is_an_error() -> None:
    catalog = Catalog()
    with pytest.raises(KeyError, match="nobody"):
        catalog.publish("nobody", Put(node("a")))
    with pytest.raises(KeyError, match="nobody"):
        catalog.mark("nobody", connected=True)
    assert len(catalog) == 0


def test_registering_again_changes_nothing() -> None:
    catalog = Catalog()
    first = catalog.register("mesos")
    catalog.publish("mesos", Put(node("a")))
    assert catalog.register("mesos") is first
    assert len(catalog.said("mesos")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("sliced", [True, False])
async def test_a_sync_yields_real_changes_only(sliced: bool) -> None:
    catalog, seen = watched()

    async def say(change: Sync) -> None:
        if sliced:
            await catalog.sync("mesos", change, slice_size=2)
        else:
            catalog.publish("mesos", change)
        await asyncio.sleep(0)

    tasks = tuple(task(str(number)) for number in range(7))
    await say(Sync(changed=(node("n"), *tasks)))
    deltas, version = len(seen.deltas), catalog.version
    assert len(catalog) == 8
    await say(Sync(changed=(node("n"), *tasks)))
    await say(Sync(changed=tasks, kept=frozenset({node("n").key})))
    await say(Sync(kept=frozenset(seen.copy)))
    assert (len(seen.deltas), catalog.version) == (deltas, version)
    await say(Sync(changed=(task("0", "TASK_KILLING"),), kept=frozenset(each.key for each in tasks[:4])))
    assert set(catalog.said("mesos")) == {each.key for each in tasks[:4]}
    assert catalog.version == version + 1 + 4
    assert seen.copy == catalog.said("mesos")


@pytest.mark.asyncio
async def test_a_sync_of_some_kinds_leaves_the_others() -> None:
    catalog, seen = watched()
    framework = Framework(id="f", name="marathon")
    await catalog.sync("mesos", Sync(changed=(node("n"), framework, task("a"), task("b"))))
    await catalog.sync("mesos", Sync(changed=(task("b"),), kinds=frozenset({"task", "node"})))
    assert set(catalog.said("mesos")) == {framework.key, task("b").key}
    # An entity of another kind may still be named: that is a plain Put.
    await catalog.sync("mesos", Sync(changed=(Leadership(),), kinds=frozenset({"task"})))
    assert set(catalog.said("mesos")) == {framework.key, Leadership().key}
    await catalog.sync("mesos", Sync())
    assert len(catalog) == 0
    await asyncio.sleep(0)
    assert seen.copy == {}


@pytest.mark.asyncio
async def test_a_sync_says_nothing_of_other_sources() -> None:
    catalog, _ = watched("mesos", "file")
    catalog.publish("file", Put(node("a", "file")))
    await catalog.sync("mesos", Sync(changed=(node("a", "mesos"),)))
    await catalog.sync("mesos", Sync())
    assert catalog.get(node("a").key) == node("a", "file")


@pytest.mark.asyncio
async def test_a_sliced_sync_gives_the_loop_turns_and_listeners_slices() -> None:
    catalog, seen = watched()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(other())
    await catalog.sync("mesos", Sync(changed=tuple(task(str(number)) for number in range(100))), slice_size=10)
    assert turns >= 10
    assert max(len(delta.changes) for delta in seen.deltas) <= 10
    turns = 0
    await catalog.sync("mesos", Sync(), slice_size=10)
    assert turns >= 10
    busy.cancel()


@pytest.mark.asyncio
async def test_a_single_change_during_a_sync_is_newer_than_the_sync() -> None:
    catalog, seen = watched()
    await catalog.sync("mesos", Sync(changed=(task("old"), task("dropped"), task("changed"))))
    snapshot = (task("x"), task("y"), task("old"), task("dropped"), task("changed"))
    syncing = asyncio.create_task(catalog.sync("mesos", Sync(changed=snapshot), slice_size=1))
    await asyncio.sleep(0)
    catalog.publish("mesos", Put(task("new")))
    catalog.publish("mesos", Put(task("changed", "TASK_KILLING")))
    catalog.publish("mesos", Drop(task("dropped").key))
    await syncing
    await asyncio.sleep(0)
    assert {name for _, _, _, name in catalog.said("mesos")} == {"x", "y", "old", "new", "changed"}
    assert catalog.get(task("changed").key) == task("changed", "TASK_KILLING")
    assert seen.copy == catalog.said("mesos")
    # What came between is forgotten with that Sync: the next one is believed again.
    await catalog.sync("mesos", Sync(changed=(task("x"),)))
    assert set(catalog.said("mesos")) == {task("x").key}


@pytest.mark.asyncio
async def test_two_syncs_of_a_source_follow_each_other() -> None:
    catalog, _ = watched()
    first = Sync(changed=tuple(task(f"a{number}") for number in range(10)))
    second = Sync(changed=tuple(task(f"b{number}") for number in range(10)))
    await asyncio.gather(*(catalog.sync("mesos", change, slice_size=1) for change in (first, second)))
    assert set(catalog.said("mesos")) == {each.key for each in second.changed}


@pytest.mark.asyncio
async def test_a_cancelled_sync_leaves_the_source_usable() -> None:
    catalog, _ = watched()
    syncing = asyncio.create_task(
        catalog.sync("mesos", Sync(changed=tuple(task(str(number)) for number in range(9))), slice_size=1)
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    syncing.cancel()
    await asyncio.wait([syncing])
    assert 0 < len(catalog) < 9
    await catalog.sync("mesos", Sync(changed=(task("x"),)))
    assert set(catalog.said("mesos")) == {task("x").key}


def test_entities_by_kind() -> None:
    catalog = Catalog()
    catalog.register("mesos")
    for entity in (node("n"), task("a"), task("b")):
        catalog.publish("mesos", Put(entity))
    assert list(catalog.entities("task")) == [task("a"), task("b")]
    assert len(list(catalog.entities())) == 3
    for each in catalog.entities():  # a source may speak while somebody walks
        catalog.publish("mesos", Drop(each.key))
    assert len(catalog) == 0


def test_a_lost_source_is_stale_and_keeps_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr("time.time", lambda: clock)
    catalog = Catalog()
    status = catalog.register("mesos")
    assert (status.stale, status.age(1010.0)) == (True, 10.0)
    catalog.publish("mesos", Put(node("a")))
    clock = 1020.0
    catalog.mark("mesos", connected=True)
    assert (status.stale, status.since) == (True, 1000.0)
    catalog.mark("mesos", connected=True, synced=True)
    assert (status.stale, status.since, status.age()) == (False, 1020.0, 0.0)
    clock = 1030.0
    catalog.mark("mesos", connected=False, detail="refused")
    clock = 1040.0
    catalog.mark("mesos", connected=False, detail="timed out")
    assert (status.stale, status.age(), status.detail) == (True, 10.0, "timed out")
    assert len(catalog) == 1
    clock = 900.0
    assert status.age() == 0.0


def test_a_restored_source_is_restored_until_it_has_synced() -> None:
    catalog = Catalog()
    status = catalog.register("mesos")
    status.restored = True
    catalog.mark("mesos", connected=True, synced=False)
    assert status.restored
    catalog.mark("mesos", connected=True, synced=True)
    assert not status.restored


def test_repr_shows_the_state() -> None:
    catalog = Catalog()
    catalog.register("mesos")
    assert repr(catalog) == "<Catalog version=0 entities=0 sources=['mesos']>"


@pytest.mark.asyncio
async def test_a_source_that_is_forgotten_takes_its_words_along() -> None:
    catalog, seen = watched("mesos", "marathon")
    catalog.publish("mesos", Put(node("a", "1")))
    catalog.publish("mesos", Put(node("b")))
    catalog.publish("marathon", Put(node("a", "2")))
    await catalog.forget("mesos")
    await asyncio.sleep(0)
    assert seen.copy == {node("a").key: node("a", "2")}
    assert list(catalog.sources) == ["marathon"]


def test_a_source_may_know_that_what_it_says_is_older_than_its_loss() -> None:
    catalog = Catalog()
    status = catalog.register("relay")
    catalog.mark("relay", connected=True, synced=True)
    catalog.mark("relay", connected=False, since=1000.0)
    assert (status.stale, status.since) == (True, 1000.0)
    catalog.mark("relay", connected=False, since=2000.0)
    assert status.since == 2000.0
    catalog.mark("relay", connected=False)
    assert status.since == 2000.0
    catalog.mark("relay", connected=True, since=3000.0)
    assert (status.stale, status.since > 3000.0) == (False, True)
