"""A netlink socket for many changes at a time, and netlink's attributes.

    with NetlinkSocket(NETLINK_ROUTE, "/run/netns/web") as kernel:
        errnos = kernel.batch([Message(RTM_NEWROUTE, NLM_F_CREATE, payload), ...])
        links = kernel.dump(RTM_GETLINK, bytes(16))

Many messages go in one send(); the kernel tells by its sequence number which one failed (linux/netlink.h, RFC 3549).
An answer that comes after its call was given up has a number that no later call looks for. Blocking; one call at a
time.

A plain socket: pyroute2's run an event loop for each request and cost 0.2 s to import.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

T = TypeVar("T")

NETLINK_ROUTE, NETLINK_GENERIC = 0, 16
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

TIMEOUT = 5.0
"""Seconds without an answer after which a call is given up."""
TRIES = 5
"""How often a dump is made again when what it reads has changed meanwhile."""
MOST_MESSAGES = 256
"""Messages in one send(): their answers fit into the receive buffer."""
MOST_BYTES = 64 << 10
"""Octets in one send(), well below the send buffer; a longer message goes alone."""

_HEADER = struct.Struct("=IHHII")
_HEADER_SIZE = _HEADER.size
_PADDING = (b"", bytes(3), bytes(2), bytes(1))
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_NOOP, _ERROR, _DONE, _OVERRUN = 1, 2, 3, 4
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_RECEIVE = int(socket.MSG_TRUNC)  # numbers: to combine the flags costs more than all else of a short answer
_RECEIVE_AT_ONCE = int(socket.MSG_TRUNC | socket.MSG_DONTWAIT)
_SOL_NETLINK, _CAP_ACK = 270, 10
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_CLONE_NEWNET = 0x40000000
_BUFFER = 256 << 10  # of recv(); a dump's messages come in pieces of 32 KiB at most
_SOCKET_BUFFER = 4 << 20
_SEQUENCES = 0xFFFFFFFF


class Message(NamedTuple):
    """One request; what `flags` needs to be one is added, `payload` is all after the header."""

    type: int
    flags: int
    payload: bytes


class Answer(NamedTuple):
    """One message from the kernel."""

    type: int
    flags: int
    sequence: int
    payload: bytes


def pack_attr(kind: int, value: bytes) -> bytes:
    """An attribute with its header and padding."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def pack_nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds packed attributes."""
    return pack_attr(kind | _NESTED, b"".join(attributes))


