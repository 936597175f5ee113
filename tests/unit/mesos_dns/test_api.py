"""The API's routes: status codes, parameters, readiness, and what is cut short."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from mesos_dns import api, api_stream
from mesos_dns.api import accepts_json
from mesos_dns.catalog import Catalog
from mesos_dns.config import ApiConfig
from mesos_dns.zone import ZoneView
from tests.fakes.api import LOOPBACK, Asking, context_of
from tests.fakes.questions import task

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("accept", "fits"),
    [
        ("", True),
        ("*/*", True),
        ("text/html, application/*;q=0.8", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html", False),
        ("text/html, */*;q=0", False),
        ("application/json;q=0.000, text/plain", False),
    ],
)
async def test_accept(accept: str, fits: bool) -> None:
    assert accepts_json(accept) is fits


async def test_statuses_of_mesos_dns() -> None:
    async with Asking(context_of()) as asking:
        assert await asking.ask("/v1/hosts/leader.mesos/ports") == (
            501,
            "text/plain; charset=utf-8",
            "To be implemented...",
        )
        for path in ("/", "/v1", "/v1/", "/v1/hosts/", "/v1/services/", "/v1/config", "/v1/nope"):
            assert await asking.ask(path) == (404, "text/plain; charset=utf-8", "404: Page Not Found")
        for path in ("/v1/version", "/v1/axfr/", "/v1/enumerate", "/v1/hosts/a", "/v1/services/a", "/v1/tasks"):
            assert (await asking.ask(path, "POST"))[::2] == (405, "405: Method Not Allowed")
            assert (await asking.ask(path, "HEAD"))[0] == 405
            assert (await asking.ask(path, accept="text/html"))[::2] == (406, "406: Not Acceptable")
            assert (await asking.ask(path))[0] == 200


async def test_nothing_is_absent_before_anybody_said_what_runs() -> None:
    context = context_of()
    context.view.known = lambda: False
    async with Asking(context) as asking:
        for path in ("/v1/hosts/a", "/v1/services/a", "/v1/tasks", "/v1/enumerate", "/v1/axfr", "/v1/records"):
            assert (await asking.ask(path))[::2] == (503, "503: nobody has said yet what runs in the cluster")
        assert (await asking.ask("/v1/version"))[0] == 200
        context.view.known = lambda: True
        assert (await asking.ask("/v1/hosts/a"))[0] == 200


async def test_version_says_who_it_is() -> None:
    async with Asking(context_of()) as asking:
        version = await asking.json("/v1/version")
        assert version == {"Service": "Pharos", "URL": "", "Version": asking.context.version}


async def test_odd_names_are_looked_up_and_not_found() -> None:
    async with Asking(context_of()) as asking:
        for name in ("%7Bx%7D.mesos", "%00.mesos", "%ff.mesos", "a%2Fb.mesos", "%C3%A9.mesos", "x" * 300, "a..mesos"):
            assert await asking.json(f"/v1/hosts/{name}") == [{"host": "", "ip": ""}]


async def test_enumeration_may_be_off() -> None:
    async with Asking(context_of(), ApiConfig(listen=LOOPBACK, enumeration=False)) as asking:
        for path in ("/v1/axfr", "/v1/enumerate", "/v1/axfr/"):
            assert (await asking.ask(path))[0] == 404
        assert "/v1/axfr" not in (await asking.json("/openapi.json"))["paths"]


async def test_tasks_are_filtered_and_paged() -> None:
    tasks = [task(n, name=name) for n, name in enumerate(("web", "db.prod", "web", "web"))]
    async with Asking(context_of(*tasks, task(9, name="batch", state="TASK_STAGING"))) as asking:

        async def ids(query: str) -> list[str]:
            return [row["id"] for row in await asking.json(f"/v1/tasks?{query}")]

        assert await ids("") == ["web.0", "db.prod.1", "web.2", "web.3", "batch.9"]
        assert await ids("app=web") == ["web.0", "web.2", "web.3"]
        assert await ids("app=/prod/db") == ["db.prod.1"]
        assert await ids("app=web&limit=1&offset=1") == ["web.2"]
        assert await ids("offset=4") == ["batch.9"]
        assert await ids("state=staging") == ["batch.9"]
        assert await ids("framework=marathon&state=TASK_RUNNING&limit=2") == ["web.0", "db.prod.1"]
        assert await ids("framework=f-1&limit=0&app=batch.9") == ["batch.9"]
        assert await ids("framework=nope") == []


@pytest.mark.parametrize("query", ["limit=-1", "limit=a", "offset=1.5", "offset=99999999999", "limit=", "limit=%D9%A3"])
async def test_bad_numbers_are_refused(query: str) -> None:
    async with Asking(context_of()) as asking:
        status, _, text = await asking.ask(f"/v1/tasks?{query}")
        assert status == 400
        assert text == f"400: {query.partition('=')[0]}: expected a number from 0 to 2147483647"


async def test_readiness() -> None:
    async with Asking(context_of(synced=False)) as asking:
        assert (await asking.ask("/livez"))[::2] == (200, "ok")
        assert (await asking.ask("/healthz"))[::2] == (200, "ok")
        status, _, body = await asking.ask("/readyz")
        assert (status, json.loads(body)["ready"]) == (503, False)
        asking.context.catalog.mark("mesos", connected=True, synced=True, detail="following")
        ready = await asking.json("/readyz")
        assert ready["sources"] == [
            {
                "name": "mesos",
                "connected": True,
                "synced": True,
                "restored": False,
                "stale": False,
                "age_seconds": 0.0,
                "detail": "following",
            }
        ]
        asking.context.catalog.mark("mesos", connected=False, detail="gone")
        stale = await asking.json("/readyz")
        assert (stale["ready"], stale["sources"][0]["stale"]) == (True, True)
        asking.server.drain()
        status, _, body = await asking.ask("/readyz")
        assert (status, json.loads(body)["draining"]) == (503, True)
        assert (await asking.ask("/v1/version"))[0] == 200


async def test_half_a_document_is_never_taken_for_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(view: ZoneView, catalog: Catalog) -> AsyncIterator[bytes]:
        yield b"[" + b" " * api_stream.PIECE_BYTES
        raise RuntimeError("in the middle")

    monkeypatch.setattr(api_stream, "transferred", broken)
    async with Asking(context_of()) as asking:
        with pytest.raises(aiohttp.ClientError):
            await asking.ask("/v1/axfr")
        assert (await asking.ask("/v1/version"))[0] == 200


async def test_only_some_whole_tables_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    going, most, gate = 0, 0, asyncio.Event()

    async def slow(view: ZoneView, catalog: Catalog) -> AsyncIterator[bytes]:
        nonlocal going, most
        going += 1
        most = max(most, going)
        if most == 2:
            asyncio.get_running_loop().call_later(0.05, gate.set)
        await gate.wait()
        yield b"{}"
        going -= 1

    monkeypatch.setattr(api_stream, "transferred", slow)
    async with Asking(context_of()) as asking:
        answers = await asyncio.gather(*(asking.json("/v1/axfr") for _ in range(5)))
    assert (answers, most) == ([{}] * 5, 2)


async def test_readers_that_take_nothing_keep_nobody_from_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(view: ZoneView, catalog: Catalog) -> AsyncIterator[bytes]:
        while True:
            yield b" " * api_stream.PIECE_BYTES

    async def short(view: ZoneView) -> AsyncIterator[bytes]:
        yield b"{}"

    monkeypatch.setattr(api, "STALL_SECONDS", 0.1)
    monkeypatch.setattr(api_stream, "transferred", endless)
    monkeypatch.setattr(api_stream, "enumerated", short)
    async with Asking(context_of()) as asking:
        host, port = asking.server.part_addresses()["api"][0]
        readers = [await asyncio.open_connection(host, port, limit=1) for _ in range(2)]
        for _, writer in readers:
            writer.write(b"GET /v1/axfr HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            while not asking.context.enumerations.locked():
                await asyncio.sleep(0.001)
            long_name = f"/v1/hosts/{'a' * 60}.marathon.mesos"
            assert await asking.json(long_name) == [{"host": "", "ip": ""}]
            assert await asking.json("/v1/enumerate") == {}
        for _, writer in readers:
            writer.close()


async def test_metrics_are_served() -> None:
    async with Asking(context_of(task(1))) as asking:
        await asking.ask("/v1/hosts/a.mesos")
        status, kind, text = await asking.ask("/metrics")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'pharos_api_requests_total{endpoint="/v1/hosts/{host}",status="200"} 1.0' in text
        assert "process_cpu_seconds_total" in text
