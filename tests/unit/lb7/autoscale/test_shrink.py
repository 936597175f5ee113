"""Shrinking: who is marked, what is waited for, when it is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from lb7.autoscale.acting import Go
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.provider import Loads
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import AppTask, ScaledApp
from lb7.autoscale.shrink import MARGIN, Shrink
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.model import App, Key
from tests.fakes.acting import actor_of, changes, entity, running, settled, until
from tests.fakes.marathon import Marathons, app

pytestmark = pytest.mark.asyncio

WEB = App("/web", instances=4, framework_id="F")
LONG = 600.0


class Edges:
    """A Demand whose edges do what a test says; `marked` follows the drains unless `deaf`."""

    def __init__(self, active: Mapping[str, int], *, complete: bool = True, deaf: bool = False) -> None:
        self.kinds: frozenset[Any] = frozenset()
        self.active = dict(active)
        self.complete = complete
        self.deaf = deaf
        self.marked: frozenset[str] = frozenset()
        self.down: frozenset[str] = frozenset()
        self.waiting = 0
        self.looks = 0

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        raise NotImplementedError

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError

    def held(self, app: ScaledApp) -> int:
        return self.waiting

    async def loads(self, app: ScaledApp) -> Loads:
        self.looks += 1
        await asyncio.sleep(0)
        return Loads(dict(self.active), frozenset() if self.deaf else self.marked, self.complete, self.down)


class Marks:
    """Drains that are kept here, and told to the edges. `lost`: the coordinator can't be reached."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        self.log: list[tuple[str, tuple[str, ...]]] = []
        self.until = 0.0
        self.lost = False

    async def set(self, app: App, tasks: Sequence[str], until: float) -> None:
        if self.lost:
            raise CoordinatorLost("no session")
        self.log.append(("set", tuple(tasks)))
        self.until = until
        self.edges.marked = frozenset(tasks)

    async def clear(self, app: App, until: float | None = None) -> None:
        if self.lost:
            raise CoordinatorLost("no session")
        self.log.append(("clear", ()))
        self.edges.marked = frozenset()


class Actor:
    """Notes what it is asked for and answers with what it was given."""

    def __init__(self, result: Outcome | None = None) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.result = result
        self.called: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.waits: asyncio.Event | None = None
        self.reached = False
        self.has_nothing_to_do = False

    async def before_sending(self) -> None:
        if self.waits is not None:
            self.reached = True
            await self.waits.wait()

    async def scale(self, app: App, before: int, after: int, go: Go, started: int | None) -> Outcome:
        assert go()
        self.asked.append(("scale", before, after))
        return Outcome("done", instances=after)

    async def remove(self, app: App, before: int, victims: Sequence[str], go: Go) -> Outcome:
        await self.before_sending()
        if self.has_nothing_to_do:
            return Outcome("done", "there are so many already")
        if not go():
            return Outcome("changed", "no longer wanted")
        self.asked.append(("remove", before, *victims))
        if self.called is not None:
            await self.called()
        return self.result or Outcome("done", instances=before - len(victims))


def scaled(*names: str, app: App = WEB) -> ScaledApp:
    """An app with these tasks, each on an agent of its own, oldest first."""
    tasks = tuple(AppTask(name, node_id=f"S-{name}", started=float(at)) for at, name in enumerate(names, 1))
    return ScaledApp(app, Policy(min=0, max=10, metrics=(Metric(kind="rps", target=10),)), tasks=tasks)


def shrinking(actor: Any, edges: Edges, marks: Marks, drain_timeout: float = LONG, settle: float = 0.0) -> Shrink:
    return Shrink(actor, edges, marks, drain_timeout, poll=0.005, settle=settle)


def always() -> bool:
    return True


async def not_yet(work: Coroutine[Any, Any, Outcome], edges: Edges) -> None:
    """It goes on looking; then it is cancelled."""
    task = asyncio.create_task(work)
    looks = edges.looks
    await until(lambda: edges.looks > looks + 10)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_least_busy_are_drained_and_then_killed() -> None:
    edges = Edges({"a": 0, "b": 5, "c": 2, "d": 9})
    marks, actor = Marks(edges), Actor()
    shrink = shrinking(actor, edges, marks)
    began = time.time()
    work = asyncio.create_task(shrink.run(scaled(*"abcd"), 4, 2, always, always))
    await until(lambda: edges.looks > 5)
    assert marks.log == [("set", ("a", "c"))]
    assert began + LONG + MARGIN <= marks.until <= time.time() + LONG + MARGIN
    progress = shrink.progress(WEB.key)
    assert progress is not None
    assert (progress.state, progress.tasks, progress.busy) == ("draining", 2, 2)
    assert actor.asked == []
    edges.active["c"] = 0
    assert await work == Outcome("done", instances=2)
    assert actor.asked == [("remove", 4, "a", "c")]
    assert marks.log == [("set", ("a", "c"))]  # they stay marked: they are being killed
    assert shrink.progress(WEB.key) is None


