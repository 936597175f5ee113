"""Whole-table answers of the API, made in slices: pieces of JSON that never hold the event loop.

Each function is an asynchronous iterator over pieces of one JSON document. Work is measured by the
clock, and the loop gets a turn every few milliseconds, whatever the table's size. What is told is
the state at the beginning; a change that comes meanwhile may or may not be in it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Container, Iterable, Iterator
from typing import TypeAlias

import msgspec

from mesos_dns.api_lookup import address_text
from mesos_dns.api_shapes import EnumeratedRecord, EnumeratedTask, TaskPort, TaskRow
from mesos_dns.catalog import Catalog
from mesos_dns.model import Framework, Key, Labels, Node, StaticRecords, Task
from mesos_dns.names import AAAA, SRV, A, Rdata, Record, TaskPlace, task_addresses
from mesos_dns.records import fold
from mesos_dns.sources.pace import Pace
from mesos_dns.wire import IllegalName, name_from_wire, name_to_wire
from mesos_dns.zone import ZoneView

PIECE_BYTES = 1 << 16

_TYPES = {A: "A", AAAA: "AAAA", SRV: "SRV"}

Told: TypeAlias = bytes | str
"""A packed address, or the TARGET:PORT of an SRV record: as a text it is no work for the collector."""

_Held: TypeAlias = Told | dict[Told, bool]

_SHARDS = 64


def encode(value: object) -> bytes:
    """JSON; texts with lone surrogates, which UTF-8 can't carry, as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()


