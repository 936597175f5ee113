"""Checks of the backends of VIPs: from what a VIP's state says to the checks that run, and back to the VIPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, KeysView

from lb4.vip import VipKey, VipState
from mesos_dns.checked import BackendKey, Checked
from mesos_dns.checks import Checks, CheckStatus
from mesos_dns.probe import Result


class VipChecks:
    """Checks the backends of the VIPs that have a check, under their addresses for all nodes.

    A backend that several VIPs check in one way is checked once. `changed` is told the VIPs that check a backend which
    begins to fail or ends to.
    """

    def __init__(self, changed: Callable[[frozenset[VipKey]], None]) -> None:
        self._changed = changed
        self._checks = Checks(self._tell)
        self._wanted: dict[VipKey, frozenset[Checked]] = {}
        self._vips: dict[Checked, set[VipKey]] = {}

    def __repr__(self) -> str:
        return f"<VipChecks vips={len(self._wanted)} checks={self._checks!r}>"

    @property
    def failing(self) -> KeysView[BackendKey]:
        """Backends that fail a check of any VIP now (a live view)."""
        return self._checks.failing_backends

    @property
    def results(self) -> Counter[tuple[str, Result]]:
        """How many checks ended how, by type and result."""
        return self._checks.results

    def failing_of(self, key: VipKey) -> frozenset[BackendKey]:
        """Backends that fail this VIP's own check."""
        checks = self._wanted.get(key, ())
        return frozenset(checked.backend for checked in checks if self._checks.is_failing(checked))

    def status(self) -> list[CheckStatus]:
        """All that are checked, by backend."""
        return self._checks.status()

    def keep(self, key: VipKey, state: VipState | None, /) -> None:
        """Check a VIP's backends as its state says from now on, None: no more."""
        check = state.check if state is not None else None
        new: frozenset[Checked] = frozenset()
        if state is not None and check is not None:
            new = frozenset([Checked(backend.key, check) for backend in state.backends])
        old = self._wanted.get(key, frozenset())
        if new:
            self._wanted[key] = new
        else:
            self._wanted.pop(key, None)
        for checked in new - old:
            self._vips.setdefault(checked, set()).add(key)
            self._checks.add(checked)
        for checked in old - new:
            vips = self._vips[checked]
            vips.discard(key)
            if not vips:
                del self._vips[checked]
                self._checks.drop(checked)

    async def close(self) -> None:
        """End all checks."""
        self._wanted.clear()
        self._vips.clear()
        await self._checks.close()

    def _tell(self, changed: frozenset[Checked]) -> None:
        vips = frozenset(key for checked in changed for key in self._vips.get(checked, ()))
        if vips:
            self._changed(vips)
