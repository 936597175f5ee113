"""The simulated Marathon over HTTP: apps, tasks, deployments and their locks, the queue, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from agent.demo.cluster import Cluster
from agent.demo.marathon_api import MarathonApi
from agent.demo.marathon_deployments import DeployingMarathon

NEVER_HEALTHY = {"env": {"SIMULATE_HEALTH": "false"}}
APP = {"id": "/shop/web", "instances": 2, "labels": {"HAPROXY_GROUP": "external"}}
CHECKED = APP | {"healthChecks": [{"protocol": "MESOS_HTTP"}]}


class Client:
    """Asks one Marathon."""

    def __init__(self, marathon: DeployingMarathon, session: aiohttp.ClientSession, url: str) -> None:
        self.marathon = marathon
        self.session = session
        self.url = url

    async def __call__(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON."""
        options: dict[str, Any] = {} if body is None else {"json": body}
        async with self.session.request(method, self.url + path, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def settled(self) -> None:
        """Until no deployment is left."""
        async with asyncio.timeout(60):
            for deployment in tuple(self.marathon.deployments.values()):
                await deployment.done.wait()

    async def created(self, app: dict[str, Any] = APP) -> None:
        """An app that runs."""
        status, _ = await self("POST", "/v2/apps", app)
        assert status == 201
        await self.settled()


@pytest_asyncio.fixture
async def ask(cluster: Cluster) -> AsyncIterator[Client]:
    marathon = DeployingMarathon(cluster, next(iter(cluster.frameworks.values())), keep_alive=0.05)
    api = MarathonApi(marathon)
    await api.start()
    async with aiohttp.ClientSession() as session:
        yield Client(marathon, session, api.url)
    await api.stop()


@pytest.mark.asyncio
async def test_ping_info_and_leader(ask: Client) -> None:
    async with ask.session.get(ask.url + "/ping") as response:
        assert (response.status, await response.text()) == (200, "pong\n")
    _, info = await ask("GET", "/v2/info")
    assert (info["name"], info["frameworkId"]) == ("marathon", ask.marathon.framework.id)
    assert (await ask("GET", "/v2/leader"))[1]["leader"] == ask.url.removeprefix("http://")


@pytest.mark.asyncio
async def test_an_app_from_creation_to_removal(ask: Client) -> None:
    await ask.created()
    status, found = await ask("GET", "/v2/apps//shop/web")
    app = found["app"]
    assert (status, app["instances"], app["tasksRunning"], len(app["tasks"])) == (200, 2, 2, 2)
    task = app["tasks"][0]
    assert task["appId"] == "/shop/web"
    assert task["host"] in {agent.hostname for agent in ask.marathon.cluster.agents.values()}
    assert task["servicePorts"] == [app["portDefinitions"][0]["port"]]
    assert len(task["ports"]) == 1
    assert (await ask("POST", "/v2/apps", APP))[0] == 409
    status, result = await ask("DELETE", "/v2/apps/shop/web")
    assert status == 200
    assert set(result) == {"version", "deploymentId"}
    await ask.settled()
    status, found = await ask("GET", "/v2/apps/shop/web")
    assert (status, found["message"]) == (404, "App '/shop/web' does not exist")


@pytest.mark.asyncio
async def test_lists_and_what_they_embed(ask: Client) -> None:
    await ask.created()
    await ask.created({"id": "/other"})
    _, plain = await ask("GET", "/v2/apps")
    assert [app["id"] for app in plain["apps"]] == ["/shop/web", "/other"]
    assert all("tasks" not in app for app in plain["apps"])
    _, full = await ask("GET", "/v2/apps?embed=apps.counts&embed=apps.tasks")
    assert [len(app["tasks"]) for app in full["apps"]] == [2, 1]
    for query, names in (("label=HAPROXY_GROUP==external", ["/shop/web"]), ("id=oth", ["/other"]), ("label=x", [])):
        _, some = await ask("GET", f"/v2/apps?{query}")
        assert [app["id"] for app in some["apps"]] == names
    _, tasks = await ask("GET", "/v2/tasks")
    assert len(tasks["tasks"]) == 3
    assert (await ask("GET", "/v2/tasks?status=staging"))[1] == {"tasks": []}
    async with ask.session.get(ask.url + "/v2/tasks", headers={"Accept": "text/plain"}) as response:
        line = (await response.text()).split("\n")[0].split("\t")
    assert line[:2] == ["shop_web", str(full["apps"][0]["portDefinitions"][0]["port"])]
    assert len(line) == 4


@pytest.mark.asyncio
async def test_health_results_are_shown(ask: Client) -> None:
    await ask.created(CHECKED)
    (instance, _) = ask.marathon.apps["/shop/web"].instances.values()
    ask.marathon.set_health(instance, False)
    _, found = await ask("GET", "/v2/apps/shop/web")
    assert (found["app"]["tasksHealthy"], found["app"]["tasksUnhealthy"]) == (1, 1)
    results = [result["alive"] for task in found["app"]["tasks"] for result in task["healthCheckResults"]]
    assert sorted(results) == [False, True]


@pytest.mark.asyncio
async def test_a_lock_and_force(ask: Client) -> None:
    await ask.created(CHECKED)
    status, first = await ask("PUT", "/v2/apps/shop/web", NEVER_HEALTHY)
    assert status == 200
    status, refused = await ask("PUT", "/v2/apps/shop/web", {"instances": 3})
    assert status == 409
    assert refused["message"].startswith("App is locked by one or more deployments.")
    assert refused["deployments"] == [{"id": first["deploymentId"]}]
    _, deployments = await ask("GET", "/v2/deployments")
    assert [deployment["id"] for deployment in deployments] == [first["deploymentId"]]
    assert deployments[0]["affectedApps"] == ["/shop/web"]
    assert (await ask("GET", "/v2/apps/shop/web"))[1]["app"]["deployments"] == [{"id": first["deploymentId"]}]
    status, _ = await ask("PUT", "/v2/apps/shop/web?force=true", {"instances": 3, "env": {}})
    assert status == 200
    await ask.settled()
    assert len(ask.marathon.apps["/shop/web"].instances) == 3


@pytest.mark.asyncio
async def test_a_deployment_is_taken_back(ask: Client) -> None:
    await ask.created(CHECKED)
    _, first = await ask("PUT", "/v2/apps/shop/web", NEVER_HEALTHY)
    status, back = await ask("DELETE", f"/v2/deployments/{first['deploymentId']}")
    assert status == 200
    assert back["deploymentId"] != first["deploymentId"]
    await ask.settled()
    assert ask.marathon.apps["/shop/web"].definition.env == {}
    assert (await ask("DELETE", "/v2/deployments/none"))[0] == 404
    _, second = await ask("PUT", "/v2/apps/shop/web", NEVER_HEALTHY)
    assert await ask("DELETE", f"/v2/deployments/{second['deploymentId']}?force=true") == (202, None)


@pytest.mark.asyncio
async def test_what_waits_is_in_the_queue(ask: Client) -> None:
    for agent in tuple(ask.marathon.cluster.agents.values()):
        ask.marathon.cluster.remove_agent(agent)
    await ask("POST", "/v2/apps", APP)
    _, queue = await ask("GET", "/v2/queue")
    assert [(entry["app"]["id"], entry["count"]) for entry in queue["queue"]] == [("/shop/web", 2)]
    assert (await ask("DELETE", "/v2/queue//shop/web/delay"))[0] == 204


@pytest.mark.asyncio
async def test_killed_tasks_are_replaced_or_scaled_away(ask: Client) -> None:
    await ask.created()
    victim, kept = ask.marathon.apps["/shop/web"].instances
    status, found = await ask("DELETE", f"/v2/apps/shop/web/tasks/{victim}")
    assert (status, [task["id"] for task in found["tasks"]]) == (200, [victim])
    async with asyncio.timeout(60):
        while victim in ask.marathon.by_task or len(ask.marathon.apps["/shop/web"].instances) < 2:
            await ask.marathon.change()
    status, result = await ask("POST", "/v2/tasks/delete?scale=true", {"ids": [kept]})
    assert (status, set(result)) == (200, {"version", "deploymentId"})
    await ask.settled()
    app = ask.marathon.apps["/shop/web"]
    assert app.definition.instances == len(app.instances) == 1
    assert kept not in app.instances
    _, tasks = await ask("GET", "/v2/apps/shop/web/tasks")
    assert [task["id"] for task in tasks["tasks"]] == list(app.instances)


@pytest.mark.asyncio
async def test_exactly_the_tasks_that_are_named_are_scaled_away(ask: Client) -> None:
    await ask.created(APP | {"instances": 5})
    tasks = list(ask.marathon.apps["/shop/web"].instances)
    victims = [tasks[0], tasks[2], "shop_web.instance-none._app.1"]
    status, result = await ask("POST", "/v2/tasks/delete?scale=true", {"ids": victims})
    assert (status, set(result)) == (200, {"version", "deploymentId"})
    await ask.settled()
    app = ask.marathon.apps["/shop/web"]
    assert (app.definition.instances, list(app.instances)) == (3, [tasks[1], tasks[3], tasks[4]])
    assert (await ask("POST", "/v2/tasks/delete?scale=true", {"ids": ["none"]})) == (200, {"tasks": []})


@pytest.mark.asyncio
async def test_a_locked_app_loses_no_task(ask: Client) -> None:
    await ask.created(CHECKED)
    victim = next(iter(ask.marathon.apps["/shop/web"].instances))
    _, first = await ask("PUT", "/v2/apps/shop/web", {"env": {"SIMULATE_HEALTH": "false"}, "instances": 3})
    status, refused = await ask("POST", "/v2/tasks/delete?scale=true", {"ids": [victim]})
    assert (status, refused["deployments"]) == (409, [{"id": first["deploymentId"]}])
    assert victim in ask.marathon.apps["/shop/web"].instances


@pytest.mark.asyncio
async def test_an_app_whose_launches_are_held_back(ask: Client) -> None:
    await ask.created()
    ask.marathon.hold_back("/shop/web", 100)
    await ask("PUT", "/v2/apps/shop/web", {"instances": 3})
    (waiting,) = (await ask("GET", "/v2/queue"))[1]["queue"]
    assert (waiting["app"]["id"], waiting["count"], waiting["delay"]["overdue"]) == ("/shop/web", 1, False)
    assert 90 < waiting["delay"]["timeLeftSeconds"] <= 100
    assert (await ask("DELETE", "/v2/queue//shop/web/delay"))[0] == 204
    await ask.settled()
    assert len(ask.marathon.apps["/shop/web"].instances) == 3
    assert (await ask("GET", "/v2/queue"))[1] == {"queue": []}


@pytest.mark.asyncio
async def test_restart_and_put_of_a_new_app(ask: Client) -> None:
    assert (await ask("PUT", "/v2/apps/fresh", {"instances": 1}))[0] == 422  # nothing to run
    assert (await ask("PUT", "/v2/apps/fresh", {"instances": 1, "cmd": "serve"}))[0] == 201
    await ask.settled()
    before = set(ask.marathon.apps["/fresh"].instances)
    assert (await ask("POST", "/v2/apps/fresh/restart"))[0] == 200
    await ask.settled()
    assert not before & set(ask.marathon.apps["/fresh"].instances)
    assert len((await ask("GET", "/v2/apps/fresh/versions"))[1]["versions"]) == 1


@pytest.mark.asyncio
async def test_bad_requests(ask: Client) -> None:
    async with ask.session.post(ask.url + "/v2/apps", data=b"{") as response:
        assert response.status == 400
    status, refused = await ask("POST", "/v2/apps", {"id": "/x", "instances": "many"})
    assert status == 422
    assert "instances" in refused["details"][0]["errors"][0]
    assert (await ask("POST", "/v2/apps/none/restart"))[0] == 404
    assert (await ask("POST", "/v2/tasks/delete", {"ids": "x"}))[0] == 422


@pytest.mark.asyncio
async def test_events_of_a_scale_up(ask: Client) -> None:
    assert (await ask("GET", "/v2/events"))[0] == 405
    await ask.created(CHECKED)
    headers = {"Accept": "text/event-stream"}
    async with ask.session.get(ask.url + "/v2/events", headers=headers) as response:
        await response.content.readuntil(b"event_stream_attached")
        await ask("PUT", "/v2/apps/shop/web", {"instances": 3})
        kinds: list[str] = []
        async with asyncio.timeout(60):
            while "deployment_success" not in kinds:
                line = (await response.content.readline()).decode().strip()
                if line.startswith("event: "):
                    kinds.append(line.removeprefix("event: "))
    wanted = [
        "api_post_event",
        "deployment_info",
        "status_update_event",
        "status_update_event",
        "health_status_changed_event",
        "deployment_step_success",
        "deployment_success",
    ]
    assert kinds == wanted
