"""From VIPs to the checks of their backends, and back."""

from __future__ import annotations

import asyncio

import pytest

from lb4.check_vips import VipChecks
from lb4.services import BackendKey
from lb4.vip import Backend, VipKey, VipState
from mesos_dns import checks as check_module
from mesos_dns.model import VipCheck
from mesos_dns.probe import Outcome, Probed, Result

WEB, API, DB = (VipKey("tcp", f"{name}.marathon", 80) for name in ("web", "api", "db"))
CHECK, OTHER = VipCheck(interval=0.1, fall=1, rise=1), VipCheck("http", interval=0.1, fall=1, rise=1)
ONE, TWO = Backend("10.0.0.1", 80), Backend("10.0.0.2", 80)


def state(key: VipKey, *backends: Backend, check: VipCheck | None = CHECK) -> VipState:
    return VipState(key, backends, check=check)


class Outside:
    """Backends that fail, and who was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: set[tuple[BackendKey, VipCheck]] = set()
        self.told: asyncio.Queue[frozenset[VipKey]] = asyncio.Queue()
        monkeypatch.setattr(check_module, "probe", self._probe)

    async def _probe(self, backend: BackendKey, check: VipCheck) -> Probed:
        return Probed(Outcome(Result.REFUSED if (backend, check) in self.failing else Result.OK))

    async def next(self) -> frozenset[VipKey]:
        async with asyncio.timeout(30):
            return await self.told.get()


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    return Outside(monkeypatch)


@pytest.mark.asyncio
async def test_the_vips_of_a_backend_that_fails_are_told(outside: Outside) -> None:
    checks = VipChecks(outside.told.put_nowait)
    outside.failing.add((ONE.key, CHECK))
    checks.keep(WEB, state(WEB, ONE, TWO))
    checks.keep(API, state(API, ONE))
    checks.keep(DB, state(DB, ONE, check=None))
    assert await outside.next() == {WEB, API}
    assert set(checks.failing) == {ONE.key}
    assert checks.failing_of(WEB) == checks.failing_of(API) == {ONE.key}
    assert checks.failing_of(DB) == frozenset()
    assert len(checks.status()) == 2  # one check for both
    outside.failing.clear()
    assert await outside.next() == {WEB, API}
    assert not checks.failing
    assert checks.results["tcp", Result.OK]
    await checks.close()


@pytest.mark.asyncio
async def test_one_backend_may_fail_one_check_and_not_another(outside: Outside) -> None:
    checks = VipChecks(outside.told.put_nowait)
    outside.failing.add((ONE.key, OTHER))
    checks.keep(WEB, state(WEB, ONE))
    checks.keep(API, state(API, ONE, check=OTHER))
    assert await outside.next() == {API}
    assert checks.failing_of(WEB) == frozenset()
    assert checks.failing_of(API) == {ONE.key}
    await checks.close()


@pytest.mark.asyncio
async def test_a_backend_is_checked_as_long_as_a_vip_wants_it(outside: Outside) -> None:
    checks = VipChecks(outside.told.put_nowait)
    checks.keep(WEB, state(WEB, ONE, TWO))
    checks.keep(API, state(API, ONE))
    checks.keep(WEB, state(WEB, TWO))
    assert [row.backend for row in checks.status()] == [ONE.key, TWO.key]
    checks.keep(API, None)
    assert [row.backend for row in checks.status()] == [TWO.key]
    checks.keep(WEB, state(WEB, TWO, check=OTHER))
    assert [row.check for row in checks.status()] == [OTHER]
    checks.keep(WEB, state(WEB, TWO, check=None))
    assert checks.status() == []
    checks.keep(DB, None)  # never known
    checks.keep(WEB, state(WEB, ONE))
    await checks.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert checks.status() == []