async def test_an_edge_that_has_not_heard_of_it_is_waited_for() -> None:
    edges = Edges({"a": 0, "b": 0}, deaf=True)
    actor = Actor()
    work = asyncio.create_task(shrinking(actor, edges, Marks(edges)).run(scaled(*"ab"), 2, 1, always, always))
    await until(lambda: edges.looks > 10)
    assert not work.done()
    edges.deaf = False
    assert (await work).result == "done"


async def test_an_edge_that_does_not_answer_is_waited_for_until_the_timeout() -> None:
    edges = Edges({"a": 0, "b": 0}, complete=False)
    actor = Actor()
    await not_yet(shrinking(actor, edges, Marks(edges)).run(scaled(*"ab"), 2, 1, always, always), edges)
    assert actor.asked == []
    assert (await shrinking(actor, edges, Marks(edges), 0.05).run(scaled(*"ab"), 2, 1, always, always)).result == "done"
    assert actor.asked == [("remove", 2, "b")]


async def test_requests_that_do_not_end_are_waited_for_until_the_timeout() -> None:
    edges = Edges({"a": 3, "b": 3})
    actor = Actor()
    assert (await shrinking(actor, edges, Marks(edges), 0.1).run(scaled(*"ab"), 2, 1, always, always)).result == "done"
    assert actor.asked == [("remove", 2, "b")]
    assert (await shrinking(actor, edges, Marks(edges), 0.0).run(scaled(*"ab"), 2, 1, always, always)).result == "done"


async def test_an_app_that_no_edge_has_is_simply_removed_after_a_moment() -> None:
    edges = Edges({}, deaf=True)
    actor = Actor()
    await not_yet(shrinking(actor, edges, Marks(edges), settle=LONG).run(scaled(*"ab"), 2, 0, always, always), edges)
    assert actor.asked == []
    assert (
        await shrinking(actor, edges, Marks(edges), settle=0.05).run(scaled(*"ab"), 2, 0, always, always)
    ).result == "done"
    assert actor.asked == [("remove", 2, "b", "a")]


async def test_a_task_that_does_not_serve_is_not_waited_for_though_an_edge_calls_it_down() -> None:
    edges = Edges({"a": 0, "b": 0}, deaf=True)
    actor = Actor()
    broken = AppTask("a", ready=False)
    web = msgspec.structs.replace(scaled("b"), tasks=(broken, *scaled("b").tasks))
    assert (await shrinking(actor, edges, Marks(edges)).run(web, 2, 1, always, always)).result == "done"
    assert actor.asked == [("remove", 2, "a")]


async def test_a_task_that_is_down_for_edges_alone_is_not_waited_for_once_they_had_time_to_hear() -> None:
    edges = Edges({"a": 0, "b": 0}, deaf=True)
    edges.down = frozenset("b")
    actor = Actor()
    web = scaled(*"ab")
    await not_yet(shrinking(actor, edges, Marks(edges), settle=LONG).run(web, 2, 1, always, always), edges)
    assert (await shrinking(actor, edges, Marks(edges)).run(web, 2, 1, always, always)).result == "done"
    assert actor.asked == [("remove", 2, "b")]


async def test_instances_that_were_never_started_go_first() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    shrink = shrinking(actor, edges, marks)
    assert (await shrink.run(scaled(*"ab"), 5, 1, always, always)).instances == 2
    assert (await shrink.run(scaled(*"ab"), 5, 3, always, always)).instances == 3
    assert actor.asked == [("scale", 5, 2), ("scale", 5, 3)]
    assert marks.log == []


async def test_what_is_no_longer_wanted_is_given_up() -> None:
    edges = Edges({"a": 1, "b": 1})
    marks, actor = Marks(edges), Actor()
    wanted = [True, True, True, False]
    outcome = await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, lambda: wanted.pop(0), always)
    assert outcome.result == "changed"
    assert "no longer wanted" in outcome.text
    assert marks.log == [("set", ("b",)), ("clear", ())]
    assert actor.asked == []


async def test_what_is_no_longer_wanted_at_the_last_moment_is_given_up() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    assert (await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, lambda: False, always)).result == "changed"
    assert actor.asked == []


async def test_requests_that_wait_keep_an_app_from_going_to_sleep() -> None:
    edges = Edges({"a": 1})
    marks, actor = Marks(edges), Actor()
    work = asyncio.create_task(shrinking(actor, edges, marks).run(scaled("a"), 1, 0, always, always))
    await until(lambda: edges.marked)
    edges.active["a"], edges.waiting = 0, 2
    outcome = await work
    assert (outcome.result, "2 requests wait" in outcome.text) == ("changed", True)
    assert marks.log[-1] == ("clear", ())
    assert actor.asked == []
    edges.waiting = 2  # no reason to keep more than one
    assert (await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, always, always)).result == "done"


