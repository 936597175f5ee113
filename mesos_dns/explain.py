"""Where the answer to a question comes from: one of our zones, the cache, an upstream."""

from __future__ import annotations

from typing import Any

from mesos_dns.api_context import ApiContext
from mesos_dns.names import PTR
from mesos_dns.wire import name_from_wire, name_to_wire, reverse_address, split_labels


def explain(context: ApiContext, name: str, qtype: int) -> dict[str, Any]:
    """`source` is "zone", "cache", "upstreams", "forward" or "nobody", with what there is to say of it.

    Of a resolver's answer: the forward zone, the upstream that it came from, seconds that it has been kept and is
    kept in all, whether it is past its time, and the upstreams in the order in which they would be asked.
    Raises IllegalName (a ValueError) for what is no DNS name.
    """
    wire = name_to_wire(name.rstrip(".").lower())
    own = context.view.find(wire)
    resolving = context.resolving()
    forward = _forward_zone(context, wire)
    if own is not None and len(forward) < len(own.wire) + (resolving is None):
        return {"source": "zone", "zone": own.origin}
    address = reverse_address(split_labels(wire)) if qtype == PTR and not forward else None
    pointed = context.view.pointed(address) if address is not None else None
    if pointed is not None:
        return {"source": "zone", "zone": pointed[0].origin}
    if resolving is None:
        return _forwarded(context, forward)
    zone = resolving.upstreams.route(wire)
    upstreams = [each for each in resolving.upstreams.status() if each.zone == zone]
    upstreams.sort(key=lambda each: each.score)
    told: dict[str, Any] = {"zone": zone, "upstreams": [each.label for each in upstreams]}
    kept = resolving.resolver.kept(wire, qtype)
    if kept is None:
        return {"source": "upstreams" if upstreams else "nobody", **told}
    return {"source": "cache", **told, **kept}


def _forward_zone(context: ApiContext, wire: bytes) -> bytes:
    """The origin of the forward zone that holds a name; b"" for none."""
    resolving = context.resolving()
    if resolving is not None:
        zone = resolving.upstreams.route(wire)
        return b"" if zone == "." else name_to_wire(zone)
    origins = [name_to_wire(zone.lower()) for zone in context.dns.zones]
    return max((origin for origin in origins if _is_below(wire, origin)), key=len, default=b"")


def _is_below(wire: bytes, origin: bytes) -> bool:
    at = 0
    while len(wire) - at > len(origin):
        at += 1 + wire[at]
    return wire[at:] == origin


def _forwarded(context: ApiContext, forward: bytes) -> dict[str, Any]:
    if forward:
        zone = name_from_wire(forward)
        servers = next(servers for name, servers in context.dns.zones.items() if name.lower() == zone)
        return {"source": "forward", "zone": zone, "upstreams": list(servers)}
    if context.dns.forward:
        return {"source": "forward", "zone": ".", "upstreams": list(context.dns.forward)}
    return {"source": "nobody", "zone": ".", "upstreams": []}
