"""One packet in, one decision out: answer it, forward it, or drop it. No I/O here.

The responder keeps compiled answers by question and drops exactly those that a change touches (an
answer knows every owner it was built from). Answers with a SOA serial in them (negative ones, SOA)
are built anew each time, so a resolver never sees an old serial.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from mesos_dns.answer import Answer, Dependency, compile_answer, error
from mesos_dns.config import DnsConfig, host_port
from mesos_dns.message import RA, REFUSED, Bad, Query, read_query
from mesos_dns.names import ANY, PTR, SOA
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView

MAX_TCP = 65535
CACHE_ENTRIES = 200_000
"""Compiled answers kept at most; about 100 MB at 500 bytes each."""

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
        self._turn = 0
        self._max_udp = config.max_udp_payload
        self._opt = b"\0\0\x29" + self._max_udp.to_bytes(2, "big") + b"\0\0\0\0\0\0"
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
        self._turn += 1
        packet = answer.encode(query, limit, self._turn, self._flags, self._opt if query.edns else b"")
        self.counters.responses[transport, answer.rcode] += 1
        if packet[2] & 2:
            self.counters.truncated += 1
        return packet

    def failure(self, query: Query, rcode: int, transport: str) -> bytes:
        """An error for a question that could be read (a forwarded one that failed)."""
        return self.encode(Answer(rcode, [], aa=False), query, transport)

    def invalidate(self, tag: str, owner: str) -> None:
        """Drop every compiled answer that was built from an owner."""
        for key in self._dependents.pop((tag, owner), ()):
            self._forget(key)

    def _compile(self, key: bytes, query: Query) -> Answer | None:
        if self._forward and self._only_points(query):
            return None
        answer = compile_answer(self.view, query)
        self.counters.compiled += 1
        if answer is not None and not answer.authority and query.qtype != SOA and answer.depends:
            if len(self._answers) >= CACHE_ENTRIES:
                self._forget(next(iter(self._answers)))
            self._answers[key] = answer
            for dependency in answer.depends:
                self._dependents.setdefault(dependency, set()).add(key)
        return answer

    def _only_points(self, query: Query) -> bool:
        """True for what we don't know of a reverse name: anything but where it points."""
        return (
            query.qtype not in (PTR, ANY) and query.name.endswith(b"\x04arpa\0") and self.view.find(query.name) is None
        )

    def _forget(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is None:
            return
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
