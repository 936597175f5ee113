"""The sockets of all listeners, in the edge's process: one for each worker at each address.

    Listening ─▶ listener's name ─▶ address as it is written ─▶ its sockets, one a slot

A slot is the place of one worker. Its sockets stay open here whatever becomes of the worker, so that connections which
wait in them are served by another one. An address that stays in a listener keeps its sockets, and one that a listener
no longer has gives them to the next listener that wants that address, until `release` closes what nobody took: so no
client is refused when a port passes from one app to another. What can't be bound is a problem of that listener alone;
`retry` tries it again.

Listeners of labels ("port:…") get no more sockets than `most`, whatever apps ask for: the rest of this process' open
files is needed for everything else. Those of the configuration always get theirs.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import time
from collections.abc import Iterable, Iterator

from lb7.sockets import Place, bind, bound_place, place_of

REMEMBERED = 20.0
"""Seconds in which a place that was let go of may still be held by a worker: one that hangs has been killed by then."""


class _Address:
    """One address of one listener: where it is bound, and its sockets by slot."""

    def __init__(self, place: Place, sock: socket.socket) -> None:
        self.place = place
        self.sockets = [sock]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Listening:
    """See the module. `slots`: how many sockets there are at each address; `most`: sockets in all that listeners of
    labels may bring it to, 0: any; `problems`: texts by listener."""

    def __init__(self, slots: int = 1, most: int = 0) -> None:
        self.slots = slots
        self.most = most
        self.open = 0
        self.problems: dict[str, str] = {}
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._bound: dict[str, dict[str, _Address]] = {}
        self._reserved: dict[str, dict[str, _Address]] = {}
        self._by_port: dict[int, list[_Address]] = {}
        self._spare: dict[Place, _Address] = {}
        self._let_go: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Listening listeners={len(self._bound)} slots={self.slots} problems={len(self.problems)}>"

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each listener is bound, with real ports."""
        names = dict.fromkeys([*self._reserved, *self._bound])
        found = {name: [str(entry.place) for entry in self._entries(name)] for name in names}
        return {name: places for name, places in found.items() if places}

    def reserve(self, wanted: dict[str, tuple[str, ...]]) -> None:
        """Bind what is fixed by the configuration, for listeners that come with the table; what was reserved before and
        is not named any more is given up, until `release`. Raises OSError that names listener and address; then nothing
        has changed."""
        made: list[_Address] = []
        reserved: dict[str, dict[str, _Address]] = {}
        try:
            for name, addresses in wanted.items():
                there = self._reserved.get(name, {}) | self._bound.get(name, {})
                reserved[name] = {}
                for address in addresses:
                    if (entry := there.get(address)) is None:
                        entry = self._make(name, address)
                        made.append(entry)
                    reserved[name][address] = entry
        except OSError:
            for entry in made:
                self._close(entry)
            raise
        before, self._reserved = self._reserved, reserved
        for name, entries in before.items():
            self._give_up(name, entries.values())

    def put(self, name: str, addresses: tuple[str, ...]) -> None:
        """Have a listener's sockets at these addresses and no others. What can't be bound is in `problems`; the rest is
        listened on. Who is done with all changes of one moment says `release`."""
        self._wanted[name] = addresses
        before = self._bound.get(name, {})
        now: dict[str, _Address] = {}
        problems: list[str] = []
        for address in addresses:
            try:
                now[address] = before.get(address) or self._take(address) or self._get(name, address)
                self._fill(name, now[address])
            except OSError as error:
                problems.append(error.strerror or str(error))
        self._bound[name] = now
        self._reserve_no_others(name, now)
        self._unreserve(name, before.keys() - now.keys())
        self.problems.pop(name, None)
        if problems:
            self.problems[name] = "; ".join(problems)
        self._give_up(name, before.values())

    def drop(self, name: str) -> None:
        """A listener is gone. Workers that still have its sockets are told elsewhere."""
        self._wanted.pop(name, None)
        self.problems.pop(name, None)
        before = self._bound.pop(name, {})
        self._unreserve(name, before.keys())
        self._give_up(name, before.values())

    def release(self) -> None:
        """Close what listeners were done with and no other took over."""
        while self._spare:
            _, entry = self._spare.popitem()
            self._close(entry)

    def retry(self, names: Iterable[str]) -> list[str]:
        """Try again what of these could not be bound; the listeners that were tried."""
        tried = [name for name in names if name in self.problems and name in self._wanted]
        for name in tried:
            self.put(name, self._wanted[name])
        return tried

    def grow(self, slots: int) -> None:
        """More slots; those that there are stay, for their sockets may have connections. `put` fills them."""
        self.slots = max(self.slots, slots)

    @property
    def names(self) -> list[str]:
        """All listeners of the table."""
        return list(self._wanted)

    def wanted(self, name: str) -> tuple[str, ...]:
        """The addresses that a listener should have."""
        return self._wanted.get(name, ())

    def sockets(self, name: str, slot: int) -> tuple[socket.socket, ...]:
        """A listener's sockets of one slot, in the order of its addresses."""
        entries = self._bound.get(name, {}).values()
        return tuple(entry.sockets[slot] for entry in entries if slot < len(entry.sockets))

    def close(self) -> None:
        """Close them all."""
        for entries in list(self._by_port.values()):
            for entry in list(entries):
                self._close(entry)
        self._bound.clear()
        self._reserved.clear()
        self._spare.clear()
        self._wanted.clear()

    def _take(self, address: str) -> _Address | None:
        """What another listener had at an address, and needs no more."""
        with contextlib.suppress(ValueError):
            return self._spare.pop(place_of(address), None)
        return None

    def _get(self, name: str, address: str) -> _Address:
        return self._reserved.get(name, {}).get(address) or self._make(name, address)

    def _make(self, name: str, address: str) -> _Address:
        try:
            place = place_of(address)
        except ValueError as error:
            raise OSError(0, f"listener {name}: {error}") from None
        self._look_for_room(name, self.slots)
        sock = _bind(name, place, shared=self._is_ours(place))
        self.open += 1
        entry = _Address(bound_place(sock, place), sock)
        self._by_port.setdefault(entry.place.port, []).append(entry)
        return entry

    def _is_ours(self, place: Place) -> bool:
        """Whether sockets of this program are there, be it only in workers that are about to close them."""
        now = time.monotonic()
        for port, _ in list(itertools.takewhile(lambda item: item[1] <= now, self._let_go.items())):
            del self._let_go[port]
        there = self._by_port.get(place.port, ())
        return place.port in self._let_go or any(_overlap(place, entry.place) for entry in there)

    def _fill(self, name: str, entry: _Address) -> None:
        """A socket for each slot, all at the first one's port."""
        if len(entry.sockets) < self.slots:
            self._look_for_room(name, self.slots - len(entry.sockets))
        while len(entry.sockets) < self.slots:
            entry.sockets.append(_bind(name, entry.place, shared=True))
            self.open += 1

    def _look_for_room(self, name: str, wanted: int) -> None:
        """Raises OSError where a label asks for more sockets than there may be."""
        if self.most and name.startswith("port:") and self.open + wanted > self.most:
            raise OSError(
                errno.EMFILE,
                f"listener {name}: its {wanted} sockets would be more than {self.most}, which is a quarter of the open "
                f"files that this process may have: raise that limit (LimitNOFILE, ulimit -n), set fewer [l7] workers, "
                f"or take labels from apps",
            )

    def _close(self, entry: _Address) -> None:
        entry.close()
        self.open -= len(entry.sockets)
        entries = self._by_port[entry.place.port]
        entries.remove(entry)
        if not entries:
            del self._by_port[entry.place.port]
        self._let_go.pop(entry.place.port, None)
        self._let_go[entry.place.port] = time.monotonic() + REMEMBERED

    def _entries(self, name: str) -> Iterator[_Address]:
        yield from (self._reserved.get(name, {}) | self._bound.get(name, {})).values()

    def _unreserve(self, name: str, addresses: Iterable[str]) -> None:
        """Reserve these no longer: what was listened on once can only be closed, or clients would wait in it."""
        for address in addresses:
            self._reserved.get(name, {}).pop(address, None)

    def _reserve_no_others(self, name: str, now: dict[str, _Address]) -> None:
        """What was reserved is not needed where another listener's sockets were taken over."""
        reserved = self._reserved.get(name, {})
        for address in reserved.keys() & now.keys():
            if (other := reserved[address]) is not now[address]:
                reserved[address] = now[address]
                self._close(other)

    def _give_up(self, name: str, entries: Iterable[_Address]) -> None:
        """Have those that a listener had, and neither has nor will have, ready for another one."""
        used = [*self._reserved.get(name, {}).values(), *self._bound.get(name, {}).values()]
        for entry in entries:
            if not any(entry is other for other in used):
                if (other := self._spare.pop(entry.place, None)) is not None:
                    self._close(other)
                self._spare[entry.place] = entry


def _bind(name: str, place: Place, *, shared: bool) -> socket.socket:
    try:
        return bind(place, shared=shared)
    except OSError as error:
        raise OSError(error.errno, f"listener {name}: {error.strerror}") from error


def _overlap(one: Place, other: Place) -> bool:
    """Whether the kernel would see two places of one port as the same: one can be bound then only if it is shared."""
    wild = {"::", "0.0.0.0"}  # noqa: S104 - compared, not bound
    return one.host == other.host or one.host in wild or other.host in wild
