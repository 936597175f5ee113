"""Servers that are away, hang up or keep silent: what is tried again, what is not, and what the client is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from tests.fakes.edged import HOST, edged, request, spec_of, told, until
from tests.fakes.scripted_backend import OK, Backend, Connection, Heard, Script, backend
from tests.ports import free_ports


async def hangs_up(connection: Connection, heard: Heard) -> None:
    connection.close()


async def resets(connection: Connection, heard: Heard) -> None:
    connection.reset()


async def is_silent(connection: Connection, heard: Heard) -> None:
    await asyncio.sleep(60)


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose listener drops what comes: its queue is full."""
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            other = sockets.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@told
async def test_a_failed_connect_never_reaches_the_client_while_there_is_another_server() -> None:
    dead = free_ports(6)
    async with backend() as server, edged(*dead, server, eject_after=0, retries=0) as edge:
        for number in range(14):
            assert (await edge.ask(f"/{number}", method="POST", body=b"x" * 1000)).status == 200
        assert {heard.body for heard in server.heard} == {b"x" * 1000}
        assert edge.counted("connect_failures") > 0
        assert edge.counted("retries") == 0


@told
async def test_no_server_can_be_reached() -> None:
    async with edged(*free_ports(2), retries=0) as edge:
        answer = await edge.ask()
        assert (answer.status, answer.fields("connection")) == (503, [])
        assert edge.counted("unavailable") == 1
        assert edge.counted("status")[5] == 1
        assert edge.log[0]["why"] == "no_connection"
        assert edge.log[0]["tries"] == 3


@told
async def test_failed_connects_do_not_use_up_the_tries_after_a_reset() -> None:
    async def dies(connection: Connection, heard: Heard) -> None:
        connection.reset()

    async with (
        backend({"": dies}) as dying,
        backend() as server,
        edged(*free_ports(3), dying, server, eject_after=0, retries=1) as edge,
    ):
        for _ in range(10):
            assert (await edge.ask()).status == 200
        assert dying.heard
        assert edge.counted("connect_failures") > 0


@told
async def test_one_that_has_no_room_is_waited_for_when_no_other_can_be_reached() -> None:
    gate = asyncio.Event()

    async def held(connection: Connection, heard: Heard) -> None:
        await gate.wait()
        await connection.send(OK)

    async with (
        backend({"/held": held}) as server,
        edged(server, *free_ports(2), max_requests_per_server=1, eject_after=0, retries=0) as edge,
    ):
        first = asyncio.create_task(edge.ask("/held"))
        await until(lambda: server.heard)
        failed = edge.counted("connect_failures")
        others = [asyncio.create_task(edge.ask("/")) for _ in range(8)]  # some wait for those that others find dead
        await until(lambda: edge.counted("connect_failures") >= failed + 100)
        assert not [other for other in others if other.done()]
        gate.set()
        assert {answer.status for answer in await asyncio.gather(first, *others)} == {200}


@told
async def test_a_server_that_starts_again_is_waited_for() -> None:
    async with backend() as server, edged(server) as edge:
        await server.stop()
        asking = asyncio.create_task(edge.ask("/", method="POST", body=b"abc"))
        await until(lambda: edge.counted("connect_failures") > 0)
        await server.start()
        assert (await asking).status == 200
        assert server.heard[-1].body == b"abc"


@told
async def test_a_cluster_without_servers() -> None:
    async with edged() as edge:
        assert (await edge.ask()).status == 503
        assert edge.counted("unavailable") == 1


@told
async def test_a_connection_that_the_server_ended_meanwhile() -> None:
    async def last(connection: Connection, heard: Heard) -> None:
        await connection.send(OK)
        await connection.reader.readuntil(b"\r\n\r\n")  # reads the next request, and hangs up
        connection.close()

    async with backend({"/last": last}) as server, edged(server, retries=0) as edge:
        client = await edge.client()
        assert (await client.ask("/last")).status == 200
        assert (await client.ask("/again")).body == b"ok"
        assert edge.counted("resets") == 0  # no fault of the server
        assert (await client.ask("/last")).status == 200
        # What must not be done twice isn't, though it may have got nowhere.
        assert (await client.ask("/again", method="POST", body=b"x")).status == 502
        assert server.paths() == ["/last", "/again", "/last"]


