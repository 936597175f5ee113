"""One VIP: who offers backends, what is configured for it, and the state that this makes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TypeAlias

from lb4.labels import address_family
from lb4.vip import Backend, VipKey, VipState
from lb4.weights import best_of, effective
from mesos_dns.model import Key, Vip
from mesos_dns.names import packed

MAX_BACKENDS = 10_000
"""Backends of one VIP that are used; of more, those with a weight go first, then those with the lowest addresses."""

Families: TypeAlias = frozenset[int]
NO_FAMILY: Families = frozenset()
ONLY_4: Families = frozenset((4,))
ONLY_6: Families = frozenset((6,))
BOTH: Families = frozenset((4, 6))

_NO_FAULTS: Mapping[str, str] = MappingProxyType({})


class VipRecord:
    """What is known of one VIP. `offers` has backends by whose they are: a task's key, or that of a definition with
    fixed servers. Of several `definitions` (those of several clusters) the one with the least key counts."""

    __slots__ = ("definitions", "families", "family", "faults", "key", "offers", "state")

    def __init__(self, key: VipKey) -> None:
        self.key = key
        self.family = address_family(key.name)
        self.offers: dict[Key, tuple[Backend, ...]] = {}
        self.definitions: dict[Key, Vip] = {}
        self.state: VipState | None = None
        self.families = NO_FAMILY
        self.faults: Mapping[str, str] = _NO_FAULTS

    def made(
        self, suspects: Collection[str], healthy_once: Callable[[Key], bool], draining: Collection[Key] = ()
    ) -> VipState | None:
        """The VIP's state as it is now, None when it has no backend. The arguments are those of `weights.effective`;
        `draining` bears on TCP alone, as a flow of UDP has no end to wait for. Sets `faults`: by category, what is
        wrong with what is offered ("too-many-backends": those beyond MAX_BACKENDS are left out; "family": none is of
        the family of the VIP's address)."""
        self.faults = _NO_FAULTS
        backends = [backend for offer in self.offers.values() for backend in offer]
        if self.family:
            fitting = [backend for backend in backends if (":" in backend.address) == (self.family == 6)]
            if backends and not fitting:
                self.faults = {"family": f"an IPv{self.family} address with backends of the other family only"}
            backends = fitting
        unique: dict[tuple[str, int], Backend] = {}
        drained = draining if self.key.protocol == "tcp" else ()
        for backend in effective(backends, suspects, healthy_once, drained):
            place = (backend.address, backend.port)
            other = unique.setdefault(place, backend)
            if other is not backend:
                unique[place] = best_of((other, backend))
        if not unique:
            return None
        found = sorted(unique.values(), key=_order)
        if len(found) > MAX_BACKENDS:
            text = f"{len(found) - MAX_BACKENDS} of its backends are more than {MAX_BACKENDS}"
            self.faults = {"too-many-backends": text}
            found = sorted(sorted(found, key=_is_idle)[:MAX_BACKENDS], key=_order)
        if not self.definitions:
            return VipState(self.key, tuple(found))
        vip = self.definitions[min(self.definitions)]
        return VipState(
            self.key,
            tuple(found),
            vip.scheduler,
            vip.persistence,
            vip.upper_threshold,
            vip.lower_threshold,
            vip.check,
        )


def families_of(state: VipState | None) -> Families:
    """The address families that a VIP's backends have."""
    if state is None:
        return NO_FAMILY
    six = four = False
    for backend in state.backends:
        if ":" in backend.address:
            six = True
        else:
            four = True
    return BOTH if six and four else ONLY_6 if six else ONLY_4 if four else NO_FAMILY


def _order(backend: Backend) -> tuple[bool, bytes, int]:
    return ":" in backend.address, packed(backend.address), backend.port


def _is_idle(backend: Backend) -> bool:
    return backend.weight == 0
