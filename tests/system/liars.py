"""A machine of name servers that lie or break off, one way on each port, in threads of the test's own process."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.system.inside import socket_in

LIE = "203.0.113.66"
"""What no client must ever be told."""
FIRST_PORT = 5301

Way = Callable[[bytes], list[bytes]]
"""A question → the packets that are sent for it."""


def lie(question: bytes, name: str = "", rcode: int = 0) -> bytes:
    """The false address, as a well-formed answer to this question; or to another `name`; or an error."""
    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    if not rcode:
        owner = name or query.question[0].name
        reply.answer.append(dns.rrset.from_text(owner, 60, "IN", "A", LIE))
    if name:
        reply.question = dns.message.make_query(name, query.question[0].rdtype).question
    return reply.to_wire()


def wrong_id(question: bytes) -> list[bytes]:
    """Many answers, each with another id than that of the question."""
    right = int.from_bytes(question[:2], "big")
    return [((right + step) & 0xFFFF).to_bytes(2, "big") + lie(question)[2:] for step in range(1, 30)]


def no_reply_bit(question: bytes) -> list[bytes]:
    """The lie, said as a question."""
    packet = bytearray(lie(question))
    packet[2] &= 0x7F
    return [bytes(packet)]


def truncated(question: bytes) -> list[bytes]:
    """The lie with TC; what comes by TCP is broken."""
    packet = bytearray(lie(question))
    packet[2] |= 0x02
    return [bytes(packet)]


def no_records(question: bytes) -> list[bytes]:
    """A header that promises more than there is."""
    packet = bytearray(lie(question))
    packet[6:8] = b"\x00\x09"
    return [bytes(packet)]


def pointer_loop(question: bytes) -> list[bytes]:
    """An answer whose owner name points at itself."""
    head = bytearray(question[:12])
    head[2], head[3] = 0x81, 0x80
    head[4:12] = struct.pack("!4H", 1, 1, 0, 0)
    body = question[12 : question.index(b"\0", 12) + 5]
    at = 12 + len(body)
    return [bytes(head) + body + struct.pack("!HHHIH", 0xC000 | at, 1, 1, 60, 4) + socket.inet_aton(LIE)]


WAYS: dict[str, Way] = {
    "wrong-id": wrong_id,
    "wrong-question": lambda question: [lie(question, "other.example.")],
    "no-question": lambda question: [question[:2] + b"\x81\x80\0\0\0\1\0\0\0\0" + lie(question)[-16:]],
    "no-reply-bit": no_reply_bit,
    "other-port": lambda question: [lie(question)],
    "servfail": lambda question: [lie(question, rcode=2)],
    "refused": lambda question: [lie(question, rcode=5)],
    "truncated": truncated,
    "short": lambda question: [lie(question)[:-3]],
    "no-records": no_records,
    "pointer-loop": pointer_loop,
    "garbage": lambda question: [b"", b"\xff", question[:2] + b"\xff" * 40, b"\x81\x80" * 300],
    "silent": lambda question: [],
}
"""Every way by its name."""


class Liars:
    """Their servers; `asked` counts address questions for each way and transport."""

    def __init__(self, space: str, host: str) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self._space, self._host = space, host
        self._selector = selectors.DefaultSelector()
        self._elsewhere = self._socket(socket.SOCK_DGRAM, 0)
        self._stopped = threading.Event()
        for number, way in enumerate(WAYS):
            port = FIRST_PORT + number
            self._selector.register(self._socket(socket.SOCK_DGRAM, port), selectors.EVENT_READ, (way, "udp"))
            server = self._socket(socket.SOCK_STREAM, port)
            server.listen(64)
            self._selector.register(server, selectors.EVENT_READ, (way, "tcp"))
        self._thread = threading.Thread(target=self._serve, name="liars")
        self._thread.start()

    def address(self, way: str) -> str:
        """HOST:PORT of the one that lies in this way."""
        return f"{self._host}:{FIRST_PORT + list(WAYS).index(way)}"

    def close(self) -> None:
        """End all."""
        self._stopped.set()
        self._thread.join(20)
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._elsewhere.close()

    def _socket(self, kind: int, port: int) -> socket.socket:
        sock = socket_in(self._space, socket.AF_INET, kind)
        sock.bind((self._host, port))
        return sock

    def _serve(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.1):
                sock, (way, transport) = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                with contextlib.suppress(OSError):
                    if transport == "udp":
                        self._by_udp(sock, way)
                    else:
                        self._by_tcp(sock, way)

    def _by_udp(self, sock: socket.socket, way: str) -> None:
        question, client = sock.recvfrom(65535)
        self._count(question, way, "udp")
        source = self._elsewhere if way == "other-port" else sock
        for packet in WAYS[way](question):
            source.sendto(packet, client)

    def _by_tcp(self, server: socket.socket, way: str) -> None:
        """One connection: a question, a part of an answer, the end."""
        connection, _ = server.accept()
        with connection:
            connection.settimeout(2)
            size = int.from_bytes(connection.recv(2), "big")
            question = connection.recv(size)
            self._count(question, way, "tcp")
            packets = [lie(question)] if way in ("truncated", "other-port") else WAYS[way](question)
            for packet in packets:
                cut = len(packet) - 5 if way in ("truncated", "other-port") else len(packet)
                connection.sendall(len(packet).to_bytes(2, "big") + packet[:cut])

    def _count(self, question: bytes, way: str, transport: str) -> None:
        if dns.message.from_wire(question).question[0].rdtype == dns.rdatatype.A:
            self.asked[way, transport] += 1


@contextlib.contextmanager
def liars(space: str, host: str) -> Iterator[Liars]:
    """Such servers in a namespace, at an address of it."""
    made = Liars(space, host)
    try:
        yield made
    finally:
        made.close()
