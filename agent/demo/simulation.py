"""A whole simulated cluster in this process: masters around one `Cluster`, leadership, fail-over, faults."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from agent.demo.cluster import Cluster
from agent.demo.faults import Faults
from agent.demo.master import Handler, Master


class SimulatedCluster:
    """Masters over one cluster; an async context manager.

        async with SimulatedCluster(masters=3, heartbeat=0.5) as sim:
            marathon = sim.cluster.add_framework("marathon")
            agent = sim.cluster.add_agent("10.0.0.1")
            task = sim.cluster.start(marathon, TaskSpec("web", ports=(PortSpec(),)), agent)
            await sim.fail_over(to=1)
            sim.cluster.return_all()

    `faults` are those of all masters. `hosts` gives each master an address of its own.
    """

    def __init__(
        self,
        *,
        masters: int = 1,
        hosts: tuple[str, ...] = (),
        port: int = 0,
        seed: int = 0,
        heartbeat: float = 15.0,
        max_subscribers: int = 1000,
        credentials: tuple[str, str] | None = None,
        cluster: Cluster | None = None,
        extra: Handler | None = None,
    ) -> None:
        self.cluster = cluster or Cluster(seed=seed)
        self.faults = Faults()
        self.leader: Master | None = None
        self.masters = [
            Master(
                self.cluster,
                self,
                self.faults,
                host=hosts[number] if hosts else "127.0.0.1",
                port=port,
                heartbeat=heartbeat,
                max_subscribers=max_subscribers,
                credentials=credentials,
                extra=extra,
            )
            for number in range(masters)
        ]

    @property
    def urls(self) -> list[str]:
        """Where the masters listen."""
        return [master.url for master in self.masters]

    async def __aenter__(self) -> Self:
        for master in self.masters:
            await master.start()
        self.leader = self.masters[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for master in self.masters:
            await master.stop()

    async def lose_leader(self, *, dead: bool = False) -> None:
        """The leader's streams break; until another is elected the masters answer 503, or not at all if `dead`."""
        old, self.leader = self.leader, None
        if old is None:
            return
        if dead:
            await old.stop()
        else:
            old.stream.abort()

    async def fail_over(self, to: int, *, agents: int = 0, frameworks: int = 0, dead: bool = False) -> None:
        """Master number `to` leads and knows only the first `agents` agents and `frameworks` frameworks.

        The rest are recovered: `cluster.agent_returns`, `cluster.update_framework` or
        `cluster.return_all` let them register again. With `dead` the old leader stops listening
        (`masters[i].start()` brings it back as a follower).
        """
        await self.lose_leader(dead=dead)
        self.cluster.fail_over(agents=agents, frameworks=frameworks)
        self.leader = self.masters[to]
