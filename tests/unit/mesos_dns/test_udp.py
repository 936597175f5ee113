"""DNS over UDP, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import logging
import socket

import dns.message
import dns.rcode
import pytest

from mesos_dns.respond import Responder
from tests.fakes.dns_serving import WEB, Run, faulty, right, serving, udp
from tests.fakes.questions import packet


def test_a_burst_is_answered_whole(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                sock.connect(server.addresses[0])
                for number in range(200):  # more than one batch
                    sock.send(number.to_bytes(2, "big") + WEB[2:])
                seen = {int.from_bytes((await loop.sock_recv(sock, 512))[:2], "big") for _ in range(200)}
            assert seen == set(range(200))

    run(story())


def test_what_is_dropped_stops_nothing(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, responder):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(server.addresses[0])
                for junk in (b"", b"x", b"\xff" * 500, b"\x12\x34\x81" + bytes(50), bytes(8000)):
                    sock.send(junk)
                sock.send(WEB)
                reply = b""
                while reply[:2] != WEB[:2]:
                    reply = await loop.sock_recv(sock, 512)
                assert right(reply)
            assert responder.counters.dropped == 4

    run(story())


def test_a_client_that_is_gone_stops_nothing(run: Run) -> None:
    async def story() -> None:
        async with serving() as (server, _):
            for _ in range(5):  # each answer meets a closed port, which comes back as an ICMP error
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect(server.addresses[0])
                    sock.send(WEB)
                assert right(await udp(server.addresses[0], WEB))

    run(story())


def test_a_fault_in_one_answer_costs_only_that(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Responder, "respond", faulty(Responder.respond))

    async def story() -> None:
        async with serving() as (server, _):
            reply = await udp(server.addresses[0], packet("bad.mesos"))
            assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL
            assert right(await udp(server.addresses[0], WEB))

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "could not answer a packet" in caplog.text
