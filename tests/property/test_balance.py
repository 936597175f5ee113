"""Balancing over random weights, loads and stories, beside plain rules of who may be picked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lb7._balance import BALANCES, Cluster, Server
from lb7.settings import Settings
from lb7.table import Server as ServerSpec
from tests.balanced import NOW, cluster, number_of, numbered, pick, server, spec

balances = st.sampled_from(BALANCES)
weights = st.lists(st.integers(0, 9), min_size=1, max_size=8)
hashes = st.integers(0, 2**64 - 1)
servers = st.lists(
    st.builds(
        server,
        st.integers(1, 9),
        weight=st.sampled_from((0, 1, 1, 1, 5)),
        draining=st.sampled_from((False, False, False, True)),
        down=st.sampled_from((False, False, False, True)),
    ),
    unique_by=lambda value: value.id,
    max_size=7,
)


def weighted(given_weights: Iterable[int], balance: str) -> Cluster:
    return cluster(*(server(n, weight=weight) for n, weight in enumerate(given_weights, 1)), balance=balance)


def picks(made: Cluster, times: int) -> Counter[int]:
    return Counter(found for _ in range(times) if (found := pick(made)))


@given(weights, st.integers(1, 3))
def test_turns_are_exact_over_every_cycle(given_weights: list[int], cycles: int) -> None:
    made = weighted(given_weights, "roundrobin")
    for _ in range(cycles):
        assert picks(made, sum(given_weights)) == {n: w for n, w in enumerate(given_weights, 1) if w}


@given(weights, st.lists(st.integers(0, 20), max_size=60))
def test_fewest_requests_for_the_weight(given_weights: list[int], ends: list[int]) -> None:
    made = weighted(given_weights, "leastconn")
    busy: list[Server] = []
    for end in ends:
        picked = made.pick(NOW, 0, None, None)
        if picked is None:
            assert not any(given_weights)
            return
        least = min(one.active / one.weight for one in made.servers if one.weight)
        assert picked.active / picked.weight == least
        made.begin(picked, NOW)
        busy.append(picked)
        if end < len(busy):
            made.end(busy.pop(end))


@given(st.sets(st.integers(1, 200), min_size=2, max_size=30), st.lists(hashes, max_size=50), st.integers(1, 5))
def test_only_clients_of_a_server_that_goes_or_comes_move(numbers: set[int], clients: list[int], weight: int) -> None:
    specs = [server(number, weight=1 + number % weight) for number in sorted(numbers)]
    gone = min(numbers)
    whole, rest = cluster(*specs, balance="source"), cluster(*specs[1:], balance="source")
    for client in clients:
        before, after = pick(whole, hash=client), pick(rest, hash=client)
        assert before in (after, gone)
        assert after == pick(whole, hash=client, tried=[numbered(whole, gone)])


@given(servers, st.integers(0, 60), st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)), st.data())
def test_no_more_are_ejected_than_the_share(
    specs: list[ServerSpec], times: int, share: float, data: st.DataObject
) -> None:
    made = cluster(*specs, max_ejected=share, eject_after=2)
    for _ in range(times if specs else 0):
        made.timed_out(data.draw(st.sampled_from(made.servers)), NOW)
        ejected, most = ejection(made, share)
        assert ejected <= most
    made.change(spec(*specs[1:]), NOW)
    ejected, most = ejection(made, share)
    assert ejected <= most


def ejection(made: Cluster, share: float) -> tuple[int, int]:
    """How many are ejected, and may be."""
    count = sum(one.weight > 0 and not one.draining and not one.down for one in made.servers)
    most = 0 if count < 2 or not share else max(1, int(count * share + 1e-9))
    return sum(row["state"] == "ejected" for row in made.status()), most


@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 3), st.integers(0, 300), st.integers(0, 300)), max_size=30))
def test_retries_stay_within_their_budget(share: float, story: list[tuple[float, int, int]]) -> None:
    made = cluster(server(1), retry_budget=share)
    one, now = made.servers[0], NOW
    asked: list[tuple[int, int]] = []
    retried: list[int] = []
    for pause, requests, wishes in story:
        now += pause
        asked.append((int(now), requests))
        for _ in range(requests):
            made.begin(one, now)
        for _ in range(wishes):
            recent = sum(count for second, count in asked if second > int(now) - 10)
            spent = sum(second > int(now) - 10 for second in retried)
            allowed = made.may_retry(now)
            assert allowed == (spent < 100 + share * recent)
            if allowed:
                made.begin(one, now)
                retried.append(int(now))


class Model:
    """Who is there, and who of them may be picked."""

    def __init__(self, made: Cluster, limit: int) -> None:
        self.made, self.limit = made, limit
        self.active: Counter[str] = Counter()
        self.objects: dict[str, Server] = {}

    def take(self, specs: list[ServerSpec]) -> None:
        wanted = {value.id: value for value in specs}
        assert [one.id for one in self.made.servers] == list(wanted)
        for one in self.made.servers:
            value = wanted[one.id]
            assert (one.weight, one.down, one.draining, one.gone) == (value.weight, value.down, value.draining, False)
            assert self.objects.setdefault(one.id, one) is one
        for name in [name for name in self.objects if name not in wanted]:
            assert self.objects.pop(name).gone
            del self.active[name]

    def may_be_picked(self, now: float, tried: list[Server]) -> set[str]:
        self.made.has_servers(now)  # those whose time is over come back
        shown = {str(row["id"]): row["state"] for row in self.made.status()}
        service = [one for one in self.made.servers if one.weight and not one.down and not one.draining]
        ready = [one for one in service if shown[one.id] != "ejected"] or service
        room = [one for one in ready if not self.limit or one.active < self.limit]
        return {one.id for one in ([one for one in room if one not in tried] or room)}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), servers),
        st.tuples(st.sampled_from(("request", "retry", "end", "fail", "answer", "wait")), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(balances, st.sampled_from((0, 1, 2)), st.sampled_from((0.0, 5.0)), servers, steps)
def test_stories(
    balance: str, limit: int, slow: float, specs: list[ServerSpec], story: list[tuple[str, int | list[ServerSpec]]]
) -> None:
    settings = Settings(max_requests_per_server=limit, slow_start=slow, eject_after=2, eject_time=3.0)
    made = Cluster(spec(*specs, balance=balance), settings, NOW)
    model = Model(made, limit)
    model.take(specs)
    busy: list[Server] = []
    now = NOW
    for what, value in story:
        if isinstance(value, list):
            made.change(spec(*value, balance=balance), now)
            model.take(value)
        elif what == "wait":
            now += value / 10
        elif what in ("request", "retry"):
            tried = made.servers[: value % 3] if what == "retry" else []
            may = model.may_be_picked(now, tried)
            picked = made.pick(now, value, None, tried)
            assert (picked.id in may) if picked is not None else not may
            if picked is not None:
                made.begin(picked, now)
                busy.append(picked)
        elif busy:
            one = busy[value % len(busy)]
            if what == "end":
                busy.remove(one)
                made.end(one)
            elif what == "fail":
                made.was_reset(one, now)
            else:
                made.answered(one, now, value / 100, 200)
        assert {one: one.active for one in made.servers} == {one: busy.count(one) for one in made.servers}


class Request:
    """Waits for a server, takes it when there is one, and may give up."""

    def __init__(self, made: Cluster, number: int, served: list[int]) -> None:
        self.made, self.number, self.served = made, number, served
        self.server: Server | None = None

    def room(self) -> None:
        assert self.server is None
        self.server = self.made.pick(NOW, self.number, None, None)
        if self.server is not None:
            self.made.begin(self.server, NOW)
            self.served.append(self.number)
        else:
            assert self.made.wait(self)


@given(
    balances,
    st.lists(
        st.tuples(st.sampled_from(("come", "end", "give up", "turn", "more", "fewer")), st.integers(0, 30)), max_size=80
    ),
)
def test_no_place_stays_free_while_somebody_waits(balance: str, story: list[tuple[str, int]]) -> None:
    asyncio.run(queue_story(balance, story))


async def queue_story(balance: str, story: list[tuple[str, int]]) -> None:
    made = cluster(server(1), server(2), balance=balance, max_requests_per_server=2)
    served: list[int] = []
    waiting: list[Request] = []
    busy: list[Request] = []
    count = 0
    for what, value in story:
        if what == "come":
            count += 1
            waiting.append(Request(made, count, served))
            waiting[-1].room()
        elif what == "end" and busy:
            ended = busy.pop(value % len(busy))
            assert ended.server is not None
            made.end(ended.server)
        elif what == "give up" and any(one.server is None for one in waiting):
            left = [one for one in waiting if one.server is None]
            made.stop_waiting(left[value % len(left)])
            waiting.remove(left[value % len(left)])
        elif what in ("more", "fewer"):
            made.change(spec(server(1), *([server(2), server(3)] if what == "more" else []), balance=balance), NOW)
        elif what == "turn":
            await asyncio.sleep(0)
        busy += [one for one in waiting if one.server is not None]
        waiting = [one for one in waiting if one.server is None]
        assert made.waiting == len(waiting)
    for _ in range(3):
        await asyncio.sleep(0)
    assert served == sorted(served)
    free = sum(max(0, (made.spec.max_requests_per_server or 2) - one.active) for one in made.servers)
    left_waiting = sum(one.server is None for one in waiting)
    assert made.waiting == left_waiting
    assert not (free and left_waiting)


@given(st.integers(1, 40), st.integers(1, 30))
def test_new_servers_get_their_share_at_last(numbers: int, times: int) -> None:
    made = cluster(server(1), slow_start=10.0)
    specs = [server(number + 1) for number in range(numbers)]
    made.change(spec(*specs), NOW)
    for step in range(times):
        pick(made, NOW + step)
    pick(made, NOW + 100)
    found = Counter(pick(made, NOW + 100) for _ in range(numbers))
    assert found == {number_of(one): 1 for one in made.servers}
