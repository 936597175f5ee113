"""The process's coordinator: on ZooKeeper where the configuration has an ensemble, else on the state directory.

`[zookeeper]` is where all servers of a cluster meet. Its session is the one that others with the same
target use (`Sessions`), which closes it when nobody wants it; so the coordinator is closed, and its users
ended, before that is told of another section.

The state directory takes its place only where there is no such section. Where there is one that can't be
used now (its secret can't be read), there is no coordinator: two that do not know of each other would
each give away what can be given once.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple, TypeAlias

from agent.coordinators import StateDirCoordinator
from agent.sections import Config
from agent.zookeeper_coordinator import ZooKeeperCoordinator
from agent.zookeeper_sessions import Sessions, section_target
from mesos_dns.coordinate import Coordinator
from mesos_dns.zookeeper_target import Target, check_path

log = logging.getLogger(__name__)

FOLDER = "coordination"
"""The folder in the state directory."""


class Ensemble(NamedTuple):
    """A coordinator's place: an ensemble, and the path in it."""

    target: Target
    root: str


Place: TypeAlias = Ensemble | Path
"""Where a coordinator keeps what it keeps: in an ensemble, or in a folder."""


def place(config: Config) -> Place:
    """Where the configuration has the coordinator. Reads the file of a secret; raises OSError, ValueError."""
    if config.zookeeper is None:
        return Path(config.state_dir) / FOLDER
    return Ensemble(section_target(config.zookeeper), check_path(config.zookeeper.root))


class Coordination:
    """The coordinator of a process while it runs: `open`, `open` again after each reload, then `close`.

    `coordinator` is the one that is open, None while there is none. Who uses it must have stopped, its contexts left,
    before it is closed or another one takes its place: `is_for` says before a reload whether one will.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.coordinator: Coordinator | None = None
        self._sessions = sessions
        self._place: Place | None = None
        self._open: ZooKeeperCoordinator | StateDirCoordinator | None = None

    def __repr__(self) -> str:
        return f"<Coordination {self._open!r}>"

    @property
    def target(self) -> Target | None:
        """The ensemble whose session must stay open for it; None: it needs none."""
        return self._place.target if isinstance(self._place, Ensemble) else None

    async def is_for(self, config: Config) -> bool:
        """True when what is open is what the configuration asks for. Raises OSError, ValueError, as `place`."""
        return self._place is not None and self._place == await asyncio.to_thread(place, config)

    async def open(self, config: Config) -> Coordinator:
        """The coordinator that the configuration asks for: the open one where that is it.

        Raises OSError, ValueError, as `place`: what is open then stays so.
        """
        wanted = await asyncio.to_thread(place, config)
        if self._open is None or wanted != self._place:
            opened: ZooKeeperCoordinator | StateDirCoordinator
            if isinstance(wanted, Ensemble):
                opened = ZooKeeperCoordinator(self._sessions.get(wanted.target), wanted.root)
            else:
                opened = StateDirCoordinator(wanted)
            await self.close()
            self._open = self.coordinator = opened
            self._place = wanted
            log.info("coordination opened on=%r", opened)
        return self._open

    async def close(self) -> None:
        """Close what is open; the session, if it has one, stays for `Sessions.keep` to end."""
        opened, self._open, self.coordinator, self._place = self._open, None, None, None
        if isinstance(opened, ZooKeeperCoordinator):
            await opened.close()
        elif opened is not None:
            await asyncio.to_thread(opened.close)
