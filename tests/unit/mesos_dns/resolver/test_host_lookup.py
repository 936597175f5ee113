"""A host's addresses by an upstream on loopback, and what answers are worth nothing."""

from __future__ import annotations

import asyncio
import struct

import dns.rcode
import pytest

from mesos_dns.names import AAAA, A
from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.host_lookup import HostLookup, read_addresses
from mesos_dns.resolver.race import NoAnswer
from mesos_dns.resolver.upstreams import Upstreams
from mesos_dns.wire import name_to_wire
from tests.fakes.host_upstream import HostUpstream, Reply

NAME = name_to_wire("a.example")


def packet(*records: bytes, flags: int = 0x8180, count: int | None = None, qtype: int = A) -> bytes:
    header = struct.pack(">HHHHHH", 1, flags, 1, len(records) if count is None else count, 0, 0)
    return header + NAME + struct.pack(">HH", qtype, 1) + b"".join(records)


def record(rtype: int, data: bytes, owner: bytes = b"\xc0\x0c", rclass: int = 1, length: int | None = None) -> bytes:
    return owner + struct.pack(">HHIH", rtype, rclass, 60, len(data) if length is None else length) + data


ADDRESS = record(1, b"\x0a\0\0\1")


@pytest.mark.asyncio
async def test_both_families_are_asked_and_ipv4_is_first() -> None:
    async with HostUpstream(a_example=[("AAAA", "fd00::1"), ("A", "10.0.0.1"), ("A", "10.0.0.2")]) as upstream:
        assert await HostLookup(upstream.ask)("A.Example.") == ("10.0.0.1", "10.0.0.2", "fd00::1")
        assert sorted(upstream.asked) == ["a.example A", "a.example AAAA"]


@pytest.mark.asyncio
async def test_a_name_without_a_dot_is_asked_for_as_it_stands() -> None:
    async with HostUpstream(master=[("A", "10.0.0.1")]) as upstream:
        assert await HostLookup(upstream.ask)("master") == ("10.0.0.1",)
        assert sorted(upstream.asked) == ["master A", "master AAAA"]


@pytest.mark.asyncio
async def test_only_ipv6() -> None:
    async with HostUpstream(a_example=[("AAAA", "fd00::1")]) as upstream:
        assert await HostLookup(upstream.ask)("a.example") == ("fd00::1",)


@pytest.mark.asyncio
async def test_aliases_are_followed_to_their_end() -> None:
    names = {f"n{number}.example": [("CNAME", f"n{number + 1}.example.")] for number in range(30)}
    async with HostUpstream() as upstream:
        upstream.names = {**names, "n8.example": [("A", "10.0.0.8")], "n30.example": [("A", "10.0.0.30")]}
        assert await HostLookup(upstream.ask)("n0.example") == ("10.0.0.8",)
        with pytest.raises(OSError, match="aliases"):
            await HostLookup(upstream.ask)("n9.example")
        upstream.names = {"a.example": [("CNAME", "b.example.")], "b.example": [("CNAME", "a.example.")]}
        with pytest.raises(OSError, match="aliases"):
            await HostLookup(upstream.ask)("a.example")
        upstream.names = {"a.example": [("CNAME", "gone.example.")]}
        assert await HostLookup(upstream.ask)("a.example") == ()


@pytest.mark.asyncio
async def test_no_such_name_is_no_failure_and_an_error_is_one() -> None:
    async with HostUpstream(empty_example=[("TXT", "x")]) as upstream:
        assert await HostLookup(upstream.ask)("nowhere.example") == ()
        assert await HostLookup(upstream.ask)("empty.example") == ()
        upstream.rcode = dns.rcode.SERVFAIL
        with pytest.raises(OSError, match="error 2"):
            await HostLookup(upstream.ask)("empty.example")


@pytest.mark.asyncio
async def test_an_upstream_that_is_down_at_first() -> None:
    async with HostUpstream(a_example=[("A", "10.0.0.1")]) as upstream:
        await upstream.down()
        with pytest.raises(OSError, match=r"(?i)refused"):
            await HostLookup(upstream.ask)("a.example")
        await upstream.up()
        assert await HostLookup(upstream.ask)("a.example") == ("10.0.0.1",)


@pytest.mark.asyncio
async def test_one_family_without_answer_holds_up_neither_the_other_nor_for_ever() -> None:
    async with HostUpstream(a_example=[("A", "10.0.0.1")]) as upstream:
        upstream.deaf = {"AAAA"}
        assert await HostLookup(upstream.ask, limit=3600, other_family=0.05)("a.example") == ("10.0.0.1",)
        with pytest.raises(TimeoutError, match="in time"):
            await HostLookup(upstream.ask, limit=0.05)("empty.example")
        upstream.deaf = {"A", "AAAA"}
        with pytest.raises(TimeoutError, match="in time"):
            await HostLookup(upstream.ask, limit=0.05)("a.example")
    assert {task.get_name() for task in asyncio.all_tasks()} & {"resolve a.example", "resolve empty.example"} == set()


