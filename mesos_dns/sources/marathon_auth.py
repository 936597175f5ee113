"""Prove to Marathon who we are: basic authentication, a DC/OS token from a file, or a DC/OS service account.

Marathon is asked often (for each app that changes), so a header is kept for some seconds before files are read again,
and thrown away at a 401. Secrets are never logged.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

import aiohttp

from mesos_dns.config import MarathonConfig, first_line
from mesos_dns.sources.mesos_auth import Authenticator, AuthError, BasicAuth, IamAuth, NoAuth

KEPT = 10.0
"""Seconds for which a header is used before its file is read again."""


class TokenAuth:
    """A DC/OS authentication token, as `Authorization: token=…`."""

    def __init__(self, token: str, token_file: str) -> None:
        self._token = token
        self._file = token_file

    def _read(self) -> str:
        if not self._file:
            return self._token
        try:
            return first_line(self._file)
        except (OSError, UnicodeDecodeError) as error:
            raise AuthError(f"[marathon] secret_file {self._file} can't be read: {error}") from None

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """See Authenticator."""
        token = await asyncio.to_thread(self._read) if self._file else self._token
        if not token.isascii() or not token.isprintable():
            raise AuthError("the token of [marathon] has characters that no token has")
        return {"Authorization": f"token={token}"}

    def rejected(self) -> bool:
        """See Authenticator."""
        return False


class KeptAuth:
    """Keeps the headers of another authenticator for a while; `clock` are monotonic seconds."""

    def __init__(self, inner: Authenticator, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._headers: dict[str, str] | None = None
        self._until = 0.0
        self._fresh = False

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """See Authenticator."""
        self._fresh = self._headers is None or self._clock() >= self._until
        if self._headers is None or self._fresh:
            self._headers = await self._inner.headers(session, tls)
            self._until = self._clock() + KEPT
        return self._headers

    def rejected(self) -> bool:
        """See Authenticator. Another attempt makes sense when the header was not read just now."""
        self._headers = None
        return not self._fresh


def authenticator(config: MarathonConfig) -> Authenticator:
    """The authenticator that `[marathon]` asks for."""
    if config.auth == "basic":
        return KeptAuth(BasicAuth(config.principal, config.secret, config.secret_file, section="marathon"))
    if config.auth == "token":
        return KeptAuth(TokenAuth(config.secret, config.secret_file))
    if config.auth == "iam":
        return IamAuth(config.iam_config_file, section="marathon")
    return NoAuth()
