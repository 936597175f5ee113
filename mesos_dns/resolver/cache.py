"""Answers and failures that are kept, by question, and what a kept answer looks like when it is older. No I/O.

Every time is seconds of one monotonic clock, which the caller reads and passes in. An answer is fresh for its
lifetime and stays for `stale_max` seconds more, for the time when no upstream answers (RFC 8767). Failures are
kept beside the answers, so none of them takes an answer's place (RFC 9520 §3.2). What is asked for least recently
goes first.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from copy import copy

from mesos_dns.answer import Answer, ttl_places

MOST_FAILURES = 4096
MOST_FAILURE_TTL = 60
"""Seconds (RFC 9520 §3.2 has five minutes as the limit)."""
MEAN_OCTETS = 4096
"""Octets of records for each answer that may be kept: over all, so that large ones leave room for fewer."""
SHORTEST_RENEWED = 10
"""Seconds: what lives shorter is not renewed ahead of time, as in native/reply.c."""
MOST_PASSED = 64
"""Answers that are passed over at a time."""
VARIANTS = (b"", b"d", b"c", b"b")
"""What is asked of upstreams beside the question: nothing, DO, CD, both."""
_TTL = struct.Struct(">I")


class Entry:
    """A kept answer. `lifetime`: seconds from `made` on; `upstream` is where it came from.

    `retry_at`: while it is past its time, nobody is asked before.
    """

    __slots__ = ("answer", "kind", "lifetime", "made", "retry_at", "size", "upstream")

    def __init__(self, answer: Answer, kind: str, lifetime: int, made: float, upstream: str = "") -> None:
        self.answer = answer
        self.kind = kind
        self.lifetime = lifetime
        self.made = made
        self.upstream = upstream
        self.retry_at = made
        self.size = len(answer.wire) + len(answer.authority)

    def fresh(self, now: float) -> bool:
        """Whether it may be given as it is."""
        return now < self.made + self.lifetime

    def old(self, now: float) -> bool:
        """Whether it is fresh, in the last tenth of its time, and worth being renewed before that is over."""
        return self.lifetime >= SHORTEST_RENEWED and self.made + self.lifetime * 0.9 <= now < self.made + self.lifetime


class Failure:
    """A kept failure: nobody is asked before `until`; `ttl` seconds were waited this time, `reason` says for what."""

    __slots__ = ("reason", "ttl", "until")

    def __init__(self, reason: str, ttl: int, until: float) -> None:
        self.reason = reason
        self.ttl = ttl
        self.until = until


class Cache:
    """At most `size` answers. Keys are a question's (folded name, type and class, in wire form) and one of VARIANTS.

    `failure_ttl`, `stale_max` in seconds. `in_use` tells of a key whether clients were given its answer without this
    cache being asked; such an answer is passed over when room is made.
    """

    def __init__(self, size: int, *, stale_max: float = 0.0, failure_ttl: int = 5) -> None:
        self.evicted = 0
        self.octets = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._failures: OrderedDict[bytes, Failure] = OrderedDict()
        self.in_use: Callable[[bytes], bool] = lambda key: False
        self.set_limits(size, stale_max=stale_max, failure_ttl=failure_ttl)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def failures(self) -> int:
        """How many failures are kept, those that are over included."""
        return len(self._failures)

    def set_limits(self, size: int, *, stale_max: float, failure_ttl: int) -> None:
        """Other limits from now on; what is beyond goes."""
        self._size = size
        self._stale_max = stale_max
        self._failure_ttl = failure_ttl
        self._make_room()

    def get(self, key: bytes, now: float) -> Entry | None:
        """What is kept, fresh or stale, but not beyond that."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.made + entry.lifetime + self._stale_max:
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def keep(self, key: bytes, entry: Entry) -> bool:
        """Keep an answer in place of the one before and of a failure; False where it may not be kept, and then the
        one before goes, too: it is known to be out of date."""
        self._failures.pop(key, None)
        self.drop(key)
        if entry.lifetime <= 0 or not self._size or entry.size > self._size * MEAN_OCTETS:
            return False
        self._entries[key] = entry
        self.octets += entry.size
        self._make_room()
        return True

    def drop(self, key: bytes) -> None:
        """Forget an answer."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.octets -= entry.size

    def fail(self, key: bytes, reason: str, now: float) -> Failure:
        """Keep a failure: for twice as long as the one before, if that is not long over."""
        before = self._failures.pop(key, None)
        ttl = self._failure_ttl
        if before is not None and now < before.until + MOST_FAILURE_TTL:
            ttl = max(ttl, min(before.ttl * 2, MOST_FAILURE_TTL))
        failure = self._failures[key] = Failure(reason, ttl, now + ttl)
        if len(self._failures) > MOST_FAILURES:
            self._failures.popitem(last=False)
        return failure

    def failing(self, key: bytes, now: float) -> Failure | None:
        """A failure that still holds."""
        failure = self._failures.get(key)
        return failure if failure is not None and now < failure.until else None

    def _make_room(self) -> None:
        passed = 0
        while len(self._entries) > self._size or self.octets > self._size * MEAN_OCTETS:
            key, entry = next(iter(self._entries.items()))
            if passed < MOST_PASSED and self.in_use(key):
                self._entries.move_to_end(key)
                passed += 1
                continue
            del self._entries[key]
            self.octets -= entry.size
            self.evicted += 1


def variant(*, dnssec_ok: bool, checking_disabled: bool) -> bytes:
    """Which of VARIANTS a client's question is."""
    return VARIANTS[dnssec_ok + 2 * checking_disabled]


def aged(answer: Answer, age: int) -> Answer:
    """A kept answer after `age` whole seconds: every TTL is that much less, but not below 0."""
    return _with_ttls(answer, lambda ttl: max(ttl - age, 0), answer.extended_error)


def stale(answer: Answer, ttl: int, extended_error: int) -> Answer:
    """An answer that is past its time, with this TTL in all of its records (RFC 8767 §4)."""
    return _with_ttls(answer, lambda _: ttl, extended_error)


def _with_ttls(answer: Answer, changed: Callable[[int], int], extended_error: int | None) -> Answer:
    other = copy(answer)
    other.wire, other.authority = (_rewritten(section, changed) for section in (answer.wire, answer.authority))
    other.extended_error = extended_error
    return other


def _rewritten(section: bytes, changed: Callable[[int], int]) -> bytes:
    out = bytearray(section)
    for at in ttl_places(section):
        _TTL.pack_into(out, at, changed(_TTL.unpack_from(section, at)[0]))
    return bytes(out)
