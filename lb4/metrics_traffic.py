"""What goes through virtual IPs, as metrics: a line for each VIP in each family.

With ten thousand VIPs these are nearly all lines there are. So only their numbers are gathered, in slices; a sample is
made when it is read, which is done in a thread, and is gone once it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, cast

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from lb4.connections import ConnectionCounts
from lb4.services import ServiceKey, ServiceStats
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.model import canonical_address
from mesos_dns.sources.pace import Pace


class Family(NamedTuple):
    """A metric of each VIP; `name` as it is shown."""

    name: str
    kind: str
    text: str


FAMILIES = (
    Family("pharos_l4_vip_connections_total", "counter", "connections"),
    Family("pharos_l4_vip_received_packets_total", "counter", "packets from clients"),
    Family("pharos_l4_vip_sent_packets_total", "counter", "packets to clients"),
    Family("pharos_l4_vip_received_bytes_total", "counter", "octets from clients"),
    Family("pharos_l4_vip_sent_bytes_total", "counter", "octets to clients"),
    Family("pharos_l4_vip_active_connections", "gauge", "connections that are established"),
)
"""In the order of the numbers of a row."""

HANDSHAKES = Family(
    "pharos_l4_vip_handshakes_total",
    "counter",
    "connections that were made or whose handshake failed, by looks at the kernel's table",
)


class Row(NamedTuple):
    """Labels and numbers."""

    labels: dict[str, str]
    numbers: list[int]


async def traffic(
    table: VipTable, stats: Mapping[ServiceKey, ServiceStats], connections: ConnectionCounts | None
) -> list[Metric]:
    """What the data plane counts, by VIP; both families of a name together."""
    names = await _names(table)
    pace = Pace()
    rows: dict[VipKey, Row] = {}
    for key, each in list(stats.items()):
        await pace.turn()
        if (name := names.get(key.address)) is None:
            continue
        vip = VipKey(key.protocol, name, key.port)
        if (row := rows.get(vip)) is None:
            row = rows[vip] = Row(_labels(vip), [0] * len(FAMILIES))
        active = sum(backend.active for backend in each.backends.values())
        for place, value in enumerate(
            (each.connections, each.in_packets, each.out_packets, each.in_bytes, each.out_bytes, active)
        ):
            row.numbers[place] += value
    told = list(rows.values())
    found = [_metric(family, told, place) for place, family in enumerate(FAMILIES)]
    if connections is not None:
        found.append(_metric(HANDSHAKES, await _handshakes(connections, names), 0))
    return found


async def _handshakes(counts: ConnectionCounts, names: Mapping[str, str]) -> list[Row]:
    pace = Pace()
    rows: dict[tuple[VipKey, str], Row] = {}
    for result, counter in (("made", counts.made), ("failed", counts.failed)):
        for key, count in list(counter.items()):  # a thread counts meanwhile
            await pace.turn()
            if (name := names.get(key.address)) is None:
                continue
            vip = VipKey(key.protocol, name, key.port)
            row = rows.setdefault((vip, result), Row({**_labels(vip), "result": result}, [0]))
            row.numbers[0] += count
    return list(rows.values())


def _labels(vip: VipKey) -> dict[str, str]:
    return {"vip": vip.name, "protocol": vip.protocol, "port": str(vip.port)}


def _metric(family: Family, rows: Iterable[Row], place: int) -> Metric:
    metric = Metric(family.name.removesuffix("_total"), family.text, family.kind)
    metric.samples = cast("list[Sample]", _Samples(family.name, rows, place))
    return metric


class _Samples:
    """The samples of a family, each made when it is read."""

    def __init__(self, name: str, rows: Iterable[Row], place: int) -> None:
        self._name, self._rows, self._place = name, rows, place

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(self._name, row.labels, row.numbers[self._place]) for row in self._rows)


async def _names(table: VipTable) -> dict[str, str]:
    """Virtual address → the VIP's name, or the address itself."""
    pace = Pace()
    found: dict[str, str] = {}
    for key in list(table.keys()):
        await pace.turn()
        name = key.name
        if canonical_address(name):
            found[name] = name
        elif (address := table.address_of(name)) is not None:
            found.update((text, name) for text in (address.address, address.address6) if text)
    return found
