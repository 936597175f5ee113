"""GET /v1/records: the addresses and services of all zones that are served here, as dcos-net lists them.

One row a record, in pieces that never hold the event loop. Names are absolute, in lower case and without the dot at
their end. A zone's other names (`dclb`, `thisdcos.global`) are left out: they say the same again. Each zone is told as
it was when its turn came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from mesos_dns.api_lookup import address_text
from mesos_dns.api_shapes import RecordRow
from mesos_dns.api_stream import encode
from mesos_dns.contents import Contents, WireRecord
from mesos_dns.names import AAAA, SRV, A
from mesos_dns.served import Zone
from mesos_dns.sources.pace import Pace
from mesos_dns.wire import name_from_wire
from mesos_dns.zone import ZoneView


async def records(view: ZoneView) -> AsyncIterator[bytes]:
    """Pieces of one JSON list."""
    pace = Pace()
    start = b"["
    for zone in [zone for zone in view.zones.values() if not zone.alias]:
        for step in Contents(zone, view.serial).records():
            row = _row(zone, step) if step is not None else None
            if row is not None:
                yield start + encode(row)
                start = b","
            await pace.turn()
    yield b"[]" if start == b"[" else b"]"


def _row(zone: Zone, record: WireRecord) -> RecordRow | None:
    """A record's row; None for other types."""
    rdata = record.rdata
    if record.rtype in (A, AAAA):
        host, rtype = address_text(rdata), "A" if record.rtype == A else "AAAA"
    elif record.rtype == SRV:  # RFC 2782: priority, weight, port, target
        host, rtype = f"{name_from_wire(rdata[6:])}:{int.from_bytes(rdata[4:6], 'big')}", "SRV"
    else:
        return None
    return RecordRow(name_from_wire(record.owner + zone.wire), host, rtype)
