"""Each change that Marathon can be asked for: what must hold before, what is sent, and how to see that it happened."""

from __future__ import annotations

import math
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from lb7.autoscale.marathon_told import ToldApp
from lb7.autoscale.outcome import Outcome
from lb7.autoscale.resize import downtime, unfit_size

LOCKED_PAUSE = 5.0
REFUSED_PAUSE = 60.0
"""Seconds before another try."""


class Request(msgspec.Struct, frozen=True):
    """What is sent to Marathon."""

    method: str
    path: str
    body: bytes


class Change(Protocol):
    """A change of one app. Nothing here goes by what was decided before: only by what Marathon tells."""

    def verdict(self, told: ToldApp) -> Outcome | None:
        """What becomes of it without anything being sent; None: it is to be sent."""
        ...

    def request(self) -> Request:
        """What to send."""
        ...

    def happened(self, told: ToldApp) -> bool:
        """Whether it (or the same, asked for by somebody else) was done, where the app was not so before."""
        ...

    def done(self, told: ToldApp, deployment: str) -> Outcome:
        """It was accepted; `told` is the app as last read."""
        ...


def app_path(app_id: str) -> str:
    """The path of an app. Its id is never taken apart."""
    return "/v2/apps" + quote(app_id)


def locked(told: ToldApp) -> Outcome:
    """A deployment is under way."""
    ids = ", ".join(told.deployments)
    return Outcome("locked", f"deployment {ids} is under way", told.instances, told.deployments[0], LOCKED_PAUSE)


def refused(text: str, instances: int | None = None) -> Outcome:
    """Marathon, or what we know of it, says no."""
    return Outcome("refused", text, instances, retry_after=REFUSED_PAUSE)


def _under_way(told: ToldApp) -> str:
    return told.deployments[0] if told.deployments else ""


class Scale(msgspec.Struct, frozen=True):
    """Another number of instances; Marathon chooses which ones go. `started`: tasks that there may be at most, so that
    none of them goes."""

    app_id: str
    before: int
    after: int
    started: int | None = None

    def verdict(self, told: ToldApp) -> Outcome | None:
        """See Change."""
        if found := _sized(self, told):
            return found
        if self.started is not None and len(told.tasks) > self.started:
            return Outcome("changed", f"there are {len(told.tasks)} tasks, not {self.started}", told.instances)
        return None

    def request(self) -> Request:
        """See Change."""
        return _put(self.app_id, {"instances": self.after})

    def happened(self, told: ToldApp) -> bool:
        """See Change."""
        return told.instances == self.after

    def done(self, told: ToldApp, deployment: str) -> Outcome:
        """See Change."""
        return Outcome("done", "", self.after, deployment)


class Remove(msgspec.Struct, frozen=True):
    """These instances go for good."""

    app_id: str
    before: int
    victims: tuple[str, ...]

    @property
    def after(self) -> int:
        """How many are left."""
        return self.before - len(self.victims)

    def verdict(self, told: ToldApp) -> Outcome | None:
        """See Change. One that is gone or being killed is not replaced by another: that is decided anew."""
        if found := _sized(self, told):
            return found
        missing = [name for name in self.victims if name not in told.tasks]
        if missing or not self.victims or self.after < 0:
            return Outcome("changed", f"{len(missing)} of {len(self.victims)} tasks are gone", told.instances)
        return None

    def request(self) -> Request:
        """See Change."""
        return Request("POST", "/v2/tasks/delete?scale=true", msgspec.json.encode({"ids": list(self.victims)}))

    def happened(self, told: ToldApp) -> bool:
        """See Change."""
        gone = all(name not in told.tasks for name in self.victims)
        return bool(self.victims) and told.instances == self.after and (gone or bool(told.deployments))

    def done(self, told: ToldApp, deployment: str) -> Outcome:
        """See Change."""
        return Outcome("done", "", self.after, deployment)


class Resize(msgspec.Struct, frozen=True):
    """Other processors (`cpus`) and memory (`mem`, MiB) for each instance; None: as they are."""

    app_id: str
    cpus: float | None = None
    mem: float | None = None

    def verdict(self, told: ToldApp) -> Outcome | None:
        """See Change."""
        problem = unfit_size(self.cpus, self.mem)
        if problem:
            return refused(problem, told.instances)
        if self.happened(told):
            text = f"it has cpus {told.cpus:g} and mem {told.mem:g} already"
            return Outcome("done", text, told.instances, _under_way(told))
        if told.deployments:
            return locked(told)
        problem = downtime(told)
        return refused(problem, told.instances) if problem else None

    def request(self) -> Request:
        """See Change."""
        given = {"cpus": self.cpus, "mem": self.mem}
        return _put(self.app_id, {name: value for name, value in given.items() if value is not None})

    def happened(self, told: ToldApp) -> bool:
        """See Change."""
        pairs = ((self.cpus, told.cpus), (self.mem, told.mem))
        return all(wanted is None or math.isclose(wanted, there, abs_tol=1e-9) for wanted, there in pairs)

    def done(self, told: ToldApp, deployment: str) -> Outcome:
        """See Change."""
        text = "" if told.checked else "it has no check: a new instance counts as good as soon as it runs"
        return Outcome("done", text, told.instances, deployment)


def _put(app_id: str, body: dict[str, Any]) -> Request:
    return Request("PUT", app_path(app_id), msgspec.json.encode(body))


def _sized(change: Scale | Remove, told: ToldApp) -> Outcome | None:
    """What keeps the number of instances from being changed, whoever goes; None: nothing."""
    if change.happened(told):
        return Outcome("done", f"there are {change.after} already", told.instances, _under_way(told))
    if told.deployments:
        return locked(told)
    if told.instances != change.before:
        return Outcome("changed", f"there are {told.instances} instances, not {change.before}", told.instances)
    return None
