"""What people read of /v1/autoscale, from values as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.scale_page import is_scaled, listed, page
from lb7.autoscale.decide import decide
from lb7.autoscale.history import History
from lb7.autoscale.policy import Direction, Metric, Policy, Rate
from lb7.autoscale.samples import Reading, Samples
from lb7.autoscale.schedule import Schedule
from lb7.autoscale.shown import Shown, ShownAction, ShownApp, ShownDecision, ShownProposal
from tests.fakes.autoscale import AT, shown_app

README = Path(__file__).resolve().parents[3] / "lb7" / "autoscale" / "README.md"

OFFICE = Schedule(start="0 8 * * *", end="0 18 * * *", timezone="Europe/Berlin", min=5, name="office")
NIGHT = Schedule(start="0 22 * * *", end="0 6 * * *", min=0, max=2)
DOWN = Direction(window=300, rates=(Rate(type="percent", value=10, period=60),), cooldown=90, tolerance=0.25)


def lines(app: ShownApp, now: float = AT) -> list[str]:
    return page(plain(app), now)


def policy(**fields: Any) -> dict[str, Any]:
    """A policy as plain values."""
    value: dict[str, Any] = plain(Policy(**{"max": 30, "metrics": (RPS,), **fields}))
    return value


def plain(value: object) -> Any:
    """As it comes out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


RPS = Metric(kind="rps", target=100)


def test_a_page() -> None:
    assert lines(shown_app(), AT + 3) == [
        "/shop/web (marathon of mesos): 5 → 9; up: metrics ask for more",
        "  policy    2 to 30 instances; rps 100 each (from labels)",
        "  up        at most 4/15s or 100%/15s; tolerance 10%",
        "  down      at most 100%/15s; window 5m; tolerance 10%",
        "  bounds    2 to 30 now",
        "  decided   2026-07-06 09:26:40 UTC (3s ago)",
        "  changed   5 → 9 done; 2026-07-06 09:26:41 UTC (2s ago)",
        "",
        "  METRIC  TARGET  VALUE  INSTANCES  HOW",
        "  rps     100     820    9          ⌈820 / 100⌉ = 9",
        "",
        "  1. rps asks for 9",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"instances": 5, "wanted": 5, "reason": "steady"}, "5; steady: as many as metrics ask for"),
        ({"instances": 5, "reason": "locked"}, "5, 9 wanted; locked: the app can't be changed now"),
        ({"instances": 5, "wanted": 5, "reason": "made-up"}, "5; made-up"),
        ({"current": 0, "instances": 1, "reason": "wake"}, "0 → 1; wake: no instance and activity"),
    ],
)
def test_why_something_happens_or_nothing(fields: dict[str, Any], expected: str) -> None:
    decision = msgspec.structs.replace(shown_app().decision, **fields)  # type: ignore[type-var]  # it has one
    assert lines(shown_app(decision=decision))[0] == f"/shop/web (marathon of mesos): {expected}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"metrics": (Metric(kind="latency_p95", target=0.25),)},
            "policy    1 to 30 instances; latency_p95 0.25 (from",
        ),
        ({"metrics": (Metric(kind="error_rate", target=0.0004),)}, "error_rate 0.0004 ("),
        ({"metrics": (Metric(kind="rps", target=100, type="value", activation=2),)}, "rps 100 in all, idle up to 2 ("),
        (
            {"metrics": (Metric(kind="hook", name="jobs", url="http://h", target=3),), "formula": "jobs + 1"},
            "; jobs (hook) 3 each; formula jobs + 1 (",
        ),
        ({"down": DOWN}, "down      at most 10%/1m; window 5m; cooldown 1m 30s; tolerance 25%"),
        ({"up": Direction(window=0, rates=())}, "up        as many at once as it takes; tolerance 10%"),
        ({"down": Direction(window=0, rates=(), select="disabled")}, "down      never"),
        ({"min": 0, "wake": 2}, "sleep     after 5m without activity; wakes to 2"),
        ({"schedules": (OFFICE,)}, "office: 0 8 * * * to 0 18 * * * Europe/Berlin, min 5 (open)"),
        ({"schedules": (NIGHT,)}, "schedule  0 22 * * * to 0 6 * * * UTC, min 0 max 2 (open)"),
        (
            {"schedules": (msgspec.structs.replace(NIGHT, name="x"),)},
            "x: 0 22 * * * to 0 6 * * * UTC, min 0 max 2 (closed)",
        ),
        ({"paused": True}, "paused    by its policy: nothing is changed"),
        ({"dry_run": True}, "dry run   its policy says so: nothing is changed"),
    ],
)
def test_a_policy(fields: dict[str, Any], expected: str) -> None:
    opened = ("office", "0 22 * * * to 0 6 * * *")
    decision = msgspec.structs.replace(shown_app().decision, schedules=opened)  # type: ignore[type-var]  # it has one
    assert expected in "\n".join(lines(shown_app(policy=policy(**fields), decision=decision)))


def test_who_holds_it_and_what_is_not_carried_out() -> None:
    found = lines(shown_app(paused=True, problems=("scale-label: X: \x1b[2J",)))
    assert "  paused    by an operator: nothing is changed until `pharos scale /shop/web resume`" in found
    assert found[-3:] == ["", "  /shop/web: not carried out", "    scale-label: X: �[2J"]


