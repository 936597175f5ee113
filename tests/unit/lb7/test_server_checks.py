"""lb7.server_checks: which servers of which clusters are down, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lb7.server_checks import ServerChecks
from lb7.table import Cluster, Server, ServerCheck
from mesos_dns.probe import Result
from tests.ports import free_ports

TCP = ServerCheck(interval=0.1, timeout=20.0, fall=2, rise=2)
HTTP = ServerCheck("http", "/up", interval=0.1, timeout=20.0, fall=2, rise=2)


class App:
    """Listens on a port of its own, counts connections and the requests for each path, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.paths: Counter[str] = Counter()
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = free_ports(1)[0]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            await asyncio.sleep(0.05)  # what was accepted last gets its turn
            while self._open:
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            line = await reader.readline()
            if line:
                self.paths[line.split()[1].decode()] += 1
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % self.status)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._open.discard(writer)


class Watched:
    """Checks, what they told, and apps that are stopped at the end."""

    def __init__(self) -> None:
        self.told: list[frozenset[str]] = []
        self.checks = ServerChecks(self.told.append)
        self._apps: list[App] = []

    async def app(self) -> App:
        app = App()
        await app.start()
        self._apps.append(app)
        return app

    async def stop(self) -> None:
        await self.checks.close()
        for app in self._apps:
            await app.stop()


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched()
    try:
        yield watched
    finally:
        await watched.stop()
        assert watched.checks.down == watched.checks.checked == 0


def cluster(name: str, *servers: Server, check: ServerCheck | None = TCP) -> Cluster:
    return Cluster(name, "/app", 10000, servers, check=check)


def server(app: App, **values: Any) -> Server:
    return Server(f"127.0.0.1:{app.port}", "127.0.0.1", app.port, **values)


def down(made: Cluster) -> list[bool]:
    return [each.down for each in made.servers]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_server_that_ends_and_comes_back() -> None:
    async with watching() as watched:
        one, two = await watched.app(), await watched.app()
        made = cluster("/a:1", server(one), server(two))
        watched.checks.keep("/a:1", made)
        assert watched.checks.marked(made) is made  # nobody was checked yet: up
        await until(lambda: min(one.connections, two.connections) > 1)
        assert watched.told == []
        await two.stop()
        await until(lambda: len(watched.told) == 1)
        assert watched.told == [{"/a:1"}]
        marked = watched.checks.marked(made)
        assert down(marked) == [False, True]
        assert watched.checks.marked(marked) is marked
        assert (watched.checks.checked, watched.checks.down) == (2, 1)
        await two.start()
        await until(lambda: len(watched.told) == 2)
        assert watched.told[1] == {"/a:1"}
        assert down(watched.checks.marked(marked)) == [False, False]
        assert watched.checks.down == 0
        assert watched.checks.results["tcp", Result.OK] > 2
        assert watched.checks.results["tcp", Result.REFUSED] >= 2


@pytest.mark.asyncio
async def test_http_checks_look_at_the_status_on_the_port_for_checks() -> None:
    async with watching() as watched:
        one, aside = await watched.app(), await watched.app()
        aside.status = 503
        made = cluster("/a:1", server(one, check_port=aside.port), check=HTTP)
        watched.checks.keep("/a:1", made)
        await until(lambda: bool(watched.told))
        assert down(watched.checks.marked(made)) == [True]
        assert one.connections == 0
        assert set(aside.paths) == {"/up"}
        aside.status = 302
        await until(lambda: len(watched.told) == 2)
        assert down(watched.checks.marked(made)) == [False]
        assert {kind for kind, _ in watched.checks.results} == {"http"}


