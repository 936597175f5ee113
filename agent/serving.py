"""A Pharos process from its start to its end: the service, and the signals that it goes by.

SIGHUP reads the configuration again, SIGTERM and SIGINT end the process; a second one ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent import notify
from agent.config import Config
from agent.http_admin import texts
from agent.naming import SERVERS
from agent.service import Service

log = logging.getLogger(__name__)

GC_THRESHOLDS = (50_000, 20, 100)
"""A catalog of 100,000 tasks is long-lived and free of cycles: looking through it for garbage every
700 allocations would cost more than all other work together."""


async def serve(
    config: Config,
    *,
    config_path: Path | None = None,
    ready: Callable[[], None] | None = None,
    started: Callable[[Service], Awaitable[None]] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; 0, or 1 when an address can't be bound.

    `ready` is called when everything is bound; `started` is awaited then with the running service
    (the demo), and the service ends when it returns.
    """
    loop = asyncio.get_running_loop()
    gc.set_threshold(*GC_THRESHOLDS)
    _open_as_many_files_as_allowed()
    service = Service(config, config_path)
    ending = asyncio.Event()

    def end() -> None:
        if ending.is_set():
            os._exit(1)  # the second signal: at once
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        notify.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)
        task.add_done_callback(lambda _: notify.notify("READY=1"))

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await service.start()
    except OSError as error:
        log.critical("can't start: %s", error)
        await service.stop()
        return 1
    notify.notify("READY=1")
    if ready is not None:
        ready()
    tls = ",".join(texts(service.server.tls_addresses)) if service.server is not None else ""
    dns, resolver = (",".join(texts(service.naming.addresses(name))) or "off" for name in SERVERS)
    http = ",".join(texts(service.http.addresses)) if service.http is not None else "off"
    log.info("serving dns=%s tls=%s resolver=%s http=%s", dns, tls or "off", resolver, http)
    waits: list[asyncio.Task[Any]] = [loop.create_task(ending.wait())]
    if started is not None:
        waits.append(loop.create_task(_coroutine(started(service))))
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    notify.notify("STOPPING=1")
    log.info("ending")
    await service.stop()
    for task in done:
        task.result()
    return 0


def _open_as_many_files_as_allowed() -> None:
    """Every connection is an open file, and the soft limit is mostly 1024, for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _coroutine(work: Awaitable[None]) -> None:
    await work
