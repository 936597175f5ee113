"""Checks that run on: when a backend begins to fail and when it ends to, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from mesos_dns import checks as module
from mesos_dns.checked import BackendKey, Checked
from mesos_dns.checks import AT_ONCE, Checks, CheckState, CheckStatus, after, checks_at_once
from mesos_dns.model import VipCheck
from mesos_dns.probe import LINGER, Outcome, Probed, Result

ONE, TWO = BackendKey("10.0.0.1", 80), BackendKey("10.0.0.2", 80)
CHECK = VipCheck(interval=0.1, fall=3, rise=2)
GOOD, BAD, LOCAL = Outcome(Result.OK), Outcome(Result.REFUSED, "Connection refused"), Outcome(Result.LOCAL, "no files")


class Backends:
    """What each backend answers, instead of the network; a check waits for `gate`, a backend's end for `ends`."""

    def __init__(self) -> None:
        self.outcomes: dict[BackendKey, Outcome | Exception] = {}
        self.connections: list[socket.socket] = []
        self.open: set[BackendKey] = set()
        self.parts: list[float] = []
        self.ends = asyncio.Event()
        self.count: dict[Checked, int] = {}
        self.under_way = self.most = 0
        self.told: list[frozenset[Checked]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Event()

    async def probe(self, backend: BackendKey, check: VipCheck) -> Probed:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            checked = Checked(backend, check)
            self.count[checked] = self.count.get(checked, 0) + 1
            self._news.set()
            await self.gate.wait()
        finally:
            self.under_way -= 1
        outcome = self.outcomes.get(backend, GOOD)
        if isinstance(outcome, Exception):
            raise outcome
        if backend not in self.open:
            return Probed(outcome)
        self.connections.append(socket.socket())
        return Probed(outcome, self.connections[-1])

    async def part(self, connection: socket.socket, seconds: float) -> None:
        self.parts.append(seconds)
        self._news.set()
        with connection:
            if seconds > 0:
                await self.ends.wait()

    def changed(self, checked: frozenset[Checked]) -> None:
        self.told.append(checked)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def rounds(self, checked: Checked, number: int) -> None:
        """So many more results of one check."""
        start = self.count.get(checked, 0)
        await self.until(lambda: self.count.get(checked, 0) > start + number)


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Backends:
    made = Backends()
    monkeypatch.setattr(module, "probe", made.probe)
    monkeypatch.setattr(module, "part", made.part)
    monkeypatch.setattr(module, "checks_at_once", lambda: 20)
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(min(seconds, 0.001)))
    return made


@contextlib.asynccontextmanager
async def checking(backends: Backends) -> AsyncIterator[Checks]:
    """Checks, of which nothing is left at the end."""
    checks = Checks(backends.changed)
    try:
        yield checks
    finally:
        await checks.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not checks.failing
        assert not checks.status()
        assert backends.under_way == 0
        assert all(each.fileno() == -1 for each in backends.connections)


