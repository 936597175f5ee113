"""Clients and servers that do anything at any time: nothing is left over, and those who behave are served.

Seeded; PHAROS_SOAK makes it long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Any

import pytest

from tests.fakes.edged import Client, Edged, edged, request, told
from tests.fakes.scripted_backend import OK, Backend, Connection, Heard, Script, backend

ROUNDS = 400 if os.environ.get("PHAROS_SOAK") else 6
CLIENTS = 16


def disorder(chance: random.Random) -> Script:
    """A server that mostly answers, in one of many ways, and sometimes does something else."""

    async def script(connection: Connection, heard: Heard) -> None:
        body = b"z" * chance.choice([0, 1, 1000, 100_000])
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        kind = chance.randrange(14)
        if kind == 0:
            connection.close()
        elif kind == 1:
            connection.reset()
        elif kind == 2:
            await connection.send(whole[: chance.randrange(len(whole))])
            connection.close()
        elif kind == 3:
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            connection.close()
        elif kind == 4:
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n")
        elif kind == 5:
            await connection.send(b"nonsense\r\n\r\n")
        elif kind == 6:
            await connection.send(OK + OK)
        elif kind == 7:
            await asyncio.sleep(chance.random() * 0.4)
            await connection.send(OK)
        elif kind == 8:
            await connection.send(OK)
            connection.close()
        elif kind == 9:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n", whole + body)
        elif kind == 10:
            await connection.send(whole + body[: len(body) // 2])
            connection.reset()
        else:
            await connection.send(whole + body)

    return script


async def behaves(client: Client, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        answer = await client.ask("/x", method=chance.choice(["GET", "PUT", "HEAD", "POST"]), body=b"b" * 3000)
        if b"connection: close" in answer.head.lower():
            return


async def misbehaves(client: Client, chance: random.Random) -> None:
    kind = chance.randrange(7)
    whole = request("/y", method="POST", body=b"c" * chance.choice([0, 10, 200_000]))
    if kind == 0:
        await client.send(whole[: chance.randrange(len(whole))])
    elif kind == 1:
        await client.send(whole * 3)
        client.writer.write_eof()
        await client.rest()
    elif kind == 2:
        await client.send(chance.randbytes(100) + b"\r\n\r\n")
        await client.rest()
    elif kind == 3:
        await client.send(request("/z") * 30)
        await client.reader.read(100)
    elif kind == 4:
        await client.send(request("/e", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        await client.answer()
    elif kind == 5:
        await client.send(request("/u", "Connection: upgrade", "Upgrade: x") + b"more")
        await client.reader.read(10)
    else:
        await client.send(whole)
        await asyncio.sleep(chance.random() * 0.1)
    if chance.random() < 0.5:
        client.writer.transport.abort()


async def one_client(edge: Edged, chance: random.Random) -> None:
    client = await edge.client()
    with contextlib.suppress(OSError, EOFError, ValueError, RuntimeError):
        async with asyncio.timeout(20):
            await (behaves if chance.random() < 0.5 else misbehaves)(client, chance)
    client.close()


async def restarts(servers: list[Backend], chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.random() * 0.2)
        server = chance.choice(servers)
        await server.stop()
        await asyncio.sleep(chance.random() * 0.1)
        await server.start()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_disorder(seed: int) -> None:
    chance = random.Random(seed)
    settings: dict[str, Any] = {
        **{"connect_timeout": 0.5, "request_timeout": 0.5, "client_timeout": 0.5, "server_timeout": 0.5},
        **{"keep_alive_timeout": 0.5, "queue_timeout": 0.3, "server_keep_alive": 0.5, "eject_after": 5},
        **{"max_requests_per_server": chance.choice([0, 3]), "max_connections": chance.choice([8, 100])},
        **{"access_log": chance.choice([0.0, 1.0]), "eject_time": 0.1, "max_waiting": 10},
    }

    @told
    async def story() -> None:
        script = disorder(chance)
        async with backend({"": script}) as one, backend({"": script}) as two, backend({"": script}) as three:
            servers = [one, two, three]
            async with edged(*servers, cluster={"sticky": chance.choice(["", "sid"])}, **settings) as edge:
                trouble = asyncio.create_task(restarts(servers, chance))
                for _ in range(ROUNDS):
                    await asyncio.gather(*(one_client(edge, chance) for _ in range(CLIENTS)))
                trouble.cancel()
                await asyncio.gather(trouble, return_exceptions=True)
                for server in servers:
                    await server.stop()
                    server.scripts[""] = quiet
                    await server.start()
                assert "error" not in edge.edge.counts()
                assert edge.counted("status")[2] > 0
                # All is well again.
                await asyncio.sleep(0.3)
                assert {(await edge.ask()).status for _ in range(10)} == {200}

    story()


async def quiet(connection: Connection, heard: Heard) -> None:
    await connection.send(OK)
