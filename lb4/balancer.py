"""The loop that keeps a data plane as the VIP table says.

    table ── changed ──▶ what a VIP wants ──▶ settle, plan, apply ──▶ served
                              ▲                    ▲
                 own checks ──┘     drains, retries ┴─ a look at all that the data plane has, at start and now and then

One thing is done at a time (`turn`): a change of some VIPs is programmed before anything else, by work in proportion
to it. What comes meanwhile is merged. Whole tables are passed only by the look at everything, in slices that let the
loop go on, and what it finds is put right in slices between which changes go first.

Nothing is programmed before it is `known` who runs where, and nothing is taken away when the balancer ends. A failure
concerns the service that it happened to; where the data plane itself fails, all waits for it, and it is then read anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from itertools import count, islice
from math import inf
from typing import Protocol

from lb4.api_shapes import VipFailureRow
from lb4.balancer_status import BalancerCounters, BalancerStatus, Draining
from lb4.clash import Clashes
from lb4.desired import services
from lb4.programmer import Programmer
from lb4.services import BackendKey, DataPlane, Failure, Service, ServiceKey
from lb4.slices import SLICE, Slices, first
from lb4.trouble import LONGEST, SHORTEST, errno_name
from lb4.vip import VipKey, VipState
from mesos_dns.model import VipAddress

log = logging.getLogger(__name__)

KNOWN_EVERY = 0.2
"""Seconds between two looks at whether it is known who runs where."""

OVERDUE = 2.0
"""Seconds for which changes may put off a look at everything."""

_REVISIONS = count(1)
"""Of all balancers: who compares revisions does not take one balancer's for another's that took its place."""

JITTER = 0.2
"""Share by which the time between two looks at everything varies, so that a cluster's nodes don't look all at once."""


class Table(Protocol):
    """The VIPs of the cluster (`lb4.table`). A change of a name's addresses is one of its VIPs."""

    def listen(self, callback: Callable[[frozenset[VipKey]], None], /) -> None:
        """Tell changed VIPs from now on."""

    def unlisten(self, callback: Callable[[frozenset[VipKey]], None], /) -> None:
        """Tell them no more."""

    def get(self, key: VipKey, /) -> VipState | None:
        """A VIP, None: it is no more."""

    def keys(self) -> Iterable[VipKey]:
        """All VIPs."""

    def address_of(self, name: str, /) -> VipAddress | None:
        """What was allocated to a name."""


class Checks(Protocol):
    """This node's own checks of backends; who runs them tells `Balancer.changed` the VIPs whose outcome has changed."""

    @property
    def failing(self) -> Container[BackendKey]:
        """Backends that fail a check of any VIP."""

    def failing_of(self, key: VipKey, /) -> Container[BackendKey]:
        """Those that fail the check of this VIP."""

    def keep(self, key: VipKey, state: VipState | None, /) -> None:
        """Check a VIP's backends as its state says from now on, None: no more."""


