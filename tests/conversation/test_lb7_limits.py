"""How much there may be at once, how an edge ends its work, and what it tells of it."""

from __future__ import annotations

import asyncio
import logging

from lb7._lookup import Table
from lb7._proxy import Edge
from lb7.settings import Settings
from tests.fakes.edged import HOST, Client, edged, listen, request, told, until
from tests.fakes.scripted_backend import OK, Connection, Heard, backend


@told
async def test_idle_connections_give_way_to_new_ones() -> None:
    async with backend() as server, edged(server, max_connections=3) as edge:
        clients: list[Client] = []
        for number in range(5):
            client = await edge.client()
            assert (await client.ask(f"/{number}")).status == 200
            clients.append(client)
        for client in clients[:2]:
            assert await client.rest() == b""
        assert edge.edge.connections == 3
        assert edge.edge.counts()["idle_gave_way"] == 2
        for client in clients[2:]:
            assert (await client.ask("/again")).status == 200


@told
async def test_too_many_connections_are_turned_away() -> None:
    release = asyncio.Event()

    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    async with backend({"": slow}) as server, edged(server, max_connections=2) as edge:
        asking = [asyncio.create_task(edge.ask()) for _ in range(2)]
        await until(lambda: len(server.heard) == 2)
        assert (await edge.raw(b"")).startswith(b"HTTP/1.1 503 ")
        assert edge.front.counts()["max_connections"] == 1
        release.set()
        assert [(await one).status for one in asking] == [200, 200]


@told
async def test_too_many_connections_of_one_client_are_turned_away() -> None:
    async with backend() as server, edged(server, max_connections_per_client=2) as edge:
        clients = [await edge.client() for _ in range(2)]
        for client in clients:
            assert (await client.ask()).status == 200
        assert (await edge.raw(b"")).startswith(b"HTTP/1.1 503 ")
        assert edge.front.counts()["max_connections_per_client"] == 1
        clients[0].close()
        await until(lambda: edge.edge.connections == 1)
        assert (await edge.ask()).status == 200


@told
async def test_too_many_requests_of_a_route() -> None:
    release = asyncio.Event()

    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    async with backend({"": slow}) as server, edged(server, max_requests_per_route=1) as edge:
        asking = asyncio.create_task(edge.ask())
        await until(lambda: server.heard)
        assert (await edge.ask()).status == 503
        assert edge.counted("overflow") == 1
        release.set()
        assert (await asking).status == 200


@told
async def test_draining() -> None:
    release = asyncio.Event()

    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    async with backend({"/slow": slow}) as server, edged(server) as edge:
        idle, busy = await edge.client(), await edge.client()
        assert (await idle.ask()).status == 200
        await busy.send(request("/slow"))
        await until(lambda: len(server.heard) == 2)
        edge.edge.drain()
        assert await idle.rest() == b""
        assert edge.edge.requests == 1
        assert "timeout_keep_alive" not in edge.front.counts()
        release.set()
        answer = await busy.answer()
        assert (answer.body, answer.fields("connection")) == (b"ok", [b"close"])
        assert await busy.rest() == b""
        await until(lambda: edge.edge.connections == 0 and not server.open)


@told
async def test_requests_that_come_while_an_edge_drains() -> None:
    async with backend() as server, edged(server) as edge:
        idle, fresh = await edge.client(), await edge.client()
        assert (await idle.ask()).status == 200
        await until(lambda: edge.edge.connections == 2)
        edge.edge.drain()
        late = await edge.client()
        for client in (idle, fresh, late):
            answer = await client.ask("/x", method="POST", body=b"x")
            assert (answer.status, answer.fields("connection")) == (200, [b"close"])
            assert await client.rest() == b""
        assert edge.edge.connections == 0


@told
async def test_silent_connections_do_not_hold_up_an_edge_that_drains() -> None:
    async with edged(request_timeout=3600, keep_alive_timeout=3600) as edge:
        clients = [await edge.client() for _ in range(3)]
        await clients[0].ask()
        await until(lambda: edge.edge.connections == 3)
        edge.edge.drain()
        for client in clients:
            assert await client.rest() == b""


@told
async def test_the_access_log() -> None:
    async with backend() as server, edged(server, access_log=1.0) as edge:
        await edge.ask(
            "/a?b=" + "c" * 2000, "Authorization: Basic c2VjcmV0", "Cookie: secret=1", method="PUT", body=b"x"
        )
        await until(lambda: edge.log)
        record = edge.log[0]
        assert record["path"].startswith("/a?b=ccc")
        assert len(record["path"]) == 1024
        expected = {"client": "127.0.0.1", "listener": "http", "method": "PUT", "host": HOST, "status": 200}
        expected |= {"cluster": "/app:10000", "server": f"127.0.0.1:{server.port}", "tries": 1, "why": None}
        assert record.items() >= expected.items()
        assert record["received"] > 2000
        assert record["sent"] == len(OK)
        assert 0 <= record["first"] <= record["total"]
        assert record["request_id"].encode() == server.heard[0].fields("x-request-id")[0]
        assert "secret" not in str(record)
        assert "c2VjcmV0" not in str(record)
        await edge.raw(b"nonsense\r\n\r\n")
        assert (edge.log[1]["status"], edge.log[1]["why"]) == (400, "bad_line")


@told
async def test_failures_are_logged_up_to_a_rate() -> None:
    async with edged() as edge:
        client = await edge.client()
        await client.send(request(host="nobody.example") * 1000)
        for _ in range(1000):
            assert (await client.answer()).status == 503
        dropped = edge.edge.counts()["log_dropped"]
        assert dropped > 0
        assert len(edge.log) + dropped == 1000


@told
async def test_a_log_that_fails_harms_no_request() -> None:
    async with backend() as server, edged(server) as edge:

        def fails(record: object) -> None:
            raise RuntimeError("the log is full")

        own = Edge(Settings(access_log=1.0), fails)
        front = own.front("http", edge.table, "host", False, 80)
        listener, port = await listen(front)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        logging.disable(logging.CRITICAL)
        try:
            for _ in range(2):
                assert (await client.ask()).status == 200
        finally:
            logging.disable(logging.NOTSET)
        client.close()
        listener.close()
        own.drain()
        await until(lambda: own.connections == 0)


@told
async def test_the_table_may_change_between_requests() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        assert (await client.ask()).status == 200
        table = edge.front.table
        edge.front.table = Table("http")
        assert (await client.ask()).status == 503
        edge.front.table = table
        assert (await client.ask()).status == 200
        edge.table.drop(HOST)
        assert (await client.ask()).status == 503
