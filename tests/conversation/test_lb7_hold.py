"""Conversations with the edge's proxy while an app sleeps and wakes: its requests are held, and then served."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from lb7.table import Cluster as ClusterSpec
from tests.fakes.edged import Client, Edged, edged, request, spec_of, told, until
from tests.fakes.scripted_backend import OK, Backend, Connection, Heard, backend
from tests.ports import free_ports

HOLD = {"hold": True}


@contextlib.asynccontextmanager
async def sleeping(*servers: Backend | int, **settings: Any) -> AsyncIterator[Edged]:
    """An edge with an app that sleeps."""
    async with edged(*servers, cluster=HOLD, **settings) as edge:
        yield edge


def change(edge: Edged, *servers: Backend | int, **values: Any) -> None:
    """The app has these servers now."""
    edge.cluster.change(spec_of(servers, **(HOLD | values)), time.monotonic())


def draining(spec: ClusterSpec) -> ClusterSpec:
    servers = tuple(msgspec.structs.replace(server, draining=True) for server in spec.servers)
    return msgspec.structs.replace(spec, servers=servers)


async def is_silent(connection: Connection, heard: Heard) -> None:
    await asyncio.Event().wait()


async def asked(edge: Edged, path: str = "/", **values: Any) -> Client:
    """A client whose request is in the edge."""
    client = await edge.client()
    await client.send(request(path, **values))
    return client


async def held(edge: Edged, *paths: str) -> list[Client]:
    """Clients whose requests are held, in this order."""
    clients = []
    for path in paths:
        clients.append(await asked(edge, path))
        await until(lambda: edge.cluster.held == len(clients))
    return clients


@told
async def test_requests_are_held_and_served_in_their_order() -> None:
    async with backend() as server, sleeping(max_requests_per_server=1) as edge:
        clients = await held(edge, "/1", "/2", "/3")
        assert server.accepted == 0
        change(edge, server)
        assert [(await client.answer()).status for client in clients] == [200] * 3
        assert server.paths() == ["/1", "/2", "/3"]
        assert (edge.counted("held"), edge.counted("hold_timeouts"), edge.counted("unavailable")) == (3, 0, 0)
        assert edge.log == []
        assert (await clients[0].ask("/4")).status == 200
        assert edge.counted("held") == 3


@told
async def test_without_it_there_is_an_answer_at_once() -> None:
    async with edged() as edge:
        answer = await edge.ask()
        assert (answer.status, answer.fields("Retry-After")) == (503, [])


@told
async def test_as_many_as_may_be_held() -> None:
    async with backend() as server, sleeping(max_held=2) as edge:
        clients = await held(edge, "/1", "/2")
        answer = await edge.ask("/3")
        assert (answer.status, answer.fields("Retry-After")) == (503, [b"5"])
        assert (edge.counted("overflow"), edge.counted("hold_full")) == (1, 1)
        assert edge.log[0]["why"] == "hold_full"
        change(edge, server)
        assert [(await client.answer()).status for client in clients] == [200, 200]


@told
async def test_none_may_be_held() -> None:
    async with sleeping(max_held=0) as edge:
        assert (await edge.ask()).fields("Retry-After") == [b"5"]


@told
async def test_as_long_as_they_may_be_held() -> None:
    async with backend() as server, sleeping(hold_timeout=0.1) as edge:
        client = await edge.client()
        answer = await client.ask()
        assert (answer.status, answer.fields("Retry-After"), answer.fields("Connection")) == (503, [b"5"], [])
        assert (edge.counted("held"), edge.counted("hold_timeouts"), edge.counted("timeout_hold")) == (1, 1, 1)
        assert (edge.log[0]["why"], edge.log[0]["status"], edge.log[0]["cluster"]) == (
            "timeout_hold",
            503,
            "/app:10000",
        )
        change(edge, server)
        assert (await client.ask()).status == 200, "on the same connection"


@told
async def test_a_client_that_goes_away() -> None:
    async with backend() as server, sleeping() as edge:
        gone, stays = await held(edge, "/gone", "/stays")
        gone.writer.transport.abort()
        await until(lambda: edge.cluster.held == 1)
        change(edge, server)
        assert (await stays.answer()).status == 200
        assert server.paths() == ["/stays"]


@told
async def test_requests_behind_one_that_is_held() -> None:
    async with backend() as server, sleeping() as edge:
        client = await edge.client()
        await client.send(request("/1") + request("/2") + request("/3"))
        await until(lambda: edge.cluster.held == 1)
        change(edge, server)
        assert [(await client.answer()).status for _ in range(3)] == [200] * 3
        assert server.paths() == ["/1", "/2", "/3"]


@told
async def test_bodies_are_kept_within_bounds_and_then_sent() -> None:
    body = bytes(range(256)) * 20_000
    async with backend() as server, sleeping() as edge:
        client = await edge.client()
        sending = asyncio.create_task(client.send(request("/", method="POST", body=body)))
        await until(lambda: edge.cluster.held == 1)
        await asyncio.sleep(0.05)
        assert not sending.done(), "it is not read while nobody takes it"
        change(edge, server)
        assert (await client.answer()).status == 200
        await sending
        assert server.heard[0].body == body


@told
async def test_a_client_that_waits_for_leave_to_send_its_body() -> None:
    async with backend() as server, sleeping() as edge:
        client = await edge.client()
        head = request("/", "Expect: 100-continue", "Content-Length: 4", method="POST")
        await client.send(head)
        await until(lambda: edge.cluster.held == 1)
        change(edge, server)
        await until(lambda: edge.cluster.servers[0].active)
        await client.send(b"body")
        assert (await client.answer()).status == 200
        assert server.heard[0].body == b"body"


@told
async def test_a_server_that_does_not_listen_yet() -> None:
    server = Backend()
    server.port = free_ports(1)[0]
    async with sleeping(retries=0, retry_budget=0, eject_after=1) as edge:
        clients = [await asked(edge, f"/{number}", method="POST", body=b"b") for number in range(20)]
        await until(lambda: edge.cluster.held == 20)
        change(edge, server.port)
        late = await asked(edge, "/late")
        await until(lambda: edge.counted("connect_failures") >= 2)
        await server.start()
        assert [(await client.answer()).status for client in [*clients, late]] == [200] * 21
        assert (edge.counted("retries_refused"), edge.counted("ejections"), edge.log) == (0, 0, [])
        await server.stop()


@told
async def test_a_server_that_never_listens() -> None:
    (port,) = free_ports(1)
    async with sleeping(port, hold_timeout=0.3) as edge:
        answer = await edge.ask()
        assert (answer.status, answer.fields("Retry-After")) == (503, [b"5"])
        assert edge.counted("hold_timeouts") == 1
        assert edge.log[0]["tries"] > 1


@told
async def test_something_in_front_of_the_program_takes_connections_and_ends_them() -> None:
    """As Docker's proxy does. One after the other tries, and only what may be sent twice is."""
    ready = asyncio.Event()

    async def not_yet(connection: Connection, heard: Heard) -> None:
        if ready.is_set():
            await connection.send(OK)
        else:
            connection.reset()

    async with backend({"": not_yet}) as server, sleeping(retries=1, retry_budget=0) as edge:
        clients = await held(edge, "/1", "/2")
        change(edge, server)
        await until(lambda: edge.counted("resets") >= 3)
        assert set(server.paths()) == {"/1"}
        ready.set()
        assert [(await client.answer()).status for client in clients] == [200, 200]
        assert edge.log == []


