"""The catalog against a model so simple that it can't be wrong, under random operations of several sources."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Drop, Entity, Framework, Key, Node, Put, Sync

SOURCES = ("mesos", "marathon", "file")

entities = st.one_of(
    st.builds(Node, id=st.sampled_from("abc"), hostname=st.sampled_from(["", "x"])),
    st.builds(Framework, id=st.sampled_from("abc"), name=st.sampled_from(["", "x"])),
)
keys = entities.map(lambda entity: entity.key)
syncs = st.builds(
    Sync,
    changed=st.lists(entities, max_size=4, unique_by=lambda entity: entity.key).map(tuple),
    kept=st.frozensets(keys, max_size=4),
    kinds=st.frozensets(st.sampled_from(["node", "framework"])),
)
changes = st.one_of(st.builds(Put, entities), st.builds(Drop, keys), syncs)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(SOURCES), changes),
        st.tuples(st.just("sync"), st.sampled_from(SOURCES), syncs),
        st.tuples(st.just("turn")),
        st.tuples(st.just("listen"), st.booleans()),
        st.tuples(st.just("unlisten")),
    ),
    max_size=40,
)


def told(said: dict[str, dict[Key, Entity]], source: str, change: Put | Drop | Sync) -> None:
    """What the model does with a change: a source's words are a dict."""
    mine = said[source]
    if isinstance(change, Put):
        mine[change.entity.key] = change.entity
    elif isinstance(change, Drop):
        mine.pop(change.key, None)
    else:
        new = {entity.key: entity for entity in change.changed}
        for key in set(mine) - set(new) - change.kept:
            if not change.kinds or key[0] in change.kinds:
                del mine[key]
        mine.update(new)


def merged(said: dict[str, dict[Key, Entity]]) -> dict[Key, Entity]:
    result: dict[Key, Entity] = {}
    for source in reversed(SOURCES):
        result.update(said[source])
    return result


class Follower:
    """A listener that must be able to rebuild the catalog from its deltas."""

    def __init__(self, start: dict[Key, Entity]) -> None:
        self.copy = start
        self.version = -1

    def __call__(self, delta: Delta) -> None:
        assert delta.changes
        assert delta.version > self.version
        self.version = delta.version
        for key, (before, after) in delta.changes.items():
            assert before != after
            assert self.copy.pop(key, None) == before
            if after is not None:
                self.copy[key] = after


class Both:
    """The catalog and the model beside it."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.said: dict[str, dict[Key, Entity]] = {source: {} for source in SOURCES}
        self.followers: list[Follower] = []
        for source in SOURCES:
            self.catalog.register(source)

    async def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("publish", str(source), (Put() | Drop() | Sync()) as change):
                version, before = self.catalog.version, merged(self.said)
                self.catalog.publish(source, change)
                told(self.said, source, change)
                assert (self.catalog.version > version) or before == merged(self.said)
            case ("sync", str(source), Sync() as change):
                await self.catalog.sync(source, change, slice_size=1)
                told(self.said, source, change)
            case ("turn",):
                await asyncio.sleep(0)
                for follower in self.followers:
                    assert follower.copy == merged(self.said)
            case ("listen", bool(replay)):
                follower = Follower({} if replay else merged(self.said))
                self.followers.append(follower)
                self.catalog.listen(follower, replay=replay)
            case ("unlisten",) if self.followers:
                self.catalog.unlisten(self.followers.pop(0))
        assert {entity.key: entity for entity in self.catalog.entities()} == merged(self.said)
        assert len(self.catalog) == len(merged(self.said))
        for source in SOURCES:
            assert self.catalog.said(source) == self.said[source]


def run(work: Coroutine[object, object, None]) -> None:
    """Run on a fresh loop (hypothesis calls many times)."""
    with asyncio.Runner() as runner:
        runner.run(work)


@given(steps)
def test_the_catalog_is_the_merge_of_what_sources_said_and_deltas_rebuild_it(steps: list[tuple[object, ...]]) -> None:
    async def conversation() -> None:
        both = Both()
        for step in [*steps, ("turn",)]:
            await both.step(step)
        assert both.catalog.listener_errors == 0

    run(conversation())


@given(
    syncs, syncs, st.lists(st.one_of(st.builds(Put, entities), st.builds(Drop, keys)), max_size=6), st.integers(1, 3)
)
def test_single_changes_during_a_sync_are_as_if_they_came_after_it(
    start: Sync, snapshot: Sync, singles: list[Put | Drop], slice_size: int
) -> None:
    async def conversation() -> None:
        both = Both()
        await both.step(("publish", "mesos", start))
        syncing = asyncio.ensure_future(both.catalog.sync("mesos", snapshot, slice_size=slice_size))
        told(both.said, "mesos", snapshot)
        await asyncio.sleep(0)  # the first slice is done
        for change in singles:
            both.catalog.publish("mesos", change)
            told(both.said, "mesos", change)
            await asyncio.sleep(0)
        await syncing
        await both.step(("turn",))

    run(conversation())


@given(st.lists(st.tuples(st.sampled_from(SOURCES), changes), max_size=20))
def test_saying_everything_again_changes_nothing(steps: list[tuple[str, Put | Drop | Sync]]) -> None:
    async def conversation() -> None:
        both = Both()
        for source, change in steps:
            await both.step(("publish", source, change))
        version = both.catalog.version
        for source in SOURCES:
            await both.catalog.sync(source, Sync(changed=tuple(both.said[source].values())), slice_size=2)
        assert both.catalog.version == version

    run(conversation())
