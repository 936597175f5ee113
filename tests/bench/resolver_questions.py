"""The zone that the measured resolvers ask for, and the questions about it.

Every fifth name has three addresses, every third an IPv6 address. An alias leads to another alias and
that to a name. All names below `miss.` are there: each is a question that nobody has asked before.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.bench.dns_queries import Question

DOMAIN = "example"
TTL = 3600
"""Seconds, of all records and of what is not there (SOA minimum): longer than a measurement."""
ADDRESS = "192.0.2"


class Names:
    """`hosts` names with addresses; for each tenth of them an alias, and a name that is not there."""

    def __init__(self, hosts: int) -> None:
        self.hosts = [f"host-{number:05d}.site-{number % 50:02d}.{DOMAIN}." for number in range(hosts)]
        self.dual = self.hosts[::3]
        self.single = [name for number, name in enumerate(self.hosts) if number % 3]
        self.aliases = [f"alias-{number:05d}.{DOMAIN}." for number in range(max(1, hosts // 10))]
        self.absent = [f"nope-{number:05d}.{DOMAIN}." for number in range(max(1, hosts // 10))]

    def write_zone(self, path: Path) -> Path:
        """The zone as a master file (RFC 1035 §5)."""
        lines = [
            f"$TTL {TTL}",
            f"{DOMAIN}. SOA ns.{DOMAIN}. root.{DOMAIN}. 1 3600 600 86400 {TTL}",
            f"{DOMAIN}. NS ns.{DOMAIN}.",
            f"ns.{DOMAIN}. A 127.0.0.1",
            f"*.miss.{DOMAIN}. A {ADDRESS}.1",
        ]
        for number, name in enumerate(self.hosts):
            addresses = 3 if number % 5 == 0 else 1
            lines += [f"{name} A {ADDRESS}.{(number + place) % 250 + 1}" for place in range(addresses)]
        lines += [f"{name} AAAA 2001:db8::{number + 1:x}" for number, name in enumerate(self.dual)]
        for number, name in enumerate(self.aliases):
            middle = f"to-{number:05d}.{DOMAIN}."
            lines += [f"{name} CNAME {middle}", f"{middle} CNAME {self.hosts[number * 7 % len(self.hosts)]}"]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return path

    def every_question(self) -> list[Question]:
        """Each question of the mixes, once."""
        found = [(name, "A") for name in self.hosts + self.aliases + self.absent]
        return found + [(name, "AAAA") for name in self.hosts]

    def hits(self, count: int, seed: int = 2) -> list[Question]:
        """70 % A, 20 % AAAA, 10 % A of an alias; all of names that have them."""
        dice = random.Random(seed)
        found: list[Question] = []
        for _ in range(count):
            share = dice.random()
            if share < 0.7:
                found.append((dice.choice(self.hosts), "A"))
            elif share < 0.9:
                found.append((dice.choice(self.dual), "AAAA"))
            else:
                found.append((dice.choice(self.aliases), "A"))
        return found

    def mixed(self, count: int, seed: int = 1) -> list[Question]:
        """75 % as `hits`, 15 % AAAA of names that have none (NODATA), 10 % names that are not there."""
        dice = random.Random(seed)
        found = self.hits(count, seed + 10)
        for place in range(count):
            share = dice.random()
            if share < 0.15:
                found[place] = (dice.choice(self.single), "AAAA")
            elif share < 0.25:
                found[place] = (dice.choice(self.absent), "A")
        return found


def never_asked(number: int, count: int) -> list[Question]:
    """Names of their own for each `number`."""
    return [(f"new-{number}-{each:06d}.miss.{DOMAIN}.", "A") for each in range(count)]
