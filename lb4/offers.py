"""What each task offers to which VIPs, by its labels and by the VIP file's selectors.

Every task is held, because a selector that comes later may fit any; only those that have to do with VIPs cost more.
Whether such a task was ever seen healthy (or running without a check) is remembered until it is gone.

When selectors come or go, all tasks are looked at: in parts, so that no turn of the loop is long.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeAlias

import msgspec

from lb4.cluster import Cluster
from lb4.refusals import Refusals
from lb4.selector import SelectorIndex, port_for
from lb4.task_backends import NOTHING, RUNNING, PortUse, Refusal, Whereabouts, asks, backends_of, read_labels
from lb4.vip import Backend, VipKey
from mesos_dns.model import Health, Key, Task
from mesos_dns.sharing import share

log = logging.getLogger(__name__)

Offers: TypeAlias = Mapping[VipKey, tuple[Backend, ...]]
NO_OFFERS: Offers = {}

LOOK_AT = 10_000
"""Tasks that selectors are tried on at one time: about 10 ms."""

FIND = 500
"""Tasks that are found for selectors at one time, each to be read anew: about 15 ms."""

_GOOD = (Health.HEALTHY, Health.NONE)


class _Part(msgspec.Struct, frozen=True, gc=False):
    """A task that has to do with VIPs, and those that it offers backends to."""

    task: Task
    vips: tuple[VipKey, ...] = ()
    refused: tuple[Refusal, ...] = ()
    healthy_once: bool = False


class TaskOffers:
    """See the module. `faults` counts tasks that could not be read for a fault of ours; they offer nothing."""

    def __init__(self, cluster: Cluster, selectors: SelectorIndex, refusals: Refusals) -> None:
        self.faults = 0
        self._cluster = cluster
        self._selectors = selectors
        self._refusals = refusals
        self._held: dict[Key, Task | _Part] = {}
        self._unread: dict[Key, Task | None] = {}
        # Selectors that no pass over the tasks has begun for; the pass under way: its selectors, the tasks it has not
        # come to yet, and those that it found.
        self._sought: list[SelectorIndex] = []
        self._passing: list[SelectorIndex] = []
        self._ahead: tuple[Iterator[Key], Iterator[Task | _Part]] | None = None
        self._found: dict[Key, None] = {}

    def set_task(self, key: Key, task: Task | None) -> bool:
        """Take a task in, or out (None); True: it is to be read (`read`), nothing has come of it yet."""
        if task is not None and task.duplicate:
            task = None
        if isinstance(self._held.get(key), _Part) or (task is not None and self._concerns(task)):
            self._unread[key] = task
            return True
        if task is not None:
            self._held[key] = task
        else:
            self._held.pop(key, None)
        return False

    def read(self, key: Key) -> tuple[tuple[VipKey, ...], Offers]:
        """The VIPs that a task offered backends to when it was read last, and what it offers now."""
        held = self._held.get(key)
        old = held if isinstance(held, _Part) else None
        task = self._unread.pop(key) if key in self._unread else old.task if old is not None else held
        if not isinstance(task, Task):
            task = None
        offers: Offers = NO_OFFERS
        part: _Part | None = None
        if task is not None:
            try:
                part, offers = self._part(key, task, old)
            except Exception:
                log.exception("a task's VIPs could not be read task=%r", key)
                self.faults += 1
        if task is not None:
            self._held[key] = part if part is not None else task
        else:
            self._held.pop(key, None)
        self._cluster.move(key, old.task if old is not None else None, task if part is not None else None)
        return old.vips if old is not None else (), offers

    def is_part(self, key: Key) -> bool:
        """Whether a task has to do with VIPs."""
        return isinstance(self._held.get(key), _Part)

    def vips_of(self, key: Key) -> tuple[VipKey, ...]:
        """The VIPs that a task offers backends to."""
        part = self._held.get(key)
        return part.vips if isinstance(part, _Part) else ()

    def healthy_once(self, key: Key) -> bool:
        """Whether a task was ever seen healthy."""
        part = self._held.get(key)
        return isinstance(part, _Part) and part.healthy_once

    def seek(self, selectors: SelectorIndex) -> None:
        """These selectors have come or gone: `found` is to give the tasks that may fit them. They are kept as they
        are: not to be changed."""
        if selectors:
            self._sought.append(selectors)

    @property
    def seeking(self) -> bool:
        """Whether `found` may have more to give."""
        return bool(self._sought or self._found) or self._ahead is not None

    def found(self) -> list[Key]:
        """Some of the tasks that may fit selectors that have come or gone, none often before there are none left.

        Tasks that come, change or go while a pass is under way need not be found: they are read as that happens.
        """
        if not self._found:
            self._look()
        some = list(islice(self._found, FIND))
        for key in some:
            del self._found[key]
        return some

    def _look(self) -> None:
        """Try the selectors on the next tasks."""
        if self._ahead is None:
            if not self._sought:
                return
            self._passing, self._sought = self._sought, []
            self._ahead = iter(list(self._held)), iter(list(self._held.values()))
        keys, held = list(islice(self._ahead[0], LOOK_AT)), list(islice(self._ahead[1], LOOK_AT))
        if len(keys) < LOOK_AT:
            self._ahead = None
        for selectors in self._passing:
            self._found.update(dict.fromkeys(selectors.fitting(_tasks(keys, held))))
        if self._ahead is None:
            self._passing = []

    def _concerns(self, task: Task) -> bool:
        return asks(task) or (bool(self._selectors) and bool(self._selectors.candidates(task)))

    def _part(self, key: Key, task: Task, old: _Part | None) -> tuple[_Part | None, Offers]:
        """What is to be held of a task, None when it has nothing to do with VIPs, and what it offers."""
        labelled = asks(task)
        chosen = self._selectors.candidates(task) if self._selectors else []
        if not labelled and not chosen:
            return None, NO_OFFERS
        health = self._cluster.health_of(key, task)
        healthy_once = (old is not None and old.healthy_once) or (task.state == RUNNING and health in _GOOD)
        framework, where = self._cluster.framework_of(task), self._cluster.where(task)
        if framework is None or where is None:
            return _Part(task, healthy_once=healthy_once), NO_OFFERS
        reading = read_labels(task, framework.name) if labelled else NOTHING
        for refusal in reading.refused:
            if old is None or refusal not in old.refused:
                self._refusals.note(*refusal, where=key)
        uses = [*reading.uses]
        for vip_key, _, selector, _ in chosen:
            if (use := port_for(selector, vip_key.protocol, task, framework)) is not None:
                uses.append((vip_key, use))
        offers = _offers(key, task, uses, where, health)
        return _Part(task, share(tuple(offers)), reading.refused, healthy_once), offers


def _tasks(keys: list[Key], held: list[Task | _Part]) -> Iterator[tuple[Key, Task]]:
    for key, one in zip(keys, held, strict=True):
        yield key, one.task if isinstance(one, _Part) else one


def _offers(key: Key, task: Task, uses: list[tuple[VipKey, PortUse]], where: Whereabouts, health: Health) -> Offers:
    """The backends of each VIP; ports that several VIPs share are made backends once."""
    offers: dict[VipKey, tuple[Backend, ...]] = {}
    made: dict[PortUse, tuple[Backend, ...]] = {}
    for vip_key, use in uses:
        backends = made.get(use)
        if backends is None:
            backends = made[use] = backends_of(key, task, use, where, health)
        if backends:
            others = offers.get(vip_key)
            offers[vip_key] = backends if others is None or others == backends else others + backends
    return offers
