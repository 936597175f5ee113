"""The allocator when something breaks: nothing that was told goes, no address is given twice, and it goes on."""

from __future__ import annotations

import contextlib

import pytest

from lb4 import allocator as module
from lb4.addresses import address_range, parsed
from lb4.allocations import encode, shard_key
from lb4.allotment import DAY
from mesos_dns.catalog import Catalog
from mesos_dns.model import VipAddress
from mesos_dns.publish import CatalogPublisher
from tests.fakes.allocating import NOW, TINY, V4, Server, all_of, entry, running, store, stored
from tests.fakes.memory_coordinator import Memory
from tests.zookeeper_clients import until

pytestmark = pytest.mark.asyncio


async def test_nothing_goes_while_the_coordinator_is_away_and_then_it_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE", 0.01)
    monkeypatch.setattr(module, "RETRY", 0.01)
    memory = Memory()
    first, second = Server(memory.client()), Server(memory.client())
    async with running(first, second):
        for server in (first, second):
            server.want("a.m")
        for server in (first, second):
            await server.tells("a.m")
        memory.lost = True
        for server in (first, second):
            server.want("b.m")
        await all_of((first, second), lambda server: server.allocator.last_error == "nobody there")
        await all_of((first, second), lambda server: server.catalog.sources["vips"].stale)
        await all_of((first, second), lambda server: server.allocator.without_address == ["b.m"])
        for server in (first, second):
            assert server.catalog.sources["vips"].detail == "nobody there"
            assert set(server.told) == {"a.m"}
            assert server.allocator.counters.lost > 0
            assert not server.allocator.leading
        await until(lambda: any("VIPs have no address until" in message for message in caplog.messages))
        memory.lost = False
        for server in (first, second):
            await server.tells("a.m", "b.m")
        await all_of((first, second), lambda server: not server.catalog.sources["vips"].stale)
        await all_of((first, second), lambda server: server.allocator.status["last_error"] == "")
    once = [message for message in caplog.messages if "can't be stored, those that are known" in message]
    assert len(once) == 2  # one for each server


async def test_what_was_told_before_the_start_holds_until_what_is_stored_is_known() -> None:
    memory = Memory()
    memory.lost = True
    catalog = Catalog()
    CatalogPublisher(catalog, "vips").put(VipAddress("web.m", "11.1.1.1"))
    server = Server(memory.client(), catalog=catalog)
    server.wanted = {"web.m": frozenset({4})}
    async with running(server):
        server.want("db.m")
        await until(lambda: server.allocator.without_address == ["db.m"])
        assert server.told == {"web.m": "11.1.1.1"}
        assert not catalog.sources["vips"].synced
        memory.lost = False
        await server.tells("web.m", "db.m")
        assert server.told["web.m"] == "11.1.1.1"
        assert stored(memory)["11.1.1.1"] == "web.m"


async def test_what_was_told_before_the_start_ends_when_another_has_the_address() -> None:
    memory = Memory()
    catalog = Catalog()
    for name, address in (("a", "11.0.0.1"), ("b", "11.0.0.2"), ("c", "11.0.0.3"), ("d", "12.0.0.1")):
        CatalogPublisher(catalog, "vips").put(VipAddress(name, address))
    store(memory, entry("11.0.0.1", "other"), entry("11.0.0.9", "b"))
    server = Server(memory.client(), [V4], catalog=catalog)
    server.complete = False
    server.wanted = dict.fromkeys(["a", "b", "d"], frozenset({4}))
    async with running(server):
        await server.settled()
        await until(lambda: server.told.get("a", "11.0.0.1") != "11.0.0.1")
        await server.tells("a", "b", "c", "d", "other")
        assert (server.told["b"], server.told["c"]) == ("11.0.0.9", "11.0.0.3")
        assert server.told["d"] == V4.text(V4.start("d"))
        server.complete = True
        server.allocator._forget()
        await server.tells("a", "b", "d", "other")


async def test_lost_data_are_stored_again_as_they_were_told() -> None:
    memory = Memory()
    first, second = Server(memory.client()), Server(memory.client())
    async with running(first, second):
        names = [f"svc-{number}.m" for number in range(40)]
        for server in (first, second):
            server.want(*names)
        for server in (first, second):
            await server.tells(*names)
        before, told = stored(memory), first.told
        memory.values.clear()
        memory.tell()
        await until(lambda: stored(memory) == before)
        assert first.told == second.told == told


