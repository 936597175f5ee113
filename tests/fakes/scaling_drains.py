"""Deciders of tests/fakes/scaling.py that really mark tasks as draining in their coordinator; requests never end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent.draining import Drains
from lb7.autoscale.acting import Go
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.provider import Loads
from lb7.autoscale.scaled_app import ScaledApp
from lb7.autoscale.shrink import Shrink
from mesos_dns.coordinate import Coordinator
from mesos_dns.model import App
from tests.fakes.scaling import EPOCH, Decider, Hands

DRAIN_TIMEOUT = 300.0


class Remover:
    """Has tasks of a world killed; the Remover Protocol."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    async def scale(self, app: App, before: int, after: int, go: Go, started: int | None) -> Outcome:
        """By number."""
        return await self._hands.scale(app, before, after, go)

    async def remove(self, app: App, before: int, victims: Sequence[str], go: Go) -> Outcome:
        """By name."""
        return await self._hands.scale(app, before, before - len(victims), go)


def marking(decider: Decider, coordinator: Coordinator | None = None) -> Decider:
    """The same decider, that marks tasks in its coordinator, or in this one."""

    async def loads(app: ScaledApp) -> Loads:
        return Loads({task.id: 1 for task in app.tasks}, complete=True)

    decider.edges.loads = loads  # type: ignore[method-assign]
    decider.scaler.around.shrink = Shrink(
        Remover(decider.hands),
        decider.edges,
        Drains(coordinator or decider.coordinator),
        DRAIN_TIMEOUT,
        clock=lambda: EPOCH + asyncio.get_running_loop().time(),
    )
    return decider
