"""A responder with the table of ready answers, and one without it that hears of the same changes: what the
table gives has to be what the other says, octet by octet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesos_dns import _native
from mesos_dns.catalog import Delta
from mesos_dns.config import DnsConfig
from mesos_dns.fastpath import FastPath
from mesos_dns.model import Entity
from mesos_dns.reply import TURN_STEP
from mesos_dns.respond import Forward, Responder
from mesos_dns.transfer import Transfer
from mesos_dns.zone import ZoneView
from tests.fakes.questions import AGENT, MARATHON, packet, put

SECRET = bytes(range(16))
OLD_SECRET = bytes(range(16, 32))
NOW = 1_700_000_000
PRIVATE, PUBLIC = bytes((10, 1, 2, 3)), bytes((198, 51, 100, 7))

Said = bytes | Forward | Transfer | None


class Twins:
    """`fast` has the table, `plain` has not. `known` is the zone views' own."""

    def __init__(
        self,
        *entities: Entity,
        known: Callable[[], bool] = lambda: True,
        secrets: tuple[bytes, ...] = (),
        **config: Any,
    ) -> None:
        self.config = DnsConfig(**{"answer_memory": 4, "rate_limit": 0, **config})
        kept = (secrets or (SECRET, OLD_SECRET)) if self.config.cookies else ()
        self.path = FastPath(self.config, kept, _native)
        self.fast = self._responder(known, kept, self.path)
        self.plain = self._responder(known, kept, None)
        self.now = NOW
        for responder in (self.fast, self.plain):
            responder.replies.clock = lambda: self.now * 1000
        self.apply(put(*entities))

    def _responder(self, known: Callable[[], bool], secrets: tuple[bytes, ...], fast: FastPath | None) -> Responder:
        names = {"presence": fast.presence} if fast is not None else {}
        view = ZoneView(self.config, ns_addresses=("127.0.0.1",), known=known, **names)  # type: ignore[arg-type]
        return Responder(view, self.config, secrets=secrets, fast=fast)

    def apply(self, *deltas: Delta) -> None:
        """Changes, for both; the serials stay equal."""
        for delta in deltas:
            self.fast.view.apply(delta)
            self.plain.view.apply(delta)
        self.plain.view.serial = self.fast.view.serial

    def stale(self, value: bool) -> None:
        """Whether the cluster's zones may be out of date."""
        self.fast.stale = self.plain.stale = value

    def ready(self, query: bytes, transport: str = "udp", client: bytes = PRIVATE, turn: int = 0) -> bytes | None:
        """What the table says."""
        found = self.path.answer(query, client, transport != "udp", self.now, turn)
        return found[0] if found is not None else None

    def said(self, query: bytes, transport: str = "udp", client: bytes = PRIVATE, turn: int = 0) -> Said:
        """What the responder without the table says, at the same time and rotation."""
        self.plain.replies.turn = (turn - TURN_STEP) & 0xFFFFFFFF
        return self.plain.respond(query, transport, client)

    def warm(self, query: bytes, client: bytes = PRIVATE) -> None:
        """Ask once, so that what can be kept is kept."""
        self.fast.respond(query, "tcp", client)

    def agreed(self, query: bytes, transport: str = "udp", client: bytes = PRIVATE, turn: int = 0) -> bytes | None:
        """`ready`, which has to be None or what is `said`."""
        ready = self.ready(query, transport, client, turn)
        if ready is not None:
            assert ready == self.said(query, transport, client, turn), query.hex()
        return ready

    def asked(self, name: str, rtype: str = "A", transport: str = "udp", **edns: Any) -> bytes | None:
        """`agreed` for a question that was asked before."""
        query = packet(name, rtype, **edns)
        self.warm(query)
        return self.agreed(query, transport)


def cluster(*entities: Entity, **config: Any) -> Twins:
    """Twins of MARATHON, AGENT and what is given."""
    return Twins(MARATHON, AGENT, *entities, **config)