class Balancer:
    """See the module. It belongs to one event loop. Times are seconds of `clock`, which never goes back.

    `known` says whether the table is to be believed, `own` are this node's addresses, `owned` says of a virtual
    address whether it is in our ranges. `may_drop` says whether all that defines VIPs is known: until then what is
    there and nobody wants stays, unless it was programmed here (`changed` with nothing makes it ask again). `served`
    is called with the VIPs of which other `families` are served now. `heard` says whether all that is known was heard
    since the start: what was saved before is older than what the data plane has, so until then services that are there
    stay as they are.
    """

    def __init__(
        self,
        table: Table,
        plane: DataPlane,
        *,
        known: Callable[[], bool],
        own: frozenset[str],
        owned: Callable[[str], bool],
        scheduler: str,
        reconcile: float,
        drain_timeout: float,
        checks: Checks | None = None,
        served: Callable[[frozenset[VipKey]], None] = lambda keys: None,
        may_drop: Callable[[], bool] = lambda: True,
        heard: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._table, self._plane = table, plane
        self._known, self._heard, self._own, self._scheduler = known, heard, own, scheduler
        self._every, self._checks = reconcile, checks
        self._clock, self._chance = clock, chance
        self._tell_served = served
        self._programmer = Programmer(plane, owned, drain_timeout, self._served, clock, may_drop)
        self._may_drop = may_drop
        self._could_drop = True
        self._changes: dict[VipKey, None] = {}
        self._backlog: dict[ServiceKey, None] = {}  # what the last look found to be wrong
        self._loaded = False  # what every VIP wants is known
        self._sure = False  # what is remembered is what the data plane has, but for what others do
        self._read_at = self._last_read = self._paused_until = -inf
        self._delay = 0.0
        self._error = ""
        self._revision = next(_REVISIONS)
        self._closed = False
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        table.listen(self.changed)

    # --- what happens to it ---------------------------------------------------------------------

    def changed(self, keys: Iterable[VipKey]) -> None:
        """These VIPs, their addresses or what was found of their backends have changed."""
        if not self._closed:
            self._changes.update(dict.fromkeys(keys))
            self._wake.set()

    def set_own(self, own: frozenset[str]) -> None:
        """This node's addresses are these now."""
        if own != self._own:
            self._own = own
            self.changed(self._table.keys())

    def close(self) -> None:
        """End `run`, after what is being done; the data plane stays as it is."""
        self._closed = True
        self._table.unlisten(self.changed)
        self._wake.set()

    async def remove(self) -> list[Failure]:
        """End `run` and take all that is ours from the data plane, draining or not; what could not be taken.
        Raises OSError."""
        self.close()
        async with self._turn:
            return await self._programmer.remove()

    # --- what it does ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the data plane right until `close`."""
        while not self._closed:
            self._wake.clear()
            try:
                at = await self.turn()
            except Exception as error:
                # A mistake of ours must not be the end of everything: what is programmed stays and goes on meanwhile.
                log.exception("the balancer failed")
                at = self._pause(error)
            await self._until(at)

    async def _until(self, at: float) -> None:
        """Wait for a time or for news."""
        delay = at - self._clock()
        if delay <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(None if delay == inf else delay):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def turn(self) -> float:
        """Do what is due, or a slice of it; when there is something to do next if nothing happens."""
        async with self._turn:
            now = self._clock()
            if self._closed:
                return inf
            if not self._known():
                return now + KNOWN_EVERY
            if now < self._paused_until:
                return self._paused_until
            could, self._could_drop = self._could_drop, self._may_drop()
            if self._could_drop and not could:
                self._read_at = -inf
            if self._programmer.spared and self._heard():
                self._programmer.spared.clear()
                self._read_at = -inf
            try:
                if not self._loaded:
                    await self._load()
                if not self._sure or now >= self._read_at + (OVERDUE if self._changes else 0.0):
                    await self._reconcile()
                else:
                    await self._follow()
                    await self._look_after()
            except OSError as error:
                return self._pause(error)
            return self._next()

    def _next(self) -> float:
        if self._changes or self._backlog:
            return self._clock()
        self._programmer.clashes.say()
        look = self._clock() + KNOWN_EVERY if self._programmer.spared else inf
        return min(look, self._read_at, self._programmer.drains.next, self._programmer.troubles.next)

    async def _load(self) -> None:
        """Work out what all VIPs want, before anything is done."""
        self._changes.clear()
        part = Slices()
        for vip in list(self._table.keys()):
            if part.ends(self._size(vip, self._want(vip))):
                await asyncio.sleep(0)
        self._loaded = True

    async def _follow(self) -> None:
        """Program what has changed."""
        if not self._changes:
            return
        vips: list[VipKey] = []
        keys: dict[ServiceKey, None] = {}
        part = Slices()
        for vip in list(islice(self._changes, SLICE)):
            del self._changes[vip]
            vips.append(vip)
            changed = self._want(vip)
            keys.update(dict.fromkeys(changed))
            if part.ends(self._size(vip, changed)):
                break
        try:
            await asyncio.sleep(0)
            await self._program(keys, {})
        finally:
            self._programmer.served.check(vips)

    async def _look_after(self) -> None:
        """Look at drains, try again what failed, put right what the last look found: a slice of it."""
        now = self._clock()
        knows = self._programmer
        draining = list(first(knows.drains.due(now), knows.size))
        counts = await knows.count(draining) if draining else {}
        due = [*draining, *knows.drains.ended(now), *knows.troubles.due(now), *islice(self._backlog, SLICE)]
        keys = list(first(dict.fromkeys(due), knows.size))
        for key in keys:
            self._backlog.pop(key, None)
        await self._program(keys, counts)

    async def _program(
        self, keys: Collection[ServiceKey], counts: Mapping[ServiceKey, Mapping[BackendKey, int]]
    ) -> None:
        if not keys:
            return
        troubles = self._programmer.troubles
        before = len(troubles.keys)
        as_thought = await self._programmer.program(keys, counts)
        self._delay = 0.0
        if before or troubles.keys:
            self._revision = next(_REVISIONS)
        if not as_thought:
            self._read_at = min(self._read_at, max(self._clock() + SHORTEST, troubles.next))

    def _want(self, vip: VipKey) -> list[ServiceKey]:
        """Work out what a VIP wants; the services that are to be another way now."""
        state = self._table.get(vip)
        try:
            if self._checks is not None:
                self._checks.keep(vip, state)
            found = self._services(state) if state is not None else {}
        except Exception:
            # One VIP that can't be understood stays as it is, and no other suffers.
            self.counters.vip_errors += 1
            log.exception("what a virtual address wants can't be worked out vip=%s/%s:%d", *vip)
            return []
        self._revision = next(_REVISIONS)
        return self._programmer.want(vip, found)

    def _size(self, vip: VipKey, changed: Collection[ServiceKey]) -> int:
        """The destinations that there are to work on for a VIP."""
        return sum(map(self._programmer.size, {*changed, *self._programmer.wanted.of(vip)}))

    def _services(self, state: VipState) -> dict[ServiceKey, Service]:
        address = self._table.address_of(state.key.name)
        failing = self.failing_of(state.key)
        return services(state, address, own=self._own, failing=failing, scheduler=self._scheduler)

    async def _reconcile(self) -> None:
        """Read all that the data plane has, and note what is to be put right."""
        begin = self._clock()
        drift = await self._programmer.take(await self._plane.read())
        if not self.counters.reconciles and not self._heard():
            self._programmer.spare()
        self._backlog = dict.fromkeys(await self._programmer.differing())
        if self._error:
            log.info("the data plane can be used again plane=%s", self._plane.name)
        if drift and self._sure:
            self.counters.drift += drift
            counts = " ".join(f"{kind.replace('-', '_')}={count}" for kind, count in sorted(drift.items()))
            log.warning("others have changed the data plane, it is put right %s", counts)
        now = self._last_read = self._clock()
        self._read_at = now + self._every * (1 + JITTER * (2 * self._chance() - 1))
        self._sure, self._error = True, ""
        self._revision = next(_REVISIONS)
        self.counters.reconciles += 1
        self.counters.reconcile_seconds = now - begin
        if not self._backlog:
            self._delay = 0.0

    def _served(self, vips: frozenset[VipKey]) -> None:
        """Of these other families are served now."""
        self._revision = next(_REVISIONS)
        self._tell_served(vips)

    def _pause(self, error: Exception) -> float:
        """The data plane itself fails: leave it alone for a while, then read it anew; until when."""
        self.counters.plane_errors += 1
        self._delay = min(LONGEST, self._delay * 2) or SHORTEST
        text = str(error) or type(error).__name__
        if text != self._error:
            log.warning("the data plane can't be used now plane=%s error=%s", self._plane.name, text)
        self._sure, self._error = False, text
        self._revision = next(_REVISIONS)
        self._paused_until = self._clock() + self._delay
        return self._paused_until

    # --- what it tells --------------------------------------------------------------------------

    @property
    def counters(self) -> BalancerCounters:
        """For metrics."""
        return self._programmer.counters

    @property
    def clashes(self) -> Clashes:
        """Backends of more than one service."""
        return self._programmer.clashes

    def failing_of(self, vip: VipKey) -> Container[BackendKey]:
        """Backends that fail this node's own check of a VIP."""
        return self._checks.failing_of(vip) if self._checks is not None else ()

    @property
    def revision(self) -> int:
        """Grows whenever what is told of VIPs here may have changed; no two balancers of a process have the same."""
        return self._revision

    def is_served(self, vip: VipKey) -> bool:
        """It can be reached through the data plane, by one of its addresses at least."""
        return vip in self._programmer.served

    def families(self, vip: VipKey) -> frozenset[int]:
        """By which it can: 4, 6."""
        return self._programmer.served.families(vip)

    def failures(self, vip: VipKey) -> list[VipFailureRow]:
        """What could not be done for a VIP. That this machine has no IPv6 is no failure of one that has IPv4 too."""
        wanted, troubles = self._programmer.wanted.of(vip), self._programmer.troubles
        has_both = len({":" in key.address for key in wanted}) > 1
        return [
            VipFailureRow(failure.operation.kind, key.address, errno_name(failure.errno), failure.reason)
            for key in wanted
            if not (has_both and troubles.is_lack(key))
            for failure in troubles.of(key)
        ]

    def shared(self, vip: VipKey) -> list[VipKey]:
        """Other VIPs with a backend in common, sorted."""
        others = {key for own in self._programmer.wanted.of(vip) for key in self.clashes.others(own)}
        return sorted({claims[0] for key in others if (claims := self._programmer.wanted.claims(key))} - {vip})

    def drains(self, vip: VipKey) -> list[Draining]:
        """Backends of a VIP that get no new connections and are kept for those they have."""
        now = self._clock()
        return [
            Draining(key, backend.address, backend.port, now - began)
            for key in self._programmer.wanted.of(vip)
            for backend, began in self._programmer.drains.of(key).items()
        ]

    def status(self) -> BalancerStatus:
        """The whole of it, in numbers."""
        knows = self._programmer
        return BalancerStatus(
            plane=self._plane.name,
            known=self._known(),
            error=self._error,
            vips=len(knows.wanted.vips),
            served=len(knows.served),
            services=len(knows.wanted.services),
            destinations=knows.wanted.destinations,
            draining=len(knows.drains),
            in_trouble=len(knows.troubles),
            clashes=len(knows.clashes),
            backlog=len(self._backlog),
            reconciled=self._clock() - self._last_read if self._last_read > -inf else -1.0,
        )