@told
async def test_what_may_be_done_twice_goes_to_another_server() -> None:
    async with backend({"": hangs_up}) as bad, backend() as good, edged(bad, good, eject_after=0) as edge:
        for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE") * 2:
            body = b"z" * 60000 if method == "PUT" else b""
            client = await edge.client()
            assert (await client.ask("/", method=method, body=body)).status == 200
        assert {heard.line[:3] for heard in good.heard} == {b"GET", b"HEA", b"OPT", b"TRA", b"PUT", b"DEL"}
        assert {len(heard.body) for heard in good.heard} == {0, 60000}
        assert edge.counted("retries") == edge.counted("resets") == len(bad.heard) > 0


@pytest.mark.parametrize("script", [hangs_up, resets])
def test_what_must_not_be_done_twice_is_not(script: Script) -> None:
    @told
    async def story() -> None:
        async with backend({"": script}) as server, edged(server, eject_after=0) as edge:
            assert (await edge.ask("/", method="POST", body=b"x")).status == 502
            assert (await edge.ask("/", method="PUT", body=b"x" * 200_000)).status == 502  # too long to be kept
            assert len(server.heard) == 2
            assert edge.counted("retries") == 0
            assert edge.counted("status")[5] == 2

    story()


@told
async def test_retries_are_limited() -> None:
    async with backend({"": hangs_up}) as server, edged(server, retries=2, eject_after=0) as edge:
        assert (await edge.ask()).status == 502
        assert len(server.heard) == 3
        assert edge.log[0]["tries"] == 3


