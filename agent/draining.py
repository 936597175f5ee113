"""Tasks that are drained before they are removed: who scales says so in the coordinator, and all servers tell it on.

    coordinator   drains/HEX = {"app": key of the app, "tasks": [ids], "until": seconds since 1970}

HEX is `lb7.autoscale.state.digest` of the app's key, for ids have characters that keys may not have. There is one
value for each app, which only the one that scales writes (`Drains`). Every server reads all of them (`DrainSource`) and
publishes a Draining for each task; those who follow it hear of them as of everything else. `until` is for the case that
nobody takes it back: then the tasks get requests again.

What has expired is taken out of the coordinator by whichever server comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence

import msgspec

from lb7.autoscale.state import digest
from mesos_dns.coordinate import ABSENT, MAX_VALUE, Coordinator, CoordinatorLost, VersionConflict
from mesos_dns.model import App, Draining, Key, Sync
from mesos_dns.publish import CatalogPublisher

log = logging.getLogger(__name__)

PREFIX = "drains"

MOST_TASKS = 10_000
"""Tasks of one app that are drained at most."""

MOST_TOLD = 50_000
"""Tasks of all apps that are published at most."""

LONGEST = 4 * 3600.0
"""Seconds ahead of now that `until` may be."""

LONGEST_ID = 1024
"""Characters of a task's id at most."""

TRIES = 5
"""Times that a value is written anew when somebody else has written it in between."""

SWEEP_EVERY = 60.0
"""Seconds between two looks for values that have expired; a value stays at least so long after it has."""

MOST_SWEPT = 100
"""Values that are taken out in one look at most."""


class Drain(msgspec.Struct, frozen=True):
    """A value: the key of an app, ids of those of its tasks that are drained, and until when (seconds since 1970)."""

    app: tuple[str, str, str, str]
    tasks: tuple[str, ...]
    until: float

    def entities(self) -> list[Draining]:
        """What the catalog is to have."""
        _, cluster, framework, _ = self.app
        return [Draining(framework, task, self.until, cluster) for task in self.tasks]


def drain_key(app: Key) -> str:
    """Where the coordinator has what is drained of the app of this key."""
    return f"{PREFIX}/{digest(app)}"


def read_drain(key: str, value: bytes, now: float) -> Drain:
    """The value of a key in the coordinator, also one that has expired. Raises ValueError that says what is wrong."""
    try:
        found = msgspec.json.decode(value, type=Drain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)[:300]) from None
    if found.app[0] != "app" or drain_key(found.app) != key:
        raise ValueError("app: expected the key of the app that it is stored for")
    if not 0 < len(found.tasks) <= MOST_TASKS:
        raise ValueError(f"tasks: expected 1 to {MOST_TASKS}, got {len(found.tasks)}")
    if not all(0 < len(task) <= LONGEST_ID for task in found.tasks):
        raise ValueError(f"tasks: expected ids of 1 to {LONGEST_ID} characters")
    if not math.isfinite(found.until) or found.until > now + LONGEST:
        raise ValueError(f"until: expected a time at most {LONGEST:g} s ahead, got {found.until!r}")
    return found


class Drains:
    """Says which tasks of an app are to get nothing new. For the one that scales: nobody else writes."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def set(self, app: App, tasks: Sequence[str], until: float) -> None:
        """These tasks of an app, and no others, get nothing new up to `until` (seconds since 1970), or until `clear`.
        The same again changes nothing; without tasks it is `clear`.

        Of more than MOST_TASKS, or more than fit into a value, the first are drained. Raises CoordinatorLost: whether
        it was done is then not known, and it may be called again.
        """
        if not tasks:
            await self.clear(app)
            return
        await self._write(app, _value(app, tasks, until))

    async def clear(self, app: App, until: float | None = None) -> None:
        """No task of this app is drained any more. With `until` only what was set with it is taken back, and not what
        another that scales by now has set since. Raises CoordinatorLost, as `set`."""
        await self._write(app, None, until)

    async def _write(self, app: App, value: bytes | None, only: float | None = None) -> None:
        key = drain_key(app.key)
        for _ in range(TRIES):
            stored = await self._coordinator.get(key)
            if (stored.value if stored is not None else None) == value:
                return
            if only is not None and stored is not None and not _ends_at(stored.value, only):
                return
            with contextlib.suppress(VersionConflict):
                if value is not None:
                    await self._coordinator.put_if(key, value, stored.version if stored is not None else ABSENT)
                elif stored is not None:
                    await self._coordinator.delete_if(key, stored.version)
                return
        raise CoordinatorLost(f"{key}: somebody else writes it all the time")


def _ends_at(value: bytes, until: float) -> bool:
    """Whether it is a value with this end."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(value, type=Drain).until == until
    return False


