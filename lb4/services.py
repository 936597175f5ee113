"""What a data plane is told: services (a virtual address and port) with their destinations, and the changes of them.

    desired ─┐
             ├─ plan ─▶ operations ─▶ DataPlane.apply ─▶ failures
    actual  ─┘             (DataPlane.read gives the actual state)

Addresses are canonical texts, ports 1..65535, protocols "tcp" or "udp". Everything here is a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from mesos_dns.checked import BackendKey as BackendKey


class ServiceKey(NamedTuple):
    """What a client connects to."""

    protocol: str
    address: str
    port: int


class Destination(msgspec.Struct, frozen=True, gc=False):
    """How a backend is used: `weight` 0 gets no new connections; thresholds as in `Vip`, 0: none."""

    weight: int = 1
    upper: int = 0
    lower: int = 0


class Settings(msgspec.Struct, frozen=True, gc=False):
    """How a service picks a backend. `persistence`: seconds for which a client address stays with one; 0: not.
    `prefix` is the length of the network that counts as one client then."""

    scheduler: str = "wlc"
    persistence: int = 0
    prefix: int = 0


class Service(msgspec.Struct, frozen=True):
    """A service's settings and destinations."""

    settings: Settings = Settings()
    destinations: Mapping[BackendKey, Destination] = {}


class Actual(msgspec.Struct, frozen=True):
    """What a data plane has: all services that it finds (also those of others), and the virtual addresses that are
    local by our doing."""

    services: Mapping[ServiceKey, Service] = {}
    addresses: frozenset[str] = frozenset()


class Kind(StrEnum):
    """The kinds of operations."""

    ADD_SERVICE = "add-service"
    SET_SERVICE = "set-service"
    DROP_SERVICE = "drop-service"
    ADD_DESTINATION = "add-destination"
    SET_DESTINATION = "set-destination"
    DROP_DESTINATION = "drop-destination"
    ADD_ADDRESS = "add-address"
    DROP_ADDRESS = "drop-address"


class Operation(NamedTuple):
    """One change. `settings` for ADD_SERVICE and SET_SERVICE, `backend` and (but for a drop) `destination` for those
    of destinations; of an address only `service.address` counts."""

    kind: Kind
    service: ServiceKey
    settings: Settings | None = None
    backend: BackendKey | None = None
    destination: Destination | None = None


class Failure(NamedTuple):
    """An operation that could not be done; `errno` is the kernel's (0: there is none)."""

    operation: Operation
    errno: int
    reason: str


class BackendStats(msgspec.Struct, frozen=True, gc=False):
    """Connections of a destination: established ones, others that are remembered, and all since it was added."""

    active: int = 0
    inactive: int = 0
    connections: int = 0


class ServiceStats(msgspec.Struct, frozen=True):
    """Totals of a service since it was added; octets and packets in (from clients) and out (to them)."""

    connections: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    backends: Mapping[BackendKey, BackendStats] = {}


class LocalAddresses(Protocol):
    """Makes virtual addresses local to a network namespace. Its methods block; they are called in a thread, one at
    a time."""

    def open(self) -> None:
        """Get ready. Raises NotUsable."""

    def read(self) -> frozenset[str]:
        """The addresses that are local by our doing. Raises OSError."""

    def change(self, add: Sequence[str], drop: Sequence[str]) -> dict[str, OSError]:
        """Make addresses local, and others no longer; those for which it failed. Adding one that is there is no
        failure, nor is dropping one that is not. Raises OSError when nothing can be done."""

    def close(self) -> None:
        """Let go of sockets; what is in the kernel stays."""


class NotUsable(OSError):
    """A data plane can't be used on this machine; the text says why and what to do."""


class DataPlane(Protocol):
    """What carries connections from virtual addresses to backends. Its methods are called one at a time, but for
    `stats`. Work in the kernel is done off the event loop where it may take long."""

    name: str

    async def open(self) -> None:
        """Get ready; changes nothing that others may have. Raises NotUsable."""

    async def read(self) -> Actual:
        """Everything that is there now. Raises OSError."""

    async def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Do all of them in this order, whatever fails; those that failed. Raises OSError when nothing can be done."""

    async def stats(self, services: Sequence[ServiceKey] | None = None) -> Mapping[ServiceKey, ServiceStats]:
        """Counts of these services, None: of all. Those that are not there are left out. Raises OSError."""

    async def close(self) -> None:
        """Let go of sockets and threads. What is in the kernel stays and goes on."""
