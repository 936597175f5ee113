"""HTTP to the `[api]` of one edge: whom we trust, who we are, and what is not taken for an answer.

Redirects are refused: the token is for the edges that are known. Nothing is believed of an answer other than 200.

An edge that the configuration names gets the token. Of one that only the coordinator tells of, which others may write,
a certificate must say that it is one: over plain HTTP it gets none, unless it is on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import aiohttp

from lb7.autoscale.config import AutoscaleConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.outgoing import new_session
from mesos_dns.sources.relay_link import RelayError, Token, reason
from mesos_dns.tls import Tls

CONNECT = 3.0
"""Seconds to connect, and to look the host up; twice that until the head of an answer."""
CHUNK = 1 << 16
TLS_FOR = 60.0
"""Seconds in which certificates are not read again; connections can be used again meanwhile."""


_WITHHELD = (
    "the token is shown to edges of the coordinator by HTTPS alone, verified: "
    "set cert_file in the edge's [api], or name it in [autoscale] edges"
)


class EdgeError(Exception):
    """An edge that can't be asked; the text says why, `kind` in one word what was wrong."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class EdgeClient:
    """See the module. `url` is the base, as `server_url` makes it; `named`: by the configuration. The hosts stay the
    caller's."""

    def __init__(self, url: str, config: AutoscaleConfig, hosts: Hosts, *, named: bool = True) -> None:
        self.url = url
        self._config, self._hosts = config, hosts
        self._host = urlsplit(url).hostname or ""
        proven = url.startswith("https:") and config.tls_verify
        self._withheld = bool(config.token_file) and not (named or proven or _is_here(self._host))
        self._token = Token("" if self._withheld else config.token_file, "autoscale")
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._tls_until = 0.0

    def __repr__(self) -> str:
        return f"<EdgeClient {self.url}>"

    @contextlib.asynccontextmanager
    async def get(self, path: str, kind: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Ask for a path: the pieces of the body of an answer of this kind (a media type). Raises EdgeError, also
        while it is read."""
        try:
            async with asyncio.timeout(2 * CONNECT):
                headers = {**await self._token.headers(), "Accept": kind}
                tls = await self._context() if self.url.startswith("https:") else True
                if self._session is None:
                    self._session = new_session(self._hosts, CONNECT)
                response = await self._session.get(
                    f"{self.url}{path}", params=query, headers=headers, ssl=tls, allow_redirects=False
                )
        except TimeoutError:
            self._hosts.again(self._host)
            raise EdgeError("timeout", "no answer in time") from None
        except RelayError as error:
            raise EdgeError("auth", str(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._hosts.again(self._host)
            raise EdgeError(_kind_of(error), reason(error)[:300]) from None
        try:
            if self._withheld and response.status in (401, 403):
                raise EdgeError("auth", f"status {response.status}; {_WITHHELD}")
            _check(response, kind)
            yield _pieces(response)
        finally:
            response.close()

    async def close(self) -> None:
        """End its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _context(self) -> ssl.SSLContext:
        """TLS with the files as they are now, or were a moment ago. Raises EdgeError that names section and file."""
        config, now = self._config, asyncio.get_running_loop().time()
        if self._tls is None or now >= self._tls_until:
            files = Tls(config.ca_file, config.cert_file, config.key_file, config.tls_verify)
            try:
                self._tls = await asyncio.to_thread(files.context)
            except OSError as error:
                raise EdgeError("tls", f"[autoscale] {error}") from None
            self._tls_until = now + TLS_FOR
        return self._tls


def _is_here(host: str) -> bool:
    """Whether it is an address of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _kind_of(error: Exception) -> str:
    return "tls" if isinstance(error, aiohttp.ClientSSLError) else "connect"


def _check(response: aiohttp.ClientResponse, kind: str) -> None:
    """Raise EdgeError for what is no answer."""
    if response.status in (401, 403):
        raise EdgeError("auth", f"status {response.status}, check [autoscale] token_file and cert_file")
    if 300 <= response.status < 400:
        raise EdgeError("redirect", f"status {response.status}: redirects to elsewhere; refused")
    if response.status != 200:
        raise EdgeError("status", f"status {response.status}, expected a Pharos edge's [api] with [l7]")
    if response.content_type != kind or response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EdgeError("malformed", f"the answer is no {kind}, it is {response.content_type[:100]!r}")


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        while piece := await response.content.read(CHUNK):
            yield piece
    except aiohttp.ClientPayloadError:
        raise EdgeError("closed", "it closed the connection in the middle of an answer") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise EdgeError("connect", reason(error)[:300]) from None
