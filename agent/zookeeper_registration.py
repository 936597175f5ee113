"""One ephemeral on ZooKeeper that is held as long as it is wanted: made anew whenever it is gone.

Whose it is says `ephemeralOwner` alone, so an answer that was lost needs no memory: if a create was
done after all, the znode is found to be ours. One left over from a session of ours that has ended is
somebody else's like any other: its end is waited for.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from agent.zookeeper_tries import RETRY, Waiting, jittered
from mesos_dns.zookeeper import BadVersionError, NodeExistsError, NoNodeError, Session

TRIES = 5
"""How often one look at the znode may find it changed under our hands."""

Make: TypeAlias = Callable[[str, bytes], Awaitable[None]]


class Registration:
    """The ephemeral `path`. `enter` once, then `keep` in a task, then `release`.

    `make` creates the ephemeral with its parents; raises NodeExistsError.
    """

    def __init__(self, session: Session, path: str, value: bytes, make: Make) -> None:
        self._session = session
        self._path = path
        self._value = value
        self._make = make
        self._made = False
        self._waiting = Waiting(f"registration {path}")

    async def enter(self) -> bool:
        """Take it for the first time; False when another session holds it or it is permanent. Raises ZooKeeperLost."""
        ours = await self._take()
        if ours and not self._made:
            # It could not be removed when it was last given up, and may have another value.
            with contextlib.suppress(NoNodeError):
                await self._session.set(self._path, self._value, -1)
        return ours

    async def keep(self) -> None:
        """Have it made anew whenever it is gone, until cancelled."""
        self._session.attach(self)
        try:
            await self._waiting.go_on(self._step, lambda reason: None)
        finally:
            self._session.detach(self)

    async def release(self) -> None:
        """Remove it if it is ours. Raises ZooKeeperLost."""
        for _ in range(TRIES):
            stat = await self._session.exists(self._path)
            if stat is None or stat.ephemeralOwner != self._session.session_id:
                return
            with contextlib.suppress(NoNodeError, BadVersionError):
                await self._session.delete(self._path, stat.version)

    # --- the session's events ------------------------------------------------------------------------

    def touched(self, path: str) -> None:
        """It may be gone, or free."""
        if path == self._path:
            self._waiting.wake()

    def state_changed(self) -> None:
        """With a new connection it is looked at again: the session may be another one."""
        self._waiting.wake()

    # --- steps ---------------------------------------------------------------------------------------

    async def _step(self) -> float:
        if not self._session.connected:
            return math.inf
        session_id = self._session.session_id
        if await self._take():
            self._waiting.complain("")
        elif session_id == self._session.session_id:
            self._waiting.complain("another session holds it: waiting for its end")
        else:
            return jittered(RETRY)
        return math.inf

    async def _take(self) -> bool:
        """Whether it is ours, after making it if nobody has it; the watch that the look leaves says when it changes."""
        for _ in range(TRIES):
            stat = await self._session.exists(self._path, watch=True)
            if stat is not None:
                return bool(stat.ephemeralOwner == self._session.session_id)
            with contextlib.suppress(NodeExistsError):
                await self._make(self._path, self._value)
                self._made = True
        return False
