"""Calls beside the stream: the leader's own address, schedulers' pids from whichever page has them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from mesos_dns.config import MesosConfig
from mesos_dns.sources.mesos_calls import Calls, call
from mesos_dns.sources.mesos_client import MasterClient, MasterError
from tests.fakes.followed import Followed
from tests.fakes.mesos_master import FakeMaster
from tests.fakes.replay import Replay

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def calls(master: FakeMaster) -> AsyncIterator[Calls]:
    replay = Replay(Followed())
    async with MasterClient(MesosConfig(), replay.hosts, replay.counters) as client:
        yield Calls(client, f"http://{master.place}", MesosConfig(), replay.ledger, replay.hosts)
    assert replay.book.reads == []


def info(**members: Any) -> dict[str, Any]:
    return {"type": "GET_MASTER", "get_master": {"master_info": members}}


async def test_call() -> None:
    assert json.loads(call("SUBSCRIBE")) == {"type": "SUBSCRIBE"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (info(address={"ip": "10.1.1.1", "port": 5050, "hostname": "m1"}, pid="master@10.9.9.9:1"), ("10.1.1.1", 5050)),
        (info(address={"port": 5050, "hostname": "m1"}), ("m1", 5050)),
        (info(pid="master@10.9.9.9:1"), ("10.9.9.9", 1)),
        (info(), None),
        ({"get_master": None}, None),
        (None, None),
    ],
)
async def test_leader(answer: Any, expected: tuple[str, int] | None) -> None:
    async with FakeMaster() as master, calls(master) as asked:
        master.v1["GET_MASTER"] = answer
        assert await asked.leader() == (expected or ("127.0.0.1", master.port))


@pytest.mark.parametrize("path", ["/master/state-summary", "/state-summary", "/master/frameworks", "/frameworks"])
async def test_schedulers(path: str) -> None:
    async with FakeMaster() as master, calls(master) as asked:
        master.gets[path] = {"slaves": [{"id": "A"}], "frameworks": [{"id": "F", "pid": "s@10.0.0.1:5"}, {"id": 5}]}
        found = await asked.schedulers()
        assert [(id, framework.pid) for id, framework in found.items()] == [("F", "s@10.0.0.1:5")]


async def test_schedulers_are_nowhere() -> None:
    async with FakeMaster() as master, calls(master) as asked:
        with pytest.raises(MasterError, match="404"):
            await asked.schedulers()
        master.gets["/master/state-summary"] = {"error": "x"}
        with pytest.raises(MasterError, match="refused"):
            await asked.schedulers()


async def test_documents_of_another_master_are_refused() -> None:
    async with FakeMaster() as master, FakeMaster() as other, calls(master) as asked:
        other.v1["GET_AGENTS"] = {"type": "GET_AGENTS", "get_agents": {"agents": []}}

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"//{other.place}"})

        master.before = redirect
        with pytest.raises(MasterError, match="no longer leads"):
            await asked.agents()