def each_attr(data: bytes) -> list[tuple[int, bytes]]:
    """The attributes in their order: type (without the flags for nesting and byte order) and value.

    Raises ValueError when one is cut off.
    """
    found: list[tuple[int, bytes]] = []
    offset, end = 0, len(data)
    head = _ATTRIBUTE.unpack_from
    while offset < end:
        if end - offset < 4:
            raise ValueError("netlink attribute is cut off")
        length, kind = head(data, offset)
        if length < 4 or length > end - offset:
            raise ValueError(f"netlink attribute {kind & _TYPE_MASK} says {length} octets, has {end - offset}")
        found.append((kind & _TYPE_MASK, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def unpack_attrs(data: bytes) -> dict[int, bytes]:
    """The attributes by type, the last of each. Raises ValueError when one is cut off."""
    return dict(each_attr(data))


def each_message(data: bytes) -> Iterator[Answer]:
    """The messages in what one recv() gave. Raises ValueError when one is cut off."""
    offset, end = 0, len(data)
    head, size = _HEADER.unpack_from, _HEADER_SIZE
    while offset < end:
        if end - offset < size:
            raise ValueError("netlink message is cut off")
        length, kind, flags, sequence, _ = head(data, offset)
        if length < size or length > end - offset:
            raise ValueError(f"netlink message says {length} octets, has {end - offset}")
        yield Answer(kind, flags, sequence, data[offset + size : offset + length])
        offset += (length + 3) & ~3


def in_namespace(netns: str, call: Callable[[], T]) -> T:
    """What `call` gives in the network namespace of this path ("": the process' own).

    It runs in a thread of its own that ends with it, so nothing else changes its namespace. Raises OSError: no such
    file, not a network namespace (EINVAL), no CAP_SYS_ADMIN (EPERM); and what `call` raises.
    """
    if not netns:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _enter(netns)
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="network-namespace", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class NetlinkSocket:
    """A socket of one netlink protocol, made in the network namespace of a path ("": the process' own).

    Raises OSError as `in_namespace` does, or when the kernel has no such protocol. `sent` counts messages.
    """

    def __init__(self, protocol: int, netns: str = "") -> None:
        self.sent = 0
        self._socket = in_namespace(netns, lambda: _opened(protocol))
        self._sequence = 0
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; again is no error."""
        self._socket.close()

    def batch(self, messages: Sequence[Message]) -> list[int]:
        """Do all of these in their order, whatever fails: an errno for each, 0: done.

        ENOBUFS: the answer was lost, so it is not known whether that one was done. Raises OSError when the kernel
        can't be asked, ETIMEDOUT when it says nothing for 5 s: an unknown number was done then.
        """
        errnos = [errno.ENOBUFS] * len(messages)
        start = size = 0
        for place, message in enumerate(messages):
            length = _HEADER_SIZE + len(message.payload) + 3
            if place > start and (size + length > MOST_BYTES or place - start == MOST_MESSAGES):
                self._send_some(messages[start:place], errnos, start)
                start, size = place, 0
            size += length
        if start < len(messages):
            self._send_some(messages[start:], errnos, start)
        return errnos

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        """Ask for one thing: the payloads of the answer, without its acknowledgement.

        Raises OSError with the kernel's errno; ETIMEDOUT after 5 s without an answer.
        """
        payloads: list[bytes] = []
        for answer in self._asked(Message(kind, flags | NLM_F_ACK, payload)):
            if answer.type == _ERROR:
                _raise_for(answer.payload)
                return payloads
            payloads.append(answer.payload)
        raise OSError(errno.ENOBUFS, "the kernel's answer was lost")

    def dump(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        """Ask for all of something: the payloads. When that changes meanwhile, or an answer is lost, it is read again,
        a few times.

        Raises OSError with the kernel's errno; EINTR when no try was whole, ETIMEDOUT after 5 s without an answer.
        """
        for _ in range(TRIES):
            payloads: list[bytes] = []
            whole = True
            for answer in self._asked(Message(kind, flags | NLM_F_DUMP, payload)):
                whole = whole and not answer.flags & NLM_F_DUMP_INTR
                if answer.type in (_ERROR, _DONE):
                    _raise_for(answer.payload)
                    if whole:
                        return payloads
                    break
                payloads.append(answer.payload)
        raise OSError(errno.EINTR, f"what the kernel dumps changed meanwhile, {TRIES} times")

    def _asked(self, message: Message) -> Iterator[Answer]:
        """Send one message; its answers. They end early when some were lost."""
        sequence = self._next_sequence()
        self._socket.send(_packed(message, sequence))
        self.sent += 1
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                received = self._receive(deadline)
            except OSError as error:
                self._drop_what_is_there()
                if error.errno != errno.ENOBUFS:
                    raise
                return
            for answer in received:
                if answer.sequence == sequence and answer.type not in (_NOOP, _OVERRUN):
                    deadline = time.monotonic() + TIMEOUT
                    yield answer

    def _send_some(self, messages: Sequence[Message], errnos: list[int], start: int) -> None:
        """Send what fits into one send() and put what comes of it into `errnos` from place `start`."""
        first, count = self._next_sequence(), len(messages)
        self._sequence = (first + count - 1) & _SEQUENCES
        last = count - 1
        parts: list[bytes] = []
        for place, (kind, flags, payload) in enumerate(messages):
            # The kernel answers what fails in any case, and all in order: the last acknowledgement is enough.
            flags |= NLM_F_REQUEST | NLM_F_ACK if place == last else NLM_F_REQUEST
            length = len(payload)
            parts += (
                _HEADER.pack(_HEADER_SIZE + length, kind, flags, (first + place) & _SEQUENCES, 0),
                payload,
                _PADDING[length & 3],
            )
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EMSGSIZE):
                raise
            errnos[start : start + count] = [error.errno] * count
            return
        self.sent += count
        self._collect(first, count, errnos, start)

    def _collect(self, first: int, count: int, errnos: list[int], start: int) -> None:
        """Read answers to `count` messages from sequence number `first` on, up to the last one's."""
        codes: dict[int, int] = {}
        deadline = time.monotonic() + TIMEOUT
        lost = False
        while count - 1 not in codes:
            try:
                # The kernel answers before send() ends. So after a loss whatever is not there will not come.
                received = self._receive(deadline, lost)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            for answer in received:
                place = (answer.sequence - first) & _SEQUENCES
                if place < count and answer.type == _ERROR:
                    codes[place] = _number(answer.payload)
                    deadline = time.monotonic() + TIMEOUT
        if not lost:
            errnos[start : start + count] = [0] * count
        for place, code in codes.items():
            errnos[start + place] = code

    def _receive(self, deadline: float, at_once: bool = False) -> Sequence[Answer]:
        """What one recv() gives. Raises OSError: ENOBUFS when something was lost, ETIMEDOUT, EBADMSG; BlockingIOError
        when it is to come at once and does not."""
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, "the kernel does not answer")
        flags = _RECEIVE_AT_ONCE if at_once else _RECEIVE
        try:
            length, sender = self._socket.recvfrom_into(self._buffer, 0, flags)
        except BlockingIOError:
            if at_once:
                raise
            raise OSError(errno.ETIMEDOUT, "the kernel does not answer") from None
        if _port(sender):
            return ()  # another process', not the kernel's
        if length > len(self._buffer):
            raise OSError(errno.EMSGSIZE, f"the kernel's answer of {length} octets is too long")
        try:
            return list(each_message(self._view[:length].tobytes()))
        except ValueError as error:
            raise OSError(errno.EBADMSG, str(error)) from None

    def _drop_what_is_there(self) -> None:
        """Read to the end what an aborted call left, so that the next dump is not told that one is under way."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            try:
                self._receive(deadline, at_once=True)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.ENOBUFS, errno.EBADMSG, errno.EMSGSIZE):
                    return  # it can't be read at all, as the next call will find out

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & _SEQUENCES
        return self._sequence


def _opened(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        opened.bind((0, 0))
        pause = struct.pack("@ll", int(TIMEOUT), int(TIMEOUT % 1 * 1e6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pause)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pause)
        for forced, asked in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                opened.setsockopt(socket.SOL_SOCKET, forced, _SOCKET_BUFFER)
            except PermissionError:
                opened.setsockopt(socket.SOL_SOCKET, asked, _SOCKET_BUFFER)  # the kernel takes less if need be
        with contextlib.suppress(OSError):  # Linux 4.2: an error does not come with the whole request
            opened.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
    except BaseException:
        opened.close()
        raise
    return opened


def _enter(netns: str) -> None:
    """Move this thread into a network namespace (os.setns is of Python 3.12)."""
    import ctypes

    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), netns)
    finally:
        os.close(descriptor)


def _packed(message: Message, sequence: int) -> bytes:
    kind, flags, payload = message
    length = _HEADER.size + len(payload)
    return _HEADER.pack(length, kind, flags | NLM_F_REQUEST, sequence, 0) + payload + bytes(-length % 4)


def _number(payload: bytes) -> int:
    """The errno of NLMSG_ERROR and NLMSG_DONE, 0: none. Raises OSError when it is not whole."""
    if len(payload) < _NUMBER.size:
        raise OSError(errno.EBADMSG, "the kernel's answer has no number")
    return abs(int(_NUMBER.unpack_from(payload)[0]))


def _raise_for(payload: bytes) -> None:
    code = _number(payload)
    if code:
        raise OSError(code, os.strerror(code))


def _port(sender: object) -> int:
    """The port of a netlink address; 0: the kernel."""
    return sender[0] if isinstance(sender, tuple) else 0