async def test_a_damaged_shard_keeps_nobody_from_anything() -> None:
    memory = Memory()
    server = Server(memory.client(), [address_range("11.0.0.0", "11.0.0.3")])
    async with running(server):
        server.want("a")
        await server.tells("a")
        address = server.told["a"]
        bad = shard_key(parsed(address)[1] % 64)
        memory.write(bad, b"not json")
        await until(lambda: server.allocator.status["damaged"])
        server.want("b", "c", "d", "e")
        await server.tells("a", "b", "c", "d")
        assert server.allocator.without_address == ["e"]
        assert memory.values[bad].value == b"not json"
        assert server.told["a"] == address
    # After a restart it is told what was told.
    again = Server(memory.client(), [address_range("11.0.0.0", "11.0.0.3")], server.catalog)
    again.wanted = server.wanted
    async with running(again):
        await until(lambda: again.allocator.counters.exhausted == 1)
        assert again.told["a"] == address
        assert again.allocator.without_address == ["e"]
        assert memory.values[bad].value == b"not json"


async def test_two_leaders_never_give_one_address_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    memory = Memory()
    small = address_range("11.0.0.0", "11.0.0.7")
    old, new = Server(memory.client(), [small]), Server(memory.client(), [small])
    async with running(old, new):
        await until(lambda: old.allocator.leading and len(memory.line) == 2)
        client = old.allocator._coordinator
        client.stopped = True  # type: ignore[attr-defined]  # it does not notice that another leads
        client.push_back()  # type: ignore[attr-defined]
        await until(lambda: new.allocator.leading)
        assert old.allocator.leading
        old.want("a", "b", "c", "d", "e")
        new.want("c", "d", "e", "f", "g")
        for server in (old, new):
            await server.tells("a", "b", "c", "d", "e", "f", "g")
        await until(lambda: old.told == new.told == {name: address for address, name in stored(memory).items()})
        assert len(set(old.told.values())) == 7


async def test_who_finds_that_another_has_written_decides_anew() -> None:
    memory = Memory()
    client = memory.client()
    server = Server(client)
    address = V4.text(V4.start("web.m"))

    def come_first(key: str) -> None:
        client.before_put = lambda key: None
        store(memory, entry(address, "db.m"))

    async with running(server):
        await until(lambda: server.allocator.leading)
        client.before_put = come_first
        server.want("web.m")
        await server.tells("web.m", "db.m")
        assert server.told == {"db.m": address, "web.m": V4.text(V4.start("web.m") + 1)}
        assert server.allocator.store.counters.conflicts == 1


async def test_a_name_that_two_leaders_gave_addresses_keeps_the_one_that_is_tried_first() -> None:
    memory = Memory()
    small = address_range("11.0.0.0", "11.0.0.7")
    start = small.start("web.m")
    first, later = (small.text(small.first + (start - small.first + more) % 8) for more in (1, 2))
    store(memory, entry(later, "web.m"), entry(first, "web.m"))
    server = Server(memory.client(), [small])
    server.wanted = {"web.m": frozenset({4})}
    async with running(server):
        await server.tells("web.m")
        assert server.told == {"web.m": first}
        await until(lambda: stored(memory) == {first: "web.m"})


async def test_a_lost_answer_gives_no_second_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    memory = Memory()
    client = memory.client()
    server = Server(client)
    async with running(server):
        await until(lambda: server.allocator.leading)
        client.lose_answers = 2
        server.want(*(f"svc-{number}.m" for number in range(20)))
        await until(lambda: len(server.told) == 20)
        await until(lambda: server.allocator.status["last_error"] == "")
        assert client.lose_answers == 0
        assert len(stored(memory)) == 20
        assert {name: address for address, name in stored(memory).items()} == server.told


async def test_what_could_not_be_written_is_given_at_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    client = Memory().client()
    server = Server(client)
    async with running(server):
        await until(lambda: server.allocator.leading)
        client.refuse = 5
        server.want(*(f"svc-{number}.m" for number in range(20)))
        await until(lambda: len(server.told) == 20)
        await until(lambda: server.allocator.status["last_error"] == "")
        assert server.allocator.counters.lost > 0