@pytest.mark.asyncio
async def test_fall_and_rise(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    checked = Checked(ONE, CHECK)
    async with checking(backends) as checks:
        checks.keep({checked})
        assert [row.state for row in checks.status()] == [CheckState.PENDING]
        await backends.rounds(checked, 2)
        assert [row.state for row in checks.status()] == [CheckState.GOOD]
        assert backends.told == []
        backends.outcomes[ONE] = BAD
        with caplog.at_level(logging.INFO):
            await backends.until(lambda: len(backends.told) == 1)
        assert backends.told == [{checked}]
        assert checks.failing == {checked}
        assert checks.is_failing(checked)
        assert set(checks.failing_backends) == {ONE}
        (row,) = checks.status()
        assert (row.state, row.result, row.detail) == (CheckState.FAILING, Result.REFUSED, "Connection refused")
        assert checks.results["tcp", Result.REFUSED] >= 3
        backends.outcomes[ONE] = GOOD
        with caplog.at_level(logging.INFO):
            await backends.until(lambda: len(backends.told) == 2)
        assert backends.told[1] == {checked}
        assert checks.failing == frozenset()
        assert not checks.failing_backends
        assert checks.results["tcp", Result.OK] >= 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "backend fails its checks backend=10.0.0.1 port=80 check=tcp result=refused" in caplog.text
    assert "backend is good again backend=10.0.0.1 port=80 check=tcp" in caplog.text


@pytest.mark.asyncio
async def test_one_backend_with_two_checks(backends: Backends) -> None:
    tcp, http = Checked(ONE, CHECK), Checked(ONE, VipCheck("http", interval=0.1, fall=1, rise=1))
    backends.outcomes[ONE] = BAD
    async with checking(backends) as checks:
        checks.keep({tcp, http})
        await backends.until(lambda: checks.failing == {tcp, http})
        assert set(checks.failing_backends) == {ONE}
        checks.keep({tcp})
        assert checks.failing == {tcp}
        assert set(checks.failing_backends) == {ONE}
        checks.keep(())
        assert not checks.failing_backends


@pytest.mark.asyncio
async def test_what_stays_goes_on_and_what_comes_again_begins_anew(backends: Backends) -> None:
    one, two = Checked(ONE, CHECK), Checked(TWO, CHECK)
    backends.outcomes[ONE] = BAD
    async with checking(backends) as checks:
        checks.keep({one})
        await backends.until(lambda: one in checks.failing)
        checks.keep({one, two})
        assert one in checks.failing
        await backends.rounds(two, 1)
        checks.keep({two})
        assert not checks.failing
        assert [row.backend for row in checks.status()] == [TWO]
        checks.keep({one, two})
        assert [(row.backend, row.state) for row in checks.status()] == [
            (ONE, CheckState.PENDING),
            (TWO, CheckState.GOOD),
        ]


@pytest.mark.asyncio
async def test_what_could_not_be_done_here_changes_nothing(
    backends: Backends, caplog: pytest.LogCaptureFixture
) -> None:
    checked = Checked(ONE, CHECK)
    backends.outcomes[ONE] = LOCAL
    async with checking(backends) as checks:
        checks.keep({checked})
        await backends.rounds(checked, 5)
        assert [row.state for row in checks.status()] == [CheckState.PENDING]
        assert not checks.failing
        assert checks.results["tcp", Result.LOCAL] >= 5
    assert caplog.text.count("backends can't be checked from here: no files") == 1


@pytest.mark.asyncio
async def test_a_fault_of_ours_does_not_end_the_checks(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    checked = Checked(ONE, CHECK)
    backends.outcomes[ONE] = RuntimeError("a fault")
    async with checking(backends) as checks:
        checks.keep({checked})
        await backends.rounds(checked, 2)
        backends.outcomes[ONE] = BAD
        await backends.until(lambda: checked in checks.failing)
    assert "a check failed backend=10.0.0.1 port=80" in caplog.text


@pytest.mark.asyncio
async def test_a_listener_that_fails_is_logged(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    def changed(checked: frozenset[Checked]) -> None:
        backends.changed(checked)
        raise RuntimeError("no")

    checks = Checks(changed)
    backends.outcomes[ONE] = BAD
    checks.keep({Checked(ONE, CHECK)})
    await backends.until(lambda: bool(backends.told))
    backends.outcomes[ONE] = GOOD
    await backends.until(lambda: len(backends.told) == 2)
    await checks.close()
    assert caplog.text.count("a change of checks was not taken backends=1") == 2


@pytest.mark.asyncio
async def test_changes_of_one_turn_are_told_together(backends: Backends) -> None:
    wanted = {Checked(BackendKey(f"10.0.0.{n}", 80), VipCheck(interval=0.1, fall=1)) for n in range(20)}
    backends.outcomes = dict.fromkeys([checked.backend for checked in wanted], BAD)
    backends.gate.clear()
    async with checking(backends) as checks:
        checks.keep(wanted)
        await backends.until(lambda: backends.under_way == 20)
        backends.gate.set()
        await backends.until(lambda: bool(backends.told))
        assert backends.told == [wanted]


@pytest.mark.asyncio
async def test_what_is_dropped_before_it_is_told_is_not_told(backends: Backends) -> None:
    checked = Checked(ONE, VipCheck(fall=1))
    checks = Checks(backends.changed)
    checks.keep({checked})
    checks._note(checked, BAD)
    assert checks.failing == {checked}
    checks.keep(())
    await asyncio.sleep(0)
    assert backends.told == []
    checks.keep({checked})
    checks._note(checked, BAD)
    await checks.close()
    assert backends.told == []


def several(count: int, check: VipCheck = CHECK) -> set[Checked]:
    return {Checked(BackendKey("10.0.0.1", port), check) for port in range(1, count + 1)}


@pytest.mark.asyncio
async def test_so_many_at_once_and_no_more(backends: Backends) -> None:
    backends.gate.clear()
    async with checking(backends) as checks:
        checks.keep(several(50))
        await backends.until(lambda: backends.under_way == 20)
        backends.gate.set()
        await backends.until(lambda: len(backends.count) == 50)
        assert backends.most == 20


def test_at_once_is_bounded_by_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, least, most in ((1 << 31, AT_ONCE, AT_ONCE), (12_000, 100, 300), (1, 1, 64)):
        monkeypatch.setattr(module, "files_for_connections", lambda files=files: files)
        assert least <= checks_at_once() <= most


@pytest.mark.asyncio
async def test_a_backend_that_does_not_end_the_connection_keeps_nobody_waiting(backends: Backends) -> None:
    """Its result is known at once, its turn is the next one's, and beyond the most the connection is closed."""
    wanted = several(50, VipCheck(interval=10.0))
    backends.open = {checked.backend for checked in wanted}
    async with checking(backends) as checks:
        checks.keep(wanted)
        await backends.until(lambda: len(backends.parts) == 50)
        assert [row.state for row in checks.status()] == [CheckState.GOOD] * 50
        assert backends.parts == [LINGER] * 20 + [0.0] * 30
        assert sum(each.fileno() != -1 for each in backends.connections) == 20


@pytest.mark.asyncio
async def test_to_part_takes_no_longer_than_the_interval(backends: Backends) -> None:
    backends.open = {ONE}
    async with checking(backends) as checks:
        checks.keep({Checked(ONE, VipCheck(interval=0.1))})
        await backends.until(lambda: bool(backends.parts))
        assert backends.parts[0] <= 0.11
        backends.ends.set()
        await backends.until(lambda: len(backends.parts) > 2)


@pytest.mark.asyncio
async def test_silent_backends_take_no_turns_of_others(backends: Backends) -> None:
    silent, well = several(30), Checked(TWO, CHECK)
    backends.outcomes = {checked.backend: Outcome(Result.TIMEOUT) for checked in silent}
    async with checking(backends) as checks:
        checks.keep(silent)
        await backends.until(lambda: all(row.result is Result.TIMEOUT for row in checks.status()))
        backends.gate.clear()
        await backends.until(lambda: backends.under_way == 20)
        checks.add(well)
        await backends.until(lambda: well in backends.count)
        assert backends.under_way == 21
        backends.gate.set()


@pytest.mark.asyncio
async def test_a_check_that_no_one_can_mean_is_not_run(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    unsound = Checked(ONE, VipCheck(interval=math.nan))
    async with checking(backends) as checks:
        checks.keep({unsound})
        checks.keep({unsound, Checked(TWO, CHECK)})
        assert [row.backend for row in checks.status()] == [TWO]
        await backends.rounds(Checked(TWO, CHECK), 1)
        assert unsound not in backends.count
        assert caplog.text.count("backend not checked backend=10.0.0.1 port=80 key=interval: expected 100ms") == 1


def states(check: VipCheck, *results: Result) -> list[str]:
    """The state after each result, beginning with none."""
    row = CheckStatus(ONE, check, CheckState.PENDING, 1.0)
    found = []
    for now, result in enumerate(results, 2):
        row = after(row, Outcome(result), float(now))
        assert row.checked_at == now
        found.append(f"{row.state}@{row.since:g}")
    return found


def test_the_count_of_results_in_a_row() -> None:
    ok, bad = Result.OK, Result.STATUS
    check = VipCheck(fall=2, rise=3)
    assert states(check, ok, bad, ok, bad, bad, ok, ok, bad, ok, ok, ok) == [
        *["good@2"] * 4,
        *["failing@6"] * 5,
        "failing@6",
        "good@12",
    ]
    assert states(check, bad, bad) == ["good@2", "failing@3"]
    assert states(VipCheck(fall=1, rise=1), bad, ok, bad) == ["failing@2", "good@3", "failing@4"]
    assert states(VipCheck(fall=1, rise=1), ok) == ["good@2"]


@pytest.mark.asyncio
async def test_against_a_real_server_that_comes_and_goes(free_port: int) -> None:
    backend = BackendKey("127.0.0.1", free_port)
    checked = Checked(backend, VipCheck("http", "/", 0.1, 30.0, 2, 2))
    told: asyncio.Queue[frozenset[Checked]] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    checks = Checks(told.put_nowait)
    async with asyncio.timeout(60):
        checks.keep({checked})
        assert await told.get() == {checked}
        assert checks.failing == {checked}
        async with await asyncio.start_server(answer, *backend):
            assert await told.get() == {checked}
            assert not checks.failing
        assert await told.get() == {checked}
        assert checks.failing == {checked}
        await checks.close()
