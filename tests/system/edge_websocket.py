"""Frames of WebSocket (RFC 6455), as many kinds as an echo needs: short texts, and the close."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

TEXT, CLOSE = 1, 8
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST = 125


def new_key() -> bytes:
    """A client's Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(16))


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that belongs to it (§4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def frame(kind: int, payload: bytes, *, masked: bool) -> bytes:
    """One whole message of at most 125 octets; clients mask theirs."""
    assert len(payload) <= _LONGEST
    if not masked:
        return bytes((0x80 | kind, len(payload))) + payload
    mask = os.urandom(4)
    return bytes((0x80 | kind, 0x80 | len(payload))) + mask + _masked(payload, mask)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The kind and payload of the next message. Raises EOFError when the connection ends, ValueError at nonsense."""
    first, length = await reader.readexactly(2)
    if not first & 0x80 or length & 0x7F > _LONGEST:
        raise ValueError(f"not a short whole message: {first:#x} {length:#x}")
    mask = await reader.readexactly(4) if length & 0x80 else b"\0\0\0\0"
    return first & 0x0F, _masked(await reader.readexactly(length & 0x7F), mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
