"""lb7._balance: servers that fail are left alone for a while, and retries have a budget."""

from __future__ import annotations

import pytest

from lb7._balance import Cluster
from tests.balanced import NOW, cluster, fail, numbered, pick, server, spec, states


def seen(made: Cluster, now: float = NOW) -> set[int]:
    return {pick(made, now) for _ in range(20)}


def test_failures_in_a_row_eject() -> None:
    made = cluster(server(1), server(2))
    fail(made, 1, 4)
    assert seen(made) == {1, 2}
    fail(made, 1)
    assert seen(made) == {2}
    assert states(made) == {1: "ejected", 2: "up"}
    assert made.counts_dict()["ejections"] == 1
    assert seen(made, NOW + 9.9) == {2}
    assert seen(made, NOW + 10.1) == {1, 2}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_bad_answers_are_failures_and_good_ones_clear_the_record(status: int) -> None:
    made = cluster(server(1), server(2))
    one = numbered(made, 1)
    for answer in (status, status, status, status, 499, status, status, status, status):
        made.answered(one, NOW, 0.1, answer)
    assert seen(made) == {1, 2}
    made.answered(one, NOW, 0.1, status)
    assert seen(made) == {2}


def test_each_time_in_a_row_is_longer_up_to_a_limit() -> None:
    made = cluster(server(1), server(2), eject_time=100.0)
    now = NOW
    for seconds in (100, 200, 300, 300):
        fail(made, 1, 5, now)
        assert seen(made, now + seconds - 1) == {2}
        now += seconds + 1
        assert seen(made, now) == {1, 2}
    made.connected(numbered(made, 1), now, 0.1)
    fail(made, 1, 5, now)
    assert seen(made, now + 99) == {2}
    assert seen(made, now + 101) == {1, 2}


def test_what_a_server_had_before_does_not_prolong_or_end_it() -> None:
    made = cluster(server(1), server(2))
    fail(made, 1, 50)
    assert made.counts_dict()["ejections"] == 1
    made.answered(numbered(made, 1), NOW + 1, 0.1, 200)
    assert seen(made, NOW + 9) == {2}
    assert seen(made, NOW + 11) == {1, 2}


@pytest.mark.parametrize(
    ("servers", "share", "most"), [(1, 1.0, 0), (2, 0.1, 1), (2, 1.0, 2), (10, 0.5, 5), (10, 0.29, 2), (10, 0.0, 0)]
)
def test_no_more_than_the_share_are_ejected(servers: int, share: float, most: int) -> None:
    made = cluster(*(server(number + 1) for number in range(servers)), max_ejected=share)
    for number in range(servers):
        fail(made, number + 1, 20)
    assert list(states(made).values()).count("ejected") == most


def test_servers_out_of_service_are_not_ejected_and_do_not_count() -> None:
    made = cluster(server(1), server(2, down=True), server(3, draining=True), server(4, weight=0))
    for number in (1, 2, 3, 4):
        fail(made, number, 20)
    assert made.counts_dict()["ejections"] == 0


def test_when_all_are_ejected_all_are_used_until_one_answers() -> None:
    made = cluster(server(1), server(2), server(3, down=True), max_ejected=1.0, sticky="id")
    fail(made, 1, 5)
    assert pick(made, cookie="c1") == 2
    fail(made, 2, 5)
    assert seen(made) == {1, 2}
    assert pick(made, cookie="c1") == 1
    assert made.has_servers(NOW)
    made.answered(numbered(made, 2), NOW + 1, 0.1, 200)
    assert seen(made, NOW + 1) == {2}
    assert states(made) == {1: "ejected", 2: "up", 3: "down"}


def test_when_others_have_gone_those_ejected_first_come_back() -> None:
    made = cluster(*(server(number) for number in range(1, 7)))
    for number in (1, 2, 3):
        fail(made, number, 5, NOW + number)
    made.change(spec(*(server(number) for number in range(1, 5))), NOW + 4)
    assert states(made) == {1: "up", 2: "ejected", 3: "ejected", 4: "up"}
    made.change(spec(server(2)), NOW + 4)
    assert states(made) == {2: "up"}


def test_a_server_that_was_down_begins_with_a_clear_record() -> None:
    made = cluster(server(1), server(2))
    fail(made, 1, 5)
    made.change(spec(server(1, down=True), server(2)), NOW)
    made.change(spec(server(1), server(2)), NOW)
    assert seen(made) == {1, 2}


def test_a_gone_server_concerns_nobody() -> None:
    made = cluster(server(1), server(2), server(3))
    gone = numbered(made, 1)
    made.change(spec(server(2), server(3)), NOW)
    for _ in range(10):
        made.timed_out(gone, NOW)
    assert made.counts_dict()["ejections"] == 0
    assert gone.failures == 10


def test_ejection_can_be_turned_off() -> None:
    made = cluster(server(1), server(2), eject_after=0)
    fail(made, 1, 100)
    assert seen(made) == {1, 2}


# --- the budget of retries ---


def begin(made: Cluster, times: int, now: float) -> None:
    for _ in range(times):
        made.begin(made.servers[0], now)
        made.end(made.servers[0])


def retries(made: Cluster, now: float) -> int:
    """How many it allows now; each is carried out."""
    allowed = 0
    while made.may_retry(now):
        begin(made, 1, now)
        allowed += 1
        assert allowed < 100_000
    return allowed


def test_ten_a_second_are_always_allowed() -> None:
    made = cluster(server(1))
    assert retries(made, NOW) == 100
    assert retries(made, NOW + 5) == 0
    assert retries(made, NOW + 10) == 100
    assert made.counts_dict()["retries"] == 200
    assert made.counts_dict()["retries_refused"] == 3


def test_a_share_of_the_requests_comes_on_top() -> None:
    made = cluster(server(1), retry_budget=0.2)
    begin(made, 500, NOW)
    begin(made, 500, NOW + 9)
    assert retries(made, NOW + 9) == 300
    assert retries(made, NOW + 1000) == 100  # those requests are long past


def test_retries_are_no_requests() -> None:
    made = cluster(server(1), retry_budget=1.0)
    begin(made, 100, NOW)
    assert retries(made, NOW) == 200


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    made = cluster(server(1))
    begin(made, 1, NOW)
    begin(made, 1, NOW - 100)
    assert retries(made, NOW - 100) == 101
