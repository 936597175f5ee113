"""A VIP as the catalog makes it: its key, its backends with what is known of them, and how it is balanced."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from lb4.services import BackendKey
from mesos_dns.model import Health, Key, VipCheck


class VipKey(NamedTuple):
    """`name` is what a VIP's DNS name begins with ("web.marathon"), or the canonical text of an address: two labels
    that give the same DNS name are one VIP."""

    protocol: str
    name: str
    port: int


class State(StrEnum):
    """Why a backend has the weight that it has."""

    ACTIVE = "active"
    PENDING = "pending"  # no result of a health check yet
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"  # the task is being killed, or is drained before that
    SUSPECT = "suspect"  # nothing is heard of its node
    FAIL_OPEN = "fail-open"  # none is better: it gets connections all the same


class Backend(msgspec.Struct, frozen=True, gc=False):
    """One backend of a VIP as all nodes see it.

    `base` is its weight when all is well, `weight` the one in force. `node` is the address of the node it
    runs on ("" for a fixed server), `task` the key of its task (() for a fixed server). `local` is what it is on its
    own node, where that differs (container address and port).
    """

    address: str
    port: int
    base: int = 1
    weight: int = 1
    health: Health = Health.NONE
    state: State = State.ACTIVE
    node: str = ""
    task: Key = ()
    local: BackendKey | None = None

    @property
    def key(self) -> BackendKey:
        """Its address and port for all nodes but its own."""
        return BackendKey(self.address, self.port)


class VipState(msgspec.Struct, frozen=True):
    """A VIP and its backends, sorted by address and port. What is 0 or "" is not set."""

    key: VipKey
    backends: tuple[Backend, ...] = ()
    scheduler: str = ""
    persistence: int = 0
    upper_threshold: int = 0
    lower_threshold: int = 0
    check: VipCheck | None = None
