"""Pods of the simulated Marathon: tasks, JSON, HTTP, events."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from agent.demo.cluster import Cluster
from agent.demo.marathon import Marathon
from agent.demo.marathon_apps import BadApp
from agent.demo.marathon_pods import pod_json
from tests.fakes.marathon import Marathons

POD: dict[str, Any] = {
    "id": "/team/front",
    "labels": {"a": "b"},
    "networks": [{"mode": "container/bridge"}],
    "scaling": {"kind": "fixed", "instances": 2},
    "containers": [
        {
            "name": "web",
            "endpoints": [{"name": "http", "containerPort": 80, "hostPort": 0}],
            "healthCheck": {"http": {"endpoint": "http", "path": "/"}},
        },
        {"name": "side"},
    ],
}


@pytest.fixture
def marathon(cluster: Cluster) -> Marathon:
    return Marathon(cluster, next(iter(cluster.frameworks.values())))


def test_a_pod_runs_at_once(cluster: Cluster, marathon: Marathon) -> None:
    pod = marathon.pods.put(POD)
    assert len(cluster.tasks) == 4
    web, side = pod.instances[0].tasks["web"], pod.instances[0].tasks["side"]
    assert (web.state, side.state) == ("TASK_RUNNING", "TASK_RUNNING")
    assert web.addresses == side.addresses  # one network for all containers
    assert web.id.endswith(".web.1")
    assert web.id.startswith(pod.instances[0].id)
    assert web.spec.labels == {"a": "b"}


def test_its_json(marathon: Marathon) -> None:
    pod = marathon.pods.put(POD)
    found = pod_json(pod)
    assert (found["id"], found["status"], len(found["instances"])) == ("/team/front", "STABLE", 2)
    web, side = found["instances"][0]["containers"]
    task = pod.instances[0].tasks["web"]
    assert web["containerId"] == task.id
    assert web["endpoints"] == [{"name": "http", "allocatedHostPort": task.host_ports[0]}]
    assert (web["conditions"][0]["value"], web["conditions"][0]["reason"]) == ("false", "health-unreported-by-mesos")
    assert side["conditions"] == []
    marathon.pods.set_health(pod, pod.instances[0], "web", True)
    web = pod_json(pod)["instances"][0]["containers"][0]
    assert (web["conditions"][0]["value"], web["conditions"][0]["reason"]) == ("true", "health-reported-by-mesos")


def test_fewer_instances_and_none(cluster: Cluster, marathon: Marathon) -> None:
    pod = marathon.pods.put(POD)
    assert marathon.pods.put({**POD, "scaling": {"instances": 1}}) is pod
    assert (len(pod.instances), len(cluster.tasks)) == (1, 2)
    marathon.pods.remove(pod)
    assert (pod.instances, len(cluster.tasks), marathon.pods.by_id) == ([], 0, {})


def test_what_is_no_pod(marathon: Marathon) -> None:
    with pytest.raises(BadApp, match="containers"):
        marathon.pods.put({"id": "/x"})


@pytest.mark.asyncio
async def test_over_http() -> None:
    async with Marathons() as marathon, aiohttp.ClientSession() as session:
        url = marathon.instances.urls[0] + "/v2/pods"

        async def ask(method: str, path: str = "", body: object = None) -> tuple[int, Any]:
            async with session.request(method, url + path, json=body) as answer:
                text = await answer.text()
                return answer.status, (await answer.json()) if text else None

        assert (await ask("HEAD"))[0] == 200
        assert await ask("POST", body=POD) == (201, POD)
        assert await ask("GET") == (200, [POD])
        assert (await ask("GET", "/team/front")) == (200, POD)
        statuses = (await ask("GET", "::status"))[1]
        assert statuses == [(await ask("GET", "/team/front::status"))[1]]
        assert (await ask("PUT", "/team/front", {**POD, "scaling": {"instances": 3}}))[0] == 200
        assert len((await ask("GET", "/team/front::status"))[1]["instances"]) == 3
        assert (await ask("DELETE", "/team/front"))[0] == 202
        status, found = await ask("GET", "/team/front::status")
        assert (status, found) == (404, {"message": "Pod '/team/front' does not exist"})
        assert (await ask("POST", body={"id": "/x"}))[0] == 422
        marathon.marathon.pods.enabled = False
        async with session.head(url) as answer:
            assert answer.status == 404
