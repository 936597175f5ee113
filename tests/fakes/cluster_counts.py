"""What workers tell of clusters, as `lb7._balance.grown_of` has it, and what it means."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import cast

from lb7._balance import Cluster, Tally
from lb7.settings import Settings
from lb7.table import Cluster as Spec
from lb7.wire import Counts, Value


def words() -> dict[str, Value]:
    """All counters of a cluster, in their order, as they are at the beginning."""
    return cast("dict[str, Value]", Cluster(Spec("", "", 0), Settings(), 0.0).counts_dict())


def grown(counts: Mapping[str, Value]) -> bytes:
    """How a worker tells that these have grown by so much; a list may lack zeros at its end."""
    bits, place, packed = 0, 0, b""
    for word, zero in words().items():
        value = counts.get(word, zero)
        more = value if isinstance(value, list) else [value]
        for at, number in enumerate(more):
            if number:
                bits |= 1 << place + at
                packed += struct.pack("d" if word == "latency_sum" else "Q", number)
        place += len(zero) if isinstance(zero, list) else 1
    return struct.pack("Q", bits) + packed


def read(told: bytes) -> Counts:
    """What grew."""
    tally = Tally()
    tally.add(told)
    return cast("Counts", tally.counts_dict())
