"""A mirror of a part of ZooKeeper's tree: what is below a root, kept up by watches and bounded re-reads.

The rules:

1. A watch is a hint. Whatever it fires for is read again; reads and their watches are one request, so
   nothing is missed between them. A path is read by at most one request at a time, and what fires
   meanwhile causes one more.
2. Reads are proportional to changes: a change of a znode's children costs one list and one read for
   each new child. A list is read again at once, but a list of N names at most every N x 20 us.
3. After every reconnection all watches are gone, so everything is read again, at most `window`
   requests at a time. Only differences are told.
4. Nothing is told to be gone because ZooKeeper is away: only an answer says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from mesos_dns.zookeeper import NoAuthError, Session, Stat, ZooKeeperLost

log = logging.getLogger(__name__)

WINDOW = 64
PER_NAME = 20e-6
"""Seconds between two reads of a list for each name in it: a list costs about a twentieth of that."""

MAX_DEPTH = 16
FORBIDDEN_RETRY = 60.0


class Kind(Enum):
    """What a znode is to the reader of a tree."""

    BRANCH = "branch"
    LEAF = "leaf"
    IGNORED = "ignored"


class Reader(Protocol):
    """Who a tree tells what it finds, on the loop."""

    def kind(self, parent: str, name: str) -> Kind:
        """Whether a child is looked into, read, or passed over."""

    def leaf(self, path: str, data: bytes, stat: Stat) -> None:
        """A leaf is new, or its data changed."""

    def gone(self, path: str) -> None:
        """A leaf is no more (one that was listed and is gone before it was read, too)."""

    def complete(self) -> None:
        """Everything has been read over the present connection."""


class Tree:
    """See the module. `start`, then the reader is told; `close`. `present` is False while there is no root.

    `complain` is told once of what can't be read; `limit` is how many znodes are followed at most, `depth`
    how many levels below the root.
    """

    def __init__(
        self,
        session: Session,
        root: str,
        reader: Reader,
        complain: Callable[[str], None],
        *,
        limit: int = 1_000_000,
        window: int = WINDOW,
        depth: int = MAX_DEPTH,
    ) -> None:
        self.root = root
        self.present = False
        self.overflow = 0
        self._session = session
        self._reader = reader
        self._complain = complain
        self._limit = limit
        self._window = window
        self._depth = depth
        self._branches: dict[str, set[str]] = {}
        self._leaves: dict[str, int] = {}
        self._due: dict[str, None] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._read_at: dict[str, float] = {}
        self._first: set[str] = set()
        self._complete = False
        self._connection = 0

    def __repr__(self) -> str:
        return f"<Tree {self.root or '/'} branches={len(self._branches)} leaves={len(self._leaves)}>"

    def __len__(self) -> int:
        return len(self._branches) + len(self._leaves)

    def start(self) -> None:
        """Begin to read, now or when the session is connected."""
        self._session.attach(self)
        self._branches[self.root] = set()
        self.state_changed()

    async def close(self) -> None:
        """Stop reading. What was told stays as it is."""
        self._session.detach(self)
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the session's events ------------------------------------------------------------------------

    def touched(self, path: str) -> None:
        """A watch has fired."""
        if path in self._branches or path in self._leaves:
            self._want(path)
        elif path == "/" and not self.root:
            self._want("")

    def state_changed(self) -> None:
        """A new connection: every watch is gone, so everything is read again."""
        if not self._session.connected or self._session.connection == self._connection:
            return
        self._connection = self._session.connection
        self._complete = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        everything = [*self._branches, *self._leaves]
        self._first = set(everything)
        self._again.update(self._reading)
        self._due = dict.fromkeys(path for path in everything if path not in self._reading)
        self._pump()

    # --- what to read, and when ----------------------------------------------------------------------

    def _want(self, path: str) -> None:
        if path not in self._timers:
            names = len(self._branches.get(path, ()))
            wait = self._read_at.get(path, 0.0) + names * PER_NAME - asyncio.get_running_loop().time()
            if wait > 0:
                self._later(path, wait)
            else:
                self._queue(path)

    def _later(self, path: str, wait: float) -> None:
        self._timers[path] = asyncio.get_running_loop().call_later(wait, self._on_time, path)

    def _on_time(self, path: str) -> None:
        del self._timers[path]
        if path in self._branches or path in self._leaves:
            self._queue(path)

    def _queue(self, path: str) -> None:
        if path in self._reading:  # what is under way may be of a znode that was there before
            self._again.add(path)
            return
        self._due[path] = None
        self._pump()

    def _pump(self) -> None:
        while self._due and len(self._reading) < self._window and self._session.connected:
            path = next(iter(self._due))
            del self._due[path]
            self._reading[path] = asyncio.create_task(self._read(path), name=f"zookeeper read {path}")

    async def _read(self, path: str) -> None:
        lost = False
        try:
            if path in self._leaves:
                self._take_leaf(path, await self._session.get(path, watch=True))
            elif path in self._branches:
                await self._read_branch(path)
        except ZooKeeperLost:
            lost = True  # read again with the next connection
        except NoAuthError:
            self._complain(f"ZooKeeper: the ACL of {path or '/'} does not let us read it")
            if path not in self._timers:
                self._later(path, FORBIDDEN_RETRY)
        except Exception:
            log.exception("what ZooKeeper has at a path could not be taken in path=%s", path)
        finally:
            del self._reading[path]
        if path in self._again:
            self._again.discard(path)
            self._queue(path)
        elif not lost:
            self._done(path)
        self._pump()

    def _done(self, path: str) -> None:
        self._first.discard(path)
        if not self._complete and not self._first and self._session.connected:
            self._complete = True
            self._reader.complete()

    # --- what was read -------------------------------------------------------------------------------

    def _take_leaf(self, path: str, found: tuple[bytes, Stat] | None) -> None:
        if path not in self._leaves:
            return  # its parent was told to be without it meanwhile
        if found is None:
            self._branches.get(path.rpartition("/")[0], set()).discard(path)
            self._forget(path)
            return
        data, stat = found
        if self._leaves[path] != stat.mzxid:
            self._leaves[path] = stat.mzxid
            self._reader.leaf(path, data, stat)

    async def _read_branch(self, path: str) -> None:
        self._read_at[path] = asyncio.get_running_loop().time()
        found = await self._session.children(path, watch=True)
        if path == self.root:
            self.present = found is not None
        if found is None and path == self.root:
            # A list leaves no watch on a znode that is not there: this one waits for it.
            if await self._session.exists(path or "/", watch=True) is not None:
                self._again.add(path)
                return
        if path not in self._branches:
            return
        if found is None and path != self.root:
            # Without a watch nobody says when it is made again; its parent's does if it is not known here.
            self._branches.get(path.rpartition("/")[0], set()).discard(path)
            self._forget(path)
            return
        self._take_names(path, found[0] if found is not None else [])

    def _take_names(self, path: str, names: list[str]) -> None:
        known = self._branches[path]
        children = {f"{path}/{name}": name for name in names}
        for child in known - children.keys():
            self._forget(child)
        known.intersection_update(children)
        for child, name in children.items():
            if child in known or (kind := self._kind(path, name)) is Kind.IGNORED:
                continue
            known.add(child)
            if kind is Kind.BRANCH:
                self._branches[child] = set()
            else:
                self._leaves[child] = 0
            if not self._complete:  # what was read once and changes again does not put the first picture off
                self._first.add(child)
            self._queue(child)

    def _kind(self, path: str, name: str) -> Kind:
        if path.count("/") - self.root.count("/") >= self._depth:
            self._complain(
                f"ZooKeeper: what is more than {self._depth} levels below {self.root or '/'} is not looked at"
            )
            return Kind.IGNORED
        kind = self._reader.kind(path, name)
        if kind is not Kind.IGNORED and len(self) >= self._limit:
            self.overflow += 1
            self._complain(f"ZooKeeper: more than {self._limit} znodes below {self.root or '/'}: the rest is left out")
            return Kind.IGNORED
        return kind

    def _forget(self, path: str) -> None:
        """A znode is no more, and with it everything below."""
        self._due.pop(path, None)
        self._again.discard(path)
        if (timer := self._timers.pop(path, None)) is not None:
            timer.cancel()
        if self._leaves.pop(path, None) is not None:
            self._reader.gone(path)
        for child in self._branches.pop(path, ()):
            self._forget(child)
        self._read_at.pop(path, None)
        self._done(path)
