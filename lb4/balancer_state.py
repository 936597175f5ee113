"""What the balancer knows: what VIPs want, what is to be programmed, and what the data plane is thought to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import cast

from lb4.labels import address_family
from lb4.services import Actual, BackendKey, Destination, Kind, Operation, Service, ServiceKey
from lb4.vip import VipKey


class Wanted:
    """Each VIP's services. Where two VIPs want one, a named VIP has it rather than one of an address, which any label
    may ask for; then the first by key, so that all nodes agree."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.destinations = 0
        self._by_vip: dict[VipKey, Mapping[ServiceKey, Service]] = {}
        self._claims: dict[ServiceKey, tuple[VipKey, ...]] = {}

    @property
    def vips(self) -> Collection[VipKey]:
        """VIPs that want services (a live view)."""
        return self._by_vip.keys()

    def put(self, vip: VipKey, services: Mapping[ServiceKey, Service]) -> list[ServiceKey]:
        """A VIP wants these now, and no others; the services that this changes."""
        before = self._by_vip.pop(vip, {})
        if services:
            self._by_vip[vip] = services
        changed = []
        for key in before.keys() | services.keys():
            claims = {*self._claims.get(key, ()), vip}
            if key not in services:
                claims.discard(vip)
            if claims:
                self._claims[key] = tuple(sorted(claims, key=_rank))
            else:
                del self._claims[key]
            if self._update(key):
                changed.append(key)
        return changed

    def _update(self, key: ServiceKey) -> bool:
        """Set what is wanted of a service from who wants it."""
        claims = self._claims.get(key)
        old = self.services.pop(key, None)
        new = self._by_vip[claims[0]][key] if claims else None
        self.destinations -= len(old.destinations) if old is not None else 0
        if new is not None:
            self.services[key] = new
            self.destinations += len(new.destinations)
        return new != old

    def of(self, vip: VipKey) -> Mapping[ServiceKey, Service]:
        """All services that a VIP wants, whether it has them or not."""
        return self._by_vip.get(vip, {})

    def claims(self, key: ServiceKey) -> tuple[VipKey, ...]:
        """The VIPs that want a service; the first has it."""
        return self._claims.get(key, ())


def _rank(vip: VipKey) -> tuple[bool, VipKey]:
    return bool(address_family(vip.name)), vip


class Programmed:
    """What the data plane is to have just now: what is wanted and what still drains."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.addresses: dict[str, set[ServiceKey]] = {}
        """Address → the services that have it."""

    def put(self, key: ServiceKey, service: Service | None) -> None:
        """A service is to be so, None: not to be."""
        if service is not None:
            self.services[key] = service
            self.addresses.setdefault(key.address, set()).add(key)
        elif self.services.pop(key, None) is not None:
            keys = self.addresses[key.address]
            keys.discard(key)
            if not keys:
                del self.addresses[key.address]


class Remembered:
    """What the data plane has, as it was read last and with what was done since."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.addresses: frozenset[str] = frozenset()

    @property
    def actual(self) -> Actual:
        """As a plan wants it (its services are a live view)."""
        return Actual(self.services, self.addresses)

    def note(self, done: Collection[Operation]) -> None:
        """These operations were done."""
        added: set[str] = set()
        dropped: set[str] = set()
        for operation in done:
            if operation.kind is Kind.ADD_ADDRESS:
                added.add(operation.service.address)
            elif operation.kind is Kind.DROP_ADDRESS:
                dropped.add(operation.service.address)
            else:
                self._note(operation)
        if added or dropped:
            self.addresses = self.addresses - dropped | added

    def _note(self, operation: Operation) -> None:
        kind, key, settings, backend, destination = operation
        service = self.services.get(key)
        if kind is Kind.DROP_SERVICE:
            self.services.pop(key, None)
        elif settings is not None:
            self.services[key] = Service(settings, owned_copy(service.destinations if service is not None else {}))
        elif service is not None and backend is not None:
            # `owned_copy` made it; another copy for each of many destinations would cost their square.
            destinations = cast("dict[BackendKey, Destination]", service.destinations)
            if destination is None:
                destinations.pop(backend, None)
            else:
                destinations[backend] = destination


def owned_copy(destinations: Mapping[BackendKey, Destination]) -> dict[BackendKey, Destination]:
    """Destinations that `Remembered` may change."""
    return dict(destinations)


class Drift(StrEnum):
    """How what was read differs from what was remembered."""

    MISSING_SERVICE = "missing-service"
    MISSING_DESTINATION = "missing-destination"
    FOREIGN_CHANGE = "foreign-change"
    MISSING_ADDRESS = "missing-address"


def service_drift(remembered: Service | None, read: Service | None) -> Iterator[Drift]:
    """What others did to one service of ours; one entry for each thing."""
    if remembered is None:
        if read is not None:
            yield Drift.FOREIGN_CHANGE
        return
    if read is None:
        yield Drift.MISSING_SERVICE
        return
    if remembered.settings != read.settings:
        yield Drift.FOREIGN_CHANGE
    for backend, destination in remembered.destinations.items():
        there = read.destinations.get(backend)
        if there is None:
            yield Drift.MISSING_DESTINATION
        elif there != destination:
            yield Drift.FOREIGN_CHANGE
    for backend in read.destinations:
        if backend not in remembered.destinations:
            yield Drift.FOREIGN_CHANGE


def address_drift(remembered: frozenset[str], read: frozenset[str]) -> Counter[Drift]:
    """The same of addresses."""
    return +Counter(
        {Drift.MISSING_ADDRESS: len(remembered - read), Drift.FOREIGN_CHANGE: len(read - remembered)},
    )
