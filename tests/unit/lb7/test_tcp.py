"""lb7._tcp: TCP service ports, with real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import msgspec
import pytest
import trustme
import uvloop

from lb7._balance import Cluster
from lb7._tcp import Places, TcpFront
from lb7.allowed import Allowed
from lb7.settings import Settings
from lb7.table import Cluster as Spec
from lb7.table import Server
from tests.fakes.edged import listen
from tests.ports import free_ports

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

HOST = "127.0.0.1"
PATIENCE = 50


def run(story: Coroutine[Any, Any, None]) -> None:
    """Runs it on uvloop; what is left running then fails the test."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE):
            await story
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(whole())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def server(port: int, **values: Any) -> Server:
    return msgspec.structs.replace(Server(f"{HOST}:{port}", HOST, port), **values)


def spec(*servers: Server, **values: Any) -> Spec:
    return Spec("/a:9", "/a", 9, servers, "tcp", **values)


def front_of(*servers: Server, allow: tuple[str, ...] = (), balance: Any = "first", **settings: Any) -> TcpFront:
    values = Settings(**settings)
    cluster = Cluster(spec(*servers, allow=allow, balance=balance), values, time.monotonic())
    return TcpFront(values, "port:9", cluster)


def closing(talk: Talk) -> Talk:
    """The connection is closed when `talk` is done with it."""

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return whole


