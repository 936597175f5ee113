"""The Mesos source led by a real ZooKeeper: who leads, how fast it follows, and what is left when ZooKeeper is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from mesos_dns.hosts import Hosts
from mesos_dns.model import Endpoint, Leadership
from mesos_dns.zookeeper import Session
from mesos_dns.zookeeper_target import Target
from tests.fakes.following import Following
from tests.fakes.mesos_master import FakeMaster, agent, state_of, subscribed, task
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until

pytestmark = pytest.mark.asyncio

SNAPSHOT = subscribed(state_of([task(1), task(2, on=2)], [agent(1), agent(2)]))
BOTH = {("F1", "t1"), ("F1", "t2")}


def registration(master: FakeMaster | int) -> bytes:
    """What a master writes into ZooKeeper."""
    port = master if isinstance(master, int) else master.port
    return json.dumps({"address": {"ip": "127.0.0.1", "hostname": "localhost", "port": port}}).encode()


@asynccontextmanager
async def election(zookeeper: Ensemble) -> AsyncIterator[tuple[Session, str, Session]]:
    """A session to follow, the path, and the masters' session."""
    path = unique_path()
    async with session(zookeeper) as ours, session(zookeeper) as masters:
        await masters.ensure(path)
        yield ours, path, masters


async def register(masters: Session, path: str, master: FakeMaster | int) -> str:
    return await masters.create(f"{path}/json.info_", registration(master), ephemeral=True, sequence=True)


async def test_the_leader_that_zookeeper_names_is_followed_at_once(zookeeper: Ensemble) -> None:
    async with election(zookeeper) as (ours, path, masters), FakeMaster() as one, FakeMaster() as two:
        async with Following(zookeeper=(ours, path)) as follow:
            await follow.until(lambda: "no master is registered" in follow.catalog.sources["mesos"].detail)
            first = await register(masters, path, one)
            await register(masters, path, two)
            one.send(SNAPSHOT)
            two.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == BOTH)
            await follow.until(lambda: (found := follow.leadership()) is not None and len(found.masters) == 2)
            follow.changes()
            # The first one's stream goes on, as it would from a leader that is cut off from ZooKeeper.
            await masters.delete(first)
            await two.subscribers.acquire()
            await follow.until(lambda: follow.source.leader == f"http://{two.place}")
            assert [key[0] for key in follow.changes()] == ["leadership"], "no task has changed"
            assert follow.leadership() == Leadership(
                Endpoint("127.0.0.1", two.port), (Endpoint("127.0.0.1", two.port),)
            )
            assert follow.source.counters.errors["moved"] == 1


@pytest.mark.parametrize("listed", [False, True])
async def test_the_name_of_the_leader_changes_before_the_new_one_answers_and_stays(
    zookeeper: Ensemble, free_port: int, listed: bool
) -> None:
    # The story: the old master goes on answering as if it led. It is no longer asked, unless it is listed;
    # what it says of the leader does not count while ZooKeeper says otherwise.
    async with election(zookeeper) as (ours, path, masters), FakeMaster() as one:
        async with Following(*([one.place] if listed else []), zookeeper=(ours, path)) as follow:
            first = await register(masters, path, one)
            told = 0

            def followed() -> bool:
                # ZooKeeper may speak while the listed master is being connected to, which then is done anew.
                nonlocal told
                if (asked := one.calls.count("SUBSCRIBE")) > told:
                    told = asked
                    one.send(SNAPSHOT)
                return follow.running() == BOTH

            await follow.until(followed)
            await follow.until(lambda: (found := follow.leadership()) is not None and found.leader is not None)
            await register(masters, path, free_port)
            await masters.delete(first)
            named = Endpoint("127.0.0.1", free_port)
            await follow.until(lambda: (found := follow.leadership()) is not None and found.leader == named)
            one.send(SNAPSHOT)
            for _ in range(100):
                await asyncio.sleep(0.005)
                found = follow.leadership()
                assert found is not None
                assert found.leader == named
            assert follow.running() == BOTH
            assert (one.calls.count("SUBSCRIBE") > 1) is listed


async def local(name: str) -> tuple[str, ...]:
    return ("127.0.0.1",)


