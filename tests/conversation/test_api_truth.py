"""The lookup API answers as the recorded mesos-dns did, for every recorded request of every case.

Deliberate differences, each in `deviation` or `taken_over`: who we are, what we never show without
access, names that mesos-dns lists and can't find, and reserved names that a framework can't take.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from agent.http import HttpServer
from agent.sections import Config
from mesos_dns.config import ApiConfig
from tests.conftest import REPOSITORY
from tests.fakes.recorded import Recorded

pytestmark = pytest.mark.asyncio

FORK = "rich-a-m3s-default"  # recorded from a fork that has SRV records below "slave" of its own
TAKEN_OVER = {"leader.mesos.": {"10.0.0.91"}, "slave.mesos.": {"10.0.0.90"}}
OURS = {"/metrics", "/healthz", "/v1/config", "/v1/version"}


def _cases() -> list[Path]:
    truth = REPOSITORY.parent / "shared" / "truth"
    patterns = ("mesos-dns/*/config.json", "upstream/mesos-dns/*/config.json")
    found = [path for pattern in patterns for path in truth.glob(pattern) if path.parent.name != FORK]
    return sorted(path.parent for path in [*(REPOSITORY / "tests/data").glob("mesos-dns/*/config.json"), *found])


class Api:
    """A case's API on a socket."""

    def __init__(self, recorded: Recorded, session: aiohttp.ClientSession, port: int) -> None:
        self.recorded = recorded
        self._session = session
        self._port = port

    async def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
        """(status, content type, body); the path goes out as it is written."""
        url = URL(f"http://127.0.0.1:{self._port}{path}", encoded=True)
        async with self._session.request(method, url, headers=headers) as response:
            return response.status, response.headers.get("Content-Type", ""), await response.text()

    async def json(self, path: str) -> Any:
        """The JSON of a path."""
        status, kind, body = await self.ask(path)
        assert (status, kind) == (200, "application/json")
        return json.loads(body)


@pytest_asyncio.fixture(params=_cases(), ids=lambda path: f"{path.parent.name}-{path.name}")
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """A running case."""
    recorded = Recorded(request.param)
    await recorded.load()
    enumeration = recorded.config.api.enumeration if recorded.config.api is not None else True
    listen = ApiConfig(listen=("127.0.0.1:0",), enumeration=enumeration)
    server = HttpServer(recorded.context, Config(api=listen))
    await server.start()
    async with aiohttp.ClientSession() as session:
        yield Api(recorded, session, server.addresses[0][1])
    await server.close(1)


def differs(row: dict[str, Any], rows: Any) -> bool:
    """True where a name in upper case, which mesos-dns lists and can't find, is found (RFC 4343)."""
    name = row["path"].rpartition("/")[2]
    return name != name.lower() and not rows[0].get("host")


def without_taken_over(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of mesos-dns without the addresses that a framework called leader or slave put there."""
    return [row for row in rows if row["ip"] not in TAKEN_OVER.get(row["host"], ())]


def same(row: dict[str, Any], expected: Any, got: Any) -> bool:
    """Equal as sets of rows. Of a service's rows mesos-dns picks one address at random: facts but it."""
    if row["path"].startswith("/v1/hosts/"):
        expected = without_taken_over(expected)
        return sorted(map(json.dumps, expected)) == sorted(map(json.dumps, got))
    if row["path"].startswith("/v1/services/"):
        return sorted(map(facts, expected)) == sorted(map(facts, got))
    return bool(expected == got)


def facts(row: dict[str, str]) -> tuple[str, str, str, bool]:
    """A service's row without which address of its family it was."""
    return row["service"], row["host"], row["port"], ":" in row["ip"]


async def test_every_recorded_request(api: Api) -> None:
    wrong: list[tuple[Any, ...]] = []
    for row in api.recorded.http:
        if row["path"].partition("?")[0].rstrip("/") in OURS and row["status"] in (200, 404):
            continue
        status, kind, body = await api.ask(row["path"], row["method"], row.get("req_headers"))
        if (status, kind) != (row["status"], row["content_type"]):
            wrong.append((row["method"], row["path"], row["status"], row["content_type"], status, kind))
        elif kind == "application/json":
            expected = row.get("json_sorted") or (json.loads(row["body"]) if row["body"][0] in "[{" else None)
            if expected is not None and not differs(row, expected) and not same(row, expected, json.loads(body)):
                wrong.append((row["path"], expected, body[:300]))
        elif body != row["body"]:
            wrong.append((row["path"], row["body"], body))
    assert wrong == []


async def test_the_addresses_of_services_are_those_of_their_hosts(api: Api) -> None:
    asked = [row for row in api.recorded.http if row["path"].startswith("/v1/services/_")]
    for row in asked[:60]:
        for found in await api.json(row["path"]):
            if found["host"]:
                hosts = await api.json(f"/v1/hosts/{found['host']}")
                assert found["ip"] in [host["ip"] for host in hosts]


async def test_axfr(api: Api) -> None:
    if api.recorded.axfr is None:
        return
    expected, got = api.recorded.axfr, await api.json("/v1/axfr")
    facts = ("TTL", "RefreshSeconds", "Mname", "Rname", "Domain")
    assert {key: got[key] for key in facts} == {key: expected[key] for key in facts}
    assert set(got) == set(expected)
    assert set(got["Records"]) == set(expected["Records"])
    wrong = []
    for kind, owners in expected["Records"].items():
        for owner in owners.keys() | got["Records"][kind].keys():
            recorded = set(owners.get(owner, ())) - TAKEN_OVER.get(owner, set())
            if recorded != set(got["Records"][kind].get(owner, ())):
                wrong.append((kind, owner, sorted(recorded)[:3], got["Records"][kind].get(owner)))
    assert wrong == []


async def test_enumerate(api: Api) -> None:
    if api.recorded.enumerate is None:
        return
    expected, got = api.recorded.enumerate, await api.json("/v1/enumerate")
    assert set(got) == set(expected)
    assert (got["frameworks"] is None) == (expected["frameworks"] is None)
    assert _by_task(got) == _by_task(expected)
    assert _records(got) == _records(expected)


def _by_task(enumeration: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    frameworks = enumeration["frameworks"] or ()
    return sorted((f["name"], sorted((t["name"], t["id"]) for t in f["tasks"])) for f in frameworks)


def _records(enumeration: dict[str, Any]) -> list[str]:
    """Every record with its framework; which of several tasks lists a shared one depends on their order."""
    frameworks = enumeration["frameworks"] or ()
    records = ((f["name"], r) for f in frameworks for t in f["tasks"] for r in t["records"] or ())
    return sorted(json.dumps([name, *sorted(record.items())]) for name, record in records)


async def test_a_record_is_enumerated_once(api: Api) -> None:
    if api.recorded.enumerate is None:
        return
    got = await api.json("/v1/enumerate")
    for framework in got["frameworks"] or ():
        for task in framework["tasks"]:
            assert set(task) == {"name", "id", "records"}
            assert task["records"] is None or task["records"]
    listed = [json.dumps(record) for f in got["frameworks"] or () for t in f["tasks"] for record in t["records"] or ()]
    assert len(listed) == len(set(listed))
