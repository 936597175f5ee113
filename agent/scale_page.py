"""What `/v1/autoscale` tells, as text for people: a table of all apps, and a page about one.

Values are read as they come: what is missing or of another kind is left out or shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.table import cell, facts, safe, table

_HEAD = ("APP", "INSTANCES", "WANTED", "BOUNDS", "REASON", "METRICS", "LAST CHANGE", "NOTE")
_METRICS = ("METRIC", "TARGET", "VALUE", "INSTANCES", "HOW")
_NOBODY = "not known: nobody has decided yet, or the coordinator can't be reached"
_OF_THE_WHOLE = ("latency_p50", "latency_p95", "latency_p99", "error_rate")
"""Kinds of which an instance has no share."""


# --- all ------------------------------------------------------------------------------------------


def listed(shown: Mapping[str, Any]) -> list[str]:
    """Lines: a table by app, what is not carried out, who decides, and the edges that are asked."""
    apps = sorted(_dicts(shown.get("apps")), key=lambda app: [cell(app.get(key)) for key in ("app", "framework")])
    lines = table(_HEAD, map(_row, apps))
    for app in apps:
        lines += _problems(app, "")
    here = " (the one that was asked)" if shown.get("leading") else ""
    told = {"decider": f"{cell(shown.get('decider') or _NOBODY)}{here}", "edges": _dicts(shown.get("edges"))}
    return [*lines, "", *facts(told)]


def _row(app: Mapping[str, Any]) -> list[Any]:
    decision, action = _dict(app.get("decision")), _dict(app.get("action"))
    metrics = [f"{cell(row.get('metric'))} {_of_target(row)}" for row in _dicts(decision.get("proposals"))]
    return [
        app.get("app"),
        decision.get("current"),
        decision.get("wanted"),
        f"{decision.get('low')}-{decision.get('high')}" if decision else "",
        decision.get("reason") or ("not decided yet" if is_scaled(app) else "not scaled"),
        " ".join(metrics),
        f"{_change(action)} {cell(action.get('state'))}" if action else "",
        _note(app),
    ]


def is_scaled(app: Mapping[str, Any]) -> bool:
    """Whether there is a policy that can be carried out."""
    return bool(app.get("policy")) or not app.get("problems")


def _of_target(row: Mapping[str, Any]) -> str:
    return f"{'?' if row.get('value') is None else _number(row['value'])}/{_number(row.get('target'))}"


def _note(app: Mapping[str, Any]) -> str:
    policy = _dict(app.get("policy"))
    notes = [
        "paused by an operator" if app.get("paused") else "paused by its policy" if policy.get("paused") else "",
        "dry run" if policy.get("dry_run") else "",
    ]
    count = len(_texts(app.get("problems")))
    return ", ".join(filter(None, [*notes, f"{count} not carried out" if count else ""]))


# --- one ------------------------------------------------------------------------------------------


def page(app: Mapping[str, Any], now: float, decider: str = "") -> list[str]:
    """Lines about one app; `now` in seconds since 1970; `decider` is who decides, where that is known."""
    decision, policy, name = _dict(app.get("decision")), _dict(app.get("policy")), cell(app.get("app"))
    of = " of ".join(cell(app.get(key)) for key in ("framework", "cluster") if app.get(key))
    told = [
        ("policy", _policy(policy, str(app.get("told_by") or ""))),
        ("up", _direction(_dict(policy.get("up"))) if policy else ""),
        ("down", _direction(_dict(policy.get("down"))) if policy else ""),
        ("sleep", _sleep(policy)),
        *(("schedule", _schedule(row, decision)) for row in _dicts(policy.get("schedules"))),
        ("bounds", f"{decision.get('low')} to {decision.get('high')} now" if decision else ""),
        ("paused", _paused(app, policy, name)),
        ("dry run", "its policy says so: nothing is changed" if policy.get("dry_run") else ""),
        ("decided", f"{at} by {cell(decider)}" if (at := _when(decision.get("at"), now)) and decider else at),
        ("changed", _action(_dict(app.get("action")), now)),
    ]
    lines = [f"{name}{f' ({of})' if of else ''}: {_headline(app, decider)}"]
    lines += [f"  {key:<8}  {safe(text)}" for key, text in told if text]
    proposals = _dicts(decision.get("proposals"))
    if proposals:
        lines += ["", *table(_METRICS, map(_proposal, proposals), "  ")]
    steps = [f"  {number}. {safe(step)}" for number, step in enumerate(_texts(decision.get("steps")), 1)]
    if steps:
        lines += ["", *steps]
    return [*lines, *_problems(app, "  ")]


def _headline(app: Mapping[str, Any], decider: str) -> str:
    """How many there are, how many there will be, and why: also why nothing happens."""
    decision = _dict(app.get("decision"))
    if not is_scaled(app):
        return "not scaled"
    if not decision:
        return "not decided about yet" if decider else f"not decided about; who decides is {_NOBODY}"
    current, instances, wanted = (decision.get(key) for key in ("current", "instances", "wanted"))
    change = cell(current) if instances == current else f"{cell(current)} → {cell(instances)}"
    if instances == current and wanted != current:
        change += f", {cell(wanted)} wanted"
    reason = cell(decision.get("reason"))
    meaning = _meanings().get(reason, "")
    return f"{change}; {reason}{f': {meaning}' if meaning else ''}"


def _meanings() -> Mapping[str, str]:
    """What the reasons of decisions mean. Imported when it is asked for: it takes a while."""
    from lb7.autoscale.decide import REASONS

    return {str(reason): text for reason, text in REASONS.items()}


def _policy(policy: Mapping[str, Any], told_by: str) -> str:
    if not policy:
        return ""
    parts = [f"{cell(policy.get('min'))} to {cell(policy.get('max'))} instances"]
    parts += [_metric(row) for row in _dicts(policy.get("metrics"))]
    if policy.get("formula"):
        parts.append(f"formula {policy['formula']}")
    return f"{'; '.join(parts)}{f' (from {told_by})' if told_by else ''}"


def _metric(row: Mapping[str, Any]) -> str:
    kind, name = cell(row.get("kind")), str(row.get("name") or "")
    share = row.get("type") or ("value" if kind in _OF_THE_WHOLE else "average")
    how = " each" if share == "average" else "" if kind in _OF_THE_WHOLE else " in all"
    idle = f", idle up to {_number(row['activation'])}" if row.get("activation") else ""
    return f"{f'{name} ({kind})' if name and name != kind else kind} {_number(row.get('target'))}{how}{idle}"


def _direction(way: Mapping[str, Any]) -> str:
    select = way.get("select", "max")
    if select == "disabled":
        return "never"
    rates = (" and " if select == "min" else " or ").join(map(_rate, _dicts(way.get("rates"))))
    parts = [
        f"at most {rates}" if rates else "as many at once as it takes",
        f"window {_span(way['window'])}" if way.get("window") else "",
        f"cooldown {_span(way['cooldown'])}" if way.get("cooldown") else "",
        f"tolerance {_percent(way['tolerance'])}" if "tolerance" in way else "",
    ]
    return "; ".join(filter(None, parts))


def _rate(row: Mapping[str, Any]) -> str:
    percent = "%" if row.get("type") == "percent" else ""
    return f"{cell(row.get('value'))}{percent}/{_span(row.get('period'))}"


def _sleep(policy: Mapping[str, Any]) -> str:
    least = [policy.get("min"), *(row.get("min") for row in _dicts(policy.get("schedules")))]
    if 0 not in least:
        return ""
    return f"after {_span(policy.get('idle_time'))} without activity; wakes to {cell(policy.get('wake'))}"


def _schedule(row: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """As lb7/autoscale/limits.py names it where it has no name."""
    span = f"{cell(row.get('start'))} to {cell(row.get('end'))}"
    name = str(row.get("name") or "")
    bounds = " ".join(f"{key} {cell(row[key])}" for key in ("min", "max") if row.get(key) is not None)
    state = "open" if (name or span) in _texts(decision.get("schedules")) else "closed"
    return f"{f'{name}: ' if name else ''}{span} {cell(row.get('timezone'))}, {bounds} ({state})"


def _paused(app: Mapping[str, Any], policy: Mapping[str, Any], name: str) -> str:
    """By whom: an operator's pause may be shown as the policy's, too."""
    if app.get("paused"):
        return f"by an operator: nothing is changed until `pharos scale {name} resume`"
    return "by its policy: nothing is changed" if policy.get("paused") else ""


def _proposal(row: Mapping[str, Any]) -> list[Any]:
    target, value = (_number(row.get(key)) for key in ("target", "value"))
    return [row.get("metric"), target, value, row.get("instances"), row.get("text")]


def _action(action: Mapping[str, Any], now: float) -> str:
    if not action:
        return ""
    text = f": {action['text']}" if action.get("text") else ""
    return f"{_change(action)} {cell(action.get('state'))}{text}; {_when(action.get('at'), now)}"


def _change(action: Mapping[str, Any]) -> str:
    return f"{cell(action.get('before'))} → {cell(action.get('after'))}"


def _problems(app: Mapping[str, Any], indent: str) -> list[str]:
    texts = [safe(text) for text in _texts(app.get("problems"))]
    if not texts:
        return []
    return ["", f"{indent}{cell(app.get('app'))}: not carried out", *(f"{indent}  {text}" for text in texts)]


# --- values ---------------------------------------------------------------------------------------


def _when(at: Any, now: float) -> str:
    """A time, and how long ago that is."""
    try:
        text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return f"{text} ({_span(max(0, round(now - at)))} ago)"


def _span(seconds: Any) -> str:
    """Seconds as labels have them; two units where one would not do."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e12:
        return cell(seconds)
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:g}s"
    parts, rest = [], int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return " ".join(parts[:2])


def _number(value: Any) -> str:
    """As a cell, with the first digits of small ones."""
    return f"{value:.3g}" if isinstance(value, float) and 0 < abs(value) < 1 else cell(value)


def _percent(ratio: Any) -> str:
    return f"{ratio * 100:g}%" if isinstance(ratio, int | float) else cell(ratio)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