@pytest.mark.asyncio
async def test_a_server_that_does_not_answer_in_time_is_down() -> None:
    """A backlog that is full: connecting neither succeeds nor fails."""
    async with watching() as watched:
        with contextlib.ExitStack() as sockets:
            listening = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            address, port = listening.getsockname()
            for _ in range(4):
                filling = sockets.enter_context(socket.socket())
                filling.setblocking(False)
                filling.connect_ex((address, port))
            slow = ServerCheck(interval=0.1, timeout=0.1, fall=1)
            watched.checks.keep("/a:1", cluster("/a:1", Server(f"{address}:{port}", address, port), check=slow))
            await until(lambda: bool(watched.told))
            assert watched.checks.results["tcp", Result.TIMEOUT] >= 1


@pytest.mark.asyncio
async def test_clusters_share_a_check_and_each_is_told() -> None:
    async with watching() as watched:
        shared, own = await watched.app(), await watched.app()
        first, second = cluster("/a:1", server(shared)), cluster("/b:2", server(shared), server(own))
        watched.checks.keep("/a:1", first)
        watched.checks.keep("/b:2", second)
        assert watched.checks.checked == 2
        await until(lambda: shared.connections > 0)
        await shared.stop()
        await until(lambda: bool(watched.told))
        assert watched.told == [{"/a:1", "/b:2"}]
        assert down(watched.checks.marked(first)) == [True]
        assert down(watched.checks.marked(second)) == [True, False]
        watched.checks.keep("/a:1", None)
        assert watched.checks.checked == 2
        assert down(watched.checks.marked(second)) == [True, False]
        watched.checks.keep("/b:2", None)
        assert watched.checks.checked == 0
        assert down(watched.checks.marked(second)) == [False, False]


@pytest.mark.asyncio
async def test_what_is_known_stays_while_a_cluster_changes() -> None:
    async with watching() as watched:
        dead, alive = await watched.app(), await watched.app()
        await dead.stop()
        watched.checks.keep("/a:1", cluster("/a:1", server(dead)))
        await until(lambda: bool(watched.told))
        changed = cluster("/a:1", server(alive), server(dead, weight=5, draining=True))
        watched.checks.keep("/a:1", changed)
        assert down(watched.checks.marked(changed)) == [False, True]
        other = cluster("/a:1", server(dead), check=HTTP)  # another check begins anew
        watched.checks.keep("/a:1", other)
        assert down(watched.checks.marked(other)) == [False]
        await until(lambda: len(watched.told) == 2)
        assert down(watched.checks.marked(other)) == [True]
        none = cluster("/a:1", server(dead, down=True), check=None)
        watched.checks.keep("/a:1", none)
        assert watched.checks.checked == 0
        assert down(watched.checks.marked(none)) == [False]


@pytest.mark.asyncio
async def test_numbers_beyond_the_limits_are_cut_and_a_bad_path_is_not_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching() as watched:
        app = await watched.app()
        wild = ServerCheck("tcp", "no path", interval=1e9, timeout=0.0, fall=1000, rise=0)
        watched.checks.keep("/a:1", cluster("/a:1", server(app), check=wild))
        (row,) = watched.checks.status()
        assert (row.check.interval, row.check.timeout, row.check.fall, row.check.rise) == (3600.0, 0.1, 100, 1)
        bad = cluster("/b:1", server(app), check=ServerCheck("http", "/a b"))
        watched.checks.keep("/b:1", bad)
        assert watched.checks.checked == 1
        assert "backend not checked backend=127.0.0.1" in caplog.text
        assert down(watched.checks.marked(bad)) == [False]
        assert repr(watched.checks) == "<ServerChecks clusters=2 checks=<Checks backends=1 failing=0>>"


@pytest.mark.asyncio
async def test_many_servers() -> None:
    async with watching() as watched:
        app = await watched.app()
        for number in range(300):
            address = f"127.0.{1 + number // 250}.{1 + number % 250}"
            made = cluster(f"/a{number}:1", Server(f"{address}:{app.port}", address, app.port))
            watched.checks.keep(made.name, made)
        await until(lambda: watched.checks.down == 300)  # it listens on 127.0.0.1 alone
        await until(lambda: len(frozenset().union(*watched.told)) == 300)
        assert watched.checks.checked == 300
