"""The serversets source against a real ZooKeeper: what registers has names, what is away loses none."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.config import DnsConfig, ServersetsConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import Framework, Task
from mesos_dns.names import SRV, A
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.serversets import ServersetsSource
from mesos_dns.zone import ZoneView
from mesos_dns.zookeeper import Session
from tests.fakes.followed import Followed
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until

pytestmark = pytest.mark.asyncio


def finagle(host: str = "10.0.0.1", port: int = 31000, **more: Any) -> bytes:
    return json.dumps({"serviceEndpoint": {"host": host, "port": port}, "status": "ALIVE", **more}).encode()


class Registered(Followed):
    """A source on a catalog, and the names that come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.publisher = CatalogPublisher(self.catalog, "serversets")
        self.view = ZoneView(DnsConfig())
        self.catalog.listen(self.view.apply)

    @asynccontextmanager
    async def following(
        self, s: Session, root: str, *, hosts: Hosts | None = None, **settings: Any
    ) -> AsyncIterator[ServersetsSource]:
        config = ServersetsConfig(roots={root: "aurora"}, **settings)
        source = ServersetsSource(config, self.publisher, s, hosts=hosts)
        task = asyncio.create_task(source.run())
        try:
            yield source
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def names(self, owner: str, rtype: int = A) -> list[Any]:
        self.catalog.flush()
        return sorted(self.view.domain.rrset(owner, rtype))

    def endpoints(self) -> list[str]:
        return sorted(dict(task.labels)["endpoint"] for task in self.catalog.entities("task") if isinstance(task, Task))

    @property
    def synced(self) -> bool:
        return self.catalog.sources["serversets"].synced


async def announce(s: Session, folder: str, data: bytes) -> str:
    await s.ensure(folder)
    return await s.create(f"{folder}/member_", data, ephemeral=True, sequence=True)


async def test_znodes_that_come_change_and_go_are_names(zookeeper: Ensemble) -> None:
    root, found = unique_path(), Registered()
    job = f"{root}/www-data/prod/hello"
    health: dict[str, Any] = {"additionalEndpoints": {"health": {"host": "10.0.0.1", "port": 31001}}}
    async with session(zookeeper) as s, session(zookeeper) as service, found.following(s, root):
        first = await announce(service, job, finagle(**health, shard=0))
        await until(lambda: found.names("hello.prod.www-data.aurora") == [bytes([10, 0, 0, 1])])
        ((port, target),) = found.names("_hello._tcp.prod.www-data.aurora", SRV)
        assert port == 31000, "the service's own port, not those beside it"
        assert re.fullmatch(r"hello-\w{5}-0000000000\.prod\.www-data\.aurora", target)
        assert found.names(target) == [bytes([10, 0, 0, 1])]
        assert [p for p, _ in found.names("_health._hello._tcp.prod.www-data.aurora", SRV)] == [31001]
        await announce(service, job, finagle("10.0.0.2", 31005))
        await until(lambda: len(found.names("_hello._tcp.prod.www-data.aurora", SRV)) == 2)
        await service.set(first, finagle("10.0.0.3", 31009), -1)
        await until(lambda: found.names("hello.prod.www-data.aurora")[-1] == bytes([10, 0, 0, 3]))
        await service.set(first, finagle("10.0.0.3", 31009, status="STOPPING"), -1)
        await until(lambda: found.names("hello.prod.www-data.aurora") == [bytes([10, 0, 0, 2])])
        await service.close()
        await until(lambda: not found.names("hello.prod.www-data.aurora"))
        await until(lambda: not list(found.catalog.entities("framework")))
        assert not found.view.domain.exists("prod.www-data.aurora")


