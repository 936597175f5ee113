"""A real secondary, Knot DNS: it takes our zones by AXFR, and a NOTIFY makes it follow a change."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import pytest

from mesos_dns.config import DnsConfig, Duration
from mesos_dns.respond import Responder
from mesos_dns.secondaries import Secondaries
from mesos_dns.server import DnsServer
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import put, responder_of, soa, static, task

ZONES = ("mesos", "mesos.thisdcos.directory", "dcos.thisdcos.directory", "example.org")
ORG = "example.org."
PLAIN = (
    static(ORG, "SOA", soa(serial=7), zone=ORG),
    static(ORG, "NS", name_to_wire("ns.example.org"), zone=ORG),
    static("ns.example.org.", "A", b"\x0a\7\0\1", zone=ORG),
    static("*.apps.example.org.", "TXT", b"\2hi", zone=ORG),
    static("sub.example.org.", "NS", name_to_wire("ns.sub.example.org"), zone=ORG),
    static("ns.sub.example.org.", "A", b"\x0a\7\0\3", zone=ORG),
)
LOCAL = "127.0.0.1"


@pytest.fixture(scope="module")
def knotd() -> str:
    """knotd's path; ./dev test installs it."""
    path = shutil.which("knotd") or shutil.which("/usr/sbin/knotd")
    if path is None:
        pytest.skip("needs knotd (Debian: knot)")
    return path


@pytest.fixture
def knot(knotd: str, tmp_path: Path, free_port: int) -> Iterator[Callable[[int], int]]:
    """Starts Knot as a secondary of the primary at a port; its own port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(primary: int) -> int:
        zones = "".join(f"  - domain: {zone}\n    master: pharos\n    acl: from-pharos\n" for zone in ZONES)
        config = tmp_path / "knot.conf"
        config.write_text(
            f'server:\n  rundir: "{tmp_path}"\n  listen: {LOCAL}@{free_port}\n  udp-workers: 1\n  tcp-workers: 1\n'
            f'log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: "{tmp_path}"\n'
            f"remote:\n  - id: pharos\n    address: {LOCAL}@{primary}\n"
            f"acl:\n  - id: from-pharos\n    address: {LOCAL}\n    action: notify\n"
            f'template:\n  - id: default\n    storage: "{tmp_path}"\nzone:\n{zones}'
        )
        log = (tmp_path / "knot.log").open("wb")
        with log:
            started.append(subprocess.Popen([knotd, "-c", str(config)], stdout=log, stderr=log))
        return free_port

    try:
        yield start
    finally:
        for process in started:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


@asynccontextmanager
async def primary(knot_port: int, responder: Responder, server: DnsServer) -> AsyncIterator[None]:
    """Tells the secondary of changes meanwhile."""
    config = DnsConfig(notify=(f"{LOCAL}:{knot_port}",), notify_interval=Duration(0.5))
    telling = asyncio.create_task(Secondaries(config, lambda: responder.view, responder.counters.notifies).run())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await server.close()


async def ask(port: int, name: str, rtype: str) -> dns.message.Message:
    """By TCP, which needs no second try."""
    return await dns.asyncquery.tcp(dns.message.make_query(name, rtype), LOCAL, timeout=30, port=port)


async def until(port: int, name: str, rtype: str, expected: set[str]) -> dns.message.Message:
    """The answer, once it is this one."""
    async with asyncio.timeout(60):
        while True:
            try:
                reply = await ask(port, name, rtype)
            except (OSError, EOFError, dns.exception.DNSException):
                reply = dns.message.Message()
            if {rdata.to_text() for rrset in reply.answer for rdata in rrset if rrset.rdtype.name == rtype} == expected:
                return reply
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_knot_serves_what_we_serve_and_follows(knot: Callable[[int], int], tmp_path: Path) -> None:
    responder = responder_of(*(task(number, host_ports=(31000,)) for number in range(300)), *PLAIN, transfer=(LOCAL,))
    view = responder.view
    server = DnsServer(DnsConfig(listen=(f"{LOCAL}:0",)), responder)
    await server.start()
    here = server.addresses[0][1]
    there = await asyncio.to_thread(knot, here)
    async with primary(there, responder, server):
        for zone in ZONES:
            serial = 7 if zone == "example.org" else view.serial
            await until(there, zone, "SOA", {(await ask(here, zone, "SOA")).answer[0][0].to_text()})
            assert f" {serial} " in (await ask(there, zone, "SOA")).answer[0][0].to_text()
        for name, rtype in (
            ("web.marathon.mesos", "A"),
            ("_web._tcp.marathon.mesos", "SRV"),
            ("_web._tcp.marathon.mesos.thisdcos.directory", "SRV"),
            ("web.marathon.agentip.dcos.thisdcos.directory", "A"),
            ("marathon.slave.mesos", "A"),
            ("mesos", "NS"),
            ("nope.mesos", "A"),
            ("x.apps.example.org", "TXT"),
            ("www.sub.example.org", "A"),
        ):
            ours, theirs = await ask(here, name, rtype), await ask(there, name, rtype)
            assert (ours.rcode(), ours.answer) == (theirs.rcode(), theirs.answer), name
            assert ours.authority == theirs.authority or ours.answer, name
        assert responder.counters.transfers["sent"] >= len(ZONES)

        view.apply(put(task(7, "fresh"), static(ORG, "SOA", soa(serial=8), zone=ORG)))
        view.apply(put(static("new.example.org.", "A", b"\x0a\7\0\7", zone=ORG)))
        await until(there, "fresh.marathon.mesos", "A", {"9.0.0.8"})
        await until(there, "fresh.marathon.mesos.thisdcos.directory", "A", {"9.0.0.8"})
        await until(there, "new.example.org", "A", {"10.7.0.7"})
        assert responder.counters.notifies["answered"]
    log = await asyncio.to_thread((tmp_path / "knot.log").read_text)
    assert "error" not in log.lower(), log
