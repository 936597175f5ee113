"""Pharos' own checks of backends: which of them fail, beside what orchestrators say of their tasks.

    checks = Checks(changed)
    checks.keep({Checked(BackendKey("10.0.0.4", 5432), VipCheck()), ...})   # from now on these, and no others
    checks.failing                                                           # a frozenset of Checked
    await checks.close()

A backend counts as good until `fall` checks in a row have failed, and then as failing until `rise` in a row have gone
well. Each is checked at once, then every `interval` give or take a tenth, and never twice at a time. What could not be
done here (no files, no ports) says nothing of a backend and changes nothing.

A check has a turn until its result is known: so many are under way at once as there are files for. Backends that did
not answer within their timeout the last time have turns of their own, as many, so that the others don't wait for them.
As many connections again may wait for the backend's end meanwhile; beyond that they are closed without.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, KeysView
from enum import StrEnum

import msgspec

from mesos_dns.checked import BackendKey, Checked, check_faults
from mesos_dns.connections import files_for_connections
from mesos_dns.model import VipCheck
from mesos_dns.probe import LINGER, Outcome, Probed, Result, part, probe
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

AT_ONCE = 1024
"""Checks under way, at most: the others wait for their turn."""
_LEAST_AT_ONCE = 64
_PART_OF_FILES = 60
JITTER = 0.1
_SAY_EVERY = 60.0


class CheckState(StrEnum):
    """What checks say of a backend; PENDING before the first result, and counts as good."""

    PENDING = "pending"
    GOOD = "good"
    FAILING = "failing"


class CheckStatus(msgspec.Struct, frozen=True):
    """One row of the status: the state, since when (epoch seconds), and the last result (None: none yet) with its
    text, its time (epoch seconds) and how many seconds the check took. `streak` counts results in a row that speak
    against the state."""

    backend: BackendKey
    check: VipCheck
    state: CheckState
    since: float
    streak: int = 0
    result: Result | None = None
    detail: str = ""
    checked_at: float = 0.0
    seconds: float = 0.0


class Checks:
    """See the module. `changed` is told who begins to fail or ends to, together for one turn of the loop.

    `results` counts checks by type and result. `at_once`: how many at most are under way, are under way with a backend
    that was silent, and are parted with.
    """

    def __init__(self, changed: Callable[[frozenset[Checked]], None]) -> None:
        self.results: Counter[tuple[str, Result]] = Counter()
        self._changed = changed
        self._rows: dict[Checked, CheckStatus] = {}
        self._tasks: dict[Checked, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._unsound: set[Checked] = set()
        self._failing: set[Checked] = set()
        self._failing_backends: Counter[BackendKey] = Counter()
        self._untold: set[Checked] = set()
        self._telling: asyncio.Handle | None = None
        self.at_once = checks_at_once()
        self._turns = asyncio.Semaphore(self.at_once)
        self._turns_of_silent = asyncio.Semaphore(self.at_once)
        self._parting = 0
        self._seldom = Seldom(log, _SAY_EVERY)

    def __repr__(self) -> str:
        return f"<Checks backends={len(self._rows)} failing={len(self._failing)}>"

    def __len__(self) -> int:
        """How many are checked."""
        return len(self._rows)

    @property
    def failing(self) -> frozenset[Checked]:
        """Those that fail now."""
        return frozenset(self._failing)

    def is_failing(self, checked: Checked) -> bool:
        """Whether one fails now; False for one that is not checked."""
        return checked in self._failing

    @property
    def failing_backends(self) -> KeysView[BackendKey]:
        """Backends of which at least one check fails now (a live view)."""
        return self._failing_backends.keys()

    def status(self) -> list[CheckStatus]:
        """All that are checked, by backend."""
        return sorted(self._rows.values(), key=lambda row: (row.backend, row.check.type, row.check.path))

    def keep(self, wanted: Iterable[Checked]) -> None:
        """Check these from now on. What is known of those that stay stays; of the others nothing is kept."""
        new = set(wanted)
        for checked in [checked for checked in (*self._rows, *self._unsound) if checked not in new]:
            self.drop(checked)
        for checked in new:
            self.add(checked)

    def add(self, checked: Checked) -> None:
        """Check this one too, if it is not checked already."""
        if checked in self._rows or checked in self._unsound:
            return
        # A VIP may have come from another server, which may be another version.
        if faults := list(check_faults(checked.check)):
            self._unsound.add(checked)
            key, text = faults[0]
            log.warning("backend not checked backend=%s port=%d key=%s: %s", *checked.backend, key, text)
            return
        self._rows[checked] = CheckStatus(checked.backend, checked.check, CheckState.PENDING, time.time())
        self._tasks[checked] = asyncio.get_running_loop().create_task(self._run(checked))

    def drop(self, checked: Checked) -> None:
        """Check this one no more, and forget what is known of it."""
        self._unsound.discard(checked)
        if self._rows.pop(checked, None) is None:
            return
        self._mark(checked, failing=False)
        self._untold.discard(checked)
        task = self._tasks.pop(checked)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def close(self) -> None:
        """End all checks."""
        self.keep(())
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._ending:
            await asyncio.wait(self._ending)

    async def _run(self, checked: Checked) -> None:
        backend, check = checked
        while True:
            was_silent = self._rows[checked].result is Result.TIMEOUT
            async with self._turns_of_silent if was_silent else self._turns:
                began = time.monotonic()
                try:
                    outcome, connection = await probe(backend, check)
                except Exception as error:  # a fault of ours must not end the checks of a backend
                    log.exception("a check failed backend=%s port=%d", *backend)
                    outcome, connection = Probed(Outcome(Result.LOCAL, repr(error)))
            self._note(checked, outcome)
            due = began + check.interval * random.uniform(1 - JITTER, 1 + JITTER)
            if connection is not None:
                await self._part(connection, min(LINGER, due - time.monotonic()))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _part(self, connection: socket.socket, seconds: float) -> None:
        """End a connection as the backend likes it, if there is room and time for that."""
        if self._parting >= self.at_once:
            seconds = 0.0
        self._parting += 1
        try:
            await part(connection, seconds)
        finally:
            self._parting -= 1

    def _note(self, checked: Checked, outcome: Outcome) -> None:
        """Take a result to what is known."""
        self.results[checked.check.type, outcome.result] += 1
        if outcome.result is Result.LOCAL:
            self._seldom("backends can't be checked from here: %s", outcome.detail)
            return
        old = self._rows[checked]
        new = self._rows[checked] = after(old, outcome, time.time())
        if (new.state is CheckState.FAILING) == (old.state is CheckState.FAILING):
            return
        self._mark(checked, failing=new.state is CheckState.FAILING)
        if new.state is CheckState.FAILING:
            text = "backend fails its checks backend=%s port=%d check=%s result=%s detail=%r"
            log.warning(text, *checked.backend, checked.check.type, outcome.result, outcome.detail)
        else:
            log.info("backend is good again backend=%s port=%d check=%s", *checked.backend, checked.check.type)
        self._untold.add(checked)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self._tell)

    def _mark(self, checked: Checked, *, failing: bool) -> None:
        if failing:
            self._failing.add(checked)
            self._failing_backends[checked.backend] += 1
        elif checked in self._failing:
            self._failing.remove(checked)
            self._failing_backends[checked.backend] -= 1
            if not self._failing_backends[checked.backend]:
                del self._failing_backends[checked.backend]

    def _tell(self) -> None:
        self._telling = None
        untold, self._untold = frozenset(self._untold), set()
        if not untold:
            return
        try:
            self._changed(untold)
        except Exception:
            log.exception("a change of checks was not taken backends=%d", len(untold))


def checks_at_once() -> int:
    """A third of the twentieth of the process' files that the proxy's connections and flows leave, AT_ONCE at most."""
    return max(_LEAST_AT_ONCE, min(AT_ONCE, files_for_connections() // _PART_OF_FILES))


def after(row: CheckStatus, outcome: Outcome, now: float) -> CheckStatus:
    """What is known of a backend after one more result (epoch seconds `now`)."""
    good = outcome.result is Result.OK
    state, since, streak = row.state, row.since, row.streak
    if state is CheckState.PENDING:
        state, since = CheckState.GOOD, now
    if good == (state is CheckState.GOOD):
        streak = 0
    else:
        streak += 1
        if streak >= (row.check.rise if good else row.check.fall):
            state, since, streak = (CheckState.GOOD if good else CheckState.FAILING), now, 0
    return CheckStatus(
        row.backend, row.check, state, since, streak, outcome.result, outcome.detail, now, outcome.seconds
    )
