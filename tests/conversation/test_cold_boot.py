"""Masters and ZooKeeper by names that only an upstream knows, while the system's resolver must not be asked."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from agent.zookeeper_sessions import Sessions
from mesos_dns.boot_names import BootNames
from mesos_dns.hosts import Hosts
from mesos_dns.model import Ensemble as Servers
from mesos_dns.resolver.host_lookup import HostLookup
from mesos_dns.sources.ensemble import EnsembleSource
from mesos_dns.zookeeper_target import Target
from tests.fakes.followed import Followed
from tests.fakes.following import Following
from tests.fakes.host_upstream import HostUpstream, forbid_system_lookups
from tests.fakes.mesos_master import FakeMaster, agent, state_of, subscribed, task
from tests.system.ensemble import Ensemble
from tests.zookeeper_clients import unique_path, until

pytestmark = pytest.mark.asyncio

HERE = [("A", "127.0.0.1")]


def _runs_one(follow: Following) -> bool:
    return follow.running() == {("F1", "t1")}


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that the system's resolver was asked for: none must be."""
    return forbid_system_lookups(monkeypatch)


@contextlib.asynccontextmanager
async def booting(folder: Path, upstream: HostUpstream) -> AsyncIterator[BootNames]:
    """What a process that starts has: the file of last known addresses and an upstream."""
    boot = BootNames(folder / "hosts.json")
    await boot.remembered.restore()
    boot.use_upstreams(HostLookup(upstream.ask))
    yield boot
    await boot.remembered.save()


async def test_masters_by_name_and_again_from_cold_without_upstream(tmp_path: Path, system: list[str]) -> None:
    async with HostUpstream() as upstream, FakeMaster() as one:
        upstream.names = {"master-1.example": [("CNAME", "one.example.")], "one.example": HERE}
        for alive in (True, False):
            if not alive:
                await upstream.down()
            async with (
                booting(tmp_path, upstream) as boot,
                Following(f"master-1.example:{one.port}", hosts=Hosts(resolve=boot.resolve)) as follow,
            ):
                one.send(subscribed(state_of([task(1)], [agent(1)])))
                await until(functools.partial(_runs_one, follow))
                one.cut()
    assert system == []


async def test_a_leader_that_is_redirected_to_by_name(tmp_path: Path, system: list[str]) -> None:
    async with HostUpstream(a_example=HERE, b_example=[("A", "127.0.0.1"), ("AAAA", "::1")]) as upstream:
        async with FakeMaster() as one, FakeMaster() as two, booting(tmp_path, upstream) as boot:

            async def redirect(request: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": f"//b.example:{two.port}"})

            one.v1["SUBSCRIBE"] = redirect
            hosts = Hosts(resolve=boot.resolve)
            async with Following(f"a.example:{one.port}", hosts=hosts) as follow:
                two.send(subscribed(state_of([task(1)], [agent(1)])))
                await until(lambda: _runs_one(follow))
    assert system == []


async def test_zookeeper_by_name(
    tmp_path: Path, system: list[str], zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesos_dns.hosts.RETRY_MIN", 0.05)
    port, path = zookeeper.servers[0].port, unique_path()
    target = Target((("zk-1.example", port),), session_timeout=4.0)
    async with HostUpstream() as upstream:
        upstream.names = {"zk-1.example": HERE}
        await upstream.down()
        async with booting(tmp_path, upstream) as boot:
            sessions = Sessions(boot.resolve)
            session = sessions.get(target)
            await until(lambda: "can be resolved" in session.failure)
            await upstream.up()
            await until(lambda: session.connected)
            await session.create(path, b"x")
            followed = Followed()
            source = EnsembleSource(followed.publisher, session, hosts=Hosts(resolve=boot.resolve))
            running = asyncio.create_task(source.run())
            await until(lambda: followed.catalog.get(("ensemble", "mesos")))
            assert followed.catalog.get(("ensemble", "mesos")) == Servers((("127.0.0.1",),))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await sessions.keep(set())
        await upstream.down()
        async with booting(tmp_path, upstream) as boot:
            sessions = Sessions(boot.resolve)
            session = sessions.get(target)
            await until(lambda: session.connected)
            found = await session.get(path)
            assert found is not None
            assert found[0] == b"x"
            await sessions.keep(set())
    assert system == []
