"""Several instances of one simulated Marathon, of which one leads: fail-over, authentication, TLS."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Literal, Self

from agent.demo.marathon_api import MarathonApi
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.marathon_faults import MarathonFaults
from agent.demo.marathon_gate import Election


class MarathonInstances:
    """An async context manager; the first instance leads.

        async with MarathonInstances(marathon, count=3) as instances:
            instances.faults.silent = True
            await instances.fail_over(to=1, dead=True)

    `faults` are those of all instances.
    """

    def __init__(
        self,
        marathon: DeployingMarathon,
        *,
        count: int = 1,
        credentials: tuple[str, str] | str | None = None,
        standby: Literal["redirect", "proxy", "redirect-all"] = "redirect",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.marathon = marathon
        self.election = Election(standby)
        self.faults = MarathonFaults()
        marathon.events.faults = self.faults
        self.all = [
            MarathonApi(
                marathon, host=host, election=self.election, faults=self.faults, credentials=credentials, tls=tls
            )
            for _ in range(count)
        ]

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the instances listen."""
        return tuple(instance.url for instance in self.all)

    @property
    def requests(self) -> list[str]:
        """METHOD PATH of what was asked so far, instance by instance."""
        return [request for instance in self.all for request in instance.gate.requests]

    async def __aenter__(self) -> Self:
        for instance in self.all:
            await instance.listen()
        self.election.leader = self.all[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.marathon.close()
        for instance in self.all:
            await instance.unlisten()

    async def lose_leader(self, *, dead: bool = False) -> None:
        """The leader's streams end; until another is elected all answer 503, the old leader not at all if `dead`."""
        old, self.election.leader = self.election.leader, None
        self.marathon.events.close()
        for instance in self.all:
            if dead and instance is old:
                await instance.unlisten()

    async def fail_over(self, to: int, *, dead: bool = False) -> None:
        """Instance number `to` leads."""
        await self.lose_leader(dead=dead)
        self.election.leader = self.all[to]

    def usurp(self, to: int) -> None:
        """Instance number `to` leads, and the streams of the old leader stay open, without events from now on."""
        self.election.leader = self.all[to]
        self.marathon.events.abandon()
