"""Which tasks a VIP of the VIP file takes as its backends, and which port of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lb4.labels import BadLabel
from lb4.task_backends import PortUse, port_use
from lb4.vip import VipKey
from mesos_dns.model import Framework, Key, Port, Task, Vip, VipSelector


def app_names(app: str) -> frozenset[str]:
    """The task names that an app's name stands for: itself, and what Marathon makes of an id: "/prod/db" runs as
    "db.prod"."""
    parts = [part for part in app.split("/") if part]
    return frozenset((app, ".".join(reversed(parts)))) - {""}


def port_for(selector: VipSelector, protocol: str, task: Task, framework: Framework) -> PortUse | None:
    """The port by which a task serves a VIP of this protocol; None when it does not fit.

    That the task itself fits is known already (`SelectorIndex.candidates`). Discovery ports come first, then those of
    the task's resources. A discovery port fits when it has the name or number that is asked for, its protocol is the
    VIP's or none, and it has what labels the task itself lacks.
    """
    if selector.framework not in ("", framework.name, framework.id):
        return None
    missing = set(selector.labels).difference(task.labels)
    for port in _by_name_then_number(task.ports, selector.port):
        if missing.issubset(port.labels) and port.protocol.lower() in ("", protocol):
            try:
                return port_use(port, protocol)
            except BadLabel:  # no number by which anything can be reached
                continue
    if missing:
        return None
    for number in task.host_ports:
        if selector.port in ("", str(number)) and 0 < number < 65536:
            return PortUse(number, protocol, True)
    return None


def _by_name_then_number(ports: tuple[Port, ...], wanted: str) -> Iterable[Port]:
    if not wanted:
        return ports
    named = [port for port in ports if port.name == wanted]
    return named + [port for port in ports if port.name != wanted and str(port.number) == wanted]


class Chosen(NamedTuple):
    """A VIP of the VIP file with its key, and its selector with its labels as a set."""

    key: VipKey
    vip: Vip
    selector: VipSelector
    labels: frozenset[tuple[str, str]]


class SelectorIndex:
    """VIPs with selectors, found by a task: a task is tested against those that name its app, and those that name
    none."""

    def __init__(self) -> None:
        self._named: dict[str, dict[Key, Chosen]] = {}
        self._others: dict[Key, Chosen] = {}

    def __bool__(self) -> bool:
        return bool(self._named or self._others)

    def add(self, key: VipKey, vip: Vip) -> None:
        """Take in a VIP; one without a selector is left out."""
        selector = vip.selector
        if selector is None:
            return
        chosen = Chosen(key, vip, selector, frozenset(selector.labels))
        for name in app_names(selector.app):
            self._named.setdefault(name, {})[vip.key] = chosen
        if not selector.app:
            self._others[vip.key] = chosen

    def remove(self, vip: Vip) -> None:
        """Take out a VIP that was added."""
        for name in app_names(vip.selector.app) if vip.selector is not None else ():
            held = self._named.get(name, {})
            held.pop(vip.key, None)
            if not held:
                self._named.pop(name, None)
        self._others.pop(vip.key, None)

    def candidates(self, task: Task) -> list[Chosen]:
        """The VIPs that a task fits as far as it can be told without its framework."""
        found = self._named.get(task.name)
        if task.discovery_name != task.name and (more := self._named.get(task.discovery_name)):
            found = {**found, **more} if found else more
        chosen = [one for one in found.values() if _has_labels(task, one.labels)] if found else []
        if self._others:
            chosen += [one for one in self._others.values() if _has_labels(task, one.labels)]
        return chosen

    def fitting(self, tasks: Iterable[tuple[Key, Task]]) -> Iterator[Key]:
        """The keys of those tasks that have candidates (a pass over all tasks: for selectors that come or go)."""
        named, wanted = self._named, frozenset[tuple[str, str]]().union(*[one.labels for one in self._others.values()])
        any_task = not all(one.labels for one in self._others.values())
        for key, task in tasks:
            if (
                any_task
                or task.name in named
                or task.discovery_name in named
                or (wanted and (not wanted.isdisjoint(task.labels) or _has_some(task, wanted)))
            ):
                if self.candidates(task):
                    yield key


def _has_labels(task: Task, labels: frozenset[tuple[str, str]]) -> bool:
    """Whether a task, together with one of its ports, has all these labels."""
    if not labels:
        return True
    missing = labels.difference(task.labels)
    return not missing or any(missing.issubset(port.labels) for port in task.ports)


def _has_some(task: Task, labels: frozenset[tuple[str, str]]) -> bool:
    return any(not labels.isdisjoint(port.labels) for port in task.ports)
