"""The sampled query log: one line for one question in so many, by every transport and path."""

from __future__ import annotations

import logging
import socket

from mesos_dns.counters import TYPE_NAMES
from mesos_dns.message import question_end
from mesos_dns.wire import name_from_wire

log = logging.getLogger(__name__)


class QueryLog:
    """Logs every n-th question that it is told of. Workers count their own and tell only the n-th."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._since = 0

    def seen(self, packet: bytes, transport: str, client: bytes, reply: bytes) -> None:
        """A question that was answered here."""
        self._since += 1
        if self._since >= self._every:
            self._since = 0
            log_query(packet, transport, client, reply[3] & 15)


def log_query(packet: bytes, transport: str, client: bytes, rcode: int) -> None:
    """One line; a packet without a readable question has none."""
    end = question_end(packet) if len(packet) >= 12 else 0
    if not end:
        return
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(client))
    rtype = int.from_bytes(packet[end - 4 : end - 2], "big")
    log.info(
        "query client=%s transport=%s name=%r type=%s rcode=%d",
        socket.inet_ntop(family, client) if family is not None else "",
        transport,
        name_from_wire(packet[12 : end - 4]),
        TYPE_NAMES.get(rtype, str(rtype)),
        rcode,
    )