async def test_an_address_that_somebody_takes_away_is_given_again() -> None:
    memory = Memory()
    server = Server(memory.client())
    async with running(server):
        server.want("a.m")
        await server.tells("a.m")
        address = server.told["a.m"]
        memory.write(shard_key(parsed(address)[1] % 64), encode([]))
        await until(lambda: stored(memory) == {address: "a.m"})
        assert server.told == {"a.m": address}


async def test_who_leads_takes_nothing_from_a_watch_unread() -> None:
    memory = Memory()
    server = Server(memory.client())
    async with running(server):
        server.want("a.m")
        await server.tells("a.m")
        address = server.told["a.m"]
        key = shard_key(parsed(address)[1] % 64)
        server.allocator.store.picture = {key: encode([])}  # one from before our write
        await server.allocator._take_picture()
        assert server.allocator.book.owner(address) == "a.m"


async def test_who_is_elected_reads_all_that_is_stored() -> None:
    memory = Memory()
    client, other = memory.client(), memory.client()
    servers = [Server(client), Server(other)]
    async with running(*servers):
        await until(lambda: servers[0].allocator.leading and len(memory.line) == 2)
        await until(lambda: client.gets >= 64)
        assert other.gets < 64
        client.push_back()
        await until(lambda: other.gets >= 64)
        await until(lambda: servers[1].allocator.leading and not servers[0].allocator.leading)


async def test_a_watch_that_misses_something_keeps_no_name_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE", 0.01)
    memory = Memory()
    client = memory.client()
    leader, other = Server(memory.client()), Server(client)
    async with running(leader, other):
        for server in (leader, other):
            server.want("a.m")
        await all_of((leader, other), lambda server: set(server.told) == {"a.m"})
        client.blind = True
        for server in (leader, other):
            server.want("b.m")
        await all_of((leader, other), lambda server: set(server.told) == {"a.m", "b.m"})
        # What it does not wait for it hears at the latest when all is tidied.
        leader.want("c.m")
        await leader.tells("a.m", "b.m", "c.m")
        monkeypatch.setattr(module, "TIDY", 0.0)
        await until(lambda: other.told == leader.told)
        assert not other.allocator.leading


async def test_the_next_leader_goes_on_where_the_last_one_stopped() -> None:
    memory = Memory()
    servers = [Server(memory.client()) for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        last = contextlib.AsyncExitStack()
        await last.enter_async_context(running(servers[0]))
        await stack.enter_async_context(running(*servers[1:]))
        for server in servers:
            server.want("a.m")
        for server in servers:
            await server.tells("a.m")
        await last.aclose()
        for server in servers[1:]:
            server.want("b.m")
        for server in servers[1:]:
            await server.tells("a.m", "b.m")
        assert servers[1].allocator.leading
        assert servers[1].told == servers[2].told
        assert servers[1].told["a.m"] == servers[0].told["a.m"]


async def test_a_failure_of_ours_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)
    server = Server(Memory().client())
    failures = 2

    def reserved() -> frozenset[str]:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("broken")
        return frozenset()

    server.allocator._reserved_now = reserved
    async with running(server):
        server.want("a.m")
        await server.tells("a.m")
        await until(lambda: server.allocator.last_error == "")
    assert [record.levelname for record in caplog.records if "could not be allocated" in record.message] == [
        "ERROR"
    ] * 2


async def test_one_range_for_each_version() -> None:
    with pytest.raises(ValueError, match="one range"):
        Server(Memory().client(), [V4, TINY])


async def test_what_was_told_stays_until_all_that_is_in_use_is_known() -> None:
    memory = Memory()
    catalog = Catalog()
    for name, address in (("a", "11.0.0.1"), ("b", "11.0.0.2")):
        CatalogPublisher(catalog, "vips").put(VipAddress(name, address))
    long_ago = NOW - 10 * DAY
    store(memory, entry("11.0.0.1", "a", long_ago), entry("11.0.0.3", "c", long_ago))
    server = Server(memory.client(), [V4], catalog=catalog)
    server.complete = False
    async with running(server):
        await server.settled()
        assert server.told == {"a": "11.0.0.1", "b": "11.0.0.2"}
        server.complete = True
        server.allocator._forget()
        await server.tells()
