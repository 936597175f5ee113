"""Sockets of this process in other network namespaces: a test asks and serves there without a program of its own."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
from typing import Any

_CLONE_NEWNET = 0x40000000


def socket_in(space: str, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    """A socket that belongs to the namespace `space` for good; this thread is there only meanwhile. Raises OSError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/run/netns/{space}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            return socket.socket(family, kind)
        finally:
            _enter(home)
    finally:
        os.close(home)


def get_json(space: str, address: tuple[str, int], path: str, timeout: float = 10) -> Any:
    """The JSON document at http://ADDRESS/PATH inside. Raises OSError or HTTPException when there is none."""
    return _json(space, address, "GET", path, None, timeout)


def post_json(space: str, address: tuple[str, int], path: str, body: object, timeout: float = 10) -> Any:
    """POST JSON inside, get JSON. Raises OSError or HTTPException."""
    return _json(space, address, "POST", path, json.dumps(body).encode(), timeout)


def _json(space: str, address: tuple[str, int], method: str, path: str, body: bytes | None, timeout: float) -> Any:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket_in(space, family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(address)
        connection = http.client.HTTPConnection(address[0], address[1])
        connection.sock = sock
        connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
        with connection.getresponse() as response:
            data = response.read()
            if response.status >= 400:
                raise http.client.HTTPException(f"{method} {path}: {response.status} {data[:200]!r}")
            return json.loads(data)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
