"""Makes a data plane have some services as they should be, and knows what it has, what failed and what is served.

    want (a VIP) ─▶ wanted ─┐
                            ├─ settle (drains) ─▶ programmed ─┐
    take (what was read) ─▶ remembered ──┴────────────────────┴─ plan ─▶ apply ─▶ troubles, served

When what is done is for the balancer to say; nothing here is done by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from lb4.balancer_state import Drift, Programmed, Remembered, Wanted, address_drift, owned_copy, service_drift
from lb4.balancer_status import BalancerCounters
from lb4.clash import Clashes
from lb4.drain import Drains
from lb4.plan import plan
from lb4.served import Served
from lb4.services import Actual, BackendKey, DataPlane, Failure, Kind, Operation, Service, ServiceKey
from lb4.slices import Slices, slices
from lb4.trouble import Troubles, needless, primary, surprising
from lb4.vip import VipKey

log = logging.getLogger(__name__)

ADDRESS_KINDS = frozenset({Kind.ADD_ADDRESS, Kind.DROP_ADDRESS})

Counts = Mapping[ServiceKey, Mapping[BackendKey, int]]
"""Connections of the destinations of services, all that are remembered; of a service that was looked for in vain an
empty mapping."""


class Programmer:
    """See the module. Its coroutines are run one at a time; times are seconds of `clock`.

    While it `may_drop` nothing, what is there and nobody wants stays as it is, but for what was programmed here.
    """

    def __init__(
        self,
        plane: DataPlane,
        owned: Callable[[str], bool],
        drain_timeout: float,
        served: Callable[[frozenset[VipKey]], None],
        clock: Callable[[], float],
        may_drop: Callable[[], bool] = lambda: True,
    ) -> None:
        self._plane, self._owned, self._clock = plane, owned, clock
        self._may_drop = may_drop
        self.wanted = Wanted()
        self.programmed = Programmed()
        self.remembered = Remembered()
        self.served = Served(self.wanted, self.programmed, self.remembered, served)
        self.drains = Drains(drain_timeout)
        self.troubles = Troubles()
        self.clashes = Clashes()
        self.counters = BalancerCounters()
        self.spared: set[ServiceKey] = set()
        """Services that stay as the data plane has them until more is known; see `spare`."""
        self._leaving: dict[str, set[ServiceKey]] = {}
        self._mine: set[ServiceKey] = set()  # what was programmed here, and is there or is to be
        self._used: set[str] = set()  # addresses that it had
        self._others_at: set[str] = set()  # addresses of services that nobody wants and that must stay

    def size(self, key: ServiceKey) -> int:
        """How many destinations there are to work on when a service is programmed."""
        services = (self.wanted.services.get(key), self.remembered.services.get(key))
        return max(len(service.destinations) if service is not None else 0 for service in services)

    def spare(self) -> None:
        """What is wanted was known before a restart, and what is there is newer: leave our services alone that are
        there, each until something else is wanted of it. Those that are missing are made."""
        self.spared = {key for key in self.remembered.services if self._ours(key)}

    def want(self, vip: VipKey, services: Mapping[ServiceKey, Service]) -> list[ServiceKey]:
        """A VIP wants these services now; those that are to be another way."""
        changed = self.wanted.put(vip, services)
        self.spared.difference_update(changed)
        for key in changed:
            service = self.wanted.services.get(key)
            if service is None:
                self.clashes.drop(key)
            else:
                self.clashes.keep(key, service)
        return changed

    async def count(self, keys: Sequence[ServiceKey]) -> Counts:
        """How many connections the destinations of these services have."""
        try:
            stats = await self._plane.stats(keys)
        except OSError as error:
            log.debug("connections of draining backends can't be counted error=%s", error)
            stats = {}
        return {
            key: {backend: count.active + count.inactive for backend, count in stats[key].backends.items()}
            if key in stats
            else {}
            for key in keys
        }

    async def program(self, keys: Collection[ServiceKey], counts: Counts) -> bool:
        """Make the data plane have of these services what it should have now; False: it has something else than was
        thought, and must be read. Raises OSError when the data plane fails as a whole."""
        now = self._clock()
        asked, keys = keys, [key for key in keys if not self._is_held(key)]
        for key in keys:
            self._settle(key, counts.get(key), now)
        programmed = self.programmed
        operations = [
            operation
            for operation in plan(programmed.services, self.remembered.actual, self._owns, keys, programmed.addresses)
            if operation.kind is not Kind.DROP_ADDRESS or not self._is_held_local(operation.service.address)
        ]
        concerned = set(keys)
        for operation in operations:
            if operation.kind in ADDRESS_KINDS:
                concerned |= programmed.addresses.get(operation.service.address, set())
        try:
            failures = await self._apply(operations) if operations else []
            self.troubles.note(asked, primary(failures), self._clock())
            self._forget_left()
            for key in keys if len(self.drains) else ():
                self.drains.forget(key, self.remembered.services.get(key))
            self._mine -= {k for k in keys if k not in programmed.services and k not in self.remembered.services}
        finally:
            self.served.check({vip for key in concerned for vip in self.wanted.claims(key)})
        return not any(map(surprising, primary(failures)))

    async def _apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Have operations done and remember what was; those that failed."""
        begin = self._clock()
        failures = [failure for failure in await self._plane.apply(operations) if not needless(failure)]
        failed = {failure.operation for failure in failures}
        done = [operation for operation in operations if operation not in failed] if failed else operations
        self.remembered.note(done)
        self.troubles.ipv6.did(done)
        self.counters.applied(operations, failures, self._clock() - begin)
        return failures

    def _settle(self, key: ServiceKey, active: Mapping[BackendKey, int] | None, now: float) -> None:
        """Decide what is to be programmed of a service."""
        target = self.wanted.services.get(key)
        there = self.remembered.services.get(key)
        if there is not None and key in self.spared:
            self.programmed.put(key, there)
            return
        if target is None and not self._ours(key):
            there = None
        service = self.drains.settle(key, target, there, active, now)
        if service is None and there is not None and not self._owned(key.address):
            self._leaving.setdefault(key.address, set()).add(key)
        if service is not None:
            self._mine.add(key)
            self._used.add(key.address)
        self.programmed.put(key, service)

    def _is_held(self, key: ServiceKey) -> bool:
        """Whether it stays as it is, whatever that is: it may be of something that is not known yet."""
        if key in self._mine or key in self.wanted.services or self._may_drop():
            return False
        return key in self.remembered.services or self._is_held_local(key.address)

    def _is_held_local(self, address: str) -> bool:
        """The same of an address that is local."""
        if address not in self.remembered.addresses or self._may_drop():
            return False
        return address in self._others_at or address not in self._used

    def _ours(self, key: ServiceKey) -> bool:
        """Whether a service is ours to change: one that is at an address of ours."""
        address = key.address
        return address in self.programmed.addresses or address in self.remembered.addresses or self._owns(address)

    def _owns(self, address: str) -> bool:
        # An address outside of the ranges is ours while it is local. Where that has ended but its service could not
        # be dropped, the service is still ours.
        return address in self._leaving or self._owned(address)

    def _forget_left(self) -> None:
        """Forget services that were leaving and are there no more."""
        for address, keys in list(self._leaving.items()):
            left = {key for key in keys if key in self.remembered.services and key not in self.programmed.services}
            if left:
                self._leaving[address] = left
            else:
                del self._leaving[address]

    # --- all of it ------------------------------------------------------------------------------

    async def take(self, actual: Actual) -> Counter[Drift]:
        """This was read from the data plane: remember it; how it differs from what was remembered."""
        old, new = self.remembered.services, dict[ServiceKey, Service]()
        drift = address_drift(self.remembered.addresses, actual.addresses)
        part = Slices()
        for key, service in actual.services.items():
            before = old.get(key)
            if before is not None and before == service:
                new[key] = before
            else:
                new[key] = Service(service.settings, owned_copy(service.destinations))
                if self._ours(key):
                    drift.update(service_drift(before, service))
            if part.ends(len(service.destinations)):
                await asyncio.sleep(0)
        for key in old:
            if key not in new and self._ours(key):
                drift[Drift.MISSING_SERVICE] += 1
            if part.ends(0):
                await asyncio.sleep(0)
        self.remembered.services, self.remembered.addresses = new, actual.addresses
        self._forget_left()
        self._used &= actual.addresses | self.programmed.addresses.keys()
        held = () if self._may_drop() else (k for k in new if k not in self._mine and k not in self.wanted.services)
        self._others_at = {key.address for key in held}
        for kind, found in ((Kind.ADD_ADDRESS, actual.addresses), (Kind.ADD_SERVICE, {key.address for key in new})):
            if any(":" in address for address in found):
                self.troubles.ipv6.had(kind)
        return +drift

    async def differing(self) -> list[ServiceKey]:
        """The services that are not in the data plane as they should be, by all that is remembered; an address
        without services stands as ("", address, 0). What is as it should be counts as served from now on."""
        there, addresses = self.remembered.services, self.remembered.addresses
        known = self.wanted.services | self.programmed.services | dict.fromkeys(self.troubles.keys)
        found = []
        now = self._clock()
        part = Slices()
        for key in [*known, *(key for key in there if key not in known)]:
            if (key in known or self._ours(key)) and not self._is_held(key):
                self._settle(key, None, now)
                service = self.programmed.services.get(key)
                lacks = service is not None and key.address not in addresses
                if lacks or service != there.get(key) or key in self.troubles.keys:
                    found.append(key)
            if part.ends(self.size(key)):
                await asyncio.sleep(0)
        found += [
            ServiceKey("", address, 0)
            for address in addresses
            if address not in self.programmed.addresses and not self._is_held_local(address)
        ]
        for vip in list(self.wanted.vips):
            if len(self.served.families(vip)) < len(self.wanted.of(vip)):
                self.served.gain((vip,))
            if part.ends(0):
                await asyncio.sleep(0)
        return found

    async def remove(self) -> list[Failure]:
        """Take all that is ours from the data plane, draining or not; what could not be taken. Raises OSError."""
        actual = await self._plane.read()
        drops = [Operation(Kind.DROP_ADDRESS, ServiceKey("", address, 0)) for address in actual.addresses]
        for keys in slices(list(actual.services)):
            drops += [o for o in plan({}, actual, self._owns, keys, ()) if o.kind not in ADDRESS_KINDS]
            await asyncio.sleep(0)
        failures = []
        for operations in slices(drops):
            failures += await self._apply(operations)
        self.remembered.services, self.remembered.addresses = {}, frozenset()
        self._mine.clear()
        self.served.check(list(self.wanted.vips))
        log.info("what was ours was taken from the data plane operations=%d failed=%d", len(drops), len(failures))
        return failures
