"""The firewall rules that virtual addresses need, decided here: masquerading and its exceptions, as text.

They do three things, for connections to virtual addresses alone:

- Where replies would not come back through this node, a connection gets the node's address: client and backend are
  on the same network (or are the same), or both are beyond the node's default route. Backends see all other clients
  by their own address.
- Port mappings of containers (DNAT of packets to local addresses) leave virtual addresses alone.
- Replies are let through where forwarding is forbidden, as Docker does by its policy.

The rules know such a connection by the address that it was made to, which connection tracking remembers; IPVS takes
part in that where net.ipv4.vs.conntrack is 1. All are in chains of our own, to which the kernel's chains jump.
`firewall.py` puts them there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

TABLES = ("nat", "filter")
MOST_FIXED = 1024
"""Virtual addresses outside the ranges that get rules."""

TO_VIPS, FROM_VIPS, FORWARDED = "PHAROS-L4-TO", "PHAROS-L4", "PHAROS-L4"
SOURCES = "PHAROS-L4-SRC"

_DEVICE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")  # a "+" at its end would be a wild card


class Networks(NamedTuple):
    """What a namespace is connected to, of one family: networks of its devices, and the devices of default routes.

    `networks` are pairs of a device's name and a network's text.
    """

    networks: tuple[tuple[str, str], ...] = ()
    uplinks: tuple[str, ...] = ()


class Jump(NamedTuple):
    """A rule of one of the kernel's chains that leads to one of ours. `first`: it is to stand before all others."""

    chain: str
    target: str
    first: bool

    @property
    def rule(self) -> str:
        """Without its command."""
        return f"{self.chain} -j {self.target}"


JUMPS: Mapping[str, tuple[Jump, ...]] = {
    "nat": (
        Jump("PREROUTING", TO_VIPS, True),
        Jump("OUTPUT", TO_VIPS, True),
        Jump("POSTROUTING", FROM_VIPS, True),
    ),
    # A policy that others want to be asked first (DOCKER-USER) may stand before it.
    "filter": (Jump("FORWARD", FORWARDED, False),),
}
OURS: Mapping[str, tuple[str, ...]] = {"nat": (TO_VIPS, FROM_VIPS, SOURCES), "filter": (FORWARDED,)}
"""Our chains."""


def rules(connected: Networks, addresses: Sequence[str]) -> dict[str, list[str]]:
    """The rules of each table, without their command (`-A`). `addresses`: networks and single virtual addresses of
    one family, as `family_of` gives them."""
    if not addresses:
        return {table: [] for table in TABLES}
    return {
        "nat": [
            *(f"{TO_VIPS} -d {each} -m addrtype --dst-type LOCAL -j ACCEPT" for each in addresses),
            f"{FROM_VIPS} -o lo -j RETURN",
            *(f"{FROM_VIPS} -m conntrack --ctorigdst {each} -j {SOURCES}" for each in addresses),
            # A program that is bound to the virtual address, or had no better one.
            *(f"{SOURCES} -s {each} -j MASQUERADE" for each in addresses),
            f"{SOURCES} -m addrtype --src-type LOCAL -j RETURN",
            *_by_network(connected),
        ],
        "filter": [
            f"{FORWARDED} -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY --ctorigdst {each} -j ACCEPT"
            for each in addresses
        ],
    }


def _by_network(connected: Networks) -> list[str]:
    """Rules about connections of others, by where they come from and leave to."""
    every = dict.fromkeys(network for _, network in connected.networks)
    behind = dict.fromkeys(network for device, network in connected.networks if device not in connected.uplinks)
    return [
        *(f"{SOURCES} -s {each} -d {each} -j MASQUERADE" for each in every),
        *(f"{SOURCES} -s {each} -j RETURN" for each in behind),
        *(f"{SOURCES} -o {each} -j MASQUERADE" for each in dict.fromkeys(connected.uplinks) if _DEVICE.fullmatch(each)),
    ]


class Addresses(NamedTuple):
    """Networks and single addresses of one family, as rules name them. `left_out`: single ones beyond MOST_FIXED."""

    texts: list[str]
    left_out: int = 0


def family_of(version: int, ranges: Iterable[str], fixed: Iterable[str]) -> Addresses:
    """The networks and, sorted, the single addresses of one family that no network has in it: of these not more than
    MOST_FIXED, the lowest. Raises ValueError."""
    networks = [ipaddress.ip_network(each) for each in ranges]
    networks = [each for each in networks if each.version == version]
    singles = {ipaddress.ip_address(each) for each in fixed}
    outside = [each for each in singles if each.version == version and not any(each in network for network in networks)]
    outside.sort(key=int)
    length = 32 if version == 4 else 128
    texts = [*(str(each) for each in networks), *(f"{each}/{length}" for each in outside[:MOST_FIXED])]
    return Addresses(texts, max(0, len(outside) - MOST_FIXED))


class Found(NamedTuple):
    """What a table has, of iptables-save: our chains' rules without their command, and of each chain of the kernel's
    that we jump from all rules in their order."""

    chains: frozenset[str]
    ours: tuple[str, ...]
    kernel: Mapping[str, tuple[str, ...]]


def parse(table: str, saved: str) -> Found:
    """A table from the output of iptables-save."""
    declared, ours = [], []
    kernel: dict[str, list[str]] = {jump.chain: [] for jump in JUMPS[table]}
    for line in saved.split("\n"):  # not `splitlines`: a comment may have what counts as the end of a line there
        if line.startswith(":"):
            declared.append(line[1:].split(" ", 1)[0])
        elif line.startswith("-A "):
            chain = line.split(" ", 2)[1]
            if chain in OURS[table]:
                ours.append(line[3:])
            elif chain in kernel:
                kernel[chain].append(line[3:])
    return Found(
        frozenset(declared).intersection(OURS[table]),
        tuple(ours),
        {chain: tuple(lines) for chain, lines in kernel.items()},
    )


def script(table: str, wanted: Sequence[str], found: Found, is_as_written: bool) -> str:
    """What iptables-restore --noflush is to read so that a table is as wanted; "": nothing. It is done as a whole.

    `is_as_written`: our chains are what they were after the last time that these rules were written (the tool
    prints rules in its own way, so they can't be compared with those wanted).
    """
    jumps = _jumps(table, found)
    if is_as_written and not jumps:
        return ""
    # To declare a chain of ours is to empty it.
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in OURS[table]), *(f"-A {each}" for each in wanted), *jumps]
    return "\n".join([*lines, "COMMIT", ""])


def _jumps(table: str, found: Found) -> list[str]:
    lines = []
    for jump in JUMPS[table]:
        present = found.kernel.get(jump.chain, ())
        count = present.count(jump.rule)
        if count == 1 and (not jump.first or present[0] == jump.rule):
            continue
        lines += [f"-D {jump.rule}"] * count
        lines.append(f"-I {jump.chain} 1 -j {jump.target}")
    return lines


def removal(table: str, found: Found) -> str:
    """What iptables-restore --noflush is to read so that nothing of ours is left; "": there is nothing."""
    drops = [
        f"-D {jump.rule}" for jump in JUMPS[table] for rule in found.kernel.get(jump.chain, ()) if rule == jump.rule
    ]
    chains = [chain for chain in OURS[table] if chain in found.chains]
    if not drops and not chains:
        return ""
    emptied = [f":{chain} - [0:0]" for chain in chains]
    return "\n".join([f"*{table}", *emptied, *drops, *(f"-X {chain}" for chain in chains), "COMMIT", ""])
