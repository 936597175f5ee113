"""What one worker is told, and when: everything there is at first, then what has changed since.

It works by comparing: what is wanted now is held once for all workers (`Wanted`), and what a worker has been told by
its feed. So a worker that is slow gets one change made of many, and nothing piles up for it. A change that finds all
workers idle is encoded once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from lb7.channel import MOST_FRAME, Channel
from lb7.listening import Listening
from lb7.settings import Settings
from lb7.table import Cluster, HostKey, HostRules, Listener, TableDelta
from lb7.wire import (
    Ask,
    Certificate,
    Configure,
    Down,
    Drain,
    Hello,
    Kind,
    Listen,
    Mark,
    Refuse,
    Unlisten,
    Up,
    certificate_parts,
    encode,
    parts,
)

log = logging.getLogger(__name__)

SlotKey: TypeAlias = tuple[str, int]
"""A listener's name, and whose sockets of it they are."""

K = TypeVar("K")
V = TypeVar("V")

_MOST_ASKED = 16
_MOST_SAID = 1000
"""Things that can't be told, of which the log and the status say so."""
_LONGEST = 300
"""Characters of what something is called."""
_SLICE = 50
"""Listeners that are told of before others have their turn."""


class Encoded:
    """A delta and its messages, made when first asked for."""

    def __init__(self, delta: TableDelta) -> None:
        self.delta = delta
        self._frames: list[bytes] | None = None
        self._making = asyncio.Lock()

    async def frames(self, refuse: Refuse) -> list[bytes]:
        """The messages, made in slices. `refuse` hears of entries that can't be told, when they are made."""
        async with self._making:
            if self._frames is None:
                frames = []
                for part in parts(self.delta, refuse):
                    frames.append(encode(part))
                    await asyncio.sleep(0)
                self._frames = frames
        return self._frames


class Wanted:
    """What all workers are to have. Whoever changes something here counts `version` up and wakes the feeds."""

    def __init__(self, settings: Settings, listening: Listening) -> None:
        self.settings = settings
        self.listening = listening
        self.listeners: dict[str, Listener] = {}
        self.hosts: dict[HostKey, HostRules] = {}
        self.clusters: dict[str, Cluster] = {}
        self.certificates: tuple[Certificate, ...] = ()
        self.assigned: dict[int, int] = {}
        """Which worker serves the sockets of a slot."""
        self.version = 0
        self.refused: dict[str, str] = {}
        """What workers can't be told, by what it is of ("cluster /shop:10000"): it is not there for them."""
        self._said: set[str] = set()

    def __repr__(self) -> str:
        return f"<Wanted version={self.version} listeners={len(self.listeners)} clusters={len(self.clusters)}>"

    def apply(self, delta: TableDelta) -> None:
        """The table has changed."""
        if self.refused:
            for kind, entries in (("clusters", delta.clusters), ("hosts", delta.hosts), ("listeners", delta.listeners)):
                for key in entries:
                    self.refused.pop(_name_of(kind, key), None)
        _merge(self.listeners, delta.listeners)
        _merge(self.hosts, delta.hosts)
        _merge(self.clusters, delta.clusters)
        self.version += 1

    def refuse(self, kind: Kind, key: Any, value: Any, why: str) -> None:
        """Workers can't be told of an entry of the table."""
        name = _name_of(kind, key)
        current = getattr(self, kind).get(key) is value  # else it has changed since
        if current and len(self.refused) < _MOST_SAID:
            self.refused[name] = why
        self.say(name, why)

    def say(self, what: str, why: str) -> None:
        """Log that workers can't be told something, once."""
        if what not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(what)
            log.error("workers of l7 can't be told what=%s error=%s: it is left out", what, why)

    def table(self) -> TableDelta:
        """The whole table, as a change from nothing."""
        return TableDelta(dict(self.listeners), dict(self.hosts), dict(self.clusters))

    def sockets(self, worker: int, key: SlotKey) -> tuple[socket.socket, ...]:
        """What a worker is to listen on."""
        return self.listening.sockets(*key) if self.assigned.get(key[1]) == worker else ()


