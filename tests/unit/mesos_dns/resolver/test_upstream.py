"""One upstream: EDNS that is not known, truncated replies, and what goes into score and counters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import pytest

from mesos_dns.resolver.address import Transport, UpstreamAddress
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.upstream import Upstream
from tests.fakes.upstreams import (
    Answering,
    Step,
    UpstreamServer,
    address_in,
    failing,
    found,
    right,
    silent,
    until,
    upstream,
    wire_question,
)

pytestmark = pytest.mark.asyncio

ASKED = Question(wire_question("www.example"))


@asynccontextmanager
async def asking(
    answering: Answering, transport: Transport = "udp", host: str = "127.0.0.1"
) -> AsyncIterator[tuple[UpstreamServer, Upstream]]:
    async with upstream(answering, host) as server:
        one = Upstream(server.address(transport), ".", None)
        try:
            yield server, one
        finally:
            await one.streams.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_answer_is_scored(transport: Transport) -> None:
    async with asking(right, transport) as (_, one):
        outcome = await one.attempt(ASKED, 5.0)
        assert outcome.result == "answered"
        assert outcome.packet is not None
        assert address_in(outcome.packet) == "192.0.2.7"
        assert one.score.rtt > 0
        assert one.tally.sent == {transport: 1}
        assert one.tally.results == {"answered": 1}
        assert sum(one.tally.buckets) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_truncated_by_udp_it_is_asked_by_tcp(host: str) -> None:
    def answering(question: bytes, transport: str) -> Sequence[Step]:
        return [found(question, tc=transport == "udp")]

    async with asking(answering, host=host) as (server, one):
        assert [(await one.attempt(ASKED, 5.0)).result for _ in range(2)] == ["answered"] * 2
        assert [transport for transport, _ in server.seen] == ["udp", "tcp", "udp", "tcp"]
        assert server.accepted == 1
        assert one.tally.results == {"truncated": 2, "answered": 2}


async def test_truncated_by_tcp_it_is_of_no_use() -> None:
    async with asking(lambda question, _: [found(question, tc=True)]) as (_, one):
        assert (await one.attempt(ASKED, 5.0)).result == "truncated"
        assert one.score.failures == 1


async def test_who_is_lied_about_by_udp_is_asked_by_tcp() -> None:
    def answering(question: bytes, transport: str) -> Sequence[Step]:
        lie = bytes((question[0] ^ 1,)) + found(question, "192.0.2.66")[1:]
        return [found(question)] if transport == "tcp" else [lie] * 20

    async with asking(answering) as (_, one):
        outcome = await one.attempt(ASKED, 5.0)
        assert outcome.packet is not None
        assert address_in(outcome.packet) == "192.0.2.7"
        assert one.tally.results["mismatch"] == 8


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
@pytest.mark.parametrize("bare", [False, True])
async def test_who_does_not_know_edns_is_asked_without(rcode: int, bare: bool) -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        if dns.message.from_wire(question).edns < 0:
            return [found(question)]
        return [question[:2] + bytes((0x81, 0x80 | rcode)) + bytes(8) if bare else found(question, rcode=rcode)]

    async with asking(answering) as (server, one):
        for _ in range(2):
            assert (await one.attempt(ASKED, 5.0)).result == "answered"
        assert [dns.message.from_wire(question).edns for _, question in server.seen] == [0, -1, -1]
        assert one.tally.results == {"plain": 1, "answered": 2}


async def test_who_does_not_like_the_question_is_asked_with_edns_again() -> None:
    async with asking(failing(dns.rcode.FORMERR)) as (server, one):
        for _ in range(2):
            assert (await one.attempt(ASKED, 5.0)).result == "formerr"
        assert [dns.message.from_wire(question).edns for _, question in server.seen] == [0, -1, 0, -1]


async def test_an_error_is_held_against_it_only_when_another_knew_better() -> None:
    async with asking(failing(dns.rcode.SERVFAIL)) as (_, one):
        outcome = await one.attempt(ASKED, 5.0)
        assert (outcome.result, one.score.failures, one.unanswered) == ("servfail", 0, 1)
        for label in (b"\1a", b"\1b", b"\1c"):
            one.blame(outcome, label + b"\0")
        assert one.score.failures == 1
        one.blame(outcome, b"\1c\0")
        assert one.score.failures == 2


async def test_errors_for_few_names_are_these_names_fault() -> None:
    async with asking(failing(dns.rcode.SERVFAIL)) as (server, one):
        outcome = await one.attempt(ASKED, 5.0)
        for _ in range(20):
            for label in (b"\1a", b"\1b"):
                one.blame(outcome, label + b"\0")
        assert one.score.failures == 0
        server.answering = right
        await one.attempt(ASKED, 5.0)  # a good answer in between
        for label in (b"\1c", b"\1d"):
            one.blame(outcome, label + b"\0")
        assert one.score.failures == 0


async def test_who_is_overdue_is_failing_until_it_answers() -> None:
    async with asking(right) as (_, one):
        one.overdue()
        assert (one.score.failures, one.tally.results) == (1, {"overdue": 1})
        assert (await one.attempt(ASKED, 5.0)).result == "answered"
        assert one.score.failures == 0


async def test_what_is_read_of_an_answer_comes_with_it() -> None:
    packets: list[bytes] = []

    def read(packet: bytes) -> int:
        packets.append(packet)
        return len(packets)

    async with asking(right) as (_, one):
        outcome = await one.attempt(Question(ASKED.wire, read=read), 5.0)
        assert (outcome.result, outcome.read, packets) == ("answered", 1, [outcome.packet])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_answer_that_can_not_be_read_is_none(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    def read(packet: bytes) -> None:
        raise ValueError("aliases in a circle")

    asked = Question(ASKED.wire, read=read)
    async with asking(right, transport) as (_, one):
        with caplog.at_level(logging.WARNING):
            outcomes = [await one.attempt(asked, 5.0) for _ in range(3)]
        assert [(each.result, each.read) for each in outcomes] == [("malformed", None)] * 3
        assert (one.score.failures, one.unanswered, one.tally.results) == (3, 3, {"malformed": 3})
    assert [record.getMessage() for record in caplog.records] == [
        f"upstream {one.label}: a reply can't be used: aliases in a circle"
    ]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.FORMERR])
async def test_errors_are_not_read(rcode: int) -> None:
    packets: list[bytes] = []
    async with asking(failing(rcode)) as (_, one):
        await one.attempt(Question(ASKED.wire, read=packets.append), 5.0)
    assert not packets


async def test_silence_is_held_against_it_at_once() -> None:
    async with asking(silent) as (_, one):
        outcome = await one.attempt(ASKED, 0.05)
        assert (outcome.result, outcome.packet, one.score.failures) == ("timeout", None, 1)
        for label in (b"\1a", b"\1b", b"\1c"):
            one.blame(outcome, label + b"\0")
        assert one.score.failures == 1
        assert sum(one.tally.buckets) == 0


async def test_whoever_is_outrun_is_known_to_be_slow() -> None:
    async with asking(silent) as (server, one):
        attempt = asyncio.create_task(one.attempt(ASKED, 5.0))
        await until(lambda: server.seen)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        assert one.score.rtt > 0
        assert one.tally.results == {"outrun": 1}


async def test_what_this_machine_lacks_is_no_fault_of_the_upstream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    one = Upstream(UpstreamAddress("udp", "192.0.2.1", 53), ".", None)
    with caplog.at_level(logging.WARNING), monkeypatch.context() as patched:
        patched.setattr("mesos_dns.resolver.exchange.socket.socket", full)
        results = [(await one.attempt(ASKED, 5.0)).result for _ in range(3)]
    assert results == ["local"] * 3
    assert one.score.failures == 0
    assert len(caplog.records) == 1


async def test_a_probe_leaves_no_trace() -> None:
    async with asking(silent) as (_, one):
        assert await one.reply(ASKED, 0.05) == ("timeout", None, None)
        assert (one.score.failures, one.unanswered, one.tally.results) == (0, 0, {})