@pytest.mark.asyncio
async def test_a_name_that_can_not_stand_on_the_wire_and_an_ask_that_breaks() -> None:
    async def broken(name: bytes, question: bytes, *, dnssec_ok: bool, checking_disabled: bool) -> Reply:
        if question[-3] == A:
            raise KeyError("x")
        raise NoAnswer("no-upstream")

    with pytest.raises(OSError, match="255 are allowed"):
        await HostLookup(broken)(".".join(["x" * 62] * 4) + ".abc")
    with pytest.raises(OSError, match="KeyError"):
        await HostLookup(broken)("a.example")

    async def silent(name: bytes, question: bytes, *, dnssec_ok: bool, checking_disabled: bool) -> Reply:
        raise NoAnswer("no-upstream")

    with pytest.raises(OSError, match="have no answer: no-upstream"):
        await HostLookup(silent)("a.example")


def test_what_is_read() -> None:
    assert read_addresses(packet(ADDRESS, ADDRESS), NAME, A) == ("10.0.0.1",)
    assert read_addresses(packet(record(1, b"\x0a\0\0\1", rclass=3)), NAME, A) == ()
    assert read_addresses(packet(record(1, b"\x0a\0\0\1", owner=name_to_wire("b.example"))), NAME, A) == ()
    assert read_addresses(packet(record(1, bytes(4)), record(1, b"\xe0\0\0\1"), ADDRESS), NAME, A) == ("10.0.0.1",)
    mapped = bytes(10) + b"\xff\xff\x0a\0\0\1"
    assert read_addresses(packet(record(28, mapped), qtype=AAAA), NAME, AAAA) == ("10.0.0.1",)
    alias = record(5, b"\1B\xc0\x0e")
    behind = record(1, b"\x0a\0\0\2", owner=b"\1b\xc0\x0e")
    assert read_addresses(packet(behind, alias), NAME, A) == ("10.0.0.2",), "in any order, in any case"


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        packet(ADDRESS)[:11],
        packet(ADDRESS, flags=0x0180),
        packet(ADDRESS, qtype=AAAA),
        packet(ADDRESS).replace(b"\1a", b"\1b"),
        packet(ADDRESS, flags=0x8380),
        packet(ADDRESS, flags=0x8182),
        packet(ADDRESS, count=2),
        packet(ADDRESS, count=257),
        packet(ADDRESS)[:-1],
        packet(record(1, b"\x0a\0\0")),
        packet(record(1, bytes(16))),
        packet(record(1, b"\x0a\0\0\1", length=400)),
        packet(record(5, b"\xc0\x0c\0")),
        packet(record(5, b"\xc0\x00")),
        packet(record(5, b"\xc0\xff")),
        packet(record(5, b"\x80a\0")),
        packet(record(1, b"\x0a\0\0\1", owner=b"\xc0")),
        packet(record(1, b"\x0a\0\0\1", owner=b"\xc0\x1b")),
        packet(record(5, (b"\x3f" + b"x" * 63) * 4 + b"\0")),
    ],
)
def test_what_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError):
        read_addresses(bad, NAME, A)


@pytest.mark.asyncio
async def test_over_the_resolvers_own_upstreams() -> None:
    async with HostUpstream() as upstream, HostUpstream() as beyond:
        upstream.names = {"a.example": [("CNAME", "b.example.")], "b.example": [("A", "10.0.0.1"), ("AAAA", "fd00::1")]}
        beyond.names = {"m.corp.example": [("A", "10.0.0.2")]}
        here, there = (UpstreamAddress("udp", "127.0.0.1", server.port) for server in (upstream, beyond))
        upstreams = Upstreams([here], {"corp.example": [there]}, timeout=20.0, tls=None)
        lookup = HostLookup(upstreams.ask)
        assert await lookup("a.example") == ("10.0.0.1", "fd00::1")
        assert await lookup("m.corp.example") == ("10.0.0.2",)
        assert await lookup("nowhere.example") == ()
        upstream.rcode = dns.rcode.SERVFAIL
        with pytest.raises(OSError, match="have no answer: servfail"):
            await lookup("a.example")
        await upstreams.close()
        none = Upstreams([], {}, timeout=20.0, tls=None)
        with pytest.raises(OSError, match="have no answer: no-upstream"):
            await HostLookup(none.ask)("a.example")
        await none.close()