class Feed:
    """See the module: of one worker from its start to its end."""

    def __init__(self, channel: Channel[Up], number: int, wanted: Wanted, *, confine: bool = True) -> None:
        self._channel, self._number, self._wanted, self._confine = channel, number, wanted, confine
        self._pending: Encoded | None = None
        self._shared = False
        self._touched: dict[SlotKey, None] = {}
        self._sockets: dict[SlotKey, tuple[socket.socket, ...]] = {}
        self._settings = wanted.settings
        self._certificates: tuple[Certificate, ...] = ()
        self._asked: deque[Ask] = deque(maxlen=_MOST_ASKED)
        self._to_drain = self._draining = False
        self._hold = 0.0
        self._awake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Feed worker={self._number} pending={self._pending is not None} sockets={len(self._sockets)}>"

    @property
    def listens(self) -> int:
        """How many sockets the worker has."""
        return sum(map(len, self._sockets.values()))

    def changed(self, delta: Encoded) -> None:
        """The table has changed by this."""
        if self._pending is None:
            self._pending, self._shared = delta, True
        else:  # it is behind: one change in place of many
            if self._shared:
                before = self._pending.delta
                copy = TableDelta(dict(before.listeners), dict(before.hosts), dict(before.clusters))
                self._pending, self._shared = Encoded(copy), False
            self._pending.delta.listeners.update(delta.delta.listeners)
            self._pending.delta.hosts.update(delta.delta.hosts)
            self._pending.delta.clusters.update(delta.delta.clusters)
        self.wake()

    def touch(self, keys: Iterable[SlotKey]) -> None:
        """These sockets may be others, or another's."""
        self._touched |= dict.fromkeys(keys)
        self.wake()

    def ask(self, question: Ask) -> None:
        """Ask the worker something; who asks too much, or one that hangs, gets no answer."""
        self._asked.append(question)
        self.wake()

    def drain(self, hold: float) -> None:
        """Have the worker end when its connections have ended. `hold`: as in `wire.Drain`."""
        self._to_drain, self._hold = True, hold
        self.wake()

    def wake(self) -> None:
        """Something that is wanted has changed."""
        self._awake.set()

    async def run(self) -> None:
        """Tell everything, and then what changes, until cancelled. Raises ChannelError."""
        await self._channel.send(encode(Hello(self._number, self._settings, self._confine)))
        self._pending, self._shared = Encoded(self._wanted.table()), True
        wanted = self._wanted
        self.touch((name, slot) for slot in list(wanted.assigned) for name in wanted.listening.names)
        while True:
            await self._awake.wait()
            self._awake.clear()
            version = self._wanted.version
            await self._tell_settings()
            await self._tell_certificates()
            await self._tell_table()
            await self._tell_sockets()
            while self._asked:
                await self._send(self._asked.popleft())
            await self._channel.send(encode(Mark(version)))
            if self._to_drain and not self._draining:
                self._draining = True
                await self._channel.send(encode(Drain(self._hold)))

    async def _send(self, message: Down, sockets: Sequence[socket.socket] = ()) -> None:
        """Tell it; what can't be told is left out, so that all the rest is. Raises ChannelError, and ValueError for
        sockets that are closed."""
        try:
            frame = encode(message)
        except Exception as error:  # text that is not Unicode, and whatever else there may be
            self._wanted.say(type(message).__name__, str(error))
            return
        if len(frame) > MOST_FRAME:
            self._wanted.say(type(message).__name__, f"is {len(frame)} octets long, more than {MOST_FRAME}")
            return
        await self._channel.send(frame, sockets)

    async def _tell_settings(self) -> None:
        settings = self._wanted.settings
        if settings != self._settings:
            self._settings = settings
            await self._send(Configure(settings))

    async def _tell_certificates(self) -> None:
        now, before = self._wanted.certificates, self._certificates
        if now is before:
            return
        known = {certificate.name: certificate for certificate in before}
        changed = tuple(certificate for certificate in now if known.get(certificate.name) != certificate)
        for part in certificate_parts(changed, tuple(certificate.name for certificate in now)):
            await self._send(part)
            await asyncio.sleep(0)
        self._certificates = now

    async def _tell_table(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None or not pending.delta:
            return
        for frame in await pending.frames(self._wanted.refuse):
            await self._channel.send(frame)
            await asyncio.sleep(0)

    async def _tell_sockets(self) -> None:
        touched, self._touched = self._touched, {}
        for number, key in enumerate(touched):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            want = () if self._to_drain else self._wanted.sockets(self._number, key)
            have = self._sockets.get(key, ())
            if want == have:
                continue
            if not want:
                await self._send(Unlisten(*key))
                del self._sockets[key]
                continue
            try:
                await self._send(Listen(*key, len(want)), want)
            except ValueError:  # closed while this waited for its turn: there are others now, or will be
                self._touched[key] = None
                continue
            self._sockets[key] = want


def _name_of(kind: str, key: Any) -> str:
    """What an entry of the table is called, printable and not long."""
    name = f"host {key[1]} of {key[0]}" if kind == "hosts" else f"{kind[:-1]} {key}"
    return name[:_LONGEST].encode("ascii", "backslashreplace").decode()


def _merge(into: dict[K, V], change: Mapping[K, V | None]) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value
