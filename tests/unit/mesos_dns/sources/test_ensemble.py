"""The ensemble source: addresses of ZooKeeper's servers, and the session's standing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesos_dns.hosts import Hosts
from mesos_dns.model import Ensemble
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.ensemble import EnsembleSource
from mesos_dns.zookeeper import Session
from mesos_dns.zookeeper_target import Target
from tests.fakes.followed import Followed
from tests.system.ensemble import Ensemble as Servers
from tests.zookeeper_clients import session, until

KEY = ("ensemble", "mesos")


@asynccontextmanager
async def running(s: Session, followed: Followed, hosts: Hosts | None = None) -> AsyncIterator[EnsembleSource]:
    source = EnsembleSource(CatalogPublisher(followed.catalog, "zookeeper"), s, hosts=hosts)
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_servers_and_the_standing_of_the_session(zookeeper: Servers) -> None:
    followed = Followed()
    async with session(zookeeper) as s, running(s, followed):
        await until(lambda: followed.catalog.get(KEY) == Ensemble((("127.0.0.1",),)))
        status = followed.catalog.sources["zookeeper"]
        assert (status.connected, status.synced, status.detail) == (True, True, "")
        assert s._threads is not None
        s._threads.drop()
        await until(lambda: not status.connected)
        assert status.detail == "ZooKeeper: no server can be reached"
        await until(lambda: status.connected)


@pytest.mark.asyncio
async def test_names_keep_their_last_known_addresses(free_port: int) -> None:
    async def resolve(name: str) -> tuple[str, ...]:
        if name == "b.example":
            raise OSError("no such name")
        return ("10.0.0.1", "fd00::1")

    target = Target((("a.example", free_port), ("b.example", free_port), ("10.0.0.3", free_port)))
    followed = Followed()
    s = Session(target)  # never started: nobody is there
    async with running(s, followed, Hosts(resolve=resolve)) as source:
        expected = Ensemble((("10.0.0.1", "fd00::1"), (), ("10.0.0.3",)))
        await until(lambda: followed.catalog.get(KEY) == expected)
        assert "not connected yet" in followed.catalog.sources["zookeeper"].detail
        assert "a.example" in repr(source)
    before = Ensemble((("10.0.0.1",), ("10.0.0.2",), ("10.0.0.3",)))
    CatalogPublisher(followed.catalog, "zookeeper").put(before)
    async with running(s, followed, Hosts(resolve=resolve)):
        await until(lambda: followed.catalog.get(KEY) != before)
        found = followed.catalog.get(KEY)
        assert isinstance(found, Ensemble)
        assert found.servers[1] == ("10.0.0.2",)
