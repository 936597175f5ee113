"""Clients that try to cost an edge more than they pay, or to have it wait for ever: they are served, or held off."""

from __future__ import annotations

import asyncio
import base64
import socket

from lb7.table import AuthRule, HostRules, RouteRule
from tests.fakes.edged import HOST, NAME, Client, Edged, edged, request, told, until
from tests.fakes.scripted_backend import OK, Connection, Heard, Script, backend, sends

PASSWORD = "$1$uVoNRpkV$nxIHYSWEOvS4znNtyR30j/"  # of "secret"
AUTHORIZATION = f"Authorization: Basic {base64.b64encode(b'me:secret').decode()}"
GUARDED = HostRules(auth=(AuthRule(users=(("me", PASSWORD),)),), routes=(RouteRule(cluster=NAME),))
MOST_TAKEN = 32 << 20


def waits_for(release: asyncio.Event) -> dict[str, Script]:
    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    return {"/slow": slow}


async def taken_of(client: Client, piece: bytes) -> int:
    """How many octets the edge takes of one that sends for ever and reads nothing."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = 0
    while sent < 2 * MOST_TAKEN:
        client.writer.write(piece)
        try:
            async with asyncio.timeout(1):
                await client.writer.drain()
        except TimeoutError:
            break
        sent += len(piece)
    return sent


@told
async def test_requests_that_are_answered_here_to_a_client_that_does_not_read() -> None:
    async with edged() as edge:
        client = await edge.client()
        piece = request(host="nobody.example") * 1000
        assert await taken_of(client, piece) < MOST_TAKEN
        # It goes on when the answers are read after all.
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(1000):
            assert (await client.answer()).status == 503


@told
async def test_a_body_that_comes_while_the_password_is_looked_into() -> None:
    async with backend() as server, edged(server) as edge:
        edge.rules(HOST, GUARDED)
        for size in (3, 1_000_000):
            client = await edge.client()
            await client.send(request("/", AUTHORIZATION, f"Content-Length: {size}", method="POST"))
            await client.send(b"b" * size)
            assert (await client.answer()).status == 200
            assert server.heard[-1].body == b"b" * size
            edge.rules(HOST, HostRules(auth=(AuthRule(realm="other", users=(("me", PASSWORD),)),)))
            edge.rules(HOST, GUARDED)


@told
async def test_a_wrong_password_with_a_body() -> None:
    async with backend() as server, edged(server) as edge:
        edge.rules(HOST, GUARDED)
        wrong = f"Authorization: Basic {base64.b64encode(b'me:wrong').decode()}"
        client = await edge.client()
        await client.send(
            request("/", wrong, "Transfer-Encoding: chunked", method="POST"), b"3\r\nabc\r\n", b"0\r\n\r\n"
        )
        assert (await client.answer()).status == 401
        assert server.heard == []


@told
async def test_a_large_body_behind_a_request_in_hand() -> None:
    release = asyncio.Event()
    async with backend(waits_for(release)) as server, edged(server) as edge:
        client = await edge.client()
        sending = asyncio.create_task(
            client.send(request("/slow") + request("/up", method="POST", body=b"u" * 3_000_000))
        )
        await until(lambda: server.heard)
        await asyncio.sleep(0.1)
        release.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        await sending
        assert len(server.heard[1].body) == 3_000_000


@told
async def test_a_body_that_was_cut_behind_a_request_in_hand() -> None:
    release = asyncio.Event()
    async with backend(waits_for(release)) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/slow") + request("/up", "Content-Length: 10", method="POST") + b"half")
        client.writer.write_eof()
        await until(lambda: server.heard)
        await asyncio.sleep(0.1)
        release.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 400]
        assert await client.rest() == b""
        assert edge.front.counts()["bad_length"] == 1
        assert server.paths() == ["/slow"]


@told
async def test_silent_connections_give_way_to_new_ones() -> None:
    async with backend() as server, edged(server, max_connections=3) as edge:
        keeps = await edge.client()
        assert (await keeps.ask()).status == 200
        silent = [await edge.client() for _ in range(2)]
        await until(lambda: edge.edge.connections == 3)
        assert (await edge.ask()).status == 200  # the idle one goes, as long as the others have only just come
        assert edge.edge.counts()["idle_gave_way"] == 1
        silent.append(await edge.client())
        await until(lambda: edge.edge.connections == 3)
        await asyncio.sleep(1.5)
        for _ in range(3):
            client = await edge.client()
            assert (await client.ask()).status == 200
        assert edge.edge.counts()["fresh_gave_way"] == 3
        for one in silent:
            assert await one.rest() == b""


@told
async def test_connections_that_were_turned_away_are_not_counted_for_their_client() -> None:
    release = asyncio.Event()
    async with backend(waits_for(release)) as server:
        async with edged(server, max_connections=2, max_connections_per_client=2) as edge:
            asking = [asyncio.create_task(edge.ask("/slow")) for _ in range(2)]
            await until(lambda: len(server.heard) == 2)
            for _ in range(3):
                assert (await edge.raw(b"")).startswith(b"HTTP/1.1 503 ")
            release.set()
            assert [(await one).status for one in asking] == [200, 200]
            await until(lambda: edge.edge.connections == 0)
            clients = [await edge.client() for _ in range(2)]
            for client in clients:
                assert (await client.ask()).status == 200
            assert (await edge.raw(b"")).startswith(b"HTTP/1.1 503 ")


@told
async def test_who_does_not_read_is_reset() -> None:
    async def floods(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        while True:
            await connection.send(b"z" * 65536)

    async with backend({"": floods}) as server, edged(server, client_timeout=0.3) as edge:
        client = await edge.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: edge.edge.connections == 0)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.rest()
        assert isinstance(client.reader.exception(), ConnectionResetError)


async def with_little_room(edge: Edged) -> Client:
    """A client for whom the kernel keeps little, and that does not read yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", edge.port))
    client = Client(*await asyncio.open_connection(sock=sock))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    edge.clients.append(client)
    return client