@told
async def test_what_may_be_sent_but_once_is_not_sent_to_what_ends_connections_at_once() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = Backend()
    front = await asyncio.start_server(ends, "127.0.0.1", 0)
    port = front.sockets[0].getsockname()[1]
    async with sleeping() as edge:
        clients = [await asked(edge, f"/{number}", method="POST", body=b"b") for number in range(3)]
        await until(lambda: edge.cluster.held == 3)
        change(edge, port)
        await until(lambda: len(connections) >= 2)
        front.close()
        await front.wait_closed()
        await server.start(port)
        assert [(await client.answer()).status for client in clients] == [200] * 3
        assert [heard.body for heard in server.heard] == [b"b"] * 3
        assert edge.log == []
    await server.stop()


@told
async def test_a_client_that_leaves_while_its_connection_is_looked_at() -> None:
    async with backend() as server, sleeping() as edge:
        client = await asked(edge, method="POST", body=b"b")
        await until(lambda: edge.cluster.held == 1)
        change(edge, server)
        await until(lambda: server.accepted == 1)
        client.writer.transport.abort()
        await until(lambda: edge.cluster.active == 0)
        assert (await edge.ask("/next")).status == 200


@told
async def test_a_server_that_speaks_before_it_is_asked() -> None:
    async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    front = await asyncio.start_server(speaks, "127.0.0.1", 0)
    async with sleeping(hold_timeout=0.5) as edge:
        client = await asked(edge, method="POST", body=b"b")
        await until(lambda: edge.cluster.held == 1)
        change(edge, front.sockets[0].getsockname()[1])
        assert (await client.answer()).status == 503
    front.close()