async def gather(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of a size that is worth a write."""
    piece = bytearray()
    async for part in parts:
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


# --- /v1/enumerate --------------------------------------------------------------------------------


async def enumerated(view: ZoneView) -> AsyncIterator[bytes]:
    """Frameworks, their running tasks, and the records of each (mesos-dns' Enumeration).

    As in mesos-dns, a record is listed once: at the first task that gives it.
    """
    pace = Pace()
    by_framework: dict[Key, list[TaskPlace]] = {}
    frameworks = view.frameworks()
    for place in view.places():
        key = ("framework", place.task.cluster, place.task.framework_id)
        by_framework.setdefault(key, []).append(place)
        await pace.turn()
    if not frameworks:
        yield b'{"frameworks":null}'
        return
    seen = _Seen()
    for record in view.cluster_records():
        seen.first(record)
        await pace.turn()
    start = b'{"frameworks":['
    for framework in frameworks:
        yield start + b'{"tasks":['
        start = b","
        between = b""
        for place in by_framework.pop(framework.key, ()):
            yield between + encode(_enumerated_task(view, place, seen))
            between = b","
            await pace.turn()
        yield b'],"name":' + encode(framework.name) + b"}"
    yield b"]}"
    for shard in seen.shards:  # to free a million of numbers at once would hold the loop
        shard.clear()
        await pace.turn()


class _Seen:
    """Records that were met, by their hashes: the records themselves would be some hundred megabytes.
    In shards, as one set of a million would hold the loop each time it grows."""

    def __init__(self) -> None:
        self.shards: list[set[int]] = [set() for _ in range(_SHARDS)]

    def first(self, record: Record) -> bool:
        """True when the record was not met before."""
        known = hash(record)
        shard = self.shards[known % _SHARDS]
        if known in shard:
            return False
        shard.add(known)
        return True


def _enumerated_task(view: ZoneView, place: TaskPlace, seen: _Seen) -> EnumeratedTask:
    suffix = f".{view.domain.origin}."
    records = []
    for record in view.task_records(place):
        if seen.first(record):
            owner, rtype, rdata = record
            records.append(EnumeratedRecord(owner + suffix, _host(rdata, suffix), _TYPES[rtype]))
    return EnumeratedTask(place.task.name, place.task.id, records or None)


def _host(rdata: Rdata, suffix: str) -> str:
    """An address, or TARGET:PORT."""
    return address_text(rdata) if isinstance(rdata, bytes) else f"{rdata[1]}{suffix}:{rdata[0]}"


# --- /v1/axfr -------------------------------------------------------------------------------------


class Owners:
    """Record sets of one type by owner as written, in `shards`: one dict of a million would hold the
    loop each time it grows.

    Most owners have one record of a fit task: it is kept bare. Nothing but the few dicts is tracked
    by the garbage collector, which would go through millions of tuples in one long pass.
    """

    def __init__(self) -> None:
        self.shards: list[dict[str, _Held]] = [{} for _ in range(_SHARDS)]

    def add(self, owner: str, value: Told, fit: bool) -> None:
        """Put a record in."""
        shard = self.shards[hash(owner) % _SHARDS]
        held = shard.get(owner)
        if held is None:
            shard[owner] = value if fit else {value: False}
        elif isinstance(held, dict):
            held[value] = held.get(value, False) or fit
        elif held != value:
            shard[owner] = {held: True, value: fit}

    def items(self) -> Iterator[tuple[str, list[Told]]]:
        """Owners and what is served of each: its fit records, or all when none is fit."""
        for shard in self.shards:
            for owner, held in shard.items():
                yield owner, _served(held)

    def take(self) -> Iterator[tuple[str, list[Told]]]:
        """The same, and each is forgotten as soon as it was told."""
        for shard in self.shards:
            while shard:
                owner, held = shard.popitem()
                yield owner, _served(held)


def _served(held: _Held) -> list[Told]:
    if isinstance(held, dict):
        return [value for value, fit in held.items() if fit] or list(held)
    return [held]


async def transferred(view: ZoneView, catalog: Catalog) -> AsyncIterator[bytes]:
    """The cluster's zone: its SOA's facts and all A, AAAA and SRV records (mesos-dns' AXFR).

    Owners are absolute and in the case they were written in. Records that DNS leaves out because
    their tasks are unhealthy are left out here too.
    """
    zone = view.domain
    head = {
        "TTL": zone.ttl,
        "Serial": view.serial,
        "RefreshSeconds": view.config.soa_refresh,
        "Mname": f"{zone.mname}.",
        "Rname": f"{zone.rname}.",
        "Domain": zone.origin,
    }
    pace = Pace()
    owners = await collected(view, catalog, pace)
    suffix = f".{zone.origin}."
    yield encode(head)[:-1]
    start = b',"Records":{'
    for rtype, name in ((A, "As"), (AAAA, "AAAAs"), (SRV, "SRVs")):
        yield start + encode(name) + b":{"
        start = b","
        between = b""
        for owner, served in owners.pop(rtype).take():
            texts = sorted([address_text(v) if isinstance(v, bytes) else v for v in served])
            yield between + encode(owner + suffix) + b":" + encode(texts)
            between = b","
            await pace.turn()
        yield b"}"
    yield b"}}"


async def collected(
    view: ZoneView, catalog: Catalog, pace: Pace, wanted: Container[str] | None = None
) -> dict[int, Owners]:
    """All records of the cluster's zone by type and owner, or those of the `wanted` folded owners."""
    found = {A: Owners(), AAAA: Owners(), SRV: Owners()}
    suffix = f".{view.domain.origin}."

    def add(records: Iterable[Record], fit: bool) -> None:
        for owner, rtype, rdata in records:
            if wanted is None or fold(owner) in wanted:
                found[rtype].add(owner, _told(rtype, rdata, suffix), fit)

    for record in view.cluster_records():
        add((record,), True)
        await pace.turn()
    add(_name_server_records(view), True)
    for entity in catalog.entities("records"):
        if isinstance(entity, StaticRecords) and entity.rtype in found:
            add(_static_records(view, entity), True)
        await pace.turn()
    for place in view.places():
        add(view.task_records(place), view.fit(place))
        await pace.turn()
    return found


def _name_server_records(view: ZoneView) -> list[Record]:
    """The address records of the SOA's primary name server, where it lies in the zone."""
    owner = view.rules.name_server
    if not owner:
        return []
    zone = view.domain
    return [(owner, rtype, rdata) for rtype in (A, AAAA) for rdata in zone.store.rrset(fold(owner), rtype)]


def _static_records(view: ZoneView, entity: StaticRecords) -> list[Record]:
    """Records of a file that were put into the cluster's zone."""
    zone = view.domain
    try:
        wire = name_to_wire(fold(entity.owner))
    except IllegalName:
        return []
    if view.find(wire) is not zone:
        return []
    return [(view.relative(wire, zone), entity.rtype, rdata) for rdata in entity.rdata]


def _told(rtype: int, rdata: Rdata, suffix: str) -> Told:
    """An address as it is, an SRV record as TARGET:PORT (rdata of files is in wire form)."""
    if not isinstance(rdata, bytes):
        return _host(rdata, suffix)
    if rtype == SRV:
        return f"{name_from_wire(rdata[6:])}.:{int.from_bytes(rdata[4:6], 'big')}"
    return rdata


# --- /v1/tasks ------------------------------------------------------------------------------------


class TaskFilter(msgspec.Struct, frozen=True):
    """Which tasks are wanted; an empty text means any. `limit` 0 means all."""

    app: str = ""
    framework: str = ""
    state: str = ""
    limit: int = 0
    offset: int = 0

    def fits(self, task: Task, framework: str) -> bool:
        """`app` is a task name, a discovery name or Marathon's id: it names tasks of /prod/db "db.prod"."""
        if self.app:
            marathon = ".".join(reversed(self.app.strip("/").split("/")))
            if not {self.app, marathon} & {task.name, task.discovery_name, task.id}:
                return False
        if self.framework and self.framework not in (framework, task.framework_id):
            return False
        return not self.state or self.state.upper().removeprefix("TASK_") == task.state.removeprefix("TASK_")


async def tasks(view: ZoneView, catalog: Catalog, wanted: TaskFilter) -> AsyncIterator[bytes]:
    """A list of task rows, in the catalog's order."""
    pace = Pace()
    start, number = b"[", 0
    last = wanted.offset + wanted.limit if wanted.limit else None
    for entity in catalog.entities("task"):
        await pace.turn()
        if not isinstance(entity, Task):
            continue
        framework = catalog.get(("framework", entity.cluster, entity.framework_id))
        name = framework.name if isinstance(framework, Framework) else ""
        if not wanted.fits(entity, name):
            continue
        if number >= wanted.offset:
            yield start + encode(task_row(view, catalog, entity, name))
            start = b","
        number += 1
        if last is not None and number >= last:
            break
    yield b"[]" if start == b"[" else b"]"


def task_row(view: ZoneView, catalog: Catalog, task: Task, framework: str) -> TaskRow:
    """What the API tells of one task."""
    node = catalog.get(("node", task.cluster, task.node_id))
    host, at = (node.hostname, node.addresses) if isinstance(node, Node) else ("", ())
    return TaskRow(
        cluster=task.cluster,
        framework=framework,
        framework_id=task.framework_id,
        id=task.id,
        name=task.name,
        state=task.state,
        health=task.health,
        node_id=task.node_id,
        host=host,
        addresses=list(task_addresses(TaskPlace(task, framework, at), view.rules)),
        ports=list(task.host_ports),
        discovery_name=task.discovery_name,
        discovery_ports=[TaskPort(p.number, p.name, p.protocol, _labels(p.labels)) for p in task.ports],
        labels=_labels(task.labels),
        start_time=task.start_time,
    )


def _labels(labels: Labels | Iterable[tuple[str, str]]) -> dict[str, str]:
    return dict(labels)
