"""Coordination in memory: the `Coordinator` Protocol for one test, with the faults that the test asks for.

memory = Memory()
a, b = memory.client(), memory.client()     # two processes
memory.lost = True                          # nobody reaches it; leaders stop leading
a.stopped = True                            # a process that does not notice that it leads no more
a.lose_answers = 1                          # the next change is made, and its answer is lost
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from mesos_dns.coordinate import ABSENT, CoordinatorLost, VersionConflict, Versioned


class Memory:
    """What all clients share. `puts` are the keys written, in order."""

    def __init__(self) -> None:
        self.values: dict[str, Versioned] = {}
        self.puts: list[str] = []
        self.line: list[MemoryElection] = []
        self.watches: set[asyncio.Event] = set()
        self._lost = False

    @property
    def lost(self) -> bool:
        """True while nobody reaches it."""
        return self._lost

    @lost.setter
    def lost(self, lost: bool) -> None:
        self._lost = lost
        self.tell()

    def client(self) -> MemoryCoordinator:
        """One process's coordinator."""
        return MemoryCoordinator(self)

    def tell(self) -> None:
        """Have everybody look again."""
        for election in self.line:
            election.look()
        for event in self.watches:
            event.set()

    def write(self, key: str, value: bytes) -> None:
        """A write by somebody else."""
        before = self.values.get(key)
        self.values[key] = Versioned(value, before.version + 1 if before is not None else 0)
        self.tell()


class MemoryElection:
    """One candidacy: the first in line leads, unless nobody can be reached or its process is stopped."""

    def __init__(self, memory: Memory, client: MemoryCoordinator) -> None:
        self._memory = memory
        self._client = client
        self._won = asyncio.Event()
        self._lost = asyncio.Event()
        self.look()

    @property
    def leading(self) -> bool:
        """True while this candidate leads, or believes so."""
        return self._won.is_set()

    def look(self) -> None:
        """Find out whether it leads."""
        if self._client.stopped:
            return
        if not self._memory.lost and self._memory.line[:1] == [self]:
            self._lost.clear()
            self._won.set()
        else:
            self._won.clear()
            self._lost.set()

    async def won(self) -> None:
        """Return when it leads."""
        await self._won.wait()

    async def lost(self) -> None:
        """Return when it does not."""
        await self._lost.wait()


class MemoryCoordinator:
    """See the module."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.stopped = False
        self.lose_answers = 0
        self.refuse = 0
        self.blind = False
        self.before_put: Callable[[str], None] = lambda key: None
        self.gets = 0

    @contextlib.asynccontextmanager
    async def elect(self, role: str) -> AsyncIterator[MemoryElection]:
        """Stand at the end of the line."""
        election = MemoryElection(self.memory, self)
        self.memory.line.append(election)
        self.memory.tell()
        try:
            yield election
        finally:
            self.memory.line.remove(election)
            self.memory.tell()

    def push_back(self) -> None:
        """Its session ended: what it stands for is at the end of the line."""
        mine = [election for election in self.memory.line if election._client is self]
        self.memory.line = [election for election in self.memory.line if election not in mine] + mine
        self.memory.tell()

    async def get(self, key: str) -> Versioned | None:
        """The value of a key."""
        await self._reach()
        self.gets += 1
        return self.memory.values.get(key)

    async def put_if(self, key: str, value: bytes, version: int) -> int:
        """Write when the version is that."""
        await self._reach()
        self.before_put(key)
        if self.refuse:
            self.refuse -= 1
            raise CoordinatorLost("refused")
        found = self.memory.values.get(key)
        if (found.version if found is not None else ABSENT) != version:
            raise VersionConflict(key)
        self.memory.values[key] = Versioned(value, version + 1)
        self.memory.puts.append(key)
        self.memory.tell()
        if self.lose_answers:
            self.lose_answers -= 1
            raise CoordinatorLost("the answer was lost")
        return version + 1

    async def delete_if(self, key: str, version: int) -> None:
        """Remove when the version is that."""
        await self._reach()
        found = self.memory.values.get(key)
        if (found.version if found is not None else ABSENT) != version:
            raise VersionConflict(key)
        self.memory.values.pop(key, None)
        self.memory.tell()

    async def watch(self, prefix: str) -> AsyncIterator[dict[str, bytes]]:
        """All below a prefix, now and after each change."""
        event = asyncio.Event()
        self.memory.watches.add(event)
        last: dict[str, bytes] | None = None
        try:
            while True:
                event.clear()
                now = {k: v.value for k, v in self.memory.values.items() if k.startswith(f"{prefix}/")}
                if not self.memory.lost and not self.blind and now != last:
                    last = now
                    yield dict(now)
                else:
                    await event.wait()
        finally:
            self.memory.watches.discard(event)

    @contextlib.asynccontextmanager
    async def register(self, key: str, value: bytes) -> AsyncIterator[None]:
        """Nobody who is tested with this registers."""
        raise NotImplementedError
        yield

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.memory.lost:
            raise CoordinatorLost("nobody there")
