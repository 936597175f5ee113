"""The program of a worker process: `python -m lb7.worker --fd N`, started by `lb7/worker_process.py`.

It gives up its privileges, says on the channel (the inherited file N) that it is ready, and then does what it is told
there: it keeps the table, listens on the sockets that it is given, and carries traffic. It ends when its channel does,
when it has drained, and at once with its parent. What it has to say goes through the channel as well.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures.thread  # noqa: F401 - used by the loop; later there may be no right to read it
import contextlib
import encodings.idna  # noqa: F401 - the same
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import uvloop

from lb7._proxy import Edge
from lb7.certificates import CertificateStore
from lb7.channel import MOST_FRAME, Channel, ChannelError
from lb7.confinement import close_others, end_with_parent, give_up_privileges, name_process
from lb7.settings import Settings
from lb7.sockets import open_many_files
from lb7.table import TableDelta
from lb7.wire import (
    DOWN,
    Applied,
    Apply,
    Ask,
    Certificates,
    Configure,
    Down,
    Drain,
    Hello,
    Listen,
    Mark,
    Ready,
    Told,
    Unlisten,
    encode,
)
from lb7.worker_listeners import Listeners
from lb7.worker_report import FaultLog, Reports
from lb7.worker_tables import Tables

TICK = 0.25
"""Seconds between two looks at time-outs, and from one turn of telling what there is to tell to the next."""
TURNS_OF_A_BLOCK = 4
"""Turns from one block of counters to the next."""
LATE = 90.0
"""Seconds in which an edge that is no longer used may still get a connection, of which the TLS handshake has begun."""
GRACE = 1.0
"""Seconds from the last connection that is accepted to the end of those without a request: it has to send its own."""
DRAINING = 0.1
"""Seconds between two looks whether a draining worker still has connections."""
_YOUNG, _MIDDLE, _OLD = 50_000, 20, 100
"""Of the garbage collector: connections come and go by reference counts, cycles are few."""


class Worker:
    """See the module."""

    def __init__(self, channel: Channel[Down], hello: Hello) -> None:
        self._channel = channel
        self._reports = Reports()
        self._edge = Edge(hello.settings, self._reports.log)
        self._past: dict[Edge, float] = {}
        """Edges of other settings, and since when they are not used for new connections."""
        self._certificates = CertificateStore()
        self._tables = Tables(hello.settings, self._reports.fault, self._reports.held)
        self._listeners = Listeners(self._edge, self._tables, self._certificates, self._reports.fault)
        self._delta = TableDelta()
        self._frozen = False
        self._draining: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        logging.getLogger().addHandler(FaultLog(self._reports))
        asyncio.get_running_loop().set_exception_handler(self._failed)

    def __repr__(self) -> str:
        return f"<Worker {self._tables} {self._listeners} draining={self._draining is not None}>"

    async def run(self) -> None:
        """Until the channel ends, or until it has drained."""
        await self._channel.send(encode(Ready(os.getpid())))
        telling = self._reports.keep_telling_held(self._channel, self._tables.named)
        working = {asyncio.create_task(part) for part in (self._tick(), self._obey(), telling)}
        reporting = asyncio.create_task(self._keep_reporting())
        done: set[asyncio.Task[None]] = set()
        while not done:
            done, _ = await asyncio.wait({*working, reporting}, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
            if self._draining is not None:
                working.add(self._draining)
        self._over.set()
        await asyncio.wait({reporting})  # it may be in the middle of a message, and has its last ones to send
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        for task in {*done, reporting}:
            with contextlib.suppress(ChannelError):
                task.result()

    async def _obey(self) -> None:
        """Do what comes down, in order. Raises ChannelError when nothing more will."""
        while True:
            message, files = await self._channel.receive()
            if isinstance(message, Apply):
                await self._apply(message)
            elif isinstance(message, Listen):
                if len(files) < message.count:
                    self._reports.fault(f"listener {message.listener}", "no more open files (ulimit -n)")
                await self._listeners.listen(message.listener, message.slot, files)
            elif isinstance(message, Unlisten):
                self._listeners.unlisten(message.listener, message.slot)
            elif isinstance(message, Mark):
                await self._mark(message.version)
            elif isinstance(message, Ask):
                await self._tell(message)
            elif isinstance(message, Configure):
                await self._configure(message.settings)
            elif isinstance(message, Certificates):
                await self._take_certificates(message)
            elif isinstance(message, Drain) and self._draining is None:
                self._draining = asyncio.create_task(self._drain(message.hold))

    async def _apply(self, message: Apply) -> None:
        """Take a part of a delta; carry it out when it is whole."""
        part, whole = message.delta, self._delta
        if whole:
            whole.clusters.update(part.clusters)
            whole.hosts.update(part.hosts)
            whole.listeners.update(part.listeners)
        else:
            self._delta = whole = part
        if message.more:
            return
        self._delta = TableDelta()
        await self._tables.apply(whole, _pause)
        self._listeners.look_at_tables()
        await self._listeners.changed(list(whole.listeners))

    async def _take_certificates(self, message: Certificates) -> None:
        for certificate in message.changed:
            try:
                await asyncio.to_thread(self._certificates.put, certificate)
            except Exception as error:  # the parent has tried it: this should not be
                self._reports.fault(f"certificate {certificate.name}", str(error))
        if not message.more:
            self._certificates.arrange(message.order)

    async def _mark(self, version: int) -> None:
        if not self._frozen:  # the first table is there, and stays for long: the collector need not look at it
            self._frozen = True
            gc.collect()
            gc.freeze()
        await self._channel.send(encode(Applied(version)))

    async def _tell(self, message: Ask) -> None:
        clusters = self._tables.clusters
        servers = {name: clusters[name].status() for name in message.clusters if name in clusters}
        frame = encode(Told(message.number, servers))
        if len(frame) > MOST_FRAME:
            self._reports.fault("question", f"an answer of {len(frame)} octets is too long")
            frame = encode(Told(message.number, {}))
        await self._channel.send(frame)

    async def _configure(self, settings: Settings) -> None:
        """New connections go by other settings; those that are open end with the ones they began with."""
        self._past[self._edge] = asyncio.get_running_loop().time()
        self._edge = Edge(settings, self._reports.log)
        await self._tables.configure(settings, _pause)
        self._listeners.look_at_tables()
        await self._listeners.serve_anew(self._edge)

    async def _drain(self, hold: float) -> None:
        """Accept no more, and return when all connections have ended."""
        for edge in (self._edge, *self._past):
            edge.end_holding(hold)
        await self._listeners.drain()
        await self._ended(GRACE)
        for edge in (self._edge, *self._past):
            edge.drain()
        await self._ended()

    async def _ended(self, most: float | None = None) -> None:
        """Until all connections have ended, or for so many seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._listeners.tcp_connections() or any(edge.connections for edge in (self._edge, *self._past)):
            if most is not None and loop.time() - began >= most:
                return
            await asyncio.sleep(DRAINING)

    async def _tick(self) -> None:
        """The clock of the edge. It waits for nobody, so that time-outs go on whatever the parent does."""
        while True:
            for edge in (self._edge, *self._past):
                edge.tick()
            self._listeners.tick()
            await asyncio.sleep(TICK)

    async def _keep_reporting(self) -> None:
        """Tell regularly what there is to tell, at the parent's pace, until it is over. Raises ChannelError."""
        turn = 0
        while not self._over.is_set():
            await self._reports.send_rest(self._channel)
            if turn % TURNS_OF_A_BLOCK == 0:
                await self._report()
            turn += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._over.wait()
        await self._reports.send_last(self._channel)
        await self._report()

    async def _report(self) -> None:
        """Tell all counters. What is to be forgotten is chosen before they are read, so that all it counted is told:
        edges and fronts are read at once, and clusters that are chosen have no more requests. Raises ChannelError."""
        edges, fronts, clusters = (self._edge, *self._past), self._listeners.fronts(), self._tables.counting()
        self._forget_past()
        await self._reports.send_counters(self._channel, edges, fronts, clusters)

    def _forget_past(self) -> None:
        """Forget edges that have no connections and get none any more."""
        now = asyncio.get_running_loop().time()
        for edge, since in list(self._past.items()):
            if now - since >= LATE and not edge.connections and not edge.counts()["pooled"]:
                del self._past[edge]

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop has caught: one connection's failure is not the worker's."""
        error = context.get("exception")
        text = context.get("message", "")
        self._reports.fault(f"loop {type(error).__name__}", f"{text}: {error!r}" if error else text)


async def _pause() -> None:
    await asyncio.sleep(0)


async def serve(sock: socket.socket, parent: int) -> None:
    """A worker's life on its channel."""
    channel = Channel(sock, DOWN, takes_files=True)
    try:
        hello, _ = await channel.receive()
        if not isinstance(hello, Hello):
            raise ChannelError(f"expected a greeting, got {type(hello).__name__}")
        open_many_files()
        if hello.confine:
            give_up_privileges()
        end_with_parent(parent)
        await Worker(channel, hello).run()
    except ChannelError:
        pass
    finally:
        channel.close()


def main(arguments: Sequence[str]) -> NoReturn:
    """Run until told to end; exits with 0, or with 1 when it has failed."""
    parser = argparse.ArgumentParser(prog="lb7.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args(arguments)
    parent = os.getppid()
    name_process("pharos-l7")
    faulthandler.enable()
    # The parent's business, which tells us to drain; service managers send theirs to all processes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    close_others(given.fd)
    sock = socket.socket(fileno=given.fd)
    uvloop.run(serve(sock, parent))
    # Without the interpreter's clean-up, which takes long where there are many objects.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
