"""The proxy as a data plane: operations in order, failures with reasons, addresses, stable listeners."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Sequence

import pytest

from lb4.proxy import Proxy
from lb4.services import (
    Actual,
    BackendKey,
    DataPlane,
    Destination,
    Kind,
    NotUsable,
    Operation,
    Service,
    ServiceKey,
    Settings,
)
from tests.fakes.proxied import backends, both_loops, connected, proxied, run, serve, spread, until, vip, who

FAR = ServiceKey("tcp", "192.0.2.77", 8080)


class Addresses:
    """Makes addresses local, or says that it can't; remembers what was asked, and from which thread."""

    def __init__(self, *, usable: bool = True) -> None:
        self.usable = usable
        self.there: set[str] = set()
        self.changes: list[tuple[list[str], list[str]]] = []
        self.threads: set[int] = set()
        self.opened = self.closed = 0
        self.failing: OSError | None = None

    def open(self) -> None:
        self.threads.add(threading.get_ident())
        self.opened += 1
        if not self.usable:
            raise NotUsable("no device can be made here")

    def read(self) -> frozenset[str]:
        self.threads.add(threading.get_ident())
        return frozenset(self.there)

    def change(self, add: Sequence[str], drop: Sequence[str]) -> dict[str, OSError]:
        self.threads.add(threading.get_ident())
        self.changes.append((list(add), list(drop)))
        if self.failing is not None:
            raise self.failing
        self.there.difference_update(drop)
        self.there.update(address for address in add if address != "192.0.2.13")
        return {"192.0.2.13": OSError(errno.EPERM, "Operation not permitted")} if "192.0.2.13" in add else {}

    def close(self) -> None:
        self.closed += 1


@both_loops
def test_it_begins_with_nothing_and_tells_what_it_was_given(loop: str) -> None:
    async def story() -> None:
        plane: DataPlane = Proxy()
        await plane.open()
        assert plane.name == "proxy"
        assert await plane.read() == Actual()
        key, backend = vip(), BackendKey("127.0.0.1", 9)
        operations = [
            Operation(Kind.ADD_ADDRESS, key),
            Operation(Kind.ADD_SERVICE, key, Settings("rr", 60, 24)),
            Operation(Kind.ADD_DESTINATION, key, None, backend, Destination(3, 5, 4)),
        ]
        assert await plane.apply(operations) == []
        service = Service(Settings("rr", 60, 24), {backend: Destination(3, 5, 4)})
        assert await plane.read() == Actual({key: service}, frozenset({key.address}))
        operations = [
            Operation(Kind.SET_SERVICE, key, Settings("sh")),
            Operation(Kind.SET_DESTINATION, key, None, backend, Destination(0)),
        ]
        assert await plane.apply(operations) == []
        assert (await plane.read()).services == {key: Service(Settings("sh"), {backend: Destination(0)})}
        operations = [Operation(Kind.DROP_DESTINATION, key, None, backend), Operation(Kind.DROP_ADDRESS, key)]
        assert await plane.apply(operations) == []
        assert await plane.read() == Actual({key: Service(Settings("sh"))})
        assert await plane.apply([Operation(Kind.DROP_SERVICE, key)]) == []
        assert await plane.read() == Actual()
        await plane.close()
        await plane.close()

    run(loop, story())


