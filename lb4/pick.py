"""Which backend a new connection gets: IPVS' schedulers, thresholds and persistence, without any I/O.

What a scheduler is called, and what it does here:

    rr, wrr        in turn; exactly by weight over every cycle (wrr: the smooth kind, which never sends bursts)
    lc, wlc        fewest connections (wlc: by weight); an established one counts like 256 others; ties in turn
    sed, nq        shortest expected delay; nq: an idle backend first
    fo, ovf        the heaviest backend; ovf: the heaviest that has fewer connections than its weight
    twos           two at random by weight, then the less loaded of them
    sh, mh         by the client's address: weighted rendezvous hashing, the same on every node; when backends
                   change, only clients of a changed backend move (what Maglev comes close to with a table)
    dh             the same by the virtual address: all clients get one backend
    lblc, lblcr    as wlc: with one virtual address there is no locality to keep
    anything else  as wlc

A backend of weight 0, and one at its upper threshold, gets no new connections from any of them.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import math
import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from lb4.services import BackendKey, BackendStats, Destination, Service, ServiceKey, Settings

MOST_LEASES = 65_536
"""Clients whose backend one service remembers; the one that came longest ago is forgotten for a new one."""

_ACTIVE = 256
"""How many connections that are not established count as much as one that is (ip_vs_dest_conn_overhead)."""
_WORD = (1 << 64) - 1


class User(Protocol):
    """A connection or flow that a backend has."""

    def abort(self) -> None:
        """End it at once."""

    def forsake(self) -> None:
        """Its backend is gone: take another if nothing was said yet, else end at once."""


class Target:
    """A backend of a service, with what is open to it. Dropped, it has weight 0 for ever."""

    __slots__ = (
        "active",
        "address",
        "connections",
        "credit",
        "destination",
        "family",
        "inactive",
        "key",
        "overloaded",
        "seed",
        "users",
        "weight",
    )

    def __init__(self, key: BackendKey, destination: Destination) -> None:
        self.key = key
        self.address = (key.address, key.port)
        self.family = socket.AF_INET6 if ":" in key.address else socket.AF_INET
        self.destination = destination
        self.weight = destination.weight
        self.active = self.inactive = self.connections = 0
        self.overloaded = False
        self.users: set[User] = set()
        self.seed = _digest(f"{key.address} {key.port}")
        self.credit = 0

    def set(self, destination: Destination) -> None:
        """Use it like this from now on."""
        before, self.destination = self.destination, destination
        self.weight = destination.weight
        if (before.upper, before.lower) != (destination.upper, destination.lower):
            self.overloaded = False
            self._weigh(more=True)

    @property
    def usable(self) -> bool:
        """True while it gets new connections."""
        return self.weight > 0 and not self.overloaded

    @property
    def load(self) -> int:
        """What IPVS calls its overhead."""
        return self.active * _ACTIVE + self.inactive

    @property
    def stats(self) -> BackendStats:
        """Its counts now."""
        return BackendStats(self.active, self.inactive, self.connections)

    def opened(self, user: User) -> None:
        """A connection is being made to it."""
        self.users.add(user)
        self.inactive += 1
        self.connections += 1
        self._weigh(more=True)

    def established(self) -> None:
        """A connection to it was made."""
        self.inactive -= 1
        self.active += 1

    def closed(self, user: User, *, established: bool) -> None:
        """A connection to it is over."""
        self.users.discard(user)
        if established:
            self.active -= 1
        else:
            self.inactive -= 1
        self._weigh(more=False)

    def _weigh(self, *, more: bool) -> None:
        """The rules of ip_vs_bind_dest and ip_vs_unbind_dest: without a lower threshold it is three quarters."""
        total, upper, lower = self.active + self.inactive, self.destination.upper, self.destination.lower
        if more:
            if upper and total >= upper:
                self.overloaded = True
        elif self.overloaded:
            self.overloaded = total >= lower if lower and upper else total * 4 >= upper * 3 if upper else False


class Lease:
    """Which backend a client's network has, until when, and how many of its connections are open."""

    __slots__ = ("expires", "open", "target")

    def __init__(self) -> None:
        self.target: Target | None = None
        self.expires = 0.0
        self.open = 0


