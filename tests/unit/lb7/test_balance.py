"""lb7._balance: who is picked, and what a change of the cluster does."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
from msgspec import structs

from lb7._balance import BALANCES, LATENCY_BOUNDS, Cluster, Server
from lb7.settings import Settings
from tests.balanced import NOW, cluster, number_of, numbered, pick, server, spec, states


def picks(made: Cluster, times: int, now: float = NOW) -> Counter[int]:
    return Counter(pick(made, now, hash) for hash in range(times))


def load(made: Cluster, **active: int) -> None:
    """load(made, s1=3): three requests at server 1."""
    for name, times in active.items():
        for _ in range(times):
            made.begin(numbered(made, int(name[1:])), NOW)


# --- who can be picked ---


@pytest.mark.parametrize("balance", BALANCES)
def test_only_servers_in_service_are_picked(balance: str) -> None:
    made = cluster(
        server(1, down=True), server(2, draining=True), server(3, weight=0), server(4), server(5), balance=balance
    )
    assert set(picks(made, 200)) <= {4, 5}


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize(
    "servers",
    [(), (server(1, down=True), server(2, down=True)), (server(1, draining=True),), (server(1, weight=0),)],
    ids=["none", "down", "draining", "weight 0"],
)
def test_there_may_be_none(balance: str, servers: tuple[object, ...]) -> None:
    made = cluster(*servers, balance=balance)  # type: ignore[arg-type]
    assert pick(made) == 0
    assert not made.has_servers(NOW)


@pytest.mark.parametrize("balance", BALANCES)
def test_full_servers_are_passed_over(balance: str) -> None:
    made = cluster(server(1), server(2), server(3), balance=balance, max_requests_per_server=2)
    load(made, s1=2, s3=2)
    assert set(picks(made, 50)) == {2}
    load(made, s2=2)
    assert pick(made) == 0
    assert made.has_servers(NOW)
    made.end(numbered(made, 3))
    assert set(picks(made, 50)) == {3}


def test_the_clusters_own_limit_comes_before_the_settings() -> None:
    made = Cluster(spec(server(1), max_requests_per_server=1), Settings(max_requests_per_server=5), NOW)
    assert made.limit == 1
    load(made, s1=1)
    assert pick(made) == 0
    made.change(spec(server(1)), NOW)
    assert made.limit == 5
    assert pick(made) == 1
    made.change(spec(server(1), max_requests_per_server=1), NOW)
    assert pick(made) == 0


@pytest.mark.parametrize("balance", BALANCES)
def test_tried_servers_are_taken_only_when_there_is_no_other(balance: str) -> None:
    made = cluster(server(1), server(2), server(3), balance=balance)
    tried = [numbered(made, 1), numbered(made, 3)]
    assert {pick(made, hash=hash, tried=tried) for hash in range(50)} == {2}
    assert pick(made, tried=list(made.servers)) in {1, 2, 3}
    assert pick(made, tried=[]) in {1, 2, 3}


def test_turns_stay_level_when_one_server_always_fails() -> None:
    made = cluster(server(1), server(2), server(3))
    served: Counter[int] = Counter()
    for _ in range(60):
        tried: list[Server] = []
        while (picked := made.pick(NOW, 0, None, tried)) is numbered(made, 1):
            tried.append(picked)
        assert picked is not None
        served[number_of(picked)] += 1
    assert served == {2: 30, 3: 30}


# --- sticky clients ---


def test_a_cookie_names_its_server() -> None:
    made = cluster(server(1), server(2), server(3, weight=0), sticky="id")
    assert {pick(made, cookie="c2") for _ in range(10)} == {2}
    assert {pick(made, cookie="c3") for _ in range(10)} == {3}
    assert set(Counter(pick(made, cookie="stranger") for _ in range(10))) == {1, 2}


def test_a_cookie_says_nothing_where_clients_do_not_stick() -> None:
    made = cluster(server(1), server(2))
    assert {pick(made, cookie="c2") for _ in range(10)} == {1, 2}


def test_a_sticky_client_whose_server_cannot_take_it_gets_another() -> None:
    made = cluster(
        server(1, draining=True), server(2, down=True), server(3), server(4), sticky="id", max_requests_per_server=1
    )
    assert {pick(made, cookie=f"c{number}") for number in (1, 2) for _ in range(4)} == {3, 4}
    assert pick(made, cookie="c3", tried=[numbered(made, 3)]) == 4
    load(made, s3=1)
    assert pick(made, cookie="c3") == 4


# --- how ---


def test_equal_weights_take_turns() -> None:
    made = cluster(server(1), server(2), server(3))
    order = [pick(made) for _ in range(3)]
    assert sorted(order) == [1, 2, 3]
    assert [pick(made) for _ in range(6)] == order * 2


def test_weighted_turns_are_spread() -> None:
    made = cluster(server(1, weight=5), server(2), server(3))
    assert [pick(made) for _ in range(7)] == [1, 1, 2, 1, 3, 1, 1]


def test_a_changed_weight_counts_at_once() -> None:
    made = cluster(server(1, weight=100), server(2, weight=100), server(3, weight=1))
    picks(made, 101)
    made.change(spec(server(1), server(2), server(3, weight=2)), NOW)
    assert picks(made, 4) == {1: 1, 2: 1, 3: 2}


def test_fewest_requests_win_and_equals_take_turns() -> None:
    made = cluster(server(1), server(2), server(3), balance="leastconn")
    load(made, s1=2, s2=1, s3=2)
    assert set(picks(made, 5)) == {2}
    load(made, s2=1)
    assert picks(made, 9) == {1: 3, 2: 3, 3: 3}


def test_fewest_requests_are_for_the_weight() -> None:
    made = cluster(server(1, weight=9), server(2, weight=1), balance="leastconn")
    assert picks(made, 100) == {1: 90, 2: 10}  # idle both
    load(made, s1=5, s2=1)
    assert pick(made) == 1
    load(made, s1=5)
    assert pick(made) == 2


def test_the_better_of_two_has_the_lower_latency_and_load() -> None:
    made = cluster(server(1), server(2), balance="p2c")
    slow, fast = numbered(made, 1), numbered(made, 2)
    made.answered(slow, NOW, 0.3, 200)
    made.answered(fast, NOW, 0.1, 200)
    assert set(picks(made, 50)) == {2}
    load(made, s2=3)  # 0.3 x 1 against 0.1 x 4
    assert set(picks(made, 50)) == {1}


def test_a_server_without_an_answer_yet_is_tried_once_not_flooded() -> None:
    made = cluster(server(1), server(2), balance="p2c")
    made.answered(numbered(made, 1), NOW, 0.1, 200)
    assert set(picks(made, 20)) == {2}
    load(made, s2=1)
    assert set(picks(made, 20)) == {1}


def test_a_peak_of_latency_counts_at_once_and_fades() -> None:
    made = cluster(server(1), balance="p2c")
    one = numbered(made, 1)
    made.answered(one, NOW, 0.1, 200)
    made.answered(one, NOW + 1, 2.0, 200)
    assert made.status()[0]["latency"] == 2.0
    made.answered(one, NOW + 1, 0.1, 200)
    assert made.status()[0]["latency"] == 2.0
    made.answered(one, NOW + 11, 0.1, 200)
    assert made.status()[0]["latency"] == pytest.approx(1.05)


def test_a_slow_server_is_asked_again_after_a_while() -> None:
    made = cluster(server(1), server(2), balance="p2c")
    made.answered(numbered(made, 1), NOW, 1.0, 200)
    made.answered(numbered(made, 2), NOW, 0.1, 200)
    assert set(picks(made, 20)) == {2}
    later = NOW + 1000
    made.answered(numbered(made, 2), later, 0.1, 200)
    assert set(picks(made, 20, later)) == {1}


@pytest.mark.parametrize("balance", ["p2c", "random"])
def test_chance_follows_weights(balance: str) -> None:
    made = cluster(server(1, weight=3), server(2, weight=1), balance=balance)
    found = picks(made, 4000)
    assert 2700 < found[1] < 3300


def test_chance_of_equal_weights_reaches_all_alike() -> None:
    found = picks(cluster(*(server(number) for number in range(1, 11)), balance="random"), 10_000)
    assert set(found) == set(range(1, 11))
    assert all(800 < times < 1200 for times in found.values())


def test_the_same_client_gets_the_same_server_in_every_process() -> None:
    servers = [server(number) for number in range(1, 6)]
    one, other = cluster(*servers, balance="source"), cluster(*reversed(servers), balance="source")
    found = [pick(one, hash=hash) for hash in range(500)]
    assert found == [pick(other, hash=hash) for hash in range(500)]
    assert found[:12] == [pick(one, hash=hash) for hash in range(12)]
    assert all(60 < times < 140 for times in Counter(found).values())


def test_hashing_follows_weights() -> None:
    found = picks(cluster(server(1, weight=3), server(2, weight=1), balance="source"), 4000)
    assert 2700 < found[1] < 3300


def test_the_first_with_room_is_filled_first() -> None:
    made = cluster(server(3), server(1), server(2), balance="first", max_requests_per_server=2)
    order = []
    for _ in range(6):
        order.append(pick(made))
        load(made, **{f"s{order[-1]}": 1})
    assert order == [3, 3, 1, 1, 2, 2]


# --- slow start ---


def test_a_new_server_starts_slowly() -> None:
    made = cluster(server(1), slow_start=100.0)
    assert states(made) == {1: "up"}  # with it the cluster began
    made.change(spec(server(1), server(2)), NOW)
    assert states(made) == {1: "up", 2: "slow-start"}
    assert picks(made, 110) == {1: 100, 2: 10}
    assert 30 <= picks(made, 90, NOW + 50)[2] <= 31
    assert picks(made, 10, NOW + 101) == {1: 5, 2: 5}
    assert states(made) == {1: "up", 2: "up"}


def test_a_server_that_was_down_starts_slowly() -> None:
    made = cluster(server(1), server(2, down=True), slow_start=100.0)
    made.change(spec(server(1), server(2)), NOW)
    assert states(made)[2] == "slow-start"
    made.change(spec(server(1), server(2)), NOW + 101)
    pick(made, NOW + 101)
    assert states(made)[2] == "up"


# --- changes ---


class Idle:
    """A connection that waits for a request."""

    def __init__(self) -> None:
        self.told = 0

    def server_gone(self) -> None:
        self.told += 1


def test_servers_that_stay_keep_what_is_known_of_them() -> None:
    made = cluster(server(1), server(2))
    one, two = made.servers
    kept, closed = Idle(), Idle()
    one.idle.append(kept)
    two.idle.append(closed)
    load(made, s1=2, s2=1)
    made.change(spec(server(3), server(1, weight=7, task="t", draining=True, cookie="new")), NOW)
    assert [number_of(each) for each in made.servers] == [3, 1]
    assert made.servers[1] is one
    assert (one.active, one.weight, one.task, one.draining, one.cookie) == (2, 7, "t", True, b"new")
    assert (one.gone, two.gone) == (False, True)
    assert (one.idle, kept.told) == ([kept], 0)
    assert (two.idle, closed.told) == ([], 1)
    made.end(two)
    assert two.active == 0
    made.change(spec(server(2)), NOW)
    assert made.servers[0] is not two


def test_a_server_given_twice_is_one() -> None:
    made = cluster(server(1), server(1, weight=9))
    assert [each.weight for each in made.servers] == [1]


def test_a_closed_cluster_has_no_servers() -> None:
    made = cluster(server(1), max_requests_per_server=1)
    one = made.servers[0]
    idle = Idle()
    one.idle.append(idle)
    load(made, s1=1)
    made.close()
    assert one.gone
    assert idle.told == 1
    assert pick(made) == 0
    assert not made.has_servers(NOW)
    made.end(one)
    assert one.active == 0


def test_a_closed_cluster_goes_by_itself() -> None:
    gc.collect()
    gc.disable()  # workers collect cycles seldom: apps that come and go must not leave any
    try:
        before = {id(one) for one in gc.get_objects() if isinstance(one, Cluster)}
        made = cluster(server(1), server(2))
        made.close()
        assert not made.wait(Idle())  # type: ignore[arg-type]
        del made
        assert not [one for one in gc.get_objects() if isinstance(one, Cluster) and id(one) not in before]
    finally:
        gc.enable()


def test_an_unknown_way_of_balancing_changes_nothing() -> None:
    made = cluster(server(1))
    with pytest.raises(ValueError, match="tuple"):
        made.change(spec(server(2), balance="best"), NOW)
    assert pick(made) == 1


# --- numbers ---


def test_room_of_a_route() -> None:
    made = cluster(server(1), max_requests_per_route=2)
    assert [made.admit() for _ in range(3)] == [True, True, False]
    assert made.active == 2
    made.leave()
    assert made.admit()
    counts = made.counts_dict()
    assert (counts["requests"], counts["overflow"]) == (3, 1)


def test_answers_are_counted_by_status_and_latency() -> None:
    made = cluster(server(1), eject_after=0)
    one = made.servers[0]
    for latency, status in ((0.0, 200), (0.001, 204), (0.0011, 302), (60.0, 404), (61.0, 503)):
        made.begin(one, NOW)
        made.answered(one, NOW, latency, status)
        made.end(one)
    counts = made.counts_dict()
    assert counts["status"] == [0, 0, 2, 1, 1, 1]
    assert counts["latency"] == [2, 1, *[0] * (len(LATENCY_BOUNDS) - 3), 1, 1]
    assert counts["latency_sum"] == pytest.approx(121.0021)
    assert (one.requests, one.failures, one.active) == (5, 1, 0)


def test_failures_are_counted_by_kind() -> None:
    made = cluster(server(1))
    one = made.servers[0]
    made.connect_failed(one, NOW)
    made.was_reset(one, NOW)
    made.was_reset(one, NOW)
    made.timed_out(one, NOW)
    made.connected(one, NOW, 0.01)
    counts = made.counts_dict()
    assert (counts["connect_failures"], counts["resets"], counts["timeouts"]) == (1, 2, 1)
    assert counts["status"] == [0] * 6
    assert one.failures == 4


def test_status_shows_each_server() -> None:
    made = cluster(server(1, task="t1"), server(2, down=True), server(3, draining=True), server(4, weight=0))
    load(made, s1=2)
    assert states(made) == {1: "up", 2: "down", 3: "draining", 4: "up"}
    assert made.status()[0] == {
        "id": "10.0.0.1:80",
        "task": "t1",
        "state": "up",
        "weight": 1,
        "active": 2,
        "connections": 0,
        "requests": 2,
        "failures": 0,
        "latency": 0.0,
    }
    assert repr(made) == "<Cluster /app:10000 servers=4 ready=1 active=0>"
    assert repr(made.servers[0]) == "<Server 10.0.0.1:80 active=2>"


def test_an_apps_own_limit_is_divided_among_the_workers() -> None:
    limited = structs.replace(spec(server(1)), max_requests_per_server=5)
    assert [Cluster(limited, Settings(workers=workers), 0.0).limit for workers in (1, 2, 9)] == [5, 3, 1]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_all_servers_have_their_turn_however_many_there_are(count: int) -> None:
    made = cluster(*map(server, range(1, count + 1)))
    first = [pick(made) for _ in range(count)]
    assert sorted(first) == list(range(1, count + 1))
    assert [pick(made) for _ in range(count)] == first
    made.change(spec(server(count)), NOW)
    assert {pick(made) for _ in range(3)} == {count}
    made.close()
    assert made.pick(NOW, 0, None, None) is None