async def waiting(actor: Actor, work: Coroutine[Any, Any, Outcome]) -> asyncio.Task[Outcome]:
    """Shrinking up to where Marathon is to be asked, which it is not yet."""
    actor.waits = asyncio.Event()
    task = asyncio.create_task(work)
    await until(lambda: actor.reached)
    return task


async def test_what_is_no_longer_wanted_while_marathon_lets_itself_be_waited_for_is_given_up() -> None:
    edges, wanted = Edges({"a": 0, "b": 0}), [True]
    marks, actor = Marks(edges), Actor()
    shrink = shrinking(actor, edges, marks)
    work = await waiting(actor, shrink.run(scaled(*"ab"), 2, 1, lambda: wanted[0], always))
    progress = shrink.progress(WEB.key)
    assert progress is not None
    assert progress.state == "draining", "it can still be given up"
    wanted[0] = False
    assert actor.waits is not None
    actor.waits.set()
    assert (await work).result == "changed"
    assert marks.log[-1] == ("clear", ())
    assert actor.asked == []


async def test_requests_that_come_while_marathon_is_waited_for_keep_the_last_task() -> None:
    edges = Edges({"a": 0})
    marks, actor = Marks(edges), Actor()
    work = await waiting(actor, shrinking(actor, edges, marks).run(scaled("a"), 1, 0, always, always))
    edges.waiting = 1
    assert actor.waits is not None
    actor.waits.set()
    assert "requests wait" in (await work).text
    assert actor.asked == []


async def test_who_may_not_act_any_more_kills_nobody() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    outcome = await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, always, lambda: False)
    assert (outcome.result, actor.asked, marks.log[-1]) == ("changed", [], ("clear", ()))


async def test_nobody_is_killed_whose_mark_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb7.autoscale.shrink.MARGIN", 0.2)
    monkeypatch.setattr("lb7.autoscale.shrink.LEAST_LEFT", 0.2)
    edges = Edges({"a": 0, "b": 0})
    actor = Actor()
    shrink = shrinking(actor, edges, Marks(edges), 0.01)
    work = await waiting(actor, shrink.run(scaled(*"ab"), 2, 1, always, always))
    await asyncio.sleep(0.02)
    assert actor.waits is not None
    actor.waits.set()
    outcome = await work
    assert (outcome.result, "Marathon took so long" in outcome.text) == ("changed", True)
    assert actor.asked == []


async def test_cancelled_while_marathon_is_waited_for_nothing_is_killed_and_no_mark_is_left() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    work = await waiting(actor, shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, always, always))
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert (actor.asked, marks.log[-1]) == ([], ("clear", ()))


async def test_marks_that_could_not_be_taken_back_are_known_and_can_be_released() -> None:
    edges = Edges({"a": 1, "b": 1})
    marks = Marks(edges)
    shrink = shrinking(Actor(), edges, marks)
    work = asyncio.create_task(shrink.run(scaled(*"ab"), 2, 1, always, always))
    await until(lambda: edges.marked)
    marks.lost = True
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert shrink.has_left(WEB.key)
    with pytest.raises(CoordinatorLost):
        await shrink.release(WEB)
    marks.lost = False
    await shrink.release(WEB)
    assert (shrink.has_left(WEB.key), marks.log[-1]) == (False, ("clear", ()))


async def test_marks_that_were_left_are_no_more_where_others_are_set() -> None:
    edges = Edges({"a": 1, "b": 1})
    marks = Marks(edges)
    shrink = shrinking(Actor(), edges, marks)
    for _ in range(2):
        work = asyncio.create_task(shrink.run(scaled(*"ab"), 2, 1, always, always))
        looks = edges.looks
        await until(lambda looks=looks: edges.marked and edges.looks > looks + 3)  # type: ignore[misc]
        known = shrink.has_left(WEB.key)
        marks.lost = True
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert (known, shrink.has_left(WEB.key)) == (False, True)
        marks.lost = False


async def test_on_a_simulated_marathon_no_task_goes_in_place_of_one_that_was_thought_not_to_be_there() -> None:
    async with Marathons(app("/web", 3)) as marathon:
        tasks = running(marathon)
        edges = Edges(dict.fromkeys(tasks, 1))
        marks = Marks(edges)
        late = scaled(*tasks[:2], app=entity(marathon))  # a catalog that has not heard of the third
        outcome = await shrinking(actor_of(marathon), edges, marks).run(late, 3, 2, always, always)
        assert (outcome.result, outcome.instances) == ("changed", 3)
        assert changes(marathon) == []


