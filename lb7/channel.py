"""One end of the channel between the edge's process and a worker: messages both ways, sockets down.

It is a UNIX stream socket; a frame is four octets of length (big-endian) and so many of msgpack. Sockets travel beside
the first octet of the frame that announces them (SCM_RIGHTS), so they are there before that frame is whole.

Nothing is kept without bound: who sends waits until the system has taken it all, and what arrives is read no further
while a whole frame and some more wait to be taken.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

M = TypeVar("M")

MOST_FRAME = 32 << 20
"""Octets of one frame, far more than a message has (`wire.MOST_ENTRY`, the largest thing that can't be cut)."""
MOST_FDS = 253
"""Files beside one frame (the kernel's SCM_MAX_FD)."""
_READ = 256 << 10
_LENGTH = struct.Struct(">I")
_FD = array.array("i").itemsize
_BESIDE = socket.CMSG_SPACE(MOST_FDS * _FD)
_AGAIN = 0.02
"""Seconds before a further try when too many sockets are under way for the kernel."""


class ChannelError(ConnectionError):
    """The other end is gone, or says what it may not say."""


class Channel(Generic[M]):
    """See the module. Takes the socket, which it closes; `decoder` is for what arrives here. Without `takes_files` the
    kernel closes files that arrive: the other end can't use up this process' own."""

    def __init__(
        self,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[M],
        most: int = MOST_FRAME,
        *,
        takes_files: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._decoder = decoder
        self._most = most
        self._room_beside = _BESIDE if takes_files else 0
        self._loop = asyncio.get_running_loop()
        self._arrived = bytearray()
        self._files: deque[list[int]] = deque()
        self._reading = False
        self._ended = ""
        self._more: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._start_reading()

    def __repr__(self) -> str:
        return f"<Channel fd={self._socket.fileno()} arrived={len(self._arrived)} ended={self._ended!r}>"

    async def send(self, frame: bytes, sockets: Sequence[socket.socket] = ()) -> None:
        """Send one message, sockets beside it; returns when the system has it. Raises ChannelError, ValueError.

        One that is cancelled halfway ends the channel: the other end could not tell where the next one begins.
        """
        if len(frame) > self._most or len(sockets) > MOST_FDS:
            raise ValueError(f"{len(frame)} octets and {len(sockets)} sockets are too much for one message")
        async with self._sending:
            left = memoryview(_LENGTH.pack(len(frame)) + frame)
            whole = len(left)
            try:
                while left:
                    sent = self._send_some(left, sockets)
                    if sent == 0:
                        await self._wait_for_room()
                    elif sent < 0:
                        await asyncio.sleep(_AGAIN)
                    else:
                        left, sockets = left[sent:], ()
            except asyncio.CancelledError:
                if len(left) < whole:
                    self._end("a message was broken off")
                raise

    async def receive(self) -> tuple[M, list[int]]:
        """The next message and the files beside it, which belong to the caller: fewer than its `count` when this
        process may not open that many. Raises ChannelError at the end."""
        while True:
            if (length := self._whole()) >= 0:
                break
            if self._ended:
                raise ChannelError(self._ended)
            self._start_reading()
            self._more = self._loop.create_future()
            await self._more
        end = _LENGTH.size + length
        try:
            message = self._decoder.decode(memoryview(self._arrived)[_LENGTH.size : end])
        except msgspec.MsgspecError as error:
            self._end(f"not a message: {error}")
            raise ChannelError(self._ended) from error
        del self._arrived[:end]
        files = self._files.popleft() if getattr(message, "count", 0) and self._files else []
        return message, files

    def close(self) -> None:
        """End it; files that came and were not taken are closed."""
        self._end("closed")
        while self._files:
            for fd in self._files.popleft():
                os.close(fd)
        self._socket.close()

    def _whole(self) -> int:
        """The length of the frame that is there as a whole; -1: none is."""
        if len(self._arrived) < _LENGTH.size:
            return -1
        length: int = _LENGTH.unpack_from(self._arrived)[0]
        if length > self._most:
            self._end(f"a message of {length} octets is too long")
            raise ChannelError(self._ended)
        return length if len(self._arrived) >= _LENGTH.size + length else -1

    def _send_some(self, left: memoryview, sockets: Sequence[socket.socket]) -> int:
        """How much the system took; 0: it has no room; -1: it takes no more sockets for the moment."""
        if self._ended:
            raise ChannelError(self._ended)
        beside = []
        if sockets:
            files = array.array("i", [sock.fileno() for sock in sockets])
            if min(files) < 0:
                raise ValueError("a socket was closed before it was sent")
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)]
        try:
            return self._socket.sendmsg([left], beside, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:
                return -1
            self._end(f"can't send: {error}")
            raise ChannelError(self._ended) from error

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _wake, self._room)
        try:
            await self._room
        finally:
            self._room = None
            if not self._ended:
                self._loop.remove_writer(self._socket.fileno())

    def _start_reading(self) -> None:
        if not self._reading and not self._ended:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._read)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _read(self) -> None:
        try:
            data, beside, flags, _ = self._socket.recvmsg(_READ, self._room_beside, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"can't receive: {error}")
            return
        # The kernel never gives files of two messages at once (unix_stream_read_generic): one list, one message.
        files = array.array("i")
        for level, kind, octets in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files.frombytes(octets[: len(octets) - len(octets) % _FD])
        if files or (self._room_beside and flags & socket.MSG_CTRUNC):
            self._files.append(list(files))
        if not data:
            self._end("the other end is gone")
            return
        self._arrived += data
        try:
            whole = self._whole() >= 0
        except ChannelError:
            return
        if whole:
            if len(self._arrived) >= _READ:  # the reader of messages is slower than the channel
                self._stop_reading()
            _wake(self._more)

    def _end(self, why: str) -> None:
        """No more messages; who waits is told so, after what has come as a whole."""
        if self._ended:
            return
        self._stop_reading()
        if self._room is not None:
            self._loop.remove_writer(self._socket.fileno())
        self._ended = why
        _wake(self._more)
        _wake(self._room)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
