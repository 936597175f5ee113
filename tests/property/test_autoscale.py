"""Autoscaling decisions over any policy, load, past and clock: what always holds."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from lb7.autoscale.decide import Decision, decide
from lb7.autoscale.history import Change, History, Recommendation
from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from lb7.autoscale.samples import Instance, Reading, Samples
from lb7.autoscale.schedule import Schedule

NOW = 1_800_000_000.0
TIMES = st.floats(NOW - 4000, NOW + 4000)
COUNTS = st.integers(0, 40)
VALUES = st.floats(0, 1e6)

RATES = st.builds(
    Rate, type=st.sampled_from(["instances", "percent"]), value=st.integers(1, 200), period=st.floats(1, 600)
)
DIRECTIONS = st.builds(
    Direction,
    window=st.sampled_from([0.0, 15.0, 300.0, 3600.0]),
    rates=st.lists(RATES, max_size=3).map(tuple),
    select=st.sampled_from(["max", "min"]),
    tolerance=st.sampled_from([0.0, 0.1, 0.5]),
    cooldown=st.sampled_from([0.0, 0.0, 60.0]),
)
METRICS = (
    Metric(kind="rps", target=100),
    Metric(kind="latency_p95", target=0.2),
    Metric(kind="cpu", target=0.5),
    Metric(kind="queue", target=3.5, type="value", activation=1),
)
HISTORIES = st.builds(
    History,
    recommendations=st.lists(st.builds(Recommendation, TIMES, COUNTS, st.booleans()), max_size=6).map(tuple),
    changes=st.lists(st.builds(Change, TIMES, st.integers(-20, 20)), max_size=6).map(tuple),
    active=st.none() | TIMES,
    changed=st.none() | TIMES,
)
SCHEDULES = st.builds(
    Schedule,
    start=st.sampled_from(["0 8 * * *", "*/7 * * * *", "0 0 1 * *"]),
    end=st.sampled_from(["0 18 * * *", "*/5 * * * *"]),
    min=st.integers(0, 5),
    max=st.integers(5, 60),
)


# Strategies are made once: making them takes longer than what is tested.
LOWS, HIGHS, IDLE_TIMES = st.integers(0, 10), st.integers(1, 50), st.sampled_from([0.0, 60.0, 3000.0])
MORE_METRICS = st.lists(st.sampled_from(METRICS[1:]), unique=True)
SOME_SCHEDULES = st.lists(SCHEDULES, max_size=2)
KNOWN = st.builds(Reading, value=VALUES, at=st.just(NOW))
READINGS = (
    KNOWN | st.just(Reading(error="timeout")) | st.builds(Reading, value=VALUES, at=st.just(NOW), partial=st.just(True))
)
OF_EACH = st.none() | st.dictionaries(st.sampled_from("0123456"), st.floats(0, 4))
RUNNING = st.none() | st.lists(st.booleans(), max_size=6).map(
    lambda ready: tuple(Instance(str(number), is_ready) for number, is_ready in enumerate(ready))
)
HELD = st.sampled_from([0, 0, 3])


@st.composite
def policies(draw: st.DrawFn, /, **fixed: Any) -> Policy:
    low = draw(LOWS)
    high = draw(HIGHS)
    values: dict[str, Any] = {
        "min": low,
        "max": max(1, low, high),
        "metrics": (METRICS[0], *draw(MORE_METRICS)),
        "up": draw(DIRECTIONS),
        "down": draw(DIRECTIONS),
        "schedules": tuple(item for item in draw(SOME_SCHEDULES) if (item.min or 0) <= max(1, low, high)),
        "idle_time": draw(IDLE_TIMES),
    }
    return Policy(**(values | fixed))


@st.composite
def samples(draw: st.DrawFn, /, *, failing: bool = True) -> Samples:
    found = {metric.key: draw(READINGS if failing else KNOWN) for metric in METRICS}
    cpu = draw(OF_EACH)
    if cpu is not None:
        found["cpu"] = Reading(each=cpu, at=NOW)
    return Samples(instances=draw(COUNTS), running=draw(RUNNING), readings=found, held=draw(HELD))


@given(samples(), policies(), HISTORIES, TIMES)
def test_bounds_are_kept_whatever_the_clock_says(given: Samples, policy: Policy, history: History, now: float) -> None:
    decision = decide(given, policy, history, now)
    assert decision.instances <= decision.high
    if decision.instances < decision.low:
        assert (decision.instances, given.instances, decision.reason) == (0, 0, "suspended")
    if decision.instances == 0:
        assert policy.sleeps or decision.reason == "suspended"
    written = msgspec.json.encode(decision.history)
    assert msgspec.json.decode(written, type=History) == decision.history
    times = [item.at for item in decision.history.recommendations]
    times += [item.at for item in decision.history.changes]
    assert all(time <= now for time in (*times, decision.history.active or now, decision.history.changed or now))


@given(samples(), policies(), HISTORIES)
def test_the_same_in_the_same_out(given: Samples, policy: Policy, history: History) -> None:
    first = decide(given, policy, history, NOW)
    assert first == decide(given, policy, history, NOW)
    # Told again without having been carried out, nothing adds up.
    again = decide(given, policy, first.history, NOW)
    assert again.instances == first.instances


@given(samples(failing=False), policies(), HISTORIES, st.sampled_from(["rps", "latency_p95", "queue"]), VALUES, VALUES)
def test_more_load_never_means_fewer(
    given: Samples, policy: Policy, history: History, key: str, one: float, other: float
) -> None:
    results = []
    for value in sorted((one, other)):
        readings = given.readings | {key: Reading(value=value, at=NOW)}
        changed = msgspec.structs.replace(given, readings=readings)
        results.append(decide(changed, policy, history, NOW).instances)
    assert results[0] <= results[1]


@given(samples(), policies(), HISTORIES)
def test_nothing_goes_down_while_a_metric_is_missing(given: Samples, policy: Policy, history: History) -> None:
    asked = [given.readings[metric.key] for metric in policy.metrics]
    assume(any(reading.error or reading.partial for reading in asked))
    decision = decide(given, policy, history, NOW)
    assert decision.instances >= min(given.instances, decision.high)


@given(policies(metrics=METRICS[:1]), HISTORIES, st.integers(1, 50), VALUES)
def test_carried_out_it_is_done(policy: Policy, history: History, current: int, value: float) -> None:
    reading = {"rps": Reading(value=value, at=NOW)}
    first = decide(Samples(instances=current, readings=reading), policy, history, NOW)
    assume(first.reason not in ("raised", "lowered", "idle"))
    done = first.history.scaled(current, first.instances, NOW)
    second = decide(Samples(instances=first.instances, readings=reading), policy, done, NOW)
    assume(second.reason != "idle")
    assert second.instances == first.instances


STEPS = st.lists(st.tuples(st.floats(0.5, 40), st.none() | st.floats(0, 20_000)), min_size=1, max_size=60)


def run(policy: Policy, steps: list[tuple[float, float | None]]) -> list[tuple[float, int, Decision]]:
    """Time, instances before and the decision, each carried out."""
    history, current, now, found = History(), 5, NOW, []
    for seconds, value in steps:
        now += seconds
        reading = Reading(error="timeout") if value is None else Reading(value=value, at=now)
        decision = decide(Samples(instances=current, readings={"rps": reading}), policy, history, now)
        history = decision.history.scaled(current, decision.instances, now)
        found.append((now, current, decision))
        current = decision.instances
        assert len(history.recommendations) <= 2 * 200
    return found


@given(STEPS, RATES, RATES)
def test_rates_are_kept_in_every_window(steps: list[tuple[float, float | None]], up: Rate, down: Rate) -> None:
    policy = Policy(
        max=200,
        metrics=METRICS[:1],
        up=Direction(window=0, rates=(up,)),
        down=Direction(window=0, rates=(down,)),
    )
    path = run(policy, steps)
    for now, before, decision in path:
        after = decision.instances
        rate = up if after > before else down
        if after == before:
            continue
        # How many there were when the period began: before the first change that is in it.
        start = next(held for at, held, _ in path if at > now - rate.period)
        if after > before:
            limit = start + rate.value if rate.type == "instances" else math.ceil(start * (100 + rate.value) / 100)
            assert after <= limit
        else:
            limit = start - rate.value if rate.type == "instances" else math.floor(start * (100 - rate.value) / 100)
            assert after >= limit


@given(STEPS, st.sampled_from([30.0, 120.0, 300.0]))
def test_down_only_to_what_was_right_all_the_window(steps: list[tuple[float, float | None]], window: float) -> None:
    policy = Policy(
        max=200,
        metrics=METRICS[:1],
        up=Direction(window=0, rates=()),
        down=Direction(window=window, rates=()),
    )
    path = run(policy, steps)
    for now, before, decision in path:
        if decision.instances < before:
            lately = [item.recommended for at, _, item in path if now - window < at <= now]
            assert None not in lately
            assert decision.instances == max(1, *(number for number in lately if number is not None))
