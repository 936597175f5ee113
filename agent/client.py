"""The HTTP client of the commands that ask a running Pharos: the standard library's, so it starts fast."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_MAX_BODY = 256 << 20
"""Bytes: 100,000 tasks are about 50 MB of JSON."""
_MAX_TOKEN = 64 << 10
_MAX_SAID = 2000
"""Bytes of a refusal that are read."""


class ClientError(Exception):
    """The question could not be put, or the answer is none. The text says what to do."""


class BadOption(ClientError):
    """What the user said can't be used: a URL, or a file that is no token or no PEM."""


class Unreachable(ClientError):
    """Nobody answers at the address."""


class BadAnswer(ClientError):
    """An answer with another status than was hoped for: `status`, and what is `said`."""

    def __init__(self, text: str, status: int, said: str) -> None:
        super().__init__(text)
        self.status, self.said = status, said


class Access(NamedTuple):
    """How to show who one is: a bearer token's file, and for https the authorities and a certificate."""

    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Reply(NamedTuple):
    """The status and the decoded JSON of an answer."""

    status: int
    value: Any


class Client:
    """Asks one base URL; each question is a connection of its own."""

    def __init__(self, url: str, access: Access | None = None, *, timeout: float = 10.0) -> None:
        """`timeout` in seconds holds for connecting and for each read. Raises BadOption for a bad URL."""
        self.url = url.rstrip("/")
        try:
            parts = urlsplit(self.url)
            self.host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise BadOption(f"expected http(s)://HOST:PORT, got {url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not self.host:
            raise BadOption(f"expected http(s)://HOST:PORT, got {url!r}")
        self._secure, self._prefix = parts.scheme == "https", parts.path
        self._access, self._timeout = access or Access(), timeout

    def get(self, path: str, *, good: tuple[int, ...] = (200,)) -> Reply:
        """GET JSON. Raises Unreachable, BadAnswer for another status than `good`, ClientError for what is no JSON."""
        return self._ask("GET", path, None, good)

    def post(self, path: str, value: Any, *, good: tuple[int, ...] = (200,)) -> Reply:
        """POST a value as JSON; as `get`."""
        return self._ask("POST", path, json.dumps(value).encode(), good)

    def _ask(self, method: str, path: str, sent: bytes | None, good: tuple[int, ...]) -> Reply:
        headers = {"Accept": "application/json", **self._authorization()}
        if sent is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, self._prefix + path, sent, headers)
            response = connection.getresponse()
            status, body = response.status, response.read(_MAX_BODY + 1)
        except ssl.SSLCertVerificationError as error:
            raise ClientError(f"{self.url} is not trusted: {error.verify_message}; see --ca-file") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(f"no answer from {self.url}: {reason}; is Pharos running there?") from error
        finally:
            connection.close()
        return self._reply(path, status, body, good)

    def _reply(self, path: str, status: int, body: bytes, good: tuple[int, ...]) -> Reply:
        if status in (401, 403):
            raise ClientError(f"{self.url}{path} refuses ({status}): name the file of its token with --token-file")
        if status not in good:
            said = body[:_MAX_SAID].decode(errors="replace").strip().removeprefix(f"{status}: ")
            raise BadAnswer(f"{self.url}{path} answers {status}: {said[:200]}", status, said)
        if len(body) > _MAX_BODY:
            raise ClientError(f"{self.url}{path} answers with more than {_MAX_BODY} bytes")
        try:
            return Reply(status, json.loads(body))
        except (ValueError, RecursionError) as error:
            raise ClientError(f"{self.url}{path} answers with something else than JSON: is this Pharos?") from error

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self.host, self._port, timeout=self._timeout)
        access = self._access
        try:
            context = ssl.create_default_context(cafile=access.ca_file or None)
            if access.cert_file:
                context.load_cert_chain(access.cert_file, access.key_file or None)
        except (OSError, ssl.SSLError) as error:
            named = " or ".join(name for name in (access.ca_file, access.cert_file) if name)
            raise BadOption(f"can't use {named} as PEM: {error}") from error
        return http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout, context=context)

    def _authorization(self) -> dict[str, str]:
        name = self._access.token_file
        if not name:
            return {}
        try:
            with Path(name).open("rb") as file:
                token = file.read(_MAX_TOKEN).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadOption(f"can't read a token from {name}: {error}") from error
        if not token or not token.isprintable():
            raise BadOption(f"{name} holds no token: expected one line of text")
        return {"Authorization": f"Bearer {token}"}
