"""GET /v1/demand, over the real HTTP server."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from lb7 import demand
from lb7.demand import MOST_FOLLOWERS, EdgeDemand
from lb7.demand_api import DOCUMENTED, routes
from lb7.demand_shapes import read_block
from mesos_dns.api_document import document
from tests.fakes.api import Asking, context_of
from tests.fakes.counting_edge import Edge

pytestmark = pytest.mark.asyncio

WATCH = "/v1/demand?watch=true"


def asking(found: EdgeDemand | None) -> Asking:
    context = context_of()
    context.documented = DOCUMENTED
    return Asking(context, more=routes(context, lambda: found))


async def test_once() -> None:
    edge = Edge("/a:1")
    edge.count("/a:1", 2)
    async with asking(edge.demand) as api:
        for path in ("/v1/demand", "/v1/demand/", "/v1/demand?watch=false"):
            found = await api.json(path)
            assert found["edge"] == "e1"
            assert [(row["cluster_name"], row["requests"]) for row in found["apps"]] == [("/a:1", 2)]
        assert (await api.ask("/v1/demand", accept="text/html"))[0] == 406
        assert (await api.ask("/v1/demand?watch=yes"))[0] == 400


async def test_without_an_edge() -> None:
    async with asking(None) as api:
        status, _, text = await api.ask("/v1/demand")
        assert status == 404, text


async def test_as_lines() -> None:
    edge = Edge("/a:1")
    async with asking(edge.demand) as api:
        async with api.session.get(api.url(WATCH)) as answer:
            assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
            first = read_block((await answer.content.readline()).strip())
            assert first.whole
            edge.demand.held("/a:1")
            second = read_block((await answer.content.readline()).strip())
            assert second.apps[0].held == 1
        async with asyncio.timeout(60):
            while edge.demand.followers:
                await asyncio.sleep(0.01)


async def test_who_may_not_follow() -> None:
    edge = Edge("/a:1")
    async with asking(edge.demand) as api:
        assert (await api.ask(WATCH, Origin="http://pages.example.com"))[0] == 403
        followers = [await api.session.get(api.url(WATCH)) for _ in range(MOST_FOLLOWERS)]
        for each in followers:
            await each.content.readline()
        status, _, text = await api.ask(WATCH)
        assert (status, text) == (503, "503: as many followers as there may be")
        assert (await api.ask("/v1/demand"))[0] == 200
        for each in followers:
            each.close()
        api.context.draining = True
        assert (await api.ask(WATCH))[0] == 503


async def test_who_takes_nothing_is_cut_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "EVERY", 0.001)
    names = [f"/{'x' * 200}{number}:1" for number in range(400)]
    edge = Edge(*names)
    async with asking(edge.demand) as api:
        host, port = api.server.part_addresses()["api"][0]
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
        writer.write(f"GET {WATCH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(60):
            while not edge.demand.dropped or edge.demand.followers:
                for name in names:
                    edge.count(name, 1)
                await asyncio.sleep(0.001)
        writer.close()
        assert (await api.ask("/v1/demand"))[0] == 200


async def test_at_the_end_followers_are_cut() -> None:
    edge = Edge("/a:1")
    async with asking(edge.demand) as api:
        async with api.session.get(api.url(WATCH)) as answer:
            await answer.content.readline()
            edge.demand.close()
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()


async def test_it_is_documented() -> None:
    whole = document("1", beside=DOCUMENTED)
    OpenAPIV31SpecValidator(whole).validate()
    content = whole["paths"]["/v1/demand"]["get"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/DemandBlock"}
    told = read_block(json.dumps(content["example"]).encode())
    assert set(content["example"]) == set(told.__struct_fields__)