@contextlib.asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[int]:
    """A server's port."""
    made = await asyncio.start_server(closing(talk), HOST, 0)
    async with made:
        yield made.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def listening(front: TcpFront, host: str = HOST, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The front on a port; when it ends, all its connections have gone and nothing is counted as open."""
    made, port = await listen(front, host, tls)

    async def tick() -> None:
        while True:
            front.tick()
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    try:
        yield port
        await until(lambda: front.open == 0)
        assert front.places.open == 0
        assert front.cluster.active == front.cluster.waiting == 0
        assert [(one.active, one.connections) for one in front.cluster.servers] == [(0, 0)] * len(front.cluster.servers)
    finally:
        ticking.cancel()
        made.close()
        front.close()
        await until(lambda: front.open == 0)
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def to_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when the client has said all."""
    writer.write(b"got %d" % len(await reader.read()))


def named(name: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        await reader.read()

    return talk


async def asked(port: int, octets: bytes) -> bytes:
    """All that comes back for what a client says, who then says no more."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(octets)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def is_reset(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except ConnectionResetError:  # sooner than this loop has seen that it is connected
        return True
    try:
        ended = await reader.read()
    except ConnectionResetError:
        return True
    finally:
        writer.close()
    assert ended == b""
    return False


def closed_port() -> int:
    return free_ports(1)[0]


def test_octets_go_both_ways_and_are_counted() -> None:
    async def story() -> None:
        async with serving(to_end) as port:
            front = front_of(server(port))
            async with listening(front) as edge:
                assert await asked(edge, b"x" * 1_000_000) == b"got 1000000"
                await until(lambda: front.open == 0)
            assert front.counts() == {"accepted": 1, "open": 0, "received": 1_000_000, "sent": 11}
            counts = front.cluster.counts_dict()
            assert (counts["requests"], counts["received"], counts["sent"]) == (1, 1_000_000, 11)

    run(story())


def test_many_connections_at_once() -> None:
    async def story() -> None:
        async with serving(echo) as one, serving(echo) as two:
            front = front_of(server(one), server(two), balance="roundrobin")
            async with listening(front) as edge:
                words = [b"%d" % number * 1000 for number in range(100)]
                assert await asyncio.gather(*(asked(edge, word) for word in words)) == words
            assert [made.requests for made in front.cluster.servers] == [50, 50]

    run(story())


def test_server_may_say_all_first() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all")
        writer.write_eof()
        heard.append(await reader.read())

    async def story() -> None:
        async with serving(talk) as port, listening(front_of(server(port))) as edge:
            reader, writer = await asyncio.open_connection(HOST, edge)
            assert await reader.read() == b"all"
            writer.write(b"still here")
            writer.write_eof()
            await until(lambda: bool(heard))
            writer.close()
        assert heard == [b"still here"]

    run(story())


def test_connection_that_fails_goes_to_another_server() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(closed_port()), server(closed_port()), server(port))
            async with listening(front) as edge:
                assert await asked(edge, b"hello") == b"hello"
            assert front.counts()["connect_failed"] == 2
            assert front.cluster.counts_dict()["connect_failures"] == 2

    run(story())


@contextlib.contextmanager
def silent_port() -> Any:
    """A port that takes no more connections and refuses none: its queue is full."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind((HOST, 0))
        sock.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


def test_server_that_does_not_answer_in_time_is_left_for_another() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            with silent_port() as silent:
                front = front_of(server(silent), server(port), connect_timeout=0.1)
                async with listening(front) as edge:
                    assert await asked(edge, b"hello") == b"hello"
                assert front.counts()["connect_failed"] == 1

    run(story())


def test_when_all_fail_the_client_is_reset() -> None:
    async def story() -> None:
        front = front_of(server(closed_port()), server(closed_port()), retries=0)
        async with listening(front) as edge:
            assert await is_reset(edge)
        assert front.counts()["no_connection"] == 1
        assert front.cluster.counts_dict()["unavailable"] == 1

    run(story())


def test_servers_that_start_again_are_waited_for() -> None:
    async def story() -> None:
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            front = front_of(server(sock.getsockname()[1]))
            async with listening(front) as edge:
                asking = asyncio.create_task(asked(edge, b"hello"))
                await until(lambda: front.counts().get("connect_failed", 0) == 1)
                made = await asyncio.start_server(closing(echo), sock=sock.dup())
                assert await asking == b"hello"
                made.close()

    run(story())


def test_no_server() -> None:
    async def story() -> None:
        front = front_of()
        async with listening(front) as edge:
            assert await is_reset(edge)
        assert front.counts()["no_server"] == 1
        assert front.cluster.counts_dict()["unavailable"] == 1

    run(story())


def test_only_allowed_networks() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port), allow=("192.0.2.0/24",))
            async with listening(front) as edge:
                assert await is_reset(edge)
                assert front.cluster.counts_dict()["denied"] == front.counts()["denied"] == 1
                front.cluster.change(spec(server(port), allow=("127.0.0.0/8",)), time.monotonic())
                assert await asked(edge, b"hello") == b"hello"
            assert front.cluster.counts_dict()["requests"] == 1

    run(story())


def test_the_list_that_is_given_counts() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            settings = Settings()
            cluster = Cluster(spec(server(port), allow=(HOST,)), settings, time.monotonic())
            front = TcpFront(settings, "port:9", cluster, Allowed(cluster.spec.allow))
            async with listening(front) as edge:
                assert await asked(edge, b"hello") == b"hello"

    run(story())


def test_ipv4_clients_of_an_ipv6_socket() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port), allow=("127.0.0.0/8",))
            made, listened = await listen(front, "::", dual=True)
            assert await asked(listened, b"hello") == b"hello"
            made.close()
            await until(lambda: front.open == 0)

    run(story())


def test_draining_and_gone_servers_keep_what_they_have() -> None:
    async def story() -> None:
        async with serving(named(b"one")) as one, serving(named(b"two")) as two:
            front = front_of(server(one), server(two))
            cluster = front.cluster
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                assert await reader.readexactly(3) == b"one"
                cluster.change(spec(server(one, draining=True), server(two), balance="first"), time.monotonic())
                assert await asked(edge, b"") == b"two"
                cluster.change(spec(server(two), balance="first"), time.monotonic())
                assert await asked(edge, b"") == b"two"
                assert front.open == 1
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()

    run(story())


