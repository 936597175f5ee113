"""HTTP to Marathon: its status always checked, redirects followed by hand, credentials only to Marathons.

A Marathon that does not lead passes requests on, or answers 302 with the leader's URL (for the event stream), or 503
while there is no leader. A redirect takes our credentials along only to a place that is configured, or that the
Marathon which redirects names as its leader at /v2/leader: one to a login page, or anywhere else, is an error that says
so. None leads from TLS to plain HTTP. Nothing is decompressed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Collection, Iterable
from urllib.parse import urlsplit

import aiohttp
import msgspec

from mesos_dns.config import MarathonConfig, host_port_text
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.sources.marathon_auth import authenticator
from mesos_dns.sources.mesos_auth import Authenticator, AuthError, IamAuth
from mesos_dns.sources.mesos_client import reason
from mesos_dns.sources.outgoing import new_session, text_of_refusal, tls_context

log = logging.getLogger(__name__)

MAX_HOPS = 3
MAX_SMALL = 1 << 20

EVENT_STREAM = "text/event-stream"
JSON = "application/json"
SUCCESS = frozenset({200})
"""Statuses of an answer to a question."""

_PORTS = {"http": 80, "https": 443}


class MarathonError(Exception):
    """A request to Marathon failed; `kind` is the counter it goes to, `status` the HTTP status or 0.

    `does_not_exist`: it is Marathon itself that says that there is no such thing, not a proxy before it. `unsent`: the
    request surely was not carried out, since nothing reached a Marathon, or only one that sent us elsewhere.
    """

    def __init__(
        self, kind: str, text: str, status: int = 0, *, does_not_exist: bool = False, unsent: bool = False
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status
        self.does_not_exist = does_not_exist
        self.unsent = unsent


class _Leader(msgspec.Struct):
    leader: str | None = None


class _Message(msgspec.Struct):
    message: str


def base_url(url: str) -> str:
    """The base of a Marathon's URLs, with a port, from "http(s)://HOST[:PORT][/PREFIX]". Raises ValueError."""
    if "@" in url:  # not told in the error: it may be a secret
        raise ValueError("a Marathon's URL must not hold a password; use [marathon] principal and secret_file")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"expected http(s)://HOST:PORT, got {url!r}")
    port = parts.port or _PORTS[parts.scheme]
    return f"{parts.scheme}://{host_port_text(parts.hostname, port)}{parts.path.rstrip('/')}"


def origin(url: str) -> str:
    """Scheme, host and port of a URL that `base_url` made."""
    return "/".join(url.split("/", 3)[:3])


def redirected(base: str, path: str, location: str) -> str:
    """The base that a redirect of `base` + `path` leads to. Raises MarathonError when that is not usable.

    The Location is to end in the path that was asked for, or to be none at all; what stands before it is a prefix
    that a proxy puts there.
    """
    scheme = urlsplit(base).scheme
    target = location
    if location.startswith("//"):
        target = f"{scheme}:{location}"
    elif location.startswith("/"):
        target = origin(base) + location
    bare, asked = target.partition("?")[0], path.partition("?")[0]
    if bare.endswith(asked):
        bare = bare.removesuffix(asked)
    elif urlsplit(bare).path not in ("", "/"):
        raise MarathonError(
            "redirect",
            f"{base}{asked} redirects to {location[:200]!r}, which is another resource",
            302,
            unsent=True,
        )
    try:
        found = base_url(bare)
    except ValueError:
        raise MarathonError(
            "redirect", f"{base} redirects to {location[:200]!r}, which is no URL of Marathon", 302, unsent=True
        ) from None
    if scheme == "https" and not found.startswith("https:"):
        raise MarathonError("redirect", f"{base} redirects from https to {location[:200]!r}; refused", 302, unsent=True)
    return found


class Answer:
    """An answer: where it came from, its status, which leader it names, its body in pieces as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse, base: str, counters: SourceCounters) -> None:
        self.base = base
        self.status = response.status
        self.leader = response.headers.get("X-Marathon-Leader", "")
        self.content_type = response.content_type
        self._response = response
        self._counters = counters

    async def chunk(self) -> bytes:
        """The next bytes; b"" at the end. Raises MarathonError when the connection breaks."""
        try:
            data = await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MarathonError("connect", f"{self.base}: {reason(error)}") from None
        self._counters.bytes += len(data)
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises MarathonError when it is larger than `limit`, or cut."""
        body = bytearray()
        while data := await self.chunk():
            body += data
            if len(body) > limit:
                raise MarathonError("document", f"{self.base}: an answer is larger than {limit} bytes")
        return bytes(body)


