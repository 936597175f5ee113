"""Answers of others and refused clients through a real worker and its socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import dns.edns
import dns.message
import dns.rcode

from mesos_dns.answer import Answer
from mesos_dns.config import DnsConfig
from mesos_dns.fastpath import CACHE_ZONE
from mesos_dns.server import DnsServer
from tests.fakes.aged_answers import Cached, address, others, soa_of
from tests.fakes.dns_serving import Run, udp
from tests.fakes.native_table import key_of
from tests.fakes.questions import packet

NAME = "www.example.net"
KEY, ASKED, WITH_EDNS = key_of(NAME), packet(NAME), packet(NAME, payload=1232)


@asynccontextmanager
async def served(cached: Cached) -> AsyncIterator[tuple[str, int]]:
    """The address of a server whose worker is up."""
    listen = ("127.0.0.1:0",)
    server = DnsServer(DnsConfig(listen=listen), cached.responder)
    await server.start()
    try:
        await until(lambda: not server._udp[0]._reading)
        yield server.addresses[0]
    finally:
        await server.close()


async def until(holds: object) -> None:
    async with asyncio.timeout(60):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def keep(cached: Cached, answer: Answer, lifetime: int, age: int, stale: bool = False) -> None:
    """As if it had been put in so long ago."""
    cached.path.clock = lambda: time.monotonic() - age
    assert cached.path.keep_aged(KEY, answer, lifetime, stale=stale)
    cached.path.clock = time.monotonic


def read(reply: bytes) -> dns.message.Message:
    return dns.message.from_wire(reply, ignore_trailing=False)


def test_a_worker_lowers_ttls_and_leaves_to_python_what_is_too_old(run: Run) -> None:
    async def story() -> None:
        cached = Cached()
        async with served(cached) as to:
            keep(cached, others(address(1, 300), address(2, 20)), 300, 50)
            reply = read(await udp(to, ASKED))
            assert [rrset.ttl for rrset in reply.answer] == [0]  # dnspython takes the lowest of a set
            # No time is read twice: a second may have passed.
            assert int.from_bytes((await udp(to, ASKED))[12 + len(KEY) :][6:10], "big") in range(240, 251)
            assert cached.path.totals().answers[CACHE_ZONE, "A", 0] == 2
            keep(cached, others(rcode=3, authority=[soa_of("example.net", 600)]), 600, 100)
            absent = read(await udp(to, WITH_EDNS))
            assert absent.rcode() == dns.rcode.NXDOMAIN
            assert absent.authority[0].ttl in range(490, 501)
            keep(cached, others(address(1, 300)), 30, 30)
            assert read(await udp(to, ASKED)).rcode() == dns.rcode.SERVFAIL  # Python has asked elsewhere
            assert cached.path.totals().counts["answered"] == 3
            # A worker counts what it has handed over: the answer may be here sooner.
            await until(lambda: cached.path.totals().counts["passed"] == 1)

    run(story())


def test_a_worker_gives_stale_answers_and_says_so(run: Run) -> None:
    async def story() -> None:
        cached = Cached()
        async with served(cached) as to:
            keep(cached, others(address(1, 30)), 30, 0, stale=True)
            assert list(read(await udp(to, WITH_EDNS)).options) == [dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER)]
            await udp(to, ASKED)
            await until(lambda: cached.path.totals().counts["stale"] == 2)

    run(story())


def test_a_worker_tells_once_what_is_to_be_renewed(run: Run) -> None:
    async def story() -> None:
        cached = Cached(prefetch=True)
        async with served(cached) as to:
            for turn in range(1, 3):
                keep(cached, others(address(1, 4000)), 4000, 3700)
                for _ in range(5):
                    assert read(await udp(to, ASKED)).answer
                await until(lambda expected=turn: len(cached.elsewhere.refreshed) == expected)
            await asyncio.sleep(0.05)
            assert [query.question for query in cached.elsewhere.refreshed] == [KEY] * 2
            await until(lambda: cached.path.totals().counts["refresh"] == 2)
            counts = cached.path.totals().counts
            assert (counts["answered"], counts["passed"]) == (10, 0)

    run(story())


def test_a_worker_refuses_clients_that_are_not_answered(run: Run) -> None:
    async def story() -> None:
        cached = Cached(allow=[ip_network("127.0.0.2/32")])
        async with served(cached) as to:
            keep(cached, others(address(1)), 300, 0)
            for asked in (ASKED, WITH_EDNS, packet("nope.mesos")):
                reply = await udp(to, asked)
                assert reply == cached.responder.respond(asked, "udp", bytes((127, 0, 0, 1)))
                assert read(reply).rcode() == dns.rcode.REFUSED
            await dropped(to, ASKED + b"\0", b"\x12\x34\x28\0\0\1" + ASKED[6:], WITH_EDNS + bytes(2000))
            totals = cached.path.totals()
            assert (totals.counts["prohibited"], totals.counts["passed"]) == (4, 0)
            assert totals.counts["dropped"] == 3
            assert totals.answers["", "A", 5] == 4

    async def dropped(to: tuple[str, int], *packets: bytes) -> None:
        """A socket that sends these and a question hears the answer to that alone."""
        loop = asyncio.get_running_loop()
        transport, heard = await loop.create_datagram_endpoint(Heard, remote_addr=to)
        try:
            for each in packets:
                transport.sendto(each)
            transport.sendto(ASKED)
            await until(lambda: heard.replies)
            assert [reply[:2] for reply in heard.replies] == [ASKED[:2]]
        finally:
            transport.close()

    run(story())


class Heard(asyncio.DatagramProtocol):
    """What comes to a socket."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        """One more."""
        self.replies.append(data)


def test_a_worker_keeps_the_order_of_records_where_it_is_to(run: Run) -> None:
    async def story() -> None:
        for rotate in (True, False):
            cached = Cached(rotate=rotate)
            async with served(cached) as to:
                keep(cached, others(*[address(n, 0) for n in range(4)], rotate=True), 300, 0)
                orders = {(await udp(to, ASKED))[2:] for _ in range(8)}
                assert len(orders) == (4 if rotate else 1)

    run(story())


def test_what_clients_were_given_is_told_once(run: Run) -> None:
    async def story() -> None:
        cached = Cached()
        async with served(cached) as server:
            keep(cached, others(address(1)), 300, 0)
            assert not cached.path.was_read(KEY)
            await udp(server, ASKED)
            assert cached.path.was_read(KEY)
            assert not cached.path.was_read(KEY)
            await udp(server, ASKED)
            assert not cached.path.was_read(key_of("other.example.net"))
            assert not cached.path.was_read(b"")
            assert cached.path.was_read(KEY)

    run(story())


def test_a_client_with_too_many_questions_that_are_not_ready_is_held_back(run: Run) -> None:
    async def story() -> None:
        cached = Cached(pass_rate=10)
        async with served(cached) as server:
            keep(cached, others(address(1)), 300, 0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for number in range(60):
                    client.sendto(packet(f"n{number}.example.net"), server)
                    client.sendto(ASKED, server)
                await until(lambda: cached.path.totals().counts["held_back"] >= 40)
                await until(lambda: cached.path.totals().answers[CACHE_ZONE, "A", 0] == 60)
            await until(lambda: sum(cached.path.totals().counts[what] for what in ("passed", "held_back")) == 60)
            assert cached.path.totals().counts["passed"] >= 10

    run(story())
