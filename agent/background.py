"""Parts of the process that run in the background, by name: started, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """See the module. A part that fails is logged; the others go on."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether a part runs."""
        return isinstance(name, str) and name in self._tasks and not self._tasks[name].done()

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a part until it ends or is ended."""
        task = asyncio.get_running_loop().create_task(work, name=f"pharos-{name}")
        task.add_done_callback(lambda done: _report(name, done))
        self._tasks[name] = task

    async def end(self, name: str) -> None:
        """End one part, if it runs, and wait until it has ended."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def end_all(self, but: Collection[str] = ()) -> None:
        """End every part, the named ones excepted."""
        for name in [name for name in self._tasks if name not in but]:
            await self.end(name)


def _report(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the process failed part=%s", name, exc_info=error)
