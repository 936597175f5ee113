"""Records of virtual addresses for a zone view, as a test says them."""

from __future__ import annotations

from collections.abc import Iterable

from mesos_dns.names import Record
from mesos_dns.zone_extra import Changed


class Extra:
    """A `ZoneExtra` of `now`; `swap` changes that and tells its listeners."""

    def __init__(self, *records: Record) -> None:
        self.now = list(records)
        self.listeners: list[Changed] = []

    def records(self) -> Iterable[Record]:
        return tuple(self.now)

    def listen(self, callback: Changed) -> None:
        self.listeners.append(callback)

    def unlisten(self, callback: Changed) -> None:
        if callback in self.listeners:
            self.listeners.remove(callback)

    def swap(self, old: list[Record], new: list[Record]) -> None:
        self.now = [record for record in self.now if record not in old] + new
        for listener in tuple(self.listeners):
            listener(old, new)
