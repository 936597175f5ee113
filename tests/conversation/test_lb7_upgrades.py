"""Connections that go on in another protocol: WebSocket and others, up to the end of each direction."""

from __future__ import annotations

import asyncio
import gc

from tests.fakes.edged import edged, request, told, until
from tests.fakes.scripted_backend import Connection, Heard, backend

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ASK = request("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")


async def echo(connection: Connection, heard: Heard) -> None:
    """Says everything again in capitals, and goodbye."""
    await connection.send(SWITCH + b"hello")
    while octets := await connection.reader.read(65536):
        await connection.send(octets.upper())
    await connection.send(b"bye")
    connection.close()


@told
async def test_a_tunnel_and_its_end_from_the_client() -> None:
    async with backend({"/ws": echo}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(ASK + b"early")
        answer = await client.answer()
        assert answer.head == SWITCH.replace(b"Connection: Upgrade", b"Connection: upgrade")
        assert await client.reader.readexactly(10) == b"helloEARLY"
        await client.send(b"x" * 300_000)
        assert await client.reader.readexactly(300_000) == b"X" * 300_000
        client.writer.write_eof()
        assert await client.rest() == b"bye"
        await until(lambda: edge.edge.connections == 0)
        heard = server.heard[0]
        assert (heard.fields("upgrade"), heard.fields("connection")) == ([b"websocket"], [b"upgrade"])
        assert edge.counted("status")[1] == 1
        assert edge.counted("sent") > 300_000
        assert edge.counted("received") > 300_000


@told
async def test_a_tunnel_and_its_end_from_the_server() -> None:
    got: list[bytes] = []

    async def leaves(connection: Connection, heard: Heard) -> None:
        await connection.send(SWITCH + b"bye")
        connection.writer.write_eof()
        got.append(await connection.reader.read())

    async with backend({"/ws": leaves}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(ASK)
        assert await client.rest() == SWITCH.replace(b"Upgrade\r\n\r\n", b"upgrade\r\n\r\n") + b"bye"
        await client.send(b"still there")
        client.close()
        await until(lambda: got)
        assert got == [b"still there"]


@told
async def test_a_tunnel_that_breaks() -> None:
    async def resets(connection: Connection, heard: Heard) -> None:
        await connection.send(SWITCH)
        await connection.reader.read(1)
        connection.reset()

    async with backend({"/ws": resets}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(ASK)
        await client.answer()
        await client.send(b"x")
        assert await client.rest() == b""
        gone = await edge.client()
        await gone.send(ASK)
        await gone.answer()
        gone.writer.transport.abort()
        await until(lambda: not server.open)


@told
async def test_a_tunnel_in_which_nothing_happens_is_ended() -> None:
    async def silent(connection: Connection, heard: Heard) -> None:
        await connection.send(SWITCH)
        await connection.reader.read()

    async with backend({"/ws": silent}) as server, edged(server, tunnel_timeout=0.1) as edge:
        client = await edge.client()
        await client.send(ASK)
        await client.answer()
        assert await client.rest() == b""
        assert edge.front.counts()["timeout_tunnel"] == 1
        await until(lambda: not server.open)


@told
async def test_an_upgrade_that_is_not_accepted() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        await client.send(ASK)
        assert (await client.answer()).body == b"ok"
        assert (await client.ask("/next")).body == b"ok"
        assert server.accepted == 1


@told
async def test_http_2_is_not_let_past() -> None:
    async with backend() as server, edged(server) as edge:
        fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        assert (await edge.ask("/", *fields)).status == 200
        for name in ("upgrade", "connection", "http2-settings"):
            assert server.heard[0].fields(name) == []


@told
async def test_back_pressure_in_a_tunnel() -> None:
    sent = [0]

    async def floods(connection: Connection, heard: Heard) -> None:
        await connection.send(SWITCH)
        while sent[0] < 128 << 20:
            await connection.send(b"z" * 65536)
            sent[0] += 65536

    async with backend({"/ws": floods}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(ASK)
        await client.answer()
        before = -1
        while sent[0] != before:
            before = sent[0]
            await asyncio.sleep(0.3)
        assert before < 64 << 20
        gc.collect()  # which takes nothing away that is only held off
        received = 0
        while received < 128 << 20:
            received += len(await client.reader.read(1 << 20))
        assert received == 128 << 20
