"""One packet in, one decision out: answer it, forward it, or drop it. No I/O here.

What it compiles is kept by question, and a change drops exactly the answers that it touches (an answer
knows every owner it was built from): in the table that native workers serve from (`fastpath`), else in
this process (`kept`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from mesos_dns.answer import Answer, compile_answer, refused
from mesos_dns.config import DnsConfig, host_port
from mesos_dns.cookies import secrets_of
from mesos_dns.counters import TYPE_NAMES
from mesos_dns.counters import DnsCounters as DnsCounters
from mesos_dns.edns import NOT_AUTHORITATIVE, PROHIBITED
from mesos_dns.fastpath import FastPath
from mesos_dns.kept import Kept, KeptAnswers
from mesos_dns.message import AXFR, IN, IXFR, NOERROR, RA, RD, REFUSED, Bad, Query, question_end, read_query
from mesos_dns.names import ANY, PTR, SOA
from mesos_dns.query_log import QueryLog
from mesos_dns.ratelimit import ERROR
from mesos_dns.reply import Replies
from mesos_dns.transfer import Transfer, Transfers
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView

log = logging.getLogger(__name__)


class Forward(msgspec.Struct, frozen=True):
    """The question is not ours: ask these servers, in order, for the client with this packed address.

    A resolver knows its servers itself. `alias` is what we say ourselves: aliases that lead beyond our zones, to the
    name that is asked for then.
    """

    query: Query
    upstreams: tuple[tuple[str, int], ...]
    client: bytes = b""
    alias: Answer | None = None


class Beyond(Protocol):
    """Who asks others what is not ours to say."""

    async def resolve(self, packet: bytes, forward: Forward, transport: str) -> bytes | None:
        """The reply for the client; None: silence."""


class Recursion(Beyond, Protocol):
    """A resolver, whose answers come from upstreams, or are kept."""

    def attach(self, responder: Responder) -> None:
        """From now on this responder writes its replies, and has the table for what it keeps."""

    def allows(self, client: bytes) -> bool:
        """Whether a client, by its packed address, is answered at all."""

    def refresh(self, query: Query) -> None:
        """A kept answer that is asked for will soon be too old."""


class Responder:
    """Decides over packets. `invalidate` is the zone view's `touch`.

    `secrets` are those of cookies, the one in use first; without them they are read as the configuration
    says (which blocks for a file; raises OSError, ValueError). `fast` is the table that the view tells its
    names to. With `recursion` all names that are not the view's are its, for clients that ask for that (RD).
    """

    def __init__(
        self,
        view: ZoneView,
        config: DnsConfig,
        counters: DnsCounters | None = None,
        secrets: Sequence[bytes] | None = None,
        fast: FastPath | None = None,
        recursion: Recursion | None = None,
    ) -> None:
        self.view = view
        self.recursion = recursion
        self.counters = counters or DnsCounters()
        self.fast = fast
        self._kept: Kept = fast or KeptAnswers()
        self._log = QueryLog(config.query_log) if config.query_log else None
        self.wanting: Callable[[], None] = lambda: None
        """Called when `make_ready` has something to do."""
        self._forward = tuple(host_port(server, 53) for server in config.forward)
        self._forward_zones = {
            name_to_wire(zone.lower()): tuple(host_port(server, 53) for server in servers)
            for zone, servers in config.zones.items()
        }
        if secrets is None or not config.cookies:
            secrets = secrets_of(config)
        self._forwards = bool(self._forward) or recursion is not None
        flags = RA if config.recursion and (self._forwards or self._forward_zones) else 0
        self.replies = Replies(config, self.counters, secrets, flags, fast)
        self.transfers = Transfers(view, config, self.counters.transfers)
        view.tell(self._kept.drop, self._changed)
        if fast is not None:
            fast.attach(view, flags, tuple(self._forward_zones), not self._forwards, recursion is not None)
            fast.due = self.refresh

    def take_over(self) -> None:
        """From now on clients are answered by this one: its view is full."""
        self.counters.serve(self.fast)
        if self.recursion is not None:
            self.recursion.attach(self)

    @property
    def stale(self) -> bool:
        """Whether what is said of the cluster may be out of date: clients are told so (RFC 8914)."""
        return self.replies.stale

    @stale.setter
    def stale(self, value: bool) -> None:
        self.replies.stale = value
        if self.fast is not None:
            self.fast.stale = value
            self.fast.refresh()

    def decide(self, packet: bytes, transport: str, client: bytes = b"") -> bytes | Forward | Transfer | None:
        """What `respond` says. A fault in answering one packet must never stop the others; its client gets
        SERVFAIL and need not wait for a time-out."""
        try:
            reply = self.respond(packet, transport, client)
            if self._log is not None and isinstance(reply, bytes):
                self._log.seen(packet, transport, client, reply)
            return reply
        except Exception:
            log.exception("could not answer a packet packet=%s", packet[:512].hex())
            return self.fault(packet)

    def respond(self, packet: bytes, transport: str, client: bytes = b"") -> bytes | Forward | Transfer | None:
        """Answer a packet that came over "udp", "tcp" or "tls" from a client's packed address; None means drop it."""
        allowed = self.recursion is None or self.recursion.allows(client)
        fast = self.fast if allowed else None
        if fast is not None and (ready := self._ready(fast, packet, transport, client)) is not None:
            return ready
        query = read_query(packet)
        counters = self.counters
        if query is None:
            counters.dropped += 1
            return None
        if isinstance(query, Bad):
            counters.queries[transport, "bad"] += 1
            return self.replies.bad(query, transport, client)
        counters.queries[transport, TYPE_NAMES.get(query.qtype, "other")] += 1
        if not allowed:
            counters.prohibited += 1
            return self.replies.answer(_PROHIBITED, query, transport, client)
        if query.qtype in (AXFR, IXFR) and query.qclass == IN:
            return self._transfer(packet, query, transport, client)
        if refused(query):
            return self.replies.answer(_REFUSED, query, transport, client)
        key = query.name + query.question[-4:]
        answer = self._kept.get(key)
        if answer is None:
            forward = self._foreign(query.name)
            if forward is not None:
                return self._ask(query, forward, transport, client)
            answer = self._compile(key, query)
        else:
            counters.reused += 1
        if answer is None:
            if self._forwards:
                return self._ask(query, self._forward, transport, client)
            answer = _REFUSED
        if self.recursion is not None and _asks_for_recursion(query):
            if answer.beyond:
                return self._ask(query, (), transport, client, answer)
            if answer.referral:  # who asks a resolver does not follow it
                return self._ask(query, (), transport, client)
        return self.replies.answer(answer, query, transport, client)

    def own(self, query: Query) -> Answer | None:
        """What we say ourselves to a question, for an alias of somebody else's that leads here; None: nothing."""
        if self._foreign(query.name) is not None:
            return None
        answer = compile_answer(self.view, query, self._is_foreign)
        return None if answer is not None and answer.referral else answer

    def is_own(self, name: bytes) -> bool:
        """Whether a folded wire name is ours to answer."""
        return self.view.find(name) is not None and self._foreign(name) is None

    def refresh(self, packet: bytes) -> None:
        """A worker has answered this out of a kept answer that will soon be too old."""
        query = read_query(packet)
        if isinstance(query, Query) and self.recursion is not None:
            self.recursion.refresh(query)

    def encode(self, answer: Answer, query: Query, transport: str, client: bytes = b"", now: int = 0) -> bytes:
        """The packet for one client, whatever its rate. `now`: seconds since 1970, for its cookie."""
        return self.replies.encode(answer, query, transport, client, now)

    def failure(self, query: Query, rcode: int, transport: str, client: bytes = b"") -> bytes:
        """An error for a question that could be read (a forwarded one that failed)."""
        return self.encode(Answer(rcode, [], aa=False), query, transport, client, self.replies.clock() // 1000)

    def fault(self, packet: bytes) -> bytes | None:
        """SERVFAIL for a packet that could not be answered because of a fault of ours."""
        query = read_query(packet)
        if not isinstance(query, Query):
            return None
        return self.replies.fault(query)

    def make_ready(self, most: int) -> bool:
        """Make up to `most` answers anew that a change has dropped and that clients ask for, so that nobody has
        to wait for them; True when there are more."""
        wanted = self.fast.wanted if self.fast is not None else {}
        for _ in range(min(most, len(wanted))):
            key = next(iter(wanted))
            del wanted[key]
            qtype, qclass = int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], "big")
            self._compile(key, Query(0, 0, key, key[:-4], qtype, qclass, False, 512))
        return bool(wanted)

    def _changed(self) -> None:
        """The view's records are others now."""
        if self.fast is not None:
            self.fast.refresh()
            if self.fast.wanted:
                self.wanting()

    def _ready(self, fast: FastPath, packet: bytes, transport: str, client: bytes) -> bytes | None:
        """An answer out of the table to who is not limited. The workers have looked there already for what
        they hand over; this is for TCP, TLS, and for UDP while there is no worker."""
        replies = self.replies
        if replies.limits(transport, client):
            return None
        found = fast.answer(packet, client, transport != "udp", replies.clock() // 1000, replies.next_turn())
        if found is None:
            return None
        reply, zone, kind, rcode, cookie = found
        self.counters.reused += 1
        self.counters.queries[transport, kind] += 1
        self.counters.response(transport, zone, kind, rcode, "fast")
        self.counters.truncated += reply[2] >> 1 & 1
        if cookie:
            self.counters.cookies[cookie] += 1
        return reply

    def _transfer(self, packet: bytes, query: Query, transport: str, client: bytes) -> bytes | Transfer | None:
        found = self.transfers.decide(packet, query, transport, client)
        if isinstance(found, Answer):
            return self.replies.answer(found, query, transport, client)
        empty = self.encode(Answer(NOERROR, []), query, transport, client, self.replies.clock() // 1000)
        end = question_end(empty)
        return Transfer(found, empty[:end], empty[end:], client)

    def _ask(
        self,
        query: Query,
        upstreams: tuple[tuple[str, int], ...],
        transport: str,
        client: bytes,
        alias: Answer | None = None,
    ) -> Forward | bytes | None:
        """Forward a question, within the rate limit."""
        if self.recursion is not None and not _asks_for_recursion(query):
            return self.replies.answer(_REFUSED, query, transport, client)
        over, cookie = self.replies.admit(_FOREIGN, query, transport, client)
        if over:
            return self.replies.limited(over, _FOREIGN, query, cookie)
        self.counters.forwarded["sent"] += 1
        return Forward(query, upstreams, client, alias)

    def _compile(self, key: bytes, query: Query) -> Answer | None:
        if self._forwards and self._only_points(query):
            return None
        answer = compile_answer(self.view, query, self._is_foreign)
        self.counters.compiled += 1
        whole = answer is not None and not ((answer.beyond or answer.referral) and self.recursion is not None)
        if answer is not None and whole and query.qtype != SOA:
            self._kept.keep(key, answer)
        return answer

    def _is_foreign(self, name: bytes) -> bool:
        """Whether an alias that leads to a folded wire name leads to servers of a forward zone."""
        return self._foreign(name) is not None

    def _only_points(self, query: Query) -> bool:
        """True for what we don't know of a reverse name: anything but where it points."""
        return (
            query.qtype not in (PTR, ANY) and query.name.endswith(b"\x04arpa\0") and self.view.find(query.name) is None
        )

    def _foreign(self, name: bytes) -> tuple[tuple[str, int], ...] | None:
        """The servers of the forward zone that holds the name more closely than our own zones do; a resolver's
        forward zone also takes the place of a zone of ours."""
        if not self._forward_zones:
            return None
        own = self.view.find(name)
        shortest = len(own.wire) - (self.recursion is not None) if own is not None else 0
        at = 0
        while len(name) - at > shortest:
            servers = self._forward_zones.get(name[at:])
            if servers is not None:
                return servers
            if not name[at]:
                return None
            at += 1 + name[at]
        return None


_REFUSED = Answer(REFUSED, [], aa=False, bucket=bytes((ERROR, REFUSED)), extended_error=NOT_AUTHORITATIVE)
_PROHIBITED = Answer(REFUSED, [], aa=False, bucket=bytes((ERROR, REFUSED)), extended_error=PROHIBITED)
_FOREIGN = Answer(NOERROR, [], aa=False)


def _asks_for_recursion(query: Query) -> bool:
    """Who does not (RD) is told nothing of what others have asked for, and is asked for by nobody who goes on
    asking others in a circle."""
    return bool(query.flags & RD) and query.qclass == IN
