"""What is to be done so that a data plane has what is desired: pure, minimal, in an order that no client notices.

    1. services that are missing are added, each followed by its destinations
    2. services that differ are changed: settings, then destinations that get more, then those that get less
    3. addresses that are missing become local
    4. the same changes of services that are to get no connections any more (all their weights are 0)
    5. addresses that no desired service has any more stop being local
    6. services that are not desired are dropped

So an address is local only while its services are there (a connection to a local address without its service would
reach whatever listens on that port of this machine), no service is without a usable destination on the way, and what
takes a service's place, as when a name's address changes, is there before that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping

from lb4.services import Actual, Kind, Operation, Service, ServiceKey


def plan(
    desired: Mapping[ServiceKey, Service],
    actual: Actual,
    owned: Callable[[str], bool],
    keys: Collection[ServiceKey] | None = None,
    addresses: Container[str] | None = None,
) -> list[Operation]:
    """The operations that turn `actual` into `desired`, none where nothing differs.

    A service at a desired key is ours, whoever made it. Others are ours, and dropped, when their address is `owned`,
    in `actual.addresses`, or that of a desired service; what is left is others' and stays as it is.
    `keys` limits the work to these services and their addresses. `addresses` are those of all desired services, for
    callers that keep them: else they are gathered from `desired`, all of it. An address that is ours but has no
    service is reached by `keys` through any key that has it.
    """
    used: Container[str] = {key.address for key in desired} if addresses is None else addresses
    orphans: dict[str, ServiceKey] = {}
    missing: dict[str, ServiceKey] = {}
    drops: list[Operation] = []
    changes: list[Operation] = []
    fading: list[Operation] = []
    adds: list[Operation] = []
    if keys is None:
        keys = [*desired, *(key for key in actual.services if key not in desired)]
        orphans = {address: ServiceKey("", address, 0) for address in actual.addresses if address not in used}
    for key in keys:
        service, there = desired.get(key), actual.services.get(key)
        if service is None:
            is_used, is_local = key.address in used, key.address in actual.addresses
            if there is not None and (is_local or is_used or owned(key.address)):
                drops.append(Operation(Kind.DROP_SERVICE, key))
            if is_local and not is_used:
                orphans[key.address] = key
            continue
        if there is None:
            adds += _added(key, service)
        elif there != service:
            goes_on = any(destination.weight > 0 for destination in service.destinations.values())
            (changes if goes_on else fading).extend(_changed(key, service, there))
        if key.address not in actual.addresses:
            missing.setdefault(key.address, key)
    return [
        *adds,
        *changes,
        *(Operation(Kind.ADD_ADDRESS, key) for key in missing.values()),
        *fading,
        *(Operation(Kind.DROP_ADDRESS, key) for key in orphans.values()),
        *drops,
    ]


def _added(key: ServiceKey, service: Service) -> Iterator[Operation]:
    """A service, then its destinations, usable ones first."""
    yield Operation(Kind.ADD_SERVICE, key, service.settings)
    for backend, destination in sorted(service.destinations.items(), key=lambda item: item[1].weight == 0):
        yield Operation(Kind.ADD_DESTINATION, key, None, backend, destination)


def _changed(key: ServiceKey, service: Service, there: Service) -> Iterator[Operation]:
    """What differs, in the order: settings, more weight, same weight, less weight, drops."""
    if service.settings != there.settings:
        yield Operation(Kind.SET_SERVICE, key, service.settings)
    more: list[Operation] = []
    same: list[Operation] = []
    less: list[Operation] = []
    for backend, destination in service.destinations.items():
        before = there.destinations.get(backend)
        if before == destination:
            continue
        kind = Kind.ADD_DESTINATION if before is None else Kind.SET_DESTINATION
        gain = destination.weight - (0 if before is None else before.weight)
        (more if gain > 0 else less if gain < 0 else same).append(Operation(kind, key, None, backend, destination))
    yield from more
    yield from same
    yield from less
    for backend in there.destinations:
        if backend not in service.destinations:
            yield Operation(Kind.DROP_DESTINATION, key, None, backend)