async def test_cancelled_while_draining_nothing_is_killed_and_no_mark_is_left() -> None:
    edges = Edges({"a": 1, "b": 1})
    marks, actor = Marks(edges), Actor()
    shrink = shrinking(actor, edges, marks)
    work = asyncio.create_task(shrink.run(scaled(*"ab"), 2, 1, always, always))
    await until(lambda: edges.marked)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert marks.log == [("set", ("b",)), ("clear", ())]
    assert actor.asked == []
    assert shrink.progress(WEB.key) is None


async def test_cancelled_while_marathon_is_asked_the_marks_stay() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    asked = asyncio.Event()

    async def called() -> None:
        asked.set()
        await asyncio.Event().wait()

    actor.called = called
    shrink = shrinking(actor, edges, marks)
    work = asyncio.create_task(shrink.run(scaled(*"ab"), 2, 1, always, always))
    async with asyncio.timeout(30):
        await asked.wait()
    progress = shrink.progress(WEB.key)
    assert progress is not None
    assert progress.state == "sent"
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert marks.log == [("set", ("b",))]


@pytest.mark.parametrize(
    ("outcome", "cleared"),
    [
        (Outcome("uncertain"), False),
        (Outcome("locked"), True),
        (Outcome("changed"), True),
        (Outcome("unreachable"), True),
    ],
)
async def test_marks_are_taken_back_when_nobody_is_killed(outcome: Outcome, cleared: bool) -> None:
    edges = Edges({"a": 0, "b": 0})
    marks = Marks(edges)
    assert await shrinking(Actor(outcome), edges, marks).run(scaled(*"ab"), 2, 1, always, always) == outcome
    assert (marks.log[-1] == ("clear", ())) == cleared


async def test_marks_are_taken_back_when_there_were_so_few_already() -> None:
    """Somebody else has had others killed."""
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    actor.has_nothing_to_do = True
    assert (await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, always, always)).result == "done"
    assert marks.log[-1] == ("clear", ())


async def test_without_the_coordinator_nobody_is_killed() -> None:
    edges = Edges({"a": 0, "b": 0})
    marks, actor = Marks(edges), Actor()
    marks.lost = True
    outcome = await shrinking(actor, edges, marks).run(scaled(*"ab"), 2, 1, always, always)
    assert (outcome.result, outcome.retry_after) == ("unreachable", 5)
    assert actor.asked == []


async def test_several_apps_at_a_time() -> None:
    edges = Edges({"a": 0, "b": 1})
    actor = Actor()
    shrink = shrinking(actor, edges, Marks(edges))
    other = App("/other", instances=2, framework_id="F")
    busy = asyncio.create_task(shrink.run(scaled("b", app=other), 1, 0, always, always))
    await until(lambda: shrink.progress(other.key))
    edges.marked = frozenset("ab")
    assert (await shrink.run(scaled("a"), 1, 0, always, always)).result == "done"
    assert not busy.done()
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_on_a_simulated_marathon_exactly_the_least_busy_are_killed() -> None:
    async with Marathons(app("/web", 5)) as marathon:
        tasks = running(marathon)
        edges = Edges(dict(zip(tasks, (3, 0, 7, 1, 2), strict=True)))
        marks = Marks(edges)
        shrink = shrinking(actor_of(marathon), edges, marks)
        work = asyncio.create_task(shrink.run(scaled(*tasks, app=entity(marathon)), 5, 3, always, always))
        await until(lambda: edges.looks > 3)
        assert changes(marathon) == []
        edges.active[tasks[3]] = 0
        outcome = await work
        assert (outcome.result, outcome.instances) == ("done", 3)
        await settled(marathon)
        assert running(marathon) == [tasks[0], tasks[2], tasks[4]]
        assert marks.log == [("set", (tasks[1], tasks[3]))]


async def test_on_a_simulated_marathon_a_victim_that_died_changes_the_plan() -> None:
    async with Marathons(app("/web", 3)) as marathon:
        tasks = running(marathon)
        edges = Edges(dict.fromkeys(tasks, 1))
        marks = Marks(edges)
        work = asyncio.create_task(
            shrinking(actor_of(marathon), edges, marks).run(scaled(*tasks, app=entity(marathon)), 3, 2, always, always)
        )
        await until(lambda: edges.marked)
        (victim,) = edges.marked
        marathon.cluster.fail(marathon.simulated("/web").instances[victim].task)
        await until(lambda: len(running(marathon)) == 3)  # replaced
        edges.active.clear()
        assert (await work).result == "changed"
        assert marks.log[-1] == ("clear", ())
        assert changes(marathon) == []
