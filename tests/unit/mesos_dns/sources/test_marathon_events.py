"""Which apps and pods events of all versions touch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesos_dns.sources.marathon_events import Touched, known_type, touched_by
from mesos_dns.sources.marathon_stream import ServerEvent


def event(kind: str, **facts: Any) -> ServerEvent:
    return ServerEvent(kind, json.dumps({**facts, "eventType": kind}).encode())


ACTIONS = [{"action": "ScaleApplication", "app": "/a"}, {"action": "StartPod", "pod": "/p"}]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event("status_update_event", appId="/a", taskId="a.1", taskStatus="TASK_RUNNING"), Touched(apps={"/a"})),
        (event("health_status_changed_event", appId="/a", alive=True), Touched(apps={"/a"})),
        (event("app_terminated_event", appId="a"), Touched(apps={"/a"})),
        (event("api_post_event", uri="/v2/apps/a", appDefinition={"id": "/a", "ports": "odd"}), Touched(apps={"/a"})),
        (event("api_post_event", uri="/v2/groups"), Touched()),
        (event("instance_changed_event", runSpecId="/r", condition="Running"), Touched(runs={"/r"})),
        (event("instance_health_changed_event", runSpecId="/r", healthy=None), Touched(runs={"/r"})),
        (event("pod_created_event", uri="/v2/pods/x/y"), Touched(pods={"/x/y"})),
        (event("pod_updated_event", uri="http://m.example:8080/v2/pods//x::status?a=b"), Touched(pods={"/x"})),
        (event("pod_deleted_event", uri="/v2/pods"), Touched(pods_all=True)),
        (event("pod_deleted_event"), Touched(pods_all=True)),
        (event("deployment_success", plan={"steps": [{"actions": ACTIONS}]}), Touched(apps={"/a"}, pods={"/p"})),
        (event("deployment_info", plan={"steps": [ACTIONS]}), Touched(apps={"/a"}, pods={"/p"})),
        (event("deployment_info", plan={"steps": [ACTIONS[0]]}), Touched(apps={"/a"})),
        (event("deployment_step_success", plan={}, currentStep={"actions": ACTIONS[:1]}), Touched(apps={"/a"})),
        (event("deployment_failed", id="d1"), Touched(deployments={"d1"})),
        (event("deployment_failed", id="d1", plan={"steps": [7, {"actions": 7}, [7]]}), Touched(deployments={"d1"})),
        (event("event_stream_attached", remoteAddress="1.2.3.4"), Touched()),
        (event("failed_health_check_event", appId="/a"), Touched()),
        (event("of_the_future", appId="/a"), Touched()),
        (ServerEvent("of_the_future", b"no JSON at all"), Touched()),
        (ServerEvent("", b'{"eventType":"status_update_event","appId":"/a"}'), Touched(apps={"/a"})),
        (ServerEvent("", b'{"appId":"/a"}'), Touched()),
        (ServerEvent("status_update_event", b"", too_large=True), Touched(everything=True)),
    ],
)
def test_what_is_touched(told: ServerEvent, expected: Touched) -> None:
    assert touched_by(told) == expected


@pytest.mark.parametrize("data", [b"", b"{", b"7", b'{"appId":7}', b"\xff", b"[" * 5000])
def test_an_event_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="status_update_event"):
        touched_by(ServerEvent("status_update_event", data))


def test_types_are_counted_by_a_bounded_set_of_names() -> None:
    assert known_type(ServerEvent("status_update_event", b"")) == "status_update_event"
    assert known_type(ServerEvent("whatever", b"")) == "other"