@told
async def test_an_answer_that_is_cut_is_cut_for_the_client_too() -> None:
    async def cut(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.close()

    async def cut_head(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        connection.close()

    async with backend({"/cut": cut, "/head": cut_head}) as server, edged(server, eject_after=0) as edge:
        client = await edge.client()
        await client.send(request("/cut"))
        assert (await client.rest()).endswith(b"\r\n\r\nhalf")
        assert (await edge.ask("/head")).status == 502
        assert [record["why"] for record in edge.log] == ["answer_cut", "answer_cut"]
        assert edge.counted("resets") == 2


@told
async def test_a_server_that_is_silent() -> None:
    async with backend({"": is_silent}) as server, edged(server, server_timeout=0.1) as edge:
        for method in ("GET", "POST"):
            assert (await edge.ask("/", method=method, body=b"x")).status == 504
        assert len(server.heard) == 2
        assert edge.counted("timeouts") == 2
        assert edge.front.counts()["timeout_server"] == 2


@told
async def test_a_server_that_falls_silent_in_its_answer() -> None:
    async def half(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await asyncio.sleep(60)

    async with backend({"": half}) as server, edged(server, server_timeout=0.1) as edge:
        assert (await edge.raw(request())).endswith(b"half")
        assert edge.counted("timeouts") == 1


@told
async def test_a_connect_that_hangs_goes_elsewhere() -> None:
    with full_backlog() as full:
        async with backend() as server, edged(full, server, connect_timeout=0.1, eject_after=0) as edge:
            for _ in range(2):
                assert (await edge.ask()).status == 200
            assert edge.counted("connect_failures") > 0


@told
async def test_a_client_that_leaves_takes_its_request_along() -> None:
    left = asyncio.Event()

    async def waits(connection: Connection, heard: Heard) -> None:
        assert await connection.reader.read() == b""
        left.set()

    async with backend({"/wait": waits}) as server, edged(server) as edge:
        client = await edge.client()
        await client.send(request("/wait"))
        await until(lambda: server.heard)
        client.writer.transport.abort()
        await left.wait()
        await until(lambda: edge.edge.connections == 0)
        assert edge.counted("status")[0] == 1
        assert edge.front.counts()["client_gone"] == 1


@told
async def test_a_server_that_goes_away_loses_its_idle_connections() -> None:
    async with backend() as one, backend() as two, edged(one, two) as edge:
        for _ in range(2):
            assert (await edge.ask()).status == 200
        edge.cluster.change(spec_of([two]), time.monotonic())
        await until(lambda: not one.open)
        assert len(two.open) == 1
        for _ in range(2):
            assert (await edge.ask()).status == 200
        assert len(one.heard) == 1


@told
async def test_slow_clients_are_held_off() -> None:
    async with (
        backend() as server,
        edged(server, request_timeout=0.1, client_timeout=0.1, keep_alive_timeout=0.1, server_timeout=30) as edge,
    ):
        assert await edge.raw(b"") == b""
        assert (await edge.raw(b"GET / HT")).startswith(b"HTTP/1.1 408 ")
        body = b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 9\r\n\r\nabc" % HOST.encode()
        assert (await edge.raw(body)).startswith(b"HTTP/1.1 408 ")
        assert (await edge.raw(request())).endswith(b"\r\n\r\nok")  # and is closed when it has been idle
        counts = edge.front.counts()
        assert (counts["timeout_request"], counts["timeout_client"], counts["timeout_keep_alive"]) == (2, 1, 1)
        assert server.heard == [] or server.paths() == ["/"]


@told
async def test_a_client_that_does_not_read_is_held_off() -> None:
    async def script(connection: Connection, heard: Heard) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        while True:
            await connection.send(b"z" * 65536)

    async with backend({"": script}) as server, edged(server, client_timeout=0.3) as edge:
        client = await edge.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: edge.edge.connections == 0)
        assert edge.front.counts()["timeout_client"] == 1
        await until(lambda: not server.open)


@told
async def test_requests_wait_for_a_server_that_has_room() -> None:
    release = asyncio.Event()

    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    async with backend({"": slow}) as server, edged(server, max_requests_per_server=1, max_waiting=3) as edge:
        asking = [asyncio.create_task(edge.ask(f"/{number}", method="POST", body=b"b")) for number in range(4)]
        await until(lambda: edge.cluster.waiting == 3 and server.heard)
        assert (await edge.ask("/one-too-many")).status == 503
        assert edge.counted("overflow") == 1
        release.set()
        assert [(await one).status for one in asking] == [200] * 4
        assert server.accepted == 1
        assert edge.counted("waited") == 3


@told
async def test_nobody_waits_for_ever_for_room() -> None:
    async with (
        backend({"": is_silent}) as server,
        edged(server, max_requests_per_server=1, queue_timeout=0.1) as edge,
    ):
        first = asyncio.create_task(edge.ask())
        await until(lambda: server.heard)
        assert (await edge.ask()).status == 503
        assert edge.counted("queue_timeouts") == 1
        gone = await edge.client()
        await gone.send(request())
        await until(lambda: edge.cluster.waiting == 1)
        gone.writer.transport.abort()
        await until(lambda: edge.cluster.waiting == 0)
        first.cancel()


@told
async def test_a_server_started_twice_on_one_port_is_the_same() -> None:
    server = Backend()
    await server.start()
    async with edged(server) as edge:
        for _ in range(3):
            assert (await edge.ask()).status == 200
            await server.stop()
            await server.start()
        assert edge.log == []
    await server.stop()


@told
async def test_requests_behind_one_that_failed() -> None:
    async with backend({"/bad": hangs_up, "/silent": is_silent}) as server:
        async with edged(server, retries=0, server_timeout=0.1, eject_after=0) as edge:
            client = await edge.client()
            await client.send(b"".join(request(path) for path in ("/bad", "/1", "/silent", "/2", "/bad", "/3")))
            assert [(await client.answer()).status for _ in range(6)] == [502, 200, 504, 200, 502, 200]
            # A connection that was used before is given a second chance.
            assert server.paths() == ["/bad", "/1", "/silent", "/2", "/bad", "/bad", "/3"]


@told
async def test_many_requests_that_are_answered_here() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        sending = asyncio.create_task(client.send(request(host="nobody.example") * 20_000 + request()))
        for _ in range(20_000):
            assert (await client.answer()).status == 503
        assert (await client.answer()).status == 200
        await sending


@told
async def test_a_connection_that_is_not_read_is_not_garbage() -> None:
    # uvloop holds a transport only while it is read: one that waits was collected together with its protocol.
    async with edged(*free_ports(1), retries=1) as edge:
        client = await edge.client()
        await client.send(request("/", "Connection: close"))
        client.writer.write_eof()
        await until(lambda: edge.counted("connect_failures") > 0)
        gc.collect()
        assert (await client.answer()).status == 503


@told
async def test_a_server_is_not_to_blame_for_what_this_process_lacks() -> None:
    async with backend() as server, edged(server, eject_after=1, retries=0) as edge:
        client = await edge.client()
        await until(lambda: edge.edge.connections == 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(next_file := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, hard))
        try:
            await client.send(request("/"))
            assert (await client.answer()).status == 503
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert edge.edge.counts()["own_limit"] == 1
        assert edge.counted("connect_failures") == edge.counted("ejections") == 0
        await client.send(request("/"))
        assert (await client.answer()).status == 200


@told
async def test_many_silent_servers_do_not_keep_a_client_for_longer_than_one_might() -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(full_backlog()) for _ in range(8)]
        async with edged(*silent, connect_timeout=0.3, server_timeout=0.6, retries=10) as edge:
            assert (await edge.ask()).status == 503
            assert edge.counted("connect_failures") <= 5
