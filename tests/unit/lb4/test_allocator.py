"""The allocator: one leader gives, all tell the same, and a name keeps what it was given."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from agent.coordinators import StateDirCoordinator
from lb4.addresses import network_range
from lb4.allotment import DAY
from mesos_dns.catalog import Catalog
from mesos_dns.model import VipAddress
from mesos_dns.publish import CatalogPublisher
from tests.fakes.allocating import NOW, TINY, Server, all_of, entry, running, store, stored
from tests.fakes.memory_coordinator import Memory
from tests.zookeeper_clients import until

pytestmark = pytest.mark.asyncio


async def test_a_wanted_name_gets_its_address_and_all_tell_it() -> None:
    memory = Memory()
    servers = [Server(memory.client()) for _ in range(3)]
    async with running(*servers):
        for server in servers:
            server.want("web.marathon", "dual.marathon", versions=(4, 6))
        for server in servers:
            await server.tells("web.marathon", "dual.marathon")
        await all_of(servers, lambda server: all(entity.address6 for entity in server.entities()))
        assert servers[0].told["web.marathon"] == "11.225.36.193"
        assert {entity.address6 for entity in servers[2].entities()} >= {"fd01:c::f6b1:fccc:4a29:5338"}
        assert [server.allocator.leading for server in servers] == [True, False, False]
        assert len({str(sorted(map(str, server.entities()))) for server in servers}) == 1
        status = servers[0].allocator.status
        assert (status["leader"], status["allocated"], status["stored"]) == (True, 2, 4)
        assert (status["without_address"], status["last_error"], status["damaged"]) == ([], "", {})
        assert servers[1].allocator.status["leader"] is False
        await until(lambda: servers[0].allocator.counters.given == 4)
        assert not servers[1].catalog.sources["vips"].stale
        assert "leading=True wanted=2 stored=4" in repr(servers[0].allocator)


async def test_who_does_not_lead_writes_nothing_and_waits() -> None:
    memory = Memory()
    first, second = Server(memory.client()), Server(memory.client())
    async with running(first, second):
        await until(lambda: first.allocator.leading)
        second.want("web.m")
        await second.settled()
        await until(lambda: second.allocator.without_address == ["web.m"])
        first.want("web.m")
        await second.tells("web.m")
        assert second.allocator.without_address == []
        assert second.allocator.store.counters.writes == 0


async def test_many_names_are_few_writes() -> None:
    memory = Memory()
    server = Server(memory.client())
    async with running(server):
        await until(lambda: server.allocator.leading)
        await server.settled()
        server.want(*(f"svc-{number}.m" for number in range(2000)))
        await until(lambda: len(server.told) == 2000)
        assert len(memory.puts) <= 64
        assert len(set(server.told.values())) == 2000


async def test_changes_right_after_each_other_are_looked_at_together() -> None:
    memory = Memory()
    server = Server(memory.client())
    looks = 0
    given = server.allocator._wanted_now

    def count() -> Any:
        nonlocal looks
        looks += 1
        return given()

    server.allocator._wanted_now = count
    async with running(server):
        await until(lambda: server.allocator.leading)
        for number in range(100):
            server.want(f"n{number}")
        await until(lambda: len(server.told) == 100)
        assert looks <= 3


async def test_a_name_that_comes_back_has_its_address_again() -> None:
    memory = Memory()
    server = Server(memory.client())
    async with running(server):
        server.want("a.m", "b.m")
        await server.tells("a.m", "b.m")
        before = server.told
        server.drop("a.m")
        await until(lambda: "a.m" not in server.allocator._wanted)
        assert server.told == before  # for a day
        server.now += DAY
        server.allocator._forget()
        await server.tells("b.m")
        assert len(stored(memory)) == 2
        server.want("a.m")
        await server.tells("a.m", "b.m")
        assert server.told == before


async def test_a_process_that_starts_tells_what_is_stored_and_in_use() -> None:
    memory = Memory()
    names = {"new": NOW - DAY + 60, "old": NOW - DAY - 60, "wanted": NOW - 10 * DAY}
    store(memory, *(entry(f"11.0.0.{at}", name, used) for at, (name, used) in enumerate(names.items(), 1)))
    server = Server(memory.client())
    server.wanted = {"wanted": frozenset({4})}
    async with running(server):
        await server.tells("new", "wanted")
        assert server.told == {"new": "11.0.0.1", "wanted": "11.0.0.3"}


async def test_it_knows_once_it_was_told_now_or_before() -> None:
    memory = Memory()
    memory.lost = True
    server = Server(memory.client())
    async with running(server):
        assert not server.allocator.known
        memory.lost = False
        await until(lambda: server.allocator.known)
    catalog = Catalog()
    CatalogPublisher(catalog, "vips").put(VipAddress("web.m", "11.1.1.1"))
    assert Server(memory.client(), catalog=catalog).allocator.known


async def test_uses_are_noted_by_the_hour() -> None:
    memory = Memory()
    store(memory, entry("11.0.0.1", "a.m", NOW - 3600), entry("11.0.0.2", "b.m", NOW - 3599))
    server = Server(memory.client())
    server.wanted = dict.fromkeys(["a.m", "b.m"], frozenset({4}))
    async with running(server):
        await until(lambda: memory.puts)
        await server.tells("a.m", "b.m")
        await until(lambda: not server.allocator._turn.locked() and not server.allocator._wake.is_set())
        assert memory.puts == ["vips/01"]
        server.now += 1
        server.allocator._forget()
        await until(lambda: len(memory.puts) == 2)
        assert memory.puts == ["vips/01", "vips/02"]


async def test_full_ranges_are_said_once_and_names_get_what_becomes_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    memory = Memory()
    server = Server(memory.client(), [TINY])
    async with running(server):
        server.want("a", "b", "c", "d")
        await until(lambda: server.allocator.without_address == ["c", "d"])
        server.want("c", "d")
        server.want("e")
        await until(lambda: server.allocator.counters.exhausted == 3)
        said = [message for message in caplog.messages if "no address is left" in message]
        assert [message.split("names=")[1] for message in said] == [
            "2 first=c ranges=11.0.0.0-11.0.0.1",
            "3 first=c ranges=11.0.0.0-11.0.0.1",
        ]
        a, b = server.told["a"], server.told["b"]
        server.drop("b")
        await server.tells("a", "c")
        assert server.told == {"a": a, "c": b}
        assert server.allocator.without_address == ["d", "e"]
        assert server.allocator.counters.given_up == 1


async def test_nothing_is_given_up_before_all_that_is_in_use_is_known() -> None:
    memory = Memory()
    store(memory, entry("11.0.0.0", "x", 5), entry("11.0.0.1", "y", 6))
    server = Server(memory.client(), [TINY])
    server.complete = False
    async with running(server):
        server.want("new")
        await until(lambda: server.allocator.counters.exhausted == 1)
        assert set(stored(memory).values()) == {"x", "y"}
        server.complete = True
        server.allocator.changed()
        await server.tells("new")
        assert stored(memory) == {"11.0.0.0": "new", "11.0.0.1": "y"}


async def test_reserved_addresses_are_not_given_and_clashes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    server = Server(memory.client(), [TINY])
    server.reserved = frozenset({"11.0.0.1"})
    async with running(server):
        server.want("a", "b")
        await until(lambda: server.allocator.without_address == ["b"])
        assert server.told == {"a": "11.0.0.0"}
        server.reserved = frozenset({"11.0.0.0"})
        server.allocator.changed()
        await server.tells("a", "b")
        assert server.told == {"a": "11.0.0.0", "b": "11.0.0.1"}
        server.want("c")
        await until(lambda: server.allocator.without_address == ["c"])
    assert len([message for message in caplog.messages if "fixed address" in message]) == 1


async def test_what_is_no_name_gets_no_address_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    server = Server(memory.client())
    async with running(server):
        server.want("Not_A_Name", "web.m")
        await server.tells("web.m")
        server.want("db.m")
        await server.tells("web.m", "db.m")
        assert server.allocator.without_address == ["Not_A_Name"]
    assert len([message for message in caplog.messages if "Not_A_Name" in message]) == 1


# --- the state directory -----------------------------------------------------------------------------


async def test_a_restart_on_the_state_directory_gives_the_same_addresses(tmp_path: Path) -> None:
    names = [f"svc-{number}.m" for number in range(300)]
    told: list[dict[str, str]] = []
    for order in (names, names[::-1]):
        coordinator = StateDirCoordinator(tmp_path / "coordination", poll=0.05)
        server = Server(coordinator, [network_range("11.0.0.0/23", 4)])
        async with running(server):
            for start in range(0, 300, 100):
                server.want(*order[start : start + 100])
                await server.tells_all(server.wanted)
            await server.tells(*names)
            told.append(server.told)
        await asyncio.to_thread(coordinator.close)
    assert told[0] == told[1]
    assert len(set(told[0].values())) == 300
    value = await StateDirCoordinator(tmp_path / "coordination").get("vips/00")
    assert value is not None
    assert json.loads(value.value)["format"] == 1
