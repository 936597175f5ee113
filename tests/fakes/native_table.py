"""Native tables of answers made by hand, and questions to them octet by octet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesos_dns._native import Table
from mesos_dns.answer import Answer
from mesos_dns.wire import name_to_wire

CLIENT, CLIENT6 = bytes((198, 51, 100, 7)), bytes.fromhex("20010db8000000000000000000000001")
SECRETS = [bytes(range(start, start + 16)) for start in (0, 16, 32, 48)]
NOW = 1_700_000_000
NODATA, CLUSTER = 8, 16
NEGATIVE_ZONE = 1
PLAIN = {
    "max_udp": 1232,
    "header_flags": 0,
    "refuse_others": 0,
    "stale": 0,
    "cookies": 1,
    "rate": 0,
    "slip": 2,
    "limit_private": 0,
    "log_every": 0,
}
MESOS = name_to_wire("mesos")
SOA = MESOS + b"\0\6\0\1\0\0\0\x3c\0\5hello"


def table_of(size: int = 1 << 20, secrets: Iterable[bytes] = SECRETS[:2], **plain: int) -> Table:
    table = Table(size, 12345, 0x9E3779B97F4A7C15)
    assert table.configure(PLAIN | plain, list(secrets), [(MESOS, SOA, 77, 0, 1)])
    return table


def key_of(name: str, rtype: int = 1) -> bytes:
    return name_to_wire(name) + rtype.to_bytes(2, "big") + b"\0\1"


def query(key: bytes, options: bytes | None = None) -> bytes:
    head = b"\xab\xcd\1\0\0\1\0\0\0\0\0" + (b"\0" if options is None else b"\1")
    opt = b"" if options is None else b"\0\0\x29\4\xd0" + bytes(4) + len(options).to_bytes(2, "big") + options
    return head + key + opt


def address(number: int) -> bytes:
    return b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + number.to_bytes(4, "big")


def answer(*numbers: int, **parts: Any) -> Answer:
    return Answer(0, [address(number) for number in numbers], **parts)


def ask(table: Table, key: bytes, turn: int = 0) -> bytes | None:
    found = table.answer(query(key), CLIENT, False, NOW, turn)
    return found[0] if found is not None else None
