"""A follower's session without a network: heartbeats, first words, and why it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mesos_dns import watch_journal, watch_session, watch_whole
from mesos_dns.catalog import Catalog
from mesos_dns.hearing import SILENT, STALL, Hearing
from mesos_dns.model import Drop, Entity, Put, Sync, Task
from mesos_dns.watch import Standing, Watch
from mesos_dns.watch_journal import Journal
from mesos_dns.watch_session import BULK, SILENCE, Follower
from mesos_dns.watch_whole import Turns
from mesos_dns.watch_wire import Digests, answer_message, bucket_of, encode_entity
from tests.fakes.relaying import SOURCE, cluster, task

pytestmark = pytest.mark.asyncio


class Pipe:
    """Keeps what is sent; `beats` are the statuses of heartbeats (None: a mere ping)."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.frames = 0
        self.beats: list[dict[str, Any] | None] = []
        self.marks: list[bytes] = []
        self.block = False

    async def send(self, message: bytes) -> None:
        if self.block:
            await asyncio.Event().wait()
        self.frames += 1
        self.sent += map(json.loads, message.split(b"\n"))

    async def beat(self, status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        self.marks.append(mark)
        self.beats.append(json.loads(status()) if changed else None)


async def started(
    *entities: Entity, standing: Callable[[], Standing] | None = None, journal: Journal | None = None
) -> Watch:
    """A watch of a small cluster."""
    catalog = Catalog()
    catalog.register(SOURCE)
    catalog.publish(SOURCE, Sync(entities or cluster(20)))
    watch = Watch(catalog, standing=standing, journal=journal)
    await watch.start()
    catalog.flush()
    return watch


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_equal_digests_need_nothing_but_the_word_that_all_is_known() -> None:
    watch, pipe = await started(), Pipe()
    follower = Follower(watch, pipe, answers=True)
    watch.enter(follower)
    telling = asyncio.create_task(follower.tell("0123456789abcdef.1"))
    await until(lambda: pipe.sent)
    assert pipe.sent[0]["resume"] is False
    follower.said(answer_message(watch.digests.octets()).decode())
    await until(lambda: len(pipe.sent) == 2)
    assert pipe.sent[1] == {"v": watch.position, "synced": True, "buckets": []}
    follower.said("what comes later means nothing")
    watch.catalog.publish(SOURCE, Put(task(3, "TASK_LOST")))
    await until(lambda: len(pipe.sent) == 3)
    assert pipe.sent[2]["put"][0]["state"] == "TASK_LOST"
    follower.dismiss()
    assert await telling == "dismissed"
    watch.leave(follower, "dismissed")
    assert (watch.counters.began, watch.counters.now) == ({"digests": 1}, 0)


async def test_digests_of_another_epoch_differ_everywhere_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "WORK", 60.0)
    watch, pipe = await started(), Pipe()
    follower = Follower(watch, pipe, answers=True)
    telling = asyncio.create_task(follower.tell(""))
    follower.said(answer_message(Digests("ffffffffffffffff").octets()).decode())
    await until(lambda: pipe.sent and pipe.sent[-1].get("synced"))
    slices = pipe.sent[1:-1]
    assert [m["kind"] for m in slices] == ["node", "framework", "task"]
    assert sum(len(m["put"]) for m in slices) == 31
    assert {b for m in slices for b in m["buckets"]} == set(pipe.sent[-1]["buckets"])
    follower.end("gone")
    assert await telling == "gone"


async def test_the_standing_is_told_when_it_changes_and_not_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    now = [Standing(0.0, 100.0)]
    watch, pipe = await started(standing=lambda: now[0]), Pipe()
    follower = Follower(watch, pipe, answers=True)
    telling = asyncio.create_task(follower.tell(watch.position))
    await until(lambda: len(pipe.beats) >= 3)
    now[0] = Standing(0.0, 105.0)  # as it goes on in time
    await until(lambda: len(pipe.beats) >= 6)
    assert not any(pipe.beats)
    for change in (
        Standing(1.0, 105.0),
        Standing(0.0, 110.0),
        Standing(0.0, 110.0, ("bbbb",)),
        Standing(9.0, 90.0),
        Standing(9.0, 90.0, (), {"mesos": None}),
        Standing(9.0, 90.0, (), {"mesos": 90.0}),
        Standing(9.0, 90.0, (), {"mesos": 95.0}),
        Standing(9.0, 90.0, (), {"mesos": None}),
    ):
        now[0] = change
        count = len(pipe.beats)
        await until(lambda count=count: len(pipe.beats) >= count + 3)  # type: ignore[misc]
        told = [beat for beat in pipe.beats[count:] if beat]
        assert len(told) == 1
        assert (told[0]["stale"], told[0]["as_of"]) == (change.stale, change.as_of)
    follower.end("gone")
    await telling


