"""Who carries out decisions: the Protocols that the decider goes by, and its other surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from lb7.autoscale.outcome import Outcome
from lb7.autoscale.provider import Demand
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.model import App, Key

Go: TypeAlias = Callable[[], bool]
"""Asked just before a change is sent, when all that may take long is over: whether it is still to be sent. Once it has
said so the change may be carried out, whatever becomes of the answer."""


def at_any_time() -> bool:
    """A Go that forbids nothing."""
    return True


class Actor(Protocol):
    """Asks an orchestrator for changes, each after it has looked whether the app is what was decided about. Nothing is
    raised for what the network or the orchestrator does."""

    async def scale(self, app: App, before: int, after: int, go: Go = at_any_time) -> Outcome:
        """Define the app to have `after` instances, if it has `before`."""
        ...

    async def resize(self, app: App, cpus: float | None, mem: float | None) -> Outcome:
        """Begin a rolling deployment with other processors and memory (MiB) for each instance; None: as it is."""
        ...

    async def deployment(self, app: App, deployment: str) -> str:
        """How a deployment is: "running", "finished" or "failed"."""
        ...

    async def delay(self, app: App) -> float:
        """Seconds until the orchestrator itself starts more of this app; 0: it does not wait."""
        ...


class Progress(Protocol):
    """How far tasks are emptied."""

    @property
    def state(self) -> str:
        """ "draining", then "sent": their removal is being asked for."""

    @property
    def tasks(self) -> int:
        """How many are to go."""

    @property
    def busy(self) -> int:
        """Requests that they still have."""


class Shrinker(Protocol):
    """Removes tasks once their requests have ended."""

    def progress(self, key: Key) -> Progress | None:
        """How far an app is; None: it is not being shrunk."""
        ...

    async def run(self, app: ScaledApp, before: int, after: int, still: Callable[[], bool], go: Go) -> Outcome:
        """From `before` to `after` instances. `still` is asked while tasks are emptied, `go` once, before anything is
        killed. Cancelled before that, or where one of them is False, the app is left as it was."""
        ...

    def has_left(self, key: Key) -> bool:
        """Whether tasks of an app may get nothing new though they are not to be removed: it could not be taken back."""
        ...

    async def release(self, app: App) -> None:
        """Let all tasks of an app get new requests, whoever wanted to empty them. Raises CoordinatorLost."""
        ...


class WatchedDemand(Demand, Protocol):
    """What the edges tell, and how they are."""

    def status(self) -> Sequence[Mapping[str, Any]]:
        """For each edge: "url", "edge", "state", "age" (seconds)."""
        ...
