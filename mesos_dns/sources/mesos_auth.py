"""Prove to a master who we are: basic authentication, or a DC/OS service account (IAM).

IAM: a JWT signed with the account's RSA key (RS256; claims uid and exp) is exchanged at the login
endpoint for a token, which goes with each request as `Authorization: token=…` (DC/OS' service
authentication). The token is used until shortly before its own expiry, or until a 401.
Secrets are never logged; a secret_file is read again for each connection.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import time
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from mesos_dns.config import MesosConfig, first_line

log = logging.getLogger(__name__)

LOGIN_TTL = 300.0
"""Seconds that our own login assertion is valid."""
TOKEN_MARGIN = 60.0
TOKEN_DEFAULT = 3600.0
MAX_ANSWER = 1 << 20


class AuthError(Exception):
    """We can't authenticate. Says which file or endpoint and what to do, never a secret."""


class Authenticator(Protocol):
    """How requests to a master are authenticated."""

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """The headers of one request; `tls` is for calls to others than the master. Raises AuthError."""

    def rejected(self) -> bool:
        """The master answered 401: forget what was cached; True when another attempt makes sense."""


class NoAuth:
    """No authentication."""

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """See Authenticator."""
        return {}

    def rejected(self) -> bool:
        """See Authenticator."""
        return False


class BasicAuth:
    """HTTP basic authentication (RFC 7617) with a principal and a secret."""

    def __init__(self, principal: str, secret: str, secret_file: str, section: str = "mesos") -> None:
        self._principal = principal
        self._secret = secret
        self._file = secret_file
        self._section = section

    def _read(self) -> str:
        if not self._file:
            return self._secret
        try:
            return first_line(self._file)
        except (OSError, UnicodeDecodeError) as error:
            raise AuthError(f"[{self._section}] secret_file {self._file} can't be read: {error}") from None

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """See Authenticator."""
        pair = f"{self._principal}:{await asyncio.to_thread(self._read)}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}

    def rejected(self) -> bool:
        """See Authenticator."""
        return False


class Account(msgspec.Struct):
    """What a DC/OS service account file says."""

    uid: str
    private_key: str
    login_endpoint: str
    scheme: str = "RS256"


class _Login(msgspec.Struct):
    token: str


class _Claims(msgspec.Struct):
    exp: float | None = None


class IamAuth:
    """A DC/OS service account. `section` of the configuration is for what errors say."""

    def __init__(self, config_file: str, timeout: float = 10.0, section: str = "mesos") -> None:
        self._file = config_file
        self._section = section
        self._timeout = timeout
        self._token = ""
        self._until = 0.0
        self._fresh = False

    async def headers(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> dict[str, str]:
        """See Authenticator. Logs in when there is no token that is still good."""
        if not self._token or time.time() >= self._until:
            await self._login(session, tls, await asyncio.to_thread(read_account, self._file, self._section))
        return {"Authorization": f"token={self._token}"}

    def rejected(self) -> bool:
        """See Authenticator. A token that was refused right after a login is no use to ask for again."""
        again = bool(self._token) and not self._fresh
        self._token = ""
        return again

    def accepted(self) -> None:
        """A request with the token succeeded."""
        self._fresh = False

    async def _login(self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None, account: Account) -> None:
        expiry = time.time() + LOGIN_TTL
        signed = await asyncio.to_thread(sign_login, account.uid, account.private_key, expiry)
        body = {"uid": account.uid, "token": signed}
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with session.post(
                account.login_endpoint,
                json=body,
                ssl=True if tls is None else tls,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                data = await _body(answer)
                if answer.status != 200:
                    raise AuthError(f"the login at {account.login_endpoint} was refused: status {answer.status}")
            self._token = msgspec.json.decode(data, type=_Login).token
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise AuthError(f"the login at {account.login_endpoint} failed: {reason}") from None
        self._until = token_expiry(self._token, time.time() + TOKEN_DEFAULT) - TOKEN_MARGIN
        self._fresh = True
        log.info("logged in to DC/OS IAM endpoint=%s uid=%s", account.login_endpoint, account.uid)


def read_account(name: str, section: str = "mesos") -> Account:
    """The service account in a file (blocks). Raises AuthError."""
    key = f"[{section}] iam_config_file"
    try:
        account = msgspec.json.decode(Path(name).read_bytes(), type=Account)
    except OSError as error:
        raise AuthError(f"{key} {name} can't be read: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuthError(f"{key} {name} is not a service account file: {error}") from None
    if account.scheme != "RS256":
        raise AuthError(f'{key} {name}: scheme must be "RS256", got {account.scheme!r}')
    return account


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, however many pieces it comes in. Raises ValueError when it is too large."""
    body = bytearray()
    while piece := await answer.content.readany():
        body += piece
        if len(body) > MAX_ANSWER:
            raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
    return bytes(body)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_login(uid: str, private_key: str, expiry: float) -> str:
    """The JWT (RFC 7519, RS256 as RFC 7518 §3.3) that a service account logs in with. Raises AuthError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthError("the service account's private_key is not an unencrypted PEM key") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise AuthError("the service account's private_key is not an RSA key")
    head = _encode(b'{"alg":"RS256","typ":"JWT"}')
    claims = _encode(msgspec.json.encode({"uid": uid, "exp": int(expiry)}))
    signed = f"{head}.{claims}"
    return f"{signed}.{_encode(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def token_expiry(token: str, default: float) -> float:
    """When a JWT says that it expires (epoch seconds), without verifying it; `default` when it does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return default
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (ValueError, RecursionError):
        return default
    return default if claims.exp is None else claims.exp


def authenticator(config: MesosConfig) -> Authenticator:
    """The authenticator that `[mesos]` asks for."""
    if config.auth == "basic":
        return BasicAuth(config.principal, config.secret, config.secret_file)
    if config.auth == "iam":
        return IamAuth(config.iam_config_file)
    return NoAuth()
