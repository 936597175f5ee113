"""Tasks of apps for the soak of the edge: each a process that serves HTTP, WebSocket or lines of TCP.

`python -m tests.system.edge_backend` reads one JSON object a line, `{"app", "task", "port", "mode"}`, and writes the
process id of the task that it has started, which listens already. Its tasks end with it.

A task says in each answer who it is (X-App, X-Task). SIGKILL is its death. SIGTERM is its polite end: it listens no
more, but serves who has connected; it ends what it has in hand; and it leaves last those that might just be sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import sys
from typing import Any

import uvloop

from tests.fakes.scripted_backend import read_body
from tests.system.edge_websocket import CLOSE, TEXT, accept_of, frame, read_frame

HOST = "127.0.0.1"
LARGE = b"".join(b"%015d\n" % line for line in range(1 << 16))
"""What /bytes/N is the beginning of: a mebibyte, no line of which is like another."""
PIECE, PIECE_PAUSE = 4096, 0.15
"""Octets of a piece of /trickle/N, and seconds after each."""
QUIET = 2.0
"""Seconds without a request after which a task that was told to end leaves a connection."""
FAREWELL = 3.0
"""Seconds from then until it closes its WebSockets."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Peer:
    """A connection to this task."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.busy = False
        self.websocket = False
        self.since = asyncio.get_running_loop().time()


class Task:
    """One task of an app."""

    def __init__(self, app: str, task: str) -> None:
        self.app, self.task = app, task
        self.ending = asyncio.Event()
        self.peers: set[Peer] = set()

    async def run(self, sock: socket.socket, mode: str) -> None:
        """Serve until told to end, and until that is done."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.ending.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        serve = self._http if mode == "http" else self._lines
        server = await asyncio.start_server(serve, sock=sock.dup(), limit=1 << 21)
        await self.ending.wait()
        while select.select([sock], [], [], 0)[0]:  # who has connected is served
            await asyncio.sleep(0)
        server.close()
        sock.close()
        asked = loop.time()
        while self.peers:
            now = loop.time()
            for peer in list(self.peers):
                if peer.websocket:
                    if now - asked > FAREWELL:
                        peer.websocket = False  # it is said once
                        peer.writer.write(frame(CLOSE, b"\x03\xe9", masked=False))  # 1001, going away
                elif mode == "http" and not peer.busy and now - max(peer.since, asked) > QUIET:
                    peer.writer.close()
            await asyncio.sleep(0.05)

    async def _lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TCP: say who this is, then say again what is said."""
        peer = Peer(reader, writer)
        self.peers.add(peer)
        with contextlib.suppress(OSError, EOFError):
            writer.write(f"{self.app} {self.task}\n".encode())
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        self.peers.discard(peer)
        writer.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.add(peer)
        with contextlib.suppress(OSError, EOFError):
            while await self._one(peer):
                peer.busy, peer.since = False, asyncio.get_running_loop().time()
        self.peers.discard(peer)
        writer.close()

    async def _one(self, peer: Peer) -> bool:
        """Answer one request; whether there may be another."""
        head = await peer.reader.readuntil(b"\r\n\r\n")
        peer.busy = True
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if key := re.search(rb"\r\nsec-websocket-key: *(\S+)", head, re.IGNORECASE):
            await self._websocket(peer, key[1])
            return False
        if b"\r\nexpect:" in head.lower():
            peer.writer.write(_CONTINUE)
        body = await read_body(peer.reader, head)
        rest, _, number = target.rpartition("/")
        what = rest.rpartition("/")[2]
        if what == "wait":
            await asyncio.sleep(int(number) / 1000)
        last = self.ending.is_set()
        fields = f"X-App: {self.app}\r\nX-Task: {self.task}\r\n" + ("Connection: close\r\n" if last else "")
        if what == "trickle":
            await self._trickle(peer, fields, int(number))
            return not last
        answer = LARGE[: int(number)] if what == "bytes" else self._told(head, method, target, body)
        whole = f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(answer)}\r\n\r\n".encode()
        peer.writer.write(whole if method == "HEAD" else whole + answer)
        await peer.writer.drain()
        return not last

    def _told(self, head: bytes, method: str, target: str, body: bytes) -> bytes:
        """What was understood: method, host, target, length and checksum of the body, a word a line."""
        host = re.search(rb"\r\nhost: *(\S+)", head, re.IGNORECASE)
        words = (method, host[1].decode() if host else "", target, str(len(body)), hashlib.sha256(body).hexdigest())
        return "\n".join(words).encode()

    async def _trickle(self, peer: Peer, fields: str, length: int) -> None:
        """A slow answer in chunks."""
        peer.writer.write(f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode())
        for start in range(0, length, PIECE):
            piece = LARGE[start : min(start + PIECE, length)]
            peer.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await peer.writer.drain()
            await asyncio.sleep(PIECE_PAUSE)
        peer.writer.write(b"0\r\n\r\n")
        await peer.writer.drain()

    async def _websocket(self, peer: Peer, key: bytes) -> None:
        """Say who this is, then say again what is said, until it is closed."""
        accepted = accept_of(key).decode()
        head = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accepted}\r\nX-App: {self.app}\r\n"
        peer.writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{head}X-Task: {self.task}\r\n\r\n".encode())
        peer.websocket = True
        while True:
            kind, payload = await read_frame(peer.reader)
            if kind == CLOSE:
                if peer.websocket:
                    peer.writer.write(frame(CLOSE, payload, masked=False))
                return
            peer.writer.write(frame(TEXT, payload, masked=False))
            await peer.writer.drain()


def _start(wanted: dict[str, Any]) -> int:
    """Fork a task that listens; its process id."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, wanted["port"]))
    sock.listen(512)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # one that comes at once waits until it is listened to
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        sock.close()
        return pid
    code = 1
    try:
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)  # and not closed: libuv gives up where it finds itself with that number
        uvloop.run(_live(wanted, sock))
        code = 0
    finally:
        os._exit(code)


async def _live(wanted: dict[str, Any], sock: socket.socket) -> None:
    await Task(wanted["app"], wanted["task"]).run(sock, wanted["mode"])


def main() -> None:
    """See the module."""
    alive: set[int] = set()
    for line in sys.stdin:
        alive.add(pid := _start(json.loads(line)))
        print(pid, flush=True)
        for each in list(alive):
            if os.waitpid(each, os.WNOHANG)[0]:
                alive.discard(each)
    for each in alive:
        os.kill(each, signal.SIGKILL)
    for each in alive:
        os.waitpid(each, 0)


if __name__ == "__main__":
    main()
