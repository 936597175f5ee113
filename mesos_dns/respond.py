"""One packet in, one decision out: answer it, forward it, or drop it. No I/O here.

The responder keeps compiled answers by question and drops exactly those that a change touches (an
answer knows every owner it was built from). Negative answers, referrals, SOA and what wildcards give
are built anew each time: so no old serial is ever shown, and no stream of random names fills memory.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from mesos_dns.answer import Answer, Dependency, compile_answer, error, refused
from mesos_dns.config import DnsConfig, host_port
from mesos_dns.message import RA, REFUSED, SERVFAIL, Bad, Query, read_query
from mesos_dns.names import ANY, PTR, SOA
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import EVERYTHING, ZoneView

MAX_TCP = 65535
CACHE_BYTES = 128 << 20
"""Memory for compiled answers, about; the oldest are dropped first."""
_ENTRY_BYTES, _DEPENDENCY_BYTES = 600, 450
"""What an answer and each owner it depends on cost besides its records (measured on CPython 3.11)."""
_GOLDEN = 0x9E3779B1
"""2**32 over the golden ratio: steps of this size spread evenly over the circle, and so does every
n-th of them. A plain count would give a client that asks A and AAAA in turn always the same order."""

_TYPE_NAMES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 255: "ANY"}


class Forward(msgspec.Struct, frozen=True):
    """The question is not ours: ask these servers, in order."""

    query: Query
    upstreams: tuple[tuple[str, int], ...]


class DnsCounters:
    """Plain counts, exposed by mesos_dns.metrics. Keys are bounded: types outside a short list are "other"."""

    def __init__(self) -> None:
        self.queries: Counter[tuple[str, str]] = Counter()
        self.responses: Counter[tuple[str, int]] = Counter()
        self.compiled = 0
        self.reused = 0
        self.truncated = 0
        self.dropped = 0
        self.faults = 0
        self.forwarded: Counter[str] = Counter()
        self.tcp_connections = 0
        self.tcp_refused = 0


class Responder:
    """Decides over packets; one per process. `invalidate` is the zone view's `touch`."""

    def __init__(self, view: ZoneView, config: DnsConfig, counters: DnsCounters | None = None) -> None:
        self.view = view
        self.counters = counters or DnsCounters()
        self._answers: dict[bytes, Answer] = {}
        self._dependents: dict[Dependency, set[bytes]] = {}
        self._bytes = 0
        self._turn = 0
        self._max_udp = config.max_udp_payload
        self._opt = b"\0\0\x29" + self._max_udp.to_bytes(2, "big") + b"\0\0\0\0\0\0"
        self._opt_dnssec_ok = self._opt[:7] + b"\x80\0\0\0"
        self._forward = tuple(host_port(server, 53) for server in config.forward)
        self._forward_zones = {
            name_to_wire(zone.lower()): tuple(host_port(server, 53) for server in servers)
            for zone, servers in config.zones.items()
        }
        self._flags = RA if config.recursion and (self._forward or self._forward_zones) else 0
        view.touch = self.invalidate

    def respond(self, packet: bytes, transport: str) -> bytes | Forward | None:
        """Answer a packet that came over "udp" or "tcp"; None means drop it."""
        query = read_query(packet)
        counters = self.counters
        if query is None:
            counters.dropped += 1
            return None
        if isinstance(query, Bad):
            counters.queries[transport, "bad"] += 1
            counters.responses[transport, query.rcode] += 1
            return error(query, self._flags, self._opt)
        counters.queries[transport, _TYPE_NAMES.get(query.qtype, "other")] += 1
        if refused(query):
            return self.encode(_REFUSED, query, transport)
        key = query.name + query.question[-4:]
        answer = self._answers.get(key)
        if answer is None:
            forward = self._foreign(query.name)
            if forward is not None:
                counters.forwarded["sent"] += 1
                return Forward(query, forward)
            answer = self._compile(key, query)
        else:
            counters.reused += 1
        if answer is None:
            if self._forward:
                counters.forwarded["sent"] += 1
                return Forward(query, self._forward)
            answer = _REFUSED
        return self.encode(answer, query, transport)

    def encode(self, answer: Answer, query: Query, transport: str) -> bytes:
        """The packet for one client."""
        limit = min(query.payload, self._max_udp) if transport == "udp" else MAX_TCP
        self._turn = (self._turn + _GOLDEN) & 0xFFFFFFFF
        opt = (self._opt_dnssec_ok if query.dnssec_ok else self._opt) if query.edns else b""  # RFC 3225 §3
        packet = answer.encode(query, limit, self._turn, self._flags, opt)
        self.counters.responses[transport, answer.rcode] += 1
        if packet[2] & 2:
            self.counters.truncated += 1
        return packet

    def failure(self, query: Query, rcode: int, transport: str) -> bytes:
        """An error for a question that could be read (a forwarded one that failed)."""
        return self.encode(Answer(rcode, [], aa=False), query, transport)

    def fault(self, packet: bytes) -> bytes | None:
        """SERVFAIL for a packet that could not be answered because of a fault of ours."""
        query = read_query(packet)
        if not isinstance(query, Query):
            return None
        self.counters.faults += 1
        return error(Bad(query.id, query.flags, SERVFAIL, query.question, query.edns), self._flags, self._opt)

    def invalidate(self, tag: str, owner: str) -> None:
        """Drop every compiled answer that was built from an owner (all, for the tag EVERYTHING)."""
        if tag == EVERYTHING:
            self._answers.clear()
            self._dependents.clear()
            self._bytes = 0
            return
        for key in self._dependents.pop((tag, owner), ()):
            self._forget(key)

    def _compile(self, key: bytes, query: Query) -> Answer | None:
        if self._forward and self._only_points(query):
            return None
        answer = compile_answer(self.view, query)
        self.counters.compiled += 1
        if answer is not None and answer.depends and query.qtype != SOA:
            self._keep(key, answer)
        return answer

    def _keep(self, key: bytes, answer: Answer) -> None:
        self._answers[key] = answer
        self._bytes += _weight(answer)
        for dependency in answer.depends:
            self._dependents.setdefault(dependency, set()).add(key)
        while self._bytes > CACHE_BYTES:
            self._forget(next(iter(self._answers)))

    def _only_points(self, query: Query) -> bool:
        """True for what we don't know of a reverse name: anything but where it points."""
        return (
            query.qtype not in (PTR, ANY) and query.name.endswith(b"\x04arpa\0") and self.view.find(query.name) is None
        )

    def _forget(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is None:
            return
        self._bytes -= _weight(answer)
        for dependency in answer.depends:
            held = self._dependents.get(dependency)
            if held is not None:
                held.discard(key)
                if not held:
                    del self._dependents[dependency]

    def _foreign(self, name: bytes) -> tuple[tuple[str, int], ...] | None:
        """The servers of the forward zone that holds the name more closely than our own zones do."""
        if not self._forward_zones:
            return None
        own = self.view.find(name)
        shortest = len(own.wire) if own is not None else 0
        at = 0
        while len(name) - at > shortest:
            servers = self._forward_zones.get(name[at:])
            if servers is not None:
                return servers
            if not name[at]:
                return None
            at += 1 + name[at]
        return None


_REFUSED = Answer(REFUSED, [], aa=False)


def _weight(answer: Answer) -> int:
    """The memory that a kept answer costs, about (its glue is held twice: whole and by record set)."""
    return _ENTRY_BYTES + len(answer.wire) + 3 * len(answer.glue_full) + _DEPENDENCY_BYTES * len(answer.depends)
