"""Carrying out one decision: the intent first, then Marathon; given up, ended, or failed in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from lb7.autoscale.acting import Go, at_any_time
from lb7.autoscale.app_state import AppState
from lb7.autoscale.carrier import ASK_TIME, MOST_ASKED, Carrier
from lb7.autoscale.decide import Decision
from lb7.autoscale.history import History
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.state import Record
from lb7.autoscale.state_store import StateStore
from mesos_dns.model import App, Key
from tests.fakes.memory_coordinator import MemoryCoordinator
from tests.fakes.scaling import Hands, World, until
from tests.fakes.virtual_time import run

POLICY = Policy(max=9, metrics=(Metric(kind="rps", target=100),))


def decision(current: int, instances: int) -> Decision:
    return Decision(
        instances=instances, current=current, wanted=instances, reason="up", low=1, high=9, history=History()
    )


class Bench:
    """One app, its state, and who carries out what is decided about it."""

    def __init__(self, instances: int = 2) -> None:
        self.world = World()
        self.key = self.world.add("/web", instances, POLICY)
        self.coordinator: MemoryCoordinator = self.world.memory.client()
        self.hands = Hands(self.world, "one")
        self.leading = True
        self.results: Counter[str] = Counter()
        self.ended: list[AppState] = []
        kind, cluster, framework, app = self.key
        self.state = AppState(Record((kind, cluster, framework, app)), 0.0, 0.0)
        self.store = StateStore(
            self.coordinator,
            "one",
            lambda number: [self.state.record()] if number == self.state.shard else [],
        )
        self.unasked: dict[Key, float] = {}
        self.carrier = self.carrier_with(self.hands)

    def carrier_with(self, hands: Hands) -> Carrier:
        return Carrier(
            hands,
            hands,
            self.store,
            lambda: self.leading,
            self.ended.append,
            lambda: 5.0,
            self.results,
            self.unasked,
        )

    def begin(self, current: int, instances: int) -> None:
        self.carrier.begin(self.state, self.world.apps()[self.key], decision(current, instances))


def test_the_intent_is_stored_before_marathon_is_asked() -> None:
    async def main() -> None:
        it = Bench()
        await it.store.take_over()
        seen: list[bool] = []

        def look(who: str, key: object) -> None:
            seen.append(b'"intent":{"before":2,"after":5' in it.world.memory.values[_shard(it)].value)

        it.world.stage.before_ask = look
        it.begin(2, 5)
        await until(lambda: it.ended)
        assert (seen, it.results, it.state.change, it.unasked) == ([True], Counter(done=1), None, {})
        await it.store.flush()
        assert b'"intent"' not in it.world.memory.values[_shard(it)].value

    run(main())


def test_without_leading_nothing_is_asked() -> None:
    async def main() -> None:
        it = Bench()
        await it.store.take_over()

        def depose(key: str) -> None:
            it.leading = False

        it.coordinator.before_put = depose
        it.begin(2, 5)
        await asyncio.sleep(5)
        assert (it.world.tries, it.results, it.state.intent) == (0, Counter(unreachable=1), None)
        assert it.unasked == {it.key: 5.0}

    run(main())


def test_marathon_that_never_answers_is_uncertain() -> None:
    async def main() -> None:
        it = Bench()
        await it.store.take_over()
        it.world.dead.add("one")
        it.begin(2, 5)
        await asyncio.sleep(ASK_TIME - 1)
        assert it.ended == []
        await until(lambda: it.ended)
        assert it.results == Counter(uncertain=1)
        assert it.state.intent is not None

    run(main())


@pytest.mark.parametrize(("sent", "result"), [(True, "uncertain"), (False, "unreachable")])
def test_a_fault_of_ours_is_uncertain_if_something_was_sent(sent: bool, result: str) -> None:
    class Broken(Hands):
        async def scale(self, app: App, before: int, after: int, go: Go = at_any_time) -> Outcome:
            assert not sent or go()
            raise RuntimeError("a fault")

    async def main() -> None:
        it = Bench()
        it.carrier = it.carrier_with(Broken(it.world, "one"))
        await it.store.take_over()
        it.begin(2, 5)
        await until(lambda: it.ended)
        assert it.results == Counter({result: 1})

    run(main())


def test_what_drains_can_be_given_up_and_what_is_sent_can_not() -> None:
    async def main() -> None:
        it = Bench(6)
        await it.store.take_over()
        it.begin(6, 2)
        await until(lambda: it.hands.progress(it.key))
        it.carrier.give_up(it.state, "more load")
        it.carrier.give_up(it.state, "more load")
        await until(lambda: it.ended)
        assert (it.results, it.world.tries, it.world.cleared) == (Counter({"given-up": 1}), 0, [it.key])
        it.carrier.give_up(it.state, "nothing is under way")
        it.world.think = 5.0
        it.begin(6, 2)
        await until(lambda: (found := it.hands.progress(it.key)) and found.state == "sent")
        it.carrier.give_up(it.state, "too late")
        await until(lambda: len(it.ended) == 2)
        assert it.results["done"] == 1

    run(main())


def test_one_that_is_given_up_before_it_begins_leaves_the_app_free() -> None:
    async def main() -> None:
        it = Bench(6)
        await it.store.take_over()
        it.begin(6, 2)
        it.carrier.give_up(it.state, "more load")
        await until(lambda: it.ended)
        assert (it.state.change, it.state.intent, it.results) == (None, None, Counter({"given-up": 1}))

    run(main())


def test_they_end_where_they_are() -> None:
    async def main() -> None:
        it = Bench(6)
        await it.store.take_over()
        it.begin(6, 2)
        await until(lambda: it.hands.progress(it.key))
        it.leading = False
        await it.carrier.stop()
        assert (it.ended, it.world.tries, it.world.cleared) == ([], 0, [it.key])
        assert it.state.intent is None, "nothing was asked for: who leads next need not wonder"
        assert it.state.action is not None
        assert it.state.action.state == "given-up"

    run(main())


def test_instances_that_were_never_started_are_not_given_up_once_they_were_asked_for() -> None:
    class Unstarted(Hands):
        async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool], go: Go) -> Outcome:
            return await self.scale(app.app, before, after, go)

    async def main() -> None:
        it = Bench(6)
        it.world.think = 5.0
        it.carrier = it.carrier_with(Unstarted(it.world, "one"))
        await it.store.take_over()
        it.begin(6, 2)
        await until(lambda: it.world.asked)
        it.carrier.give_up(it.state, "more load")
        await until(lambda: it.ended)
        assert (it.results, it.state.intent) == (Counter(done=1), None)

    run(main())


def test_one_that_puts_things_in_order_is_not_cut_off_when_leading_ends() -> None:
    class Slow(Hands):
        async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool], go: Go) -> Outcome:
            try:
                return await super().run(app, before, after, still, go)
            finally:
                await asyncio.sleep(2)
                put_back.append(app.key)

    put_back: list[Key] = []

    async def main() -> None:
        it = Bench(6)
        hands = Slow(it.world, "one")
        it.carrier = it.carrier_with(hands)
        await it.store.take_over()
        it.begin(6, 2)
        await until(lambda: hands.progress(it.key))
        it.carrier.give_up(it.state, "more load")
        await asyncio.sleep(1)
        await it.carrier.stop()
        assert put_back == [it.key]

    run(main())


def test_there_is_room_for_so_many_and_for_one_that_wakes() -> None:
    async def main() -> None:
        it = Bench(6)
        app = it.world.apps()[it.key]
        await it.store.take_over()
        it.begin(6, 2)
        for _ in range(MOST_ASKED):
            assert it.carrier.has_room(app, decision(2, 5))
            it.begin(2, 5)
        assert not it.carrier.has_room(app, decision(2, 5))
        assert it.carrier.has_room(app, decision(0, 5))
        assert it.carrier.has_room(app, decision(5, 2)), "those that drain are counted apart"
        elsewhere = it.world.add("/web", 2, POLICY, "marathon-2")
        assert it.carrier.has_room(it.world.apps()[elsewhere], decision(2, 5))
        await it.carrier.stop()
        assert it.carrier.has_room(app, decision(2, 5))

    run(main())


def _shard(it: Bench) -> str:
    return f"autoscale/state/{it.state.shard:02d}"