async def test_a_follower_that_pongs_but_never_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    monkeypatch.setattr(watch_session, "PATIENCE", 0.05)
    watch, pipe = await started(), Pipe()
    follower = Follower(watch, pipe, answers=True)
    async with asyncio.timeout(20):
        assert await follower.tell("") == "silent"


async def test_a_follower_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "STALL", 0.02)
    watch, pipe = await started(), Pipe()
    pipe.block = True
    async with asyncio.timeout(20):
        assert await Follower(watch, pipe, answers=False).tell("") == "stalled"


class Telling:
    """A follower that is told everything, and what it makes of it."""

    def __init__(self, watch: Watch, digests: bytes | None = None) -> None:
        self.pipe = Pipe()
        self.watch = watch
        self.follower = Follower(watch, self.pipe, answers=True)
        watch.enter(self.follower)
        self.task = asyncio.create_task(self.follower.tell(""))
        self.follower.said(answer_message(digests).decode())

    @property
    def synced(self) -> bool:
        return any(message.get("synced") for message in self.pipe.sent)

    def tasks(self) -> dict[str, str]:
        """The states of the tasks that it knows."""
        states: dict[str, str] = {}
        for message in self.pipe.sent:
            if message.get("kind") == "task":
                states |= {task["id"]: task["state"] for task in message["put"]}
                for key in message.get("drop", ()):
                    states.pop(key[-1], None)
        return states

    async def end(self, reason: str = "gone") -> str:
        self.follower.end(reason)
        ended = await self.task
        self.watch.leave(self.follower, ended)
        return ended


async def test_those_who_wait_for_their_turn_hear_that_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    watch = await started()
    watch.turns = Turns(1)
    watch.turns.granted(first := Follower(watch, Pipe(), answers=True))
    second, third, same = Telling(watch), Telling(watch), Telling(watch, watch.digests.octets())
    await until(lambda: same.synced)  # who needs nothing need not wait
    await until(lambda: sum("wait" in message for message in third.pipe.sent) >= 3)
    assert not second.synced
    assert not third.synced
    assert {message["wait"] for message in third.pipe.sent if "wait" in message} == {2}
    assert third.pipe.beats
    watch.catalog.publish(SOURCE, Put(task(3, "TASK_LOST")))  # told with the whole
    assert await second.end() == "gone"
    assert watch.turns.waiting == 1
    watch.told(first)
    await until(lambda: third.synced)
    assert third.tasks()["web.3"] == "TASK_LOST"
    assert len(third.tasks()) == 20
    assert watch.turns.now == 0
    await third.end()
    await same.end()


async def test_a_turn_ends_for_one_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "TURN", 0.0)
    watch = await started()
    watch.turns = Turns(1)
    slow = Telling(watch)
    held = asyncio.Event()
    send = slow.pipe.send

    async def hold(message: bytes) -> None:
        await send(message)
        if b'"framework"' in message:
            await held.wait()

    slow.pipe.send = hold  # type: ignore[method-assign]
    await until(lambda: slow.pipe.frames == 3)
    second = Telling(watch)
    await until(lambda: second.synced)
    assert not slow.synced
    held.set()
    await until(lambda: slow.synced)
    for telling in (slow, second):
        await telling.end()


async def test_many_who_want_everything_cost_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = await started(*cluster(2000))
    encoded: list[Entity] = []

    def counted(entity: Entity) -> bytes | None:
        encoded.append(entity)
        return encode_entity(entity)

    monkeypatch.setattr("mesos_dns.watch.encode_entity", counted)
    tellings = [Telling(watch) for _ in range(40)]
    await until(lambda: all(telling.synced for telling in tellings))
    assert len(encoded) == 2011
    assert all(len(telling.tasks()) == 2000 for telling in tellings)
    for telling in tellings:
        await telling.end()