@told
async def test_the_same_of_what_may_not_be_sent_twice() -> None:
    async def never(connection: Connection, heard: Heard) -> None:
        connection.reset()

    async with backend({"/post": never}) as server, sleeping() as edge:
        client = await asked(edge, "/post", method="POST", body=b"b")
        await until(lambda: edge.cluster.held == 1)
        change(edge, server)
        assert (await client.answer()).status == 502
        assert len(server.heard) == 1


@told
async def test_a_request_that_ends_a_server_that_has_answered_is_not_sent_for_ever() -> None:
    async def dies(connection: Connection, heard: Heard) -> None:
        connection.reset()

    async with backend({"/bad": dies}) as server, sleeping(server, retries=2) as edge:
        assert (await edge.ask("/good")).status == 200
        assert (await edge.ask("/bad")).status == 502
        assert server.paths().count("/bad") == 4, "once on a connection that was kept, and three times on new ones"


@told
async def test_the_only_server_starts_again() -> None:
    server = Backend()
    await server.start()
    async with sleeping(server, retries=0, retry_budget=0) as edge:
        assert (await edge.ask()).status == 200
        await server.stop()
        clients = [await asked(edge, f"/{number}") for number in range(5)]
        await until(lambda: edge.cluster.held == 5)
        await server.start()
        assert [(await client.answer()).status for client in clients] == [200] * 5
        assert edge.log == []
    await server.stop()


@told
async def test_another_server_is_there_while_one_does_not_listen() -> None:
    (port,) = free_ports(1)
    async with backend() as server, sleeping() as edge:
        (client,) = await held(edge, "/1")
        change(edge, port, server)
        assert (await client.answer()).status == 200
        for number in range(10):
            assert (await edge.ask(f"/{number}")).status == 200
        assert edge.log == []


@told
async def test_servers_that_drain_are_none_and_keep_what_they_have() -> None:
    release = asyncio.Event()

    async def slow(connection: Connection, heard: Heard) -> None:
        await release.wait()
        await connection.send(OK)

    async with backend({"/slow": slow}) as server, sleeping(server) as edge:
        there = await asked(edge, "/slow")
        await until(lambda: server.heard)
        edge.cluster.change(draining(edge.cluster.spec), time.monotonic())
        (new,) = await held(edge, "/new")
        release.set()
        assert (await there.answer()).status == 200
        assert server.paths() == ["/slow"]
        change(edge, server)
        assert (await new.answer()).status == 200


@told
async def test_an_app_that_is_to_sleep_no_more() -> None:
    async with sleeping() as edge:
        (client,) = await held(edge, "/1")
        change(edge, hold=False)
        answer = await client.answer()
        assert (answer.status, answer.fields("Retry-After")) == (503, [])
        assert edge.log[0]["why"] == "no_server"


