"""The process' HTTP: builds the applications of `[api]` and `[admin]`, binds them, and ends them.

The packages bring routes; here is what holds for every request: limits, access, counting, errors as
plain text. An idle or half-sent connection costs a slot for a limited time only.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from aiohttp import web, web_response
from aiohttp.typedefs import Handler

from agent import http_admin
from agent.config import AdminConfig, Config
from agent.http_access import TokenFile, server_tls
from mesos_dns import api
from mesos_dns.api import ApiContext
from mesos_dns.config import ApiConfig, host_port

log = logging.getLogger(__name__)

# What speaks here is nobody's business, and aiohttp has no other way to say it for malformed requests.
web_response.SERVER_SOFTWARE = "pharos"  # type: ignore[attr-defined]  # imported there, not exported

_PROTOCOL_LOG = logging.getLogger(f"{__name__}.protocol")
_PROTOCOL_LOG.setLevel(logging.CRITICAL)  # a malformed request is answered; it is no event of ours

OPEN_PATHS = frozenset({"/livez", "/healthz", "/readyz", "/_haproxy_health_check"})
"""Need no token: whoever restarts a process or picks one to ask has none."""

ENDLESS = frozenset({"/v1/watch"})
"""Answers that go on until one side ends them: they have limits of their own and hold up no end. So have those of
WATCHED, where `?watch=true` asks for it."""
WATCHED = frozenset({"/v1/demand"})

MAX_CONNECTIONS = 1000
"""Connections of one part at most, those of followers not counted."""
MAX_BODY = 1 << 16
HEAD_SECONDS = 10.0
"""A new connection must have sent its first request after this time (TLS handshake: the same)."""
IDLE_SECONDS = 75.0
REQUEST_SECONDS = 300.0
"""The longest that one answer may take, its reader included."""

CLOSED = 499
"""Counted as status when the client went away."""

_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")
"""Headers that a refusal keeps when it becomes plain text."""

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class HttpServer:
    """Both applications. Raises OSError from `start` when an address, certificate or token can't be used.

    `more` are other packages' routes of [api], `more_admin` of [admin]. `config` is what [admin] shows; whoever changes
    the process' configuration in flight sets it.
    """

    def __init__(
        self,
        context: ApiContext,
        config: Config,
        more: Sequence[web.RouteDef] = (),
        more_admin: Sequence[web.RouteDef] = (),
    ) -> None:
        self.context = context
        self._more = more
        self._more_admin = more_admin
        self.config = config
        self._parts: dict[str, _Part] = {}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Every bound address."""
        return [address for part in self._parts.values() for address in part.addresses]

    def part_addresses(self) -> dict[str, http_admin.Addresses]:
        """The bound addresses of "api" and "admin"."""
        return {name: part.addresses for name, part in self._parts.items()}

    async def start(self) -> None:
        """Bind what the configuration names."""
        config, context = self.config, self.context
        try:
            if config.api is not None:
                context.enumeration = config.api.enumeration
                await self._open("api", config.api, [*api.routes(context), *self._more], config.api.client_ca_file)
            if config.admin is not None:
                routes = http_admin.routes(context, lambda: self.config, self.part_addresses)
                await self._open("admin", config.admin, [*routes, *self._more_admin])
        except OSError:
            await self.close(0)
            raise

    async def renew(self) -> None:
        """Read the certificates again, for connections to come. Raises OSError; the old ones are then kept."""
        for name, part in self._parts.items():
            section: ApiConfig | AdminConfig = getattr(self.config, name)
            if part.tls is not None:
                await asyncio.to_thread(server_tls, section.cert_file, section.key_file)  # are they any good?
                part.tls.load_cert_chain(section.cert_file, section.key_file)

    def drain(self) -> None:
        """From now on /readyz says no and followers are sent to others; requests are still answered."""
        self.context.draining = True
        if self.context.watch is not None:
            self.context.watch.dismiss()

    async def close(self, grace: float) -> None:
        """Take no more connections, send followers away, give open requests `grace` seconds, then end."""
        if self.context.watch is not None:
            self.context.watch.dismiss()
        await asyncio.gather(*(part.close(grace) for part in self._parts.values()))
        self._parts.clear()

    async def _open(
        self, name: str, section: ApiConfig | AdminConfig, routes: list[web.RouteDef], client_ca_file: str = ""
    ) -> None:
        tls = None
        if section.cert_file:
            tls = await asyncio.to_thread(server_tls, section.cert_file, section.key_file, client_ca_file)
        token = None
        if section.token_file:
            token = TokenFile(section.token_file)
            await token.load()
        part = self._parts[name] = _Part(self.context, routes, token, tls)
        await part.open()
        for listen in section.listen:
            host, port = host_port(listen)
            try:
                await part.bind(host, port)
            except OSError as error:
                raise OSError(error.errno, f"[{name}] can't listen on {listen}: {error.strerror or error}") from error


