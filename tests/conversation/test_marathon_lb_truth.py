"""What marathon-lb and HAProxy did with each request, and what our rules in its order do with it.

Each case is a recorded /v2/apps document and probes: a request, and what HAProxy made of it. The rules are asked by
lb7/resolve.py. What is meant to be otherwise is named here, and only that may differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lb7.config import L7Config
from lb7.resolve import Request, Resolution, listeners_at, resolve
from lb7.table import AuthRule, RouteTable
from tests.fakes.marathon_apps import recorded, view_of

DATA = Path(__file__).resolve().parent.parent / "data" / "marathon-lb"
HTTP_PORT, HTTPS_PORT, APP_ID_PORT = 80, 443, 9091

DEVIATIONS: dict[tuple[str, str], str] = {}
"""(case, probe) → why it differs. Empty: every probe of the recordings is as it was."""

KNOWN_FLAGS = {"--health-check", "--group", "--strict-mode", "--haproxy-map", "--group-https-by-vhost"} | {
    "--dont-bind-http-https"
}
ACTIONS = {
    "proxy": {"proxy"},
    "redirect": {"redirect"},
    "auth": {"auth"},
    "deny": {"deny"},
    "503": {"unavailable"},
    "reset": {"reset"},
    "refused": {"refused"},
}


def config_of(case: dict[str, Any]) -> L7Config:
    """The configuration that means what marathon-lb's command line and environment do."""
    args = list(case["args"])
    groups = [args[at + 1] for at, arg in enumerate(args) if arg == "--group"]
    flags = {arg for at, arg in enumerate(args) if arg.startswith("--")}
    assert flags <= KNOWN_FLAGS, f"not translated: {flags - KNOWN_FLAGS}"
    bound = "--dont-bind-http-https" not in flags
    return L7Config(
        groups=tuple(groups),
        http=(f":{HTTP_PORT}",) if bound else (),
        https=(f":{HTTPS_PORT}",) if bound else (),
        app_id=(f":{APP_ID_PORT}",),
        compat="marathon-lb",
        haproxy_map="--haproxy-map" in flags,
        group_https_by_vhost="--group-https-by-vhost" in flags,
        strict="--strict-mode" in flags,
        health="exclude-unhealthy" if "--health-check" in flags else "ignore",
        own_app=case["env"].get("FRAMEWORK_NAME", ""),
    )


def cases(folder: Path) -> list[Path]:
    """The folders of cases of requests."""
    return sorted(path.parent for path in folder.glob("*/routes.json"))


def what_happens(table: RouteTable, probe: dict[str, Any]) -> list[Resolution] | str:
    """What each listener that may get the connection does; a word where there is none, or no handshake."""
    listeners = [
        listener
        for listener in listeners_at(table, probe["listen_port"], probe["dst"])
        if listener.mode == "tcp" or listener.tls == probe["tls"]
    ]
    if not listeners:
        return "refused"
    sni = probe.get("sni") or ""
    refusing = [listener for listener in listeners if listener.known_names]
    if any((listener.table, sni.lower()) not in table.hosts for listener in refusing):
        return "reset"
    target = probe["path"]
    request = Request(
        host=probe.get("host") or "",
        path=target.partition("?")[0],
        target=target,
        sni=sni,
        app_id=probe.get("appid") or "",
        client=probe["src"],
    )

    def passes(rule: AuthRule) -> bool:
        return probe.get("auth") == "good" and any(user == "bob" for user, _ in rule.users)

    return [resolve(table, listener, request, compat=True, passes=passes) for listener in listeners]


def difference(table: RouteTable, route: dict[str, Any]) -> str:
    """How what we do differs from what was observed and expected; "" when it does not."""
    expected, found = route["expect"], what_happens(table, route["request"])
    if isinstance(found, str):
        return "" if found == expected["action"] else f"expected {expected['action']}, found {found}"
    actions = {resolution.action for resolution in found}
    if not actions <= ACTIONS[expected["action"]]:
        return f"expected {expected['action']}, found {found}"
    if expected["action"] == "proxy":
        servers = sorted({server for resolution in found for server in resolution.servers})
        if servers != sorted(expected["servers"]):
            return f"expected {expected['servers']}, found {servers}"
        if any(
            observed.get("servers") and not set(observed["servers"]) <= set(servers) for observed in observed_in(route)
        ):
            return f"observed {observed_in(route)}, found {servers}"
        return balancing(table, expected, found)
    if expected["action"] == "redirect" and {resolution.location for resolution in found} != {expected["location"]}:
        return f"expected {expected['location']}, found {found}"
    if expected["action"] == "auth" and {resolution.realm for resolution in found} != {expected["realm"]}:
        return f"expected {expected['realm']}, found {found}"
    return ""


def observed_in(route: dict[str, Any]) -> list[dict[str, Any]]:
    """What the two versions of HAProxy did."""
    return list(route["observed"].values())


def balancing(table: RouteTable, expected: dict[str, Any], found: list[Resolution]) -> str:
    """The same for the algorithm, the cookie and servers that are drained."""
    clusters = [table.clusters[resolution.cluster] for resolution in found]
    if any(cluster.balance != expected["balance"] for cluster in clusters):
        return f"expected {expected['balance']}, found {clusters}"
    if any(cluster.sticky != expected.get("sticky", {}).get("cookie", "") for cluster in clusters):
        return f"expected {expected.get('sticky')}, found {clusters}"
    draining = sorted(server.id for cluster in clusters for server in cluster.servers if server.draining)
    if draining != sorted(expected.get("draining_servers", [])):
        return f"expected {expected.get('draining_servers')} to be drained, found {draining}"
    return ""


def compare(folder: Path) -> list[str]:
    """All differences of a case that are not named."""
    case = json.loads((folder / "routes.json").read_text())
    view = view_of(config_of(case), *recorded(folder))
    assert view.faults == 0
    assert case["routes"]
    differences = []
    for route in case["routes"]:
        text = difference(view.table, route)
        name = json.dumps(route["request"], sort_keys=True)
        named = (case["case"], name) in DEVIATIONS
        if bool(text) != named:
            differences.append(f"{name}: {text or 'is as it was, but named as a deviation'}")
    return differences


@pytest.mark.parametrize("folder", cases(DATA), ids=lambda path: path.name)
def test_our_copies_of_cases(folder: Path) -> None:
    assert compare(folder) == []


@pytest.mark.parametrize("kind", ["marathon-lb", "upstream/marathon-lb"])
def test_every_recorded_case(truth: Path, kind: str) -> None:
    folders = cases(truth / kind)
    assert folders
    differences = {folder.name: found for folder in folders if (found := compare(folder))}
    assert differences == {}
