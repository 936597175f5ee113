"""Which nodes are suspect: every server tells the others of which of its followers' hosts it hears nothing.

    coordinator   reachability/SERVER = {"suspects": [addresses], "alive": [addresses]}   (an ephemeral)

`alive` are those that others suspect and this server hears: a node that has gone over to another server is none. All
servers merge the same statements and publish the result as Suspect entities. Where most nodes seem to be silent, it
is the servers that hear nothing: then nobody is suspect; and a server that hears nothing of most of its own followers
suspects nobody. Without a coordinator a server believes itself.

What an earlier process, or the source before a reload, has published stays until this one has looked and, where there
is a coordinator, has read what the others say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from mesos_dns.coordinate import Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.hearing import Hearing
from mesos_dns.model import Suspect, Sync, canonical_address
from mesos_dns.publish import CatalogPublisher

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks at who is silent."""

MOST_SUSPECT = 0.3
"""Share of the nodes, and of a server's followers, above which the observer is the problem. One alone may be suspect
in any cluster."""

PICTURE_WAIT = 2.0
"""Seconds that the first publication waits at most for what the other servers say."""

MOST_TOLD = 10_000
"""Addresses that a server tells at most."""

PREFIX = "reachability"


class Statement(msgspec.Struct, frozen=True):
    """What one server tells the others."""

    suspects: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()


def merged(statements: Iterable[Statement], nodes: Collection[str]) -> frozenset[str]:
    """The suspects among the addresses of all nodes: those that some server suspects and none hears.

    Nothing when they are more than MOST_SUSPECT of all.
    """
    said = list(statements)
    suspects = {address for each in said for address in each.suspects if address in nodes}
    suspects.difference_update(*(each.alive for each in said))
    if too_many(len(suspects), len(nodes)) or len(suspects) == len(nodes):
        return frozenset()
    return frozenset(suspects)


def too_many(silent: int, hosts: int) -> bool:
    """True when so many silent ones among so many hosts say that it is the observer who hears nothing."""
    return silent > max(1, int(hosts * MOST_SUSPECT))


def read_statement(value: bytes) -> Statement | None:
    """A statement of another server; None for what is none."""
    try:
        found = msgspec.json.decode(value, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(found.suspects) > MOST_TOLD or len(found.alive) > MOST_TOLD:
        return None
    addresses = (*found.suspects, *found.alive)
    return found if all(canonical_address(address) == address for address in addresses) else None


class ReachabilitySource:
    """The source "reachability" of a server; `run` until cancelled. `nodes`: the addresses of all nodes now."""

    def __init__(
        self,
        publisher: CatalogPublisher,
        hearing: Hearing,
        nodes: Callable[[], Collection[str]],
        coordinator: Coordinator | None = None,
        identity: str = "",
    ) -> None:
        self.suspects = frozenset(each.address for each in publisher.said().values() if isinstance(each, Suspect))
        self._publisher = publisher
        self._hearing = hearing
        self._nodes = nodes
        self._coordinator = coordinator
        self._key = f"{PREFIX}/{identity or secrets.token_hex(8)}"
        self._said: Mapping[str, bytes] = {}
        self._others: dict[str, Statement] = {}
        self._has_picture = coordinator is None
        self._has_published = False
        self._is_deaf = False

    async def run(self) -> None:
        """Look, tell and publish until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(loop.time() + PICTURE_WAIT))
            if self._coordinator is not None:
                tasks.create_task(self._hear(self._coordinator))
                tasks.create_task(self._tell(self._coordinator))

    def statement(self) -> Statement:
        """What this server says now."""
        own = self._hearing.look()
        is_deaf = too_many(len(own), len(self._hearing))
        if is_deaf != self._is_deaf:
            self._is_deaf = is_deaf
            if is_deaf:
                log.warning("too many followers are silent, none is suspected silent=%d", len(own))
            else:
                log.info("most followers are heard again silent=%d", len(own))
        if is_deaf:
            own = frozenset()
        suspected = {address for each in self._others.values() for address in each.suspects}
        alive = sorted(address for address in suspected if self._hearing.hears(address))
        return Statement(tuple(sorted(own)[:MOST_TOLD]), tuple(alive[:MOST_TOLD]))

    async def _look(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= until:
                self._has_picture = True
            await self._publish()
            await asyncio.sleep(LOOK_EVERY)

    async def _publish(self) -> None:
        said = [self.statement(), *self._others.values()]
        if not self._has_picture:
            return
        # To list the nodes is dear in a large cluster, and mostly nobody is silent.
        suspects = merged(said, self._nodes()) if any(each.suspects for each in said) else frozenset()
        if self._has_published and suspects == self.suspects:
            return
        for address in sorted(suspects - self.suspects):
            log.warning("nothing is heard of a node, it gets no new connections node=%s", address)
        for address in sorted(self.suspects - suspects):
            log.info("a node is no longer suspect node=%s", address)
        self.suspects = suspects
        self._has_published = True
        await self._publisher.sync(Sync(tuple(map(Suspect, sorted(suspects)))))
        self._publisher.mark(connected=True, synced=True)

    async def _hear(self, coordinator: Coordinator) -> None:
        """Keep what the others say; while the coordinator is lost, what they said last."""
        async for values in coordinator.watch(PREFIX):
            self._said = values
            found = ((key, read_statement(value)) for key, value in values.items() if key != self._key)
            self._others = {key: each for key, each in found if each is not None}
            self._has_picture = True
            await self._publish()

    async def _tell(self, coordinator: Coordinator) -> None:
        """Keep our statement where the others read it."""
        while True:
            try:
                async with coordinator.register(self._key, msgspec.json.encode(self.statement())):
                    while True:
                        await asyncio.sleep(LOOK_EVERY)
                        wanted = msgspec.json.encode(self.statement())
                        if self._said.get(self._key) != wanted:
                            await self._write(coordinator, wanted)
            except (CoordinatorLost, VersionConflict) as error:
                log.debug("could not tell other servers which nodes are suspect reason=%s", error)
            await asyncio.sleep(random.uniform(0.5, 1.5))

    async def _write(self, coordinator: Coordinator, wanted: bytes) -> None:
        stored = await coordinator.get(self._key)
        if stored is None:
            return  # the session was lost; what holds the key makes it anew
        if stored.value != wanted:
            with contextlib.suppress(VersionConflict):
                await coordinator.put_if(self._key, wanted, stored.version)
