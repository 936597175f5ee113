"""The lookup API: its routes, to be put into an application of agent's.

mesos-dns' look-ups with its JSON shapes, status codes and texts; /v1/tasks; /v1/watch for followers;
readiness, metrics and the OpenAPI document. Read only. `routes` binds all to one ApiContext.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web

from mesos_dns import api_long, api_lookup, api_records, api_stream, api_watch
from mesos_dns.api_context import ApiContext, ApiCounters
from mesos_dns.api_document import document
from mesos_dns.api_shapes import Version
from mesos_dns.api_stream import TaskFilter, encode
from mesos_dns.metrics import CONTENT_TYPE, exposition

__all__ = ["ApiContext", "ApiCounters", "health_routes", "routes"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STALL_SECONDS = 20.0
"""A reader that takes nothing for so long is cut: it would keep others from their whole-table answers."""

_MOST = 1 << 31
"""Numbers in query strings are below this."""


UNKNOWN = "503: nobody has said yet what runs in the cluster"
TELLING = (
    *("/v1/hosts/{host:[^/]+}", "/v1/services/{service:[^/]+}", "/v1/tasks"),
    *("/v1/enumerate", "/v1/axfr", "/v1/records"),
)
"""Look-ups that tell what runs."""


def routes(context: ApiContext) -> list[web.RouteDef]:
    """All routes of `[api]`."""
    lookups: dict[str, _Handler] = {
        "/v1/version": _version(context),
        "/v1/hosts/{host:[^/]+}": _hosts(context),
        "/v1/hosts/{host:[^/]+}/ports": _ports,
        "/v1/services/{service:[^/]+}": _services(context),
        "/v1/tasks": _tasks(context),
    }
    if context.enumeration:
        lookups["/v1/enumerate"] = _whole_table(context, lambda: api_stream.enumerated(context.view))
        lookups["/v1/axfr"] = _whole_table(context, lambda: api_stream.transferred(context.view, context.catalog))
        lookups["/v1/records"] = _whole_table(context, lambda: api_records.records(context.view))
    found = []
    for path, handler in lookups.items():
        if path in TELLING:
            handler = when_known(context, handler)
        # mesos-dns takes a slash at the end, and no HEAD.
        for spelling in (path, f"{path}/"):
            found.append(web.get(spelling, json_only(handler), allow_head=False))
    found.append(web.get("/v1/watch", api_watch.handler(context), allow_head=False))
    found.append(web.get("/openapi.json", _openapi(context)))
    return found + health_routes(context)


def health_routes(context: ApiContext) -> list[web.RouteDef]:
    """/livez, /healthz, /readyz and /metrics, for every application of the process."""

    async def live(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def ready(request: web.Request) -> web.Response:
        standing = context.readiness()
        return _json(standing, status=200 if standing.ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await exposition(context), headers={"Content-Type": CONTENT_TYPE})

    return [
        web.get("/livez", live),
        web.get("/healthz", live),
        web.get("/readyz", ready),
        web.get("/metrics", metrics),
    ]


def accepts_json(accept: str) -> bool:
    """True when an Accept header (empty: anything) allows application/json (RFC 9110 §12.5.1)."""
    if not accept.strip():
        return True
    for media_range in accept.split(","):
        kind, *parameters = [part.strip().lower() for part in media_range.split(";")]
        refused = any(part.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for part in parameters)
        if kind in ("application/json", "application/*", "*/*") and not refused:
            return True
    return False


def when_known(context: ApiContext, handler: _Handler) -> _Handler:
    """The handler, or 503 while nobody has said yet what runs: "absent" would be a guess (mesos-dns
    does not listen before that)."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if not context.view.known():
            raise web.HTTPServiceUnavailable(text=UNKNOWN, headers={"Retry-After": "1"})
        return await handler(request)

    return checked


def json_only(handler: _Handler) -> _Handler:
    """The handler, or 406 for a client that wants no JSON."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if not accepts_json(",".join(request.headers.getall("Accept", []))):
            raise web.HTTPNotAcceptable(text="406: Not Acceptable")
        return await handler(request)

    return checked


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, content_type="application/json")


def _version(context: ApiContext) -> _Handler:
    async def version(request: web.Request) -> web.Response:
        return _json(Version(version=context.version))

    return version


def _hosts(context: ApiContext) -> _Handler:
    async def hosts(request: web.Request) -> web.Response:
        name = request.match_info["host"]
        if api_long.is_long(context.view, name):
            async with context.long_lookups:
                return _json(await api_long.hosts(context.view, context.catalog, name))
        return _json(api_lookup.hosts(context.view, name))

    return hosts


async def _ports(request: web.Request) -> web.Response:
    """mesos-dns' own answer: what a host's ports are is told by /v1/tasks."""
    raise web.HTTPNotImplemented(text="To be implemented...")


def _services(context: ApiContext) -> _Handler:
    async def services(request: web.Request) -> web.Response:
        name = request.match_info["service"]
        if api_long.is_long(context.view, name):
            async with context.long_lookups:
                return _json(await api_long.services(context.view, context.catalog, name))
        return _json(api_lookup.services(context.view, name))

    return services


def _tasks(context: ApiContext) -> _Handler:
    async def tasks(request: web.Request) -> web.StreamResponse:
        query = request.query
        wanted = TaskFilter(
            app=query.get("app", ""),
            framework=query.get("framework", ""),
            state=query.get("state", ""),
            limit=_number(request, "limit"),
            offset=_number(request, "offset"),
        )
        return await stream(request, api_stream.tasks(context.view, context.catalog, wanted))

    return tasks


def _number(request: web.Request, name: str) -> int:
    """A number of the query string, 0 when it is not there."""
    text = request.query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < _MOST):
        raise web.HTTPBadRequest(text=f"400: {name}: expected a number from 0 to {_MOST - 1}")
    return int(text)


def _whole_table(context: ApiContext, parts: Callable[[], AsyncIterator[bytes]]) -> _Handler:
    """A handler of which only a few run at once: each holds much memory."""

    async def whole_table(request: web.Request) -> web.StreamResponse:
        async with context.enumerations:
            return await stream(request, parts())

    return whole_table


async def stream(
    request: web.Request, parts: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send JSON as it is made. After an error in the middle the connection is cut, so that nobody
    takes half a document for a whole one."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", **(headers or {})})
    await response.prepare(request)
    try:
        async for piece in api_stream.gather(parts):
            async with asyncio.timeout(STALL_SECONDS):
                await response.write(piece)
            await asyncio.sleep(0)
    except BaseException:
        if request.transport is not None:
            request.transport.abort()
        raise
    await response.write_eof()
    return response


def _openapi(context: ApiContext) -> _Handler:
    body = encode(document(context.version, enumeration=context.enumeration, beside=context.documented))

    async def openapi(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return openapi
