"""The resolver: what is not ours to say, out of the cache or from upstreams, for many clients at once.

One question goes to upstreams once, however many clients wait for it; a client that goes away takes nobody's answer
with it. When no upstream answers, or none within 1.8 s, what is past its time is given (RFC 8767 §5), and the question
goes on in the background. Questions with DO or CD are asked and kept apart. We do not validate: signatures are passed
on to who asks for them, and no reply of ours has the AD bit, whatever an upstream says.

What may be answered again without asking is also put into the table that native workers serve from; the table may
lose it at any time, and then the question comes here and puts it there again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from mesos_dns.answer import Answer
from mesos_dns.edns import STALE, STALE_NXDOMAIN
from mesos_dns.message import CD, IN, NXDOMAIN, SERVFAIL, Query
from mesos_dns.resolver.aliases import MOST_PARTS, behind, with_end
from mesos_dns.resolver.allow import Allowed
from mesos_dns.resolver.cache import Cache, Entry, aged, stale, variant
from mesos_dns.resolver.config import Network, ResolverConfig
from mesos_dns.resolver.counters import ResolverCounters
from mesos_dns.resolver.race import NoAnswer
from mesos_dns.resolver.reading import FAILURE, POSITIVE, Lifetimes, Malformed, Read, read_reply
from mesos_dns.resolver.upstreams import Reply
from mesos_dns.respond import Forward, Responder

log = logging.getLogger(__name__)

PATIENCE = 1.8
"""Seconds that a client waits while there is an answer that is past its time (RFC 8767 §5, client response timer)."""
STALE_TTL = 30
"""Seconds: the TTL of such an answer, and the time until upstreams are asked again."""
CACHED_ERROR, NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 13, 22, 23
"""Extended errors (RFC 8914 §4)."""
_ERRORS = {
    **dict.fromkeys(("timeout", "unreachable", "looping", "no-upstream"), NO_REACHABLE_AUTHORITY),
    **dict.fromkeys(("tls", "local"), NETWORK_ERROR),
}
_NOT_KEPT = frozenset(("no-upstream", "looping", "local", "fault"))
"""Reasons that nobody has to be asked to find again, or that say nothing of the question."""
_WAITING = 4
"""Clients that may wait, for each question that may be in flight."""
_GRACE = 1.0
"""Seconds that a question may take beyond the configured time before it is given up here."""


class Asks(Protocol):
    """Who asks upstreams (`upstreams.Upstreams`)."""

    async def ask(
        self,
        name: bytes,
        question: bytes,
        *,
        dnssec_ok: bool,
        checking_disabled: bool,
        read: Callable[[bytes], Any] | None = None,
    ) -> Reply:
        """A good reply, with what `read` makes of it; one of which it raises ValueError is none. Raises NoAnswer."""

    def is_probe(self, name: bytes) -> bool:
        """Whether a name is a probe of ours, which has come back."""


class AgedTable(Protocol):
    """The part of the workers' table that holds answers with a time (`fastpath.FastPath`)."""

    def keep_aged(self, key: bytes, answer: Answer, lifetime: int, *, stale: bool = False) -> bool:
        """Serve an answer for so many seconds, its TTLs counting down; `stale`: as they are. False: no room."""

    def forget_aged(self, key: bytes) -> bool:
        """Serve it no longer; whether it was there."""

    def was_read(self, key: bytes) -> bool:
        """Whether clients were given it since this was last asked."""


class _Asked:
    """A question in flight, or to be: `key` for the cache, `plain` for the table (b"": not for the table).

    `shared`: clients ask for this very name, so that the table is of use for it.
    """

    __slots__ = (
        "checking_disabled",
        "key",
        "overdue",
        "plain",
        "query",
        "stale",
        "started",
        "task",
        "timer",
        "waiting",
    )

    def __init__(self, query: Query, *, shared: bool = True) -> None:
        self.query = query
        self.checking_disabled = bool(query.flags & CD)
        apart = variant(dnssec_ok=query.dnssec_ok, checking_disabled=self.checking_disabled)
        plain = query.name + query.question[-4:]
        self.key = plain + apart
        self.plain = plain if shared and not apart else b""
        self.started = 0.0
        self.stale = False
        self.overdue = False
        self.task: asyncio.Task[Answer] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: set[asyncio.Future[None]] = set()

    def give_up(self) -> None:
        """It takes too long."""
        if self.task is not None:
            self.overdue = True
            self.task.cancel()