def _value(app: App, tasks: Sequence[str], until: float) -> bytes:
    _, cluster, framework, app_id = app.key
    some = tuple(tasks[:MOST_TASKS])
    value = msgspec.json.encode(Drain(("app", cluster, framework, app_id), some, until))
    while len(value) > MAX_VALUE and some:
        some = some[: len(some) * MAX_VALUE // len(value)]
        value = msgspec.json.encode(Drain(("app", cluster, framework, app_id), some, until))
    if len(some) < len(tasks):
        log.warning(
            "not all tasks can be drained, the others are removed as they are app=%s tasks=%d drained=%d",
            app_id,
            len(tasks),
            len(some),
        )
    return value


class DrainSource:
    """The source "draining" of a server; `run` until cancelled.

    What was said stays while the coordinator is lost; what has expired is dropped from the catalog by DrainExpiry.
    """

    def __init__(self, publisher: CatalogPublisher, coordinator: Coordinator) -> None:
        self._publisher = publisher
        self._coordinator = coordinator
        self._read: dict[str, tuple[bytes, Drain | None]] = {}
        self._too_many = False

    def __repr__(self) -> str:
        return f"<DrainSource apps={len(self._read)}>"

    async def run(self) -> None:
        """Publish what the coordinator has until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._sweep_on())

    async def _hear(self) -> None:
        async for values in self._coordinator.watch(PREFIX):
            found = self._taken(values, time.time())
            await self._publisher.sync(Sync(tuple(found)))
            self._publisher.mark(connected=True, synced=True)

    def _taken(self, values: Mapping[str, bytes], now: float) -> list[Draining]:
        """What there is to publish of all values; those that have not changed are not read again."""
        before, self._read = self._read, {}
        found: list[Draining] = []
        left_out = 0
        for key in sorted(values):
            known = before.get(key)
            if known is None or known[0] != values[key]:
                known = values[key], _read(key, values[key], now)
            self._read[key] = known
            drain = known[1]
            if drain is None or drain.until <= now:
                continue
            if len(found) + len(drain.tasks) > MOST_TOLD:
                left_out += len(drain.tasks)
                continue
            found += drain.entities()
        if left_out and not self._too_many:
            log.warning("more than %d tasks are drained, others are left out tasks=%d", MOST_TOLD, left_out)
        self._too_many = bool(left_out)
        return found

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY * random.uniform(1.0, 1.5))  # not all servers at one time
            await self.sweep(time.time())

    async def sweep(self, now: float) -> None:
        """Take some values that have expired for long out of the coordinator."""
        old = [key for key, (_, drain) in self._read.items() if drain is not None and _is_over(drain, now)]
        for key in old[:MOST_SWEPT]:
            try:
                stored = await self._coordinator.get(key)
                if stored is not None and _is_over(read_drain(key, stored.value, now), now):
                    await self._coordinator.delete_if(key, stored.version)
            except (VersionConflict, ValueError):
                continue  # another one by now
            except CoordinatorLost as error:
                log.debug("what has expired stays for now reason=%s", error)
                return


def _is_over(drain: Drain, now: float) -> bool:
    return drain.until + SWEEP_EVERY < now


def _read(key: str, value: bytes, now: float) -> Drain | None:
    """A value; None, and a line in the log, for what is none."""
    try:
        return read_drain(key, value, now)
    except ValueError as error:
        log.warning("what is to be drained can't be read key=%s error=%s", key, error)
        return None
