"""Look-ups of names too long for DNS, which mesos-dns' HTTP answers nevertheless.

A label of more than 63 octets, or an SRV record whose target has one, is no record on the wire, so
the zone view does not index it. Tasks with such names are rare and their consumers can only use
HTTP; a look-up goes through all tasks, in slices.
"""

from __future__ import annotations

import random

from mesos_dns.api_lookup import address_text, asked_name
from mesos_dns.api_shapes import Host, Service
from mesos_dns.api_stream import Owners, collected
from mesos_dns.catalog import Catalog
from mesos_dns.names import AAAA, SRV, A
from mesos_dns.records import fold
from mesos_dns.sources.pace import Pace
from mesos_dns.zone import ZoneView

LONG_LABEL = 48
"""A task name this long may make a canonical name's label (name-id5-Sn) longer than 63 octets."""

LONG_NAME = 200


def is_long(view: ZoneView, text: str) -> bool:
    """True for a name in the cluster's domain that, or whose SRV targets, DNS may be unable to carry."""
    name = asked_name(text)
    if not name.endswith(f".{fold(view.domain.origin)}"):
        return False
    return len(name) > LONG_NAME or any(len(part) > LONG_LABEL or not part for part in name.split("."))


async def hosts(view: ZoneView, catalog: Catalog, text: str) -> list[Host]:
    """As api_lookup.hosts."""
    name = asked_name(text)
    owner = _relative(view, name)
    found = await collected(view, catalog, Pace(), {owner})
    return [Host(f"{name}.", address) for family in _addresses(found, owner) for address in family] or [Host()]


async def services(view: ZoneView, catalog: Catalog, text: str) -> list[Service]:
    """As api_lookup.services."""
    name = asked_name(text)
    records = await collected(view, catalog, Pace(), {_relative(view, name)})
    told = dict.fromkeys(str(value) for _, served in records[SRV].items() for value in served)
    pairs = [(target, port) for target, _, port in (value.rpartition(".:") for value in told)]
    hosts = await collected(view, catalog, Pace(), {_relative(view, fold(target)) for target, _ in pairs})
    return [
        Service(f"{name}.", f"{target}.", random.choice(family), port)
        for target, port in pairs
        for family in _addresses(hosts, _relative(view, fold(target)))
    ] or [Service()]


def _relative(view: ZoneView, name: str) -> str:
    """The folded owner relative to the cluster's domain."""
    return name.removesuffix(f".{fold(view.domain.origin)}")


def _addresses(found: dict[int, Owners], owner: str) -> list[list[str]]:
    """The IPv4 and the IPv6 addresses of a folded owner; a family without any is left out."""
    families = []
    for rtype in (A, AAAA):
        spellings = [served for spelling, served in found[rtype].items() if fold(spelling) == owner]
        families.append([address_text(value) for served in spellings for value in served if isinstance(value, bytes)])
    return [list(dict.fromkeys(family)) for family in families if family]