class Resolver:
    """The `Recursion` of a responder. `clock`: seconds, monotonic.

    Raises ValueError for a configuration whose `allow` or `listen` can't be read. A `cache` that is given keeps its
    limits until `limit` is called, when this resolver has taken another one's place.
    """

    def __init__(
        self,
        config: ResolverConfig,
        upstreams: Asks,
        counters: ResolverCounters | None = None,
        cache: Cache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = counters or ResolverCounters()
        self.cache = cache if cache is not None else Cache(config.cache_size)
        self._config = config
        if cache is None:
            self.limit()
        self._upstreams = upstreams
        self._clock = clock
        self._allowed = Allowed(config.allow, config.listen)
        self._limits = Lifetimes(config.min_ttl, config.max_ttl, config.negative_ttl)
        self._responder: Responder | None = None
        self._table: AgedTable | None = None
        self._flights: dict[bytes, _Asked] = {}
        self._waiting: Counter[bytes] = Counter()
        self._waiting_in_all = 0
        self._closed = False

    def attach(self, responder: Responder) -> None:
        """From now on this responder writes the replies, and has the table for what is kept."""
        self._responder = responder
        self._table = table = responder.fast
        self.cache.in_use = table.was_read if table is not None else _nothing

    def limit(self) -> None:
        """Give the cache the limits of this configuration; what is beyond goes."""
        config = self._config
        self.cache.set_limits(config.cache_size, stale_max=float(config.stale_max), failure_ttl=config.failure_ttl)

    def allows(self, client: bytes) -> bool:
        """Whether a client, by its packed address, is answered at all; b"": one of this process."""
        return client in self._allowed

    @property
    def networks(self) -> tuple[Network, ...]:
        """Whose addresses are answered, for the workers' table."""
        return tuple(self._allowed.networks)

    def refresh(self, query: Query) -> None:
        """Ask in the background for what is kept and will soon be too old."""
        asked = _Asked(query)
        now = self._clock()
        entry = self.cache.get(asked.key, now)
        if entry is not None and not (entry.made + entry.lifetime / 2 <= now and entry.fresh(now)):
            return
        self._prefetch(asked, now)

    async def resolve(self, packet: bytes, forward: Forward, transport: str) -> bytes | None:
        """The reply for the client; None: silence, as too many are waiting."""
        query, alias = forward.query, forward.alias
        if alias is not None:
            answer = await self._followed(query, alias, forward.client, 1)
        else:
            answer = await self._answer(query, forward.client)
        responder = self._responder
        if answer is None or responder is None:
            return None
        reply = responder.encode(answer, query, transport, forward.client, responder.replies.clock() // 1000)
        if query.flags & CD:  # comes back (RFC 4035 §3.2.2)
            return reply[:3] + bytes((reply[3] | CD,)) + reply[4:]
        return reply

    async def finish(self) -> None:
        """Wait until the questions that are under way have ended, by themselves or by their time."""
        while tasks := [asked.task for asked in self._flights.values() if asked.task is not None]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """End all questions; whoever waits gets no answer."""
        self._closed = True
        tasks = [asked.task for asked in self._flights.values() if asked.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """What is held and under way, and how questions were answered so far."""
        return {
            "entries": len(self.cache),
            "octets": self.cache.octets,
            "evicted": self.cache.evicted,
            "kept_failures": self.cache.failures,
            "in_flight": len(self._flights),
            "waiting": self._waiting_in_all,
            "results": dict(self.counters.results),
            "failures": dict(self.counters.failures),
            "kept": dict(self.counters.kept),
        }

    def kept(self, name: bytes, qtype: int) -> dict[str, Any] | None:
        """What is kept of a folded wire name's type, for who wants to know where an answer comes from: kind, upstream,
        age and lifetime in seconds, whether it is past its time."""
        now = self._clock()
        entry = self.cache.get(name + qtype.to_bytes(2, "big") + IN.to_bytes(2, "big"), now)
        if entry is None:
            return None
        return {
            "kind": entry.kind,
            "upstream": entry.upstream,
            "age": now - entry.made,
            "lifetime": entry.lifetime,
            "stale": not entry.fresh(now),
        }

    async def _answer(self, query: Query, client: bytes, part: int = 0) -> Answer | None:
        """What upstreams or the cache say, aliases followed. `part`: how many parts of the answer there are already."""
        asked = _Asked(query, shared=not part)
        answer = self._at_once(asked)
        if answer is None:
            answer = await self._in_time(asked, client)
        if answer is not None and answer.beyond:
            return await self._followed(query, answer, client, part + 1)
        return answer

    async def _followed(self, query: Query, alias: Answer, client: bytes, part: int) -> Answer | None:
        """The aliases with what there is at their end, as we or upstreams tell it."""
        asked = behind(query, alias.beyond)
        end = self._responder.own(asked) if self._responder is not None else None
        if end is None:
            end = await self._answer(asked, client, part) if part < MOST_PARTS else _failed(None)
        return with_end(query, alias, end) if end is not None else None

    # --- without asking ----------------------------------------------------------------------------

    def _at_once(self, asked: _Asked) -> Answer | None:
        """An answer for which nobody has to be asked."""
        results = self.counters.results
        if self._upstreams.is_probe(asked.query.name):
            results["loop"] += 1
            return _failed(None)
        now = self._clock()
        entry = self.cache.get(asked.key, now)
        if entry is None:
            if self.cache.failing(asked.key, now) is None:
                return None
            results["failure"] += 1
            return _failed(CACHED_ERROR)
        if entry.fresh(now):
            results["hit" if entry.kind == POSITIVE else "negative"] += 1
            if entry.old(now):
                self._prefetch(asked, now)
            return self._fresh(asked, entry, now)
        if now < entry.retry_at or self.cache.failing(asked.key, now) is not None:
            results["stale"] += 1
            return self._stale(asked, entry, now)
        return None

    def _fresh(self, asked: _Asked, entry: Entry, now: float) -> Answer:
        age = now - entry.made
        answer = aged(entry.answer, int(age)) if age >= 1 else entry.answer
        self._put(asked, answer, int(entry.lifetime - age))
        return answer

    def _stale(self, asked: _Asked, entry: Entry, now: float) -> Answer:
        """What is past its time, with the time from which on somebody is asked again."""
        if now >= entry.retry_at:
            entry.retry_at = now + STALE_TTL
        code = STALE_NXDOMAIN if entry.answer.rcode == NXDOMAIN else STALE
        answer = stale(entry.answer, STALE_TTL, code)
        self._put(asked, answer, int(entry.retry_at - now), stale=True)
        return answer

    def _put(self, asked: _Asked, answer: Answer, lifetime: int, *, stale: bool = False) -> None:
        if self._table is not None and asked.plain and lifetime > 0 and not answer.beyond:
            self._table.keep_aged(asked.plain, answer, lifetime, stale=stale)

    # --- asking ------------------------------------------------------------------------------------

    async def _in_time(self, asked: _Asked, client: bytes) -> Answer | None:
        """The answer to a question in flight, somebody else's if there is one; None: too many are."""
        config, waiting = self._config, self._waiting
        flight = self._flights.get(asked.key)
        result = "coalesced"
        if (
            (client and waiting[client] >= config.client_questions)
            or self._waiting_in_all >= config.clients * _WAITING
            or (flight is None and not self._room())
        ):
            return self._overloaded(asked)
        if flight is None:
            result, flight = "miss", self._start(asked)
        waiting[client] += 1
        self._waiting_in_all += 1
        try:
            answer, is_stale = await self._wait(flight)
        finally:
            self._waiting_in_all -= 1
            waiting[client] -= 1
            if not waiting[client]:
                del waiting[client]
        self.counters.results["stale" if is_stale else result] += 1
        return answer

    def _overloaded(self, asked: _Asked) -> Answer | None:
        """What there is without waiting: an answer that is past its time, or none."""
        now = self._clock()
        entry = self.cache.get(asked.key, now)
        self.counters.results["overload" if entry is None else "stale"] += 1
        return self._stale(asked, entry, now) if entry is not None else None

    async def _wait(self, flight: _Asked) -> tuple[Answer | None, bool]:
        """(answer, whether it is past its time). Being cancelled ends the wait alone, not the question."""
        assert flight.task is not None  # noqa: S101 - it was started
        now = self._clock()
        if self.cache.get(flight.key, now) is not None:
            await asyncio.wait((flight.task,), timeout=max(flight.started + PATIENCE - now, 0))
            now = self._clock()
            entry = self.cache.get(flight.key, now)
            if not flight.task.done() and entry is not None:
                return self._stale(flight, entry, now), True
        if not flight.task.done():
            over = asyncio.get_running_loop().create_future()  # asyncio.wait costs three times as much
            flight.waiting.add(over)
            try:
                await over
            finally:
                flight.waiting.discard(over)
        if flight.task.cancelled():
            return None, False
        return flight.task.result(), flight.stale

    def _room(self) -> bool:
        return not self._closed and len(self._flights) < self._config.clients

    def _prefetch(self, asked: _Asked, now: float) -> None:
        if (
            self._config.prefetch
            and asked.key not in self._flights
            and self._room()
            and self.cache.failing(asked.key, now) is None
        ):
            self.counters.results["prefetch"] += 1
            self._start(asked)

    def _start(self, asked: _Asked) -> _Asked:
        asked.started = self._clock()
        loop = asyncio.get_running_loop()
        asked.task = loop.create_task(self._ask(asked))
        asked.task.add_done_callback(lambda _: self._landed(asked))
        asked.timer = loop.call_later(float(self._config.timeout) + _GRACE, asked.give_up)
        self._flights[asked.key] = asked
        return asked

    def _landed(self, asked: _Asked) -> None:
        """Wake who waits for it."""
        self._flights.pop(asked.key, None)
        if asked.timer is not None:
            asked.timer.cancel()
        for over in asked.waiting:
            if not over.done():
                over.set_result(None)

    async def _ask(self, asked: _Asked) -> Answer:
        """Ask upstreams, and keep what comes of it."""
        query = asked.query
        try:
            reply = await self._upstreams.ask(
                query.name,
                query.question,
                dnssec_ok=query.dnssec_ok,
                checking_disabled=asked.checking_disabled,
                read=lambda packet: self._read(query, packet),
            )
            return self._keep(asked, reply.read, reply.upstream)
        except NoAnswer as error:
            reason = error.reason
        except asyncio.CancelledError:
            if not asked.overdue or self._closed:
                raise
            reason = "timeout"
        except Exception:
            reason = "fault"
            log.exception("could not resolve a question question=%s", query.question.hex())
        return self._fail(asked, reason)

    def _read(self, query: Query, packet: bytes) -> Read:
        """What a reply says. Raises Malformed, and the next upstream is asked."""
        stops = self._responder.is_own if self._responder is not None else _nothing
        read = read_reply(packet, query.name, query.qtype, whole=query.dnssec_ok, limits=self._limits, stops=stops)
        if read.kind == FAILURE:
            raise Malformed("an error")
        return read

    def _keep(self, asked: _Asked, read: Read, upstream: str) -> Answer:
        entry = Entry(read.answer, read.kind, read.lifetime, self._clock(), upstream)
        if self.cache.keep(asked.key, entry):
            self.counters.kept[read.kind] += 1
            self._put(asked, read.answer, read.lifetime)
        elif self._table is not None and asked.plain:
            self._table.forget_aged(asked.plain)
        return read.answer

    def _fail(self, asked: _Asked, reason: str) -> Answer:
        """No answer: one that is past its time instead, or an error."""
        self.counters.failed(reason)
        now = self._clock()
        if reason not in _NOT_KEPT:
            self.cache.fail(asked.key, reason, now)
        entry = self.cache.get(asked.key, now)
        if entry is None:
            return _failed(_ERRORS.get(reason))
        if entry.fresh(now):  # was asked before its time
            return self._fresh(asked, entry, now)
        asked.stale = True
        return self._stale(asked, entry, now)


def _failed(extended_error: int | None) -> Answer:
    return Answer(SERVFAIL, [], aa=False, extended_error=extended_error)


def _nothing(name: bytes) -> bool:
    return False
