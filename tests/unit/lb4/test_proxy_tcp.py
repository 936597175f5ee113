"""TCP services of the proxy: listening and refusing, spread, full tables, scarce files, what is counted."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from lb4 import proxy_tcp
from lb4.proxy_limits import Limits
from lb4.services import Destination, Kind
from tests.fakes.proxied import (
    backends,
    both_loops,
    change,
    connected,
    counts,
    nobody,
    proxied,
    run,
    serve,
    spread,
    until,
    vip,
    who,
)


@both_loops
@pytest.mark.parametrize("scheduler", ["rr", "wrr", "lc", "wlc", "nq", "twos"])
def test_spread(loop: str, scheduler: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(3) as (a, b, c):
            key = vip()
            weights = {a.key: Destination(1), b.key: Destination(2), c.key: Destination(0)}
            await serve(proxy, key, weights, scheduler=scheduler)
            found = await spread(key, 30)
            assert set(found) == {a.key.port, b.key.port}
            if scheduler in ("rr", "wrr"):
                assert found[a.key.port] == (15 if scheduler == "rr" else 10)
            assert c.talks == 0

    run(loop, story())


@both_loops
def test_a_client_address_keeps_its_backend_by_hash(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(4) as found:
            key = vip()
            await serve(proxy, key, [backend.key for backend in found], scheduler="sh")
            ports = {source: await who(key, source) for source in (f"127.0.1.{number}" for number in range(1, 30))}
            assert len(set(ports.values())) == 4
            assert {source: await who(key, source) for source in ports} == ports

    run(loop, story())


@both_loops
def test_persistence(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(2) as (a, b):
            key = vip()
            await serve(proxy, key, [a.key, b.key], scheduler="rr", persistence=300)
            first = await who(key)
            assert await spread(key, 5) == {first: 5}
            assert await who(key, "127.0.1.1") != first
            gone = a if first == a.key.port else b
            await change(proxy, Kind.SET_DESTINATION, key, gone.key, Destination(0))
            other = await who(key)
            assert other != first
            await change(proxy, Kind.SET_DESTINATION, key, gone.key, Destination(1))
            assert await spread(key, 4) == {other: 4}

    run(loop, story())


@both_loops
def test_without_a_weight_connections_are_refused_by_the_kernel(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [])
            with pytest.raises(ConnectionRefusedError):
                await who(key)
            await change(proxy, Kind.ADD_DESTINATION, key, a.key, Destination())
            async with connected(key) as (reader, writer):
                assert int(await reader.readline()) == a.key.port
                await change(proxy, Kind.SET_DESTINATION, key, a.key, Destination(0))
                with pytest.raises(ConnectionRefusedError):
                    await who(key)
                writer.write(b"goes on\n")
                assert await reader.readline() == b"goes on\n"
            await change(proxy, Kind.SET_DESTINATION, key, a.key, Destination(3))
            assert await who(key) == a.key.port
            await change(proxy, Kind.DROP_DESTINATION, key, a.key)
            with pytest.raises(ConnectionRefusedError):
                await who(key)

    run(loop, story())


@both_loops
def test_thresholds_and_all_full(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(2) as (a, b), AsyncExitStack() as stack:
            key = vip()
            await serve(proxy, key, dict.fromkeys([a.key, b.key], Destination(1, 2, 1)), scheduler="rr")
            ports: Counter[int] = Counter()
            for _ in range(4):
                reader, _ = await stack.enter_async_context(connected(key))
                ports[int(await reader.readline())] += 1
            assert ports == {a.key.port: 2, b.key.port: 2}
            with pytest.raises(ConnectionResetError):
                async with connected(key) as (reader, _):
                    await reader.read()
            assert proxy.tcp.counters.failed == 1
            assert (await counts(proxy, key, a.key)).active == 2
            await stack.aclose()
            await until(lambda: proxy.tcp.open == 0)
            assert await who(key) in ports

    run(loop, story())


@both_loops
def test_a_thousand_connections_at_once(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(4) as found, AsyncExitStack() as stack:
            key = vip()
            await serve(proxy, key, [backend.key for backend in found], scheduler="lc")
            pairs = await asyncio.gather(*(stack.enter_async_context(connected(key)) for _ in range(1000)))
            ports = Counter([int(await reader.readline()) for reader, _ in pairs])
            assert ports.total() == 1000
            assert all(200 < number < 300 for number in ports.values())
            assert proxy.tcp.open == 1000
            for number, (_, writer) in enumerate(pairs):
                writer.write(b"%d\n" % number)
            for number, (reader, _) in enumerate(pairs):
                assert await reader.readline() == b"%d\n" % number
            stats = (await proxy.stats([key]))[key]
            assert stats.connections == 1000
            assert sum(backend.active for backend in stats.backends.values()) == 1000
            for _, writer in pairs:
                writer.close()
            await until(lambda: proxy.tcp.open == 0)
            assert len(proxy.tcp.idle) == len(proxy.tcp.half_closed) == len(proxy.tcp.dialling) == 0
            stats = (await proxy.stats([key]))[key]
            assert {backend.active + backend.inactive for backend in stats.backends.values()} == {0}

    run(loop, story())


@both_loops
def test_when_all_places_are_taken_others_wait_and_then_get_theirs(loop: str) -> None:
    async def story() -> None:
        async with proxied(Limits(connections=2)) as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (one, one_writer), connected(key) as (two, _):
                await one.readline()
                await two.readline()
                async with connected(key) as (three, _):
                    await until(lambda: proxy.tcp.counters.held == 1)
                    assert a.talks == proxy.tcp.open == 2
                    one_writer.close()
                    assert int(await three.readline()) == a.key.port
                    assert proxy.tcp.counters.held == 2  # no spinning
            await until(lambda: proxy.tcp.open == 0)
            assert await spread(key, 5) == {a.key.port: 5}

    run(loop, story())


@both_loops
def test_without_files_it_rests_and_goes_on(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_tcp, "_REST", 0.05)
    accepts = 0

    class Scarce(socket.socket):
        def accept(self) -> Any:
            nonlocal accepts
            accepts += 1
            if accepts <= 3:
                raise OSError(errno.EMFILE, "too many open files")
            return super().accept()

    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            monkeypatch.setattr(socket, "socket", Scarce)
            await serve(proxy, key, [a.key])
            monkeypatch.undo()
            monkeypatch.setattr(proxy_tcp, "_REST", 0.05)
            assert await who(key) == a.key.port
            assert proxy.tcp.counters.scarce == 3
            assert accepts <= 6

    run(loop, story())


@both_loops
def test_without_files_for_a_backend_the_client_is_reset(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_tcp, "_REST", 0.05)

    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, _):
                await reader.readline()
                real = socket.socket

                def none(*what: Any, **more: Any) -> socket.socket:
                    if what[1:] and what[1] & socket.SOCK_NONBLOCK:
                        raise OSError(errno.EMFILE, "too many open files")
                    return real(*what, **more)

                with real(socket.AF_INET, socket.SOCK_STREAM) as raw, monkeypatch.context() as patch:
                    raw.setblocking(False)
                    patch.setattr(socket, "socket", none)
                    raw.connect_ex((key.address, key.port))
                    await until(lambda: proxy.tcp.counters.failed == 1)
                    with pytest.raises(ConnectionResetError):
                        raw.recv(1)
            assert await who(key) == a.key.port
            assert proxy.tcp.counters.scarce == proxy.tcp.counters.failed == 1

    run(loop, story())


@both_loops
def test_who_refuses_is_passed_over(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [nobody(), nobody(), a.key], scheduler="rr")
            assert await spread(key, 6) == {a.key.port: 6}
            assert proxy.tcp.counters.retried >= 3
            assert proxy.tcp.counters.failed == 0

    run(loop, story())


@both_loops
def test_when_all_refuse_the_client_is_reset(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy:
            key = vip()
            await serve(proxy, key, [nobody() for _ in range(5)], scheduler="rr")
            with pytest.raises(ConnectionResetError):
                await who(key)
            assert proxy.tcp.counters.retried == 2  # three were asked
            assert proxy.tcp.open == 0
            stats = (await proxy.stats())[key]
            assert {(one.active, one.inactive) for one in stats.backends.values()} == {(0, 0)}

    run(loop, story())


@both_loops
def test_who_does_not_answer_is_passed_over(loop: str) -> None:
    async def story() -> None:
        async with proxied(Limits(connect=0.1)) as proxy, backends(1) as (a,), AsyncExitStack() as stack:
            # A listener whose queue is full: the kernel drops what else comes, as a machine that is gone would.
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(silent.getsockname())
            key = vip()
            await serve(proxy, key, [], scheduler="rr")
            for backend in (a.key._replace(port=silent.getsockname()[1]), a.key):
                await change(proxy, Kind.ADD_DESTINATION, key, backend, Destination())
            assert await spread(key, 3) == {a.key.port: 3}
            assert proxy.tcp.counters.retried >= 1

    run(loop, story())


@both_loops
def test_ipv6(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1, address="::1") as (a,), backends(1) as (b,):
            key = vip(address="::1")
            await serve(proxy, key, [a.key, b.key], scheduler="rr")
            assert await spread(key, 4) == {a.key.port: 2, b.key.port: 2}
            assert set(a.peers) == {"::1"}

    run(loop, story())


@both_loops
def test_what_is_counted(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, [a.key])
            async with connected(key) as (reader, writer):
                name = await reader.readline()
                writer.write(b"x" * 1000)
                writer.write_eof()
                assert await reader.read() == b"x" * 1000
            await until(lambda: proxy.tcp.open == 0)
            stats = (await proxy.stats())[key]
            assert (stats.connections, stats.in_bytes, stats.out_bytes) == (1, 1000, len(name) + 1000)
            assert stats.in_packets >= 1
            assert stats.out_packets >= 2
            assert stats.backends[a.key].connections == proxy.tcp.counters.accepted == 1

    run(loop, story())
