"""Who may speak to an HTTP listener: its TLS context, and the bearer token in a file."""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
import time
from pathlib import Path

from mesos_dns.tls import server_context

log = logging.getLogger(__name__)

RECHECK_SECONDS = 1.0
"""A changed token file is noticed after this time at the latest, by the next request."""

MAX_TOKEN = 4096


def server_tls(cert_file: str, key_file: str, client_ca_file: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer; with `client_ca_file` every client must show a certificate of its authorities.

    Reads files (blocks). Raises OSError when one can't be used.
    """
    context = server_context(cert_file, key_file, ["http/1.1"])
    if client_ca_file:
        try:
            context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise OSError(f"can't use {client_ca_file} as certificates of authorities: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TokenFile:
    """The token that requests must carry. A file that becomes unusable leaves the last good one in force."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._token = b""
        self._stamp: tuple[int, int, int] | None = None
        self._checked = 0.0
        self._complaint = ""

    async def load(self) -> None:
        """Read it for the first time. Raises OSError when there is no token in it."""
        try:
            await self._refresh()
        except (OSError, ValueError) as error:
            raise OSError(f"can't read a token from {self._path}: {error}") from error

    async def allows(self, authorization: str) -> bool:
        """True for "Bearer TOKEN" with the file's token, compared in constant time."""
        if time.monotonic() - self._checked >= RECHECK_SECONDS:
            try:
                await self._refresh()
                self._complaint = ""
            except (OSError, ValueError) as error:
                self._checked = time.monotonic()
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.error("token file not usable, the last token stays file=%s error=%s", self._path, error)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)

    async def _refresh(self) -> None:
        self._stamp, self._token = await asyncio.to_thread(_read, self._path, self._stamp, self._token)
        self._checked = time.monotonic()


def _read(path: Path, stamp: tuple[int, int, int] | None, token: bytes) -> tuple[tuple[int, int, int], bytes]:
    """The file's stamp and token; the given ones when it did not change."""
    status = path.stat()
    now = (status.st_mtime_ns, status.st_ino, status.st_size)
    return now, token if now == stamp else read_token(path)


def read_token(path: Path) -> bytes:
    """The one token in a file (blocks). Raises OSError, and ValueError when there is none or more."""
    with path.open("rb") as file:
        lines = file.read(MAX_TOKEN + 1).split()
    if len(lines) != 1 or len(lines[0]) > MAX_TOKEN:
        raise ValueError(f"expected one token of at most {MAX_TOKEN} bytes and nothing else")
    return lines[0]
