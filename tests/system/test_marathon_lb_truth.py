"""What marathon-lb and HAProxy did with each request, and what a whole process does that stands in their place.

Every recorded request is sent for real, to the real ports, until all servers that got it then have got it now.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.edge_after_marathon_lb import Case, edge_after_marathon_lb, read_case
from tests.system.marathon_lb_kinds import written
from tests.system.recorded_requests import see

DATA = Path(__file__).resolve().parents[1] / "data" / "marathon-lb"
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

Differs = Callable[[Any, Any], bool]
HAZARDS: dict[str, tuple[Differs, str]] = {
    "sticky.cache_control": (
        lambda then, now: then is None and now == "private",
        "an answer with a cookie is one client's: no cache may give it to others. HAProxy 2.0 says so too, but of GET",
    ),
}
"""What may be otherwise: key of what was observed → whether this is it (of recorded and seen value), and why."""


def differences(seen: dict[str, Any], observed: dict[str, Any]) -> list[str]:
    """How what is seen differs from what was observed, beyond what may differ. Our copies have but a part of that."""
    now, then = flat(seen), flat(observed)
    found = []
    for key in sorted(now.keys() | then.keys() if "status" in then else then):
        if now.get(key) != then.get(key) and not (key in HAZARDS and HAZARDS[key][0](then.get(key), now.get(key))):
            found.append(f"{key} was {then.get(key)!r}, is {now.get(key)!r}")
    return found


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as "outer.inner"."""
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= flat(each, f"{prefix}{key}.") if isinstance(each, dict) else {f"{prefix}{key}": each}
    return found


def replay(folder: Path, cases: list[Case]) -> list[str]:
    """All differences."""
    found = []
    with edge_after_marathon_lb(folder, cases) as edge:
        for case in cases:
            edge.serve(case)
            for route in case.routes:
                if text := compared(edge.space, route):
                    found.append(f"{case.name}: {text}")
    return found


def compared(space: str, route: dict[str, Any]) -> str:
    """Send a request; how what is seen differs from what each version of HAProxy did; "": it is as one of them."""
    expect = route["expect"]
    servers = expect.get("servers", ())
    by_source = expect.get("balance") == "source"
    seen = see(space, route["request"], servers[:1] if by_source else servers)
    if by_source and len(seen.get("servers", ())) == 1 and seen["servers"][0] in servers:
        del seen["servers"]  # one for each client, but each proxy has another way to pick it
        observed = [{key: each[key] for key in each if key != "servers"} for each in route["observed"].values()]
    else:
        observed = list(route["observed"].values())
    by_version = [differences(seen, each) for each in observed]
    return f"{json.dumps(route['request'], sort_keys=True)}: {min(by_version, key=len)}" if all(by_version) else ""


def read_cases(*folders: Path) -> list[Case]:
    """The cases of requests below these folders."""
    return [read_case(path.parent) for folder in folders for path in sorted(folder.glob("*/routes.json"))]


def test_every_recorded_case(truth: Path, tmp_path: Path) -> None:
    cases = read_cases(truth / "marathon-lb", truth / "upstream" / "marathon-lb")
    assert cases
    found = replay(tmp_path, cases)
    assert not found, "\n".join(found)


def test_other_kinds_of_cases(tmp_path: Path) -> None:
    """Our copies of recordings, and what the rules say of kinds of which there are none."""
    found = replay(tmp_path, [*written(tmp_path), *read_cases(DATA)])
    assert not found, "\n".join(found)
