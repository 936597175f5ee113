"""Decisions: each reason, scale to zero and back, what is told, and what is not carried out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lb7.autoscale.decide import REASONS, Decision, Reason, decide
from lb7.autoscale.history import History
from lb7.autoscale.policy import DOWN, UP, Metric, Policy
from lb7.autoscale.samples import Reading, Samples
from lb7.autoscale.schedule import Schedule

RPS = Metric(kind="rps", target=100)
CPU = Metric(kind="cpu", target=0.5)
NIGHT = Schedule(start="0 22 * * *", end="0 6 * * *", min=0, max=3, name="night")
DAY = 12 * 3600.0


class App:
    """An app whose decisions are carried out."""

    def __init__(self, instances: int, **fields: Any) -> None:
        given: dict[str, Any] = {"max": 10, "metrics": (RPS,)}
        self.policy = Policy(**(given | fields))
        self.instances, self.history = instances, History()

    def decide(self, now: float, rps: float | None, **samples: Any) -> Decision:
        reading = Reading(error="timeout") if rps is None else Reading(value=rps, at=now)
        given = Samples(instances=self.instances, readings={"rps": reading}, **samples)
        decision = decide(given, self.policy, self.history, now)
        self.history = decision.history.scaled(self.instances, decision.instances, now)
        self.instances = decision.instances
        return decision

    def reason(self, now: float, rps: float | None, **samples: Any) -> tuple[int, Reason]:
        decision = self.decide(now, rps, **samples)
        return decision.instances, decision.reason


def test_up_at_once_and_down_when_the_window_is_over() -> None:
    app = App(2)
    assert app.reason(0, 500) == (5, "up")
    assert app.reason(15, 500) == (5, "steady")
    assert app.reason(30, 100) == (5, "stabilized")
    assert app.reason(314, 100) == (5, "stabilized")
    assert app.reason(315, 100) == (1, "down")
    assert app.reason(330, 0) == (1, "minimum")


def test_rates_disabled_directions_and_cooldowns() -> None:
    app = App(1, max=40)
    assert app.reason(0, 4000) == (5, "rate")
    assert app.reason(5, 4000) == (5, "rate")
    assert app.reason(15, 4000) == (10, "rate")
    assert App(1, up=msgspec.structs.replace(UP, select="disabled")).reason(0, 900) == (1, "disabled")
    app = App(2, up=msgspec.structs.replace(UP, cooldown=60.0))
    assert app.reason(0, 300) == (3, "up")
    assert app.reason(59, 600) == (3, "cooldown")
    assert app.reason(60, 600) == (6, "up")
    app = App(5, down=msgspec.structs.replace(DOWN, window=0.0, select="disabled"))
    assert app.reason(0, 100) == (5, "disabled")


def test_bounds() -> None:
    assert App(12).reason(0, 9999) == (10, "lowered")
    assert App(2, min=4).reason(0, None) == (4, "raised")
    app = App(9, up=msgspec.structs.replace(UP, rates=()))
    assert app.reason(0, 5000) == (10, "maximum")
    assert app.reason(15, 5000) == (10, "maximum")


def test_a_failed_metric_changes_nothing_and_starts_the_window_anew() -> None:
    app = App(8)
    assert app.reason(0, 800) == (8, "steady")
    for now in range(15, 600, 15):
        assert app.reason(now, None) == (8, "no-metric")
    assert app.reason(600, 100) == (8, "stabilized")
    assert app.reason(884, 100) == (8, "stabilized")
    assert app.reason(885, 100) == (1, "down")


def test_what_is_known_in_part_raises_and_never_lowers() -> None:
    app = App(4, down=msgspec.structs.replace(DOWN, window=0.0))
    for value, result in ((200, (4, "no-metric")), (800, (8, "up"))):
        given = Samples(instances=4, readings={"rps": Reading(value=value, partial=True)})
        decision = decide(given, app.policy, History(), 0.0)
        assert (decision.instances, decision.reason) == result


def test_to_zero_and_back() -> None:
    app = App(2, min=0, idle_time=60.0)
    assert app.reason(0, 50)[0] == 2
    assert app.reason(59, 0) == (2, "stabilized")
    assert app.reason(60, 0) == (0, "idle")
    assert app.reason(75, 0) == (0, "asleep")
    assert app.reason(90, 0, held=1) == (1, "wake")
    assert app.reason(95, 0) == (1, "minimum")
    assert app.reason(150, 0) == (0, "idle")
    assert app.reason(165, 900) == (4, "wake")
    assert app.reason(180, 900) == (8, "rate")


def test_activity_that_is_not_known_keeps_it_awake_and_does_not_wake_it() -> None:
    app = App(1, min=0, idle_time=60.0)
    app.decide(0, 0)
    assert app.reason(70, None) == (1, "no-metric")
    assert app.reason(129, 0)[0] == 1
    assert app.reason(130, 0) == (0, "idle")
    assert app.reason(140, None) == (0, "asleep")
    assert app.reason(150, None, held=3) == (1, "wake")


def test_sleep_waits_for_the_cooldown_and_for_a_way_down() -> None:
    app = App(1, min=0, idle_time=0.0, down=msgspec.structs.replace(DOWN, cooldown=60.0))
    app.history = History().scaled(2, 1, 0)
    assert app.reason(30, 0)[0] == 1
    assert app.reason(60, 0) == (0, "idle")
    assert App(1, min=0, idle_time=0.0, down=msgspec.structs.replace(DOWN, select="disabled")).reason(0, 0)[0] == 1


def test_waking_keeps_to_the_most_and_to_what_is_needed_at_once() -> None:
    slow = msgspec.structs.replace(UP, rates=UP.rates[1:], window=600.0, cooldown=600.0)
    assert App(0, min=0, up=slow).reason(0, 900) == (1, "wake"), "a percentage of nothing"
    assert App(0, min=0, wake=3, up=slow).reason(0, 900) == (3, "wake")
    assert App(0, min=0, max=2).reason(0, 900) == (2, "wake")


def test_who_stopped_an_app_finds_it_stopped() -> None:
    assert App(0).reason(0, 500) == (0, "suspended")
    assert App(0).reason(0, 500, held=5) == (0, "suspended")


def test_a_schedule_lets_it_sleep_and_wakes_it() -> None:
    app = App(2, min=2, schedules=(NIGHT,), idle_time=60.0)
    assert app.reason(DAY, 0)[0] == 2
    assert app.reason(DAY + 11 * 3600, 0) == (0, "idle")
    assert app.reason(DAY + 12 * 3600, 0) == (0, "asleep")
    decision = app.decide(DAY + 18 * 3600, 0)
    assert (decision.instances, decision.reason, decision.low) == (2, "raised", 2)
    assert App(8, min=2, schedules=(NIGHT,)).decide(23 * 3600.0, 800).schedules == ("night",)


def test_cpu_of_no_instance_is_not_asked_for() -> None:
    decision = App(0, min=0, metrics=(RPS, CPU)).decide(0, 500)
    assert [proposal.metric for proposal in decision.proposals] == ["rps"]


@pytest.mark.parametrize(
    ("fields", "samples", "reason"),
    [
        ({"paused": True, "dry_run": True}, {"locked": "deployment 7 is under way"}, "paused"),
        ({"dry_run": True}, {"locked": "deployment 7 is under way"}, "locked"),
        ({"dry_run": True}, {}, "dry-run"),
    ],
)
def test_what_is_not_carried_out_is_told(fields: dict[str, Any], samples: dict[str, Any], reason: str) -> None:
    app = App(2, **fields)
    decision = app.decide(0, 500, **samples)
    assert (decision.instances, decision.wanted, decision.recommended, decision.reason) == (2, 5, 5, reason)
    assert app.decide(15, 200, **samples).reason == "steady", "nothing to do is nothing to keep from"


def test_it_tells_how_it_came_about() -> None:
    decision = App(1).decide(0, 990)
    assert decision.text == "1 → 5 (rate): rps asks for 10; 5 allowed by rates"
    assert decision.proposals[0].text == "⌈990 / 100⌉ = 10"
    assert App(1).decide(0, 100).text.startswith("1 (steady): rps asks for 1")


def test_until_it_is_carried_out_it_stays_the_same() -> None:
    app = App(1)
    first = app.policy, Samples(instances=1, readings={"rps": Reading(value=400)})
    history = History()
    for second in range(5):
        decision = decide(first[1], first[0], history, float(second))
        assert decision.instances == 4
        history = decision.history


def test_a_successor_decides_the_same_from_what_was_written() -> None:
    app = App(8)
    for now, rps in ((0, 800), (30, 900), (60, 100), (90, None)):
        app.decide(now, rps)
    written = msgspec.json.encode(app.history)
    given = Samples(instances=app.instances, readings={"rps": Reading(value=100, at=120)})
    successor = decide(given, app.policy, msgspec.json.decode(written, type=History), 120.0)
    assert successor == decide(given, app.policy, app.history, 120.0)
    assert successor.reason == "stabilized"


def test_every_reason_is_explained_and_written_as_json() -> None:
    decision = App(0, min=0).decide(0, 500)
    assert decision.reason in REASONS
    assert b'"reason":"wake"' in msgspec.json.encode(decision)
