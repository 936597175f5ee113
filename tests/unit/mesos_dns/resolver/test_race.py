"""Several upstreams and one question: who is asked when, and whose answer counts."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import dns.message
import dns.rcode
import pytest

from mesos_dns.resolver import race as race_module
from mesos_dns.resolver import score
from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.race import NoAnswer, race
from mesos_dns.resolver.upstream import Upstream
from tests.fakes.upstreams import (
    Answering,
    UpstreamServer,
    address_in,
    failing,
    found,
    right,
    saying,
    silent,
    sockets,
    until,
    upstream,
    wire_question,
)

pytestmark = pytest.mark.asyncio

ASKED = Question(wire_question("www.example"))
SERVFAIL, REFUSED, NXDOMAIN = dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NXDOMAIN


@asynccontextmanager
async def field(*answering: Answering) -> AsyncIterator[tuple[list[UpstreamServer], list[Upstream]]]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(upstream(each)) for each in answering]
        upstreams = [Upstream(server.address(), ".", None) for server in servers]
        yield servers, upstreams
        for one in upstreams:
            await one.streams.close()


def hedge_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(race_module, "hedge_delay", lambda _: seconds)


async def test_the_first_is_asked_alone_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    async with field(right, silent) as (servers, upstreams):
        winner, outcome = await race(upstreams, ASKED, 5.0)
        assert (winner, address_in(outcome.packet or b"")) == (upstreams[0], "192.0.2.7")
        assert not servers[1].seen


async def test_when_the_first_is_late_the_next_is_asked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 0.02)
    async with field(silent, saying("192.0.2.2")) as (_, upstreams):
        before = await asyncio.to_thread(sockets)
        winner, outcome = await race(upstreams, ASKED, 5.0)
        assert (winner, address_in(outcome.packet or b"")) == (upstreams[1], "192.0.2.2")
        assert await asyncio.to_thread(sockets) == before
        assert upstreams[0].tally.results == {"outrun": 1}
        assert score.value(upstreams[0].score, 0) > score.value(upstreams[1].score, 0)


async def test_the_first_may_still_win(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 0.02)
    async with field(saying("192.0.2.1", 0.2), silent) as (servers, upstreams):
        winner, _ = await race(upstreams, ASKED, 5.0)
        assert winner is upstreams[0]
        assert len(servers[1].seen) == 1


async def test_three_at_once_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 0.0)
    async with field(silent, silent, silent, right) as (servers, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 0.2)
        assert (caught.value.reason, caught.value.packet, caught.value.upstream) == ("timeout", None, "")
        assert [len(server.seen) for server in servers] == [1, 1, 1, 0]


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR, dns.rcode.NOTAUTH])
async def test_an_error_does_not_win(rcode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    async with field(failing(rcode), failing(rcode), saying("192.0.2.3", 0.05)) as (_, upstreams):
        winner, outcome = await race(upstreams, ASKED, 5.0)
        assert (winner, address_in(outcome.packet or b"")) == (upstreams[2], "192.0.2.3")
        assert [one.score.failures for one in upstreams] == [0, 0, 0]  # the name may be to blame
        for name in ("a.example", "b.example"):
            await race(upstreams, Question(wire_question(name)), 5.0)
        assert [one.score.failures for one in upstreams] == [1, 1, 0]


async def test_after_an_error_the_next_is_asked_although_another_is_still_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays = iter([0.02, 30.0, 30.0])
    monkeypatch.setattr(race_module, "hedge_delay", lambda _: next(delays))
    async with field(silent, failing(SERVFAIL), right) as (_, upstreams):
        winner, _ = await race(upstreams, ASKED, 10.0)
        assert winner is upstreams[2]
        assert upstreams[0].tally.results["outrun"] == 1


async def test_a_closed_port_and_garbage_do_not_win(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    hedge_after(monkeypatch, 30)
    async with field(lambda question, _: [found(question)[:-1]], right) as (_, upstreams):
        dead = Upstream(UpstreamAddress("udp", "127.0.0.1", free_port), ".", None)
        winner, _ = await race([dead, *upstreams], ASKED, 5.0)
        assert winner is upstreams[1]
        assert dead.tally.results == {"unreachable": 1}
        assert upstreams[0].tally.results == {"malformed": 1}


async def test_nxdomain_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    async with field(failing(NXDOMAIN), right) as (servers, upstreams):
        winner, outcome = await race(upstreams, ASKED, 5.0)
        assert winner is upstreams[0]
        assert dns.message.from_wire(outcome.packet or b"").rcode() == NXDOMAIN
        assert not servers[1].seen


async def test_the_best_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    async with field(failing(REFUSED), failing(SERVFAIL), failing(REFUSED)) as (_, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 5.0)
        assert (caught.value.reason, caught.value.upstream) == ("servfail", upstreams[1].label)
        assert caught.value.packet is not None
        assert dns.message.from_wire(caught.value.packet).rcode() == SERVFAIL
        assert [one.score.failures for one in upstreams] == [0, 0, 0]  # the name may be to blame


async def test_an_error_without_a_question_is_no_packet_to_pass_on() -> None:
    async with field(lambda question, _: [question[:2] + b"\x80\x81" + bytes(8)]) as (_, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 0.05)
        assert (caught.value.reason, caught.value.packet) == ("timeout", None)  # no EDNS, then no question: not ours


def overdue_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(race_module, "OVERDUE", seconds)


async def test_one_that_is_overdue_may_still_win_from_the_port_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    overdue_after(monkeypatch, 0.05)
    async with field(saying("192.0.2.1", 0.6), failing(SERVFAIL)) as (servers, upstreams):
        winner, outcome = await race(upstreams, ASKED, 10.0)
        assert (winner, address_in(outcome.packet or b"")) == (upstreams[0], "192.0.2.1")
        assert [upstreams[0].tally.results[result] for result in ("overdue", "timeout", "answered")] == [1, 0, 1]
        assert len(servers[0].peers) == 1
        assert upstreams[0].score.failures == 0


async def test_one_that_is_overdue_is_failing_before_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    overdue_after(monkeypatch, 0.05)
    async with field(silent, silent) as (servers, upstreams):
        asking = asyncio.create_task(race(upstreams, ASKED, 30.0))
        await until(lambda: upstreams[0].score.failures)
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert not servers[1].seen


async def test_those_that_are_overdue_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 0.0)
    overdue_after(monkeypatch, 0.1)
    async with field(silent, silent, silent, right) as (_, upstreams):
        winner, _ = await race(upstreams, ASKED, 30.0)
        assert winner is upstreams[3]
        assert upstreams[0].tally.results["overdue"] == 1
        assert [one.tally.results["outrun"] for one in upstreams] == [1, 1, 1, 0]


@pytest.mark.parametrize("servers", [1, 2])
async def test_silence_is_told_when_the_time_is_over(servers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    overdue_after(monkeypatch, 0.02)
    async with field(*[silent] * servers) as (_, upstreams):
        started = asyncio.get_running_loop().time()
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 2.0)  # on a busy machine, too, time enough for all to be asked
        assert asyncio.get_running_loop().time() >= started + 1.9
        assert caught.value.reason == "timeout"
        assert [one.tally.results["timeout"] for one in upstreams] == [1] * servers


async def test_a_slow_one_is_waited_for_as_long_as_the_question_may_take() -> None:
    async def slow(servers: int, delay: float) -> None:
        answering = [saying("192.0.2.1", delay), *[failing(REFUSED)] * (servers - 1)]
        async with field(*answering) as (there, upstreams):
            for _ in range(2 if delay < 2 else 1):
                winner, _ = await race(upstreams, ASKED, 10.0)
                assert winner is upstreams[0]
            assert upstreams[0].tally.results["timeout"] == 0
            assert len(there[0].peers) == upstreams[0].tally.results["answered"]

    await asyncio.gather(*(slow(servers, delay) for servers in (1, 2) for delay in (1.7, 4.0)))


@pytest.mark.parametrize("servers", [1, 2])
async def test_a_connection_that_does_not_open_is_tried_again_once(
    servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesos_dns.resolver.stream._CONNECT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = UpstreamAddress("tls", "127.0.0.1", deaf.getsockname()[1])
        upstreams = [Upstream(address, ".", ssl.create_default_context()) for _ in range(servers)]
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 30.0)
    assert caught.value.reason == "timeout"
    assert [one.tally.results["timeout"] for one in upstreams] == [2] * servers
    for one in upstreams:
        await one.streams.close()


async def test_alone_an_error_ends_it() -> None:
    async with field(failing(SERVFAIL)) as (servers, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 30.0)
        assert caught.value.reason == "servfail"
        assert caught.value.packet is not None
        assert len(servers[0].seen) == 1


def only(address: str) -> Question:
    """The question of one who can read answers with this address alone."""

    def read(packet: bytes) -> str:
        if address_in(packet) != address:
            raise ValueError("another address")
        return address

    return Question(ASKED.wire, read=read)


async def test_one_that_can_not_be_read_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 30)
    async with field(saying("192.0.2.1"), saying("192.0.2.2", 0.05)) as (_, upstreams):
        winner, outcome = await race(upstreams, only("192.0.2.2"), 5.0)
        assert (winner, outcome.read) == (upstreams[1], "192.0.2.2")
        assert [dict(one.tally.results) for one in upstreams] == [{"malformed": 1}, {"answered": 1}]
        assert [one.score.failures for one in upstreams] == [1, 0]


@pytest.mark.parametrize("servers", [1, 3])
async def test_when_none_can_be_read_that_is_the_reason(servers: int) -> None:
    async with field(*[right] * servers) as (there, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, only("192.0.2.2"), 5.0)
        assert (caught.value.reason, caught.value.packet) == ("malformed", None)
        assert [len(server.seen) for server in there] == [1] * servers


async def test_alone_there_is_no_second_time_without_time_for_it() -> None:
    async with field(silent) as (servers, upstreams):
        with pytest.raises(NoAnswer) as caught:
            await race(upstreams, ASKED, 0.05)
        assert caught.value.reason == "timeout"
        assert len(servers[0].seen) == 1
        with pytest.raises(NoAnswer):
            await race(upstreams, ASKED, 0.0)
        assert len(servers[0].seen) == 1
        assert upstreams[0].tally.results == {"timeout": 1}


async def test_given_up_it_leaves_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    hedge_after(monkeypatch, 0.01)
    async with field(silent, silent, silent) as (servers, upstreams):
        before = await asyncio.to_thread(sockets)
        asking = asyncio.create_task(race(upstreams, ASKED, 30.0))
        await until(lambda: servers[2].seen)
        assert await asyncio.to_thread(sockets) == before + 3
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(sockets) == before