class Balance:
    """The backends of one service and the choice among them. Times are seconds of any clock that only goes forward.

    `start`: where turns begin; different numbers on different nodes keep them from all beginning with one backend.
    """

    def __init__(self, key: ServiceKey, settings: Settings, start: int = 0, most_leases: int = MOST_LEASES) -> None:
        self.key = key
        self.targets: dict[BackendKey, Target] = {}
        self._order: list[Target] = []
        self._at = start - 1
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._most_leases = most_leases
        self._told: Service | None = None
        self.set(settings)

    @property
    def service(self) -> Service:
        """Settings and destinations as they were given."""
        if self._told is None:
            self._told = Service(self.settings, {key: target.destination for key, target in self.targets.items()})
        return self._told

    @property
    def weighted(self) -> bool:
        """True while any backend has a weight."""
        return any(target.weight > 0 for target in self._order)

    def set(self, settings: Settings) -> None:
        """Choose like this from now on; remembered clients stay so if they are remembered at all."""
        self.settings = settings
        self._scheduler = SCHEDULERS.get(settings.scheduler, _wlc)
        self._changed()
        if not settings.persistence:
            self._leases.clear()

    def put(self, key: BackendKey, destination: Destination) -> None:
        """Add a backend, or change how it is used."""
        target = self.targets.get(key)
        if target is None:
            self.targets[key] = target = Target(key, destination)
            self._order.append(target)
        else:
            target.set(destination)
        self._changed()

    def drop(self, key: BackendKey) -> Target:
        """Take a backend out. KeyError: there is none."""
        target = self.targets.pop(key)
        target.weight = 0
        place = self._order.index(target)
        del self._order[place]
        if place <= self._at:
            self._at -= 1
        self._changed()
        return target

    def choose(self, client: str, but: Collection[Target] = (), lease: Lease | None = None) -> Target | None:
        """The backend for a new connection of a client (its address as text), None: there is none.

        `but`: backends that were tried in vain. What a client keeps by its lease changes when that can't be used.
        """
        if lease is not None and lease.target is not None and lease.target.usable and lease.target not in but:
            return lease.target
        turn = (self._at + 1) % max(1, len(self._order))
        able = [t for t in (*self._order[turn:], *self._order[:turn]) if t.usable and t not in but]
        if not able:
            return None
        chosen = self._scheduler(able, self.key.address if self.settings.scheduler == "dh" else client)
        self._at = self._order.index(chosen)
        if lease is not None:
            lease.target = chosen
        return chosen

    def lease(self, client: str, now: float) -> Lease | None:
        """What is remembered of a client, for one more connection of it; None where nothing is to be."""
        if not self.settings.persistence:
            return None
        network = _network(client, self.settings.prefix)
        lease = self._leases.get(network)
        if lease is None:
            if len(self._leases) >= self._most_leases:
                self._leases.popitem(last=False)
            lease = self._leases[network] = Lease()
        else:
            self._leases.move_to_end(network)
            if not lease.open and lease.expires <= now:
                lease.target = None
        lease.open += 1
        lease.expires = now + self.settings.persistence
        return lease

    def release(self, lease: Lease | None, now: float) -> None:
        """A connection of a client is over: from now on its time runs."""
        if lease is not None:
            lease.open -= 1
            lease.expires = now + self.settings.persistence

    def _changed(self) -> None:
        self._told = None
        for target in self._order:
            target.credit = 0


# --- schedulers: of backends that can be used, those whose turn it is first -----------------------


def _rr(able: Sequence[Target], client: str) -> Target:
    return able[0]


def _wrr(able: Sequence[Target], client: str) -> Target:
    """Everybody earns their weight; the richest is chosen and pays what all have earned."""
    total = 0
    for target in able:
        target.credit += target.weight
        total += target.weight
    richest = max(able, key=_credit)
    richest.credit -= total
    return richest


def _lc(able: Sequence[Target], client: str) -> Target:
    return min(able, key=_load)


def _wlc(able: Sequence[Target], client: str) -> Target:
    return min(able, key=_load_by_weight)


def _sed(able: Sequence[Target], client: str) -> Target:
    return min(able, key=_delay)


def _nq(able: Sequence[Target], client: str) -> Target:
    return next((target for target in able if not target.load), None) or _sed(able, client)


def _fo(able: Sequence[Target], client: str) -> Target:
    return max(able, key=_weight)


def _ovf(able: Sequence[Target], client: str) -> Target:
    """With all of them full it is the heaviest: IPVS would refuse."""
    free = [target for target in able if target.active + target.inactive < target.weight]
    return _fo(free or able, client)


def _twos(able: Sequence[Target], client: str) -> Target:
    return _wlc(random.choices(able, [target.weight for target in able], k=2), client)


def _hashed(able: Sequence[Target], client: str) -> Target:
    """The highest random weight: -weight / ln(u) is drawn from (backend, client), so it needs no table."""
    drawn, best, chosen = _digest(client), -1.0, able[0]
    for target in able:
        word = ((drawn ^ target.seed) * 0xFF51AFD7ED558CCD) & _WORD
        word = ((word ^ word >> 33) * 0xC4CEB9FE1A85EC53) & _WORD
        word ^= word >> 33
        score = target.weight / -math.log(((word >> 12) + 0.5) / (1 << 52))
        if score > best:
            best, chosen = score, target
    return chosen


SCHEDULERS: Mapping[str, Callable[[Sequence[Target], str], Target]] = {
    "rr": _rr,
    "wrr": _wrr,
    "lc": _lc,
    "wlc": _wlc,
    "sed": _sed,
    "nq": _nq,
    "fo": _fo,
    "ovf": _ovf,
    "twos": _twos,
    "sh": _hashed,
    "mh": _hashed,
    "dh": _hashed,
    "lblc": _wlc,
    "lblcr": _wlc,
}
"""All that the configuration knows (lb4/config.py)."""


def _weight(target: Target) -> int:
    return target.weight


def _credit(target: Target) -> int:
    return target.credit


def _load(target: Target) -> int:
    return target.load


def _load_by_weight(target: Target) -> float:
    return target.load / target.weight


def _delay(target: Target) -> float:
    return (target.active + target.inactive + 1) / target.weight


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@functools.lru_cache(4096)
def _network(client: str, prefix: int) -> str:
    """The network that counts as one client. A prefix that is 0 or too long: the address alone."""
    address = client.partition("%")[0]
    most = 128 if ":" in address else 32
    if not 0 < prefix < most:
        return client
    return str(ipaddress.ip_network((address, prefix), strict=False))
