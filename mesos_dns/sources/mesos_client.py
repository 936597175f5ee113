"""HTTP to Mesos masters: one request at a time, its status checked, redirects followed by hand.

A master that does not lead answers 307 with a Location without scheme, also to POST /api/v1, where
the body must be sent again; most HTTP clients would not. Nothing is decompressed: a compressed
snapshot costs the master more than it saves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp

from mesos_dns.config import MesosConfig, host_port
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.mesos_auth import Authenticator, AuthError, IamAuth, NoAuth
from mesos_dns.sources.outgoing import new_session, text_of_refusal, tls_context

log = logging.getLogger(__name__)

MAX_HOPS = 4
DEFAULT_PORT = 5050
UNSUPPORTED = frozenset({400, 404, 405, 406, 410, 501})
"""Statuses of a leading master that has no operator API."""


class MasterError(Exception):
    """A request to a master failed; `kind` is the counter it goes to, `status` the HTTP status or 0.

    `answered` tells that a master (or a proxy) did answer, so that there is one.
    """

    def __init__(self, kind: str, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status

    @property
    def answered(self) -> bool:
        """True when something answered the request."""
        return self.status > 0


def base_url(master: str, scheme: str = "http") -> str:
    """The base of a master's URLs from "host:port", "host" or "http(s)://host:port[/prefix]". Raises ValueError.

    `scheme` is that of a master which names none.
    """
    if "://" not in master:
        host, port = host_port(master, DEFAULT_PORT)
        return f"{scheme}://{_bracket(host)}:{port}"
    parts = urlsplit(master)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"expected HOST:PORT or http(s)://HOST:PORT, got {master!r}")
    if parts.username or parts.password:
        raise ValueError("a master's URL must not hold a password; use [mesos] principal and secret_file")
    port = parts.port or (443 if parts.scheme == "https" else DEFAULT_PORT)
    return f"{parts.scheme}://{_bracket(parts.hostname)}:{port}{parts.path.rstrip('/')}"


def place(base: str) -> tuple[str, int]:
    """Host and port of a base URL."""
    parts = urlsplit(base)
    return parts.hostname or "", parts.port or 0


def reason(error: Exception) -> str:
    """An exception's text, or its type where it has none."""
    return str(error) or type(error).__name__


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def redirected(base: str, path: str, location: str) -> tuple[str, str]:
    """(base, path) after a redirect. A Location without scheme keeps it, one without path keeps the path.

    Raises MasterError when the target is not usable, or leaves TLS.
    """
    scheme = urlsplit(base).scheme
    target = urlsplit(f"{scheme}:{location}" if location.startswith("//") else location)
    try:
        port = target.port
    except ValueError:
        port = None
    if target.scheme not in ("http", "https") or not target.hostname:
        raise MasterError("redirect", f"{base} redirects to {location!r}, which is no URL of a master", 307)
    if scheme == "https" and target.scheme == "http":
        raise MasterError("redirect", f"{base} redirects from https to {location!r}; refused", 307)
    if port is None:
        port = 443 if target.scheme == "https" else DEFAULT_PORT
    kept = target.path if target.path not in ("", "/") else path
    return f"{target.scheme}://{_bracket(target.hostname)}:{port}", kept


class Answer:
    """A 200 answer: where it came from and its body in pieces as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse, base: str, counters: SourceCounters) -> None:
        self.base = base
        self._response = response
        self._counters = counters

    async def chunk(self) -> bytes:
        """The next bytes; b"" at the end. Raises MasterError when the connection breaks."""
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MasterError("connect", f"{self.base}: {reason(error)}") from None
        self._counters.bytes += len(data)
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises MasterError when it is larger than `limit`."""
        body = bytearray()
        while data := await self.chunk():
            body += data
            if len(body) > limit:
                raise MasterError("document", f"{self.base}: an answer is larger than {limit} bytes")
        return bytes(body)


class MasterClient:
    """Requests to masters. Use as an async context manager: entering reads the TLS files. Raises OSError."""

    def __init__(
        self, config: MesosConfig, hosts: Hosts, counters: SourceCounters, auth: Authenticator | None = None
    ) -> None:
        self._config = config
        self._hosts = hosts
        self._counters = counters
        self._auth = auth or NoAuth()
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> MasterClient:
        uses_tls = any(master.startswith("https:") for master in self._config.masters)
        if uses_tls or self._config.scheme == "https" or self._config.ca_file or self._config.auth == "iam":
            self._tls = await asyncio.to_thread(tls_context, self._config, "mesos")
        self._session = new_session(self._hosts, self._config.connect_timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def request(
        self, base: str, path: str, body: bytes | None = None, patience: float = 0.0
    ) -> AsyncIterator[Answer]:
        """GET, or POST `body` as JSON, following redirects. Raises MasterError unless the answer is a 200.

        `patience`: seconds that the head of the answer may take beyond [mesos] connect_timeout (a
        master builds the whole of a large document first).
        """
        for _ in range(MAX_HOPS + 1):
            response = await self._send_authenticated(base, path, body, patience)
            try:
                if response.status in (301, 302, 303, 307, 308):
                    location = response.headers.get("Location", "")
                    base, path = redirected(base, path, location)
                    log.debug("redirected to=%s", base)
                    continue
                if response.status != 200:
                    raise await _refused(response, base, path)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise MasterError("document", f"{base}{path}: compressed although that was not asked for", 200)
                yield Answer(response, base, self._counters)
                return
            finally:
                response.close()
        raise MasterError("redirect", f"{base}{path}: more than {MAX_HOPS} redirects", 307)

    async def _send_authenticated(
        self, base: str, path: str, body: bytes | None, patience: float
    ) -> aiohttp.ClientResponse:
        auth = self._auth
        response = await self._send(base, path, body, auth, patience)
        if response.status == 401 and auth.rejected():
            response.close()
            response = await self._send(base, path, body, auth, patience)
        if response.status != 401 and isinstance(auth, IamAuth):
            auth.accepted()
        return response

    async def _send(
        self, base: str, path: str, body: bytes | None, auth: Authenticator, patience: float
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            headers.update(await auth.headers(self._session, self._tls))
        except AuthError as error:
            raise MasterError("auth", str(error)) from None
        limit = self._config.connect_timeout + patience
        try:
            async with asyncio.timeout(limit):
                return await self._session.request(
                    "GET" if body is None else "POST",
                    base + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self._tls if self._tls is not None else True,
                )
        except TimeoutError:
            self._hosts.again(urlsplit(base).hostname or "")
            raise MasterError("connect", f"{base}{path}: no answer within {limit:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._hosts.again(urlsplit(base).hostname or "")
            raise MasterError("connect", f"{base}{path}: {reason(error)}") from None


async def _refused(response: aiohttp.ClientResponse, base: str, path: str) -> MasterError:
    """The error that a status other than 200 is."""
    status, text = response.status, await text_of_refusal(response)
    if status in (401, 403):
        hint = "check [mesos] auth, principal and secret" if status == 401 else "the principal may not do this"
        return MasterError("auth", f"{base}{path}: status {status}, {hint}: {text!r}", status)
    return MasterError("status", f"{base}{path}: status {status}: {text!r}", status)
