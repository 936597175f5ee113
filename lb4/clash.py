"""Backends that more than one service sends connections to, and that IPVS therefore can't keep apart for sure.

The kernel rewrites the destination of a packet, never a client's source port. So a client that connects to two
virtual addresses from the same port and is sent to the same backend has two connections with equal addresses and
ports on the backend's side: the second ends the first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from lb4.services import Service, ServiceKey

log = logging.getLogger(__name__)

LINES = 10
"""Most log lines for clashes that were found at one time."""

REMEMBERED = 10_000
"""Pairs of services that were told, beyond which all are forgotten, to be told again should they clash anew."""


class Endpoint(NamedTuple):
    """A backend with its protocol, where this node sends its connections."""

    protocol: str
    address: str
    port: int


class Clashes:
    """See the module. Work is in proportion to the services that are told."""

    def __init__(self) -> None:
        self._services: dict[ServiceKey, Service] = {}
        self._only: dict[Endpoint, ServiceKey] = {}
        self._shared: dict[Endpoint, set[ServiceKey]] = {}
        self._new: dict[tuple[ServiceKey, ServiceKey], None] = {}
        self._told: set[tuple[ServiceKey, ServiceKey]] = set()

    def __len__(self) -> int:
        """Backends that clash."""
        return len(self._shared)

    @property
    def clashes(self) -> Mapping[Endpoint, list[ServiceKey]]:
        """Backend → the services that send connections to it, two at least, sorted."""
        return {endpoint: sorted(users) for endpoint, users in self._shared.items()}

    def others(self, key: ServiceKey) -> set[ServiceKey]:
        """Services with a backend in common with this one."""
        service = self._services.get(key)
        found: set[ServiceKey] = set()
        if service is not None and self._shared:
            for backend in service.destinations:
                found |= self._shared.get(Endpoint(key.protocol, *backend), set())
        return found - {key}

    def keep(self, key: ServiceKey, service: Service) -> None:
        """A service is so now; destinations without weight count, as they may get it back."""
        old = self._services.get(key)
        self._services[key] = service
        before = old.destinations if old is not None else {}
        for backend in before.keys() - service.destinations.keys():
            self._unuse(Endpoint(key.protocol, *backend), key)
        for backend in service.destinations.keys() - before.keys():
            self._use(Endpoint(key.protocol, *backend), key)

    def drop(self, key: ServiceKey) -> None:
        """A service is no more; nothing where it was not kept."""
        if (old := self._services.pop(key, None)) is not None:
            for backend in old.destinations:
                self._unuse(Endpoint(key.protocol, *backend), key)

    def say(self) -> None:
        """Log what has come since the last time: once for two services, and in few lines."""
        new = {pair: endpoint for pair in self._new if (endpoint := self._common(*pair)) is not None}
        self._new.clear()
        for pair, endpoint in list(new.items())[:LINES]:
            log.warning(
                "two services share a backend: a client that uses one source port for both loses a connection "
                "protocol=%s backend=%s port=%d services=%s",
                *endpoint,
                ",".join(f"{user.address}:{user.port}" for user in pair),
            )
        if len(new) > LINES:
            log.warning("more services share backends more=%d backends=%d", len(new) - LINES, len(self))
        self._told |= new.keys()
        if len(self._told) > REMEMBERED:
            self._told = set(new)

    def _common(self, one: ServiceKey, other: ServiceKey) -> Endpoint | None:
        """A backend that both services have."""
        service = self._services.get(one)
        for backend in service.destinations if service is not None else ():
            endpoint = Endpoint(one.protocol, *backend)
            if other in self._shared.get(endpoint, ()):
                return endpoint
        return None

    def _use(self, endpoint: Endpoint, key: ServiceKey) -> None:
        if (users := self._shared.get(endpoint)) is not None:
            users.add(key)
        elif (other := self._only.pop(endpoint, None)) is not None:
            self._shared[endpoint] = {other, key}
            pair = (min(other, key), max(other, key))
            if pair not in self._told:
                self._new[pair] = None
        else:
            self._only[endpoint] = key

    def _unuse(self, endpoint: Endpoint, key: ServiceKey) -> None:
        if (users := self._shared.get(endpoint)) is None:
            del self._only[endpoint]
            return
        users.discard(key)
        if len(users) == 1:
            del self._shared[endpoint]
            self._only[endpoint] = users.pop()
