"""One connection to a server, word by word: what is said, when a position is good, and until when all is right."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.model import Key, Sync
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources import relay_session
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.relay_link import Link, RelayError
from mesos_dns.sources.relay_session import Past, RelaySession, digests_of
from mesos_dns.watch import Watch
from mesos_dns.watch_wire import ALL_BUCKETS, bucket_of, encode
from tests.fakes.relaying import cluster, hello, node, task

pytestmark = pytest.mark.asyncio

E = "aaaaaaaaaaaaaaaa"


class Words(Link):
    """A link from which given words come, then None (signs of life) as often as is said, then an error."""

    def __init__(self, *words: str | None, pause: float = 0.0) -> None:
        self.pause = pause
        self.server = "http://server:8123"
        self.heard_at = asyncio.get_running_loop().time()
        self.words = list(words)
        self.sent: list[dict[str, Any]] = []

    async def receive(self, limit: float = 0.0) -> bytes | None:
        await asyncio.sleep(self.pause)
        if not self.words:
            raise RelayError("connect", "the end")
        word = self.words.pop(0)
        self.heard_at = asyncio.get_running_loop().time()
        return word.encode() if word is not None else None

    async def send(self, data: bytes) -> None:
        self.sent.append(json.loads(data))


class Story:
    """A session over a catalog."""

    def __init__(self, *words: str | None, past: Past | None = None, own_epoch: str = "", pause: float = 0.0) -> None:
        self.catalog = Catalog()
        self.publisher = CatalogPublisher(self.catalog, "relay")
        self.link = Words(*words, pause=pause)
        self.past = past or Past()
        self.counters = SourceCounters()
        self.complaints: list[str] = []
        self.told: list[tuple[bool, float]] = []
        self.session = RelaySession(
            self.link,
            self.publisher,
            self.counters,
            self.complaints.append,
            self.past,
            lambda session: self.told.append((session.stale, session.as_of)),
            own_epoch,
        )

    async def run(self, patience: float = 60.0) -> str:
        """The kind of error that it ended with."""
        try:
            await self.session.greet(1)
            await self.session.run(patience)
        except RelayError as error:
            return error.kind
        pytest.fail("a session always ends in an error")


def word(number: int, **fields: Any) -> str:
    return json.dumps({"v": f"{E}.{number}", **fields})


def synced(number: int, buckets: frozenset[int] = ALL_BUCKETS) -> str:
    return word(number, synced=True, buckets=sorted(buckets))


def entity(value: Any) -> Any:
    return json.loads(encode(value))


async def test_digests_are_those_that_a_server_has() -> None:
    catalog = Catalog()
    publisher = CatalogPublisher(catalog, "relay")
    catalog.publish("relay", Sync(cluster(300)))
    watch = Watch(catalog)
    await watch.start()
    assert await digests_of(publisher.said(), watch.epoch) == watch.digests.octets()
    assert await digests_of(publisher.said(), "bbbbbbbb") != watch.digests.octets()


async def test_a_position_is_good_only_once_all_is_known() -> None:
    story = Story(
        hello(),
        word(0, kind="node", put=[entity(node(1))], buckets=[1]),
        word(1, kind="task", put=[entity(task(1))]),
        word(1, kind="node", put=[entity(node(2))], buckets=[2]),
    )
    assert await story.run() == "connect"
    assert len(story.publisher.said()) == 3
    assert (story.past.position, story.past.as_of, story.told) == ("", 0.0, [])
    assert story.link.sent == [{"digests": "", "full": True}]

    # What has come meanwhile is of another server: the position before means nothing any more.
    story = Story(hello(), word(0, kind="node", put=[entity(node(1))], buckets=[1]), past=Past(f"{E}.7", as_of=9.0))
    assert await story.run() == "connect"
    assert (story.past.position, story.past.as_of) == ("", 9.0)

    story = Story(
        hello(),
        word(0, kind="node", put=[entity(node(1))], buckets=[1]),
        synced(0),
        word(1, kind="task", put=[entity(task(1))]),
    )
    assert await story.run() == "connect"
    assert story.past.position == f"{E}.1"
    assert abs(story.past.as_of - time.time()) < 5
    assert len(story.told) == 1
    assert story.past.via == (E,)


async def test_what_did_not_come_is_dropped_within_the_told_buckets_only() -> None:
    kept, gone = task(1), task(2)
    assert bucket_of(kept.key) != bucket_of(gone.key)
    story = Story(hello(), synced(0, frozenset({bucket_of(gone.key)})))
    story.catalog.publish("relay", Sync((kept, gone)))
    assert await story.run() == "connect"
    assert set(story.publisher.said()) == {kept.key}
    assert story.link.sent[0]["full"] is False


async def test_a_change_during_the_sync_counts_as_told() -> None:
    new, old = task(1), task(2)
    story = Story(
        hello(),
        word(1, kind="task", put=[entity(new)]),
        word(2, kind="task", put=[entity(old)]),
        word(3, kind="task", drop=[list(old.key)]),
        synced(3),
    )
    assert await story.run() == "connect"
    assert set(story.publisher.said()) == {new.key}
    assert story.past.position == f"{E}.3"


async def test_nodes_go_after_the_tasks_that_were_on_them() -> None:
    story = Story(hello(), synced(0))
    story.catalog.publish("relay", Sync((node(1), task(1))))
    order: list[Key] = []
    drop = story.publisher.drop

    def note(key: Key) -> None:
        order.append(key)
        drop(key)

    story.publisher.drop = note  # type: ignore[method-assign]
    await story.run()
    assert order == [task(1).key, node(1).key]


async def test_resuming_goes_on_from_where_it_was() -> None:
    past = Past(position=f"{E}.7", as_of=5.0)
    story = Story(hello(v=f"{E}.7", resume=True), word(8, kind="node", put=[entity(node(1))]), past=past)
    assert await story.run() == "connect"
    assert past.position == f"{E}.8"
    assert len(story.told) == 1
    assert not story.link.sent

    past = Past(position=f"{E}.7")
    assert await Story(hello(v=f"{E}.6", resume=True), past=past).run() == "document"
    assert past.position == ""  # or it would be asked for for ever
    past = Past(position=f"{E}.7")
    story = Story(hello(v=f"{E}.7", resume=True), word(9, kind="node", put=[entity(node(1))]), past=past)
    assert await story.run() == "document"  # number 8 is missing
    assert past.position == ""
    assert not story.publisher.said()


async def test_until_when_what_is_known_was_right() -> None:
    old = time.time() - 500
    # The server's clock is two hours ahead, which nobody can know: only what it says of durations counts.
    story = Story(hello(stale=500.0, as_of=old + 7200), synced(0), None, None)
    await story.run()
    assert story.past.as_of == pytest.approx(old, abs=5)
    assert story.told == [(True, pytest.approx(old, abs=5))]
    assert story.past.sources == {"": pytest.approx(old, abs=5)}

    ahead = Story(hello(as_of=time.time() + 9000), synced(0), None)
    await ahead.run()
    assert ahead.past.as_of == pytest.approx(time.time(), abs=5)
    assert ahead.past.as_of <= time.time()


async def test_each_source_has_a_time_until_which_it_was_right() -> None:
    now = time.time()
    ages = {"mesos": 0.0, "serversets": 700.0, "file": now}
    story = Story(hello(stale=700.0, sources=ages), synced(0), None, None)
    await story.run()
    approx = pytest.approx
    assert story.past.sources == {"mesos": approx(now, abs=5), "serversets": approx(now - 700, abs=5), "file": 0.0}
    assert (story.past.live, story.session.lost) == ({"mesos"}, ("file", "serversets"))
    assert (story.session.stale, story.session.late) == (True, True)

    story = Story(hello(sources={"mesos": 0.0, "file": 9.0}), synced(0), word(0, stale=0.0, sources={"mesos": 0.0}))
    await story.session.greet(1)
    assert (story.session.stale, story.session.late) == (False, True)
    assert not story.past.sources  # nothing has come yet
    with pytest.raises(RelayError):
        await story.session.run(60)
    assert (story.session.late, story.past.sources.keys()) == (False, {"mesos"})

    # A server that has long lost a source which does not count for `stale` is left for a better one, too.
    files = word(0, stale=0.0, sources={"mesos": 0.0, "file": 9.0})
    assert await Story(hello(), synced(0), files, *[None] * 100_000).run(patience=0.01) == "stale"


async def test_a_frame_holds_several_messages() -> None:
    several = [word(n, kind="task", put=[entity(task(n))]) for n in range(1, 9)]
    story = Story(
        hello(), synced(0), "\n".join(several), "\n".join([word(9, kind="task", drop=[list(task(3).key)]), "{"])
    )
    assert await story.run() == "document"
    assert set(story.publisher.said()) == {task(n).key for n in range(1, 9) if n != 3}
    assert story.counters.events["delta"] == 9


async def test_an_update_that_is_refused_leaves_what_was_known() -> None:
    bad = {**entity(node(1)), "port": 70000}
    story = Story(
        hello(),
        word(0, kind="node", put=[entity(node(1))], buckets=[bucket_of(node(1).key)]),
        synced(0),
        word(1, kind="node", put=[bad, entity(node(2))]),
    )
    assert await story.run() == "connect"
    assert story.publisher.said() == {node(1).key: node(1), node(2).key: node(2)}
    assert story.counters.skipped_entities == 1
    assert len(story.complaints) == 1
    assert story.past.position == f"{E}.1"


async def test_waiting_for_others_to_be_told_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_session, "PROGRESS", 0.02)
    monkeypatch.setattr(relay_session, "QUEUED", 60.0)
    came = word(0, kind="node", put=[entity(node(1))], buckets=[1])
    story = Story(hello(), *[None, word(0, wait=7)] * 100, came, synced(0), pause=0.001)
    assert await story.run() == "connect"
    assert story.counters.events["wait"] == 100
    assert len(story.told) == 1
    monkeypatch.setattr(relay_session, "QUEUED", 0.05)  # but not for ever
    assert await Story(hello(), *[word(0, wait=7)] * 100_000).run() == "stall"
    monkeypatch.setattr(relay_session, "QUEUED", 60.0)  # nor once something has come
    assert await Story(hello(), came, *[word(0, wait=7)] * 100_000).run() == "stall"


async def test_a_server_that_becomes_stale_is_borne_for_a_while() -> None:
    late = word(0, stale=time.time() - 100_000.0)
    story = Story(hello(), synced(0), late, None, word(0, stale=0.0), late, *[None] * 100_000)
    assert await story.run(patience=0.01) == "stale"
    assert [stale for stale, _ in story.told] == [False, True, False, True]
    assert story.past.as_of == pytest.approx(100_000, abs=5)


async def test_circles_are_noticed_at_any_time() -> None:
    assert await Story(hello(via=[E, "bbbbbbbb"]), own_epoch="bbbbbbbb").run() == "circle"
    assert await Story(hello(), own_epoch=E).run() == "circle"
    later = Story(hello(), synced(0), word(0, stale=0.0, via=[E, "cccccccc", "bbbbbbbb"]), own_epoch="bbbbbbbb")
    assert await later.run() == "circle"
    assert len(later.told) == 1


async def test_a_hello_that_does_not_come() -> None:
    story = Story(*[None] * 1_000_000)
    with pytest.raises(RelayError, match="no hello") as caught:
        await story.session.greet(0.02)
    assert caught.value.kind == "stall"


async def test_a_server_that_lives_but_never_tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_session, "PROGRESS", 0.02)
    beats: list[str | None] = [None, word(0, stale=0.0, as_of=1.0)]
    story = Story(hello(), word(0, kind="node", put=[entity(node(1))], buckets=[1]), *beats * 100_000)
    assert await story.run() == "stall"
    assert set(story.publisher.said()) == {node(1).key}
    assert not story.told
