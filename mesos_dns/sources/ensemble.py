"""The ensemble source: where the ZooKeeper servers are that the configuration names.

They have DNS names of their own on DC/OS (zk-1.zk to zk-5.zk). The source's standing is that of our
session with them, so that operators see in one place whether ZooKeeper is there.
"""

from __future__ import annotations

import asyncio

from mesos_dns.hosts import Hosts
from mesos_dns.model import Ensemble
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import SourceCounters
from mesos_dns.zookeeper import Session

SETTLE = 5.0
"""Seconds that host names may take before the servers are told without them."""


class EnsembleSource:
    """Publishes one Ensemble. `run` until cancelled; the session stays the caller's."""

    def __init__(
        self, publish: Publisher, session: Session, *, cluster: str = "mesos", hosts: Hosts | None = None
    ) -> None:
        self.counters = SourceCounters()
        self._publish = publish
        self._session = session
        self._cluster = cluster
        self._names = [host for host, _ in session.target.hosts]
        self._hosts = hosts or Hosts()

    def __repr__(self) -> str:
        return f"<EnsembleSource servers={self._names}>"

    async def run(self) -> None:
        """Until cancelled. Never raises for faults of the outside."""
        self._session.attach(self)
        self._publish.mark(connected=self._session.connected, synced=True, detail=self._detail())
        try:
            await self._hosts.settle(self._names, SETTLE)
            self._hosts.changed = lambda host: self._tell()
            self._tell()
            await asyncio.Event().wait()
        finally:
            self._session.detach(self)
            await self._hosts.close()

    def touched(self, path: str) -> None:
        """Nothing is watched."""

    def state_changed(self) -> None:
        """The session is there, or is not."""
        self._publish.mark(connected=self._session.connected, detail=self._detail())

    def _detail(self) -> str:
        return f"ZooKeeper: {self._session.failure}" if self._session.failure else ""

    def _tell(self) -> None:
        """Say where the servers are; addresses that can't be looked up now stay as they were said."""
        before = self._publish.said().get(("ensemble", self._cluster))
        known = before.servers if isinstance(before, Ensemble) and len(before.servers) == len(self._names) else ()
        found = [self._hosts.lookup(name) or () for name in self._names]
        servers = tuple(now or (known[number] if known else ()) for number, now in enumerate(found))
        self._publish.put(Ensemble(servers, self._cluster))
