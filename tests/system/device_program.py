"""Keeps addresses until SIGTERM, as a resolver does: `python -m tests.system.device_program DEVICE ADDRESS…`.

Prints the device's name once they are there, and how many were put back: at SIGUSR1 so far, and at the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from mesos_dns.device import Addresses


async def keep(device: str, texts: list[str]) -> None:
    """Until a signal."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    addresses = Addresses(device, texts)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(addresses.restored, flush=True))
    print(await addresses.start(), flush=True)
    task = loop.create_task(addresses.run())
    await ended.wait()
    task.cancel()
    await asyncio.wait((task,))
    await addresses.close()
    print(addresses.restored, flush=True)


if __name__ == "__main__":
    try:
        uvloop.run(keep(sys.argv[1], sys.argv[2:]))
    except PermissionError as error:
        sys.exit(str(error))