@told
async def test_one_that_waited_for_room_until_there_was_no_server() -> None:
    async with (
        backend({"/silent": is_silent}) as server,
        backend() as other,
        sleeping(server, max_requests_per_server=1, queue_timeout=0.1) as edge,
    ):
        first = await asked(edge, "/silent")
        await until(lambda: server.heard)
        client = await asked(edge)
        await until(lambda: edge.cluster.waiting == 1)
        change(edge)
        await until(lambda: edge.counted("held") == 1)
        change(edge, other)
        assert (await client.answer()).status == 200
        assert (edge.counted("queue_timeouts"), edge.counted("hold_timeouts")) == (0, 0)
        first.close()


@told
async def test_an_edge_that_drains_serves_what_it_holds() -> None:
    async with backend() as server, sleeping() as edge:
        (client,) = await held(edge, "/1")
        edge.edge.drain()
        change(edge, server)
        answer = await client.answer()
        assert (answer.status, answer.fields("Connection")) == (200, [b"close"])


@told
async def test_an_edge_that_ends_soon_holds_nothing_for_longer() -> None:
    async with backend() as server, sleeping() as edge:
        (client,) = await held(edge, "/1")
        edge.edge.end_holding(0.0)
        edge.edge.end_holding(30.0)
        answers = [await client.answer(), await edge.ask("/2")]
        assert [(answer.status, answer.fields("Retry-After")) for answer in answers] == [(503, [b"5"])] * 2
        assert edge.counted("hold_timeouts") == 2
        change(edge, server)
        assert (await edge.ask("/3")).status == 200


class App:
    """Three programs that come, begin to listen some time later, drain and go, as chance has it."""

    def __init__(self, edge: Edged, chance: random.Random) -> None:
        self.edge, self.chance = edge, chance
        self.programs = [Backend() for _ in range(3)]
        self.there: dict[int, bool] = {}
        """Those that run, by number: whether they drain."""

    def tell(self) -> None:
        spec = spec_of([self.programs[number] for number in self.there], hold=True)
        servers = [
            msgspec.structs.replace(server, draining=drains)
            for server, drains in zip(spec.servers, self.there.values(), strict=True)
        ]
        self.edge.cluster.change(msgspec.structs.replace(spec, servers=tuple(servers)), time.monotonic())

    async def step(self) -> None:
        number = self.chance.randrange(3)
        program = self.programs[number]
        if number in self.there:
            await self.end(number)
            return
        program.port = program.port or free_ports(1)[0]
        self.there[number] = False
        self.tell()
        await asyncio.sleep(self.chance.choice((0, 0.01, 0.1)))
        await program.start()

    async def end(self, number: int) -> None:
        self.there[number] = True
        self.tell()
        address = f"127.0.0.1:{self.programs[number].port}"
        (server,) = (one for one in self.edge.cluster.servers if one.id == address)
        await until(lambda: server.active == 0)
        del self.there[number]
        self.tell()
        await self.programs[number].stop()


@told
async def test_no_request_fails_while_an_app_sleeps_and_wakes() -> None:
    answers: list[int] = []
    over = asyncio.Event()

    async def ask(edge: Edged, number: int) -> None:
        client = await edge.client()
        while not over.is_set():
            method, body = ("POST", b"body") if number % 2 else ("GET", b"")
            answers.append((await client.ask(f"/{number}", method=method, body=body)).status)

    async with sleeping(retries=0, retry_budget=0, max_requests_per_server=4) as edge:
        app = App(edge, random.Random(7))
        asking = [asyncio.create_task(ask(edge, number)) for number in range(12)]
        for _ in range(20):
            await app.step()
        over.set()
        if not app.there:
            await app.step()
        await asyncio.gather(*asking)
        assert set(answers) == {200}
        assert edge.counted("held") > 0
        assert edge.log == []
        for number in list(app.there):
            await app.end(number)
