"""A data plane in memory that behaves like IPVS, with others who change it and failures on demand; and a VIP table."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from lb4.services import (
    Actual,
    BackendKey,
    BackendStats,
    Destination,
    Failure,
    Kind,
    Operation,
    Service,
    ServiceKey,
    ServiceStats,
    Settings,
)
from lb4.vip import VipKey, VipState
from mesos_dns.model import VipAddress


class FakePlane:
    """Services and addresses as a kernel keeps them: what is not there can't be changed, what is there not added.

    Tests, as others on the machine, change `services` (settings and destinations by key) and `addresses` as they like.
    """

    name = "fake"

    def __init__(self) -> None:
        self.services: dict[ServiceKey, tuple[Settings, dict[BackendKey, Destination]]] = {}
        self.addresses: set[str] = set()
        self.active: dict[tuple[ServiceKey, BackendKey], int] = {}
        """Connections; a destination that is not in it has none."""
        self.inactive: dict[tuple[ServiceKey, BackendKey], int] = {}
        """Those that are half closed, or over and still remembered."""
        self.fails: Callable[[Operation], int] = lambda operation: 0
        """The errno with which an operation fails; 0: it does not."""
        self.broken: OSError | None = None
        """What every method but `close` raises."""
        self.seen: Callable[[Operation], None] = lambda operation: None
        """Called after each operation that was done."""
        self.batches: list[list[Operation]] = []
        self.counted: list[list[ServiceKey] | None] = []
        self.reads = 0
        self.applied = asyncio.Event()

    @property
    def operations(self) -> list[Operation]:
        """All that were asked for."""
        return [operation for batch in self.batches for operation in batch]

    def put(self, key: ServiceKey, service: Service) -> None:
        """Somebody makes a service so."""
        self.services[key] = (service.settings, dict(service.destinations))

    def state(self) -> dict[ServiceKey, Service]:
        """All services."""
        return {key: Service(settings, dict(found)) for key, (settings, found) in self.services.items()}

    async def open(self) -> None:
        self._check()

    async def read(self) -> Actual:
        await asyncio.sleep(0)
        self._check()
        self.reads += 1
        return Actual(self.state(), frozenset(self.addresses))

    async def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        self.batches.append(list(operations))
        self.applied.set()
        failures = []
        for operation in operations:
            self._check()
            number = self.fails(operation) or self._do(operation)
            if number:
                failures.append(Failure(operation, number, os.strerror(number)))
            else:
                self.seen(operation)
            await asyncio.sleep(0)
        return failures

    async def stats(self, services: Sequence[ServiceKey] | None = None) -> Mapping[ServiceKey, ServiceStats]:
        self.counted.append(list(services) if services is not None else None)
        await asyncio.sleep(0)
        self._check()
        return {
            key: ServiceStats(
                backends={b: BackendStats(self.active.get((key, b), 0), self.inactive.get((key, b), 0)) for b in found}
            )
            for key, (_, found) in self.services.items()
            if services is None or key in services
        }

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _do(self, operation: Operation) -> int:
        """Do it; the errno if it can't be done."""
        kind, key, settings, _, _ = operation
        if kind is Kind.ADD_ADDRESS:
            self.addresses.add(key.address)
        elif kind is Kind.DROP_ADDRESS:
            self.addresses.discard(key.address)
        elif kind is Kind.ADD_SERVICE:
            assert settings is not None
            if key in self.services:
                return errno.EEXIST
            self.services[key] = (settings, {})
        elif key not in self.services:
            return errno.ESRCH
        elif kind is Kind.DROP_SERVICE:
            del self.services[key]
        elif kind is Kind.SET_SERVICE:
            assert settings is not None
            self.services[key] = (settings, self.services[key][1])
        else:
            return self._destination(operation, self.services[key][1])
        return 0

    def _destination(self, operation: Operation, found: dict[BackendKey, Destination]) -> int:
        kind, key, _, backend, destination = operation
        assert backend is not None
        if (backend in found) is (kind is Kind.ADD_DESTINATION):
            return errno.EEXIST if kind is Kind.ADD_DESTINATION else errno.ENOENT
        if kind is Kind.DROP_DESTINATION:
            del found[backend]
            self.active.pop((key, backend), None)
            return 0
        assert destination is not None
        if destination.lower > destination.upper:
            return errno.ERANGE
        found[backend] = destination
        return 0


class FakeTable:
    """VIPs that a test puts there; listeners hear of a change at once."""

    def __init__(self) -> None:
        self.vips: dict[VipKey, VipState] = {}
        self.addresses: dict[str, VipAddress] = {}
        self._listeners: list[Callable[[frozenset[VipKey]], None]] = []

    def listen(self, callback: Callable[[frozenset[VipKey]], None]) -> None:
        self._listeners.append(callback)

    def unlisten(self, callback: Callable[[frozenset[VipKey]], None]) -> None:
        if callback in self._listeners:
            self._listeners.remove(callback)

    def get(self, key: VipKey) -> VipState | None:
        return self.vips.get(key)

    def keys(self) -> Iterable[VipKey]:
        return self.vips.keys()

    def address_of(self, name: str) -> VipAddress | None:
        return self.addresses.get(name)

    def put(self, state: VipState) -> None:
        """A VIP is so now."""
        self.vips[state.key] = state
        self.tell(state.key)

    def drop(self, key: VipKey) -> None:
        """A VIP is no more."""
        del self.vips[key]
        self.tell(key)

    def allocate(self, name: str, address: str = "", address6: str = "") -> None:
        """A name's addresses are these now; none: they were taken back."""
        if address or address6:
            self.addresses[name] = VipAddress(name, address, address6)
        else:
            self.addresses.pop(name, None)
        self.tell(*(key for key in self.vips if key.name == name))

    def tell(self, *keys: VipKey) -> None:
        """These have changed."""
        for callback in tuple(self._listeners):
            callback(frozenset(keys))
