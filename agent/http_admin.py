"""What `[admin]` tells: /status, the configuration in force, and a page that links to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from agent.config import Config, redacted
from agent.sections import ROLES
from mesos_dns.api import ApiContext, health_routes
from mesos_dns.config import host_port_text
from mesos_dns.counters import DnsCounters
from mesos_dns.explain import explain
from mesos_dns.metrics import entity_counts
from mesos_dns.sources.counters import SourceCounters

Addresses = Sequence[tuple[str, int]]

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Pharos</title>
<h1>Pharos</h1>
<ul>
<li><a href="status">status</a>
<li><a href="v1/autoscale">scaling, where it is on</a>
<li><a href="v1/config">configuration in force</a>
<li><a href="metrics">metrics</a>
<li><a href="readyz">readiness</a>
</ul>
</html>
"""


def routes(
    context: ApiContext, config: Callable[[], Config], http: Callable[[], dict[str, Addresses]]
) -> list[web.RouteDef]:
    """All routes of `[admin]`; `config` is the configuration in force, `http` where the process serves HTTP."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(
            text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": "default-src 'none'"}
        )

    async def show_status(request: web.Request) -> web.Response:
        return _json(await status(context, config(), http()))

    async def show_config(request: web.Request) -> web.Response:
        return _json(redacted(config()))

    async def show_origin(request: web.Request) -> web.Response:
        name, kind = request.query.get("name", ""), request.query.get("type", "1")
        try:
            if not kind.isascii() or not kind.isdigit() or int(kind) > 65535:
                raise ValueError("type: expected a number from 0 to 65535")
            return _json(explain(context, name, int(kind)))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"400: {error}") from error

    return [
        web.get("/", page),
        web.get("/v1/origin", show_origin),
        web.get("/status", show_status),
        web.get("/v1/config", show_config),
        *health_routes(context),
    ]


async def status(context: ApiContext, config: Config, http: dict[str, Addresses]) -> dict[str, Any]:
    """What an operator wants to know of this process first; no secrets."""
    standing = context.readiness()
    return {
        "version": context.version,
        "ready": standing.ready,
        "draining": standing.draining,
        "pid": os.getpid(),
        "uptime_seconds": round(time.time() - context.started, 3),
        "config": context.config_path,
        "roles": [name for name in ROLES if getattr(config, name) is not None],
        "sources": [{**msgspec.to_builtins(row), **_counts(context.sources.get(row.name))} for row in standing.sources],
        "catalog": {"version": context.catalog.version, **entity_counts(context.catalog.entities())},
        "dns": _dns(context),
        "resolver": _resolver(context),
        "l4": context.balancing(),
        "l7": context.edging(),
        "autoscale": await context.scaling(),
        "http": {part: texts(addresses) for part, addresses in http.items()},
    }


def texts(addresses: Iterable[tuple[str, int]]) -> list[str]:
    """ADDRESS:PORT of each, IPv6 in brackets."""
    return [host_port_text(host, port) for host, port in addresses]


def _counts(source: object) -> dict[str, Any]:
    counters = getattr(source, "counters", None)
    if not isinstance(counters, SourceCounters):
        return {}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(counters).items()}


def _dns(context: ApiContext) -> dict[str, Any]:
    view = context.view
    counts = DnsCounters.together([context.dns_counters, context.resolver_dns_counters])
    totals = counts.native_totals()
    return {
        "addresses": texts(context.dns_addresses()),
        "tls_addresses": texts(context.dns_tls_addresses()),
        "serial": view.serial,
        "queries": counts.queries.total() + totals.counts["answered"],
        "compiled": counts.compiled,
        "reused": counts.reused + totals.counts["answered"],
        "truncated": counts.truncated + totals.counts["truncated"],
        "dropped": counts.dropped + totals.counts["dropped"],
        "workers": {"queries": dict(totals.queries), "restarts": counts.restarts},
        "table": counts.native.figures() if counts.native is not None else {},
        "forwarded": dict(counts.forwarded),
        "refused_names": view.refused,
        "zones": [
            {
                "origin": zone.origin,
                "names": len(zone.store) + (sum(1 for _ in zone.tasks.owners()) if zone.tasks is not None else 0),
                "tasks": len(zone.tasks) if zone.tasks is not None else 0,
            }
            for zone in list(view.zones.values())
            if not zone.alias
        ],
    }


def _resolver(context: ApiContext) -> dict[str, Any] | None:
    resolving = context.resolving()
    if resolving is None:
        return None
    return {"listen": texts(context.resolver_addresses()), **resolving.status()}


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