async def test_what_comes_at_once_goes_out_in_one_frame() -> None:
    watch = await started()
    telling = Telling(watch, watch.digests.octets())
    await until(lambda: telling.synced)
    frames = telling.pipe.frames
    for number in range(10):
        watch.catalog.publish(SOURCE, Put(task(number, "TASK_LOST")))
        watch.catalog.flush()
    await until(lambda: len(telling.tasks()) == 10)
    assert telling.pipe.frames == frames + 1
    assert watch.counters.messages == 2 + 10
    assert [message["v"] for message in telling.pipe.sent[-2:]] == [f"{watch.epoch}.9", watch.position]
    await telling.end()


async def test_a_value_that_was_only_there_for_a_moment_is_not_told_for_good() -> None:
    """It goes and comes back within a turn of the loop, in which a slice is made: no delta ever says so."""
    watch = await started(*cluster(300))
    telling = Telling(watch)
    send = telling.pipe.send
    whole = watch.whole
    part = whole.part

    async def lose(message: bytes) -> None:
        await send(message)
        if b'"framework"' in message:
            watch.catalog.publish(SOURCE, Put(task(8, "TASK_LOST")))  # told before the slice of tasks
        elif b'"web.8"' in message and b'"drop"' in message:
            watch.catalog.publish(SOURCE, Put(task(7, "TASK_LOST")))

    def back(place: tuple[str, int]) -> tuple[int, bytes] | None:
        found = part(place)
        if place == ("task", bucket_of(task(7).key)):
            watch.catalog.publish(SOURCE, Put(task(7)))
        return found

    telling.pipe.send = lose  # type: ignore[method-assign]
    whole.part = back  # type: ignore[method-assign]
    await until(lambda: telling.synced)
    telling.pipe.send = send  # type: ignore[method-assign]
    watch.catalog.flush()
    await until(lambda: telling.pipe.sent[-1]["v"] == watch.position)
    assert telling.tasks()["web.8"] == "TASK_LOST"
    assert telling.tasks()["web.7"] == "TASK_RUNNING"
    await telling.end()


async def test_a_large_bucket_is_told_in_parts_while_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [n for n in range(30_000) if bucket_of(task(n).key) == 5]
    monkeypatch.setattr(watch_whole, "SLICE_OCTETS", 300)  # one task a message
    watch = await started(*cluster(0), *map(task, numbers))
    telling = Telling(watch)
    send = telling.pipe.send
    changes = iter(numbers[::-3])

    async def change(message: bytes) -> None:
        await send(message)
        if b'"buckets":[5]' in message and (number := next(changes, None)) is not None:
            watch.catalog.publish(SOURCE, Drop(task(numbers[numbers.index(number) - 1]).key))
            for state in ("TASK_KILLING", "TASK_LOST"):
                watch.catalog.publish(SOURCE, Put(task(number, state)))
                watch.catalog.flush()

    telling.pipe.send = change  # type: ignore[method-assign]
    await until(lambda: telling.synced)
    watch.catalog.flush()
    await until(lambda: telling.pipe.sent[-1]["v"] == watch.position)
    now = {entity.id: entity.state for entity in watch.catalog.entities("task") if isinstance(entity, Task)}
    assert 12 < len(now) < len(numbers)
    assert telling.tasks() == now
    told = [(t["id"], t["state"]) for m in telling.pipe.sent if m.get("kind") == "task" for t in m["put"]]
    for name in {name for name, _ in told}:
        states = [state for other, state in told if other == name]
        assert states == sorted(states, key=["TASK_RUNNING", "TASK_KILLING", "TASK_LOST"].index)  # never back
    await telling.end()


# --- when its host is judged --------------------------------------------------------------------------

HOST = "10.0.0.1"


