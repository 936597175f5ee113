"""Keeps the kernel's switches and firewall rules that virtual addresses need beside IPVS itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
from collections.abc import Callable, Collection

from lb4.config import L4Config
from lb4.firewall import Firewall
from lb4.sysctls import Sysctls, wanted
from mesos_dns.sources.pace import Pace

log = logging.getLogger(__name__)

SOON = 1.0
"""Seconds between two looks at whether other fixed addresses are in use."""


class KernelUpkeep:
    """Those of this network namespace. `fixed`: virtual addresses that are in no range, now."""

    def __init__(
        self,
        config: L4Config,
        fixed: Callable[[], Collection[str]],
        firewall: Firewall | None = None,
        sysctls: Sysctls | None = None,
    ) -> None:
        self.failures: dict[str, str] = {}
        self._config = config
        self._ranges = (config.range, config.range6)
        self._networks = [ipaddress.ip_network(text) for text in self._ranges]
        self._fixed = fixed
        self._firewall = firewall or Firewall()
        self._sysctls = sysctls or Sysctls()
        self._is_clear = False
        self._applied: frozenset[str] = frozenset()
        self._seen: frozenset[str] = frozenset()  # all fixed addresses when they were last others than before
        self._found: frozenset[str] = frozenset()  # those of them that are in no range

    async def apply(self) -> None:
        """Put all of it right now. What can't be set is logged by those who set it, and is in `failures`."""
        self._applied = fixed = await self._outside()
        try:
            failures = await asyncio.to_thread(self._apply, fixed)
        except Exception as error:
            # What these can't do must neither keep a node from starting nor end the upkeep for good.
            log.exception("switches and firewall rules could not be set")
            failures = {"kernel": str(error) or type(error).__name__}
        self.failures = failures

    async def remove(self) -> None:
        """Take the firewall rules away. Switches stay: others may have come to need them."""
        try:
            await asyncio.to_thread(self._firewall.remove_all)
        except OSError as error:
            log.warning("firewall rules of virtual addresses not removed reason=%s", error)

    async def run(self) -> None:
        """Put it right, again now and then, and when other addresses are in use, until cancelled."""
        while True:
            await self.apply()
            await self._pause()

    async def _pause(self) -> None:
        seconds = float(self._config.reconcile) * random.uniform(0.8, 1.2)
        for _ in range(max(1, int(seconds / SOON))):
            await asyncio.sleep(SOON)
            if await self._outside() != self._applied:
                return

    async def _outside(self) -> frozenset[str]:
        """The fixed addresses of no range. There may be ten thousand, which are nearly always those of the look before:
        then they are compared and no more, and else only new ones are read."""
        fixed = self._fixed()
        if len(fixed) == len(self._seen) and self._seen.issuperset(fixed):
            return self._found
        seen = frozenset(fixed)
        found = set(self._found & seen)
        pace = Pace()
        for text in seen - self._seen:
            await pace.turn()
            address = ipaddress.ip_address(text)
            if not any(address in network for network in self._networks):
                found.add(text)
        self._seen, self._found = seen, frozenset(found)
        return self._found

    def _apply(self, fixed: Collection[str]) -> dict[str, str]:
        failures = dict(self._sysctls.apply(wanted(self._config)))
        if self._config.masquerade:
            found = self._firewall.apply(self._ranges, sorted(fixed))
            failures |= {f"firewall IPv{version}": reason for version, reason in found.items()}
        elif not self._is_clear:
            self._is_clear = True
            with contextlib.suppress(OSError):  # without the tool there are no rules of ours either
                self._firewall.remove_all()
        return failures
