"""Servers and followers of /v1/watch over real sockets in one process."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from agent.http import HttpServer
from agent.sections import Config
from mesos_dns.api import ApiContext
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.config import ApiConfig, DnsConfig, RelayConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Drop, Entity, Framework, Key, Node, Put, Sync, Task
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.relay import RelaySource
from mesos_dns.watch import Standing, Watch
from mesos_dns.watch_journal import Journal
from mesos_dns.zone import ZoneView
from tests.fakes.replay import no_names
from tests.ports import free_ports

SOURCE = "mesos"


def node(number: int) -> Node:
    """An agent."""
    return Node(f"S{number}", f"agent{number}.example.com", (f"10.0.{number // 250}.{number % 250 + 1}",), 5051)


def task(number: int, state: str = "TASK_RUNNING", **fields: Any) -> Task:
    """A task on agent number % 10."""
    return Task("F0", f"web.{number}", f"web{number}", f"S{number % 10}", state, host_ports=(31000,), **fields)


FRAMEWORK = Framework("F0", "marathon", addresses=("10.0.0.9",), port=15101)


def cluster(tasks: int) -> tuple[Entity, ...]:
    """A framework, ten agents and some tasks."""
    return (FRAMEWORK, *map(node, range(10)), *map(task, range(tasks)))


def free_port() -> int:
    """A port that nobody listens on."""
    return free_ports(1)[0]


class Serving:
    """A process with a catalog and its `[api]`. `restart` gives it a new epoch at the old address.

    `stale_since` (epoch seconds; 0: in sync) is what it says of its own sources, `sources` of each by name.
    """

    def __init__(
        self,
        *entities: Entity,
        catalog: Catalog | None = None,
        journal: Callable[[], Journal] = Journal,
        upstream: RelaySource | None = None,
        **api: Any,
    ) -> None:
        self.catalog = catalog if catalog is not None else Catalog()
        self.catalog.register(SOURCE)
        self.catalog.publish(SOURCE, Sync(entities)) if entities else None
        self.port = free_port()
        self.known = True
        self.stale_since = 0.0
        self.sources: dict[str, float | None] = {}
        self.upstream = upstream
        self._journal = journal
        self._api = ApiConfig(listen=(f"127.0.0.1:{self.port}",), **api)
        self.watch = self.new_watch()
        self.http: HttpServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._api.cert_file else 'http'}://127.0.0.1:{self.port}"

    def new_watch(self) -> Watch:
        return Watch(self.catalog, known=lambda: self.known, standing=self.standing, journal=self._journal())

    def standing(self) -> Standing:
        now = time.time()
        via = self.upstream.via if self.upstream is not None else ()
        if self.stale_since:
            return Standing(max(0.001, now - self.stale_since), self.stale_since, via, dict(self.sources))
        return Standing(0.0, now, via, dict(self.sources))

    async def start(self) -> None:
        context = ApiContext(view=ZoneView(DnsConfig()), catalog=self.catalog, watch=self.watch)
        self.http = HttpServer(context, Config(api=self._api))
        await self.http.start()

    async def stop(self) -> None:
        """As at the end of a process."""
        if self.http is not None:
            self.http.drain()
            await self.http.close(1)
            self.http = None
        self.watch.stop()

    async def restart(self) -> None:
        await self.stop()
        self.watch = self.new_watch()
        await self.start()

    async def __aenter__(self) -> Serving:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def put(self, *entities: Entity) -> None:
        for entity in entities:
            self.catalog.publish(SOURCE, Put(entity))

    def drop(self, *keys: Key) -> None:
        for key in keys:
            self.catalog.publish(SOURCE, Drop(key))


class Hasty(random.Random):
    """Dice that keep back-offs short and leave the order of servers as it is listed."""

    def uniform(self, a: float, b: float) -> float:
        return a + min(0.01, (b - a) / 2)

    def shuffle(self, x: Any) -> None:
        pass


class Relaying:
    """A running RelaySource on a catalog of its own; every delta of the catalog is kept."""

    def __init__(
        self,
        *servers: str,
        catalog: Catalog | None = None,
        own_epoch: str = "",
        as_of: float = 0.0,
        right: Mapping[str, float] | None = None,
        **settings: Any,
    ) -> None:
        self.catalog = catalog if catalog is not None else Catalog()
        self.publisher = CatalogPublisher(self.catalog, "relay")
        self.deltas: list[Delta] = []
        self.catalog.listen(self.deltas.append)
        config = RelayConfig(servers=servers, **settings)
        self.source = RelaySource(
            config,
            self.publisher,
            hosts=Hosts(resolve=no_names),
            own_epoch=own_epoch,
            as_of=as_of,
            right=right,
            dice=Hasty(),
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> Any:
        return self.catalog.sources["relay"]

    def said(self) -> Mapping[Key, Entity]:
        return self.publisher.said()

    def changed(self) -> set[Key]:
        """Keys that changed since the last call."""
        self.catalog.flush()
        keys = {key for delta in self.deltas for key in delta.changes}
        self.deltas.clear()
        return keys

    async def start(self) -> None:
        self._task = asyncio.create_task(self.source.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def __aenter__(self) -> Relaying:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def until(self, condition: Callable[[], object], limit: float = 20.0) -> None:
        """Wait until `condition` holds; fails after `limit` seconds with what there is."""
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            counts = dict(self.source.counters.errors), dict(self.source.counters.events)
            raise AssertionError(f"not reached; {len(self.said())} entities {self.status} {counts}") from None

    async def equals(self, server: Serving, limit: float = 20.0) -> None:
        """Wait until the same is said here as there."""
        await self.until(lambda: self.status.synced and same(self.said(), server.catalog), limit)


def same(said: Mapping[Key, Entity], catalog: Catalog) -> bool:
    """True when a source says exactly what another process' catalog has."""
    there = {entity.key: entity for entity in catalog.entities()}
    return dict(said) == there


Script = Callable[[web.WebSocketResponse], Awaitable[None]]


class Scripted:
    """A server that says on /v1/watch what a test lets it say; `asked` are the paths of the requests."""

    def __init__(self, script: Script) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.asked: list[str] = []
        self._script = script
        app = web.Application()
        app.router.add_get("/v1/watch", self._watch)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        socket = web.WebSocketResponse(autoping=False, timeout=0.1, max_msg_size=1 << 20)
        await socket.prepare(request)
        with suppress(ConnectionError):
            await self._script(socket)
        return socket

    async def __aenter__(self) -> Scripted:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def hello(epoch: str = "aaaaaaaaaaaaaaaa", **fields: Any) -> str:
    """A server's first word."""
    now = {"stale": 0.0, "as_of": time.time(), "via": [epoch], "version": "9", "resume": False}
    return json.dumps({"hello": 1, "v": f"{epoch}.0", **now, **fields})
