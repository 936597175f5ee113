"""One UDP socket: read by a native worker, or drained in batches on the event loop while there is none.

On a wildcard address every UDP answer leaves from the address that the question came to (IP_PKTINFO): a
client drops answers from another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from mesos_dns.connections import packed_client
from mesos_dns.query_log import log_query
from mesos_dns.respond import Beyond, Forward, Responder
from mesos_dns.workers import Worker

_BATCH = 64
"""Datagrams answered per readiness event: enough to amortise the wake-up, short enough to be fair."""
_RECEIVE_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33
_WAIT = struct.pack("@ll", 0, 200_000)
"""How long a worker waits for a query, or for room to send, before it looks around (native/loop.h WAIT_MS)."""
_MAX_QUERY = 4096
_ANCILLARY = 128
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
Send: TypeAlias = Callable[[int, bytes, bytes], int]
"""Sends an answer where a worker's message says (_native.send)."""
_LOGGED, _DUE = 1, 2
"""Kinds of a worker's messages that only tell of a query: one that was answered, one whose kept answer will soon
be too old (native/loop.h)."""


class UdpListener:
    """One UDP socket. `number` is that of its worker; `shared`: others are bound to the same address too."""

    def __init__(
        self, host: str, port: int, responder: Responder, beyond: Beyond, number: int = 0, shared: bool = False
    ) -> None:
        self.worker: Worker | None = None
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._responder = responder
        self._beyond = beyond
        self._number = number
        self._pktinfo = _is_wildcard(host)
        self._reading = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.socket = self._bound(host, port, shared)
        self.address: tuple[str, int] = self.socket.getsockname()[:2]

    def _bound(self, host: str, port: int, shared: bool) -> socket.socket:
        """A blocking socket, as a worker wants it; here it is read and written without waiting."""
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):  # the second goes beyond net.core.rmem_max, for root
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _WAIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _WAIT)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self._pktinfo and self._family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            elif self._pktinfo:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def swap(self, responder: Responder, beyond: Beyond) -> list[asyncio.Future[None]]:
        """Answer with these from the next packet on: here, until a worker has the new table; what then ends."""
        same = responder.fast is self._responder.fast
        self._responder, self._beyond = responder, beyond
        if same:
            return []
        ending = self.worker.close() if self.worker is not None else []
        self.worker = None
        self.open()
        return ending

    def open(self) -> None:
        """Begin to answer."""
        self._read_here()
        fast = self._responder.fast
        if fast is not None:
            worker = Worker(
                fast,
                self._number,
                self.socket,
                self._pktinfo,
                heard=partial(self._from_worker, fast.module.send),
                up=self._leave_to,
                down=self._take_from,
                failed=self._count_failure,
            )
            self.worker = worker
            worker.start()

    def close(self) -> list[asyncio.Future[None]]:
        """Stop answering; what is still ending. The socket is closed when nothing uses it any more."""
        self._stop_reading()
        ending: list[asyncio.Future[None]] = list(self._tasks)
        for task in self._tasks:
            task.cancel()
        if self.worker is not None:
            ending += self.worker.close()
            self.worker = None
        self.socket.close()
        return ending

    def _read_here(self) -> None:
        if not self._reading and self.socket.fileno() >= 0:
            self._reading = True
            drain = self._drain_info if self._pktinfo else self._drain
            asyncio.get_running_loop().add_reader(self.socket.fileno(), drain)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self.socket.fileno())
            os.set_blocking(self.socket.fileno(), True)  # uvloop leaves it as it wants it, and a worker has to wait

    def _leave_to(self, worker: Worker) -> None:
        if worker is self.worker:
            self._stop_reading()

    def _take_from(self, worker: Worker) -> None:
        """A worker has ended; one that was replaced is not missed."""
        if worker is self.worker:
            self._read_here()

    def _count_failure(self) -> None:
        self._responder.counters.restarts += 1

    # --- with a worker -----------------------------------------------------------------------------

    def _from_worker(self, send: Send, header: bytes, packet: bytes) -> None:
        client = _client_of(header)
        if header[0] == _LOGGED:
            log_query(packet, "udp", client, header[3])
            return
        if header[0] == _DUE:
            self._responder.refresh(packet)
            return
        reply = self._responder.decide(packet, "udp", client)
        if isinstance(reply, bytes):
            self._send(send, header, reply)
        elif isinstance(reply, Forward):
            self._later(packet, reply, lambda data: self._send(send, header, data))

    def _send(self, send: Send, header: bytes, reply: bytes) -> None:
        if self.socket.fileno() >= 0:
            send(self.socket.fileno(), header, reply)  # that a client can't be reached is not our concern

    # --- without -----------------------------------------------------------------------------------

    def _drain(self) -> None:
        receive, send, decide = self.socket.recvfrom, self.socket.sendto, self._responder.decide
        for _ in range(_BATCH):
            try:
                packet, client = receive(_MAX_QUERY, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # a previous answer's ICMP error is reported here
                continue
            reply = decide(packet, "udp", packed_client(client))
            if isinstance(reply, bytes):
                with contextlib.suppress(OSError):
                    send(reply, socket.MSG_DONTWAIT, client)
            elif isinstance(reply, Forward):
                self._later(packet, reply, lambda data, to=client: self.socket.sendto(data, socket.MSG_DONTWAIT, to))  # type: ignore[misc]

    def _drain_info(self) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, client = self.socket.recvmsg(_MAX_QUERY, _ANCILLARY, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            source = [
                (level, kind, _source(kind, data))
                for level, kind, data in ancillary
                if kind in (_IP_PKTINFO, _IPV6_PKTINFO)
            ]
            reply = self._responder.decide(packet, "udp", packed_client(client))
            if isinstance(reply, bytes):
                with contextlib.suppress(OSError):
                    self.socket.sendmsg([reply], source, socket.MSG_DONTWAIT, client)
            elif isinstance(reply, Forward):
                self._later(
                    packet,
                    reply,
                    lambda data, info=source, to=client: self.socket.sendmsg([data], info, socket.MSG_DONTWAIT, to),  # type: ignore[misc]
                )

    def _later(self, packet: bytes, forward: Forward, send: Callable[[bytes], object]) -> None:
        async def run() -> None:
            reply = await self._beyond.resolve(packet, forward, "udp")
            if reply is not None and self.socket.fileno() >= 0:
                with contextlib.suppress(OSError):
                    send(reply)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_wildcard(host: str) -> bool:
    """True for an address that stands for every one of the host, however it is written."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False


def _client_of(header: bytes) -> bytes:
    """The packed address in a worker's message: behind 4 octets, a struct sockaddr_in or sockaddr_in6."""
    family = int.from_bytes(header[4:6], sys.byteorder)
    return header[8:12] if family == socket.AF_INET else header[12:28]


def _source(kind: int, data: bytes) -> bytes:
    """The packet info to send with: the address of ours that was asked, any interface."""
    if kind == _IP_PKTINFO:
        return struct.pack("=I4s4s", 0, data[4:8], b"\0\0\0\0")
    return data[:16] + struct.pack("=I", 0)
