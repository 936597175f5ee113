"""One WebSocket to a server's /v1/watch: who we are, whom we trust, and messages one at a time.

Redirects are refused: the token is for the servers that the configuration names. Pings are answered here;
a server that is silent for SILENCE seconds (it pings every second) is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import aiohttp

from mesos_dns.config import RelayConfig, first_line, host_port_text
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.known_hosts import KnownHosts
from mesos_dns.tls import Tls
from mesos_dns.watch_wire import MAX_MESSAGE

DEFAULT_PORT = 8123
PATH = "/v1/watch"

SILENCE = 3.0
"""Seconds after which a server that says nothing, not even a ping, is given up."""


class RelayError(Exception):
    """A server can't be followed (any more); `kind` is the counter it goes to."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def server_url(server: str) -> str:
    """The base of a server's URLs from http(s)://HOST[:PORT]. Raises ValueError."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("expected http(s)://HOST[:PORT]")
    return f"{parts.scheme}://{host_port_text(parts.hostname, parts.port or DEFAULT_PORT)}{parts.path.rstrip('/')}"


class Token:
    """The bearer token in a file, read again for each connection; the last good one holds while it can't be.
    `section` is the configuration's that names the file."""

    def __init__(self, path: str, section: str = "relay") -> None:
        self._path, self._section = path, section
        self._last = ""

    async def headers(self) -> dict[str, str]:
        """The header that shows it. Raises RelayError; it never says the token."""
        if not self._path:
            return {}
        try:
            text = (await asyncio.to_thread(first_line, self._path)).strip()
            if not text or not text.isascii() or not text.isprintable():
                raise ValueError("no token in its first line")
            self._last = text
        except (OSError, ValueError) as error:
            if not self._last:
                raise RelayError("auth", f"[{self._section}] token_file {self._path} can't be used: {error}") from None
        return {"Authorization": f"Bearer {self._last}"}


class Link:
    """An open connection: texts from the server, and one answer to it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, server: str, counters: SourceCounters) -> None:
        self.server = server
        self.heard_at = asyncio.get_running_loop().time()
        self._socket = socket
        self._counters = counters

    async def receive(self, limit: float = 0.0) -> bytes | None:
        """The next message; None for a mere sign of life. Raises RelayError when the connection has ended.

        `limit`: seconds that it may take, 0 for SILENCE.
        """
        limit = limit or SILENCE
        try:
            async with asyncio.timeout(limit):
                message = await self._socket.receive()
                if message.type is aiohttp.WSMsgType.PING:
                    await self._socket.pong(message.data)
        except TimeoutError:
            raise RelayError("stall", f"{self.server}: silent for {limit:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RelayError("connect", f"{self.server}: {reason(error)}") from None
        self.heard_at = asyncio.get_running_loop().time()
        if message.type in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
            return None
        if message.type is aiohttp.WSMsgType.TEXT:
            data: bytes = message.data.encode()
            self._counters.bytes += len(data)
            return data
        if message.type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.BINARY):
            raise RelayError("framing", f"{self.server}: what it says is no text: {message.data!r:.200}")
        raise RelayError("connect", f"{self.server}: the server closed the connection")

    async def send(self, data: bytes) -> None:
        """Answer the server. Raises RelayError."""
        try:
            async with asyncio.timeout(SILENCE):
                await self._socket.send_frame(data, aiohttp.WSMsgType.TEXT)
        except TimeoutError:
            raise RelayError("stall", f"{self.server}: takes nothing") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RelayError("connect", f"{self.server}: {reason(error)}") from None


class Connector:
    """Opens links as `[relay]` says."""

    def __init__(self, config: RelayConfig, hosts: Hosts, counters: SourceCounters) -> None:
        self._config = config
        self._hosts = hosts
        self._counters = counters
        self._token = Token(config.token_file)

    @contextlib.asynccontextmanager
    async def open(self, base: str, since: str) -> AsyncIterator[Link]:
        """A link to the server at `base`; `since` is the position to go on from, "" for none. Raises RelayError."""
        limit = float(self._config.connect_timeout)
        headers = await self._token.headers()
        tls = await self._tls() if base.startswith("https:") else None
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=KnownHosts(self._hosts, limit), use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            trace_configs=[trace],
            headers={"User-Agent": "pharos"},
        )
        try:
            yield Link(await self._connect(session, base, since, headers, tls), base, self._counters)
        finally:
            await session.close()  # closes the connection too

    async def _connect(
        self,
        session: aiohttp.ClientSession,
        base: str,
        since: str,
        headers: dict[str, str],
        tls: ssl.SSLContext | None,
    ) -> aiohttp.ClientWebSocketResponse:
        url = f"{base}{PATH}" + (f"?since={quote(since)}" if since else "")
        limit = float(self._config.connect_timeout)
        try:
            async with asyncio.timeout(limit):
                return await session.ws_connect(
                    url,
                    headers=headers,
                    ssl=tls if tls is not None else True,
                    autoping=False,
                    max_msg_size=MAX_MESSAGE,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
                )
        except TimeoutError:
            self._hosts.again(urlsplit(base).hostname or "")
            raise RelayError("connect", f"{base}: no answer within {limit:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(base, error.status) from None
        except aiohttp.ClientSSLError as error:
            raise RelayError("tls", f"{base}: {reason(error)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._hosts.again(urlsplit(base).hostname or "")
            raise RelayError("connect", f"{base}: {reason(error)}") from None

    async def _tls(self) -> ssl.SSLContext:
        """TLS with the files as they are now. Raises RelayError."""
        config = self._config
        files = Tls(config.ca_file, config.cert_file, config.key_file, config.tls_verify)
        try:
            return await asyncio.to_thread(files.context)
        except OSError as error:
            raise RelayError("tls", f"[relay] {error}") from None


def reason(error: Exception) -> str:
    """An exception's text, or its type where it has none."""
    return str(error) or type(error).__name__


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    params.response.close()
    raise RelayError("redirect", f"{params.url.origin()}: redirects to elsewhere; refused")


def _refused(base: str, status: int) -> RelayError:
    """The error that a status other than 101 is."""
    if status in (401, 403):
        return RelayError("auth", f"{base}: status {status}, check [relay] token_file and the certificate")
    if status == 503:
        return RelayError("status", f"{base}: not ready to be followed (status 503)")
    return RelayError("status", f"{base}: status {status}, no /v1/watch of a Pharos server")
