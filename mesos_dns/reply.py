"""From an answer to what goes out to one client: its cookie, the rate limit, the OPT record. No I/O.

Only UDP is limited, and nobody who sent a good server cookie: who gets our answers by UDP is then known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from mesos_dns.answer import Answer, error
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import CLIENT_SIZE, reply_cookie
from mesos_dns.counters import TYPE_NAMES, DnsCounters
from mesos_dns.edns import STALE, STALE_NXDOMAIN, opt_record, option_data, padded
from mesos_dns.message import BADCOOKIE, FORMERR, NOERROR, NXDOMAIN, SERVFAIL, TC, Bad, Query
from mesos_dns.ratelimit import ANSWER, ERROR, PASS, SLIP, RateLimiter, is_private

MAX_TCP = 65535
TURN_STEP: Final = 0x9E3779B1
"""2**32 over the golden ratio: steps of this size spread evenly over the circle, and so does every
n-th of them. A plain count would give a client that asks A and AAAA in turn always the same order."""


class Limiter(Protocol):
    """Who counts equal answers: `ratelimit.RateLimiter`, or the table that workers share."""

    def check(self, bucket: bytes, client: bytes, now: int) -> int:
        """PASS, SLIP or DROP for one more answer of a bucket to a packed address; `now` in ms."""


class Replies:
    """Writes the replies of one responder. `limiter` counts for the rate limit, if there is one.

    `flags` are set in every reply (RA), `secrets` are those of cookies, () without cookies. `stale`: what is
    said of the cluster may be out of date. `clock` gives milliseconds since 1970, `turn` is the share of the
    circle by which the last answer was rotated, `idle` gives the seconds that an idle connection stays (RFC 7828).
    """

    def __init__(
        self,
        config: DnsConfig,
        counters: DnsCounters,
        secrets: Sequence[bytes],
        flags: int,
        limiter: Limiter | None = None,
    ) -> None:
        self.stale = False
        self.clock: Callable[[], int] = _milliseconds
        self.turn = 0
        self._counters = counters
        self._secrets = tuple(secrets)
        self._limiter: Limiter | None = None
        if config.rate_limit:
            self._limiter = limiter or RateLimiter(config.rate_limit, config.rate_limit_slip)
        self._limit_private = config.rate_limit_private
        self.idle: Callable[[], float] = lambda: float(config.tcp_idle)
        self._max_udp = config.max_udp_payload
        self._turn_step = TURN_STEP if config.rotate else 0
        self._flags = flags

    def answer(self, answer: Answer, query: Query, transport: str, client: bytes) -> bytes | None:
        """The packet for one client, or what the rate limit leaves of it; None for nothing."""
        over, cookie = self.admit(answer, query, transport, client)
        return self.limited(over, answer, query, cookie) if over else self._encode(answer, query, transport, cookie)

    def admit(self, answer: Answer, query: Query, transport: str, client: bytes) -> tuple[int, bytes]:
        """(PASS, SLIP or DROP of the rate limit, the cookie to answer with)."""
        now = self.clock()
        cookie, trusted = self._seen_cookie(query.cookie, client, now // 1000)
        if trusted or not self.limits(transport, client):
            return PASS, cookie
        return self._check(bucket_of(answer, query), client, now), cookie

    def limited(self, over: int, answer: Answer, query: Query, cookie: bytes) -> bytes | None:
        """A UDP answer over the limit: a client with cookies learns ours, others are told to come by TCP."""
        counters = self._counters
        if over != SLIP:
            counters.limited["dropped"] += 1
            return None
        if cookie:
            bad = Bad(query.id, query.flags, BADCOOKIE, query.question, True)
            return self._bad_cookie(bad, cookie, query.dnssec_ok)
        counters.limited["slipped"] += 1
        self._count(answer, query, "udp", answer.rcode)
        opt = _plain_opt(self._max_udp, query.dnssec_ok, None) if query.edns else b""
        return answer.slip(query, self._flags, opt)

    def encode(self, answer: Answer, query: Query, transport: str, client: bytes, now: int) -> bytes:
        """The packet for one client, whatever its rate. `now`: seconds since 1970, for its cookie."""
        return self._encode(answer, query, transport, self._cookie(query.cookie, client, now)[0])

    def bad(self, bad: Bad, transport: str, client: bytes) -> bytes | None:
        """What gets an error, and what asks for a cookie alone (RFC 7873 §5.4)."""
        now = self.clock()
        cookie, trusted = self._seen_cookie(bad.cookie, client, now // 1000)
        if bad.rcode == NOERROR:
            if not cookie:
                bad = Bad(bad.id, bad.flags, FORMERR)
            elif not trusted and len(bad.cookie) > CLIENT_SIZE:
                bad = Bad(bad.id, bad.flags, BADCOOKIE, edns=True)
        limits = not trusted and self.limits(transport, client)
        over = self._check(bytes((ERROR, bad.rcode)), client, now) if limits else PASS
        if over:
            if over != SLIP:
                self._counters.limited["dropped"] += 1
                return None
            if cookie:
                return self._bad_cookie(Bad(bad.id, bad.flags, BADCOOKIE, edns=True), cookie, False)
            self._counters.limited["slipped"] += 1
        self._counters.response(transport, "", "other", bad.rcode)
        opt = opt_record(self._max_udp, rcode=bad.rcode, options=option_data(cookie)) if bad.edns else b""
        return error(bad, self._flags | (TC if over else 0), opt)

    def fault(self, query: Query) -> bytes:
        """SERVFAIL because of a fault of ours, which may be in any part of this: so nothing else is in it."""
        self._counters.faults += 1
        bad = Bad(query.id, query.flags, SERVFAIL, query.question, query.edns)
        return error(bad, self._flags, opt_record(self._max_udp) if query.edns else b"")

    def _encode(self, answer: Answer, query: Query, transport: str, cookie: bytes) -> bytes:
        limit = min(query.payload, self._max_udp) if transport == "udp" else MAX_TCP
        self.next_turn()
        opt = self._opt(answer, query, transport, cookie) if query.edns else b""
        packet = answer.encode(query, limit, self.turn, self._flags, opt)
        self._count(answer, query, transport, answer.rcode)
        if packet[2] & 2:
            self._counters.truncated += 1
        if query.padding and transport == "tls":  # what everybody can read gains nothing (RFC 7830 §6)
            return padded(packet, len(opt), limit)
        return packet

    def _count(self, answer: Answer, query: Query, transport: str, rcode: int) -> None:
        zone = answer.zone.origin if answer.zone is not None else ""
        self._counters.response(transport, zone, TYPE_NAMES.get(query.qtype, "other"), rcode)

    def next_turn(self) -> int:
        """The next rotation; 0 where records keep their order."""
        self.turn = (self.turn + self._turn_step) & 0xFFFFFFFF
        return self.turn

    def _opt(self, answer: Answer, query: Query, transport: str, cookie: bytes) -> bytes:
        """The OPT record for a client that has sent one."""
        told = answer.extended_error
        if self.stale and answer.cluster:
            told = STALE_NXDOMAIN if answer.rcode == NXDOMAIN else STALE
        keepalive = min(int(self.idle() * 10), 0xFFFF) if query.keepalive and transport != "udp" else None
        if not cookie and keepalive is None:
            return _plain_opt(self._max_udp, query.dnssec_ok, told)
        options = option_data(cookie, told, keepalive)
        return opt_record(self._max_udp, dnssec_ok=query.dnssec_ok, options=options)

    def _cookie(self, cookie: bytes, client: bytes, now: int) -> tuple[bytes, bool]:
        """(the cookie to answer with, b"" for none; whether the client has shown that it gets our answers)."""
        if not cookie or not self._secrets or not client:
            return b"", False
        return reply_cookie(cookie, client, now, self._secrets)

    def _seen_cookie(self, cookie: bytes, client: bytes, now: int) -> tuple[bytes, bool]:
        """`_cookie`, counted."""
        reply, trusted = self._cookie(cookie, client, now)
        if reply:
            self._counters.cookies["valid" if trusted else "new" if len(cookie) == CLIENT_SIZE else "invalid"] += 1
        return reply, trusted

    def limits(self, transport: str, client: bytes) -> bool:
        """Whether the rate limit holds for a client."""
        return (
            self._limiter is not None
            and transport == "udp"
            and bool(client)
            and (self._limit_private or not is_private(client))
        )

    def _check(self, bucket: bytes, client: bytes, now: int) -> int:
        return self._limiter.check(bucket, client, now) if self._limiter is not None else PASS

    def _bad_cookie(self, bad: Bad, cookie: bytes, dnssec_ok: bool) -> bytes:
        """BADCOOKIE over the limit, with a cookie that is good next time (RFC 7873 §5.2.3)."""
        self._counters.limited["badcookie"] += 1
        self._counters.response("udp", "", "other", BADCOOKIE)
        options = option_data(cookie)
        return error(bad, self._flags, opt_record(self._max_udp, dnssec_ok=dnssec_ok, rcode=BADCOOKIE, options=options))


def bucket_of(answer: Answer, query: Query) -> bytes:
    """The name of an answer's bucket in the rate limit: its own, or the question's folded name and type."""
    return answer.bucket or bytes((ANSWER,)) + query.name + query.question[-4:-2]


@lru_cache(maxsize=64)
def _plain_opt(payload: int, dnssec_ok: bool, extended_error: int | None) -> bytes:
    """The OPT record of a client without cookies, kept: nearly all are alike."""
    return opt_record(payload, dnssec_ok=dnssec_ok, options=option_data(b"", extended_error))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