class Judged:
    """A session whose host is judged by a clock that is moved by hand."""

    def __init__(self, watch: Watch) -> None:
        self.now = 0.0
        self.bursts = 0
        self.watch = watch
        self.pipe = Pipe()
        watch.hearing = Hearing(lambda: self.now)
        self.follower = Follower(watch, self.pipe, answers=True, host=HOST)
        watch.enter(self.follower)
        watch.hearing.enter(HOST)
        self.task = asyncio.create_task(self.follower.tell(""))

    def silent_after(self, seconds: float) -> bool:
        """Whether the host is silent after so long."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + STALL / 2)
            found = self.watch.hearing.look()
        return found == {HOST}

    async def pinged(self) -> bytes:
        """What a ping says that is sent after everything until now."""
        count = len(self.pipe.marks)
        await until(lambda: len(self.pipe.marks) >= count + 2)
        return self.pipe.marks[-1]

    async def synced(self) -> None:
        """It has been told everything, and has said so."""
        self.follower.said(answer_message(None).decode())
        await until(lambda: self.pipe.sent and self.pipe.sent[-1].get("synced"))
        self.follower.heard(await self.pinged())

    async def burst(self) -> None:
        """Much is told at once."""
        self.bursts += 1
        sent = len(self.pipe.sent)
        for number in range(100):
            labels = ((f"k{self.bursts}", "v" * (BULK // 100)),)
            self.watch.catalog.publish(SOURCE, Put(task(number, labels=labels)))
        await until(lambda: len(self.pipe.sent) > sent and self.follower._position == self.watch.journal.head)

    async def end(self) -> None:
        self.follower.end("gone")
        assert await self.task == "gone"
        self.watch.leave(self.follower, "gone")


async def test_a_host_is_judged_once_its_follower_has_taken_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    judged = Judged(await started())
    early = await judged.pinged()
    judged.follower.heard(b"9" * 19)  # more than it was ever sent
    judged.follower.said(answer_message(None).decode())
    await until(lambda: judged.pipe.sent[-1].get("synced"))
    late = await judged.pinged()
    assert not judged.silent_after(60)
    for mark in (b"", early, b"x", "\u0664".encode(), b"9" * 5000):
        judged.follower.heard(mark)
        assert not judged.silent_after(60)
    judged.follower.heard(late)
    assert not judged.silent_after(SILENT - 0.5)
    assert judged.silent_after(0.5)
    await judged.end()


async def test_a_host_to_which_a_burst_is_on_the_way_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    judged = Judged(await started())
    await judged.synced()
    before = await judged.pinged()
    await judged.burst()
    after = await judged.pinged()
    assert not judged.silent_after(SILENCE - 0.5)
    judged.follower.heard(before)  # the burst is still on the way
    assert not judged.silent_after(SILENCE - 0.5)
    judged.follower.heard(after)
    assert not judged.silent_after(SILENT - 0.5)
    assert judged.silent_after(0.5)
    await judged.burst()  # it is silent already
    assert judged.silent_after(0.5)
    await judged.end()


async def test_a_host_that_dies_in_a_burst_is_silent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    judged = Judged(await started())
    await judged.synced()
    await judged.burst()
    assert not judged.silent_after(SILENCE - 0.5)
    await judged.burst()  # what finds room in the buffers is no sign of life
    assert judged.silent_after(0.5)
    await judged.end()


async def test_room_that_was_waited_for_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    monkeypatch.setattr(watch_session, "WAITED", 0.02)
    judged = Judged(await started())
    await judged.synced()
    send = judged.pipe.send

    async def slow(message: bytes) -> None:
        assert not judged.silent_after(SILENCE - 1)
        await asyncio.sleep(0.02)
        await send(message)

    judged.pipe.send = slow  # type: ignore[method-assign]
    await judged.burst()
    assert not judged.silent_after(SILENCE - 1)
    judged.pipe.send = send  # type: ignore[method-assign]
    await judged.end()


async def test_a_long_way_to_catch_up_has_heartbeats_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_session, "BEAT", 0.01)
    monkeypatch.setattr(watch_journal, "SLICE_OCTETS", 200)
    watch = await started()
    telling = Telling(watch, watch.digests.octets())
    await until(lambda: telling.synced)
    behind: list[int] = []
    send, beat = telling.pipe.send, telling.pipe.beat

    async def slow(message: bytes) -> None:
        await asyncio.sleep(0.02)
        await send(message)

    async def counted(status: Callable[[], bytes], changed: bool, mark: bytes) -> None:
        behind.append(watch.journal.head - telling.follower._position)
        await beat(status, changed, mark)

    telling.pipe.send, telling.pipe.beat = slow, counted  # type: ignore[method-assign]
    for number in range(20):
        watch.catalog.publish(SOURCE, Put(task(number, "TASK_LOST")))
        watch.catalog.flush()
    await until(lambda: len(telling.tasks()) == 20)
    assert any(behind)
    await telling.end()
