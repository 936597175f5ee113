"""Zone transfer: who may have a zone, what is said instead, the messages, and slow or vanished clients."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
import trustme

from mesos_dns import transfer
from mesos_dns.contents import Contents
from mesos_dns.model import Key
from mesos_dns.respond import Responder
from mesos_dns.transfer import AT_ONCE, MAX_MESSAGE, Transfer, Transfers, messages, newer
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.dns_serving import Run, certificate, connected, framed, read_one, serving, trusting
from tests.fakes.questions import drop, put, responder_of, soa, static, task

ME = b"\x7f\0\0\1"
ORG = "example.org."
PLAIN = (
    static(ORG, "SOA", soa(serial=7), zone=ORG),
    static(ORG, "NS", name_to_wire("ns.example.org"), zone=ORG),
    static("ns.example.org.", "A", b"\x0a\7\0\1", zone=ORG),
)


def asked(name: str = "mesos", rtype: str = "AXFR", serial: int | None = None, **edns: Any) -> bytes:
    query = dns.message.make_query(name, rtype, **edns)
    if serial is not None:
        query.authority.append(dns.rrset.from_text(f"{name}.", 0, "IN", "SOA", f". . {serial} 0 0 0 0"))
    return query.to_wire()


def allowed(*entities: Any, **config: Any) -> Responder:
    return responder_of(*(entities or (task(),)), **{"transfer": ("127.0.0.1",), **config})


def reply(responder: Responder, query: bytes, transport: str = "tcp", client: bytes = ME) -> dns.message.Message:
    found = responder.respond(query, transport, client)
    assert isinstance(found, bytes), found
    return dns.message.from_wire(found, ignore_trailing=False)


def sent(responder: Responder, query: bytes, transport: str = "tcp") -> list[dns.message.Message]:
    """The messages of a transfer."""
    found = responder.respond(query, transport, ME)
    assert isinstance(found, Transfer), found
    wires = [wire for wire in messages(found, Contents(found.zone, responder.view.serial)) if wire]
    return [dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=False) for wire in wires]


# --- who may have what ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "client", "rcode"),
    [
        ((), ME, "REFUSED"),
        (("127.0.0.1",), ME, None),
        (("127.0.0.2",), ME, "REFUSED"),
        (("127.0.0.0/8",), ME, None),
        (("::1", "10.0.0.0/8"), b"\x0a\1\2\3", None),
        (("::1", "10.0.0.0/8"), bytes(15) + b"\1", None),
        (("fd00::/8",), b"\xfd" + bytes(15), None),
        (("0.0.0.0/0",), b"", "REFUSED"),
        (("0.0.0.0/0",), bytes(15) + b"\1", "REFUSED"),
    ],
)
def test_who_may_have_a_zone(networks: tuple[str, ...], client: bytes, rcode: str | None) -> None:
    responder = allowed(transfer=networks)
    for rtype, serial in (("AXFR", None), ("IXFR", 5)):
        query = asked("mesos", rtype, serial)
        if rcode is None:
            assert isinstance(responder.respond(query, "tcp", client), Transfer)
        else:
            assert reply(responder, query, "tcp", client).rcode() == dns.rcode.from_text(rcode)
            assert responder.counters.transfers["refused"]


@pytest.mark.parametrize("name", ["example.net", "web.marathon.mesos", "org", ".", "1.0.0.9.in-addr.arpa"])
def test_what_is_no_zone_of_ours(name: str) -> None:
    responder = allowed(zones={"example.net": ("192.0.2.1",)}, forward=("192.0.2.1",))
    answer = reply(responder, asked(name))
    assert answer.rcode() == 9  # NOTAUTH
    assert not answer.flags & dns.flags.AA
    assert responder.counters.transfers == {"not_ours": 1}


@pytest.mark.parametrize(
    "zone", ["mesos", "MeSoS", "mesos.thisdcos.directory", "dcos.thisdcos.directory", "example.org"]
)
def test_every_zone_can_be_had(zone: str) -> None:
    first, *more = sent(allowed(task(), *PLAIN), asked(zone))
    assert not more
    assert [question.name.to_text() for question in first.question] == [f"{zone}."]
    assert first.answer[0] == first.answer[-1]
    assert first.answer[0].rdtype == dns.rdatatype.SOA
    assert {rrset.rdtype for rrset in first.answer[1:-1]} >= {dns.rdatatype.NS, dns.rdatatype.A}


def test_other_classes_are_refused() -> None:
    query = dns.message.make_query("mesos", "AXFR", "CH").to_wire()
    assert reply(allowed(), query).rcode() == dns.rcode.REFUSED


def test_while_nobody_has_said_what_runs() -> None:
    """An empty zone would end all names of a secondary."""
    responder = allowed(*PLAIN)
    responder.view.known = lambda: False
    assert reply(responder, asked()).rcode() == dns.rcode.SERVFAIL
    assert reply(responder, asked("mesos", "IXFR", 5), "udp").rcode() == dns.rcode.SERVFAIL
    assert sent(responder, asked("example.org"))
    responder.view.apply(drop(PLAIN[0].key))
    assert reply(responder, asked("example.org")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("transport", ["tcp", "tls", "udp"])
@pytest.mark.parametrize(
    ("behind", "whole"), [(0, False), (1, True), (100, True), (-1, False), (0x7FFFFFFF, True), (-0x7FFFFFFF, False)]
)
def test_ixfr(behind: int, whole: bool, transport: str) -> None:
    responder = allowed()
    query = asked("mesos", "IXFR", (responder.view.serial - behind) & 0xFFFFFFFF)
    if whole and transport != "udp":
        (message,) = sent(responder, query, transport)
        assert len(message.answer) > 2
        return
    answer = reply(responder, query, transport)
    assert answer.flags & dns.flags.AA
    assert not answer.flags & dns.flags.TC
    assert [rrset[0].serial for rrset in answer.answer] == [responder.view.serial]
    assert responder.counters.transfers == {"by_tcp" if transport == "udp" else "current": 1}


def test_ixfr_of_a_file_goes_by_its_own_serial() -> None:
    responder = allowed(*PLAIN)
    assert [rrset[0].serial for rrset in reply(responder, asked("example.org", "IXFR", 7)).answer] == [7]
    assert sent(responder, asked("example.org", "IXFR", 6))


def test_malformed_questions() -> None:
    responder = allowed()
    assert reply(responder, asked(rtype="IXFR")).rcode() == dns.rcode.FORMERR
    assert reply(responder, asked(), "udp").rcode() == dns.rcode.FORMERR
    assert responder.counters.transfers == {"malformed": 2}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(1, 0, True), (0, 1, False), (7, 7, False), (0, 0xFFFFFFFF, True), (0xFFFFFFFF, 0, False), (1 << 31, 0, True)],
)
def test_serials_go_round(one: int, other: int, expected: bool) -> None:
    assert newer(one, other) is expected


# --- messages -------------------------------------------------------------------------------------


def test_messages_of_a_large_zone() -> None:
    responder = allowed(*(task(number) for number in range(2000)), forward=("192.0.2.1",))
    query = asked("mesos", use_edns=0, payload=1232)
    found = sent(responder, query)
    assert len(found) > 5
    for message in found:
        assert message.id == dns.message.from_wire(query).id
        assert message.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
        assert message.edns == 0
        assert message.question[0].rdtype == dns.rdatatype.AXFR
    assert min(len(message.answer) for message in found[:-1]) > 100
    records = [rrset for message in found for rrset in message.answer]
    assert records[0] == records[-1]
    assert [rrset.rdtype for rrset in records].count(dns.rdatatype.SOA) == 2
    assert len({rrset.to_text() for rrset in records}) == len(records) - 1
    assert len([rrset for rrset in records if rrset.name.to_text() == "web.marathon.mesos."]) == 2000


@pytest.mark.parametrize("name", ["mesos", "MESOS"])
@pytest.mark.parametrize("limit", [200, 300, 1000, 0x4000])
def test_messages_of_every_size_say_the_same(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    responder = allowed(*(task(number, host_ports=(31000, 31001)) for number in range(20)))
    whole = [rrset for message in sent(responder, asked("mesos")) for rrset in message.answer]
    monkeypatch.setattr(transfer, "MESSAGE", limit)
    found = responder.respond(asked(name), "tcp", ME)
    assert isinstance(found, Transfer)
    wires = [wire for wire in messages(found, Contents(found.zone, responder.view.serial)) if wire]
    assert max(map(len, wires)) <= limit
    parts = [dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=False) for wire in wires]
    assert [rrset for message in parts for rrset in message.answer] == whole


def test_records_that_fill_a_message() -> None:
    """Beyond the reach of pointers, alone in a message; one that fits in none is left out."""
    large = b"".join(b"\xff" + b"x" * 255 for _ in range(100))
    huge = b"".join(b"\xff" + b"x" * 255 for _ in range(255)) + b"\xfe" + b"y" * 254
    responder = allowed(
        *PLAIN,
        static("a.example.org.", "TXT", large, zone=ORG),
        static("a.example.org.", "A", b"\x0a\7\0\2", zone=ORG),
        static("b.example.org.", "TXT", huge, zone=ORG),
        static("b.example.org.", "A", b"\x0a\7\0\3", zone=ORG),
    )
    assert len(huge) <= MAX_MESSAGE < len(huge) + 40
    found = [rrset for message in sent(responder, asked("example.org")) for rrset in message.answer]
    kinds = [(rrset.name.to_text(), rrset.rdtype.name) for rrset in found]
    assert ("a.example.org.", "TXT") in kinds
    assert ("b.example.org.", "TXT") not in kinds
    assert {("a.example.org.", "A"), ("b.example.org.", "A")} <= set(kinds)


# --- sending --------------------------------------------------------------------------------------


def start(stall: float = 60.0, *, tasks: int = 2000) -> tuple[Transfers, Transfer, ZoneView]:
    responder = allowed(*(task(number) for number in range(tasks)))
    found = responder.respond(asked(), "tcp", ME)
    assert isinstance(found, Transfer)
    return Transfers(responder.view, responder.view.config, responder.counters.transfers, stall), found, responder.view


def into(wires: list[bytes]) -> Callable[[bytes], Awaitable[None]]:
    async def write(message: bytes) -> None:
        wires.append(message)
        await asyncio.sleep(0)

    return write


def zone_in(wires: list[bytes]) -> dns.zone.Zone:
    origin = dns.name.from_text("mesos.")
    read = [dns.message.from_wire(wire, one_rr_per_rrset=True, xfr=True, origin=origin) for wire in wires]
    return dns.zone.from_xfr(iter(read))


def serial_in(wires: list[bytes]) -> int:
    return zone_in(wires).find_rdataset("@", "SOA")[0].serial


@pytest.mark.asyncio
async def test_what_is_sent_is_one_version(caplog: pytest.LogCaptureFixture) -> None:
    transfers, found, view = start()
    expected: list[bytes] = []
    with caplog.at_level("INFO"):
        assert await transfers.send(found, into(expected))
    assert "zone sent zone=mesos" in caplog.text
    wires: list[bytes] = []
    serial = view.serial

    async def changing(message: bytes) -> None:
        number = len(wires)
        wires.append(message)
        keys: list[Key] = [task(number * 10 + more).key for more in range(10)]
        view.apply(drop(*keys))
        view.apply(put(task(3000 + number, "new"), task(1999 - number, host_ports=(number,))))
        await asyncio.sleep(0)

    assert await transfers.send(found, changing)
    assert len(wires) > 5
    assert zone_in(wires) == zone_in(expected)
    assert serial_in(wires) == serial
    after: list[bytes] = []
    assert await transfers.send(found, into(after))
    assert zone_in(after) != zone_in(wires)
    assert serial_in(after) == view.serial != serial


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    transfers, found, _ = start(0.01)
    for _ in range(AT_ONCE + 1):  # each leaves its place to the next
        assert not await transfers.send(found, lambda message: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    assert transfers._counters == {"stalled": AT_ONCE + 1}
    assert "zone not sent zone=mesos reason=stalled client=127.0.0.1" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize(("slowest", "expected"), [(1e12, "stalled"), (1e-3, "sent")])
async def test_a_client_that_reads_ever_so_slowly_is_given_up(
    slowest: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message well before STALL, and still too slow for the others who wait."""
    monkeypatch.setattr(transfer, "SLOWEST", slowest)
    transfers, found, _ = start(1.0)
    loop, read = asyncio.get_running_loop(), 0
    later, now = 0.0, loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + later)

    async def write(message: bytes) -> None:
        nonlocal later, read
        later, read = later + 0.4, read + 1

    assert await transfers.send(found, write) is (expected == "sent")
    assert transfers._counters == {expected: 1}
    assert read == 3 if expected == "stalled" else read > 5


