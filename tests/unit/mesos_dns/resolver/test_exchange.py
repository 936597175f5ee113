"""One exchange by UDP with servers that answer, lie, are late, or are not there."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
from collections.abc import Sequence

import pytest

from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.exchange import MOST_MISMATCHES, Broken, Exchanges, broken_by
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.tally import Tally
from tests.fakes.upstreams import Step, address_in, found, right, silent, sockets, until, upstream, wire_question

pytestmark = pytest.mark.asyncio

ASKED = Question(wire_question("www.example"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer(host: str) -> None:
    tally = Tally()
    async with upstream(right, host) as server:
        before = await asyncio.to_thread(sockets)
        packet = await Exchanges(server.address(), tally).ask(ASKED, True, 5.0)
        assert await asyncio.to_thread(sockets) == before
    assert address_in(packet) == "192.0.2.7"
    assert tally.sent == {"udp": 1}


async def test_ids_and_ports_differ() -> None:
    async with upstream() as server:
        for _ in range(20):
            await Exchanges(server.address(), Tally()).ask(ASKED, True, 5.0)
    idents = {question[:2] for _, question in server.seen}
    assert len(idents) > 15
    assert len(server.peers) > 15


def lies(question: bytes) -> list[Step]:
    """Six packets that are no reply."""
    good = found(question)
    return [
        bytes((question[0] ^ 1,)) + good[1:],
        good[:2] + bytes((good[2] & 0x7F,)) + good[3:],
        good.replace(b"www", b"wwx"),
        b"\xff",
        good[:12],
        os.urandom(200),
    ]


async def test_lies_are_counted_and_the_truth_is_waited_for() -> None:
    tally = Tally()

    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [*lies(question), found(question, "192.0.2.9")]

    async with upstream(answering) as server:
        packet = await Exchanges(server.address(), tally).ask(ASKED, True, 5.0)
    assert address_in(packet) == "192.0.2.9"
    assert tally.results == {"mismatch": 6}


async def test_too_many_lies_end_it() -> None:
    def answering(question: bytes, _: str) -> Sequence[Step]:
        return [*lies(question), *lies(question), found(question)]

    tally = Tally()
    async with upstream(answering) as server:
        with pytest.raises(Broken) as caught:
            await Exchanges(server.address(), tally).ask(ASKED, True, 5.0)
    assert caught.value.reason == "mismatch"
    assert tally.results["mismatch"] == MOST_MISMATCHES


async def test_another_port_of_the_same_host_is_not_heard() -> None:
    async with upstream(silent) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            asking = asyncio.create_task(Exchanges(server.address(), Tally()).ask(ASKED, True, 5.0))
            await until(lambda: server.seen)
            for port in server.peers:
                stranger.sendto(found(server.seen[0][1], "192.0.2.66"), ("127.0.0.1", port))
            server.answering = right
            packet = await asking  # the answer to what was sent again
    assert address_in(packet) == "192.0.2.7"
    assert len(server.seen) > 1


async def test_a_lost_question_is_sent_again() -> None:
    tally = Tally()
    async with upstream(silent) as server:
        asking = asyncio.create_task(Exchanges(server.address(), tally).ask(ASKED, True, 5.0))
        await until(lambda: server.seen)
        server.answering = right
        await asking
    assert tally.results == {"resent": 1}
    assert tally.sent == {"udp": 2}
    assert server.seen[0] == server.seen[1]


async def test_it_is_sent_again_and_again_from_the_same_port_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesos_dns.resolver.exchange._RESEND", 0.01)
    monkeypatch.setattr("mesos_dns.resolver.exchange._RESEND_NEXT", 0.03)
    tally = Tally()
    async with upstream(silent) as server:
        asking = asyncio.create_task(Exchanges(server.address(), tally).ask(ASKED, True, 30.0))
        await until(lambda: len(server.seen) >= 4)
        server.answering = right
        assert address_in(await asking) == "192.0.2.7"
    assert len({question for _, question in server.seen}) == 1
    assert len(server.peers) == 1
    assert tally.results["resent"] == tally.sent["udp"] - 1 >= 3


async def test_silence_is_a_timeout() -> None:
    async with upstream(silent) as server:
        with pytest.raises(Broken) as caught:
            await Exchanges(server.address(), Tally()).ask(ASKED, True, 0.05)
    assert caught.value.reason == "timeout"


async def test_a_closed_port_is_noticed(free_port: int) -> None:
    with pytest.raises(Broken) as caught:
        await Exchanges(UpstreamAddress("udp", "127.0.0.1", free_port), Tally()).ask(ASKED, True, 30.0)
    assert caught.value.reason == "unreachable"


async def test_cancelled_it_leaves_no_socket() -> None:
    async with upstream(silent) as server:
        before = await asyncio.to_thread(sockets)
        asking = [asyncio.create_task(Exchanges(server.address(), Tally()).ask(ASKED, True, 30)) for _ in range(10)]
        await until(lambda: len(server.seen) >= 10)
        assert await asyncio.to_thread(sockets) == before + 10
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert await asyncio.to_thread(sockets) == before


async def test_many_at_once_are_watched_together_and_later_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[select.epoll] = []
    real = select.epoll

    def recorded() -> select.epoll:
        made.append(real())
        return made[-1]

    monkeypatch.setattr("mesos_dns.resolver.exchange.select.epoll", recorded)
    async with upstream(silent) as server:
        exchanges = Exchanges(server.address(), Tally())
        asking = [asyncio.create_task(exchanges.ask(ASKED, True, 30)) for _ in range(60)]
        await until(lambda: len(server.seen) >= 60)
        for task in asking[:20]:
            task.cancel()
        server.answering = right
        packets = await asyncio.gather(*asking[20:])  # the answers to what was sent again
        assert {address_in(packet) for packet in packets} == {"192.0.2.7"}
        assert len(made) == 1
        await until(lambda: made[0].closed)
        assert address_in(await exchanges.ask(ASKED, True, 5.0)) == "192.0.2.7"
        assert len(made) == 2


async def test_one_that_is_over_does_not_end_the_others() -> None:
    async with upstream(silent) as server:
        exchanges = Exchanges(server.address(), Tally())
        late, short = (asyncio.create_task(exchanges.ask(ASKED, True, seconds)) for seconds in (5.0, 0.05))
        with pytest.raises(Broken):
            await short
        server.answering = right
        assert address_in(await exchanges.ask(ASKED, True, 5.0)) == "192.0.2.7"
        assert address_in(await late) == "192.0.2.7"


@pytest.mark.parametrize("lacking", ["epoll", "register"])
async def test_without_room_to_watch(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = select.epoll

    class Epoll:
        """One that takes no socket."""

        def __init__(self) -> None:
            self._epoll = real()
            self.fileno, self.close, self.register = self._epoll.fileno, self._epoll.close, full

    async with upstream() as server:
        exchanges, before = Exchanges(server.address(), Tally()), await asyncio.to_thread(sockets)
        with monkeypatch.context() as patched:
            patched.setattr("mesos_dns.resolver.exchange.select.epoll", full if lacking == "epoll" else Epoll)
            with pytest.raises(Broken) as caught:
                await exchanges.ask(ASKED, True, 5.0)
        assert caught.value.reason == "local"
        assert await asyncio.to_thread(sockets) == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (ssl.SSLError("no"), "tls"),
        (ssl.SSLCertVerificationError("no"), "tls"),
        (OSError(errno.EMFILE, "too many"), "local"),
        (OSError(errno.ENETUNREACH, "no way"), "unreachable"),
        (ConnectionRefusedError(), "unreachable"),
    ],
)
async def test_what_errors_mean(error: OSError, reason: str) -> None:
    assert broken_by(error).reason == reason