async def test_listed_masters_keep_their_numbers_and_others_come_behind(zookeeper: Ensemble) -> None:
    async with election(zookeeper) as (ours, path, masters), FakeMaster() as one, FakeMaster() as two:
        await register(masters, path, two)
        await register(masters, path, one)
        async with Following(one.place, zookeeper=(ours, path)) as follow:
            two.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == BOTH)
            await follow.until(lambda: (found := follow.leadership()) is not None and len(found.masters) == 2)
            assert follow.leadership() == Leadership(
                Endpoint("127.0.0.1", two.port), (Endpoint("127.0.0.1", one.port), Endpoint("127.0.0.1", two.port))
            )


async def test_the_first_word_of_zookeeper_does_not_disturb_who_follows_the_same_master(zookeeper: Ensemble) -> None:
    async with election(zookeeper) as (ours, path, masters), FakeMaster() as one:
        async with Following(f"localhost:{one.port}", zookeeper=(ours, path), hosts=Hosts(resolve=local)) as follow:
            one.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == BOTH)
            await register(masters, path, one)
            await follow.until(lambda: follow.source._named is not None)
            await asyncio.sleep(0.1)
            assert one.calls.count("SUBSCRIBE") == 1


async def test_a_leader_that_is_not_ready_redirects_or_refuses_until_it_is(zookeeper: Ensemble) -> None:
    async with election(zookeeper) as (ours, path, masters), FakeMaster() as one, FakeMaster() as two:
        refusals = 3

        async def recovering(request: web.Request) -> web.StreamResponse | None:
            nonlocal refusals
            refusals -= 1
            return web.Response(status=503, text="Master has not finished recovery") if refusals >= 0 else None

        two.before = recovering
        async with Following(zookeeper=(ours, path)) as follow:
            first = await register(masters, path, one)
            one.send(SNAPSHOT)
            await follow.until(lambda: follow.running() == BOTH)
            await register(masters, path, two)
            two.send(SNAPSHOT)
            await masters.delete(first)
            await follow.until(lambda: follow.source.leader == f"http://{two.place}")
            assert follow.running() == BOTH


async def test_without_zookeeper_the_last_word_is_served_and_followed(tmp_path: Path) -> None:
    # The story: mesos-dns exits when ZooKeeper is away for ZkDetectionTimeout.
    with ensemble(tmp_path) as servers:
        server = servers.servers[0]
        async with session(servers, session_timeout=3.0) as ours, FakeMaster() as one:
            await ours.ensure("/mesos")
            await ours.create("/mesos/json.info_0000000001", registration(one))
            async with Following(zookeeper=(ours, "/mesos")) as follow:
                one.send(SNAPSHOT)
                await follow.until(lambda: follow.running() == BOTH)
                server.kill()
                await until(lambda: not ours.connected)
                one.send({"type": "TASK_ADDED", "task_added": {"task": task(3)}})
                await follow.until(lambda: ("F1", "t3") in follow.running())
                one.cut()  # the stream too: the same master is tried again, without ZooKeeper
                one.send(SNAPSHOT)
                await follow.until(lambda: one.calls.count("SUBSCRIBE") == 2)
                await follow.until(lambda: follow.running() == BOTH)
                server.wipe()  # everything is gone, the election too: that names nobody else
                server.start()
                await until(lambda: ours.connected)
                await asyncio.sleep(0.2)
                assert follow.leadership() is not None
                assert follow.running() == BOTH
                assert follow.catalog.sources["mesos"].connected


async def test_masters_that_were_known_before_are_tried_when_zookeeper_was_never_there(free_port: int) -> None:
    nobody = Session(Target((("127.0.0.1", free_port),), session_timeout=3.0))
    nobody.start()
    try:
        async with FakeMaster() as one:
            follow = Following(zookeeper=(nobody, "/mesos"))
            follow.publisher.put(Leadership(Endpoint("127.0.0.1", one.port)))  # as it was saved by an earlier process
            async with follow:
                one.send(SNAPSHOT)
                await follow.until(lambda: follow.running() == BOTH)
    finally:
        await nobody.close()
