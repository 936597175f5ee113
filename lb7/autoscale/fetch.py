"""One answer over HTTP from a server that may be anything: a plain 200 within a size and a time, or an error.

No redirect is followed, nothing is decompressed, no cookie is kept. What a refusal says is told in its first letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Literal

import aiohttp
import yarl

from mesos_dns.hosts import Hosts
from mesos_dns.sources.mesos_client import reason
from mesos_dns.sources.outgoing import new_session, text_of_refusal

FailureKind = Literal[
    "connect", "timeout", "redirect", "auth", "forbidden", "status", "answer", "value", "file", "unknown", "internal"
]
"""connect, timeout: nobody there, or no whole answer in time. redirect, auth (401), forbidden (403), status: no 200.
answer: not what was asked for. value: an answer without one number. file: ours can't be read. unknown: the catalog has
no address. internal: a fault of Pharos."""

MOST_OF_AN_ERROR = 1000
"""Characters: a server's own words may be in it."""


class ReadError(Exception):
    """A metric could not be read. `kind` is the counter it goes to, `place` what is at fault (of several errors with
    one kind and place one is logged). `conclusive`: the server did answer, and what it told before no longer counts;
    otherwise it could not be asked."""

    def __init__(self, kind: FailureKind, text: str, place: str, *, conclusive: bool = False) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in text[:MOST_OF_AN_ERROR]))
        self.kind = kind
        self.place = place
        self.conclusive = conclusive


class Answer:
    """The body of a 200, in pieces as they arrive; `name` is what errors call its URL, `place` its server."""

    def __init__(self, response: aiohttp.ClientResponse, name: str, place: str, limit: int) -> None:
        self.name = name
        self.place = place
        self._response = response
        self._left = self._limit = limit

    async def chunk(self) -> bytes:
        """The next bytes; b"" at the end. Raises ReadError where they are too many."""
        data = await self._response.content.readany()
        self._left -= len(data)
        if self._left < 0:
            raise self.refused(f"larger than {self._limit} bytes")
        return data

    async def read(self) -> bytes:
        """The whole body. Raises ReadError."""
        body = bytearray()
        while data := await self.chunk():
            body += data
        return bytes(body)

    def refused(self, why: str) -> ReadError:
        """The error that an answer is which can't be what was asked for."""
        return ReadError("answer", f"{self.name}: not the answer that was expected: {why}", self.name, conclusive=True)


class Fetcher:
    """Asks servers. `within`: seconds that an answer may take, its body included; `limit`: bytes of the body;
    `at_once`: requests at a time. Use as an async context manager."""

    def __init__(self, hosts: Hosts, *, within: float, limit: int, at_once: int) -> None:
        self._hosts = hosts
        self._within = within
        self._limit = limit
        self._at_once = at_once
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        self._session = new_session(self._hosts, self._within, self._at_once)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session. Raises RuntimeError outside of the context."""
        if self._session is None:
            raise RuntimeError("used outside of its context")
        return self._session

    @contextlib.asynccontextmanager
    async def answered(
        self,
        url: str,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        form: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Ask (GET; POST where there is a `form`). Raises ReadError unless all of a plain 200 comes in time.

        `url` is sent as it is, character by character; `name` stands for it in errors. `tls` None: the system's
        authorities. `server_hostname`: whom the certificate is to name, if not the URL's host.
        """
        try:
            asked = yarl.URL(url, encoded=True)
            place = str(asked.origin())
        except ValueError:
            raise ReadError("connect", f"{name}: a URL that can't be asked", name) from None
        try:
            async with asyncio.timeout(self._within):
                response = await self.session.request(
                    "GET" if form is None else "POST",
                    asked,
                    headers=headers,
                    data=form,
                    allow_redirects=False,
                    ssl=tls if tls is not None else True,
                    server_hostname=server_hostname if asked.scheme == "https" else None,
                )
                try:
                    await _check(response, name, place)
                    yield Answer(response, name, place, self._limit)
                finally:
                    response.close()
        except TimeoutError:
            self._hosts.again(asked.host or "")
            raise ReadError("timeout", f"{name}: no answer within {self._within:g} s", place) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._hosts.again(asked.host or "")
            raise ReadError("connect", f"{name}: {_told(error)}", place) from None


def _told(error: Exception) -> str:
    """Why there was no answer. What aiohttp says of URLs and of answers that are no HTTP has the whole URL in it, which
    may hold what is secret."""
    if isinstance(error, aiohttp.InvalidURL):
        return "a URL that can't be asked"
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message[:300]
    return reason(error)[:300]


async def _check(response: aiohttp.ClientResponse, name: str, place: str) -> None:
    """Raises ReadError unless this is a plain 200."""
    status = response.status
    if 300 <= status < 400:
        raise ReadError("redirect", f"{name}: redirects to elsewhere (status {status}); refused", name, conclusive=True)
    if status in (401, 403):
        why = "our credentials are refused, or are missing" if status == 401 else "we may not read this"
        raise ReadError("auth" if status == 401 else "forbidden", f"{name}: status {status}: {why}", place)
    if status != 200:
        text = await text_of_refusal(response)
        conclusive = 400 <= status < 500 and status not in (408, 429)
        raise ReadError("status", f"{name}: status {status}: {text!r}", name, conclusive=conclusive)
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise Answer(response, name, place, 0).refused(f"compressed ({coding[:20]!r}) though that was not asked for")
