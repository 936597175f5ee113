"""What Marathon tells is read strictly."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7.autoscale.marathon_told import (
    MAX_REFUSAL,
    Accepted,
    ToldApp,
    read_accepted,
    read_app,
    read_deployments,
    read_framework,
    read_queue,
    read_refusal,
)

NAMES = st.sampled_from(["app", "id", "instances", "tasks", "deployments", "queue", "delay", "message", "details"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def app(**more: Any) -> bytes:
    return json.dumps({"app": {"id": "/web", "instances": 2, **more}}).encode()


def test_an_app() -> None:
    assert read_app(app()) == ToldApp("/web", 2)
    tasks = [
        {"id": "web.1", "state": "TASK_RUNNING", "version": "v1"},
        {"id": "web.2", "state": "TASK_KILLING"},
        {"id": "web.3"},
    ]
    told = read_app(
        app(
            cpus=0.5,
            mem=64,
            version="v2",
            deployments=[{"id": "d1"}],
            tasks=tasks,
            upgradeStrategy={"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0},
            versionInfo={"lastScalingAt": "v2", "lastConfigChangeAt": "v1"},
            healthChecks=[{"protocol": "HTTP"}],
        )
    )
    assert told.tasks == {"web.1": "v1", "web.3": ""}
    assert (told.deployments, told.min_health, told.over_capacity) == (("d1",), 0.5, 0.0)
    assert (told.scaled_at, told.configured_at, told.checked, told.resident) == ("v2", "v1", True, False)


def test_members_that_are_null_are_none() -> None:
    assert read_app(app(deployments=None, tasks=None, upgradeStrategy=None, container=None)) == ToldApp("/web", 2)


@pytest.mark.parametrize(
    "more",
    [
        {"container": {"volumes": [{"persistent": {"size": 10}}]}},
        {"residency": {"taskLostBehavior": "WAIT_FOREVER"}},
    ],
)
def test_volumes_that_stay(more: dict[str, Any]) -> None:
    assert read_app(app(**more)).resident
    assert not read_app(app(container={"volumes": [{"hostPath": "/x"}]})).resident


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"app":null}',
        b'{"apps":[]}',
        b"[" * 100_000,
        app(instances=-1),
        app(instances="2"),
        app(cpus=-0.5),
        app(tasks=[{"state": "TASK_RUNNING"}]),
        app(upgradeStrategy={"minimumHealthCapacity": -1}),
        b'{"app":{"id":"\xff","instances":1}}',
    ],
)
def test_what_is_no_app(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_app(body)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for read in (read_app, read_queue, read_deployments, read_framework, read_accepted):
        with contextlib.suppress(ValueError):
            read(body)
    assert len(read_refusal(body).text) <= MAX_REFUSAL + 2


def test_the_queue() -> None:
    waiting = [
        {"app": {"id": "/a"}, "delay": {"timeLeftSeconds": 12, "overdue": False}},
        {"app": {"id": "/b"}, "delay": {"timeLeftSeconds": 0, "overdue": True}},
        {"app": {"id": "/c"}, "delay": {"timeLeftSeconds": -5, "overdue": True}},
        {"pod": {"id": "/p"}, "delay": {"timeLeftSeconds": 9}},
        {"app": {"id": "/d"}},
        {"app": {"id": "/e"}, "delay": {"timeLeftSeconds": "soon"}},
        7,
    ]
    assert read_queue(json.dumps({"queue": waiting}).encode()) == {"/a": 12}
    with pytest.raises(ValueError):
        read_queue(b'{"queue":{}}')


def test_deployments_info_and_what_was_accepted() -> None:
    assert read_deployments(b'[{"id":"d1","steps":[]},{"id":"d2"}]') == {"d1", "d2"}
    assert (read_framework(b'{"frameworkId":"F1"}'), read_framework(b"{}")) == ("F1", "")
    assert read_accepted(b'{"version":"v","deploymentId":"d"}') == Accepted("d", "v")
    with pytest.raises(ValueError):
        read_accepted(b'{"version":"v"}')


def test_refusals() -> None:
    locked = read_refusal(b'{"message":"App is locked","deployments":[{"id":"d1"}]}')
    assert (locked.text, locked.locks) == ("App is locked", ("d1",))
    invalid = read_refusal(b'{"message":"Object is not valid","details":[{"path":"/","errors":["no"]}]}')
    assert invalid.text == 'Object is not valid: [{"path":"/","errors":["no"]}]'
    assert read_refusal(b"<html>\xff").text == "'<html>\ufffd'"
    assert len(read_refusal(b"x" * 5000).text) < 310
