"""Tell secondaries that a zone has changed (NOTIFY, RFC 1996), until they answer.

Serials are looked at a few times a second, so a hundred changes in a second are one message. Each server is
told of each zone at most once per `notify_interval`, always of the version of that moment. A server that says
nothing, or no, is asked again after a wait that doubles; after some tries it is left alone until the next
change, and a server that is away for long hears one try a minute.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
from collections import Counter
from collections.abc import Callable

from mesos_dns.config import DnsConfig, host_port, host_port_text
from mesos_dns.forward import exchange_udp
from mesos_dns.message import AA, IN
from mesos_dns.names import SOA
from mesos_dns.served import Zone
from mesos_dns.transfer import ready, serial_of
from mesos_dns.zone import ZoneView

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two looks at the serials."""
REPLY = 3.0
"""Seconds that an answer may take."""
LONGEST_WAIT = 60.0
"""Seconds between two tries at most (RFC 1996 §3.6)."""
TRIES = 5
"""Tries for one version of a zone (RFC 1996 §3.6)."""
AT_ONCE = 64
"""Messages that wait for their answers at once."""

_NOTIFY = 4
_HEADER = struct.Struct(">HHHHHH").pack
_RR = struct.Struct(">HHIH").pack

Server = tuple[str, int]


class _Told:
    """What one server knows of one zone. `due`: the loop's time before which it hears nothing."""

    __slots__ = ("asking", "due", "failures", "serial")

    def __init__(self) -> None:
        self.serial: int | None = None
        self.due = 0.0
        self.failures = 0
        self.asking = False


class Secondaries:
    """See the module. `view` gives the zones; counts are by what came of each message."""

    def __init__(self, config: DnsConfig, view: Callable[[], ZoneView], counters: Counter[str]) -> None:
        self._servers = [host_port(text, 53) for text in config.notify]
        self._interval = float(config.notify_interval)
        self._view = view
        self._counters = counters
        self._told: dict[tuple[Server, bytes], _Told] = {}
        self._asking = 0

    async def run(self) -> None:
        """Tell of every zone now, and of every change from then on."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._look(group)
                await asyncio.sleep(LOOK)

    def _look(self, group: asyncio.TaskGroup) -> None:
        view, now = self._view(), asyncio.get_running_loop().time()
        for zone in list(view.zones.values()):
            if not zone.notified or not ready(zone, view):
                continue
            serial = serial_of(zone.soa(view.serial))
            for server in self._servers:
                told = self._told.setdefault((server, zone.wire), _Told())
                if told.serial == serial or told.asking or now < told.due or self._asking >= AT_ONCE:
                    continue
                told.asking = True
                self._asking += 1
                group.create_task(self._tell(server, zone, view, told))
        for key in [key for key in self._told if key[1] not in view.zones]:
            del self._told[key]

    async def _tell(self, server: Server, zone: Zone, view: ZoneView, told: _Told) -> None:
        clock = asyncio.get_running_loop().time
        soa = zone.soa(view.serial)
        began = clock()
        try:
            result = await _ask(notification(zone, soa), server)
        except Exception:
            result = "failed"
            log.exception("a fault of ours in a NOTIFY zone=%s", zone.origin)
        finally:
            told.asking = False
            self._asking -= 1
        self._counters[result] += 1
        if result == "answered":
            told.serial, told.failures, told.due = serial_of(soa), 0, began + self._interval
            return
        told.failures += 1
        told.due = clock() + min(2.0 ** (told.failures - 1), LONGEST_WAIT)
        if told.failures % TRIES == 0:
            told.serial = serial_of(soa)
            who = host_port_text(*server)
            log.warning("secondary not told of a change server=%s zone=%s reason=%s", who, zone.origin, result)


def notification(zone: Zone, soa: bytes) -> bytes:
    """A NOTIFY of a zone with a random id, and the new SOA rdata as a hint (RFC 1996 §3.7)."""
    head = _HEADER(secrets.randbits(16), _NOTIFY << 11 | AA, 1, 1, 0, 0)
    question = zone.wire + struct.pack(">HH", SOA, IN)
    return head + question + b"\xc0\x0c" + _RR(SOA, IN, zone.ttl_of("", SOA), len(soa)) + soa


async def _ask(packet: bytes, server: Server) -> str:
    """What comes of one message, by a socket with a random port of its own."""
    try:
        async with asyncio.timeout(REPLY):
            reply = await exchange_udp(packet, server)
    except TimeoutError:
        return "timeout"
    except OSError:
        return "unreachable"
    return "answered" if reply[2] >> 3 & 15 == _NOTIFY and not reply[3] & 15 else "refused"
