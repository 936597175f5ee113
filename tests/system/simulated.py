"""A simulated Mesos cluster, also with a Marathon, in a thread of this process: for tests that are no coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from agent.demo.cluster import Cluster
from agent.demo.marathon_api import MarathonApi
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.simulation import SimulatedCluster
from agent.demo.task_servers import TaskServers
from lb4.netlink import in_namespace

T = TypeVar("T")
PATIENCE = 60.0


class Simulated:
    """The master leads and listens at `url`. `call` changes the cluster on its own thread. Made by `simulated`."""

    def __init__(self, host: str, port: int, space: str) -> None:
        self.sim = SimulatedCluster(hosts=(host,), port=port, heartbeat=5.0)
        self._loop = asyncio.new_event_loop()
        netns = f"/run/netns/{space}" if space else ""
        work = (netns, self._loop.run_forever)
        self._thread = threading.Thread(target=in_namespace, args=work, name="simulated cluster")

    @property
    def cluster(self) -> Cluster:
        """To be changed by `call`."""
        return self.sim.cluster

    @property
    def url(self) -> str:
        """Where the master listens."""
        return self.sim.urls[0]

    def call(self, work: Callable[[], T]) -> T:
        """What a function gives there."""

        async def do() -> T:
            return work()

        return self.wait(do())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self.wait(self.sim.__aenter__())

    def stop(self) -> None:
        """End it."""
        self.wait(self.sim.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    @contextlib.contextmanager
    def marathon(self, name: str = "marathon") -> Iterator[DeployingMarathon]:
        """A Marathon whose tasks really serve; the cluster needs agents at addresses of this machine."""

        async def begin() -> tuple[DeployingMarathon, MarathonApi]:
            framework = self.cluster.add_framework(name, principal=name, hostname="127.0.0.1")
            made = DeployingMarathon(self.cluster, framework, servers=TaskServers(), pace=0.02)
            api = MarathonApi(made)
            await api.start()
            framework.webui_url = api.url
            return made, api

        made, api = self.wait(begin())
        try:
            yield made
        finally:
            self.wait(api.stop())


@contextlib.contextmanager
def simulated(host: str = "127.0.0.1", port: int = 0, space: str = "") -> Iterator[Simulated]:
    """Such a cluster until the end of the context; `space`: in this network namespace."""
    made = Simulated(host, port, space)
    made.start()
    try:
        yield made
    finally:
        made.stop()
