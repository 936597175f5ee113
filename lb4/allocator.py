"""Gives named VIPs their addresses, once for all servers, and tells them as `VipAddress`.

Every server follows what is stored and publishes it; the elected one allocates for names that have none.
What was told once stays told: while the coordinator is away, and when what was stored is lost, in which
case it is stored again as it was told. A name that is in use no more keeps its address in the store, and
is told for another day.

Two leaders, of whom one was stopped for a while, never give one address to two names: who finds that
another has written reads again and decides anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Set
from typing import Any, cast

from lb4.addresses import AddressRange
from lb4.allocation_store import AllocationStore
from lb4.allocations import PREFIX, SHARDS, shard_key
from lb4.allotment import DAY, Allotment, Wanted, tidy
from mesos_dns.coordinate import Coordinator, CoordinatorLost, Election
from mesos_dns.model import DEFAULT_CLUSTER, VipAddress
from mesos_dns.seldom import Seldom
from mesos_dns.sources import Publisher
from mesos_dns.sources.counters import Complaints

log = logging.getLogger(__name__)

ROLE = "vip-addresses"
COALESCE = 0.05
"""Seconds between two looks at what is wanted: the first change is seen at once, those right after it together."""

SLICE = 250
"""Names that are looked at, placed or told in one turn of the loop."""

PROBE = 10.0
"""Seconds between two looks whether the coordinator is there."""

TIDY = 300.0
RETRY = 0.25
MAX_RETRY = 10.0
SAID_AGAIN = 300.0
TRIES = 3
"""How often a pass begins anew at once: a version conflict is mostly settled by reading again."""


class AllocatorCounters:
    """One allocator's totals since the process started; the store has its own."""

    def __init__(self) -> None:
        self.given = 0
        self.given_up = 0
        self.lost = 0
        self.exhausted = 0


