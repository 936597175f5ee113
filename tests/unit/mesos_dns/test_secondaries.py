"""NOTIFY: each zone once at the start and after changes, again until there is an answer, and never too often."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import dns.flags
import dns.message
import dns.opcode
import pytest

from mesos_dns import secondaries
from mesos_dns.config import DnsConfig, Duration, host_port_text
from mesos_dns.secondaries import Secondaries, notification
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.questions import drop, put, soa, static, task, view_of

ORG = "example.org."
PLAIN = static(ORG, "SOA", soa(serial=7), zone=ORG)
Message = dns.message.Message


class Secondary(asyncio.DatagramProtocol):
    """Keeps what it hears, and answers as `reply` says."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.ports: list[int] = []
        self.reply: Callable[[Message, bytes], bytes | None] = lambda message, wire: answer(message)
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = dns.message.from_wire(data, ignore_trailing=False)
        self.heard.append(message)
        self.ports.append(addr[1])
        wire = self.reply(message, data)
        if wire is not None and self.transport is not None:
            self.transport.sendto(wire, addr)

    def serials(self, zone: str) -> list[int]:
        """What it heard of a zone."""
        return [message.answer[0][0].serial for message in self.heard if message.answer[0].name.to_text() == zone]


def answer(message: Message, rcode: int = 0) -> bytes:
    wire = bytearray(dns.message.make_response(message).to_wire())
    wire[3] = wire[3] & 0xF0 | rcode
    return bytes(wire)


@contextlib.asynccontextmanager
async def told(view: ZoneView, counters: Counter[str] | None = None, interval: float = 0.0) -> AsyncIterator[Secondary]:
    """A secondary that is told of a view's changes."""
    loop = asyncio.get_running_loop()
    transport, secondary = await loop.create_datagram_endpoint(Secondary, local_addr=("127.0.0.1", 0))
    address = host_port_text(*transport.get_extra_info("sockname")[:2])
    config = DnsConfig(notify=(address,), notify_interval=Duration(interval))
    running = loop.create_task(Secondaries(config, lambda: view, Counter() if counters is None else counters).run())
    try:
        yield secondary
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        transport.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondaries, "LOOK", 0.002)
    monkeypatch.setattr(secondaries, "REPLY", 20.0)
    monkeypatch.setattr(secondaries, "LONGEST_WAIT", 0.01)


def test_the_message() -> None:
    view = view_of(PLAIN)
    zone = view.zones[name_to_wire("example.org")]
    wires = [notification(zone, zone.soa(view.serial)) for _ in range(20)]
    message = dns.message.from_wire(wires[0], ignore_trailing=False)
    assert message.opcode() == dns.opcode.NOTIFY
    assert message.flags & dns.flags.AA
    assert not message.flags & dns.flags.QR
    assert message.question[0].to_text() == "example.org. IN SOA"
    assert [rrset.to_text() for rrset in message.answer] == [
        "example.org. 300 IN SOA ns.example.org. admin.example.org. 7 3600 600 86400 30"
    ]
    assert len({wire[:2] for wire in wires}) > 1


@pytest.mark.asyncio
async def test_every_zone_at_the_start_and_then_what_changes() -> None:
    view, counters = view_of(PLAIN), Counter[str]()
    zones = {"mesos.", "mesos.thisdcos.directory.", "dcos.thisdcos.directory.", ORG}
    async with told(view, counters) as secondary:
        await until(lambda: counters["answered"] == 4)
        assert {message.question[0].name.to_text() for message in secondary.heard} == zones
        first = view.serial
        view.apply(put(task()))
        await until(lambda: counters["answered"] == 7)
        assert secondary.serials("mesos.") == [first, view.serial]
        assert secondary.serials(ORG) == [7]
        view.apply(put(static(ORG, "SOA", soa(serial=8), zone=ORG)))
        await until(lambda: counters["answered"] == 11)
        assert secondary.serials(ORG) == [7, 8]
        assert len(set(secondary.ports)) > 1
        assert len({message.id for message in secondary.heard}) > 1
        await asyncio.sleep(0.05)
        assert len(secondary.heard) == 11
        view.apply(drop(PLAIN.key))
        await until(lambda: counters["answered"] == 14)
        assert secondary.serials(ORG) == [7, 8]
    assert counters == {"answered": 14}


