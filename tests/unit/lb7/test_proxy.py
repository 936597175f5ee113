"""lb7._proxy as the worker's program uses it: edges, fronts, their counts. Stories are in tests/conversation."""

from __future__ import annotations

import gc
import logging

import pytest

from lb7._lookup import Table
from lb7._proxy import Edge
from lb7.settings import Settings
from lb7.table import HostRules, RedirectRule
from tests.fakes.edged import HOST, edged, request, told, until
from tests.fakes.scripted_backend import OK, backend


def test_an_edge_and_its_fronts() -> None:
    log: list[object] = []
    edge = Edge(Settings(), log.append)
    front = edge.front("http", Table("http"), "host", False, 80)
    assert (front.name, front.port, front.tls, front.edge) == ("http", 80, False, edge)
    assert (edge.connections, edge.requests, edge.draining) == (0, 0, False)
    assert set(front.counts().values()) == set(edge.counts().values()) == {0}
    other = Table("other")
    front.table = other
    assert front.table is other
    with pytest.raises(ValueError):
        edge.front("http", other, "colour", False, 80)  # type: ignore[arg-type]
    edge.tick()
    edge.drain()
    assert edge.draining


def test_protocols_that_were_never_connected() -> None:
    edge = Edge(Settings(), print)
    front = edge.front("http", Table("http"), "host", False, 80)
    made = [front() for _ in range(10)]
    assert len({id(protocol) for protocol in made}) == 10
    del made
    assert edge.connections == 0


def test_time_passes_whatever_the_clock_does() -> None:
    edge = Edge(Settings(), print)
    for _ in range(10_000):
        edge.tick()
    assert edge.connections == 0


@told
async def test_counts() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        for _ in range(3):
            await client.ask()
        await client.send(request(host="nobody.example"))
        await client.answer()
        counts = edge.front.counts()
        assert (counts["accepted"], counts["open"], counts["requests"], counts["no_route"]) == (1, 1, 4, 1)
        assert counts["sent"] > 3 * len(OK)
        assert counts["received"] == sum(len(request(host=host)) for host in (HOST, HOST, HOST, "nobody.example"))
        whole = edge.edge.counts()
        assert (whole["accepted"], whole["connections"], whole["requests"], whole["requests_open"]) == (1, 1, 4, 0)
        assert whole["pooled"] == 1
        assert edge.cluster.counts_dict()["requests"] == 3


def alive(kind: str) -> int:
    """Connections of a kind that have not been freed; nothing is freed by looking."""
    return sum(type(one).__name__ == kind for one in gc.get_objects())


@told
async def test_nothing_is_left_of_connections() -> None:
    gc.collect()
    before = alive("ClientConnection"), alive("ServerConnection")
    gc.disable()  # reference counts alone have to do
    try:
        async with backend() as server, edged(server) as edge:
            for _ in range(5):
                client = await edge.client()
                for _ in range(20):
                    await client.ask("/x", method="PUT", body=b"y" * 10_000)
                client.close()
            await until(lambda: alive("ClientConnection") == before[0])
            assert alive("ServerConnection") == before[1] + 1
            await server.stop()
            await until(lambda: alive("ServerConnection") == before[1])
    finally:
        gc.enable()


@told
async def test_an_error_of_ours_closes_the_connection() -> None:
    async with backend() as server, edged(server) as edge:
        client = await edge.client()
        assert (await client.ask()).status == 200
        # An answer that can't be made: there is no such status.
        rule = RedirectRule(location="/x", status="odd")  # type: ignore[arg-type]
        edge.rules("broken.example", HostRules(redirects=(rule,)))
        logging.disable(logging.CRITICAL)
        try:
            await client.send(request(host="broken.example"))
            assert await client.rest() == b""
        finally:
            logging.disable(logging.NOTSET)
        assert edge.edge.counts()["error"] == 1
        assert (await edge.ask()).status == 200
