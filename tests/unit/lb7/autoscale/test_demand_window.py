"""What one edge counted over the window, against a model that keeps every block."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale import demand_window
from lb7.autoscale.demand_window import BUCKETS, TICKS, EdgeWindow, Sums
from lb7.demand_shapes import DemandBlock, DemandRow
from tests.fakes.telling_edge import KEY, block, row


def window_of(*blocks: DemandBlock, seconds: float = 10.0) -> EdgeWindow:
    window = EdgeWindow(seconds)
    for each in blocks:
        window.take(each)
    return window


def sums(window: EdgeWindow, key: Any = KEY) -> Sums:
    found = window.sums(key)
    assert found is not None
    return found


def test_a_rate_is_what_came_in_the_time() -> None:
    window = window_of(block(1, row(requests=100)), block(2, row(requests=110)), block(3, row(requests=140)))
    assert sums(window).requests == 20
    assert sums(window_of(*(block(n, row(requests=n * n)) for n in range(1, 31)))).requests == (900 - 400) / 10


def test_it_begins_with_two_blocks_a_second_apart() -> None:
    window = EdgeWindow(10)
    assert not window.known
    window.take(block(1, row(requests=100)))
    assert window.known
    assert not window.ready
    window.take(block(2, row(requests=101), uptime=1.5))
    assert not window.ready
    assert sums(window).requests == 0
    window.take(block(3, row(requests=102), uptime=2.0))
    assert window.ready
    assert sums(window).requests == 2


def test_what_did_not_change_is_not_told_and_is_as_it_was() -> None:
    busy = row(requests=10, active=4, waiting=1)
    window = window_of(block(1, busy), *(block(n) for n in range(2, 40)))
    assert (sums(window).requests, sums(window).concurrency, sums(window).queue) == (0, 4, 1)


def test_means() -> None:
    window = window_of(
        block(1, row(active=10)),
        block(2, row(active=6, waiting=2, held=1)),
        block(3, row(active=6, waiting=2, held=1)),
        block(4, row(active=0)),
        block(5),
    )
    assert sums(window).concurrency == 12 / 4
    assert sums(window).queue == 6 / 4


def test_answers_errors_and_latencies_are_those_of_the_window() -> None:
    def told(number: int) -> DemandRow:
        return row(status=[1, 0, number, 0, 2 * number, number], latency=[number, *[0] * 14, 1])

    window = window_of(block(1, told(10)), block(2, told(13)))
    assert (sums(window).answers, sums(window).errors) == (12, 3)
    assert sums(window).latency == [3, *[0] * 15]


def test_of_tcp_an_error_is_a_connection_without_a_server() -> None:
    before = row(mode="tcp", requests=10, unavailable=1)
    after = row(mode="tcp", requests=20, unavailable=2, overflow=1, queue_timeouts=1, hold_timeouts=1)
    found = sums(window_of(block(1, before), block(2, after)))
    assert (found.answers, found.errors, found.requests) == (10, 4, 10)


def test_ports_of_an_app_and_apps_of_a_port() -> None:
    green = ("app", "mesos", "F1", "/a-green")
    window = window_of(
        block(1, row("/a:1"), row("/a:2", "/a", "/a-green")),
        block(2, row("/a:1", requests=3), row("/a:2", "/a", "/a-green", requests=4, held=2)),
    )
    assert (sums(window).requests, sums(window, green).requests) == (7, 4)
    assert (window.held(KEY), window.held(green)) == (2, 2)
    assert window.routed_as(green) == {"/a"}
    window.take(block(3, row("/a:2", requests=4), gone=["/a:1"]))
    assert window.sums(green) is None
    assert window.routed_as(green) == set()
    assert window.sums(("app", "other", "F1", "/a")) is None


def test_another_epoch_begins_anew() -> None:
    window = window_of(*(block(n, row(requests=1000 * n)) for n in range(1, 5)))
    assert sums(window).requests == 1000
    window.connected()
    with pytest.raises(ValueError, match="not whole"):
        window.take(block(5, row(requests=1), epoch="y"))
    window.take(block(1, row(requests=1), epoch="y"))
    assert not window.ready
    assert sums(window).requests == 0
    window.take(block(2, row(requests=6), epoch="y"))
    assert sums(window).requests == 5


def test_a_counter_that_goes_back_begins_anew() -> None:
    window = window_of(block(1, row(requests=1000)), block(2, row(requests=5)), block(3, row(requests=8)))
    assert sums(window).requests == 1.5


def test_a_new_connection_to_the_same_edge_costs_nothing() -> None:
    window = window_of(*(block(n, row(requests=10 * n)) for n in range(1, 5)))
    window.connected()
    assert not window.known
    window.take(block(6, row(requests=60), whole=True))
    assert window.ready
    assert sums(window).requests == 10


def test_what_was_long_ago_is_not_spread_over_a_silence() -> None:
    window = window_of(*(block(n, row(requests=10 * n)) for n in range(1, 5)))
    window.connected()
    window.take(block(100, row(requests=5000), whole=True))
    assert not window.ready
    window.take(block(101, row(requests=5020)))
    assert sums(window).requests == 20


def test_a_whole_block_ends_what_it_does_not_name() -> None:
    window = window_of(block(1, row("/a:1"), row("/b:1")))
    window.connected()
    window.take(block(2, row("/a:1"), whole=True, more=True))
    assert not window.known
    window.take(block(2, row("/c:1"), whole=True))
    assert window.known
    assert window.sums(("app", "mesos", "F1", "/b")) is None
    assert window.sums(("app", "mesos", "F1", "/c")) is not None


def test_what_begins_to_be_held_is_told_once() -> None:
    window = EdgeWindow(10)
    assert window.take(block(1, row(held=0))) == []
    assert window.take(block(2, row("/a:1", "/a", "/b", held=3), urgent=True, uptime=1.2)) == [
        KEY,
        ("app", "mesos", "F1", "/b"),
    ]
    assert window.take(block(3, row("/a:1", "/a", "/b", held=5), uptime=2.0)) == []
    assert window.take(block(4, row("/a:1", "/a", "/b"))) == []
    assert len(window.take(block(5, row("/a:1", "/a", "/b", held=1)))) == 2


@pytest.mark.parametrize(
    "wrong", [block(2), block(3, whole=True, uptime=0.5), block(3, epoch="y")], ids=["not-whole", "back", "epoch"]
)
def test_what_no_edge_tells(wrong: DemandBlock) -> None:
    window = EdgeWindow(10)
    if wrong.n > 2:
        window.take(block(1, row()))
    with pytest.raises(ValueError, match=r"whole|back"):
        window.take(wrong)


def test_what_an_edge_may_have_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand_window, "MOST_PORTS", 2)
    window = window_of(block(1, row("/a:1"), row("/a:2")))
    with pytest.raises(ValueError, match="more than 2 ports"):
        window.take(block(2, row("/a:3")))
    monkeypatch.setattr(demand_window, "MOST_TEXT", 60)
    window = window_of(block(1, row("/a:1", "/a", "/b")))
    assert window._text == 4 + 2 + 2 * (3 + 5 + 2 + 2)
    window.take(block(2, row("/a:1", "/c")))
    window.take(block(3, gone=["/a:1"]))
    assert window._text == 0
    with pytest.raises(ValueError, match="60 characters"):
        window.take(block(4, row("/a:1", *(f"/a{number}" for number in range(5)))))


def test_a_long_window_keeps_few_blocks() -> None:
    window = window_of(*(block(n, row(requests=10 * n, active=3)) for n in range(1, 20_000)), seconds=3600.0)
    assert len(window._ticks) <= TICKS + 5
    assert len(window._ports["/a:1"].entries) <= TICKS + 6
    assert sums(window).requests == pytest.approx(10)
    assert sums(window).concurrency == pytest.approx(3)


# --- the model ------------------------------------------------------------------------------------


STEP = st.tuples(
    st.sampled_from([0.25, 1.0, 1.0, 1.0, 1.5, 4.0]),  # seconds
    st.integers(0, 50),  # requests
    st.integers(0, 9),  # in flight
    st.integers(0, 5),  # waiting
    st.sampled_from(["block", "block", "block", "urgent", "whole"]),
)


def modelled(told: list[tuple[float, DemandRow, bool]], seconds: float) -> Sums | None:
    """The same by brute force, of (time, row, whether it was a block)."""
    ticks = sorted({at for at, _, is_block in told if is_block})
    start = ticks[-1] - seconds
    before = [tick for tick in ticks if tick <= start]
    base = before[-1] if before and ticks[-1] - before[-1] <= 2 * seconds else next(t for t in ticks if t > start)
    if ticks[-1] - base < 1.0 and not (before and base == before[-1]):
        return None

    def at_base() -> DemandRow:
        return [each for at, each, _ in told if at <= base][-1]

    times = [base, *(at for at, _, _ in told if at > base)]
    rows = [at_base(), *(each for at, each, _ in told if at > base)]
    elapsed = times[-1] - base
    active = sum(r.active * (b - a) for (a, b), r in zip(pairwise(times), rows[1:], strict=True))
    queue = sum((r.waiting + r.held) * (b - a) for (a, b), r in zip(pairwise(times), rows[1:], strict=True))
    return Sums(
        requests=(rows[-1].requests - rows[0].requests) / elapsed,
        concurrency=active / elapsed,
        queue=queue / elapsed,
        answers=sum(rows[-1].status[1:]) - sum(rows[0].status[1:]),
        errors=rows[-1].status[5] - rows[0].status[5],
        latency=[b - a for a, b in zip(rows[0].latency, rows[-1].latency, strict=True)],
    )


@given(steps=st.lists(STEP, min_size=1, max_size=60))
def test_it_is_what_a_model_finds_that_forgets_nothing(steps: list[tuple[float, int, int, int, str]]) -> None:
    window = EdgeWindow(8.0)
    now, requests = 1.0, 0
    told: list[tuple[float, DemandRow, bool]] = []
    last: DemandRow | None = None
    for seconds, more, active, waiting, kind in [(0.0, 0, 0, 0, "whole"), *steps]:
        now += seconds
        requests += more
        status = [0, 0, requests, 0, 0, requests // 7]
        each = row(
            requests=requests,
            active=active,
            waiting=waiting,
            status=status,
            latency=[requests // (at + 1) for at in range(BUCKETS)],
        )
        if kind == "whole":
            window.connected()
        if kind == "urgent" and each == last:
            continue
        rows = [] if kind == "block" and each == last else [each]
        window.take(block(2, *rows, uptime=now, whole=kind == "whole", urgent=kind == "urgent"))
        last = each
        told.append((now, each, kind != "urgent"))
        expected = modelled(told, 8.0)
        found = sums(window)
        if expected is None:
            assert not window.ready
            continue
        assert window.ready
        assert found.requests == pytest.approx(expected.requests)
        assert found.concurrency == pytest.approx(expected.concurrency)
        assert found.queue == pytest.approx(expected.queue)
        assert (found.answers, found.errors, found.latency) == (expected.answers, expected.errors, expected.latency)


COUNT = st.integers(0, 1 << 53)
ROW = st.builds(
    row,
    st.sampled_from(["/a:1", "/a:2", "/b:1"]),
    st.sampled_from(["/a", "/b", "/c"]),
    requests=COUNT,
    status=st.lists(COUNT, max_size=6),
    latency=st.lists(COUNT, max_size=BUCKETS),
    mode=st.sampled_from(["http", "tcp"]),
    unavailable=COUNT,
    active=COUNT,
    waiting=COUNT,
    held=COUNT,
)
BLOCK = st.builds(
    DemandBlock,
    edge=st.sampled_from(["e1", "e2"]),
    epoch=st.sampled_from(["x", "x", "y"]),
    at=st.just(0.0),
    uptime=st.floats(0, 1e12),
    n=st.integers(0, 9),
    whole=st.booleans(),
    more=st.booleans(),
    urgent=st.booleans(),
    apps=st.lists(ROW, max_size=4),
    gone=st.lists(st.sampled_from(["/a:1", "/b:1", "/nobody"]), max_size=2),
)


@given(blocks=st.lists(BLOCK, max_size=20))
def test_whatever_is_told_is_refused_or_makes_sense(blocks: list[DemandBlock]) -> None:
    window = EdgeWindow(10.0)
    for each in sorted(blocks, key=lambda one: one.uptime):
        try:
            window.take(each)
        except ValueError:
            window.connected()
        for app in ("/a", "/b", "/c"):
            key = ("app", "mesos", "F1", app)
            found = window.sums(key)
            assert (found is None) == (not window.routed_as(key))
            if found is not None:
                figures = (found.requests, found.concurrency, found.queue, found.answers, found.errors)
                assert all(0 <= value < float("inf") for value in (*figures, *found.latency))
