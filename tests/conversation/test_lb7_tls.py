"""The same over TLS: what the server is told, routes by server name, and connections that end there."""

from __future__ import annotations

import asyncio
import ssl

import trustme

from lb7.table import HostRules, RouteRule
from tests.fakes.edged import HOST, NAME, Client, Edged, edged, request, told, until
from tests.fakes.scripted_backend import Connection, Heard, backend

CA = trustme.CA()


def server_context() -> ssl.SSLContext:
    """Remembers the name that a client asks for, as lb7.certificates does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(HOST, "other.example").configure_cert(context)

    def named(connection: ssl.SSLObject, name: str | None, own: ssl.SSLContext) -> None:
        connection.server_name_asked = (name or "").lower()  # type: ignore[attr-defined]

    context.sni_callback = named
    return context


async def tls_client(edge: Edged, name: str = HOST) -> Client:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    made = Client(
        *await asyncio.open_connection("127.0.0.1", edge.port, ssl=context, server_hostname=name, limit=1 << 22)
    )
    edge.clients.append(made)
    return made


@told
async def test_requests_over_tls() -> None:
    async with backend() as server, edged(server, ssl=server_context()) as edge:
        client = await tls_client(edge)
        for number in range(3):
            assert (await client.ask(f"/{number}", method="PUT", body=b"x" * 100_000 * number)).body == b"ok"
        assert server.heard[0].fields("x-forwarded-proto") == [b"https"]
        assert [len(heard.body) for heard in server.heard] == [0, 100_000, 200_000]
        assert server.accepted == 1
        answer = await client.ask("/last", "Connection: close")
        assert answer.fields("connection") == [b"close"]
        assert await client.rest() == b""
        await until(lambda: edge.edge.connections == 0)


@told
async def test_routes_by_server_name() -> None:
    async with backend() as server, edged(server, by="sni", ssl=server_context(), compat=True) as edge:
        client = await tls_client(edge)
        await client.send(request(host="whatever.example"))
        assert (await client.answer()).status == 200
        assert server.heard[0].fields("x-forwarded-proto") == [b"https"]
        other = await tls_client(edge, "other.example")
        assert (await other.ask()).status == 503
        edge.rules("other.example", HostRules(routes=(RouteRule(cluster=NAME),)))
        assert (await other.ask()).status == 200


@told
async def test_a_slow_reader_over_tls() -> None:
    sent, size = [0], 128 << 20

    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            await connection.send(b"z" * 65536)
            sent[0] += 65536

    async with backend({"": script}) as server, edged(server, ssl=server_context()) as edge:
        client = await tls_client(edge)
        await client.send(request("/big"))
        before = -1
        while sent[0] != before:
            before = sent[0]
            await asyncio.sleep(0.5)
        assert before < size // 2
        await client.reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < size:
            received += len(await client.reader.read(1 << 20))
        assert received == size


@told
async def test_refusals_and_tunnels_over_tls() -> None:
    async def echo(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        while octets := await connection.reader.read(65536):
            await connection.send(octets)

    async with backend({"/up": echo}) as server, edged(server, ssl=server_context(), max_body=10) as edge:
        client = await tls_client(edge)
        await client.send(request("/", "Content-Length: 1000", method="POST") + b"x" * 100)
        assert (await client.answer()).status == 413
        assert await client.rest() == b""
        client = await tls_client(edge)
        await client.send(request("/up", "Connection: upgrade", "Upgrade: x"))
        assert (await client.answer()).status == 101
        await client.send(b"hello")
        assert await client.reader.readexactly(5) == b"hello"
        client.close()
        await until(lambda: not server.open and edge.edge.connections == 0)


@told
async def test_who_does_not_read_over_tls_is_held_off() -> None:
    async def floods(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        while True:
            await connection.send(b"z" * 65536)

    async with backend({"": floods}) as server:
        async with edged(server, ssl=server_context(), client_timeout=0.3) as edge:
            client = await tls_client(edge)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request())
            await until(lambda: edge.edge.counts()["requests"] == 1 and edge.edge.connections == 0)
            assert edge.front.counts()["timeout_client"] == 1
            await until(lambda: not server.open)


@told
async def test_silent_and_idle_connections_over_tls_are_closed() -> None:
    async with backend() as server:
        async with edged(server, ssl=server_context(), request_timeout=0.3, keep_alive_timeout=0.3) as edge:
            silent, idle = await tls_client(edge), await tls_client(edge)
            assert (await idle.ask()).status == 200
            for client in (silent, idle):
                assert await client.rest() == b""
            await until(lambda: edge.edge.connections == 0)