class Allocator:
    """See the module. `run` it; `changed` when `wanted` or `reserved` would give something else.

    `wanted` gives the names of VIPs in use with the IP versions (4, 6) they need addresses of, `reserved` the addresses
    (canonical texts) of VIPs that have fixed ones. `complete` is False while more names may be in use than `wanted`
    knows: then no stored address is given up, and what was told before the start stays told. `clock` is epoch
    seconds. Raises ValueError for two ranges of a version.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        ranges: Iterable[AddressRange],
        publish: Publisher,
        wanted: Callable[[], Mapping[str, frozenset[int]]],
        reserved: Callable[[], Set[str]] = frozenset,
        *,
        role: str = ROLE,
        complete: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        cluster: str = DEFAULT_CLUSTER,
    ) -> None:
        ranges = list(ranges)
        by_version = {addresses.version: addresses for addresses in ranges}
        if len(by_version) < len(ranges):
            raise ValueError("there can be one range of addresses for each IP version")
        self.counters = AllocatorCounters()
        self.store = AllocationStore(coordinator, by_version, self._stored_others)
        self.book = self.store.book
        self.leading = False
        self.last_error = ""
        self._coordinator = coordinator
        self._publish = publish
        self._wanted_now = wanted
        self._reserved_now = reserved
        self._role = role
        self._complete = complete
        self._clock = clock
        self._cluster = cluster
        self._wanted: Wanted = {}
        self._left: dict[str, int] = {}
        self._known = False  # what is stored was read once
        self._connected = False
        self._due: set[str] = set()  # names that may lack an address
        self._untold: set[str] = set()  # names of which something else may be to be told
        self._untidy: set[int] = set()
        self._lacking: frozenset[str] = frozenset()  # at the end of the last pass
        self._turn = asyncio.Lock()  # who holds it may change the book
        self._wake = asyncio.Event()
        self._tell = asyncio.Event()
        self._ask = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = -COALESCE
        self._complain = Complaints(log)
        self._seldom = Seldom(log, SAID_AGAIN)

    def __repr__(self) -> str:
        return f"<Allocator {self._role} leading={self.leading} wanted={len(self._wanted)} stored={len(self.book)}>"

    @property
    def known(self) -> bool:
        """Whether it knows which addresses there are: what is stored was read, or an earlier process told it."""
        return self._known or bool(self._publish.said())

    @property
    def without_address(self) -> list[str]:
        """The wanted names that lack an address, sorted."""
        return sorted(name for name in self._wanted if self._lacks(name))

    @property
    def status(self) -> dict[str, Any]:
        """How things stand, as /status shows it."""
        without = self.without_address
        return {
            "leader": self.leading,
            "allocated": len(self._wanted) - len(without),
            "stored": len(self.book),
            "without_address": without,
            "damaged": self.store.damaged,
            "last_error": self.last_error,
        }

    def changed(self) -> None:
        """`wanted` or `reserved` would give something else now."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._looked_at + COALESCE), self._look)

    async def run(self) -> None:
        """Follow, publish and, when elected, allocate, until cancelled."""
        self._look()
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._follow(), self._stand(), self._keep_telling(), self._keep_looking()):
                    group.create_task(work)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    # --- what is wanted ------------------------------------------------------------------------------

    def _look(self) -> None:
        """See what is wanted now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looked_at = asyncio.get_running_loop().time()
        new, old, now = dict(self._wanted_now()), self._wanted, int(self._clock())
        changed = {name for name, versions in new.items() if old.get(name) != versions}
        for name in old.keys() - new.keys():
            changed.add(name)
            self._left[name] = now
        self._wanted = new
        self._due = (self._due | changed) & new.keys()
        self._wake.set()
        self._untell(changed)

    def _lacks(self, name: str) -> bool:
        """True when an address that a wanted name needs is neither stored nor told."""
        return not all(self._address(name, version) for version in self._wanted.get(name, ()))

    # --- what is told --------------------------------------------------------------------------------

    def _untell(self, names: Iterable[str]) -> None:
        self._untold.update(names)
        self._tell.set()

    async def _keep_telling(self) -> None:
        """Publish what may have changed, in slices."""
        while True:
            await self._tell.wait()
            self._tell.clear()
            if not self._known:
                continue  # what was told before the start holds until we know better
            while self._untold:
                names, self._untold = list(self._untold), set()
                for at in range(0, len(names), SLICE):
                    for name in names[at : at + SLICE]:
                        self._tell_name(name)
                    await asyncio.sleep(0)
            self._publish.mark(connected=self._connected, synced=True, detail=self.last_error)

    def _tell_name(self, name: str) -> None:
        told = VipAddress(name, self._address(name, 4), self._address(name, 6), self._cluster)
        if told.address or told.address6:
            self._publish.put(told)
        else:
            self._publish.drop(told.key)

    def _address(self, name: str, version: int) -> str:
        """The address to tell: the stored one of a name in use, or that was until lately; else the one told before."""
        entry, told = self.book.entry(name, version), self._told(name, version)
        keep = version in self._wanted.get(name, ())
        if entry is not None:
            keep = keep or self._clock() - self._used(name, entry.used) < DAY
            return entry.address if keep or (told == entry.address and not self._complete()) else ""
        keep = keep or not self._complete()
        return told if told and keep and self.book.may_have(name, told) else ""

    def _used(self, name: str, stored: int) -> int:
        return max(stored, self._left.get(name, 0))

    def _told(self, name: str, version: int) -> str:
        said = self._publish.said().get(VipAddress(name, cluster=self._cluster).key)
        if not isinstance(said, VipAddress):
            return ""
        return said.address if version == 4 else said.address6

    # --- what is stored ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Take what a watch shows; the leader reads it itself."""
        watch = cast("AsyncGenerator[dict[str, bytes], None]", self._coordinator.watch(PREFIX))
        async with contextlib.aclosing(watch) as pictures:
            async for picture in pictures:
                self.store.picture = picture
                self._reached()
                self._wake.set()
                await self._take_picture()

    async def _take_picture(self) -> None:
        """Unless we lead, what the last picture shows is what is stored."""
        async with self._turn:
            if not self.leading and self.store.picture is not None:
                await self.store.take_picture()
                self._learned()

    def _stored_others(self, names: set[str], *, ours: bool) -> None:
        """The addresses of names are others now."""
        if not ours:
            self._due |= names & self._wanted.keys()
        self._untell(names)

    def _learned(self) -> None:
        """All that is stored is known now."""
        if not self._known:
            self._known = True
            said = [entity.name for entity in self._publish.said().values() if isinstance(entity, VipAddress)]
            self._untell([*said, *self._wanted])

    def _reached(self) -> None:
        if not self._connected:
            self._connected, self.last_error = True, ""
            self._tell.set()

    def _lost(self, error: CoordinatorLost) -> None:
        self.counters.lost += 1
        self._connected, self.last_error = False, str(error)
        self._tell.set()
        self._seldom("addresses of VIPs can't be stored, those that are known stay reason=%s", error)
        if without := self.without_address:
            self._seldom("VIPs have no address until they can be stored names=%d first=%s", len(without), without[0])

    async def _keep_looking(self) -> None:
        """Ask now and then whether the coordinator is there; have things tidied."""
        tidied = asyncio.get_running_loop().time()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await self._ask.wait()
            self._ask.clear()
            due = asyncio.get_running_loop().time() - tidied >= TIDY
            try:
                await self._coordinator.get(shard_key(0))
                self._reached()
                await self._read_again(due)
            except CoordinatorLost as error:
                self._lost(error)
            if due:
                tidied = asyncio.get_running_loop().time()
                self._forget()

    async def _read_again(self, due: bool) -> None:
        """Unless we lead, which includes it: read all when that is due, or names wait for what a watch did not show."""
        if not self.leading and self._known and (due or self.without_address):
            async with self._turn:
                if not self.leading:
                    self.store.distrust()
                    await self.store.read()

    def _forget(self) -> None:
        """See which names were in use within the last day; the leader's next pass tidies the store."""
        self._untidy = set(range(SHARDS))
        self._wake.set()
        known = set(self.book.names())
        self._left = {name: used for name, used in self._left.items() if name in known and name not in self._wanted}
        said = [entity.name for entity in self._publish.said().values() if isinstance(entity, VipAddress)]
        self._untell(said)

    # --- leading -------------------------------------------------------------------------------------

    async def _stand(self) -> None:
        """Be a candidate, and lead when elected."""
        while True:
            try:
                async with self._coordinator.elect(self._role) as election:
                    while True:
                        await election.won()
                        await self._lead(election)
            except CoordinatorLost as error:
                self._lost(error)
                await asyncio.sleep(_jittered(RETRY))

    async def _lead(self, election: Election) -> None:
        """Allocate until leadership is lost."""
        async with self._turn:
            self.leading = True
            self.store.distrust()
        tasks = [asyncio.create_task(self._allocate(election)), asyncio.create_task(election.lost())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.leading = False
        self._ask.set()
        await self._take_picture()

    async def _allocate(self, election: Election) -> None:
        """A pass whenever something changed, and again after one that was not finished."""
        failures = 0
        self._untidy = set(range(SHARDS))
        self._due |= self._wanted.keys()
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                finished = await self._pass(election)
            except CoordinatorLost as error:
                self._lost(error)
                finished = False
            except Exception as error:
                self.last_error = repr(error)
                log.exception("addresses of VIPs could not be allocated")
                finished = False
            if finished:
                failures, self.last_error = 0, ""
            else:
                self._wake.set()
                await asyncio.sleep(_jittered(min(MAX_RETRY, RETRY * 2**failures)))
                failures = min(failures + 1, 10)

    async def _pass(self, election: Election) -> bool:
        """Read what is not known, give what is lacking, write it; False when another pass must follow."""
        async with self._turn:
            for _ in range(TRIES):
                await self.store.read()
                self._reached()
                self._learned()
                names, self._due = self._due & self._wanted.keys(), set()
                try:
                    allotment = await self._decide(sorted(names))
                    finished = await self.store.write(
                        allotment.changes, self._wanted, int(self._clock()), lambda: election.leading
                    )
                except BaseException:
                    self._due |= names
                    raise
                self._due.update(allotment.without if finished else names)
                if finished:
                    self._account(allotment)
                    return True
        return False

    async def _decide(self, names: list[str]) -> Allotment:
        """What is to be written: addresses for `names`, what is to be tidied, and shards that were lost."""
        wanted, now = self._wanted, int(self._clock())
        allotment = Allotment(
            self.book,
            wanted,
            now,
            reserved=self._reserved_now(),
            told=self._told,
            left=self._left,
            give_up=self._complete(),
        )
        try:
            for at in range(0, len(names), SLICE):
                for name in names[at : at + SLICE]:
                    if name in wanted:
                        allotment.place(name)
                await asyncio.sleep(0)
        finally:
            changes = allotment.finish()
        untidy, self._untidy = self._untidy, set()
        for number in untidy:
            if tidied := tidy(self.book, number, wanted, now):
                changes[number] = tidied | changes.get(number, {})
            await asyncio.sleep(0)
        return allotment

    def _account(self, allotment: Allotment) -> None:
        """Count and say what came of a pass."""
        self.counters.given += allotment.given
        self.counters.given_up += allotment.given_up
        for name in allotment.refused:
            self._complain(f"a VIP gets no address: its name is none name={name[:80]!r}")
        for address, name in allotment.clashes:
            self._complain(f"a VIP has a fixed address that a name was given before address={address} name={name}")
        lacking = frozenset(allotment.without)
        if lacking and lacking != self._lacking:
            ranges = ", ".join(map(str, self.book.ranges.values()))
            log.warning("no address is left for VIPs names=%d first=%s ranges=%s", len(lacking), min(lacking), ranges)
        self.counters.exhausted += len(lacking - self._lacking)
        self._lacking = lacking


def _jittered(pause: float) -> float:
    return pause * random.uniform(0.5, 1.5)
