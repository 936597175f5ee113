"""The servers behind the demo's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from agent.demo.task_servers import TaskServer, TaskServers
from tests.ports import free_ports

HOST = "127.0.0.99"


@pytest_asyncio.fixture
async def servers() -> AsyncIterator[TaskServers]:
    found = TaskServers()
    yield found
    await found.close()


async def start(servers: TaskServers, task_id: str = "web.1") -> TaskServer:
    server = await servers.open(HOST, free_ports(1), 1)
    servers.name(server, task_id)
    return server


@pytest.mark.asyncio
async def test_it_says_who_it_is_and_counts(servers: TaskServers) -> None:
    server = await start(servers)
    url = f"http://{HOST}:{server.ports[0]}"
    async with aiohttp.ClientSession() as session:
        for number in (1, 2):
            async with session.get(url + "/where?x=1") as response:
                assert await response.json() == {
                    "task": "web.1",
                    "host": HOST,
                    "port": server.ports[0],
                    "path": "/where?x=1",
                    "requests": number,
                }
        async with session.post(url, data=b"x" * 100_000) as response:
            assert (await response.json())["requests"] == 3
        async with session.head(url) as response:
            assert response.status == 200


@pytest.mark.asyncio
async def test_health_is_what_it_is_told_to_be_and_not_counted(servers: TaskServers) -> None:
    server = await start(servers)
    async with aiohttp.ClientSession() as session:
        for healthy, status in ((True, 200), (False, 503)):
            server.healthy = healthy
            async with session.get(f"http://{HOST}:{server.ports[0]}/health") as response:
                assert response.status == status
    assert server.requests == 0


@pytest.mark.asyncio
async def test_ports_that_are_taken_are_passed_over(servers: TaskServers) -> None:
    first = await start(servers)
    spare = free_ports(2)
    second = await servers.open(HOST, [first.ports[0], *spare], 2)
    servers.name(second, "web.2")
    assert second.ports == tuple(spare)
    with pytest.raises(OSError, match="1 free ports wanted"):
        await servers.open(HOST, [first.ports[0]], 1)


@pytest.mark.asyncio
async def test_a_stopped_server_closes_its_connections(servers: TaskServers) -> None:
    server = await start(servers)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{HOST}:{server.ports[0]}"):
            pass
        await servers.stop("web.1")
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://{HOST}:{server.ports[0]}")
    assert not servers.by_task


@pytest.mark.asyncio
async def test_rubbish_costs_only_its_connection(servers: TaskServers) -> None:
    server = await start(servers)
    for rubbish in (b"\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"x" * 100_000):
        reader, writer = await asyncio.open_connection(HOST, server.ports[0])
        writer.write(rubbish)
        writer.write_eof()
        try:
            assert await reader.read() == b""
        except ConnectionError:
            pass  # it closed while we sent
        writer.close()
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{server.ports[0]}") as response:
        assert response.status == 200
