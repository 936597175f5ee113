"""What becomes of a change by what Marathon tells of the app."""

from __future__ import annotations

import pytest

from lb7.autoscale.changes import Change, Remove, Request, Resize, Scale, app_path
from lb7.autoscale.marathon_told import ToldApp
from lb7.autoscale.outcome import Result

TASKS = {"a": "v", "b": "v", "c": "v"}
UP, DOWN = Scale("/web", 3, 5), Remove("/web", 3, ("a", "b"))
LARGER = Resize("/web", 0.5, 64)


def told(instances: int = 3, **more: object) -> ToldApp:
    return ToldApp("/web", instances, cpus=0.1, mem=64.0, tasks=more.pop("tasks", TASKS), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "app", "result"),
    [
        (UP, told(), None),
        (UP, told(5), "done"),
        (UP, told(5, deployments=("d",)), "done"),
        (UP, told(4), "changed"),
        (UP, told(deployments=("d", "e")), "locked"),
        (Scale("/web", 3, 2, 2), told(), "changed"),
        (Scale("/web", 3, 2, 2), told(tasks={"a": "v", "b": "v"}), None),
        (DOWN, told(), None),
        (DOWN, told(1, tasks={"c": "v"}), "done"),
        (DOWN, told(1, deployments=("d",)), "done"),  # being killed now
        (DOWN, told(1), "changed"),  # somebody else chose others
        (DOWN, told(2), "changed"),
        (DOWN, told(tasks={"a": "v", "c": "v", "d": "v"}), "changed"),
        (DOWN, told(deployments=("d",)), "locked"),
        (Remove("/web", 3, ()), told(), "changed"),
        (LARGER, told(), None),
        (Resize("/web", 0.1), told(), "done"),
        (LARGER, told(deployments=("d",)), "locked"),
        (LARGER, told(min_health=0.0), "refused"),
        (Resize("/web"), told(), "refused"),
        (Resize("/web", mem=-1), told(deployments=("d",)), "refused"),
    ],
)
def test_verdicts(change: Change, app: ToldApp, result: Result | None) -> None:
    verdict = change.verdict(app)
    assert (verdict and verdict.result) == result
    if verdict is not None:
        assert verdict.text
        assert verdict.instances == app.instances
        assert verdict.retry_after == {"locked": 5, "refused": 60}.get(verdict.result, 0)
        assert verdict.deployment == (app.deployments[0] if app.deployments and result != "refused" else "")


def test_requests() -> None:
    assert UP.request() == Request("PUT", "/v2/apps/web", b'{"instances":5}')
    assert DOWN.request() == Request("POST", "/v2/tasks/delete?scale=true", b'{"ids":["a","b"]}')
    assert Resize("/web", mem=64).request().body == b'{"mem":64}'


def test_ids_are_never_taken_apart() -> None:
    assert app_path("/my_app") == "/v2/apps/my_app"
    assert app_path("/a.b/c-d") == "/v2/apps/a.b/c-d"
    assert app_path("/a%2fb?c#d") == "/v2/apps/a%252fb%3Fc%23d"


def test_what_is_done() -> None:
    assert (UP.done(told(), "d").instances, DOWN.done(told(), "d").instances) == (5, 1)
    assert "no check" in LARGER.done(told(), "d").text
    assert not LARGER.done(told(checked=True), "d").text
