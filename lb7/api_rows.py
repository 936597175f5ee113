"""Rules of the route table as rows of /v1/routes, and what a request meets as rows of its explanation: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from lb7.api_shapes import ExplanationRow, LostRow, RoutePathRow, RouteRow, RouteServerRow
from lb7.resolve import Request, Resolution, first, nobody, resolve
from lb7.table import AuthRule, Cluster, HostKey, Listener, Paths, Problem, RouteRule, RouteTable

Servers: TypeAlias = Mapping[str, Sequence[Mapping[str, str | int | float]]]
"""How servers are by cluster, as workers tell (`lb7.workers.Workers.servers`)."""

LOST = 50
"""Routes that are named as lost, at most."""
_CONFLICTS = frozenset({"route-conflict", "app-conflict", "port-conflict"})


class Rule(NamedTuple):
    """A row without what is only known of running parts, and the cluster that it leads to ("": none)."""

    row: RouteRow
    cluster: str = ""


def rules_of(table: RouteTable, key: HostKey, path: str | None = None, *, exact: bool = False) -> Iterator[Rule]:
    """The rules of a host in the order in which they are asked; where a path is given, those that match it (`exact`: as
    it stands). One that lets everybody pass, or redirects nobody, is told too: it keeps later ones from counting."""
    name, host = key
    rules = table.hosts[key]
    for auth in rules.auth:
        if path is None or first((auth,), path, exact):
            users = [user for user, _ in auth.users]
            yield Rule(RouteRow(name, host, "auth", paths_of(auth.paths), realm=auth.realm, users=users))
    for redirect in rules.redirects:
        if path is None or first((redirect,), path, exact):
            paths = [RoutePathRow(redirect.only_path)] if redirect.only_path else paths_of(redirect.paths)
            to = "https" if redirect.https else redirect.location
            yield Rule(RouteRow(name, host, "redirect", paths, to=to))
    for route in rules.routes:
        if path is None or first((route,), path, exact):
            app, port = _app_of(table, route.cluster)
            yield Rule(RouteRow(name, host, "route", paths_of(route.paths), app=app, port=port), route.cluster)


def tcp_rule(listener: Listener, cluster: Cluster) -> Rule:
    """Every connection of a TCP listener."""
    row = RouteRow(listener.table, "", "tcp", app=cluster.app, port=cluster.service_port)
    return Rule(row, cluster.name)


def paths_of(paths: Paths) -> list[RoutePathRow]:
    """Beginnings of paths; none: every path."""
    return [RoutePathRow(path.prefix, path.whole, path.ignore_case) for path in paths]


def servers_of(cluster: Cluster, asked: Servers) -> list[RouteServerRow]:
    """The servers of a cluster, as workers see them where these were asked."""
    seen = {str(server.get("id", "")): server for server in asked.get(cluster.name, ())}
    rows = []
    for server in cluster.servers:
        state = "down" if server.down else "draining" if server.draining else "up"
        told = seen.get(server.id, {})
        if state == "up":  # workers may be a moment behind the table, and know less than it of these two
            state = str(told.get("state", state))
        active, failures, whole = (int(told.get(name, 0)) for name in ("active", "failures", "whole"))
        rows.append(RouteServerRow(server.id, server.weight, state, server.task, active, failures, bool(whole)))
    return rows


def texts_by_app(problems: Mapping[str, Iterable[Problem]]) -> dict[str, list[str]]:
    """What is not carried out, as "reason: text"."""
    return {app: [f"{problem.reason}: {problem.text}" for problem in found] for app, found in problems.items()}


def explanations(
    table: RouteTable,
    host: str,
    path: str,
    problems: Mapping[str, Iterable[Problem]],
    *,
    compat: bool = False,
    marked: Callable[[Cluster], Cluster] = lambda cluster: cluster,
) -> list[tuple[ExplanationRow, str]]:
    """What each listener that goes by hosts does with a request, and the name of the cluster that gets it."""
    by_host = [listener for listener in table.listeners.values() if listener.by in ("host", "host_port", "sni")]
    request = Request(host=host, path=path, sni=bare_name(host))
    found = []
    for listener in by_host:
        served = resolve(table, listener, request, compat=compat, passes=_everybody)
        if served.cluster in table.clusters:
            marked_cluster = marked(table.clusters[served.cluster])
            table = msgspec.structs.replace(table, clusters={**table.clusters, served.cluster: marked_cluster})
            served = resolve(table, listener, request, compat=compat, passes=_everybody)
        asked = resolve(table, listener, request, compat=compat, passes=nobody)
        found.append((_explained(table, asked, served, path, problems, compat), served.cluster))
    return found


def bare_name(text: str) -> str:
    """The name of a host as tables have it: lower-cased, without port and last dot."""
    name, colon, port = text.lower().rpartition(":")
    plain = name if colon and port.isdecimal() and not name.endswith(":") else text.lower()
    return plain.removesuffix(".")


def _everybody(_: AuthRule) -> bool:
    return True


def _explained(
    table: RouteTable,
    asked: Resolution,
    served: Resolution,
    path: str,
    problems: Mapping[str, Iterable[Problem]],
    compat: bool,
) -> ExplanationRow:
    listener = table.listeners[asked.listener]
    app, port = _app_of(table, served.cluster)
    lost: list[LostRow] = []
    if asked.host is not None:
        key = (listener.table, asked.host)
        lost = [*_lost_routes(table, key, path, served, compat), *_lost_apps(asked.host, problems)]
    return ExplanationRow(
        listener=asked.listener,
        action=asked.action,
        then=served.action if asked.action == "auth" else "",
        host=asked.host or "",
        location=served.location,
        realm=asked.realm,
        app=app,
        port=port,
        steps=list(served.steps),
        lost=lost[:LOST],
    )


def _lost_routes(table: RouteTable, key: HostKey, path: str, served: Resolution, compat: bool) -> Iterator[LostRow]:
    """Other routes of the host: those that match as well first."""
    rules = table.hosts[key].routes
    winner = first(rules, path, compat)
    matching: list[LostRow] = []
    others: list[LostRow] = []
    for rule in rules:
        if rule is winner:
            continue
        matches = first((rule,), path, compat) is not None
        if matches:
            why = "comes later in the order of rules" if compat else "fits as well, and another path fits further"
        else:
            why = "the path does not begin so"
        (matching if matches else others).append(_lost(table, rule, why))
    yield from matching
    yield from others


def _lost(table: RouteTable, rule: RouteRule, why: str) -> LostRow:
    return LostRow(_app_of(table, rule.cluster)[0], why, paths_of(rule.paths))


def _lost_apps(host: str, problems: Mapping[str, Iterable[Problem]]) -> Iterator[LostRow]:
    """Apps that asked for a path of this host which is another's."""
    for app, found in problems.items():
        for problem in found:
            if problem.reason in _CONFLICTS and problem.text.startswith(f"{host or '*'}/"):
                yield LostRow(app, f"{problem.reason}: {problem.text}")


def _app_of(table: RouteTable, cluster: str) -> tuple[str, int]:
    found = table.clusters.get(cluster)
    return (found.app, found.service_port) if found is not None else ("", 0)
