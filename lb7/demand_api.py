"""GET /v1/demand: what this edge counts of each app's port, once or as a stream of lines, for `[api]`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from lb7.demand import EdgeDemand, TooManyFollowers
from lb7.demand_shapes import LINES, PATH, DemandBlock
from mesos_dns.api import STALL_SECONDS, json_only, stream
from mesos_dns.api_context import ApiContext
from mesos_dns.api_document import Documented

OFF = "404: nothing is counted here: [l7] is off, or has nothing to route yet"

FULL = "503: as many followers as there may be"


def routes(context: ApiContext, demand: Callable[[], EdgeDemand | None]) -> list[web.RouteDef]:
    """The routes; without demand they answer 404."""

    async def answer(request: web.Request) -> web.StreamResponse:
        found = demand()
        if found is None:
            raise web.HTTPNotFound(text=OFF)
        if request.query.get("watch", "false") not in ("true", "false"):
            raise web.HTTPBadRequest(text="400: watch: expected true or false")
        if request.query.get("watch") == "true":
            return await _watched(context, request, found)
        async with context.enumerations:
            return await stream(request, found.document())

    async def wanted(request: web.Request) -> web.StreamResponse:
        return await (answer if request.query.get("watch") == "true" else json_only(answer))(request)

    return [web.get(spelling, wanted, allow_head=False) for spelling in (PATH, f"{PATH}/")]


async def _watched(context: ApiContext, request: web.Request, demand: EdgeDemand) -> web.StreamResponse:
    """Lines until one side ends it. A follower that takes nothing is cut."""
    if "Origin" in request.headers:
        raise web.HTTPForbidden(text="403: not for pages of other origins")
    if context.draining:
        raise web.HTTPServiceUnavailable(text="503: the server ends", headers={"Retry-After": "1"})
    response = web.StreamResponse(headers={"Content-Type": LINES, "Cache-Control": "no-store"})

    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()  # what is in its buffer goes nowhere

    try:
        async with demand.follow(cut) as follower:
            await response.prepare(request)
            async for line in follower.lines():
                async with asyncio.timeout(STALL_SECONDS):
                    await response.write(line)
    except TooManyFollowers:
        raise web.HTTPServiceUnavailable(
            text="503: as many followers as there may be", headers={"Retry-After": "1"}
        ) from None
    finally:
        if response.prepared:
            cut()
    return response


_EXAMPLE = {
    "edge": "5f1c09ab2be4d377",
    "epoch": "9f2c41d07be3a865",
    "at": 1795405269.1,
    "uptime": 3600.25,
    "n": 3601,
    "whole": False,
    "more": False,
    "urgent": False,
    "apps": [
        {
            "cluster_name": "/shop/cart:10004",
            "keys": [["mesos", "f1a0c2d4-0001", "/shop/cart"]],
            "app": "/shop/cart",
            "port": 10004,
            "requests": 120,
            "status": [0, 0, 118, 0, 1, 0],
            "latency": [0, 0, 40, 79, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "latency_sum": 0.91,
            "active": 1,
        }
    ],
    "gone": [],
}
DOCUMENTED = (
    Documented(
        PATH,
        "demand",
        "What was counted of each app's port; ?watch=true: as lines, one a second and at once when requests begin to "
        "wait for an app that sleeps. 404: [l7] is off.",
        DemandBlock,
        _EXAMPLE,
        listed=False,
    ),
)
"""For /openapi.json."""
