"""The resolver between clients, its cache and upstreams: who is asked when, and what clients are told."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from mesos_dns.fastpath import fast_path
from mesos_dns.resolver import resolver as module
from mesos_dns.resolver.config import ResolverConfig, serving
from mesos_dns.resolver.race import NoAnswer
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import packet
from tests.fakes.resolving import (
    SOA,
    Clock,
    FakeTable,
    FakeUpstreams,
    forward_of,
    lines,
    plain_responder,
    reply_of,
    silent,
)

pytestmark = pytest.mark.asyncio

NAME = "www.example.com"
KEY = name_to_wire(NAME) + b"\0\1\0\1"
CLIENT = bytes((10, 0, 0, 1))


def says_a(question: str) -> bytes:
    """An address that lives for 100 s, whatever the name and type."""
    name, _, rtype = question.split()
    data = "2001:db8::1" if rtype == "AAAA" else "192.0.2.1"
    return reply_of(name, rtype, [f"{name} 100 {rtype} {data}"])


class World:
    """A resolver between fakes, and a clock that stands still."""

    def __init__(self, says: Callable[[str], bytes | Exception] = says_a, **config: Any) -> None:
        self.clock = Clock()
        self.upstreams = FakeUpstreams(says)
        self.table = FakeTable()
        self.resolver = Resolver(ResolverConfig(**config), self.upstreams, clock=self.clock)
        self.resolver.attach(plain_responder())
        self.resolver._table = self.table
        self.results = self.resolver.counters.results

    async def raw(self, query: bytes, client: bytes = CLIENT, transport: str = "udp") -> bytes | None:
        return await self.resolver.resolve(query, forward_of(query, client), transport)

    async def ask(self, name: str = NAME, rtype: str = "A", client: bytes = CLIENT, **edns: Any) -> dns.message.Message:
        query = packet(name, rtype, payload=1232, **edns)
        reply = await self.raw(query, client)
        assert reply is not None
        assert reply[:2] == query[:2]
        assert struct.unpack(">H", reply[2:4])[0] & 0x8180 == 0x8180  # QR, RD, RA
        return dns.message.from_wire(reply, ignore_trailing=False)

    async def idle(self) -> None:
        """Until nothing is in flight."""
        for _ in range(1000):
            if not self.resolver.status()["in_flight"]:
                return
            await asyncio.sleep(0)
        pytest.fail("questions stay in flight")


def error_of(message: dns.message.Message) -> int | None:
    """The extended error."""
    found = [option for option in message.options if isinstance(option, dns.edns.EDEOption)]
    return int(found[0].code) if found else None


def negative(question: str) -> bytes:
    name, _, rtype = question.split()
    return reply_of(name, rtype, authorities=[SOA], rcode=3)


# --- cache ----------------------------------------------------------------------------------------


async def test_an_answer_is_asked_for_once_and_grows_old() -> None:
    world = World()
    first = await world.ask()
    world.clock.now += 40.5
    second = await world.ask()
    assert lines(first.answer) == [f"{NAME}. 100 A 192.0.2.1"]
    assert lines(second.answer) == [f"{NAME}. 60 A 192.0.2.1"]
    world.clock.now += 59.4
    assert lines((await world.ask()).answer) == [f"{NAME}. 1 A 192.0.2.1"]
    await world.idle()
    assert (len(world.upstreams.asked), world.results) == (2, {"miss": 1, "hit": 2, "prefetch": 1})


async def test_an_answer_that_is_too_old_is_asked_for_again() -> None:
    world = World()
    await world.ask()
    world.clock.now += 100
    assert lines((await world.ask()).answer) == [f"{NAME}. 100 A 192.0.2.1"]
    assert world.results == {"miss": 2}


async def test_the_table_gets_what_is_kept() -> None:
    world = World()
    await world.ask()
    answer, lifetime, is_stale = world.table.kept.pop(KEY)
    assert (lifetime, is_stale) == (100, False)
    world.clock.now += 40.5
    await world.ask()
    answer, lifetime, is_stale = world.table.kept[KEY]
    assert (lifetime, is_stale, answer.aa) == (59, False, False)
    assert int.from_bytes(answer.wire[6:10], "big") == 60


async def test_a_table_without_room_changes_nothing() -> None:
    world = World()
    world.table.room = False
    for _ in range(3):
        await world.ask()
    assert (world.results, world.table.kept) == ({"miss": 1, "hit": 2}, {})


async def test_absence_is_kept_with_its_time() -> None:
    world = World(negative)
    for _ in range(2):
        message = await world.ask()
        assert message.rcode() == dns.rcode.NXDOMAIN
        assert lines(message.authority) == [SOA.replace("600 SOA", "60 SOA")]
    assert world.results == {"miss": 1, "negative": 1}
    assert world.table.kept[KEY][1] == 60
    world.clock.now += 60
    await world.ask()
    assert len(world.upstreams.asked) == 2


async def test_absence_that_says_no_time_is_not_kept() -> None:
    world = World(lambda question: reply_of(NAME, rcode=3))
    for _ in range(2):
        assert (await world.ask()).rcode() == dns.rcode.NXDOMAIN
    assert (world.results, world.table.kept) == ({"miss": 2}, {})


async def test_what_must_not_be_kept_takes_what_was_kept_away() -> None:
    ttl = [10]
    world = World(lambda question: reply_of(NAME, answers=[f"{NAME}. {ttl[0]} A 192.0.2.1"]))
    await world.ask()
    ttl[0] = 0
    world.clock.now += 10
    assert lines((await world.ask()).answer) == [f"{NAME}. 0 A 192.0.2.1"]
    assert world.table.kept == {}
    world.upstreams.says = lambda question: silent()
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL  # nothing is there to be stale


async def test_limits_of_the_configuration() -> None:
    world = World(min_ttl=300, negative_ttl=20)
    assert (await world.ask()).answer[0].ttl == 300
    world.upstreams.says = negative
    assert (await world.ask("x.example.com")).authority[0].ttl == 20


async def test_types_are_kept_apart_and_names_are_not() -> None:
    world = World()
    await world.ask(NAME, "A")
    await world.ask(NAME, "AAAA")
    message = await world.ask("wWw.eXample.COM", "A")
    assert message.question[0].name.to_text() == "wWw.eXample.COM."
    assert len(world.upstreams.asked) == 2


async def test_a_cache_of_no_size() -> None:
    world = World(cache_size=0)
    for _ in range(2):
        await world.ask()
    assert (world.results, world.table.kept) == ({"miss": 2}, {})


async def test_another_resolver_goes_on_with_the_cache() -> None:
    world = World()
    await world.ask()
    other = World()
    await world.ask("n2.example.com")
    config = ResolverConfig(cache_size=1)
    after = Resolver(config, other.upstreams, cache=world.resolver.cache, clock=world.clock)
    after.attach(plain_responder())
    other.resolver = after
    await other.ask()
    assert (other.upstreams.asked, len(after.cache)) == ([], 2)
    after.limit()
    assert len(after.cache) == 1


# --- what comes from upstreams --------------------------------------------------------------------


async def test_the_question_goes_out_as_the_client_wrote_it() -> None:
    world = World()
    message = await world.ask("WwW.Example.com")
    assert world.upstreams.asked == [name_to_wire("WwW.Example.com") + b"\0\1\0\1"]
    assert message.question[0].name.to_text() == "WwW.Example.com."


async def test_others_names_are_poisoned_by_nobody() -> None:
    def says(question: str) -> bytes:
        if not question.startswith(NAME):
            return says_a(question)
        return reply_of(
            NAME,
            answers=[
                f"{NAME}. 100 CNAME x.example.net.",
                "bank.example. 100 A 203.0.113.66",
                "x.example.net. 9 A 1.1.1.1",
            ],
            authorities=["bank.example. 100 NS ns.evil.example."],
            additionals=["bank.example. 100 A 203.0.113.66"],
        )

    world = World(says)
    message = await world.ask()
    assert lines(message.answer) == [f"{NAME}. 100 CNAME x.example.net.", "x.example.net. 9 A 1.1.1.1"]
    assert not message.authority
    assert not message.additional
    assert lines((await world.ask("bank.example")).answer) == ["bank.example. 100 A 192.0.2.1"]


async def test_records_take_turns() -> None:
    world = World(lambda question: reply_of(NAME, answers=[f"{NAME}. 100 A 192.0.2.{n}" for n in range(1, 5)]))
    firsts = set()
    for _ in range(20):
        reply = await world.raw(packet(NAME))
        assert reply is not None
        firsts.add(reply[12 + len(KEY) :][12:16])
    assert len(firsts) == 4


async def test_an_answer_that_is_too_large_for_the_client() -> None:
    world = World(lambda question: reply_of(NAME, answers=[f"{NAME}. 100 A 192.0.2.{n}" for n in range(200)]))
    reply = await world.raw(packet(NAME))
    assert reply is not None
    assert len(reply) <= 512
    assert reply[2] & 2
    whole = await world.raw(packet(NAME), transport="tcp")
    assert whole is not None
    assert len(dns.message.from_wire(whole).answer[0]) == 200
    assert len(world.upstreams.asked) == 1


async def test_signatures_are_asked_for_apart() -> None:
    signed = f"{NAME}. 100 RRSIG A 8 3 300 20300101000000 20200101000000 1 example.com. AAAA"
    answers = [f"{NAME}. 100 A 192.0.2.1", signed]
    world = World(lambda question: reply_of(NAME, answers=answers, flags=0x81A0))  # with AD
    plain = await world.ask()
    assert len(plain.answer) == 1
    assert not plain.flags & dns.flags.AD
    world.table.kept.clear()
    for flags, edns, expected in ((0, 0x8000, (True, False)), (0x10, 0, (False, True)), (0x10, 0x8000, (True, True))):
        for _ in range(2):
            query = dns.message.make_query(NAME, "A")
            query.use_edns(0, payload=1232, ednsflags=edns)
            query.flags |= flags
            reply = await world.raw(query.to_wire())
            assert reply is not None
            message = dns.message.from_wire(reply, ignore_trailing=False)
            assert len(message.answer) == (2 if edns else 1)
            assert not message.flags & dns.flags.AD
            assert message.flags & dns.flags.CD == flags
            assert message.ednsflags == edns
        assert world.upstreams.flags[-1] == expected
    assert (len(world.upstreams.asked), world.table.kept) == (4, {})


async def test_the_real_table_answers_the_second_time() -> None:
    pytest.importorskip("mesos_dns._native")
    answers = [f"{NAME}. 100 CNAME a.example.net.", "a.example.net. 60 A 192.0.2.1", "a.example.net. 60 A 192.0.2.2"]
    upstreams = FakeUpstreams(lambda question: reply_of(NAME, answers=answers))
    resolver = Resolver(ResolverConfig(), upstreams)
    config = serving(ResolverConfig(), None)
    fast = fast_path(config, (), allow=resolver.networks)
    assert fast is not None
    view = ZoneView(config, ns_addresses=("127.0.0.1",), presence=fast.presence)
    responder = Responder(view, config, secrets=(), fast=fast, recursion=resolver)
    responder.take_over()
    query = packet("wWw.example.com", payload=1232)
    forward = responder.respond(query, "udp", CLIENT)
    assert isinstance(forward, Forward)
    first = await resolver.resolve(query, forward, "udp")
    assert first is not None
    assert lines(dns.message.from_wire(first).answer)[1:] == answers[1:]
    assert responder.respond(query, "udp", CLIENT) == first
    fast.close()


# --- many clients ---------------------------------------------------------------------------------


async def test_one_question_for_five_hundred_clients() -> None:
    world = World()
    world.upstreams.gate.clear()
    queries = [packet(NAME if number % 2 else NAME.upper()) for number in range(500)]
    waiting = [
        asyncio.create_task(world.raw(query, bytes((10, 0, number >> 8, number & 255))))
        for number, query in enumerate(queries)
    ]
    await asyncio.sleep(0)
    assert world.resolver.status()["waiting"] == 500
    world.upstreams.gate.set()
    for query, reply in zip(queries, await asyncio.gather(*waiting), strict=True):
        assert reply is not None
        assert reply[:2] == query[:2]
        assert reply[12 : 12 + len(KEY)] == query[12 : 12 + len(KEY)]
        assert reply.endswith(bytes((192, 0, 2, 1)))
    assert len(world.upstreams.asked) == 1
    assert world.results == {"miss": 1, "coalesced": 499}
    assert (world.resolver.status()["waiting"], world.resolver.status()["in_flight"]) == (0, 0)


@pytest.mark.parametrize("leaves", [0, 1])
async def test_a_client_that_goes_away_takes_nobodys_answer_with_it(leaves: int) -> None:
    world = World()
    world.upstreams.gate.clear()
    clients = [asyncio.create_task(world.raw(packet(NAME))) for _ in range(2)]
    await asyncio.sleep(0)
    clients[leaves].cancel()
    await asyncio.sleep(0)
    assert clients[leaves].cancelled()
    world.upstreams.gate.set()
    assert await clients[1 - leaves] is not None
    assert (world.upstreams.cancelled, world.resolver.status()["waiting"]) == (0, 0)


async def test_an_answer_is_kept_although_nobody_waits_for_it_any_more() -> None:
    world = World()
    world.upstreams.gate.clear()
    client = asyncio.create_task(world.raw(packet(NAME)))
    await asyncio.sleep(0)
    client.cancel()
    world.upstreams.gate.set()
    await world.idle()
    await world.ask()
    assert world.results == {"hit": 1}


async def test_too_many_questions() -> None:
    world = World(clients=2, client_questions=10)
    world.upstreams.gate.clear()
    waiting = [asyncio.create_task(world.raw(packet(f"n{number}.example.com"))) for number in range(2)]
    await asyncio.sleep(0)
    assert await world.raw(packet("n2.example.com"), bytes((10, 0, 0, 2))) is None
    joined = asyncio.create_task(world.raw(packet("n1.example.com")))
    await asyncio.sleep(0)
    world.upstreams.gate.set()
    assert None not in await asyncio.gather(*waiting, joined)
    assert world.results == {"miss": 2, "overload": 1, "coalesced": 1}
    assert await world.raw(packet("n2.example.com")) is not None


async def test_too_many_questions_of_one_client() -> None:
    world = World(client_questions=3)
    world.upstreams.gate.clear()
    waiting = [asyncio.create_task(world.raw(packet(f"n{number}.example.com"))) for number in range(3)]
    await asyncio.sleep(0)
    assert await world.raw(packet("n1.example.com")) is None
    other = asyncio.create_task(world.raw(packet("n9.example.com"), bytes((10, 0, 0, 2))))
    own = [asyncio.create_task(world.raw(packet(f"o{number}.example.com"), b"")) for number in range(5)]
    await asyncio.sleep(0)
    world.upstreams.gate.set()
    assert None not in await asyncio.gather(*waiting, other, *own)
    assert world.results["overload"] == 1
    assert await world.raw(packet("n8.example.com")) is not None


async def test_too_many_that_wait_for_the_same() -> None:
    world = World(clients=2)
    world.upstreams.gate.clear()
    waiting = [asyncio.create_task(world.raw(packet(NAME), bytes((10, 0, 1, number)))) for number in range(8)]
    await asyncio.sleep(0)
    assert await world.raw(packet(NAME)) is None
    world.upstreams.gate.set()
    assert None not in await asyncio.gather(*waiting)


async def test_too_many_are_given_what_is_past_its_time() -> None:
    world = World(clients=2, client_questions=2)
    await world.ask("old.example.com")
    world.clock.now += 200
    world.upstreams.gate.clear()
    waiting = [asyncio.create_task(world.raw(packet(f"n{number}.example.com"))) for number in range(2)]
    await asyncio.sleep(0)
    reply = await world.ask("old.example.com")
    assert (lines(reply.answer), error_of(reply)) == (["old.example.com. 30 A 192.0.2.1"], 3)
    assert await world.raw(packet("new.example.com")) is None
    assert (world.results["stale"], world.results["overload"]) == (1, 1)
    world.upstreams.gate.set()
    assert None not in await asyncio.gather(*waiting)


async def test_the_last_questions_may_be_finished() -> None:
    world = World()
    world.upstreams.gate.clear()
    waiting = asyncio.create_task(world.raw(packet(NAME)))
    await asyncio.sleep(0)
    finishing = asyncio.create_task(world.resolver.finish())
    await asyncio.sleep(0.01)
    assert not finishing.done()
    world.upstreams.gate.set()
    await finishing
    assert await waiting is not None
    assert world.upstreams.cancelled == 0


async def test_what_workers_give_stays_in_the_cache() -> None:
    world = World(cache_size=2)
    world.resolver.cache.in_use = lambda key: key == KEY
    await world.ask()
    for number in range(5):
        await world.ask(f"n{number}.example.com")
    await world.ask()
    assert len(world.upstreams.asked) == 6


# --- aliases --------------------------------------------------------------------------------------


async def test_an_alias_whose_end_is_not_told_is_followed() -> None:
    def says(question: str) -> bytes:
        name, _, rtype = question.split()
        if name.startswith("www"):
            return reply_of(name, rtype, [f"{name} 100 CNAME cdn.example.net."])
        return reply_of(name, rtype, [f"{name} 50 A 192.0.2.9"])

    world = World(says)
    for _ in range(2):
        assert lines((await world.ask()).answer) == [
            f"{NAME}. 100 CNAME cdn.example.net.",
            "cdn.example.net. 50 A 192.0.2.9",
        ]
    assert [question[:-4] for question in world.upstreams.asked] == [
        name_to_wire(NAME),
        name_to_wire("cdn.example.net"),
    ]
    assert KEY not in world.table.kept
    world.clock.now += 60
    assert lines((await world.ask()).answer) == [
        f"{NAME}. 40 CNAME cdn.example.net.",
        "cdn.example.net. 50 A 192.0.2.9",
    ]
    assert len(world.upstreams.asked) == 3


async def test_aliases_without_end_are_given_up() -> None:
    def says(question: str) -> bytes:
        name, _, rtype = question.split()
        return reply_of(name, rtype, [f"{name} 100 CNAME x{name}"])

    world = World(says)
    reply = await world.ask()
    assert (reply.rcode(), len(reply.answer)) == (dns.rcode.SERVFAIL, 8)
    assert len(world.upstreams.asked) == 8


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "error"), [("timeout", 22), ("unreachable", 22), ("tls", 23), ("servfail", None)])
async def test_a_failure_is_kept(reason: str, error: int | None) -> None:
    world = World(lambda question: silent(reason))
    message = await world.ask()
    assert (message.rcode(), error_of(message)) == (dns.rcode.SERVFAIL, error)
    for _ in range(3):
        message = await world.ask()
        assert (message.rcode(), error_of(message)) == (dns.rcode.SERVFAIL, 13)
    world.clock.now += 5
    await world.ask()
    assert len(world.upstreams.asked) == 2
    world.clock.now += 9  # twice as long the second time
    await world.ask()
    assert len(world.upstreams.asked) == 2
    assert world.results == {"miss": 2, "failure": 4}
    assert world.resolver.counters.failures == {reason: 2}
    world.clock.now += 1
    world.upstreams.says = says_a
    assert (await world.ask()).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("reason", ["no-upstream", "looping", "local"])
async def test_what_needs_no_question_to_be_known_is_not_kept(reason: str) -> None:
    world = World(lambda question: NoAnswer(reason))
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL
    world.upstreams.says = says_a
    assert (await world.ask()).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    "reply", [b"", reply_of("other.example"), reply_of(NAME, answers=[f"{NAME}. 1 A 1.1.1.1"]) + b"x"]
)
async def test_a_broken_reply_is_a_failure(reply: bytes) -> None:
    world = World(lambda question: reply)
    for _ in range(2):
        assert (await world.ask()).rcode() == dns.rcode.SERVFAIL
        world.clock.now += 100
    assert world.resolver.counters.failures == {"malformed": 2}


async def test_an_error_code_is_a_failure() -> None:
    world = World(lambda question: reply_of(NAME, rcode=5))
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL
    assert world.resolver.counters.failures == {"malformed": 1}


async def test_a_fault_of_ours_is_an_error_for_the_client(caplog: pytest.LogCaptureFixture) -> None:
    world = World(lambda question: RuntimeError("a fault"))
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL
    assert "a fault" in caplog.text
    world.upstreams.says = says_a
    assert (await world.ask()).rcode() == dns.rcode.NOERROR


async def test_upstreams_that_never_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.01)
    world = World(timeout=0.0)
    world.upstreams.gate.clear()
    message = await world.ask()
    assert (message.rcode(), error_of(message)) == (dns.rcode.SERVFAIL, 22)
    assert world.upstreams.cancelled == 1


async def test_a_probe_that_comes_back_is_not_asked_on() -> None:
    world = World()
    world.upstreams.probes.add(name_to_wire(NAME))
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL
    assert (world.upstreams.asked, world.results) == ([], {"loop": 1})


# --- past its time --------------------------------------------------------------------------------


@pytest.mark.parametrize(("says", "rcode", "error"), [(says_a, 0, 3), (negative, 3, 19)])
async def test_while_upstreams_are_down(says: Callable[[str], bytes], rcode: int, error: int) -> None:
    world = World(says)
    await world.ask()
    world.upstreams.says = lambda question: silent()
    world.clock.now += 3600
    for _ in range(3):  # upstreams are asked for the first of them
        message = await world.ask()
        assert (message.rcode(), error_of(message)) == (rcode, error)
        assert [rrset.ttl for rrset in (*message.answer, *message.authority)] == [30]
    answer, lifetime, is_stale = world.table.kept[KEY]
    assert (lifetime, is_stale, answer.extended_error) == (30, True, error)
    assert (len(world.upstreams.asked), world.results) == (2, {"miss": 1, "stale": 3})
    world.clock.now += 29.5
    await world.ask()
    assert len(world.upstreams.asked) == 2
    world.clock.now += 0.5
    await world.ask()
    assert len(world.upstreams.asked) == 3
    world.upstreams.says = says_a
    world.clock.now += 30
    message = await world.ask()
    assert (message.rcode(), error_of(message), message.answer[0].ttl) == (0, None, 100)
    assert world.table.kept[KEY][1:] == (100, False)


async def test_not_beyond_the_longest_time() -> None:
    world = World(stale_max=500.0)
    await world.ask()
    world.upstreams.says = lambda question: silent()
    world.clock.now += 599
    assert (await world.ask()).rcode() == dns.rcode.NOERROR
    world.clock.now += 1
    assert (await world.ask()).rcode() == dns.rcode.SERVFAIL


async def test_while_upstreams_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    world = World()
    await world.ask()
    world.clock.now += 200
    world.upstreams.gate.clear()
    for _ in range(2):
        message = await world.ask()
        assert (error_of(message), message.answer[0].ttl) == (3, 30)
    assert world.results == {"miss": 1, "stale": 2}
    assert world.resolver.status()["in_flight"] == 1
    world.upstreams.gate.set()
    await world.idle()
    assert (error_of(await world.ask()), len(world.upstreams.asked)) == (None, 2)
    assert world.table.kept[KEY][1:] == (100, False)


async def test_who_joins_a_slow_question_waits_no_longer_than_the_first() -> None:
    world = World()
    await world.ask()
    world.clock.now += 200
    world.upstreams.gate.clear()
    first = asyncio.create_task(world.ask())
    await asyncio.sleep(0)
    world.clock.now += module.PATIENCE  # the first one's timer is the loop's, which has not gone on
    assert error_of(await world.ask()) == 3
    assert not first.done()
    world.upstreams.gate.set()
    assert error_of(await first) is None


async def test_an_answer_in_time_is_better() -> None:
    world = World()
    await world.ask()
    world.clock.now += 200
    assert error_of(await world.ask()) is None
    assert world.results == {"miss": 2}


# --- ahead of time --------------------------------------------------------------------------------


async def test_what_is_asked_for_in_its_last_tenth_is_renewed() -> None:
    world = World()
    await world.ask()
    world.clock.now += 89
    await world.ask()
    assert len(world.upstreams.asked) == 1
    world.clock.now += 1
    world.upstreams.gate.clear()
    for _ in range(3):
        assert (await world.ask()).answer[0].ttl == 10
    world.upstreams.gate.set()
    await world.idle()
    assert (len(world.upstreams.asked), world.results["prefetch"]) == (2, 1)
    assert (await world.ask()).answer[0].ttl == 100
    assert world.table.kept[KEY][1] == 100


async def test_a_worker_tells_what_will_soon_be_too_old() -> None:
    world = World()
    query = forward_of(packet(NAME)).query
    await world.ask()
    world.resolver.refresh(query)
    assert world.results["prefetch"] == 0
    world.clock.now += 91
    for _ in range(2):
        world.resolver.refresh(query)
    await world.idle()
    assert (len(world.upstreams.asked), world.results["prefetch"]) == (2, 1)


async def test_a_worker_tells_of_what_is_in_the_table_alone() -> None:
    world = World()
    world.resolver.refresh(forward_of(packet(NAME)).query)
    await world.idle()
    assert world.table.kept[KEY][1] == 100


async def test_nothing_is_renewed_where_that_is_off_or_there_is_no_room() -> None:
    for world in (World(prefetch=False), World(clients=1)):
        await world.ask()
        world.clock.now += 95
        world.upstreams.gate.clear()
        other = asyncio.create_task(world.ask("other.example.com"))
        await asyncio.sleep(0)
        world.resolver.refresh(forward_of(packet(NAME)).query)
        await world.ask()
        assert world.results["prefetch"] == 0
        world.upstreams.gate.set()
        await other


async def test_an_answer_outlives_a_renewal_that_fails() -> None:
    world = World()
    await world.ask()
    world.upstreams.says = lambda question: silent()
    world.clock.now += 91
    assert (await world.ask()).answer[0].ttl == 9
    await world.idle()
    assert not world.table.kept[KEY][2]
    message = await world.ask()  # and asks no more for now
    await world.idle()
    assert (message.answer[0].ttl, error_of(message)) == (9, None)
    assert len(world.upstreams.asked) == 2


# --- the rest -------------------------------------------------------------------------------------


async def test_clients_that_are_allowed() -> None:
    resolver = World(allow=("192.0.2.0/24",)).resolver
    assert resolver.allows(bytes((192, 0, 2, 9)))
    assert resolver.allows(bytes((198, 51, 100, 1)))
    assert not resolver.allows(bytes((192, 0, 3, 9)))
    assert [str(network) for network in resolver.networks] == [
        "192.0.2.0/24",
        "198.51.100.1/32",
        "198.51.100.2/32",
        "198.51.100.3/32",
    ]


async def test_nothing_runs_after_close() -> None:
    world = World()
    world.upstreams.gate.clear()
    waiting = [asyncio.create_task(world.raw(packet(f"n{number}.example.com"))) for number in range(3)]
    while len(world.upstreams.asked) < 3:
        await asyncio.sleep(0)
    await world.resolver.close()
    assert await asyncio.gather(*waiting) == [None] * 3
    assert (world.upstreams.cancelled, world.resolver.status()["in_flight"]) == (3, 0)
    assert await world.raw(packet(NAME)) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_told_of_it() -> None:
    world = World()
    await world.ask()
    world.clock.now += 10
    status = world.resolver.status()
    assert (status["entries"], status["octets"], status["evicted"]) == (1, 16, 0)
    assert (status["results"], status["kept"], status["failures"]) == ({"miss": 1}, {"positive": 1}, {})
    expected = {"kind": "positive", "upstream": "192.0.2.53", "age": 10.0, "lifetime": 100, "stale": False}
    assert world.resolver.kept(name_to_wire(NAME), 1) == expected
    assert world.resolver.kept(name_to_wire(NAME), 28) is None
