"""Records that no entity of the catalog gives: those of virtual addresses, which a higher layer makes.

They are the zone `l4lb` of DC/OS' directory. Who makes them is known here by a protocol alone; what comes from
there can't become a wildcard, nor say anything of the zone itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol, TypeAlias

from mesos_dns.names import Record

Changed: TypeAlias = Callable[[list[Record], list[Record]], None]
"""Called with the records that have gone and those that have come."""


class ZoneExtra(Protocol):
    """Who has such records: A, AAAA and SRV, each of them once. Owners and SRV targets are relative to the zone.
    What belongs together is told as one change. All on the event loop's thread."""

    def records(self) -> Iterable[Record]:
        """Everything now."""

    def listen(self, callback: Changed) -> None:
        """Tell every change from now on."""

    def unlisten(self, callback: Changed) -> None:
        """Tell it no more; nothing where it was not told."""


class ExtraRecords:
    """Brings such records to one zone: what is there already by and by, what changes at once.

    `swap` is given what has gone from the zone and what has come. `refuse` is told the owners of records that the zone
    doesn't take, and why: they are at its apex, or at a wildcard, which would answer for names that are not there
    (RFC 4592), or they are services that point to these.
    """

    def __init__(self, extra: ZoneExtra, swap: Changed, refuse: Callable[[str, str], None]) -> None:
        self._extra = extra
        self._swap = swap
        self._refuse = refuse
        self._left = dict.fromkeys(extra.records())
        extra.listen(self._change)

    def fill(self, most: int) -> bool:
        """Bring so many of the records that were there at the beginning; whether there are more."""
        records = list(islice(self._left, most))
        for record in records:
            del self._left[record]
        self._bring([], records)
        return bool(self._left)

    def leave(self) -> None:
        """Bring nothing any more."""
        self._extra.unlisten(self._change)
        self._left.clear()

    def _change(self, old: list[Record], new: list[Record]) -> None:
        left = self._left
        self._bring([record for record in old if left.pop(record, self) is self], new)

    def _bring(self, old: list[Record], new: list[Record]) -> None:
        taken = []
        for record in new:
            if _is_usable(record):
                taken.append(record)
            else:
                self._refuse(record[0], "a virtual address named like a wildcard, or like its zone")
        self._swap([record for record in old if _is_usable(record)], taken)


def _is_usable(record: Record) -> bool:
    owner, _, rdata = record
    return _is_below(owner) and (not isinstance(rdata, tuple) or _is_below(rdata[1]))


def _is_below(name: str) -> bool:
    return bool(name) and not ("*" in name and "*" in name.split("."))