class MarathonClient:
    """Requests to the Marathons at `urls`. Use as an async context manager: entering reads the TLS files (OSError)."""

    def __init__(
        self,
        config: MarathonConfig,
        urls: Iterable[str],
        hosts: Hosts,
        counters: SourceCounters,
        auth: Authenticator | None = None,
    ) -> None:
        self._config = config
        self._hosts = hosts
        self._counters = counters
        self._auth = auth or authenticator(config)
        self._trusted = {origin(base_url(url)) for url in urls}
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> MarathonClient:
        config = self._config
        if config.ca_file or config.auth == "iam" or any(url.startswith("https:") for url in self._trusted):
            self._tls = await asyncio.to_thread(tls_context, config, "marathon")
        self._session = new_session(self._hosts, config.connect_timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def request(
        self,
        base: str,
        path: str,
        *,
        method: str = "GET",
        accept: str = JSON,
        patience: float = 0.0,
        body: bytes | None = None,
        statuses: Collection[int] = SUCCESS,
    ) -> AsyncIterator[Answer]:
        """Ask, following redirects. Raises MarathonError unless the answer's status is one of `statuses`.

        `patience`: seconds that the head of the answer may take beyond [marathon] connect_timeout. `body` is JSON; a
        redirect takes it along, since who redirects has not looked at it (but not a 303: that one has).
        """
        for _ in range(MAX_HOPS + 1):
            response = await self._send(base, path, method, accept, patience, body)
            try:
                if response.status in (301, 302, 307, 308) or (response.status == 303 and body is None):
                    base = await self._followed(base, path, response.headers.get("Location", ""))
                    continue
                if response.status not in statuses:
                    raise await _refused(response, base, path)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise MarathonError("document", f"{base}{path}: compressed although that was not asked for", 200)
                yield Answer(response, base, self._counters)
                return
            finally:
                response.close()
        raise MarathonError("redirect", f"{base}{path}: more than {MAX_HOPS} redirects", 302, unsent=True)

    async def read(
        self,
        base: str,
        path: str,
        *,
        limit: int = MAX_SMALL,
        method: str = "GET",
        within: float = 0.0,
        patience: float = 0.0,
        body: bytes | None = None,
        statuses: Collection[int] = SUCCESS,
    ) -> tuple[Answer, bytes]:
        """One small answer and its body; `within` seconds after its head (0: connect_timeout). Raises MarathonError.

        The rest is as `request` takes it.
        """
        within = within or self._config.connect_timeout
        asking = self.request(base, path, method=method, patience=patience, body=body, statuses=statuses)
        async with asking as answer:
            try:
                async with asyncio.timeout(within):
                    return answer, await answer.read(limit)
            except TimeoutError:
                raise MarathonError("stall", f"{base}{path}: it did not arrive within {within:g} s") from None

    async def leader(self, base: str) -> str:
        """HOST:PORT of the leader as the Marathon at `base` tells. Raises MarathonError, also where there is none."""
        response = await self._send(base, "/v2/leader", "GET", JSON, 0.0)
        try:
            if response.status != 200:
                raise await _refused(response, base, "/v2/leader")
            async with asyncio.timeout(self._config.connect_timeout):
                body = await Answer(response, base, self._counters).read(MAX_SMALL)
            found = msgspec.json.decode(body, type=_Leader).leader
        except TimeoutError:
            raise MarathonError("stall", f"{base}/v2/leader: it did not arrive") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MarathonError("document", f"{base}/v2/leader: {error}", 200) from None
        finally:
            response.close()
        if not found:
            raise MarathonError("status", f"{base} knows no leader", 200)
        return found

    async def _followed(self, base: str, path: str, location: str) -> str:
        """Where a redirect leads, if our credentials may go there. Raises MarathonError."""
        found = redirected(base, path, location)
        place = origin(found)
        log.debug("redirected to=%s", found)
        if self._config.auth == "none" or place in self._trusted:
            return found
        with contextlib.suppress(MarathonError, ValueError):
            leader = await self.leader(base)
            if origin(base_url(f"{urlsplit(base).scheme}://{leader}")) == place:
                self._trusted.add(place)
                return found
        raise MarathonError(
            "redirect",
            f"{base} redirects to {place}, which it does not name as its leader: our credentials don't go there; "
            "if it is a Marathon, list it in [marathon] urls",
            302,
            unsent=True,
        )

    async def _send(
        self, base: str, path: str, method: str, accept: str, patience: float, body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Ask with our credentials, once more with fresh ones when these are refused."""
        auth = self._auth
        response = await self._send_once(base, path, method, accept, patience, body)
        if response.status == 401 and auth.rejected():
            response.close()
            response = await self._send_once(base, path, method, accept, patience, body)
        if response.status != 401 and isinstance(auth, IamAuth):
            auth.accepted()
        return response

    async def _send_once(
        self, base: str, path: str, method: str, accept: str, patience: float, body: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": JSON}
        try:
            headers.update(await self._auth.headers(self._session, self._tls))
        except AuthError as error:
            raise MarathonError("auth", str(error), unsent=True) from None
        limit = self._config.connect_timeout + patience
        try:
            async with asyncio.timeout(limit):
                return await self._session.request(
                    method,
                    base + path,
                    headers=headers,
                    data=body,
                    middlewares=() if body is None else (_once,),
                    allow_redirects=False,
                    ssl=self._tls if self._tls is not None else True,
                )
        except TimeoutError as error:
            self._hosts.again(urlsplit(base).hostname or "")
            unsent = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise MarathonError("connect", f"{base}{path}: no answer within {limit:g} s", unsent=unsent) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._hosts.again(urlsplit(base).hostname or "")
            unsent = isinstance(error, aiohttp.ClientConnectorError | ValueError)
            raise MarathonError("connect", f"{base}{path}: {reason(error)}", unsent=unsent) from None


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a change once: aiohttp would send a PUT again when its connection broke, though it may be carried out."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and nothing will be
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(reason(error)) from None


async def _refused(response: aiohttp.ClientResponse, base: str, path: str) -> MarathonError:
    """The error that a status other than 200 is."""
    status, text = response.status, await text_of_refusal(response)
    if status in (401, 403):
        hint = "check [marathon] auth, principal and secret" if status == 401 else "this login may not do that"
        return MarathonError("auth", f"{base}{path}: status {status}, {hint}: {text!r}", status)
    return MarathonError(
        "status", f"{base}{path}: status {status}: {text!r}", status, does_not_exist=_does_not_exist(status, text)
    )


def _does_not_exist(status: int, text: str) -> bool:
    """True for Marathon's own 404: {"message": "App '/x' does not exist"}, or "Pod '/x' does not exist"."""
    if status != 404:
        return False
    try:
        return "does not exist" in msgspec.json.decode(text, type=_Message).message
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
