"""One answer over HTTP from a server that may be anything: a plain 200 within a size and a time, or an error.

No redirect is followed, nothing is decompressed, no cookie is kept. What a refusal says is told in its first letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import yarl

from mesos_dns.sources.mesos_client import reason
from mesos_dns.sources.outgoing import text_of_refusal


class ReadError(Exception):
    """A metric could not be read. `kind` is the counter it goes to, `place` what is at fault (of several errors with
    one kind and place one is logged). `conclusive`: the server did answer, and what it told before no longer counts;
    otherwise it could not be asked."""

    def __init__(self, kind: str, text: str, place: str, *, conclusive: bool = False) -> None:
        super().__init__(text)
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


@contextlib.asynccontextmanager
async def answered(
    session: aiohttp.ClientSession,
    url: str,
    *,
    name: str,
    within: float,
    limit: int,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    form: Mapping[str, str] | None = None,
) -> AsyncIterator[Answer]:
    """Ask (GET; POST where there is a `form`). Raises ReadError unless the answer is a 200, and where all of it has not
    come `within` seconds.

    `url` is sent as it is, character by character; `name` stands for it in errors. `limit`: bytes of the body.
    `tls` None: the system's authorities. `server_hostname`: whom the certificate is to name, if not the URL's host.
    """
    try:
        asked = yarl.URL(url, encoded=True)
        place = str(asked.origin())
    except ValueError:
        raise ReadError("connect", f"{name}: a URL that can't be asked", name) from None
    try:
        async with asyncio.timeout(within):
            response = await session.request(
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
                yield Answer(response, name, place, limit)
            finally:
                response.close()
    except TimeoutError:
        raise ReadError("timeout", f"{name}: no answer within {within:g} s", place) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
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
        raise ReadError("auth", f"{name}: status {status}: our credentials are refused", place)
    if status != 200:
        text = await text_of_refusal(response)
        conclusive = 400 <= status < 500 and status not in (408, 429)
        raise ReadError("status", f"{name}: status {status}: {text!r}", name, conclusive=conclusive)
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise Answer(response, name, place, 0).refused(f"compressed ({coding[:20]!r}) though that was not asked for")
