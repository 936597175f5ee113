"""A decider that says what a test wants, and its `[admin]` on a loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agent.http import HttpServer
from agent.sections import AdminConfig, Config
from lb7.autoscale.api import Autoscale, admin_routes
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.shown import Shown, ShownAction, ShownApp, ShownDecision, ShownProposal
from tests.fakes.api import LOOPBACK, context_of

AT = 1_783_330_000.0


def shown_app(app: str = "/shop/web", **fields: Any) -> ShownApp:
    """One that went from 5 to 9."""
    policy = Policy(min=2, max=30, metrics=(Metric(kind="rps", target=100),))
    decision = ShownDecision(
        at=AT,
        instances=9,
        current=5,
        wanted=9,
        reason="up",
        text="5 → 9 (up): rps asks for 9",
        low=2,
        high=30,
        recommended=9,
        proposals=(ShownProposal("rps", "rps", 100.0, 820.0, 9, "⌈820 / 100⌉ = 9"),),
        steps=("rps asks for 9",),
    )
    known: dict[str, Any] = {
        "framework": "marathon",
        "cluster": "mesos",
        "told_by": "labels",
        "policy": msgspec.to_builtins(policy),
        "decision": decision,
        "action": ShownAction(AT + 1, 5, 9, "done"),
    }
    return ShownApp(app, **{**known, **fields})


class FakeAutoscale:
    """`apps` is what is scaled; `calls` what was asked; `fault` is raised by everything; `outcome` is what becomes of
    changes; `states` of a deployment, one after the other, the last one for good."""

    def __init__(self, *apps: ShownApp) -> None:
        self.apps = {app.app: app for app in apps}
        self.calls: list[tuple[Any, ...]] = []
        self.fault: Exception | None = None
        self.outcome = Outcome("done", instances=7, deployment="d-1")
        self.states: Iterator[str | Exception] = iter(())
        self.state: str | Exception = "finished"
        self.edges: tuple[dict[str, Any], ...] = ()

    async def shown(self, app_id: str = "") -> Shown:
        """What there is."""
        found = self._of(app_id) if app_id else tuple(self.apps.values())
        return Shown(leading=True, decider="server-1", edges=self.edges, apps=found)

    async def pause(self, app_id: str, paused: bool) -> None:
        """Noted, and shown from then on."""
        (app,) = self._of(app_id)
        self.calls.append(("pause", app_id, paused))
        self.apps[app_id] = msgspec.structs.replace(app, paused=paused)

    async def set_instances(self, app_id: str, instances: int) -> Outcome:
        """Noted."""
        self._of(app_id)
        self.calls.append(("set_instances", app_id, instances))
        return self.outcome

    async def resize(self, app_id: str, cpus: float | None, mem: float | None) -> Outcome:
        """Noted."""
        self._of(app_id)
        self.calls.append(("resize", app_id, cpus, mem))
        return self.outcome

    async def deployment(self, app_id: str, deployment: str) -> str:
        """The next state."""
        self._of(app_id)
        self.calls.append(("deployment", app_id, deployment))
        state = next(self.states, self.state)
        if isinstance(state, Exception):
            raise state
        return state

    def _of(self, app_id: str) -> tuple[ShownApp, ...]:
        if self.fault is not None:
            raise self.fault
        if app_id not in self.apps:
            raise LookupError(f"no app {app_id} is known")
        return (self.apps[app_id],)


@asynccontextmanager
async def admin_of(autoscale: Autoscale | None, **config: Any) -> AsyncIterator[str]:
    """The URL of an `[admin]` with its routes; `config` is the section's."""
    admin = AdminConfig(listen=LOOPBACK, **config)
    server = HttpServer(context_of(), Config(admin=admin), more_admin=admin_routes(lambda: autoscale))
    await server.start()
    try:
        host, port = server.part_addresses()["admin"][0]
        yield f"http://{host}:{port}"
    finally:
        await server.close(1)
