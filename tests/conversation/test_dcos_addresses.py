"""Addresses of named VIPs as recorded from dcos-net: its hash, and what its allocation gave in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lb4.addresses import AddressRange, address_range, network_range
from lb4.allocations import Book, Shard, encode
from lb4.allotment import Allotment, applied
from lb4.phash2 import phash2

FAMILIES = {"inet": 4, "inet6": 6}
CODE_DEFAULT = ("11.0.0.0", "11.255.255.254")
NOW = 1_700_000_000


def cases(folder: Path, name: str) -> list[Any]:
    found = json.loads((folder / "dcos-net" / name).read_text())["cases"]
    assert found
    return list(found)


def test_the_hash(truth: Path) -> None:
    wrong = [
        (text, limit)
        for text, limit, value in cases(truth, "phash2_vectors.json")
        if phash2(text.encode(), limit) != value
    ]
    assert wrong == []


def ranges_of(given: dict[str, Any]) -> dict[int, AddressRange]:
    first, last = given.get("min", CODE_DEFAULT[0]), given.get("max", CODE_DEFAULT[1])
    return {4: address_range(first, last), 6: network_range("fd01:c::/64", 6)}


def allot(book: Book, name: str, version: int) -> bool:
    """Allocate as names arrive one by one; False when none is left."""
    wanted = {entry.name: frozenset({4, 6}) for entry in book} | {name: frozenset({version})}
    allotment = Allotment(book, wanted, NOW)
    allotment.place(name)
    for number, changes in allotment.finish().items():
        entries, _ = applied(book.shards[number], changes, wanted, NOW)
        book.replace(number, Shard(encode(entries.values()), 0, entries))
    return not allotment.without


def test_what_names_get_in_their_order(truth: Path) -> None:
    for case in cases(truth, "vip_alloc.json"):
        book = Book(ranges_of(case["input"]))
        rows = {(row["family"], row["label"], row["framework"]): row for row in case["expected"] or ()}
        for family, label, framework in case["input"]["names"]:
            row = rows.get((family, label, framework))
            # The recorded name is the DNS form, which is what the hash is of. Where dcos-net gives up, so do
            # we, but only for the names for which there is no address.
            name = row["name"] if row else f"{label.strip('/')}.{framework}"
            got = allot(book, name, FAMILIES[family])
            if row is None:
                assert case["reference_error"], case["case"]
                continue
            entry = book.entry(name, FAMILIES[family])
            assert got, (case["case"], name)
            assert entry is not None
            assert entry.address == row["ip"], (case["case"], name)
