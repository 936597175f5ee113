"""A worker's servers in this process: sockets and listeners in any order, changes that nobody notices, and ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from lb7._proxy import Edge
from lb7.certificates import CertificateStore
from lb7.settings import Settings
from lb7.sockets import bind, place_of
from lb7.table import Listener, TableDelta
from lb7.worker_listeners import Listeners
from lb7.worker_tables import Tables
from tests.fakes.edge_workers import backend, cluster_at, connect, get, refused, route, table, until


async def pause() -> None:
    await asyncio.sleep(0)


class Here:
    """What a worker has."""

    def __init__(self, **settings: Any) -> None:
        self.faults: list[tuple[str, str]] = []
        self.edge = Edge(Settings(**settings), lambda record: None)
        self.tables = Tables(Settings(**settings), self.fault)
        self.listeners = Listeners(self.edge, self.tables, CertificateStore(), self.fault)
        self.held: list[socket.socket] = []

    def fault(self, key: str, text: str) -> None:
        self.faults.append((key, text))

    async def apply(self, delta: TableDelta) -> None:
        await self.tables.apply(delta, pause)
        self.listeners.look_at_tables()
        await self.listeners.changed(list(delta.listeners))

    async def listen(self, name: str = "http", slot: int = 0) -> int:
        """Give it a socket of which a copy stays here, as in the parent; its port."""
        sock = bind(place_of("127.0.0.1:0"))
        self.held.append(sock)
        await self.listeners.listen(name, slot, [sock.dup().detach()])
        port: int = sock.getsockname()[1]
        return port

    def release(self) -> None:
        """As when the parent closes its copies."""
        for sock in self.held:
            sock.close()
        self.held.clear()


@asynccontextmanager
async def here(**settings: Any) -> AsyncIterator[Here]:
    made = Here(**settings)
    try:
        yield made
    finally:
        await made.listeners.drain()
        made.release()
        made.edge.drain()
        await until(lambda: not made.edge.connections and not made.listeners.tcp_connections())
        made.edge.tick()


@pytest.mark.asyncio
@pytest.mark.parametrize("sockets_first", [True, False])
async def test_sockets_and_listeners_in_any_order(sockets_first: bool) -> None:
    async with backend() as server, here() as worker:
        if sockets_first:
            port = await worker.listen()
            assert await refused(port)
            await worker.apply(table(server))
        else:
            await worker.apply(table(server))
            port = await worker.listen()
        assert await get(port) == (200, "hello")
        assert not worker.faults


@pytest.mark.asyncio
async def test_a_listener_that_changes_keeps_who_waits_and_who_is_there() -> None:
    async with backend("one") as one, backend("two") as two, here() as worker:
        await worker.apply(table(one))
        await worker.apply(TableDelta({}, {("other", ""): route("/b:1")}, {"/b:1": cluster_at(two, name="/b:1")}))
        port = await worker.listen()
        client = await connect(port)
        assert await client.get() == (200, "one")
        await worker.apply(TableDelta({"http": Listener("http", "other", ("elsewhere:1",), by="none")}))
        assert await get(port) == (200, "two")
        assert await client.get() == (200, "one")
        assert len(worker.listeners.fronts()) == 2
        client.close()
        await until(lambda: len(worker.listeners.fronts()) == 1)


@pytest.mark.asyncio
async def test_one_that_only_moves_is_not_served_anew() -> None:
    async with backend() as server, here() as worker:
        await worker.apply(table(server))
        port = await worker.listen()
        before = worker.listeners.fronts()
        await worker.apply(TableDelta({"http": Listener("http", "http", ("127.0.0.1:1",))}))
        assert worker.listeners.fronts() == before
        assert await get(port) == (200, "hello")


@pytest.mark.asyncio
async def test_the_end_of_a_listener_takes_first_who_waits() -> None:
    async with backend() as server, here() as worker:
        await worker.apply(table(server))
        port = await worker.listen()
        client = await connect(port)
        worker.release()
        waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        worker.listeners.unlisten("http", 0)
        await worker.listeners.drain()
        assert await refused(port)
        assert await client.get() == (200, "hello")
        for sock in waiting:
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
        client.close()


@pytest.mark.asyncio
async def test_sockets_of_several_slots_are_of_one_listener() -> None:
    async with backend() as server, here() as worker:
        await worker.apply(table(server))
        ports = [await worker.listen(slot=slot) for slot in (0, 1)]
        assert [await get(port) for port in ports] == [(200, "hello")] * 2
        worker.listeners.unlisten("http", 0)
        worker.listeners.unlisten("http", 7)
        assert await get(ports[1]) == (200, "hello")
        await worker.apply(TableDelta({"http": None}))
        assert await refused(ports[1]) or await silent(ports[1])


async def silent(port: int) -> bool:
    """Nobody accepts, though the socket is held elsewhere still."""
    client = await connect(port)
    client.writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    try:
        async with asyncio.timeout(0.2):
            return await client.reader.read() is None
    except TimeoutError:
        return True
    finally:
        client.close()


@pytest.mark.asyncio
async def test_tcp_goes_where_its_cluster_is_now() -> None:
    async with backend("one") as one, backend("two") as two, here() as worker:
        tcp = Listener("port:1", "port:1", (), mode="tcp", cluster="/a:1")
        await worker.apply(TableDelta({"port:1": tcp}, {}, {"/a:1": cluster_at(one)}))
        port = await worker.listen("port:1")
        client = await connect(port)
        assert await client.get() == (200, "one")
        assert worker.listeners.tcp_connections() == 1
        await worker.apply(TableDelta(clusters={"/a:1": None}))
        await worker.apply(TableDelta(clusters={"/a:1": cluster_at(two)}))
        assert await get(port) == (200, "two")
        assert await client.get() == (200, "one")
        worker.listeners.tick()
        client.close()
        await until(lambda: not worker.listeners.tcp_connections())


@pytest.mark.asyncio
async def test_what_can_not_be_served_is_told_and_tried_again() -> None:
    async with backend() as server, here() as worker:
        tcp = Listener("port:1", "port:1", (), mode="tcp", cluster="/a:1")
        await worker.apply(TableDelta({"port:1": tcp}))
        port = await worker.listen("port:1")
        assert [key for key, _ in worker.faults] == ["listener port:1"]
        await worker.apply(TableDelta(clusters={"/a:1": cluster_at(server)}))
        assert await get(port) == (200, "hello")


@pytest.mark.asyncio
async def test_other_settings_for_new_connections() -> None:
    async with backend() as server, here() as worker:
        await worker.apply(table(server))
        port = await worker.listen()
        client = await connect(port)
        long = "/" + "a" * 2000
        assert await client.get(path=long) == (200, "hello")
        other = Edge(Settings(max_head=1024), lambda record: None)
        await worker.listeners.serve_anew(other)
        assert (await get(port, path=long))[0] in (414, 431)
        assert await client.get(path=long) == (200, "hello")
        await worker.tables.configure(Settings(max_head=1024), pause)
        worker.listeners.look_at_tables()
        worker.tables.retired()
        assert not worker.tables.retiring
        assert await client.get(path=long) == (200, "hello"), "its rules lead to the clusters of now"
        client.close()
        other.drain()
        await until(lambda: not other.connections)


@pytest.mark.asyncio
async def test_a_table_that_is_made_anew_is_used() -> None:
    async with backend() as server, here(compat=True) as worker:
        await worker.apply(table(server))
        port = await worker.listen()
        before = worker.tables.table("http")
        await worker.apply(TableDelta({"http#2": Listener("http#2", "http", (), by="sni", tls=True)}))
        assert worker.tables.table("http") is not before
        await worker.apply(TableDelta(hosts={("http", "a.example"): None, ("http", "b.example"): route()}))
        assert await get(port, "b.example") == (200, "hello")


@pytest.mark.asyncio
async def test_tcp_connections_count_for_their_limit_through_other_settings() -> None:
    async with backend() as server, here(max_connections=1) as worker:
        tcp = Listener("port:1", "port:1", (), mode="tcp", cluster="/a:1")
        await worker.apply(TableDelta({"port:1": tcp}, {}, {"/a:1": cluster_at(server)}))
        port = await worker.listen("port:1")
        client = await connect(port)
        assert await client.get() == (200, "hello")
        await worker.listeners.serve_anew(Edge(Settings(max_connections=1, max_head=2048), lambda record: None))
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await get(port)
        await worker.listeners.serve_anew(Edge(Settings(max_connections=2), lambda record: None))
        assert await get(port) == (200, "hello")
        assert await client.get() == (200, "hello")
        client.close()


def test_with_many_listeners_connections_have_their_turn_meanwhile() -> None:
    """On the loop that workers run on, where to listen is no pause."""
    count, turns = 120, 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> list[int]:
        seen: list[int] = []
        async with here() as worker:
            listeners: dict[str, Listener | None] = {
                f"port:{number}": Listener(f"port:{number}", "port", (), by="none") for number in range(count)
            }
            task = asyncio.create_task(others())
            await asyncio.sleep(0)
            for part in ("listen", "change", "anew", "gone"):
                before = turns
                if part == "listen":
                    await worker.apply(TableDelta(dict(listeners)))
                    before = turns
                    for name in listeners:
                        await worker.listen(name)
                elif part == "change":
                    other = {name: Listener(name, "port", (), by="host") for name in listeners}
                    await worker.apply(TableDelta(dict(other)))
                elif part == "anew":
                    await worker.listeners.serve_anew(Edge(Settings(), lambda record: None))
                else:
                    await worker.apply(TableDelta(dict.fromkeys(listeners)))
                seen.append(turns - before)
            task.cancel()
            assert len(worker.listeners.fronts()) == 3 * count  # once more
            assert not worker.listeners.fronts()
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert min(runner.run(main())) >= count // 50
