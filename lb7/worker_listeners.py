"""A worker's servers: each listener of the table on each of the sockets that came for it.

Sockets and listeners come in any order; what has both is served. A listener that changes is served anew on the same
sockets, so that clients that wait in them never notice. One that ends takes first those who wait already.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias

from lb7._proxy import Edge, Front
from lb7._streams import Listening, poll_of
from lb7._tcp import Places, TcpFront
from lb7.certificates import CertificateStore
from lb7.sockets import BACKLOG, is_waited_for
from lb7.table import Listener
from lb7.worker_tables import Tables

SlotKey: TypeAlias = tuple[str, int]
"""A listener's name, and whose sockets of it they are."""

PATIENCE = 1.0
"""Seconds in which a socket that is to be closed has those accepted who wait in it already."""
_TURN = 0.01
_SLICE = 50
"""Servers that are opened or closed before connections have their turn."""

_Front: TypeAlias = Front | TcpFront


class _Served:
    """The sockets of one slot of a listener, and the servers on them."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        self.servers: list[asyncio.Server | Listening] = []


class Listeners:
    """See the module. `fault(key, text)` hears of what can't be listened on."""

    def __init__(
        self, edge: Edge, tables: Tables, certificates: CertificateStore, fault: Callable[[str, str], None]
    ) -> None:
        self._edge, self._tables, self._certificates, self._fault = edge, tables, certificates, fault
        self._served: dict[SlotKey, _Served] = {}
        self._slots: dict[str, set[int]] = {}
        self._now: dict[str, Listener] = {}
        self._fronts: dict[str, dict[int, _Front]] = {}
        self._counted: list[tuple[str, _Front]] = []
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._failed: set[str] = set()
        self._places = _places(edge)
        self._since_pause = 0

    def __repr__(self) -> str:
        return f"<Listeners served={len(self._served)} fronts={len(self._counted)}>"

    async def listen(self, name: str, slot: int, files: list[int]) -> None:
        """These sockets are for a listener, in place of others of its slot."""
        self.unlisten(name, slot)
        self._served[name, slot] = _Served([socket.socket(fileno=fd) for fd in files])
        self._slots.setdefault(name, set()).add(slot)
        if name in self._tables.listeners:
            self._now[name] = self._tables.listeners[name]
            await self._serve(name, slot)
            await self._pause()

    def unlisten(self, name: str, slot: int) -> None:
        """Accept no more on those; connections go on."""
        served = self._served.pop((name, slot), None)
        if served is None:
            return
        self._slots[name].discard(slot)
        if not self._slots[name]:
            del self._slots[name]
        task = asyncio.get_running_loop().create_task(_close(served))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def changed(self, names: list[str]) -> None:
        """These listeners of the table have come, are others or are gone; what failed before is tried again."""
        failed, self._failed = self._failed, set()
        for name in dict.fromkeys([*names, *failed]):
            listener, before = self._tables.listeners.get(name), self._now.pop(name, None)
            if listener is not None:
                self._now[name] = listener
                if before is not None and _essence(before) == _essence(listener) and name not in failed:
                    continue
            self._fronts.pop(name, None)
            self._contexts.pop(name, None)
            for slot in list(self._slots.get(name, ())):
                if listener is None:
                    _stop(self._served[name, slot])
                else:
                    await self._serve(name, slot)
            await self._pause()

    def look_at_tables(self) -> None:
        """Tables and clusters may have become other objects by the same names."""
        if not self._tables.renewed:
            return
        self._tables.renewed = False
        for name, front in self._counted:  # also those whose connections are all that is left of them
            if isinstance(front, Front):
                front.table = self._tables.find(front.table.name) or front.table
                continue
            listener = self._now.get(name)
            cluster = self._tables.clusters.get(listener.cluster) if listener is not None else None
            if cluster is not None and cluster is not front.cluster:
                front.serve(cluster)

    async def serve_anew(self, edge: Edge) -> None:
        """Serve all by another edge, as after a change of settings."""
        places = _places(edge)
        if (places.most, places.most_each) != (self._places.most, self._places.most_each):
            self._places = places  # else those of before go on: connections that are open count for the limit
        self._edge = edge
        for name in list(self._now):
            self._fronts.pop(name, None)
            for slot in list(self._slots.get(name, ())):
                await self._serve(name, slot)
            await self._pause()

    async def drain(self) -> None:
        """Accept nothing more; returns when those who waited are accepted."""
        for name, slot in list(self._served):
            self.unlisten(name, slot)
            await self._pause()
        while self._ending:
            await asyncio.wait(list(self._ending))

    def fronts(self) -> list[tuple[str, _Front]]:
        """All that count, with the names of their listeners. Those that listen no more are among them as long as they
        have connections, and once more."""
        found = self._counted
        current = {id(front) for fronts in self._fronts.values() for front in fronts.values()}
        self._counted = [(name, front) for name, front in found if id(front) in current or front.counts()["open"]]
        return found

    def tick(self) -> None:
        """Let time pass for TCP listeners; those of HTTP go by their edge's."""
        for _, front in self._counted:
            if isinstance(front, TcpFront):
                front.tick()

    def tcp_connections(self) -> int:
        """Connections that are open on TCP listeners."""
        return sum(front.open for _, front in self._counted if isinstance(front, TcpFront))

    async def _pause(self) -> None:
        """Let others have their turn once in a while."""
        self._since_pause += 1
        if self._since_pause >= _SLICE:
            self._since_pause = 0
            await asyncio.sleep(0)

    async def _serve(self, name: str, slot: int) -> None:
        """Open servers on the sockets of a slot, in place of those there are."""
        served, listener = self._served.get((name, slot)), self._now[name]
        if served is None:  # draining goes on meanwhile
            return
        before, served.servers = served.servers, []
        try:
            for sock in served.sockets:
                served.servers.append(await self._open(listener, sock))
        except Exception as error:
            self._failed.add(name)
            self._fault(f"listener {name}", f"listener {name}: can't listen: {type(error).__name__}: {error}")
        for server in before:
            server.close()

    async def _open(self, listener: Listener, sock: socket.socket) -> asyncio.Server | Listening:
        front = self._front(listener, sock.getsockname()[1])
        context = self._context(listener) if listener.tls else None
        handshake = self._edge.settings.request_timeout if context is not None else None
        sock = sock.dup()  # so that the socket stays when the server is closed
        loop = asyncio.get_running_loop()
        if context is None:
            return poll_of(loop).listen(sock, front, BACKLOG)
        return await loop.create_server(front, sock=sock, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=handshake)

    def _front(self, listener: Listener, port: int) -> _Front:
        fronts = self._fronts.setdefault(listener.name, {})
        if port not in fronts:
            fronts[port] = self._tcp(listener) if listener.mode == "tcp" else self._http(listener, port)
            self._counted.append((listener.name, fronts[port]))
        return fronts[port]

    def _http(self, listener: Listener, port: int) -> Front:
        table = self._tables.table(listener.table)
        return self._edge.front(listener.name, table, listener.by, listener.tls, port)

    def _tcp(self, listener: Listener) -> TcpFront:
        cluster = self._tables.clusters[listener.cluster]
        return TcpFront(self._edge.settings, listener.name, cluster, places=self._places)

    def _context(self, listener: Listener) -> ssl.SSLContext:
        context = self._contexts.get(listener.name)
        if context is None:
            known = self._knows(listener.table) if listener.known_names else None
            context = self._contexts[listener.name] = self._certificates.listener_context(listener.cert, known)
        return context

    def _knows(self, table: str) -> Callable[[str], bool]:
        """Whether a table, as it is then, has a rule for a server name."""
        return lambda name: self._tables.table(table).knows(name)


def _places(edge: Edge) -> Places:
    """What the TCP listeners of an edge share."""
    return Places(edge.settings.max_connections, edge.settings.max_connections_per_client)


def _stop(served: _Served) -> None:
    """Accept no more on sockets that stay: their listener is gone, or is not there yet."""
    for server in served.servers:
        server.close()
    served.servers = []


async def _close(served: _Served) -> None:
    """Close sockets, those who wait in them accepted first: closing resets them."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while served.servers and loop.time() < until and any(map(is_waited_for, served.sockets)):  # noqa: ASYNC110 - as said
        await asyncio.sleep(_TURN)
    _stop(served)
    for sock in served.sockets:
        sock.close()


def _essence(listener: Listener) -> tuple[object, ...]:
    """All that a server depends on: where a listener listens is its sockets' matter."""
    it = listener
    return it.table, it.mode, it.by, it.cluster, it.tls, it.cert, it.known_names
