"""A kernel's end of a netlink socket: answers what is sent to it at once, or loses answers when it is told to."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable

from lb4.netlink import NLM_F_ACK, NLM_F_DUMP, Answer, each_message

ERROR, DONE = 2, 3
HEADER = struct.Struct("=IHHII")
LOST = -1
"""An item of `queue` that stands for answers that did not fit."""

Reply = int | list[bytes]
"""An errno (0: done), or the payloads of an answer."""


def message(kind: int, sequence: int, payload: bytes, flags: int = 0) -> bytes:
    """What recv() gives for one message."""
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, flags, sequence, 4321) + payload + bytes(-length % 4)


def acknowledgement(sequence: int, code: int = 0) -> bytes:
    """NLMSG_ERROR as with NETLINK_CAP_ACK: the number and the header that it is about."""
    return message(ERROR, sequence, struct.pack("=i", -code) + HEADER.pack(16, 0, 0, sequence, 0), 0x100)


class KernelSocket:
    """Stands for socket.socket(AF_NETLINK). `answer` says what comes of a request; `sends` has what each send() held,
    `queue` what recv() gives next. A recv() with an empty queue times out."""

    def __init__(self, answer: Callable[[Answer], Reply]) -> None:
        self.answer = answer
        self.sends: list[list[Answer]] = []
        self.queue: deque[bytes | int] = deque()
        self.from_port: dict[bytes, int] = {}
        self.room = 1 << 30
        self.send_errors: deque[int] = deque()
        self.dump_flags: deque[int] = deque()
        self.closed = False

    def send(self, data: bytes) -> int:
        """Answers all messages before it returns, as netlink_rcv_skb() does."""
        if self.send_errors and (code := self.send_errors.popleft()):
            raise OSError(code, os.strerror(code))
        asked = list(each_message(data))
        self.sends.append(asked)
        for request in asked:
            reply = self.answer(request)
            for octets in self._reply(request, reply):
                self._put(octets)
        return len(data)

    def recvfrom_into(self, buffer: bytearray, size: int, flags: int) -> tuple[int, tuple[int, int]]:
        """The next of the queue."""
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        item = self.queue.popleft()
        if isinstance(item, int):
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        fits = min(len(item), len(buffer))
        buffer[:fits] = item[:fits]
        return len(item), (self.from_port.get(item, 0), 0)

    def close(self) -> None:
        """Noted."""
        self.closed = True

    def _put(self, octets: bytes) -> None:
        if len(self.queue) < self.room:
            self.queue.append(octets)
        elif LOST not in self.queue:
            self.queue.appendleft(LOST)  # the error comes before what is there, as from sk_err

    def _reply(self, request: Answer, reply: Reply) -> list[bytes]:
        sequence = request.sequence
        if isinstance(reply, int):
            return [acknowledgement(sequence, reply)] if reply or request.flags & NLM_F_ACK else []
        if request.flags & NLM_F_DUMP == NLM_F_DUMP:
            flags = 0x2 | (self.dump_flags.popleft() if self.dump_flags else 0)
            parts = [message(request.type, sequence, payload, flags) for payload in reply]
            return [b"".join(parts[:2]), *parts[2:], message(DONE, sequence, bytes(4), flags)]
        there = [message(request.type, sequence, payload) for payload in reply]
        return [*there, acknowledgement(sequence)] if request.flags & NLM_F_ACK else there
