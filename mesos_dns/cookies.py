"""DNS cookies: who sends a server cookie of ours back has got our answer before (RFC 7873, RFC 9018).

A cookie answered is 24 octets: the client's 8, then version 1, three octets that are zero, the time in
seconds modulo 2**32, and SipHash-2-4 over all of these and the client's packed address. Everything here is
decided from the arguments alone; `now` is whole seconds since 1970.

A good server cookie comes back as it is for half an hour, then a new one does; one made with an older
secret is renewed at once, so that the older secret can go an hour later (RFC 9018 §4.3, §5).
"""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesos_dns.config import DnsConfig

SECRET_SIZE: Final = 16
MAX_SECRETS: Final = 4
"""Each costs one hash for a cookie that is wrong; a roll-over needs two."""
OLDEST, RENEW_AFTER, MOST_AHEAD = 3600, 1800, 300
"""Seconds: a server cookie's age at most, the age from which a new one is given, and how far ahead its
maker's clock may be (RFC 9018 §4.3)."""

CLIENT_SIZE: Final = 8
_FULL = 24
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{32}")
_MASK = 0xFFFFFFFFFFFFFFFF
_OWN_SECRET = secrets.token_bytes(SECRET_SIZE)
"""Where no file says one: for the life of the process, so that a reload keeps every cookie good."""


def secrets_of(config: DnsConfig) -> tuple[bytes, ...]:
    """The secrets that a configuration asks for, the one in use first; () with cookies off.

    Reads `cookie_secret_file` (blocks). Raises OSError; ValueError that names the key and no secret.
    """
    if not config.cookies:
        return ()
    if not config.cookie_secret_file:
        return (_OWN_SECRET,)
    try:
        return read_secrets(config.cookie_secret_file)
    except ValueError as error:
        raise ValueError(f"[dns] cookie_secret_file: {error}") from None


def read_secrets(name: str) -> tuple[bytes, ...]:
    """A file's secrets: 32 hexadecimal digits a line, blank lines skipped. Raises OSError; ValueError that says
    what is wrong on which line and shows none of it."""
    found = []
    for number, line in enumerate(Path(name).read_bytes().decode("ascii", "replace").splitlines(), 1):
        if not (digits := line.strip()):
            continue
        if not _HEXADECIMAL.fullmatch(digits):
            raise ValueError(f"expected 32 hexadecimal digits a line, not what line {number} of {name!r} holds")
        found.append(bytes.fromhex(digits))
    if not 1 <= len(found) <= MAX_SECRETS:
        raise ValueError(f"expected 1 to {MAX_SECRETS} secrets in {name!r}, got {len(found)}")
    return tuple(found)


def reply_cookie(cookie: bytes, client: bytes, now: int, known: Sequence[bytes]) -> tuple[bytes, bool]:
    """(the COOKIE option's data to answer with, whether the client's server cookie is good).

    `cookie` is the data that came (8 octets, or 16 to 40), `client` the packed address, `known` the
    secrets, the one in use first.
    """
    made_with = matching(cookie, client, now, known)
    if made_with == 0 and age(cookie, now) <= RENEW_AFTER:
        return cookie, True
    start = cookie[:CLIENT_SIZE] + b"\x01\0\0\0" + (now & 0xFFFFFFFF).to_bytes(4, "big")
    return start + siphash(known[0], start + client), made_with >= 0


def matching(cookie: bytes, client: bytes, now: int, known: Sequence[bytes]) -> int:
    """Which secret made a server cookie that is good now; -1 when there is none.

    The three reserved octets go into the hash as they came, whatever they are (RFC 9018 §4.2).
    """
    if len(cookie) != _FULL or cookie[CLIENT_SIZE] != 1 or not -MOST_AHEAD <= age(cookie, now) <= OLDEST:
        return -1
    signed = cookie[:16] + client
    for index, secret in enumerate(known):
        if secrets.compare_digest(siphash(secret, signed), cookie[16:]):
            return index
    return -1


def age(cookie: bytes, now: int) -> int:
    """Seconds since a server cookie's time, below zero for one ahead; times wrap around (RFC 1982)."""
    return ((now - int.from_bytes(cookie[12:16], "big") + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def siphash(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 of Aumasson and Bernstein: 16 octets of key, 8 of result in its own (little-endian) order."""
    k0, k1 = struct.unpack("<QQ", key)
    state = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    whole = len(data) >> 3
    words = [
        *struct.unpack_from(f"<{whole}Q", data),
        int.from_bytes(data[whole * 8 :], "little") | len(data) % 256 << 56,
    ]
    for word in words:
        v0, v1, v2, v3 = _rounds((state[0], state[1], state[2], state[3] ^ word), 2)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = _rounds((state[0], state[1], state[2] ^ 0xFF, state[3]), 4)
    return (v0 ^ v1 ^ v2 ^ v3).to_bytes(8, "little")


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = (v1 << 13 & _MASK | v1 >> 51) ^ v0
        v0 = v0 << 32 & _MASK | v0 >> 32
        v2 = (v2 + v3) & _MASK
        v3 = (v3 << 16 & _MASK | v3 >> 48) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = (v3 << 21 & _MASK | v3 >> 43) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = (v1 << 17 & _MASK | v1 >> 47) ^ v2
        v2 = v2 << 32 & _MASK | v2 >> 32
    return v0, v1, v2, v3
