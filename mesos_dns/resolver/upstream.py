"""One upstream name server in one zone: asks it one question, by the transport and with the EDNS that it takes.

The reply may be a right one, an error or none at all; what it was is an `Outcome`, and goes into the upstream's
score and counters.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from time import monotonic
from typing import Any

import msgspec

from mesos_dns.resolver import score
from mesos_dns.resolver.address import UpstreamAddress
from mesos_dns.resolver.exchange import Broken, Exchanges
from mesos_dns.resolver.question import Question
from mesos_dns.resolver.stream import Streams
from mesos_dns.resolver.tally import Tally

log = logging.getLogger(__name__)

PLAIN_SECONDS = 300.0
"""How long an upstream is asked without EDNS after it turned out not to know it (RFC 6891 §6.2.2)."""
ANSWERED = "answered"
UNFIT = ("formerr", "notimp")
"""How a server answers that does not know EDNS."""
BROKEN = ("timeout", "unreachable", "tls", "malformed", "truncated")
"""Results that are an upstream's failure whatever was asked."""
DOUBTS = 3
"""Names in a row for which an upstream had an error where another one had an answer, until that is held against it:
one name's errors are the fault of whoever has that name."""
_Said = tuple[str, bytes | None, Any]
"""(result, reply, what `Question.read` made of it)."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended: "answered" or a reason of failure, the reply if there was one, how long it took, and what
    `Question.read` made of an answer."""

    result: str
    packet: bytes | None
    seconds: float
    read: Any = None


class Upstream:
    """A server for a zone ("." for the default). `looping`: it asks us what we ask it; `own`: it is us."""

    def __init__(self, address: UpstreamAddress, zone: str, tls: ssl.SSLContext | None, *, own: bool = False) -> None:
        self.address = address
        self.label = address.label
        self.zone = zone
        self.own = own
        self.looping = False
        self.unanswered = 0  # questions in a row without a good answer, whoever is to blame
        self.score = score.UNKNOWN
        self.tally = Tally()
        self.streams = Streams(address, tls, self.tally)
        self._exchanges = Exchanges(address, self.tally)
        self._plain_until = 0.0
        self._told: str | None = None
        self._told_malformed = False
        self._doubtful: set[bytes] = set()

    async def attempt(self, question: Question, seconds: float) -> Outcome:
        """Ask once, for `seconds` at most; never raises but for cancellation.

        An error that a name may be to blame for (SERVFAIL and the like) is not held against the upstream here: see
        `blame`.
        """
        started = monotonic()  # a loop's clock may stand still between its rounds
        try:
            result, packet, read = await self.reply(question, seconds)
        except asyncio.CancelledError:
            now = monotonic()
            self.score = score.outrun(self.score, now, now - started)
            self.tally.results["outrun"] += 1
            raise
        took = monotonic() - started
        self._note(result, packet, took)
        return Outcome(result, packet, took, read)

    async def reply(self, question: Question, seconds: float) -> _Said:
        """(result, reply, what `Question.read` made of it), within `seconds`: `attempt` without a trace in score and
        results."""
        try:
            return await self._ask(question, monotonic() + seconds)
        except Broken as broken:
            self._tell(broken)
            return broken.reason, None, None

    def blame(self, outcome: Outcome, name: bytes) -> None:
        """An error for a folded name is the upstream's, as another one knew the answer: hold it against it when that
        was so for DOUBTS names since its last answer."""
        if outcome.result not in (*BROKEN, ANSWERED, "local"):
            if len(self._doubtful) < DOUBTS:
                self._doubtful.add(name)
            if len(self._doubtful) >= DOUBTS:
                self.score = score.failed(self.score, monotonic())

    def overdue(self) -> None:
        """Hold against the upstream that it has not replied for longer than replies take."""
        self.tally.results["overdue"] += 1
        self.score = score.failed(self.score, monotonic())

    def _note(self, result: str, packet: bytes | None, took: float) -> None:
        now = monotonic()
        self.tally.results[result] += 1
        if packet is not None:
            self.tally.took(took)
        self.unanswered = 0 if result == ANSWERED else self.unanswered + 1
        if result == ANSWERED:
            self.score = score.answered(self.score, now, took)
            self._told = None
            self._doubtful.clear()
        elif result in BROKEN:
            self.score = score.failed(self.score, now)

    def _tell(self, broken: Broken) -> None:
        """Log what no counter says, once for each change."""
        if broken.reason in ("tls", "local") and self._told != broken.reason:
            self._told = broken.reason
            log.warning("upstream %s: %s", self.label, broken)

    def _judge(self, question: Question, packet: bytes) -> _Said:
        """What there is to say of a packet that is a reply."""
        result = question.result_of(packet)
        if result != ANSWERED or question.read is None:
            return result, packet, None
        try:
            return result, packet, question.read(packet)
        except ValueError as error:
            if not self._told_malformed:
                self._told_malformed = True
                log.warning("upstream %s: a reply can't be used: %s", self.label, error)
            return "malformed", packet, None

    async def _ask(self, question: Question, deadline: float) -> _Said:
        """The reply, asked without EDNS where the upstream does not know it. Raises Broken."""
        now = monotonic()
        if now < self._plain_until:
            return await self._carry(question, False, deadline)
        said = await self._carry(question, True, deadline)
        if said[0] not in UNFIT:
            return said
        self.tally.results["plain"] += 1
        said = await self._carry(question, False, deadline)
        if said[0] not in UNFIT:
            self._plain_until = now + PLAIN_SECONDS
        return said

    async def _carry(self, question: Question, edns: bool, deadline: float) -> _Said:
        """The reply by UDP, and by TCP where that has to be. Raises Broken."""
        if self.address.transport == "udp":
            try:
                packet = await self._exchanges.ask(question, edns, deadline - monotonic())
                said = self._judge(question, packet)
                if said[0] != "truncated":
                    return said
                self.tally.results["truncated"] += 1
            except Broken as broken:
                if broken.reason != "mismatch":
                    raise
        packet = await self.streams.ask(question, edns, deadline - monotonic())
        return self._judge(question, packet)