class _Part:
    """One application with its sockets."""

    def __init__(
        self, context: ApiContext, routes: list[web.RouteDef], token: TokenFile | None, tls: ssl.SSLContext | None
    ) -> None:
        self.tls = tls
        self._counters = context.counters
        self._token = token
        self._silent: set[asyncio.BaseProtocol] = set()
        self._open_requests = 0
        self._endless = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._servers: list[asyncio.Server] = []
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._account, self._check])
        app.add_routes(routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_PROTOCOL_LOG,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=8190,
            max_field_size=8190,
            max_headers=64,
            lingering_time=1.0,
            shutdown_timeout=0.1,
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [socket.getsockname()[:2] for server in self._servers for socket in server.sockets]

    async def open(self) -> None:
        await self._runner.setup()

    async def bind(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        limit = HEAD_SECONDS if self.tls is not None else None
        self._servers.append(
            await loop.create_server(
                self._connection,
                host,
                port,
                ssl=self.tls,
                ssl_handshake_timeout=limit,
            )
        )

    async def close(self, grace: float) -> None:
        for server in self._servers:
            server.close()
        handlers = self._runner.server
        if handlers is not None:
            handlers.pre_shutdown()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("open HTTP requests are cut requests=%d", self._open_requests)
        await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        handlers = self._runner.server
        if handlers is None or len(handlers.connections) - self._endless >= MAX_CONNECTIONS:
            self._counters.connections_refused += 1
            return _Refusal()
        connection = handlers()
        self._silent.add(connection)
        asyncio.get_running_loop().call_later(HEAD_SECONDS, self._close_silent, connection)
        return connection

    def _close_silent(self, connection: web.RequestHandler) -> None:
        if connection in self._silent:
            self._silent.discard(connection)
            connection.force_close()

    @web.middleware
    async def _account(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts, limits the time, and turns errors into plain text."""
        self._silent.discard(request.protocol)
        if _is_endless(request):
            return await self._account_endless(request, handler)
        self._enter(1)
        began = time.perf_counter()
        status = CLOSED
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await _answer(request, handler)
            status = response.status
            return response
        except ConnectionError:  # the client went away: nobody is left to tell
            return web.Response(status=CLOSED)
        except TimeoutError:
            status = 503
            return _plain(503, "503: it took too long")
        finally:
            self._enter(-1)
            self._counters.count(_template(request), status, time.perf_counter() - began)

    async def _account_endless(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """As `_account`, for answers that have no limit of time."""
        began = time.perf_counter()
        status = CLOSED
        self._endless += 1
        try:
            response = await _answer(request, handler)
            status = response.status
            return response
        except (ConnectionError, TimeoutError):  # the client went away, or took nothing
            return web.Response(status=CLOSED)
        finally:
            self._endless -= 1
            # How long somebody followed says nothing about how long answers take.
            self._counters.count(_template(request), status, time.perf_counter() - began if status >= 400 else 0.0)

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Asks for the token."""
        if self._token is not None and request.path not in OPEN_PATHS:
            if not await self._token.allows(request.headers.get("Authorization", "")):
                raise web.HTTPUnauthorized(
                    text="401: this needs a bearer token", headers={"WWW-Authenticate": "Bearer"}
                )
        return await handler(request)

    def _enter(self, change: int) -> None:
        self._open_requests += change
        self._counters.in_flight += change
        if self._open_requests:
            self._idle.clear()
        else:
            self._idle.set()


class _Refusal(asyncio.Protocol):
    """A connection too many: told so and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)  # what create_server makes; uvloop's is no subclass
        stream.write(_BUSY)
        stream.close()


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = "404: Page Not Found" if error.status == 404 else error.text or f"{error.status}: {error.reason}"
        kept = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
        return _plain(error.status, text, kept)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("an HTTP request failed path=%r", request.path[:200])
        return _plain(500, f"500: {HTTPStatus(500).phrase}")


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, headers=headers)


def _is_endless(request: web.Request) -> bool:
    template = _template(request)
    return template in ENDLESS or (template in WATCHED and request.query.get("watch") == "true")


def _template(request: web.Request) -> str:
    """The route's path with names for its variable parts; "other" for what is no path of ours."""
    resource = request.match_info.route.resource
    if resource is None:
        return "other"
    return resource.canonical.rstrip("/") or "/"