async def test_smartstack_entries_and_a_bad_one_beside_them(
    zookeeper: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    root, found = unique_path(), Registered()
    folder = f"{root}/web/services"
    async with session(zookeeper) as s, session(zookeeper) as nerve, found.following(s, root) as source:
        await nerve.ensure(folder)
        await nerve.create(f"{folder}/i-ab_", b'{"host": "10.0.0.7", "port": 3000}', ephemeral=True, sequence=True)
        bad = await nerve.create(f"{folder}/i-cd_", b'{"host": "10.0.0.8"}', ephemeral=True, sequence=True)
        await nerve.create(f"{root}/web/vector_0000000009", b'{"vector": []}')
        await nerve.create(f"{folder}/i-ef_", b"", ephemeral=True, sequence=True)
        await until(lambda: found.names("web.aurora") == [bytes([10, 0, 0, 7])])
        await until(lambda: found.synced)
        await until(lambda: source.counters.malformed == 1)
        assert f"{bad} is left out" in caplog.text
        # What becomes unreadable keeps what it last said well.
        good = await announce(nerve, folder, finagle("10.0.0.9", 80))
        await until(lambda: len(found.names("web.aurora")) == 2)
        await nerve.set(good, b"{", -1)
        await until(lambda: source.counters.malformed == 2)
        assert len(found.names("web.aurora")) == 2


async def test_host_names_are_resolved_and_followed(zookeeper: Ensemble) -> None:
    root, found, known = unique_path(), Registered(), {"a.example": ("10.0.0.1",)}

    async def resolve(name: str) -> tuple[str, ...]:
        return known.get(name, ())

    hosts = Hosts(resolve=resolve)
    async with session(zookeeper) as s, found.following(s, root, hosts=hosts):
        member = await announce(s, f"{root}/e/j", finagle("a.example"))
        await until(lambda: found.names("j.e.aurora") == [bytes([10, 0, 0, 1])])
        await s.set(member, finagle("b.example"), -1)
        await until(lambda: not found.names("j.e.aurora"))  # nobody knows b.example
        assert [port for port, _ in found.names("_j._tcp.e.aurora", SRV)] == [31000]
        known["b.example"] = ("10.0.0.2",)
        await until(lambda: found.names("j.e.aurora") == [bytes([10, 0, 0, 2])])


async def test_zookeeper_away_drops_no_name(tmp_path: Path) -> None:
    found = Registered()
    with ensemble(tmp_path) as servers:
        server = servers.servers[0]
        async with session(servers, session_timeout=3.0) as s, session(servers) as service:
            async with found.following(s, "/aurora", hold=0.5):
                await announce(service, "/aurora/r/e/j", finagle())
                await until(lambda: found.names("j.e.r.aurora"))
                server.kill()
                await until(lambda: not found.catalog.sources["serversets"].connected)
                await asyncio.sleep(1.2)
                assert found.names("j.e.r.aurora")
                assert "no server can be reached" in found.catalog.sources["serversets"].detail
                server.start()
                await until(lambda: found.catalog.sources["serversets"].connected)
                await until(lambda: service.connected)
                assert found.names("j.e.r.aurora")
                found.changes()
                second = await announce(service, "/aurora/r/e/j", finagle("10.0.0.2"))
                await until(lambda: len(found.names("j.e.r.aurora")) == 2)
                await service.delete(second)
                await until(lambda: len(found.names("j.e.r.aurora")) == 1)


async def test_after_a_lost_session_those_who_vanish_have_time_to_register_anew(tmp_path: Path) -> None:
    # The story: the ensemble loses everything. All sessions end, ours too; services register again within seconds.
    found = Registered()
    with ensemble(tmp_path) as servers:
        server = servers.servers[0]
        async with session(servers, session_timeout=3.0) as s:
            async with found.following(s, "/aurora", hold=4.0) as source:
                await announce(s, "/aurora/r/e/j", finagle("10.0.0.1"))
                await announce(s, "/aurora/r/e/j", finagle("10.0.0.2"))
                await until(lambda: len(found.names("j.e.r.aurora")) == 2)
                found.changes()
                server.kill()
                server.wipe()
                server.start()
                await until(lambda: source.counters.held_tasks == 2)
                assert s.expirations == 1
                assert not found.changes(), "nobody has lost a name"
                await announce(s, "/aurora/r/e/j", finagle("10.0.0.2"))
                await until(lambda: source.counters.held_tasks == 1)
                assert found.endpoints() == ["10.0.0.1:31000", "10.0.0.2:31000"]
                await until(lambda: found.endpoints() == ["10.0.0.2:31000"])  # the hold is over
                gone = await announce(s, "/aurora/r/e/j", finagle("10.0.0.3"))
                await until(lambda: len(found.endpoints()) == 2)
                await s.delete(gone)
                await until(lambda: len(found.endpoints()) == 1)
                assert source.counters.held_tasks == 0, "from now on what vanishes is gone"


async def test_a_root_that_is_removed_is_held(zookeeper: Ensemble) -> None:
    root, found = unique_path(), Registered()
    async with session(zookeeper) as s, found.following(s, root, hold=0.5) as source:
        await until(lambda: f"ZooKeeper has no {root}" in found.catalog.sources["serversets"].detail)
        await s.ensure(root)
        member = await s.create(f"{root}/member_0000000001", finagle(), ephemeral=True)
        await until(lambda: found.endpoints())
        member_data = await s.get(member)
        assert member_data is not None
        # The whole tree goes in one moment, before anybody can look: members first, then their root.
        s.detach(source._roots[0].tree)
        await s.delete(member)
        await s.delete(root)
        s.attach(source._roots[0].tree)
        source._roots[0].tree.touched(root)
        await until(lambda: source.counters.held_tasks == 1)
        assert found.endpoints() == ["10.0.0.1:31000"]
        await until(lambda: not found.endpoints())


async def test_a_restart_serves_what_was_and_drops_what_is_no_more(zookeeper: Ensemble) -> None:
    root, found = unique_path(), Registered()
    job = f"{root}/e/j"
    async with session(zookeeper) as s:
        stays = await announce(s, job, finagle("10.0.0.1"))
        goes = await announce(s, job, finagle("10.0.0.2"))
        async with found.following(s, root):
            await until(lambda: found.synced and len(found.endpoints()) == 2)
        await s.delete(goes)
        await announce(s, f"{root}/e/k", finagle("10.0.0.3"))
        before = found.tasks()["e.aurora", stays]
        found.publisher.put(Framework("old.aurora", "old.aurora", cluster="serversets"))
        assert len(found.endpoints()) == 2
        found.changes()
        async with found.following(s, root):
            await until(lambda: found.endpoints() == ["10.0.0.1:31000", "10.0.0.3:31000"])
            await until(lambda: len(list(found.catalog.entities("framework"))) == 1)
            assert found.tasks()["e.aurora", stays] == before
            assert ("task", "serversets", "e.aurora", stays) not in found.changes()


async def test_many_members_and_reads_in_proportion(zookeeper: Ensemble) -> None:
    root, found = unique_path(), Registered()
    async with session(zookeeper) as s, session(zookeeper) as service, found.following(s, root) as source:
        folders = [f"{root}/r{n % 7}/e/j{n}" for n in range(40)]
        for folder in folders:
            await service.ensure(folder)
        made = await asyncio.gather(
            *(
                announce(service, folder, finagle(f"10.0.{n}.{i}"))
                for n, folder in enumerate(folders)
                for i in range(10)
            )
        )
        await until(lambda: len(found.endpoints()) == 400)
        before = s.requests
        for path in made[:50]:
            await service.delete(path)
        await until(lambda: len(found.endpoints()) == 350)
        assert s.requests - before <= 3 * 50, "a removal costs a list, and a read that finds nothing, at most"
        assert "members=350" in repr(source)