def test_another_cluster() -> None:
    async def story() -> None:
        async with serving(named(b"one")) as one, serving(named(b"two")) as two:
            front = front_of(server(one))
            async with listening(front) as edge:
                assert await asked(edge, b"") == b"one"
                front.serve(front_of(server(two)).cluster)
                assert await asked(edge, b"") == b"two"

    run(story())


def test_limits_of_connections() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            for front, word in (
                (front_of(server(port), max_connections=1), "max_connections"),
                (front_of(server(port), max_connections_per_client=1), "max_connections"),
                (front_of(server(port), max_requests_per_route=1), "max_requests_per_route"),
            ):
                async with listening(front) as edge:
                    reader, writer = await asyncio.open_connection(HOST, edge)
                    writer.write(b"x")
                    assert await reader.readexactly(1) == b"x"
                    assert await is_reset(edge)
                    writer.close()
                    await until(lambda front=front: front.open == 0)  # type: ignore[misc]
                    assert await asked(edge, b"hello") == b"hello"
                assert front.counts()[word] == 1

    run(story())


def test_fronts_that_share_their_places() -> None:
    async def story() -> None:
        places = Places(1)
        async with serving(echo) as port:
            settings = Settings()
            cluster = front_of(server(port)).cluster
            one, two = (TcpFront(settings, name, cluster, None, places) for name in ("port:9", "port:10"))
            async with listening(one) as edge_one, listening(two) as edge_two:
                reader, writer = await asyncio.open_connection(HOST, edge_one)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                assert await is_reset(edge_two)
                writer.close()
                await until(lambda: places.open == 0)
                assert await asked(edge_two, b"hello") == b"hello"

    run(story())


def test_full_servers_are_waited_for_and_what_came_is_kept() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port), max_requests_per_server=1)
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                asking = asyncio.create_task(asked(edge, b"early" * 100_000))
                await until(lambda: front.cluster.waiting == 1)
                writer.close()
                assert await asking == b"early" * 100_000
            assert front.cluster.counts_dict()["waited"] == 1

    run(story())


def test_nobody_waits_for_ever() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port), max_requests_per_server=1, queue_timeout=0.1, max_waiting=1)
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                assert await is_reset(edge)
                writer.close()
            assert front.counts()["queue_timeout"] == front.cluster.counts_dict()["queue_timeouts"] == 1

    run(story())


def sleeping(**settings: Any) -> TcpFront:
    values = Settings(**settings)
    return TcpFront(values, "port:9", Cluster(spec(hold=True), values, time.monotonic()))


def test_connections_for_an_app_that_sleeps_are_held() -> None:
    async def story() -> None:
        (port,) = free_ports(1)
        front = sleeping(retries=0, retry_budget=0)
        async with listening(front) as edge:
            asking = [asyncio.create_task(asked(edge, b"early")) for _ in range(3)]
            await until(lambda: front.cluster.held == 3)
            front.cluster.change(spec(server(port), hold=True), time.monotonic())
            await until(lambda: front.cluster.counts_dict()["connect_failures"] != 0)
            made = await asyncio.start_server(closing(echo), HOST, port)
            assert await asyncio.gather(*asking) == [b"early"] * 3
            made.close()
        counts = front.cluster.counts_dict()
        assert (counts["held"], counts["retries_refused"], counts["unavailable"], counts["hold_timeouts"]) == (
            3,
            0,
            0,
            0,
        )

    run(story())


def test_something_in_front_of_the_program_takes_connections_and_ends_them() -> None:
    """As a proxy in a container does. One after the other tries, and only who did is lost."""

    async def story() -> None:
        connections: list[asyncio.StreamWriter] = []

        async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await reader.read(100)
            writer.close()

        async def said(edge: int) -> bytes:
            reader, writer = await asyncio.open_connection(HOST, edge)
            writer.write(b"early")
            answer = await reader.read(5)
            writer.close()
            return answer

        (port,) = free_ports(1)
        front = sleeping()
        async with listening(front) as edge:
            asking = [asyncio.create_task(said(edge)) for _ in range(6)]
            await until(lambda: front.cluster.held == 6)
            proxy = await asyncio.start_server(ends, HOST, port)
            front.cluster.change(spec(server(port), hold=True), time.monotonic())
            await until(lambda: len(connections) >= 2)
            proxy.close()
            made = await asyncio.start_server(closing(echo), HOST, port)
            answers = await asyncio.gather(*asking)
            assert sorted(answers)[2:] == [b"early"] * 4
            made.close()

    run(story())


