"""GET /v1/routes and /v1/routes/explain: which requests go where, and why; and marathon-lb's paths for machines.

The first two are for `[api]`. `admin_routes` are for `[admin]`: what load balancers before this one, and scripts, ask
marathon-lb for at its port 9090.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from msgspec import structs

from lb7.api_rows import Rule, Servers, bare_name, explanations, rules_of, servers_of, tcp_rule, texts_by_app
from lb7.api_shapes import ExplanationRow, RouteRow
from lb7.haproxy_maps import app_map, vhost_map
from lb7.table import Cluster, HostKey, Problem, RouteTable
from mesos_dns.api import json_only, stream, when_known
from mesos_dns.api_context import ApiContext
from mesos_dns.api_document import Documented
from mesos_dns.api_stream import encode
from mesos_dns.sources.pace import Pace

OFF = "404: there are no routes here: [l7] is off"
ASKED = 100
"""Clusters whose servers workers are asked about for one answer; of more, it is told what is known here."""
_READY = "Service ready.\n"


async def _nothing(clusters: Sequence[str]) -> Servers:
    return {}


@dataclass
class EdgeView:
    """What the answers are made of. `marked` gives a cluster with `down` as checks have it; `servers` asks the workers
    how servers of clusters are; `serving`: all workers carry traffic by the table."""

    table: Callable[[], RouteTable]
    problems: Callable[[], Mapping[str, Sequence[Problem]]] = dict
    compat: Callable[[], bool] = lambda: False
    marked: Callable[[Cluster], Cluster] = lambda cluster: cluster
    servers: Callable[[Sequence[str]], Awaitable[Servers]] = _nothing
    serving: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Wanted:
    """Which rules: of this host, of those that match this path, of this app; None and "": all. The host may have a
    port, as in a URL."""

    host: str | None = None
    path: str | None = None
    app: str = ""


def routes(context: ApiContext, view: Callable[[], EdgeView | None]) -> list[web.RouteDef]:
    """The routes for `[api]`; without a view they answer 404."""

    def edge() -> EdgeView:
        found = view()
        if found is None:
            raise web.HTTPNotFound(text=OFF)
        return found

    async def listed(request: web.Request) -> web.StreamResponse:
        query = request.query
        wanted = Wanted(query.get("host"), query.get("path"), query.get("app", ""))
        async with context.enumerations:
            return await stream(request, rows(edge(), wanted))

    async def explained(request: web.Request) -> web.Response:
        host, path = request.query.get("host", ""), request.query.get("path", "/")
        if not host or not path.startswith("/"):
            raise web.HTTPBadRequest(text="400: expected ?host=NAME&path=/PATH")
        body = encode(await explanation(edge(), host, path))
        return web.Response(body=body, content_type="application/json")

    defined = []
    for path, handler in (("/v1/routes", listed), ("/v1/routes/explain", explained)):
        for spelling in (path, f"{path}/"):
            defined.append(web.get(spelling, json_only(when_known(context, handler)), allow_head=False))
    return defined


def admin_routes(view: Callable[[], EdgeView | None]) -> list[web.RouteDef]:
    """The routes for `[admin]`, which answer as marathon-lb does."""

    def edge() -> EdgeView:
        found = view()
        if found is None:
            raise web.HTTPNotFound
        return found

    async def health(request: web.Request) -> web.Response:
        found = view()
        if found is None or not found.serving():
            return web.Response(status=503, text="503: no routes are served")
        return web.Response(text=_READY)

    async def vhosts(request: web.Request) -> web.Response:
        return web.Response(text=await asyncio.to_thread(vhost_map, edge().table()))

    async def app_ids(request: web.Request) -> web.Response:
        return web.Response(text=await asyncio.to_thread(app_map, edge().table()))

    return [
        web.get("/_haproxy_health_check", health),
        web.get("/_haproxy_getvhostmap", vhosts),
        web.get("/_haproxy_getappmap", app_ids),
    ]


async def rows(view: EdgeView, wanted: Wanted) -> AsyncIterator[bytes]:
    """Rules (those of a host in their order), TCP listeners, and apps without a route, as pieces of a JSON list."""
    pace = Pace()
    table = view.table()
    problems = texts_by_app(view.problems())
    listen = _listen(table)
    asked = await _asked(view, table, wanted)
    shown: set[str] = set()
    start = b"["
    for rule in _rules(table, wanted, exact=view.compat()):
        await pace.turn()
        row, cluster = rule.row, table.clusters.get(rule.cluster)
        if wanted.app not in ("", row.app):
            continue
        shown.add(row.app)
        servers = servers_of(view.marked(cluster), asked) if cluster is not None else []
        told = problems.get(row.app, []) if row.app else []
        yield start + encode(structs.replace(row, listen=listen.get(row.table, []), servers=servers, problems=told))
        start = b","
    for app in problems.keys() - shown if wanted.host is None else ():
        await pace.turn()
        if wanted.app in ("", app):
            yield start + encode(RouteRow("", "", "refused", app=app, problems=problems[app]))
            start = b","
    yield b"[]" if start == b"[" else b"]"


async def explanation(view: EdgeView, host: str, path: str) -> list[ExplanationRow]:
    """What each listener that goes by hosts does with a request, and why."""
    table = view.table()
    found = explanations(table, host, path, view.problems(), compat=view.compat(), marked=view.marked)
    names = sorted({cluster for _, cluster in found if cluster in table.clusters})
    asked = await view.servers(names) if names else {}
    return [
        structs.replace(row, servers=servers_of(view.marked(table.clusters[cluster]), asked))
        if cluster in table.clusters
        else row
        for row, cluster in found
    ]


def _rules(table: RouteTable, wanted: Wanted, *, exact: bool) -> Iterator[Rule]:
    for key in _hosts(table, wanted):
        yield from rules_of(table, key, wanted.path, exact=exact)
    if wanted.host is not None:
        return
    for listener in table.listeners.values():
        if listener.mode == "tcp" and (cluster := table.clusters.get(listener.cluster)) is not None:
            yield tcp_rule(listener, cluster)


def _hosts(table: RouteTable, wanted: Wanted) -> list[HostKey]:
    """All as they stand: to sort a hundred thousand would hold the loop. A name that `compat` looks up in any case
    stands as "NAME:"."""
    if wanted.host is None:
        return list(table.hosts)
    name = bare_name(wanted.host)
    tables = dict.fromkeys(listener.table for listener in table.listeners.values())
    asked = ((each, host) for each in tables for host in (name, f"{name}:"))
    return [key for key in asked if key in table.hosts]


def _listen(table: RouteTable) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for listener in table.listeners.values():
        found.setdefault(listener.table, []).extend(listener.addresses)
    return found


async def _asked(view: EdgeView, table: RouteTable, wanted: Wanted) -> Servers:
    """What workers say of the servers that will be shown, unless these are very many."""
    names: set[str] = set()
    if wanted.host is not None:
        names.update(route.cluster for key in _hosts(table, wanted) for route in table.hosts[key].routes)
    elif wanted.app:
        names.update(name for name, cluster in table.clusters.items() if cluster.app == wanted.app)
    elif len(table.clusters) <= ASKED:
        names.update(table.clusters)
    return await view.servers(sorted(names)) if 0 < len(names) <= ASKED else {}


_ROW = {
    "table": "http",
    "host": "shop.example.com",
    "kind": "route",
    "paths": [{"prefix": "/cart", "whole": True, "ignore_case": False}],
    "app": "/shop/cart",
    "port": 10004,
    "listen": [":80"],
    "to": "",
    "realm": "",
    "users": [],
    "servers": [
        {
            "address": "10.0.0.1:31000",
            "weight": 1,
            "state": "up",
            "task": "shop_cart.1",
            "active": 2,
            "failures": 0,
            "counted": True,
        }
    ],
    "problems": ["bind-options: HAPROXY_0_BIND_OPTIONS: no meaning here: accept-proxy"],
}
_EXPLANATION = {
    "listener": "http",
    "action": "proxy",
    "then": "",
    "host": "shop.example.com",
    "location": "",
    "realm": "",
    "app": "/shop/cart",
    "port": 10004,
    "steps": [
        "'shop.example.com' goes by 'shop.example.com' in http",
        "route 1 of 2 (/cart): to /shop/cart:10004",
    ],
    "servers": _ROW["servers"],
    "lost": [{"app": "/shop/web", "reason": "fits as well, and another path fits further", "paths": []}],
}
DOCUMENTED = (
    Documented(
        "/v1/routes",
        "routes",
        "Rules of the edge, those of a host in their order; ?host=, ?path= and ?app= limit them. 404: [l7] is off.",
        RouteRow,
        [_ROW],
    ),
    Documented(
        "/v1/routes/explain",
        "explainRoute",
        "What each listener does with a request for ?host= and &path=, and why.",
        ExplanationRow,
        [_EXPLANATION],
    ),
)
"""For /openapi.json."""
