"""Short ways to make a zone view and to ask a responder, for the tests of the DNS core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype

from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.counters import DnsCounters
from mesos_dns.fastpath import fast_path
from mesos_dns.model import Entity, Framework, Health, Key, Network, Node, StaticRecords, Task
from mesos_dns.names import RUNNING
from mesos_dns.presence import Presence
from mesos_dns.respond import Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView

MARATHON = Framework("f-1", "marathon", addresses=("10.0.0.21",), port=15101)
AGENT = Node("agent-S0", "agent0", ("10.1.0.1",), 5051)


def task(number: int = 0, name: str = "web", *, node: str = "agent-S0", **fields: Any) -> Task:
    """A running task of MARATHON with the container address 9.0.0.NUMBER + 1."""
    values: dict[str, Any] = {
        "state": RUNNING,
        "health": Health.NONE,
        "networks": (Network("dcos", (f"9.0.{(number + 1) >> 8}.{(number + 1) & 255}",)),),
    }
    values.update(fields)
    return Task("f-1", f"{name}.{number}", name, node, **values)


def put(*entities: Entity) -> Delta:
    """A delta that says all of these."""
    return Delta(1, {entity.key: (None, entity) for entity in entities})


def drop(*keys: Key) -> Delta:
    """A delta that takes these away."""
    return Delta(1, dict.fromkeys(keys, (None, None)))


def view_of(*entities: Entity, **config: Any) -> ZoneView:
    """A zone view of MARATHON, AGENT and what is given."""
    view = ZoneView(DnsConfig(**config), ns_addresses=("127.0.0.1",))
    view.apply(put(MARATHON, AGENT, *entities))
    return view


def responder_of(*entities: Entity, **config: Any) -> Responder:
    """A responder over `view_of`."""
    view = view_of(*entities, **config)
    return Responder(view, view.config)


def native_responder_of(*entities: Entity, counters: DnsCounters | None = None, **config: Any) -> Responder:
    """A responder with a table for native workers (unless `workers` is 0), over the same view."""
    settings = DnsConfig(**config)
    secrets = secrets_of(settings)
    fast = fast_path(settings, secrets)
    presence: Callable[[str], Presence | None] = fast.presence if fast is not None else lambda tag: None
    view = ZoneView(settings, ns_addresses=("127.0.0.1",), presence=presence)
    view.apply(put(MARATHON, AGENT, *entities))
    return Responder(view, settings, counters, secrets, fast)


def packet(name: str, rtype: str = "A", *, payload: int | None = None, rclass: str = "IN", **edns: Any) -> bytes:
    """A query; `payload` turns EDNS on."""
    query = dns.message.make_query(name, rtype, rclass)
    if payload is not None:
        query.use_edns(edns.pop("version", 0), payload=payload, **edns)
    return query.to_wire()


def ask_raw(responder: Responder, query: bytes, transport: str = "udp") -> bytes:
    """The reply's bytes; a test fails where there is none."""
    reply = responder.respond(query, transport)
    assert isinstance(reply, bytes), reply
    return reply


def ask(responder: Responder, name: str, rtype: str = "A", transport: str = "udp", **edns: Any) -> dns.message.Message:
    """The reply as dnspython reads it, the whole packet."""
    reply = ask_raw(responder, packet(name, rtype, **edns), transport)
    return dns.message.from_wire(reply, ignore_trailing=False)


def answers(message: dns.message.Message) -> list[str]:
    """The rdata of the answer section, sorted."""
    return sorted(rdata.to_text() for rrset in message.answer for rdata in rrset)


def extras(message: dns.message.Message) -> list[str]:
    """ "name rdata" of the additional section, sorted."""
    return sorted(f"{rrset.name.to_text()} {rdata.to_text()}" for rrset in message.additional for rdata in rrset)


def has_flag(message: dns.message.Message, flag: dns.flags.Flag) -> bool:
    """Whether a header flag is set."""
    return bool(message.flags & flag)


def static(owner: str, rtype: str, *rdata: bytes, zone: str = "", ttl: int = 300) -> StaticRecords:
    """A record set as a file source says it."""
    return StaticRecords(owner, int(dns.rdatatype.from_text(rtype)), ttl, rdata, zone)


def soa(minimum: int = 30, serial: int = 7) -> bytes:
    """SOA rdata of a plain zone."""
    numbers = (serial, 3600, 600, 86400, minimum)
    return (
        name_to_wire("ns.example.org")
        + name_to_wire("admin.example.org")
        + b"".join(n.to_bytes(4, "big") for n in numbers)
    )
