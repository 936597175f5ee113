"""Trying again: what waits for ZooKeeper waits for a hint or a jittered pause, and says once what is wrong.

`Leftovers` removes what could not be removed when its time came. A znode lives as long as its session,
and that as long as the process: what somebody meant to give up while there was no connection would
otherwise be held for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mesos_dns.zookeeper import InvalidACLError, NoAuthError, Session, ZooKeeperLost

log = logging.getLogger(__name__)

RETRY = 0.2
"""Seconds between failed tries, about."""

FORBIDDEN_RETRY = 10.0
"""Seconds until what an ACL forbids is tried again, about."""

Removal: TypeAlias = Callable[[], Awaitable[None]]


def jittered(pause: float) -> float:
    """About `pause` seconds: those who failed together do not try again together."""
    return pause * random.uniform(0.5, 1.5)


class Waiting:
    """One who does its next step when woken or after a pause. `what` names it in the log."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._woken = asyncio.Event()
        self._complaint = ""

    def wake(self) -> None:
        """Have the next step done now."""
        self._woken.set()

    def complain(self, reason: object) -> None:
        """Log what is wrong, once until something else is; "" when all is well."""
        text = str(reason)
        if text and text != self._complaint:
            log.warning("%s is impaired reason=%s", self.what, text)
        self._complaint = text

    async def go_on(self, step: Callable[[], Awaitable[float]], failed: Callable[[str], None]) -> None:
        """Do steps until cancelled; each returns the longest pause before the next (inf: until woken).

        `failed` is told of each step that was not finished, before anything else is done.
        """
        while True:
            self._woken.clear()
            try:
                pause = await step()
            except ZooKeeperLost as error:
                failed(str(error))
                pause = jittered(RETRY)
            except (NoAuthError, InvalidACLError) as error:
                failed("refused")
                self.complain(f"the ACL does not allow it ({type(error).__name__})")
                pause = jittered(FORBIDDEN_RETRY)
            except Exception as error:
                failed(repr(error))
                log.exception("%s: a step failed", self.what)
                pause = jittered(FORBIDDEN_RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if pause == math.inf else pause):
                    await self._woken.wait()


class Leftovers:
    """See the module. `remove` now or, when ZooKeeper is away, as soon as it is back; `close` forgets the rest."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pending: list[Removal] = []
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def touched(self, path: str) -> None:
        """Nothing is watched here."""

    def state_changed(self) -> None:
        """There may be a connection again."""
        self._connected.set()

    async def remove(self, removal: Removal) -> None:
        """Try to remove something; returns at once when there is no connection. Never raises for faults of the outside.

        A removal is tried until it is not lost: it must be right to do it twice, and over another session.
        """
        try:
            if not await self._done(removal):
                self._keep(removal)
        except asyncio.CancelledError:
            self._keep(removal)
            raise

    async def close(self) -> None:
        """Stop trying: what is left ends with the session."""
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _done(self, removal: Removal) -> bool:
        try:
            await removal()
        except ZooKeeperLost:
            return False
        except (NoAuthError, InvalidACLError) as error:
            log.warning("ZooKeeper does not let us remove what is ours: it ends with the session error=%r", error)
        except Exception:
            log.exception("what is ours could not be removed from ZooKeeper: it ends with the session")
        return True

    def _keep(self, removal: Removal) -> None:
        self._pending.append(removal)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._sweep(), name="zookeeper leftovers")

    async def _sweep(self) -> None:
        self._session.attach(self)
        try:
            while self._pending:
                self._connected.clear()
                while self._session.connected and self._pending and await self._done(self._pending[0]):
                    self._pending.pop(0)
                if self._pending:
                    # Woken by the next connection; the pause is for a request that failed without one breaking.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(jittered(RETRY) if self._session.connected else None):
                            await self._connected.wait()
        finally:
            self._session.detach(self)