@told
async def test_who_has_not_read_the_last_answer_is_given_time() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"z" * 100_000
    async with backend({"": sends(whole)}) as server:
        async with edged(server, keep_alive_timeout=0.1, client_timeout=30) as edge:
            client = await with_little_room(edge)
            await client.send(request())
            await until(lambda: edge.front.counts().get("timeout_keep_alive"))
            await asyncio.sleep(0.3)
            assert edge.edge.connections == 1
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await client.answer()).body) == 100_000


@told
async def test_who_does_not_read_the_last_answer_is_reset() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"z" * 100_000
    async with backend({"": sends(whole)}) as server:
        async with edged(server, keep_alive_timeout=0.1, client_timeout=0.3) as edge:
            client = await with_little_room(edge)
            await client.send(request())
            await until(lambda: edge.edge.counts()["requests"] == 1 and edge.edge.connections == 0)
            assert edge.front.counts()["timeout_client"] == 1
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await client.rest()
            assert isinstance(client.reader.exception(), ConnectionResetError)


@told
async def test_an_end_before_a_tunnel_is_passed_on() -> None:
    release = asyncio.Event()
    got: list[bytes] = []

    async def switches(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        got.append(await connection.reader.read())
        connection.close()

    async with backend({"": switches}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/", "Connection: upgrade", "Upgrade: x") + b"early")
        client.writer.write_eof()
        await until(lambda: server.heard)
        await asyncio.sleep(0.1)
        release.set()
        assert (await client.answer()).status == 101
        assert await client.rest() == b""
        assert got == [b"early"]


@told
async def test_a_body_that_nobody_wants_is_not_waited_for() -> None:
    async def refuses(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

    async with backend(early={"/e": refuses}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/e", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        answer = await client.answer()
        assert (answer.status, answer.body, answer.fields("connection")) == (403, b"no", [b"close"])
        assert await client.rest() == b""


@told
async def test_connections_that_nobody_waits_for_any_more_are_few() -> None:
    async with backend() as server, edged(server) as edge:
        for _ in range(40):
            clients = [await edge.client() for _ in range(10)]
            for client in clients:
                client.writer.write(request())
                client.writer.transport.abort()
        await until(lambda: edge.edge.connections == 0)
        await until(lambda: all(row["active"] == 0 for row in edge.cluster.status()))
        assert edge.edge.counts()["pooled"] <= 20
