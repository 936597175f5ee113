"""Look-ups of one name for the API, as mesos-dns answers them: pure functions over the zone view."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence

from mesos_dns.api_shapes import Host, Service
from mesos_dns.names import AAAA, SRV, A, Rdata
from mesos_dns.records import fold
from mesos_dns.served import Zone
from mesos_dns.wire import IllegalName, name_from_wire, name_to_wire
from mesos_dns.zone import ZoneView


def address_text(packed: bytes) -> str:
    """The text of 4 or 16 packed bytes."""
    if len(packed) == 4:
        return ".".join(map(str, packed))
    return str(ipaddress.IPv6Address(packed))


def asked_name(text: str) -> str:
    """The name that a path asks for: any case, with or without the trailing dot, ".*" taken out
    wherever it stands (mesos-dns does so), folded and without trailing dot."""
    return fold(text.replace(".*", "")).removesuffix(".")


def hosts(view: ZoneView, text: str) -> list[Host]:
    """The addresses of a name, IPv4 first; one empty row when it has none."""
    name = asked_name(text)
    return [Host(f"{name}.", address) for addresses in _by_family(view, name) for address in addresses] or [Host()]


def services(view: ZoneView, text: str, choose: Callable[[Sequence[str]], str] = random.choice) -> list[Service]:
    """A row per SRV record and address family of its target, with one address that `choose` picks.

    A target without any address gives no row; a name without any row gives one empty one.
    """
    name = asked_name(text)
    found = _locate(view, name)
    if found is None:
        return [Service()]
    zone, owner = found
    rows = []
    for rdata in zone.rrset(owner, SRV):
        port, target = _target(rdata, zone.origin)
        for addresses in _by_family(view, fold(target)):
            rows.append(Service(f"{name}.", f"{target}.", choose(addresses), str(port)))
    return rows or [Service()]


def _locate(view: ZoneView, name: str) -> tuple[Zone, str] | None:
    """The zone of a folded name and its owner in it."""
    try:
        wire = name_to_wire(name)
    except IllegalName:
        return None
    zone = view.find(wire)
    return None if zone is None else (zone, view.relative(wire, zone))


def _by_family(view: ZoneView, name: str) -> list[list[str]]:
    """The IPv4 and the IPv6 addresses of a folded name; a family without any is left out."""
    found = _locate(view, name)
    if found is None:
        return []
    zone, owner = found
    families = ([_text(rdata) for rdata in zone.rrset(owner, rtype)] for rtype in (A, AAAA))
    return [addresses for addresses in families if addresses]


def _text(rdata: Rdata) -> str:
    return address_text(rdata) if isinstance(rdata, bytes) else ""


def _target(rdata: Rdata, origin: str) -> tuple[int, str]:
    """(port, absolute target without trailing dot) of SRV rdata; that of files is in wire form."""
    if isinstance(rdata, bytes):
        return int.from_bytes(rdata[4:6], "big"), name_from_wire(rdata[6:])
    return rdata[0], f"{rdata[1]}.{origin}"
