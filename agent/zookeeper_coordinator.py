"""Coordination on ZooKeeper: the `Coordinator` of several machines.

    ROOT/keys/a/b/=value          the value of key "a/b"; an ephemeral can have no children, hence the leaf
    ROOT/roles/ROLE/...           candidates, see zookeeper_election

ROOT is made at first use. With credentials only their owner may touch what is made; else everybody may.

Versions are znode versions: 0 when a key is made, one more with each write. A key that was deleted and
made again may have a version that it had before. Reads may be older than other sessions' last writes;
whoever writes because of one names its version, and so finds out. CoordinatorLost from a change leaves
open whether it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from agent.coordinator_keys import MAX_KEY, check_key, check_role, check_value
from agent.zookeeper_election import ZooKeeperElection
from agent.zookeeper_lease import Clock, boottime
from agent.zookeeper_registration import Registration
from agent.zookeeper_tries import Leftovers
from agent.zookeeper_watch import VALUE, Picture
from mesos_dns.coordinate import ABSENT, CoordinatorLost, Election, VersionConflict, Versioned
from mesos_dns.zookeeper import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    Session,
    ZooKeeperLost,
)
from mesos_dns.zookeeper_target import check_path
from mesos_dns.zookeeper_tree import Tree

MAX_VERSION = (1 << 31) - 1
TRIES = 20
"""How often the parents of a new key may be removed under our hands, as empty ones are."""


class ZooKeeperCoordinator:
    """The `Coordinator` Protocol over a session, which stays the caller's. `close` when all contexts have been left.

    Raises ValueError for a root that can't be a path.
    """

    def __init__(self, session: Session, root: str = "/pharos", *, clock: Clock = boottime) -> None:
        self._session = session
        self._root = check_path(root)
        self._keys = f"{self._root}/keys"
        self._clock = clock
        self._leftovers = Leftovers(session)
        self._registered: set[str] = set()

    def __repr__(self) -> str:
        return f"<ZooKeeperCoordinator {self._root or '/'} {self._session!r}>"

    async def close(self) -> None:
        """Stop trying to remove what could not be removed; the session's end does."""
        await self._leftovers.close()

    # --- elections ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def elect(self, role: str) -> AsyncIterator[Election]:
        """Stand for `role` while the context is open. Raises ValueError when it is no legal segment."""
        check_role(role)
        election = ZooKeeperElection(self._session, f"{self._root}/roles/{role}", self._clock)
        standing = asyncio.create_task(election.stand(), name=f"elect-{role}")
        try:
            yield election
        finally:
            await _ended(standing)
            await self._leftovers.remove(election.withdraw)

    # --- values ------------------------------------------------------------------------------------

    async def get(self, key: str) -> Versioned | None:
        """The value of a key, or None. Raises CoordinatorLost, ValueError."""
        path = self._leaf(key)
        with _asking(path):
            found = await self._session.get(path)
        return Versioned(found[0], found[1].version) if found is not None else None

    async def put_if(self, key: str, value: bytes, version: int) -> int:
        """Write when the key's version equals `version`; see the Protocol. On a quorum's disks when it returns."""
        path = self._leaf(key)
        check_value(key, value)
        with _asking(path):
            try:
                if version == ABSENT:
                    await self._make(path, value)
                    return 0
                _check_version(key, version)
                written: int = (await self._session.set(path, value, version)).version
                return written
            except (NodeExistsError, NoNodeError, BadVersionError):
                raise _conflict(key, version) from None

    async def delete_if(self, key: str, version: int) -> None:
        """Delete when the key's version equals `version`; see the Protocol."""
        path = self._leaf(key)
        with _asking(path):
            if version == ABSENT:
                if await self._session.exists(path) is not None:
                    raise _conflict(key, version)
                return
            _check_version(key, version)
            try:
                await self._session.delete(path, version)
            except (NoNodeError, BadVersionError):
                raise _conflict(key, version) from None
        await self._prune(path)

    @contextlib.asynccontextmanager
    async def register(self, key: str, value: bytes) -> AsyncIterator[None]:
        """Hold `key` while the context is open and this process lives; it is made anew after a session's end.

        Raises VersionConflict when the key exists (held by another session, or here, or permanent),
        CoordinatorLost, ValueError.
        """
        path = self._leaf(key)
        check_value(key, value)
        if key in self._registered:
            raise _conflict(key, ABSENT)
        self._registered.add(key)
        registration = Registration(self._session, path, value, self._make_ephemeral)

        async def release() -> None:
            if key not in self._registered:  # else: taken again before this could be done
                await registration.release()
                await self._prune(path)

        try:
            with _asking(path):
                if not await registration.enter():
                    raise _conflict(key, ABSENT)
            keeping = asyncio.create_task(registration.keep(), name=f"register-{key}")
            try:
                yield
            finally:
                await _ended(keeping)
        finally:
            self._registered.discard(key)
            await self._leftovers.remove(release)

    async def watch(self, prefix: str) -> AsyncIterator[dict[str, bytes]]:
        """All keys below `prefix` ("" = all) now and after each change: whole key → value.

        Raises ValueError for an illegal prefix. While ZooKeeper is away nothing is yielded: the caller
        keeps what it has.
        """
        if prefix:
            check_key(prefix)
        root = f"{self._keys}/{prefix}" if prefix else self._keys
        picture = Picture(root, len(self._keys) + 1)
        tree = Tree(self._session, root, picture, picture.complain, depth=MAX_KEY)
        last: dict[str, bytes] | None = None
        tree.start()
        try:
            while True:
                await picture.changed.wait()
                picture.changed.clear()
                if picture.ready and picture.values != last:
                    last = dict(picture.values)
                    yield dict(last)
        finally:
            await tree.close()

    # --- znodes ------------------------------------------------------------------------------------

    def _leaf(self, key: str) -> str:
        check_key(key)
        return f"{self._keys}/{key}/{VALUE}"

    async def _make(self, path: str, value: bytes, *, ephemeral: bool = False) -> None:
        """Create a leaf, with its parents where they are missing. Raises NodeExistsError and as `create`."""
        for _ in range(TRIES):
            with contextlib.suppress(NoNodeError):
                await self._session.create(path, value, ephemeral=ephemeral)
                return
            with contextlib.suppress(NoNodeError):
                await self._session.ensure(path.rpartition("/")[0])
        raise ZooKeeperLost(f"the parents of {path} were removed again and again")

    async def _make_ephemeral(self, path: str, value: bytes) -> None:
        await self._make(path, value, ephemeral=True)

    async def _prune(self, path: str) -> None:
        """Remove the parents of a removed leaf that are empty now. What stays is no harm."""
        folder = path.rpartition("/")[0]
        with contextlib.suppress(NotEmptyError, NoNodeError, NoAuthError, ZooKeeperLost):
            while folder != self._keys:
                await self._session.delete(folder)
                folder = folder.rpartition("/")[0]


@contextlib.contextmanager
def _asking(path: str) -> Iterator[None]:
    """Say CoordinatorLost for what ZooKeeper did not do and did not answer."""
    try:
        yield
    except ZooKeeperLost as error:
        raise CoordinatorLost(f"ZooKeeper: {error}") from error
    except NoAuthError as error:
        raise CoordinatorLost(f"ZooKeeper: the ACL of {path} or of what is above it does not allow it") from error
    except InvalidACLError as error:
        raise CoordinatorLost(f"ZooKeeper: {path} can't be protected: the servers do not take our login") from error


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _check_version(key: str, version: int) -> None:
    """A version that no znode can have is a conflict; to ZooKeeper -1 would mean any."""
    if not 0 <= version <= MAX_VERSION:
        raise _conflict(key, version)


def _conflict(key: str, version: int) -> VersionConflict:
    if version == ABSENT:
        return VersionConflict(f"key {key!r}: it exists, but was expected to be absent")
    return VersionConflict(f"key {key!r}: version {version} was expected, but it is another one, or absent")
