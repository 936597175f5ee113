"""The zone of the DNS measurements as the other servers load it, and the questions that are asked about it.

The zone is Pharos' own /v1/axfr, written as a master file: all servers have the same record sets.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dns.rdatatype
import msgspec

from tests.bench.dns_cluster import FRAMEWORK

Question = tuple[str, str]
"""(name with its trailing dot, type)."""

_OPT_1232 = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


class Zone(msgspec.Struct):
    """The names that questions are made of.

    `groups` are names of apps, `tasks` those of single tasks, `dual` those of either that have IPv6
    addresses, `services` names of SRV records.
    """

    origin: str
    groups: list[str]
    tasks: list[str]
    dual: list[str]
    services: list[str]
    record_sets: int
    records: int


def read_zone(axfr: dict[str, Any]) -> Zone:
    """The names in an answer of /v1/axfr."""
    held = axfr["Records"]
    origin = f"{axfr['Domain']}."
    end = f".{FRAMEWORK}.{origin}"
    services = sorted(name for name in held["SRVs"] if name.endswith(end) and name.startswith("_"))
    apps = {name.removeprefix("_").replace("._tcp.", ".", 1) for name in services if name.count("_") == 2}
    owners = sorted(name for name in held["As"] if name.endswith(end))
    groups = [name for name in owners if name in apps]
    tasks = [name for name in owners if name not in apps]
    dual = [name for name in owners if name in held["AAAAs"]]
    sets = [records for kind in ("As", "AAAAs", "SRVs") for records in held[kind].values()]
    return Zone(origin, groups, tasks, dual, services, len(sets), sum(map(len, sets)))


def write_master_file(axfr: dict[str, Any], path: Path) -> None:
    """The zone as a master file (RFC 1035 §5)."""
    origin = f"{axfr['Domain']}."
    facts = f"{axfr['Mname']} {axfr['Rname']} {axfr['Serial']} {axfr['RefreshSeconds']} 600 86400 {axfr['TTL']}"
    with path.open("w", encoding="ascii") as file:
        file.write(f"$TTL {axfr['TTL']}\n{origin} SOA {facts}\n{origin} NS {axfr['Mname']}\n")
        for kind, rtype in (("As", "A"), ("AAAAs", "AAAA")):
            for owner, addresses in axfr["Records"][kind].items():
                for address in addresses:
                    file.write(f"{owner} {rtype} {address}\n")
        for owner, targets in axfr["Records"]["SRVs"].items():
            for text in targets:
                target, _, port = text.rpartition(":")
                file.write(f"{owner} SRV 0 1 {port} {target.rstrip('.')}.\n")


def every_question(zone: Zone) -> list[Question]:
    """Each name of the zone that the mixes ask for, once with each of its types."""
    found = [(name, "A") for name in zone.groups + zone.tasks]
    found += [(name, "AAAA") for name in zone.dual]
    return found + [(name, "SRV") for name in zone.services]


def mixed(zone: Zone, count: int, seed: int = 1) -> list[Question]:
    """50 % A, 15 % AAAA, 20 % SRV, 15 % names that are not there; half of the names are apps', half tasks'.

    A name that is asked for AAAA may have none: that is answered NODATA.
    """
    dice = random.Random(seed)
    found: list[Question] = []
    for _ in range(count):
        share = dice.random()
        if share < 0.65:
            name = dice.choice(zone.groups if dice.random() < 0.5 else zone.tasks)
            found.append((name, "A" if share < 0.5 else "AAAA"))
        elif share < 0.85:
            found.append((dice.choice(zone.services), "SRV"))
        else:
            found.append((f"nope-{dice.randrange(10**6):06d}.{FRAMEWORK}.{zone.origin}", "A"))
    return found


def hits(zone: Zone, count: int, seed: int = 2) -> list[Question]:
    """60 % A, 20 % AAAA, 20 % SRV, of names that have them."""
    dice = random.Random(seed)
    found: list[Question] = []
    for _ in range(count):
        share = dice.random()
        if share < 0.6:
            found.append((dice.choice(zone.groups if dice.random() < 0.5 else zone.tasks), "A"))
        elif share < 0.8 and zone.dual:
            found.append((dice.choice(zone.dual), "AAAA"))
        else:
            found.append((dice.choice(zone.services), "SRV"))
    return found


def plain(questions: Iterable[Question]) -> list[bytes]:
    """Messages without EDNS, names as they are."""
    return [_message(name, rtype, b"") for name, rtype in questions]


def edns_0x20(questions: Iterable[Question], seed: int = 3) -> list[bytes]:
    """Messages with EDNS, 1,232 octets, and letters of random case."""
    dice = random.Random(seed)
    return [
        _message("".join([char.upper() if dice.random() < 0.5 else char for char in name]), rtype, _OPT_1232)
        for name, rtype in questions
    ]


def _message(name: str, rtype: str, options: bytes) -> bytes:
    wire = b"".join([bytes([len(part)]) + part.encode("ascii") for part in name.rstrip(".").split(".")])
    head = struct.pack(">6H", 0, 0x0100, 1, 0, 0, 1 if options else 0)
    return head + wire + b"\0" + struct.pack(">2H", dns.rdatatype.from_text(rtype), 1) + options


def write_queries(messages: Sequence[bytes], path: Path) -> Path:
    """The load generator's file: each message behind its length."""
    path.write_bytes(b"".join([struct.pack("<H", len(message)) + message for message in messages]))
    return path
