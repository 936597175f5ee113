"""UDP services of the proxy: flows, where replies come from, who moves when, bounds."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from lb4.proxy_limits import Limits
from lb4.services import BackendStats, Destination, Kind, Operation
from tests.fakes.proxied import (
    ask,
    both_loops,
    change,
    counts,
    named_udp,
    nobody,
    proxied,
    run,
    serve,
    udp_client,
    until,
    vip,
)


@both_loops
@pytest.mark.parametrize("address", ["", "::1"])
def test_a_client_keeps_its_backend_and_replies_come_from_the_service(loop: str, address: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(3, address or "127.0.0.1") as servers, AsyncExitStack() as stack:
            key = vip("udp", address)
            await serve(proxy, key, [server.key for server in servers], scheduler="rr")
            clients = [await stack.enter_async_context(udp_client(key)) for _ in range(9)]
            first = [await ask(client) for client in clients]
            assert Counter(first) == {server.key.port: 3 for server in servers}
            assert [await ask(client, b"again") for client in clients] == first
            stats = (await proxy.stats())[key]
            assert stats.connections == proxy.udp.counters.flows == 9
            assert stats.in_packets == stats.out_packets == 18
            assert stats.in_bytes == 9 * len(b"?again")
            assert stats.backends[servers[0].key] == BackendStats(0, 3, 3)

    run(loop, story())


@both_loops
def test_an_unconnected_client_sees_the_service_as_the_sender(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(1) as (server,):
            key = vip("udp")
            await serve(proxy, key, [server.key])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.bind(("127.0.0.1", 0))
                client.sendto(b"?", (key.address, key.port))
                _, source = await server.came.get()
                assert source[0].startswith("127.")
                came: list[tuple[bytes, tuple[str, int]]] = []

                def heard() -> bool:
                    try:
                        came.append(client.recvfrom(100))
                    except BlockingIOError:
                        return False
                    return True

                await until(heard)
            assert came[0][1] == (key.address, key.port)

    run(loop, story())


@both_loops
def test_datagrams_of_any_size(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(1) as (server,):
            key = vip("udp")
            await serve(proxy, key, [server.key])
            async with udp_client(key) as client:
                for size in (1, 1500, 9000, 65_000):
                    assert await ask(client, b"x" * size) == server.key.port

    run(loop, story())


@both_loops
def test_weight_0_leaves_flows_and_a_dropped_backend_ends_them(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(2) as (a, b):
            key = vip("udp")
            await serve(proxy, key, [a.key], scheduler="rr")
            async with udp_client(key) as one, udp_client(key) as two:
                assert await ask(one) == a.key.port
                await change(proxy, Kind.ADD_DESTINATION, key, b.key, Destination())
                await change(proxy, Kind.SET_DESTINATION, key, a.key, Destination(0))
                assert await ask(one) == a.key.port
                assert await ask(two) == b.key.port
                assert (await counts(proxy, key, a.key)).inactive == 1
                await change(proxy, Kind.DROP_DESTINATION, key, a.key)
                assert await ask(one) == b.key.port
                assert (await counts(proxy, key, b.key)).inactive == 2

    run(loop, story())


@both_loops
def test_a_flow_moves_when_its_backend_refuses(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(1) as (a,):
            key = vip("udp")
            gone = nobody()
            await serve(proxy, key, {gone: Destination(9), a.key: Destination(1)}, scheduler="fo")
            async with udp_client(key) as client:
                client.send(b"lost")
                await until(lambda: proxy.udp.counters.refused == 1)
                assert await ask(client) == a.key.port
                assert await ask(client) == a.key.port
            assert (await counts(proxy, key, gone)).inactive == 0

    run(loop, story())


@both_loops
def test_the_only_backend_is_kept_although_it_refuses(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy:
            key = vip("udp")
            gone = nobody()
            await serve(proxy, key, [gone])
            async with udp_client(key) as client:
                for number in range(1, 4):
                    client.send(b"?")
                    await until(lambda number=number: proxy.udp.counters.refused >= number)  # type: ignore[misc]
                assert proxy.udp.counters.flows == 1
                assert client.came.empty()

    run(loop, story())


@both_loops
def test_without_a_backend_datagrams_are_lost_and_counted(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(1) as (a,):
            key = vip("udp")
            await serve(proxy, key, [])
            async with udp_client(key) as client:
                client.send(b"?")
                await until(lambda: proxy.udp.counters.lost == 1)
                assert len(proxy.udp.flows) == 0
                await change(proxy, Kind.ADD_DESTINATION, key, a.key, Destination())
                assert await ask(client) == a.key.port

    run(loop, story())


@both_loops
def test_silent_clients_are_forgotten(loop: str) -> None:
    async def story() -> None:
        async with proxied(Limits(udp_idle=0.1)) as proxy, named_udp(2) as servers:
            key = vip("udp")
            await serve(proxy, key, [server.key for server in servers], scheduler="rr")
            async with udp_client(key) as client:
                first = await ask(client)
                await until(lambda: proxy.udp.counters.idle == 1)
                assert len(proxy.udp.flows) == 0
                assert await ask(client) != first

    run(loop, story())


@both_loops
def test_who_was_silent_longest_gives_way(loop: str) -> None:
    async def story() -> None:
        async with proxied(Limits(flows=3)) as proxy, named_udp(1) as (a,), AsyncExitStack() as stack:
            key = vip("udp")
            await serve(proxy, key, [a.key])
            clients = [await stack.enter_async_context(udp_client(key)) for _ in range(5)]
            for client in clients:
                assert await ask(client) == a.key.port
            assert len(proxy.udp.flows) == 3
            assert proxy.udp.counters.displaced == 2
            assert await ask(clients[0]) == a.key.port
            assert (await counts(proxy, key, a.key)).inactive == 3

    run(loop, story())


@both_loops
def test_persistence_and_the_end_of_a_service(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(2) as servers, AsyncExitStack() as stack:
            key = vip("udp")
            await serve(proxy, key, [server.key for server in servers], scheduler="rr", persistence=60)
            clients = [await stack.enter_async_context(udp_client(key)) for _ in range(4)]
            assert len({await ask(client) for client in clients}) == 1
            assert await proxy.apply([Operation(Kind.DROP_SERVICE, key)]) == []
            assert len(proxy.udp.flows) == 0
            clients[0].send(b"?")
            assert await clients[0].came.get() == (b"ConnectionRefusedError", None)

    run(loop, story())


@both_loops
def test_one_flow_does_not_starve_another(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, named_udp(1) as (a,):
            key = vip("udp")
            await serve(proxy, key, [a.key])
            async with udp_client(key) as loud, udp_client(key) as quiet:
                for _ in range(100):
                    loud.send(b"noise")
                assert await ask(quiet) == a.key.port

    run(loop, story())