def test_connections_are_held_for_so_long_and_so_many() -> None:
    async def story() -> None:
        front = sleeping(hold_timeout=0.2, max_held=1)
        async with listening(front) as edge:
            first = asyncio.create_task(is_reset(edge))
            await until(lambda: front.cluster.held == 1)
            assert await is_reset(edge)
            assert front.counts()["hold_full"] == 1
            assert await first
        assert front.counts()["hold_timeout"] == front.cluster.counts_dict()["hold_timeouts"] == 1

    run(story())


def test_connections_wait_for_the_only_server_to_start_again() -> None:
    async def story() -> None:
        (port,) = free_ports(1)
        values = Settings(retries=0, retry_budget=0)
        front = TcpFront(values, "port:9", Cluster(spec(server(port), hold=True), values, time.monotonic()))
        async with listening(front) as edge:
            asking = asyncio.create_task(asked(edge, b"early"))
            await until(lambda: front.cluster.held == 1)
            made = await asyncio.start_server(closing(echo), HOST, port)
            assert await asking == b"early"
            made.close()

    run(story())


def test_connections_that_waited_for_room_are_held_when_there_is_no_server() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            values = Settings(max_requests_per_server=1, queue_timeout=0.1)
            front = TcpFront(values, "port:9", Cluster(spec(server(port), hold=True), values, time.monotonic()))
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                asking = asyncio.create_task(asked(edge, b"early"))
                await until(lambda: front.cluster.waiting == 1)
                front.cluster.change(spec(server(port, draining=True), hold=True), time.monotonic())
                await until(lambda: front.cluster.counts_dict()["held"] == 1)
                writer.close()
                front.cluster.change(spec(server(port), hold=True), time.monotonic())
                assert await asking == b"early"
            assert front.cluster.counts_dict()["queue_timeouts"] == 0

    run(story())


def test_client_that_leaves_while_it_waits() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            with silent_port() as silent:
                full = front_of(server(port), max_requests_per_server=1)
                connecting = front_of(server(silent))
                async with listening(full) as full_edge, listening(connecting) as connecting_edge:
                    reader, writer = await asyncio.open_connection(HOST, full_edge)
                    writer.write(b"x")
                    assert await reader.readexactly(1) == b"x"
                    for front, edge in ((full, full_edge), (connecting, connecting_edge)):
                        there = front.open
                        leaving = socket.create_connection((HOST, edge))
                        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        await until(lambda front=front, there=there: front.open == there + 1)  # type: ignore[misc]
                        leaving.close()
                        await until(lambda front=front, there=there: front.open == there)  # type: ignore[misc]
                        assert front.counts()["client_left"] == 1
                    assert (full.cluster.waiting, full.cluster.active, connecting.cluster.active) == (0, 1, 0)
                    writer.close()

    run(story())


