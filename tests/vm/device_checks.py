"""What `mesos_dns/device.py` does on a kernel that has dummy devices: `python -m tests.vm.device_checks`, in a VM.

It changes the devices of the network that it runs in. One process, because starting programs is slow in an
emulated CPU; `tests/system/test_resolver_device.py` has the same with real processes. Prints each check.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import uvloop

from mesos_dns.device import Addresses

ADDRESSES = ("198.51.100.1", "198.51.100.2", "fd01:d::c633:6401")
DEVICE = "pharos-dns"
FULL = {"198.51.100.1/32", "198.51.100.2/32", "fd01:d::c633:6401/128"}


def ip(*words: str) -> str:
    """`ip` with these words; what it prints."""
    return subprocess.run(["ip", *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def shown(device: str) -> tuple[str, set[str]]:
    """A device's kind and addresses; ("", nothing) when it is not there."""
    for link in json.loads(ip("-json", "-details", "address")):
        if link.get("ifname") == device:
            there = {f"{e['local']}/{e['prefixlen']}" for e in link["addr_info"] if e["scope"] != "link"}
            return link.get("linkinfo", {}).get("info_kind", "other"), there
    return "", set()


def is_up(device: str) -> bool:
    """Whether it is up."""
    (link,) = json.loads(ip("-json", "link", "show", "dev", device))
    return "UP" in link["flags"]


async def until(condition: Callable[[], bool]) -> None:
    """A minute at most."""
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "not reached"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def kept(addresses: Addresses) -> AsyncIterator[None]:
    """While its `run` goes."""
    await addresses.start()
    task = asyncio.create_task(addresses.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await addresses.close()


async def check_made_kept_and_removed() -> None:
    addresses = Addresses(DEVICE, ADDRESSES)
    async with kept(addresses):
        assert shown(DEVICE) == ("dummy", FULL)
        ip("address", "del", "198.51.100.1/32", "dev", DEVICE)
        await until(lambda: shown(DEVICE)[1] == FULL)
        ip("link", "set", DEVICE, "down")
        await until(lambda: is_up(DEVICE) and shown(DEVICE)[1] == FULL)
        ip("address", "flush", "dev", DEVICE)
        await until(lambda: shown(DEVICE)[1] == FULL)
        ip("link", "del", DEVICE)
        await until(lambda: shown(DEVICE) == ("dummy", FULL))
        await until(lambda: addresses.restored >= 6)
    assert shown(DEVICE) == ("", set())


async def check_taken_over_after_a_crash() -> None:
    crashed = Addresses(DEVICE, [*ADDRESSES, "198.51.100.9"])
    await crashed.start()
    crashed._claim.release()  # as the kernel does it
    addresses = Addresses(DEVICE, ADDRESSES)
    async with kept(addresses):
        assert shown(DEVICE) == ("dummy", FULL)
    assert addresses.restored == 0
    assert shown(DEVICE) == ("", set())


async def check_a_device_of_somebody_else_stays() -> None:
    ip("link", "add", DEVICE, "type", "dummy")
    ip("address", "add", "198.51.100.3/32", "dev", DEVICE)
    ip("address", "add", "198.51.100.2/24", "dev", "lo")
    async with kept(Addresses(DEVICE, ADDRESSES)):
        assert shown(DEVICE)[1] == (FULL | {"198.51.100.3/32"}) - {"198.51.100.2/32"}
    assert shown(DEVICE) == ("dummy", {"198.51.100.3/32"})
    assert "198.51.100.2/24" in shown("lo")[1]


async def check_a_second_one_changes_nothing() -> None:
    async with kept(Addresses(DEVICE, ADDRESSES)):
        for texts in (ADDRESSES, ("198.51.100.9",)):
            async with kept(Addresses(DEVICE, texts)):
                assert shown(DEVICE) == ("dummy", FULL)
            assert shown(DEVICE) == ("dummy", FULL)
    assert shown(DEVICE) == ("", set())


async def check_a_successor_shares_the_device() -> None:
    first = Addresses(DEVICE, [*ADDRESSES, "198.51.100.9"])
    second = Addresses(DEVICE, ADDRESSES, before=first)
    async with kept(first):
        await second.start()
        assert shown(DEVICE) == ("dummy", FULL | {"198.51.100.9/32"})
    assert shown(DEVICE) == ("dummy", FULL)
    await second.close()
    assert shown(DEVICE) == ("", set())


async def main() -> None:
    """All checks, one after the other."""
    for check in (
        check_made_kept_and_removed,
        check_taken_over_after_a_crash,
        check_a_second_one_changes_nothing,
        check_a_successor_shares_the_device,
        check_a_device_of_somebody_else_stays,
    ):
        await check()
        print(f"{check.__name__}: ok", flush=True)


if __name__ == "__main__":
    if "VMRUN" not in os.environ:
        sys.exit("only in a VM: it changes the network's devices")
    uvloop.run(main())
