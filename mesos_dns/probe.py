"""One check of one backend: connect, for HTTP ask, and say how it went. All the network that checks need.

    outcome, connection = await probe(backend, check)
    if connection is not None:
        await part(connection, LINGER)

A probe ends within the check's timeout, whatever the backend does. The connection is closed without a reset where the
backend lets it: `part` sends our end, and reads away for a moment what the backend still has to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from enum import StrEnum
from typing import NamedTuple

import msgspec

from mesos_dns.checked import BackendKey
from mesos_dns.model import VipCheck
from mesos_dns.probe_http import Malformed, ResponseHead, is_good, request

LINGER = 1.0
"""Seconds for the backend to close its side, at most."""
_LINGER_BYTES = 1 << 20
_PIECE = 16 << 10

_OURS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EPERM,
        errno.EACCES,
    }
)
"""Errors that say something of this machine and nothing of the backend: no files, no ports, a firewall's rule."""


class Result(StrEnum):
    """How a check went."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"
    """The connection broke before an answer was there."""
    STATUS = "status"
    """An answer of HTTP whose status is a bad one."""
    MALFORMED = "malformed"
    LOCAL = "local"
    """It could not be done here: nothing is known of the backend."""


class Outcome(msgspec.Struct, frozen=True):
    """A result, a text about it ("" for a good one) and how many seconds it took."""

    result: Result
    detail: str = ""
    seconds: float = 0.0


class Probed(NamedTuple):
    """How a check went, and its connection where it is still open and to be parted with."""

    outcome: Outcome
    connection: socket.socket | None = None


async def probe(backend: BackendKey, check: VipCheck) -> Probed:
    """Check a backend once. Never raises but for cancellation."""
    started = time.monotonic()
    try:
        sock = _socket(backend)
    except OSError as error:
        return Probed(Outcome(*_failure(error)))
    with contextlib.ExitStack() as held:
        held.enter_context(sock)
        try:
            async with asyncio.timeout(check.timeout):
                result, detail = await _ask(sock, backend, check)
        except TimeoutError:  # ours, or the kernel's
            result, detail = Result.TIMEOUT, f"no answer within {check.timeout:g}s"
        except OSError as error:
            result, detail = _failure(error)
        outcome = Outcome(result, detail, time.monotonic() - started)
        if result not in (Result.OK, Result.STATUS):
            return Probed(outcome)
        held.pop_all()
        return Probed(outcome, sock)


def _socket(backend: BackendKey) -> socket.socket:
    family = socket.AF_INET6 if ":" in backend.address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def _ask(sock: socket.socket, backend: BackendKey, check: VipCheck) -> tuple[Result, str]:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (backend.address, backend.port))
    # A port of this machine that nobody listens on, and that happened to be given to this very socket.
    if sock.getsockname()[:2] == backend:
        return Result.REFUSED, "connected to itself"
    if check.type != "http":
        return Result.OK, ""
    await loop.sock_sendall(sock, request(backend, check.path))
    head = ResponseHead()
    try:
        while head.status is None:
            data = await loop.sock_recv(sock, _PIECE)
            if not data:
                return Result.CLOSED, head.ended()
            head.feed(data)
    except Malformed as error:
        return Result.MALFORMED, str(error)
    return (Result.OK, "") if is_good(head.status) else (Result.STATUS, f"status {head.status}")


async def part(connection: socket.socket, seconds: float) -> None:
    """Send our end, read until the backend's, so that the kernel has no reason for a reset, and close it: after so
    many seconds in any case, 0 or less: at once. Never raises but for cancellation."""
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(OSError, TimeoutError):  # what counts is known already
        connection.shutdown(socket.SHUT_WR)
        if seconds <= 0:
            return
        read = 0
        async with asyncio.timeout(seconds):
            while read < _LINGER_BYTES and (data := await loop.sock_recv(connection, _PIECE)):
                read += len(data)


def _failure(error: OSError) -> tuple[Result, str]:
    text = error.strerror or str(error)
    if isinstance(error, ConnectionRefusedError):
        return Result.REFUSED, text
    if isinstance(error, ConnectionError):
        return Result.CLOSED, text
    return (Result.LOCAL if error.errno in _OURS else Result.UNREACHABLE), text
