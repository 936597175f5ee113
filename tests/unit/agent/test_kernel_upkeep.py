"""Switches and firewall rules: put right at once, again, and when other addresses are in use."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from agent import kernel_upkeep
from agent.kernel_upkeep import KernelUpkeep
from lb4.config import L4Config

pytestmark = pytest.mark.asyncio


class Kernel:
    """Firewall and switches that remember what they were told."""

    def __init__(self) -> None:
        self.rules: list[tuple[list[str], list[str]]] = []
        self.switches: list[Mapping[str, str]] = []
        self.failures: dict[Any, str] = {}
        self.removed = 0

    def remove_all(self) -> None:
        self.removed += 1
        if self.failures:
            raise OSError("iptables is not there")

    def apply(self, first: Any, fixed: Iterable[str] | None = None) -> dict[Any, str]:
        if fixed is None:
            self.switches.append(first)
            return {}
        self.rules.append((list(first), list(fixed)))
        return self.failures


def upkeep(kernel: Kernel, fixed: Sequence[str], **config: Any) -> KernelUpkeep:
    return KernelUpkeep(L4Config(**config), lambda: fixed, kernel, kernel)  # type: ignore[arg-type]


async def test_addresses_of_no_range_are_named() -> None:
    kernel = Kernel()
    await upkeep(kernel, ["10.7.7.7", "11.0.0.5", "fd01:c::5", "2001:db8::1"]).apply()
    assert kernel.rules == [(["11.0.0.0/8", "fd01:c::/64"], ["10.7.7.7", "2001:db8::1"])]
    assert kernel.switches[0]["net/ipv4/vs/expire_nodest_conn"] == "1"


async def test_addresses_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be ten thousand, and they are looked at every second."""
    read = []

    def address(text: str) -> ipaddress.IPv4Address:
        read.append(text)
        return ipaddress.IPv4Address(text)

    kernel = Kernel()
    fixed = ["10.7.7.7", "11.0.0.5"]
    kept = upkeep(kernel, fixed)
    monkeypatch.setattr("agent.kernel_upkeep.ipaddress.ip_address", address)
    await kept.apply()
    assert sorted(read) == fixed
    fixed[:] = ["11.0.0.5", "10.7.7.8"]
    await kept.apply()
    await kept.apply()
    assert read[2:] == ["10.7.7.8"]
    assert [rules[1] for rules in kernel.rules] == [["10.7.7.7"], ["10.7.7.8"], ["10.7.7.8"]]


async def test_without_masquerade_there_are_no_rules() -> None:
    kernel = Kernel()
    kept = upkeep(kernel, [], masquerade=False)
    for _ in range(2):
        await kept.apply()
    assert not kernel.rules
    assert kernel.removed == 1  # what an earlier process has left
    assert len(kernel.switches) == 2


async def test_a_mistake_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kernel = Kernel()
    kept = upkeep(kernel, [])
    kernel.switches = None  # type: ignore[assignment]
    await kept.apply()
    assert "could not be set" in caplog.text
    assert "kernel" in kept.failures
    kernel.switches = []
    await kept.apply()
    assert kept.failures == {}


async def test_what_could_not_be_set_is_told() -> None:
    kernel = Kernel()
    kernel.failures = {4: "iptables is not there"}
    kept = upkeep(kernel, [])
    await kept.apply()
    assert kept.failures == {"firewall IPv4": "iptables is not there"}
    kernel.failures = {}
    await kept.apply()
    assert kept.failures == {}


async def test_rules_can_be_taken_away(caplog: pytest.LogCaptureFixture) -> None:
    kernel = Kernel()
    kept = upkeep(kernel, [])
    await kept.remove()
    assert not caplog.records
    kernel.failures = {4: "x"}
    await kept.remove()
    assert "firewall rules of virtual addresses not removed" in caplog.text
    assert kernel.removed == 2


async def test_it_is_put_right_again_and_for_other_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_upkeep, "SOON", 0.01)
    kernel, fixed = Kernel(), ["10.7.7.7"]
    kept = upkeep(kernel, fixed, reconcile=3600.0)
    running = asyncio.create_task(kept.run())
    async with asyncio.timeout(60):
        while not kernel.rules:
            await asyncio.sleep(0.01)
    fixed.append("10.7.7.8")
    async with asyncio.timeout(60):
        while len(kernel.rules) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert [addresses for _, addresses in kernel.rules] == [["10.7.7.7"], ["10.7.7.7", "10.7.7.8"]]
    again = asyncio.create_task(upkeep(kernel, [], reconcile=0.02).run())
    async with asyncio.timeout(60):
        while len(kernel.rules) < 4:
            await asyncio.sleep(0.01)
    again.cancel()
    await asyncio.wait([again])
