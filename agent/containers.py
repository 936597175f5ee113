"""Virtual addresses inside containers that have a network of their own and can't reach them through the host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from agent.data_planes import Opened, open_container_plane, take_away
from lb4.balancer import Balancer
from lb4.config import L4Config
from lb4.namespaces import Container, NamespaceFolder
from lb4.services import DataPlane
from lb4.sysctls import Sysctls, wanted
from lb4.vip import VipKey

log = logging.getLogger(__name__)

RETRY = 30.0
"""Seconds until a container that could not be given virtual addresses is tried again."""


class _Running(NamedTuple):
    opened: Opened
    balancer: Balancer
    task: asyncio.Task[None]


class Containers:
    """Follows `[l4] netns_dir`: a data plane and a balancer for each container. `run` until cancelled, then `close`."""

    def __init__(self, config: L4Config, new_balancer: Callable[[L4Config, DataPlane], Balancer]) -> None:
        self._config = config
        self._new_balancer = new_balancer
        self._running: dict[str, _Running] = {}
        self._failed: dict[str, Container] = {}
        self._said: set[str] = set()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._running)

    def set_own(self, own: frozenset[str]) -> None:
        """This node's addresses are these now."""
        for running in self._running.values():
            running.balancer.set_own(own)

    def changed(self, keys: frozenset[VipKey]) -> None:
        """What was found of these VIPs' backends has changed."""
        for running in self._running.values():
            running.balancer.changed(keys)

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._try_again())
            async for change in NamespaceFolder(self._config.netns_dir).changes():
                async with self._turn:
                    if change.is_there:
                        await self._add(change.container)
                    else:
                        self._failed.pop(change.container.id, None)
                        await self._drop(change.container.id, remove=False)  # its network has gone with it

    async def _try_again(self) -> None:
        """Those that could not be had, now and then."""
        while True:
            await asyncio.sleep(RETRY)
            for container in list(self._failed.values()):
                async with self._turn:
                    if self._failed.pop(container.id, None) is not None:
                        await self._add(container)

    async def close(self, *, take_away: bool) -> None:
        """End all; `take_away`: with what is in their networks."""
        for name in list(self._running):
            await self._drop(name, remove=take_away)

    async def _add(self, container: Container) -> None:
        try:
            switches = wanted(self._config, is_container=True)
            await asyncio.to_thread(Sysctls(container.path).apply, switches)
            opened = await open_container_plane(self._config, container.path)
        except OSError as error:  # NotUsable is one
            level = logging.DEBUG if container.id in self._said else logging.WARNING
            log.log(level, "no virtual addresses in a container id=%s reason=%s", container.id, error.strerror or error)
            self._failed[container.id] = container
            self._said = {*self._failed}
            return
        if opened.plane is None:
            return
        balancer = self._new_balancer(self._config, opened.plane)
        task = asyncio.get_running_loop().create_task(balancer.run(), name=f"balancer {container.id}")
        self._running[container.id] = _Running(opened, balancer, task)
        log.info("virtual addresses in a container id=%s", container.id)

    async def _drop(self, name: str, *, remove: bool) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return
        running.balancer.close()
        await asyncio.wait([running.task])
        if remove:
            try:
                await running.balancer.remove()
                await take_away(running.opened)
            except OSError as error:
                log.warning("what is in a container stays id=%s reason=%s", name, error)
        if running.opened.plane is not None:
            await running.opened.plane.close()
