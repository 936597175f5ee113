"""A responder whose table also holds answers of others, and what Python says of them at any age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesos_dns import _native
from mesos_dns.answer import Answer
from mesos_dns.config import DnsConfig
from mesos_dns.edns import STALE, STALE_NXDOMAIN
from mesos_dns.fastpath import FastPath, Network
from mesos_dns.message import NXDOMAIN, Query, read_query
from mesos_dns.model import Entity
from mesos_dns.resolver.cache import aged
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.fast_answers import NOW, PUBLIC, SECRET
from tests.fakes.questions import AGENT, MARATHON, put

BEGAN = 5_000
"""Seconds of the monotonic clock when an answer is put in."""
QUESTION = b"\xc0\x0c"
"""A pointer to the question's name."""


class Elsewhere:
    """Stands for a resolver: `allow` are the networks that it answers, `refreshed` is what it was told to ask again."""

    def __init__(self, allow: Sequence[Network] | None = None) -> None:
        self.refreshed: list[Query] = []
        self._allow = allow

    def attach(self, responder: Responder) -> None:
        """Nothing to do."""

    def allows(self, client: bytes) -> bool:
        """Whether one of the networks holds the packed address; b"" is this process."""
        packed = client[12:] if client.startswith(bytes(10) + b"\xff\xff") and len(client) == 16 else client
        return self._allow is None or not client or any(_holds(network, packed) for network in self._allow)

    def refresh(self, query: Query) -> None:
        """Noted."""
        self.refreshed.append(query)

    async def resolve(self, packet: bytes, forward: Forward, transport: str) -> bytes | None:
        """Nobody is asked; the question comes back with SERVFAIL."""
        return packet[:2] + b"\x81\x82" + packet[4:]


def _holds(network: Network, packed: bytes) -> bool:
    if len(network.network_address.packed) != len(packed):
        return False
    return int.from_bytes(packed, "big") & int(network.netmask) == int(network.network_address)


class Cached:
    """One responder with its table. `now` is the second of the monotonic clock, for what is put in and what is said."""

    def __init__(
        self,
        *entities: Entity,
        allow: Sequence[Network] | None = None,
        prefetch: bool = False,
        pass_rate: int = 0,
        **config: Any,
    ) -> None:
        self.config = DnsConfig(**{"answer_memory": 4, "rate_limit": 0, **config})
        self.path = FastPath(self.config, [SECRET], _native, allow, prefetch, pass_rate)
        self.elsewhere = Elsewhere(allow)
        self.view = ZoneView(self.config, ns_addresses=("127.0.0.1",), presence=self.path.presence)
        self.responder = Responder(self.view, self.config, None, [SECRET], self.path, self.elsewhere)
        self.responder.replies.clock = lambda: NOW * 1000
        self.now = BEGAN
        self.path.clock = lambda: float(self.now)
        self.view.apply(put(MARATHON, AGENT, *entities))

    def ready(self, packet: bytes, transport: str = "udp", client: bytes = PUBLIC, turn: int = 0) -> bytes | None:
        """What the table says."""
        found = self.path.answer(packet, client, transport != "udp", NOW, turn)
        return found[0] if found is not None else None

    def said(self, answer: Answer, packet: bytes, transport: str = "udp", turn: int = 0, stale: bool = False) -> bytes:
        """What Python says of an answer that was put in at `BEGAN`."""
        query = read_query(packet)
        assert isinstance(query, Query)
        replies = self.responder.replies
        step = replies.next_turn()
        replies.turn = (turn - (replies.next_turn() - step)) & 0xFFFFFFFF
        return replies.encode(of_age(answer, self.now - BEGAN, stale), query, transport, PUBLIC, NOW)


def of_age(answer: Answer, age: int, stale: bool = False) -> Answer:
    """The answer as a resolver says it after so many seconds."""
    made = aged(answer, 0 if stale else age)
    made.aa = False
    if stale:
        made.extended_error = STALE_NXDOMAIN if answer.rcode == NXDOMAIN else STALE
    return made


def record(owner: bytes, rtype: int, ttl: int, data: bytes) -> bytes:
    """One record of class IN."""
    return owner + rtype.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data


def address(number: int, ttl: int = 300, owner: bytes = QUESTION) -> bytes:
    """An A record."""
    return record(owner, 1, ttl, number.to_bytes(4, "big"))


def soa_of(zone: str, ttl: int = 600) -> bytes:
    """An SOA record, as negative answers carry it."""
    data = name_to_wire(f"ns.{zone}") + name_to_wire(f"admin.{zone}") + bytes(16) + ttl.to_bytes(4, "big")
    return record(name_to_wire(zone), 6, ttl, data)


def others(*records: bytes, rcode: int = 0, rotate: bool = False, **parts: Any) -> Answer:
    """An answer of others."""
    return Answer(rcode, list(records), aa=False, rotate=rotate, **parts)
