"""lb7._balance: what of a cluster's counters is new is told once, and adds up to all there is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7._balance import Cluster, Tally, grown_of
from tests.balanced import NOW, cluster, server
from tests.fakes.cluster_counts import grown, read, words

STEPS = ("admit", "answer", "slow answer", "error", "reset", "timeout", "retry", "overflow")
PLACES = sum(len(value) if isinstance(value, list) else 1 for value in words().values())


def count(made: Cluster, step: str) -> None:
    one = made.servers[0]
    if step == "admit":
        made.admit()
    elif step == "answer":
        made.answered(one, NOW, 0.25, 200)
    elif step == "slow answer":
        made.answered(one, NOW, 100.5, 302)
    elif step == "error":
        made.answered(one, NOW, 0.125, 500)
    elif step == "reset":
        made.was_reset(one, NOW)
    elif step == "timeout":
        made.timed_out(one, NOW)
    elif step == "retry":
        made.may_retry(NOW)
    else:
        made.connect_failed(one, NOW)


def test_only_what_is_new_is_told_and_only_of_those_that_counted() -> None:
    some = [cluster(server(1)) for _ in range(4)]
    for made in some[1:]:
        count(made, "answer")
    told, _ = grown_of(some, 0, 3)
    assert [name for name, _ in told] == [some[1].name, some[2].name]
    assert read(told[0][1]) == {
        "status": [0, 0, 1, 0, 0, 0],
        "latency": [0] * 7 + [1] + [0] * 8,
        "latency_sum": 0.25,
    }
    assert grown_of(some, 0, 3) == ([], [])
    count(some[2], "reset")
    ((_, more),) = grown_of(some, 0, 3)[0]
    assert read(more) == {"resets": 1}
    assert len(grown_of(some, 3, 9)[0]) == 1


def test_those_that_have_requests() -> None:
    some = [cluster(server(1)) for _ in range(3)]
    some[1].admit()
    assert grown_of(some, 0, 3)[1] == [some[1]]
    assert grown_of(some, 2, 3)[1] == []
    some[1].leave()
    assert grown_of(some, 0, 3)[1] == []


@given(st.lists(st.lists(st.sampled_from(STEPS), max_size=5), max_size=6))
def test_the_sum_of_what_is_told_is_what_was_counted(rounds: list[list[str]]) -> None:
    made, tally = cluster(server(1)), Tally()
    for steps in [*rounds, []]:
        for step in steps:
            count(made, step)
        for _, told in grown_of([made], 0, 1)[0]:
            tally.add(told)
    counted = {
        word: value for word, value in made.counts_dict().items() if (any(value) if isinstance(value, list) else value)
    }
    assert tally.counts_dict() == counted


def test_totals_of_several() -> None:
    tally = Tally()
    assert tally.counts_dict() == {}
    tally.add(grown({"requests": 2, "latency": [1], "latency_sum": 0.5}))
    tally.add(grown({"requests": 3, "latency": [0, 4], "latency_sum": 0.25, "unauthorized": 1}))
    assert tally.counts_dict() == {
        "requests": 5,
        "latency": [1, 4] + [0] * 14,
        "latency_sum": 0.75,
        "unauthorized": 1,
    }


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x01",
        grown({"requests": 1})[:-1],
        grown({"requests": 1}) + b"\0",
        grown({"requests": 1}) + bytes(8),
        struct.pack("QQ", 1 << PLACES, 1),
        struct.pack("QQ", 1 << 63, 1),
        struct.pack("Q", 3) + bytes(8),
    ],
)
def test_what_no_cluster_has_counted_is_refused(octets: bytes) -> None:
    tally = Tally()
    with pytest.raises(ValueError, match="counted"):
        tally.add(octets)
    assert tally.counts_dict() == {}


def test_the_last_place_can_be_told() -> None:
    assert read(struct.pack("QQ", 1 << PLACES - 1, 7)) == {"hold_timeouts": 7}
    assert read(struct.pack("Q", 0)) == {}