@pytest.mark.asyncio
async def test_not_more_often_than_the_interval_and_then_the_newest() -> None:
    view, counters = view_of(), Counter[str]()
    async with told(view, counters, 1.0) as secondary:
        await until(lambda: counters["answered"] == 3)
        for number in range(20):
            view.apply(put(task(number)))
            await asyncio.sleep(0.002)
        assert len(secondary.serials("mesos.")) == 1
        newest = view.serial
        await until(lambda: counters["answered"] == 6)
        assert len(secondary.serials("mesos.")) == 2
        assert secondary.serials("mesos.")[1] == newest


@pytest.mark.asyncio
async def test_nothing_is_told_before_anybody_knows() -> None:
    view = view_of(PLAIN)
    view.known = lambda: False
    async with told(view) as secondary:
        await until(lambda: secondary.heard)
        await asyncio.sleep(0.05)
        assert [message.question[0].name.to_text() for message in secondary.heard] == [ORG]
        view.known = lambda: True
        await until(lambda: secondary.serials("mesos."))


@pytest.mark.asyncio
async def test_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondaries, "REPLY", 0.1)
    view, counters = view_of(directory=""), Counter[str]()
    async with told(view, counters) as secondary:
        right = secondary.reply
        secondary.reply = lambda message, wire: None if len(secondary.heard) < 3 else answer(message)
        await until(lambda: counters["answered"] == 1)
        assert counters["timeout"] >= 2
        assert len(set(secondary.ports)) >= 3
        monkeypatch.setattr(secondaries, "REPLY", 20.0)
        secondary.heard.clear()
        secondary.reply = lambda message, wire: answer(message, 5) if len(secondary.heard) < 2 else right(message, wire)
        view.apply(put(task()))
        await until(lambda: counters["answered"] == 2)
        assert counters["refused"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", ["id", "question", "query", "opcode"])
async def test_an_answer_to_something_else_does_not_count(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondaries, "REPLY", 0.05)
    view, counters = view_of(directory=""), Counter[str]()

    def reply(message: Message, wire: bytes) -> bytes:
        out = bytearray(answer(message))
        if wrong == "id":
            out[1] ^= 1
        elif wrong == "question":
            out[13] ^= 1
        elif wrong == "query":
            out[2] &= 0x7F
        else:
            out[2] &= 0x87
        return bytes(out)

    async with told(view, counters) as secondary:
        secondary.reply = reply
        await until(lambda: sum(counters.values()) >= 2)
        assert not counters["answered"]


@pytest.mark.asyncio
async def test_a_secondary_that_is_away_is_left_alone_until_the_next_change(caplog: pytest.LogCaptureFixture) -> None:
    view, counters = view_of(directory=""), Counter[str]()
    async with told(view, counters) as secondary:
        assert secondary.transport is not None
        secondary.transport.close()
        await until(lambda: "secondary not told" in caplog.text)
        assert counters == {"unreachable": secondaries.TRIES}
        await asyncio.sleep(0.05)
        assert counters == {"unreachable": secondaries.TRIES}
        view.apply(put(task()))
        await until(lambda: counters["unreachable"] == 2 * secondaries.TRIES)


@pytest.mark.asyncio
async def test_a_fault_in_one_message_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    view, counters = view_of(directory=""), Counter[str]()
    with monkeypatch.context() as patch:
        patch.setattr(secondaries, "notification", lambda *_: 1 / 0)
        async with told(view, counters):
            await until(lambda: counters["failed"])
            patch.undo()
            await until(lambda: counters["answered"])
    assert "ZeroDivisionError" in caplog.text