def test_an_app_that_nobody_decided_about() -> None:
    assert page(plain(ShownApp("/new")), AT, "server-1") == ["/new: not decided about yet"]
    (line,) = lines(ShownApp("/new"))
    assert line.endswith("who decides is not known: nobody has decided yet, or the coordinator can't be reached")


def test_an_app_whose_policy_can_not_be_carried_out() -> None:
    bad = ShownApp("/bad", problems=("scale-policy: MAX: expected a number",))
    assert lines(bad)[0] == "/bad: not scaled"
    assert "not scaled" in listed({"apps": [plain(bad)]})[1]
    assert not is_scaled(plain(bad))
    assert is_scaled(plain(shown_app(problems=("scale-label: X",))))


def test_a_metric_that_failed() -> None:
    decision = shown_app().decision
    assert decision is not None
    failed = msgspec.structs.replace(decision.proposals[0], value=None, instances=None, text="edge-1: timeout")
    app = shown_app(decision=msgspec.structs.replace(decision, proposals=(failed,)))
    assert "  rps     100     -      -          edge-1: timeout" in lines(app)
    assert "rps ?/100" in listed({"apps": [plain(app)]})[1]


@pytest.mark.parametrize(
    ("ago", "expected"), [(0, "0s"), (-5, "0s"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h"), (86400 * 40, "40d")]
)
def test_how_long_ago(ago: float, expected: str) -> None:
    assert f"({expected} ago)" in "\n".join(lines(shown_app(action=None), AT + ago))


def test_a_table() -> None:
    held = shown_app("/b", paused=True, problems=("x: y",), action=ShownAction(AT, 4, 5, "draining"))
    dry = shown_app("/a", policy=policy(dry_run=True), action=None)
    edges: tuple[dict[str, Any], ...] = ({"url": "http://e:8123", "state": "connected"},)
    found = listed(plain(Shown(True, "one", edges, (held, dry, ShownApp("/c")))))
    assert [line.split("  ")[0] for line in found[:4]] == ["APP", "/a", "/b", "/c"]
    cells = [[cell for cell in line.split("  ") if cell] for line in found[:4]]
    assert [cell.strip() for cell in cells[1]] == ["/a", "5", "9", "2-30", "up", "rps 820/100", "-", "dry run"]
    assert [cell.strip() for cell in cells[2][6:]] == ["4 → 5 draining", "paused by an operator, 1 not carried out"]
    assert [cell.strip() for cell in cells[3]] == ["/c", "-", "-", "-", "not decided yet", "-", "-", "-"]
    assert found[4:8] == ["", "/b: not carried out", "  x: y", ""]
    assert found[8:] == [
        "decider  one (the one that was asked)",
        "edges:",
        "  url            state",
        "  http://e:8123  connected",
    ]


def test_nobody_decides() -> None:
    assert listed({})[1:] == [
        "",
        "decider  not known: nobody has decided yet, or the coordinator can't be reached",
        "edges    -",
    ]


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"a": 1}])
def test_values_of_another_kind_are_no_fault(value: Any) -> None:
    whole = plain(shown_app(policy=policy(schedules=(OFFICE,)), problems=("x",)))
    for key in whole:
        if key != "app":
            assert page({**whole, key: value}, AT)
            assert listed({"apps": [{**whole, key: value}]})
    for part in ("decision", "action", "policy"):
        for key in whole[part]:
            changed = {**whole, part: {**whole[part], key: value}}
            assert page(changed, AT)
            assert listed({"apps": [changed]})
    for part, rows in (("decision", "proposals"), ("policy", "metrics"), ("policy", "schedules")):
        for key in whole[part][rows][0]:
            assert page({**whole, part: {**whole[part], rows: [{**whole[part][rows][0], key: value}]}}, AT)


def example() -> list[str]:
    """The app of the README's first example, as it was decided about there and as it is after that."""
    policy = Policy(
        min=2,
        max=30,
        metrics=(RPS, Metric(kind="latency_p95", target=0.25)),
        down=Direction(window=300, rates=(Rate(type="percent", value=10, period=60),)),
        schedules=(
            Schedule(start="0 8 * * mon-fri", end="0 18 * * mon-fri", timezone="Europe/Berlin", min=5, name="office"),
        ),
    )
    readings = {"rps": Reading(value=820, at=AT), "latency_p95": Reading(value=0.21, at=AT)}
    history = decide(Samples(instances=5, readings=readings), policy, History(), AT).history.scaled(5, 9, AT)
    now = AT + 120
    readings = {"rps": Reading(value=640, at=now), "latency_p95": Reading(value=0.21, at=now)}
    made = decide(Samples(instances=9, readings=readings), policy, history, now)
    proposals = tuple(
        ShownProposal(item.metric, item.metric, item.target, item.value, item.instances, item.text)
        for item in made.proposals
    )
    decision = ShownDecision(
        now,
        made.instances,
        made.current,
        made.wanted,
        made.reason,
        made.text,
        made.low,
        made.high,
        made.recommended,
        made.schedules,
        proposals,
        made.steps,
    )
    app = shown_app(policy=plain(policy), decision=decision, action=ShownAction(AT, 5, 9, "done"))
    return page(plain(app), now + 3, "server-1")


def test_the_readme_shows_such_a_page() -> None:
    text = README.read_text().partition("<!-- page:begin -->\n```\n")[2].partition("\n```\n<!-- page:end -->")[0]
    assert text.splitlines() == example()