@pytest.mark.asyncio
async def test_only_some_run_at_once() -> None:
    transfers, found, _ = start(tasks=10)
    running, most, go = 0, 0, asyncio.Event()

    async def write(message: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await go.wait()
        finally:
            running -= 1

    sending = [asyncio.create_task(transfers.send(found, write)) for _ in range(3 * AT_ONCE)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert running == AT_ONCE
    sending[0].cancel()
    sending[-1].cancel()
    await asyncio.gather(sending[0], sending[-1], return_exceptions=True)
    go.set()
    assert await asyncio.gather(*sending[1:-1]) == [True] * (3 * AT_ONCE - 2)
    assert most == AT_ONCE
    assert transfers._counters == {"sent": 3 * AT_ONCE - 2, "broken": 2}


@pytest.mark.asyncio
async def test_a_fault_of_ours_ends_one_transfer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    transfers, found, _ = start(tasks=1)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "messages", lambda *_: 1 / 0)
        assert not await transfers.send(found, into([]))
    assert "ZeroDivisionError" in caplog.text
    assert await transfers.send(found, into([]))
    assert transfers._counters == {"failed": 1, "sent": 1}


# --- over sockets ---------------------------------------------------------------------------------

TASKS = tuple(task(number) for number in range(3000))


def read_zone(address: tuple[str, int], name: str = "mesos") -> dns.zone.Zone:
    zone = dns.zone.Zone(name)
    dns.query.inbound_xfr(address[0], zone, port=address[1], timeout=30)
    return zone


def test_dnspython_reads_a_zone(run: Run) -> None:
    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.0/8",)) as (server, responder):
            zone = await asyncio.to_thread(read_zone, server.addresses[0])
            assert len(zone.find_rdataset("web.marathon", "A")) == 3000
            assert len(zone.nodes) > 5900
            assert responder.counters.transfers == {"sent": 1}

    run(story())


@pytest.fixture
def dig() -> str:
    """dig's path; ./dev test installs it."""
    path = shutil.which("dig")
    if path is None:
        pytest.skip("needs dig (Debian: bind9-dnsutils)")
    return path


def test_dig_reads_a_zone(run: Run, dig: str) -> None:
    def digged(address: tuple[str, int], *words: str) -> str:
        command = [dig, f"@{address[0]}", "-p", str(address[1]), "+tries=1", "+time=30", "mesos", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert not done.stderr
        return done.stdout

    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.1",)) as (server, responder):
            address, serial = server.addresses[0], responder.view.serial
            output = await asyncio.to_thread(digged, address, "AXFR")
            assert output.count("web.marathon.mesos.") == 3000
            assert output.count(" SOA") + output.count("\tSOA") == 2
            assert "Transfer failed" not in output
            assert f"ixfr={serial - 1}" not in output
            output = await asyncio.to_thread(digged, address, f"IXFR={serial - 1}")
            assert output.count("web.marathon.mesos.") == 3000
            output = await asyncio.to_thread(digged, address, f"IXFR={serial}")
            assert output.count("SOA") == 1
            assert responder.counters.transfers == {"sent": 2, "current": 1}

    run(story())


def test_answers_and_transfers_on_one_connection(run: Run) -> None:
    async def story() -> None:
        async with (
            serving(*TASKS, transfer=("127.0.0.1",)) as (server, responder),
            connected(server.addresses[0]) as (reader, writer),
        ):
            axfr = dns.message.make_query("mesos", "AXFR")
            plain = dns.message.make_query("web-x.mesos", "A")
            writer.write(framed(axfr.to_wire()) + framed(plain.to_wire()) + framed(axfr.to_wire()))
            writer.write_eof()
            found: dict[int, list[bytes]] = {}
            while not reader.at_eof():
                try:
                    wire = await read_one(reader)
                except asyncio.IncompleteReadError:
                    break
                found.setdefault(int.from_bytes(wire[:2], "big"), []).append(wire)
            assert set(found) == {axfr.id, plain.id}
            assert len(found[plain.id]) == 1
            records = sum(int.from_bytes(wire[6:8], "big") for wire in found[axfr.id])
            zone = responder.view.domain
            assert records == 2 * (2 + sum(1 for step in Contents(zone, 1).records() if step is not None))

    run(story())


def test_a_zone_by_tls(run: Run, tmp_path: Path) -> None:
    authority = trustme.CA()
    settings: dict[str, Any] = certificate(authority, tmp_path)
    context = trusting(authority)

    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.1",), tls_listen=("127.0.0.1:0",), **settings) as (server, _):
            options = {"ssl": context, "server_hostname": "dns.test"}
            async with connected(server.tls_addresses[0], **options) as (reader, writer):
                writer.write(framed(asked()))
                wires = [await read_one(reader)]
                while wires[-1].count(b"\4root\3ns1") + wires[0].count(b"\4root\3ns1") < 2 or len(wires) < 2:
                    wires.append(await read_one(reader))
                zone = zone_in(wires)
                assert len(zone.find_rdataset("web.marathon", "A")) == 3000

    run(story())


def test_a_client_that_reads_late_gets_all(run: Run) -> None:
    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.1",)) as (server, responder):
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, server.addresses[0])
                await loop.sock_sendall(sock, framed(asked()))
                await asyncio.sleep(0.1)
                responder.view.apply(drop(*(entity.key for entity in TASKS)))
                octets = bytearray()
                while responder.counters.transfers["sent"] == 0 or octets.count(b"\4root") < 2:
                    octets += await loop.sock_recv(sock, 65536)
            at, records = 0, 0
            while at < len(octets):
                size = int.from_bytes(octets[at : at + 2], "big")
                records += int.from_bytes(octets[at + 8 : at + 10], "big")
                at += 2 + size
            assert records >= 9000

    run(story())


def test_a_client_that_goes_ends_its_transfer(run: Run) -> None:
    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.1",)) as (server, responder):
            async with connected(server.addresses[0], limit=1024) as (reader, writer):
                writer.write(framed(asked()) * 20)
                await read_one(reader)
                writer.transport.abort()
            async with asyncio.timeout(30):
                while responder.counters.transfers["broken"] + responder.counters.transfers["sent"] < 4:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(read_zone, server.addresses[0])

    run(story())


def test_a_stalled_client_is_closed(run: Run) -> None:
    async def story() -> None:
        async with serving(*TASKS, transfer=("127.0.0.1",)) as (server, responder):
            responder.transfers._stall = 0.05
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, server.addresses[0])
                for _ in range(30):
                    await loop.sock_sendall(sock, framed(asked()))
                async with asyncio.timeout(30):
                    while not responder.counters.tcp_closed["transfer"]:
                        await asyncio.sleep(0.01)
            assert responder.counters.transfers["stalled"] >= 1

    run(story())
