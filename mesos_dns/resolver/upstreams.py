"""The upstream side of the resolver: which servers a name's questions go to, and their answers."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec

from mesos_dns.resolver import score
from mesos_dns.resolver.address import UpstreamAddress, canonical_host
from mesos_dns.resolver.loops import Loops
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.race import NoAnswer, race
from mesos_dns.resolver.upstream import Upstream
from mesos_dns.tls import Tls
from mesos_dns.wire import name_to_wire

log = logging.getLogger(__name__)

__all__ = ["NoAnswer", "Reply", "UpstreamStatus", "Upstreams", "client_tls"]

_EXPLORE = 0.05
"""Of so many questions another upstream is asked as well, to learn how it does."""
_EXPLORING = 8
"""Such questions under way at most."""
_EXPLORE_SECONDS = 2.5
"""How long such a question waits for its reply."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A good answer (NOERROR or NXDOMAIN; its id is ours), whose it is (label), how long the client had to wait, and
    what `read` made of the packet."""

    packet: bytes
    upstream: str
    seconds: float
    read: Any = None


class UpstreamStatus(msgspec.Struct, frozen=True):
    """What is known of one upstream in one zone. `score`, `rtt`: milliseconds (`rtt` 0: not known); `failures`: in a
    row; `own`: it is this resolver; the rest as `Tally` has it."""

    label: str
    zone: str
    score: float
    rtt: float
    failures: int
    looping: bool
    own: bool
    sent: Counter[str]
    results: Counter[str]
    buckets: tuple[int, ...]
    seconds: float
    connections: int


def client_tls(ca_file: str) -> ssl.SSLContext:
    """The settings for tls:// upstreams: verified, TLS 1.2 or newer, ALPN "dot" (RFC 7858 §3, RFC 8310 §8.1).

    `ca_file`: PEM file of the authorities, "" for the system's. Reads files (blocks); raises OSError that names it.
    """
    context = Tls(ca_file=ca_file).context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["dot"])
    return context


class Upstreams:
    """All upstreams: `default` for all names but those in `zones` (name → servers; the longest suffix wins).

    `timeout`: seconds for one question in all. `tls`: for tls:// servers (`client_tls`). `own`: (address, port) that
    this resolver listens on, which are never asked. Raises ValueError for zones that can't be, and for tls:// servers
    without `tls`.
    """

    def __init__(
        self,
        default: Sequence[UpstreamAddress],
        zones: Mapping[str, Sequence[UpstreamAddress]],
        *,
        timeout: float,
        tls: ssl.SSLContext | None,
        own: Collection[tuple[str, int]] = (),
        dice: random.Random | None = None,
    ) -> None:
        self._timeout = timeout
        self._tls = tls
        self._own = {(canonical_host(host), port) for host, port in own}
        self._dice = dice or random.Random()
        self._background: set[asyncio.Task[object]] = set()
        self._groups: dict[str, list[Upstream]] = {".": self._made(".", default, ())}
        self._suffixes: dict[bytes, str] = {}
        for zone, addresses in zones.items():
            folded = zone.lower().removesuffix(".")
            wire = name_to_wire(zone).lower()
            if wire == b"\0" or wire in self._suffixes:
                raise ValueError(f"zone {zone!r}: another name than the root expected, each once")
            self._suffixes[wire] = folded
            self._groups[folded] = self._made(folded, addresses, ())
        self._loops = Loops(lambda: [upstream for group in self._groups.values() for upstream in group])

    def replace_default(self, default: Sequence[UpstreamAddress]) -> None:
        """Other default upstreams from now on; those that stay keep what is known of them."""
        before = self._groups["."]
        self._groups["."] = self._made(".", default, before)
        for upstream in before:
            if upstream not in self._groups["."]:
                self._behind(upstream.streams.close())

    def route(self, name: bytes) -> str:
        """The zone whose upstreams a folded wire name is asked of: the longest that it is in, or "."."""
        if self._suffixes:
            at = 0
            while name[at]:
                if (zone := self._suffixes.get(name[at:])) is not None:
                    return zone
                at += 1 + name[at]
        return "."

    async def ask(
        self,
        name: bytes,
        question: bytes,
        *,
        dnssec_ok: bool,
        checking_disabled: bool,
        read: Callable[[bytes], object] | None = None,
    ) -> Reply:
        """The answer to a question (wire form: name, type, class; `name`: its folded name). Raises NoAnswer.

        `read` is given every reply of NOERROR or NXDOMAIN, once. One that it raises ValueError for is malformed: it
        is held against its upstream, and another one is asked. It may be given one when this is long over: that of an
        upstream that is only tried. Without it any such reply is an answer whose records end where the packet does.
        """
        started = monotonic()
        group = self._groups[self.route(name)]
        usable = [upstream for upstream in group if not (upstream.looping or upstream.own)]
        if not usable:
            raise NoAnswer("looping" if any(upstream.looping for upstream in group) else "no-upstream")
        asked = Question(question, dnssec_ok=dnssec_ok, checking_disabled=checking_disabled, read=read)
        if len(usable) > 1:
            usable.sort(key=lambda upstream: score.rank(upstream.score, started))
            if self._dice.random() < _EXPLORE and len(self._background) < _EXPLORING:
                other = min(usable[1:], key=lambda upstream: upstream.score.at)
                usable.remove(other)
                usable.append(other)
                self._behind(other.attempt(asked, _EXPLORE_SECONDS))
        winner, outcome = await race(usable, asked, self._timeout)
        return Reply(outcome.packet or b"", winner.label, monotonic() - started, outcome.read)

    def is_probe(self, name: bytes) -> bool:
        """True for the (folded wire) name of a loop probe of ours, which then is marked as looping. To be called for
        every question beyond our own zones: the probes of forward zones are names in these zones."""
        return self._loops.is_probe(name)

    def status(self) -> list[UpstreamStatus]:
        """Every upstream, zone by zone."""
        now = monotonic()
        return [_status(upstream, now) for group in self._groups.values() for upstream in group]

    async def run(self) -> None:
        """Probe for loops until cancelled."""
        await self._loops.run()

    async def close(self) -> None:
        """End all connections and questions in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for group in self._groups.values():
            for upstream in group:
                await upstream.streams.close()

    def _made(self, zone: str, addresses: Sequence[UpstreamAddress], before: Sequence[Upstream]) -> list[Upstream]:
        """The upstreams of a zone, each once; those of `before` are taken over."""
        kept = {upstream.address: upstream for upstream in before}
        made = []
        for address in dict.fromkeys(addresses):
            if address.transport == "tls" and self._tls is None:
                raise ValueError(f"upstream {address.label}: no TLS settings")
            own = (address.host, address.port) in self._own
            if own and address not in kept:
                log.warning("upstream %s (zone %s) is this resolver itself: not asked", address.label, zone)
            made.append(kept.get(address) or Upstream(address, zone, self._tls, own=own))
        return made

    def _behind(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _status(upstream: Upstream, now: float) -> UpstreamStatus:
    tally = upstream.tally
    return UpstreamStatus(
        label=upstream.label,
        zone=upstream.zone,
        score=score.value(upstream.score, now) * 1000,
        rtt=upstream.score.rtt * 1000,
        failures=upstream.score.failures,
        looping=upstream.looping,
        own=upstream.own,
        sent=tally.sent.copy(),
        results=tally.results.copy(),
        buckets=tuple(tally.buckets),
        seconds=tally.seconds,
        connections=upstream.streams.open,
    )