@both_loops
def test_failures_have_a_number_and_a_reason_and_the_rest_goes_on(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy:
            key, backend = vip(), BackendKey("127.0.0.1", 9)
            with socket.create_server(vip()[1:]) as taken:
                used = ServiceKey("tcp", *taken.getsockname())
                operations = [
                    Operation(Kind.ADD_ADDRESS, FAR),
                    Operation(Kind.ADD_SERVICE, FAR, Settings()),
                    Operation(Kind.ADD_SERVICE, FAR._replace(protocol="udp"), Settings()),
                    Operation(Kind.ADD_SERVICE, used, Settings()),
                    Operation(Kind.ADD_SERVICE, key._replace(protocol="sctp"), Settings()),
                    Operation(Kind.ADD_DESTINATION, FAR, None, backend, Destination()),
                    Operation(Kind.DROP_SERVICE, FAR),
                    Operation(Kind.ADD_SERVICE, key, Settings()),
                    Operation(Kind.SET_DESTINATION, key, None, backend, Destination()),
                    Operation(Kind.ADD_DESTINATION, key, None, backend, Destination()),
                ]
                failures = await proxy.apply(operations)
            assert [(operations.index(failure.operation), failure.errno) for failure in failures] == [
                (0, errno.EADDRNOTAVAIL),
                (1, errno.EADDRNOTAVAIL),
                (2, errno.EADDRNOTAVAIL),
                (3, errno.EADDRINUSE),
                (4, errno.EPROTONOSUPPORT),
                (5, errno.ESRCH),
                (6, errno.ESRCH),
                (8, errno.ENOENT),
            ]
            assert failures[0].reason == failures[1].reason == "the address is not local here"
            assert failures[3].reason == "another program listens there"
            assert await proxy.read() == Actual({key: Service(Settings(), {backend: Destination()})})

    run(loop, story())


@both_loops
def test_a_port_that_was_lost_while_nothing_had_a_weight_fails_and_can_be_tried_again(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            key = vip()
            await serve(proxy, key, {a.key: Destination(0)})
            add = Operation(Kind.SET_DESTINATION, key, None, a.key, Destination(1))
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                thief.bind((key.address, key.port))
                thief.listen()
                assert [failure.errno for failure in await proxy.apply([add])] == [errno.EADDRINUSE]
                assert (await proxy.read()).services[key].destinations == {a.key: Destination(0)}
            assert await proxy.apply([add]) == []
            assert await who(key) == a.key.port

    run(loop, story())


@both_loops
def test_adding_again_and_setting_keep_connections(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(2) as (a, b):
            key = vip()
            await serve(proxy, key, [a.key], scheduler="rr")
            async with connected(key) as (reader, writer):
                await reader.readline()
                await serve(proxy, key, [a.key, b.key], scheduler="wlc")
                operation = Operation(Kind.SET_SERVICE, key, Settings("rr", 10))
                assert await proxy.apply([operation]) == []
                writer.write(b"still here\n")
                assert await reader.readline() == b"still here\n"
            assert (await proxy.read()).services[key].settings == Settings("rr", 10)
            assert (await proxy.stats([key]))[key].connections == 1

    run(loop, story())


@both_loops
def test_addresses_are_changed_in_a_thread_in_order_and_at_once(loop: str) -> None:
    async def story() -> None:
        addresses = Addresses()
        proxy = Proxy(addresses)
        await proxy.open()
        await proxy.open()
        assert addresses.opened == 1
        one, two, bad = (FAR._replace(address=f"192.0.2.{number}") for number in (1, 2, 13))
        operations = [
            Operation(Kind.ADD_ADDRESS, one),
            Operation(Kind.ADD_ADDRESS, bad),
            Operation(Kind.DROP_ADDRESS, two),
            Operation(Kind.DROP_ADDRESS, one),
            Operation(Kind.ADD_SERVICE, FAR, Settings()),
            Operation(Kind.ADD_ADDRESS, two),
        ]
        failures = await proxy.apply(operations)
        assert [(failure.operation, failure.errno) for failure in failures] == [(operations[1], errno.EPERM)]
        assert addresses.changes == [
            ([one.address, bad.address], [two.address]),
            ([], [one.address]),
            ([two.address], []),
        ]
        # With IP_FREEBIND a service may be there before its address.
        assert await proxy.read() == Actual({FAR: Service(Settings())}, frozenset({two.address}))
        addresses.failing = OSError(errno.ENODEV, "No such device")
        operations = [Operation(Kind.ADD_ADDRESS, one), Operation(Kind.DROP_SERVICE, FAR)]
        assert [failure.errno for failure in await proxy.apply(operations)] == [errno.ENODEV]
        assert (await proxy.read()).services == {}
        await proxy.close()
        assert addresses.closed == 1
        assert threading.get_ident() not in addresses.threads

    run(loop, story())


@pytest.mark.asyncio
async def test_without_a_way_to_make_addresses_local_it_is_not_usable() -> None:
    proxy = Proxy(Addresses(usable=False))
    with pytest.raises(NotUsable, match="no device"):
        await proxy.open()
    await proxy.close()
    assert [failure.errno for failure in await Proxy().apply([Operation(Kind.ADD_SERVICE, FAR, Settings())])] == [
        errno.EINVAL
    ]


@both_loops
def test_closing_ends_everything(loop: str) -> None:
    async def story() -> None:
        async with backends(2) as found:
            proxy = Proxy()
            before = len(os.listdir("/proc/self/fd"))
            await proxy.open()
            tcp, udp = vip(), vip("udp")
            await serve(proxy, tcp, [backend.key for backend in found], scheduler="rr")
            await serve(proxy, udp, [found[0].key])
            async with connected(tcp) as (one, _), connected(tcp) as (two, _):
                await one.readline()
                await two.readline()
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.sendto(b"?", (udp.address, udp.port))
                    await until(lambda: len(proxy.udp.flows) == 1)
                await proxy.close()
                for reader in (one, two):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
            with pytest.raises(ConnectionRefusedError):
                await who(tcp)
            await until(lambda: sum(backend.open for backend in found) == 0)
            assert proxy.tcp.open == len(proxy.udp.flows) == 0
            await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) <= before
            await proxy.open()
            await serve(proxy, tcp, [found[0].key])
            assert await who(tcp) == found[0].key.port
            await proxy.close()

    run(loop, story())


@both_loops
def test_many_services_change_without_holding_the_loop(loop: str) -> None:
    async def story() -> None:
        async with proxied() as proxy, backends(1) as (a,):
            keys = [vip(protocol) for protocol in ("tcp", "udp") for _ in range(150)]
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(others())
            operations = [Operation(Kind.ADD_SERVICE, key, Settings()) for key in keys]
            operations += [Operation(Kind.ADD_DESTINATION, key, None, a.key, Destination()) for key in keys]
            assert await proxy.apply(operations) == []
            assert turns >= 5
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await spread(keys[149], 2) == {a.key.port: 2}
            assert len(await proxy.stats()) == len((await proxy.read()).services) == 300
            assert await proxy.stats([FAR]) == {}

    run(loop, story())
