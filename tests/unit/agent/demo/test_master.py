"""A simulated master over HTTP answers as the recorded ones: leaders, followers, bad requests, credentials."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from agent.demo.simulation import SimulatedCluster
from tests.unit.agent.demo.shapes import recording

HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
JSON = {"Accept": "application/json"}


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[SimulatedCluster]:
    async with SimulatedCluster(masters=3, hosts=HOSTS) as found:
        found.cluster.add_agent("127.0.0.21")
        yield found


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


Answer = tuple[int, dict[str, str], str]


async def ask(session: aiohttp.ClientSession, method: str, url: str, **options: object) -> Answer:
    """Status, headers and body."""
    options.setdefault("allow_redirects", False)
    async with session.request(method, url, **options) as response:  # type: ignore[arg-type]
        return response.status, dict(response.headers), await response.text()


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/state", "/slaves", "/frameworks", "/state-summary", "/tasks"])
async def test_a_follower_sends_to_the_leader(sim: SimulatedCluster, http: aiohttp.ClientSession, path: str) -> None:
    leader = sim.masters[0].address
    for asked in (path, f"/master{path}"):
        status, headers, text = await ask(http, "GET", sim.urls[1] + asked)
        assert (status, headers["Location"], text) == (307, f"//{leader}/master{path}", "")
        status, headers, _ = await ask(http, "GET", sim.urls[0] + asked)
        assert (status, headers["Content-Type"]) == (200, "application/json")


@pytest.mark.asyncio
async def test_redirects_of_the_api_and_of_redirect(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    leader = sim.masters[0].address
    found = await ask(http, "POST", sim.urls[1] + "/api/v1", json={"type": "GET_HEALTH"}, headers=JSON)
    assert (found[0], found[1]["Location"]) == (307, f"//{leader}/master/api/v1")
    for url in sim.urls:
        status, headers, _ = await ask(http, "GET", url + "/redirect")
        assert (status, headers["Location"]) == (307, f"//{leader}")


@pytest.mark.asyncio
async def test_without_a_leader_nobody_answers_for_it(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    await sim.lose_leader()
    for path in ("/state", "/redirect"):
        assert (await ask(http, "GET", sim.urls[0] + path))[0] == 503
    assert (await ask(http, "GET", sim.urls[0] + "/health"))[0] == 200


@pytest.mark.asyncio
async def test_recorded_refusals(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    url = sim.urls[0] + "/api/v1"
    json_type = {"Content-Type": "application/json"}
    text = "text/plain; charset=utf-8"

    async def post(data: bytes, headers: dict[str, str]) -> Answer:
        return await ask(http, "POST", url, data=data, headers=headers, skip_auto_headers=("Content-Type",))

    refused = await post(b"{}", {})
    assert (refused[0], refused[1]["Content-Type"]) == (400, text)
    assert refused[2] == "Expecting 'Content-Type' to be present"
    refused = await post(b'{"type":"GET_HEALTH"}', json_type | {"Accept": "text/html"})
    assert refused[0] == 406
    assert refused[2] == "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
    for data in (b'{"type":7}', b"{}", b'{"type":"NO-SUCH"}'):
        refused = await post(data, json_type)
        assert (refused[0], refused[2]) == (400, "Failed to validate master::Call: Expecting 'type' to be present")
    refused = await post(b'{"type"', json_type)
    assert (refused[0], refused[2]) == (400, "Failed to parse body into JSON: syntax error at line 1 near: ")
    refused = await post(b'{"type":"GET_METRICS"}', json_type)
    assert refused[0] == 400
    assert refused[2] == "Failed to validate master::Call: Expecting 'get_metrics' to be present"
    refused = await ask(http, "GET", url)
    assert (refused[0], refused[1]["Allow"]) == (405, "POST")
    assert refused[2] == "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."
    refused = await ask(http, "GET", sim.urls[0] + "/state.json")
    assert (refused[0], refused[2]) == (404, "404 Not Found.")


@pytest.mark.asyncio
async def test_version_and_health(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    async with http.get(sim.urls[1] + "/version") as response:
        assert await response.json() == recording("version.json")
    status, headers, text = await ask(http, "GET", sim.urls[1] + "/health")
    assert (status, headers["Content-Length"], text) == (200, "0", "")


@pytest.mark.asyncio
async def test_basic_authentication(http: aiohttp.ClientSession) -> None:
    good, bad = basic("ops", "s3cret"), basic("ops", "wrong")
    async with SimulatedCluster(credentials=("ops", "s3cret")) as sim:
        url = sim.urls[0]
        call = {"type": "GET_HEALTH"}
        for headers in ({}, bad, {"Authorization": "Basic !!"}, {"Authorization": "Bearer x"}):
            status, got, text = await ask(http, "GET", url + "/state", headers=headers)
            assert (status, text) == (401, "401 Unauthorized.")
            assert got["WWW-Authenticate"] == 'Basic realm="mesos-master-readonly"'
            status, got, _ = await ask(http, "POST", url + "/api/v1", json=call, headers=JSON | headers)
            assert (status, got["WWW-Authenticate"]) == (401, 'Basic realm="mesos-master-readwrite"')
        assert (await ask(http, "GET", url + "/state", headers=good))[0] == 200
        assert (await ask(http, "POST", url + "/api/v1", json=call, headers=JSON | good))[0] == 200
        for path in ("/health", "/version"):
            assert (await ask(http, "GET", url + path))[0] == 200


@pytest.mark.asyncio
async def test_unavailable(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    sim.faults.unavailable = "recovering"
    found = await ask(http, "GET", sim.urls[0] + "/state")
    assert (found[0], found[2]) == (503, "Master has not finished recovery")
    sim.faults.unavailable = "json"
    async with http.get(sim.urls[0] + "/state") as response:
        assert response.status == 503
        assert (await response.json())["slaves"] == []


@pytest.mark.asyncio
async def test_truncated_wrong_and_mislabelled_bodies(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    whole = (await ask(http, "GET", sim.urls[0] + "/state"))[2]
    sim.faults.truncate = True
    assert (await ask(http, "GET", sim.urls[0] + "/state"))[2] == whole[: len(whole) // 2]
    sim.faults.clear()
    sim.faults.wrong = True
    async with http.get(sim.urls[0] + "/state") as response:
        assert (await response.json())["slaves"] == 7
    sim.faults.clear()
    sim.faults.content_type = "text/html"
    sim.faults.piece = 100
    status, headers, text = await ask(http, "GET", sim.urls[0] + "/state")
    assert (status, headers["Content-Type"], text) == (200, "text/html", whole)


@pytest.mark.asyncio
async def test_an_empty_master(sim: SimulatedCluster, http: aiohttp.ClientSession) -> None:
    sim.faults.empty = True
    async with http.get(sim.urls[0] + "/state") as response:
        assert (await response.json())["slaves"] == []
    async with http.post(sim.urls[0] + "/api/v1", json={"type": "GET_STATE"}, headers=JSON) as response:
        assert (await response.json())["get_state"]["get_agents"]["agents"] == []


@pytest.mark.asyncio
async def test_a_stalled_master_takes_requests_and_never_answers(
    sim: SimulatedCluster, http: aiohttp.ClientSession
) -> None:
    sim.faults.stall = True
    asked = asyncio.create_task(ask(http, "GET", sim.urls[0] + "/state"))
    done, _ = await asyncio.wait({asked}, timeout=0.05)
    assert not done
    assert sim.masters[0].requests == {"/state": 1}
    asked.cancel()


@pytest.mark.asyncio
async def test_a_stopped_master_refuses_and_comes_back_at_its_address(
    sim: SimulatedCluster, http: aiohttp.ClientSession
) -> None:
    url = sim.urls[0]
    await sim.masters[0].stop()
    assert not sim.masters[0].running
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(http, "GET", url + "/health")
    await sim.masters[0].start()
    assert sim.urls[0] == url
    assert (await ask(http, "GET", url + "/health"))[0] == 200
