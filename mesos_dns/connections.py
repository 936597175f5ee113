"""Who is connected by TCP and TLS: who may come, who gives way, and who was silent for too long.

Connections stand in the order in which they last completed a question. So whose time is up, and who
gives way when all places are taken, is seen at the front, and one timer for all of them looks there:
ten thousand idle connections cost as much time as one.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter, OrderedDict
from typing import Any, Protocol

from mesos_dns.config import DnsConfig
from mesos_dns.respond import DnsCounters

RESERVED_FILES = 256
"""Open files that are left for all else in the process: sockets of sources, HTTP, UDP and upstreams, files."""

_TICK = 1.0
"""Seconds between two looks at the front."""
_SWEEP = 256
"""Connections ended by one look at most; the next look then comes soon. Nothing else waits for long."""
_SOON = 0.02
_LOOKED_AT = 16
"""Connections looked at, when all places are taken, for one that waits for nothing of ours."""
_PRESSED = 4
"""What the idle time is divided by while more than half of the places are taken."""


class Connection(Protocol):
    """What is to be known of a connection here. `last`: the loop's time of the last completed question."""

    client: bytes
    carrier: str
    last: float

    @property
    def busy(self) -> bool:
        """True while a question waits for its answer."""

    def end(self, reason: str) -> None:
        """Close at once."""


def files_for_connections(*, hard: bool = False) -> int:
    """How many connections the open files that this process may have (`hard`: may ask for) are enough for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[hard]
    return max(1, limit - RESERVED_FILES) if limit != resource.RLIM_INFINITY else 1 << 31


class Connections:
    """The connections of one server. `joined` and `lost` come from them, everything else goes to them."""

    def __init__(self, config: DnsConfig, counters: DnsCounters, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._counters = counters
        self._loop = loop or asyncio.get_running_loop()
        self._order: OrderedDict[Connection, None] = OrderedDict()
        self._ending: set[Connection] = set()
        self._of_client: Counter[bytes] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        self.limit(config)

    def limit(self, config: DnsConfig) -> None:
        """From now on the limits of this configuration; who is over them goes with the next looks."""
        self._most = min(config.tcp_clients, files_for_connections())
        self._most_of_client = config.tcp_clients_per_address
        self._idle = float(config.tcp_idle)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def idle(self) -> float:
        """Seconds that a connection may complete no question; less while more than half of the places are taken."""
        return self._idle / _PRESSED if len(self._order) * 2 > self._most else self._idle

    def joined(self, connection: Connection) -> bool:
        """Give a new connection a place; False, and counted, when its client has too many or nobody gives way.

        A refused one that was opened all the same is still to be `lost`.
        """
        if self._of_client[connection.client] >= self._most_of_client:
            refused = "client"
        elif len(self._order) >= self._most and not self._give_way():
            refused = "full"
        else:
            refused = ""
        if refused:
            self._drop_zero(connection.client)
            self._counters.tcp_refused[refused] += 1
            return False
        self._of_client[connection.client] += 1
        connection.last = self._loop.time()
        self._order[connection] = None
        self._counters.tcp_connections[connection.carrier] += 1
        self._counters.tcp_open[connection.carrier] += 1
        if self._timer is None:
            self._timer = self._loop.call_later(min(_TICK, self._idle / 4), self._sweep)
        return True

    def asked(self, connection: Connection) -> None:
        """A question was completed, or its answer is on its way."""
        if connection in self._order:
            connection.last = self._loop.time()
            self._order.move_to_end(connection)

    def ending(self, connection: Connection) -> None:
        """Its place is free; it is not gone yet."""
        self._free(connection)
        self._ending.add(connection)

    def lost(self, connection: Connection) -> None:
        """It is gone. May be said twice."""
        self._free(connection)
        self._ending.discard(connection)
        if self._empty is not None and not self._order and not self._ending and not self._empty.done():
            self._empty.set_result(None)

    async def close(self) -> None:
        """End all of them and wait until they are gone."""
        for connection in [*self._order, *self._ending]:
            connection.end("stopped")
        if self._order or self._ending:
            self._empty = self._loop.create_future()
            await self._empty
            self._empty = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _free(self, connection: Connection) -> None:
        if connection not in self._order:
            return
        del self._order[connection]
        self._counters.tcp_open[connection.carrier] -= 1
        self._of_client[connection.client] -= 1
        self._drop_zero(connection.client)

    def _drop_zero(self, client: bytes) -> None:
        """Clients without connections are forgotten: addresses are many."""
        if not self._of_client[client]:
            del self._of_client[client]

    def _give_way(self) -> bool:
        """End the connection that is idle longest, for a new one; False when all seem busy."""
        for _ in range(min(_LOOKED_AT, len(self._order))):
            front = next(iter(self._order))
            if not front.busy:
                front.end("displaced")
                return True
            self.asked(front)
        return False

    def _sweep(self) -> None:
        """End those at the front whose time is up, and those over a limit that was lowered."""
        now, pause = self._loop.time(), min(_TICK, self._idle / 4)
        for _ in range(_SWEEP):
            front = next(iter(self._order), None)
            if front is None:
                self._timer = None
                return
            idle = front.last + self.idle <= now
            if not idle and len(self._order) <= self._most:
                break
            if front.busy:
                self.asked(front)
            else:
                front.end("idle" if idle else "displaced")
        else:
            pause = min(pause, _SOON)
        self._timer = self._loop.call_later(pause, self._sweep)


def packed_client(peer: tuple[Any, ...]) -> bytes:
    """A client's address in 4 or 16 octets. Not kept like those of tasks: anybody may send from any address."""
    host = peer[0]
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_aton(host)
