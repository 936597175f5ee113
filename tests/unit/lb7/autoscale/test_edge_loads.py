"""How busy tasks are, from edges' routes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.edge_client import EdgeClient, EdgeError
from lb7.autoscale.edge_loads import EdgeLoads, ask, read, together
from mesos_dns.hosts import Hosts
from tests.fakes.telling_edge import TellingEdge


def server(task: str, active: int = 0, state: str = "up", address: str = "") -> dict[str, Any]:
    return {"address": address or f"{task}:1", "weight": 1, "state": state, "task": task, "active": active}


def routes(*servers: dict[str, Any], app: str = "/a", port: int = 1, table: str = "http") -> dict[str, Any]:
    return {"table": table, "host": "h", "kind": "route", "app": app, "port": port, "servers": list(servers)}


def loads_of(*rows: dict[str, Any], app: str = "/a") -> EdgeLoads:
    found = EdgeLoads({}, {})
    read(json.dumps(rows).encode(), app, found)
    return found


def test_a_server_counts_once_however_many_rows_have_it() -> None:
    found = loads_of(
        routes(server("t1", 2), server("t2", 1, "draining")),
        routes(server("t1", 3), table="https"),
        routes(server("t1", 4, address="t1:2"), port=2),
        routes(server("t9", 7), app="/other"),
        {"table": "http", "host": "h", "kind": "refused", "problems": ["x"]},
    )
    assert found.active == {"t1": 7, "t2": 1}
    assert found.states == {"t1": {"up"}, "t2": {"draining"}}


def test_edges_together() -> None:
    one = loads_of(routes(server("t1", 2, "draining"), server("t2", 1, "draining"), server("t3", 1, "down")))
    two = loads_of(routes(server("t1", 3, "draining"), server("t2", 1)))
    found = together([one, two], complete=True)
    assert found.active == {"t1": 5, "t2": 2, "t3": 1}
    assert found.draining == {"t1"}
    assert found.down == {"t3"}
    assert found.complete
    assert not together([one], complete=False).complete


def test_what_an_edge_does_not_know_wholly_is_not_complete() -> None:
    whole = loads_of(routes(server("t1") | {"counted": True}))
    part = loads_of(routes(server("t1") | {"counted": False}, server("t2") | {"counted": True}))
    assert together([whole], complete=True).complete
    assert not together([whole, part], complete=True).complete


def test_one_that_is_down_at_an_edge_and_drains_at_others_gets_nothing_new() -> None:
    one = loads_of(routes(server("t1", 0, "down"), server("t2", 0, "down"), server("t3", 0, "waking")))
    two = loads_of(routes(server("t1", 0, "draining"), server("t2", 0, "up"), server("t3", 0, "draining")))
    found = together([one, two], complete=True)
    assert (found.draining, found.down) == (frozenset(), {"t1"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        json.dumps([routes(server("t", -1))]).encode(),
        json.dumps([routes({"task": "t"})]).encode(),
        json.dumps([routes(server("t" * 1001))]).encode(),
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(EdgeError, match="malformed"):
        read(body, "/a", EdgeLoads({}, {}))


@pytest.mark.asyncio
async def test_an_edge_is_asked() -> None:
    hosts = Hosts()
    async with TellingEdge() as edge:
        client = EdgeClient(edge.url, AutoscaleConfig(), hosts)
        edge.routes = [routes(server("t1", 2))]
        assert (await ask(client, ["/a", "/b"])).active == {"t1": 2}
        assert edge.asked == ["/v1/routes?app=/a", "/v1/routes?app=/b"]
        await client.close()
    await hosts.close()
