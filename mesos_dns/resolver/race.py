"""Asks several upstreams one question: the best first, the next when that is late or fails; the first good answer wins.

One that is late is not given up when the next is asked, nor later: it may answer until the question's time is over.
An error never wins while another upstream may know the answer; when none does, the most telling error is what there
is to say.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from mesos_dns.resolver.question import Question
from mesos_dns.resolver.score import hedge_delay
from mesos_dns.resolver.upstream import ANSWERED, Outcome, Upstream

PARALLEL = 3
"""Upstreams that one question is with at the same time at most; those that are overdue do not count."""
OVERDUE = 1.5
"""Seconds without a reply that are held against an upstream, though it may still answer."""
_TICK = 0.001
"""Seconds by which a loop may call too early."""
_LEAST = 0.005
"""Seconds that there have to be for asking one more: attempts that end with the question's time end a tick early."""
_TELLING = ("servfail", "refused", "notimp", "rcode", "formerr", "lame")
_REASONS = ("timeout", "tls", "unreachable", "malformed", "truncated", "local")


class NoAnswer(Exception):
    """No upstream has a good answer.

    `reason`: servfail, refused, notimp, rcode (any other error), formerr or lame (a referral) with what the upstream
    `upstream` (its label) said in `packet`; or timeout, tls, unreachable, malformed, truncated, local (this
    machine lacks sockets), no-upstream or looping with packet None and upstream "".
    """

    def __init__(self, reason: str, packet: bytes | None = None, upstream: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.packet = packet
        self.upstream = upstream


async def race(order: Sequence[Upstream], question: Question, timeout: float) -> tuple[Upstream, Outcome]:
    """The winner and its answer (`Outcome.packet` is there), within `timeout` seconds. Raises NoAnswer."""
    if len(order) == 1:
        return await _alone(order[0], question, timeout)
    return await _Race(order, question, timeout).run()


async def _alone(upstream: Upstream, question: Question, timeout: float) -> tuple[Upstream, Outcome]:
    """A race of one, which needs no tasks: attempts end by themselves. Raises NoAnswer.

    A timeout before the time is over is one of a connection, which is tried again once.
    """
    loop, margin = asyncio.get_running_loop(), _margin(timeout)
    last = loop.time() + timeout - margin
    failed: list[tuple[Upstream, Outcome]] = []
    while len(failed) < 2 and (left := last - loop.time()) > (margin if failed else 0):
        outcome = await upstream.attempt(question, left)
        if outcome.result == ANSWERED:
            return upstream, outcome
        failed.append((upstream, outcome))
        if outcome.result != "timeout":
            break
    raise _no_answer(failed)


def _margin(timeout: float) -> float:
    """Seconds that the last attempt ends earlier: by itself, so that it is counted as what it is."""
    return min(0.02, timeout / 10)


def _no_answer(failed: Sequence[tuple[Upstream, Outcome]], late: bool = False) -> NoAnswer:
    """The most telling error; `late`: some have not answered at all."""
    for result in _TELLING:
        for upstream, outcome in failed:
            if outcome.result == result:
                return NoAnswer(result, outcome.packet, upstream.label)
    seen = {outcome.result for _, outcome in failed} | ({"timeout"} if late else set())
    return NoAnswer(next((reason for reason in _REASONS if reason in seen), "timeout"))


class _Attempt:
    """An upstream that was asked; it is overdue from `due` on (of the loop's clock)."""

    __slots__ = ("due", "overdue", "upstream")

    def __init__(self, upstream: Upstream, due: float) -> None:
        self.upstream = upstream
        self.due = due
        self.overdue = False


class _Race:
    """One question under way."""

    def __init__(self, order: Sequence[Upstream], question: Question, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._question = question
        self._deadline = self._loop.time() + timeout
        self._margin = _margin(timeout)
        self._next = deque(order)
        self._late: list[Upstream] = []
        self._again = False  # the second round: with those whose connection timed out in the first
        self._hedge = 0.0  # when the next one may be asked beside those that are
        self._running: dict[asyncio.Task[Outcome], _Attempt] = {}  # the first was asked first
        self._woken: asyncio.Future[None] | None = None
        self._failed: list[tuple[Upstream, Outcome]] = []

    async def run(self) -> tuple[Upstream, Outcome]:
        """See `race`."""
        try:
            while self._start():
                await self._wait()
                for task in [task for task in self._running if task.done()]:
                    upstream, outcome = self._running.pop(task).upstream, task.result()
                    if outcome.result == ANSWERED:
                        for other, error in self._failed:
                            other.blame(error, self._question.name)
                        return upstream, outcome
                    self._failed.append((upstream, outcome))
                    self._hedge = 0.0
                    if outcome.result == "timeout":
                        self._late.append(upstream)
            raise _no_answer(self._failed, bool(self._running))
        finally:
            if self._running:
                await self._end()

    def _start(self) -> bool:
        """Ask the next one if it is time; False when the race is over."""
        now = self._loop.time()
        left = self._deadline - now
        if left <= 0:
            return False
        self._hold_against(now)
        if not self._running and not self._next and not self._again and left > 2 * self._margin:
            self._again = True
            self._next.extend(self._late)
        if (
            self._next
            and self._has_room()
            and (not self._running or now >= self._hedge)
            and left > self._margin + _LEAST
        ):
            upstream = self._next.popleft()
            task = self._loop.create_task(upstream.attempt(self._question, left - self._margin))
            task.add_done_callback(self._wake)
            self._running[task] = _Attempt(upstream, now + OVERDUE)
            self._hedge = now + hedge_delay(upstream.score)
        return bool(self._running)

    def _hold_against(self, now: float) -> None:
        """Those that have become overdue do worse in their scores, and leave room for others."""
        for attempt in self._running.values():
            if not attempt.overdue and attempt.due <= now + _TICK:
                attempt.overdue = True
                attempt.upstream.overdue()

    def _has_room(self) -> bool:
        return len(self._running) < PARALLEL or sum(not each.overdue for each in self._running.values()) < PARALLEL

    async def _wait(self) -> None:
        """Until one has answered, or something is to be done even if nobody does (asyncio.wait costs twice as much)."""
        woken = self._woken = self._loop.create_future()
        timer = self._loop.call_later(self._patience(), self._wake)
        try:
            await woken
        finally:
            timer.cancel()

    def _wake(self, _: object = None) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _patience(self) -> float:
        """Seconds until something is to be done even if nobody answers."""
        until = self._deadline
        for attempt in self._running.values():
            if not attempt.overdue:
                until = min(until, attempt.due)
                break
        if self._next and self._has_room():
            until = min(until, self._hedge)
        return max(until - self._loop.time(), 0.0)

    async def _end(self) -> None:
        """Give up those that have not answered, and see that nothing of theirs is left."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
