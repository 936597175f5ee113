"""What a node's data plane should have for one VIP: its services with their destinations, as seen from this node."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache

from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings
from lb4.vip import Backend, VipState
from lb4.weights import with_checks
from mesos_dns.model import VipAddress, canonical_address

# Few differ, so that all services share them.
_settings = lru_cache(maxsize=1024)(Settings)
_destination = lru_cache(maxsize=1024)(Destination)


def services(
    state: VipState,
    address: VipAddress | None,
    *,
    own: frozenset[str],
    failing: Container[BackendKey],
    scheduler: str,
) -> dict[ServiceKey, Service]:
    """One service for each address of a VIP that has backends of its family, none while no address is allocated.

    A VIP of an explicit address has backends of that family only. `own` are this node's addresses: what runs here is
    reached where it listens (`Backend.local`), for what IPVS sends to a mapped port of this host meets no port
    mapping any more. `failing` are backends (as all nodes see them) that this node's own checks found dead;
    `scheduler` is for VIPs that name none.
    """
    families = _addresses(state, address)
    protocol, _, port = state.key
    by_family: dict[bool, dict[BackendKey, Destination]] = {}
    for backend in with_checks(state.backends, failing):
        place = _place(backend, own)
        found = by_family.setdefault(":" in place.address, {})
        destination = _destination(backend.weight, state.upper_threshold, state.lower_threshold)
        # Two backends may be one place once rewritten; the one that may get connections counts.
        if (before := found.get(place)) is None or before.weight < destination.weight:
            found[place] = destination
    return {
        ServiceKey(protocol, virtual, port): Service(
            _settings(
                state.scheduler or scheduler,
                state.persistence,
                0 if not state.persistence else 128 if is_v6 else 32,
            ),
            by_family[is_v6],
        )
        for is_v6, virtual in families.items()
        if is_v6 in by_family
    }


def _addresses(state: VipState, address: VipAddress | None) -> Mapping[bool, str]:
    """Whether it is IPv6 → the VIP's address of that family."""
    if literal := canonical_address(state.key.name):
        return {":" in literal: literal}
    if address is None:
        return {}
    return {is_v6: text for is_v6, text in ((False, address.address), (True, address.address6)) if text}


def _place(backend: Backend, own: frozenset[str]) -> BackendKey:
    """Where this node sends connections for a backend."""
    if backend.local is not None and backend.node in own:
        return backend.local
    return backend.key