def test_resets_are_passed_on() -> None:
    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    ends: list[str] = []

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            await reader.read()
            ends.append("closed")
        except ConnectionResetError:
            ends.append("reset")

    async def story() -> None:
        async with serving(resetting) as port:
            front = front_of(server(port))
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
            assert front.cluster.counts_dict()["resets"] == 1
        async with serving(noting) as port, listening(front_of(server(port))) as edge:
            reader, writer = await asyncio.open_connection(HOST, edge)
            await reader.readexactly(1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await until(lambda: bool(ends))
        assert ends == ["reset"]

    run(story())


def test_server_is_read_only_as_fast_as_the_client_reads() -> None:
    block, sent = b"x" * 65536, 0
    total = 3000 * len(block)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(block)
            sent += len(block)
            await writer.drain()

    async def story() -> None:
        async with serving(pour) as port, listening(front_of(server(port))) as edge:
            reader, writer = await asyncio.open_connection(HOST, edge)
            await held_off(lambda: sent)
            assert 0 < sent < total // 2
            got = 0
            while data := await reader.read(1 << 20):
                got += len(data)
            assert got == total
            writer.close()

    run(story())


async def held_off(moved: Callable[[], int]) -> None:
    """Until nothing has moved for a while, after something has."""
    before = -1
    while before != moved() or not before:
        before = moved()
        await asyncio.sleep(0.3)


def test_client_is_read_only_as_fast_as_the_server_reads() -> None:
    reading, got = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reading.wait()
        while data := await reader.read(1 << 20):
            got += len(data)
        writer.write(b"done")

    async def story() -> None:
        total = 3000 * 65536
        async with serving(slow) as port, listening(front_of(server(port))) as edge:
            reader, writer = await asyncio.open_connection(HOST, edge)
            sent = 0

            async def pour() -> None:
                nonlocal sent
                while sent < total:
                    writer.write(b"x" * 65536)
                    sent += 65536
                    await writer.drain()
                writer.write_eof()

            pouring = asyncio.create_task(pour())
            await held_off(lambda: sent)
            assert sent < total // 2
            reading.set()
            assert await reader.read() == b"done"
            assert got == total
            await pouring
            writer.close()

    run(story())


def test_connections_that_are_not_read_are_not_garbage() -> None:
    got = 0

    async def pours_and_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        writer.write(b"y" * (32 << 20))
        await reading.wait()
        while data := await reader.read(1 << 20):
            got += len(data)

    async def story() -> None:
        async with serving(pours_and_reads) as port:
            # Nobody else holds the front or what it made once its listener is gone.
            made, listened = await listen(front_of(server(port)))
            reader, writer = await asyncio.open_connection(HOST, listened)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"x" * (32 << 20))
            await held_off(writer.transport.get_write_buffer_size)
            made.close()
            del made
            gc.collect()
            reading.set()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            writer.write_eof()
            assert len(await reader.read()) == 32 << 20
            assert got == 32 << 20
            writer.close()

    reading = asyncio.Event()
    run(story())


def test_silence_ends_a_connection() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port), tunnel_timeout=0.3)
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
            assert front.counts()["tunnel_timeout"] == 1

    run(story())


def test_client_that_never_takes_the_rest() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (16 << 20))
        await reader.read()

    async def story() -> None:
        async with serving(pour) as port:
            front = front_of(server(port), client_timeout=0.2, tunnel_timeout=0.5)
            async with listening(front) as edge:
                _, writer = await asyncio.open_connection(HOST, edge)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                writer.write_eof()
                await until(lambda: front.open == 1)
                await until(lambda: front.open == 0)
                writer.close()
            assert front.counts().keys() & {"close_timeout", "tunnel_timeout"}

    run(story())


def test_close_ends_all() -> None:
    async def story() -> None:
        async with serving(echo) as port:
            front = front_of(server(port))
            async with listening(front) as edge:
                reader, writer = await asyncio.open_connection(HOST, edge)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                front.close()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
            assert front.counts()["closed"] == 1

    run(story())


def test_tls_to_the_client() -> None:
    authority = trustme.CA()
    serverside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("edge.example").configure_cert(serverside)
    clientside = ssl.create_default_context()
    authority.configure_trust(clientside)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))

    async def story() -> None:
        async with serving(answer) as port, listening(front_of(server(port)), tls=serverside) as edge:
            reader, writer = await asyncio.open_connection(HOST, edge, ssl=clientside, server_hostname="edge.example")
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()

    run(story())
