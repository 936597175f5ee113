"""Puts the rules of masquerade.py into the kernel by iptables and ip6tables, and keeps them there.

    firewall = Firewall()
    firewall.apply(ranges=["11.0.0.0/8", "fd01:c::/64"], fixed=["10.0.0.80"])

A table is written whole, and only where it is not as it was written. Of the tools (the one that the system prefers,
the one over nf_tables, the old one) the one is used that has our chains already, else the first that works.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import NamedTuple

from lb4 import routes_wire as wire
from lb4.masquerade import MOST_FIXED, TABLES, Found, Networks, family_of, parse, removal, rules, script
from lb4.netlink import NETLINK_ROUTE, NetlinkSocket, in_namespace
from mesos_dns.device import LOOPBACK

log = logging.getLogger(__name__)

VERSIONS = (4, 6)
WAIT = 5
"""Seconds to wait for another program that writes rules, by the tool itself."""
TIMEOUT = 30.0
"""Seconds after which a run of a tool is given up."""

Run = Callable[[Sequence[str], str], str]
"""Runs a program with this input; its output. Raises OSError with what it said.

Texts are of UTF-8; octets that are not (others' comments) are kept as lone surrogates, both ways.
"""


class _Written(NamedTuple):
    """What was wanted, and what the tool says of our chains since."""

    wanted: tuple[str, ...]
    found: tuple[str, ...]


class Firewall:
    """Rules of both families in the network namespace of the path `netns` ("": this one). Blocks; one call at a
    time. `written` counts tables that were written; `left_out` is how many of the fixed addresses now have no rules,
    as there are more than MOST_FIXED of their family."""

    def __init__(self, netns: str = "", run: Run | None = None) -> None:
        self.written = 0
        self.left_out = 0
        self._netns = netns
        self._run = run or run_program
        self._tools: dict[int, str] = {}
        self._written: dict[tuple[int, str], _Written] = {}
        self._said: Mapping[int, str] = {}
        self._crowded: Set[int] = frozenset()

    def apply(self, ranges: Sequence[str], fixed: Iterable[str] = ()) -> dict[int, str]:
        """The rules are there for virtual addresses in `ranges` and for those in `fixed`; the reasons of families (4
        or 6) for which they are not, or not all. That is said once. Never raises.
        """
        singles = list(fixed)
        failures: dict[int, str] = {}
        crowded: dict[int, str] = {}
        left_out = 0
        for version in VERSIONS:
            try:
                addresses = family_of(version, ranges, singles)
            except ValueError as error:
                failures[version] = str(error)
                continue
            left_out += addresses.left_out
            if addresses.left_out:
                crowded[version] = f"{addresses.left_out} fixed addresses beyond {MOST_FIXED} have no rules"
            try:
                desired = rules(self._networks(version) if addresses.texts else Networks(), addresses.texts)
                in_namespace(self._netns, partial(self._settle, version, desired))
            except (OSError, ValueError) as error:
                if addresses.texts:
                    failures[version] = getattr(error, "strerror", None) or str(error)
        self.left_out = left_out
        self._say(failures, crowded)
        return crowded | failures

    def _say(self, failures: Mapping[int, str], crowded: Mapping[int, str]) -> None:
        """Log what was not so the last time."""
        for version, reason in failures.items():
            if self._said.get(version) != reason:
                log.warning(
                    "firewall rules not set, so clients on a backend's own network and those that docker's policy "
                    "shuts out don't reach virtual addresses family=IPv%d reason=%s",
                    version,
                    reason,
                )
        for version in crowded.keys() - self._crowded:
            log.warning(
                "firewall rules not set for some virtual addresses, which clients on a backend's own network and those "
                "that docker's policy shuts out don't reach family=IPv%d reason=%s",
                version,
                crowded[version],
            )
        self._said, self._crowded = failures, crowded.keys()

    def remove_all(self) -> None:
        """Nothing of ours is left, with any tool. Raises OSError when something may be."""
        self._written.clear()
        in_namespace(self._netns, self._remove)

    def _remove(self) -> None:
        failed: OSError | None = None
        for version in VERSIONS:
            for tool in _tools(version):
                for table in TABLES:
                    try:
                        text = removal(table, self._saved(tool, table))
                    except OSError:
                        continue  # no such tool here, or no such table in the kernel
                    try:
                        if text:
                            self._restore(tool, text)
                    except OSError as error:
                        failed = error
        if failed is not None:
            raise failed

    # --- in the namespace -------------------------------------------------------------------------

    def _settle(self, version: int, desired: dict[str, list[str]]) -> None:
        tool = self._tools.get(version) or self._chosen(version)
        if tool:
            self._settle_with(tool, version, desired)
            return
        failed = OSError(f"no {_tools(version)[0]}")
        for each in _tools(version):
            try:
                self._settle_with(each, version, desired)
            except FileNotFoundError:
                continue
            except OSError as error:
                failed = error
                continue
            self._tools[version] = each
            return
        raise failed

    def _chosen(self, version: int) -> str:
        """The tool whose table has a chain of ours."""
        for tool in _tools(version):
            try:
                if self._saved(tool, "nat").chains:
                    self._tools[version] = tool
                    return tool
            except OSError:
                continue
        return ""

    def _settle_with(self, tool: str, version: int, desired: dict[str, list[str]]) -> None:
        for table in TABLES:
            wanted = tuple(desired[table])
            found = self._saved(tool, table)
            if not wanted:
                text = removal(table, found)
            else:
                text = script(table, wanted, found, self._written.get((version, table)) == (wanted, found.ours))
            if text:
                self._restore(tool, text)
                self.written += 1
                self._written[version, table] = _Written(wanted, self._saved(tool, table).ours)
                log.info("firewall rules written tool=%s table=%s rules=%d", tool, table, len(wanted))

    def _saved(self, tool: str, table: str) -> Found:
        return parse(table, self._run([f"{tool}-save", "-t", table], ""))

    def _restore(self, tool: str, text: str) -> None:
        self._run([f"{tool}-restore", "--noflush", "-w", str(WAIT)], text)

    # --- what is around ---------------------------------------------------------------------------

    def _networks(self, version: int) -> Networks:
        with NetlinkSocket(NETLINK_ROUTE, self._netns) as kernel:
            return networks(kernel, version)


def networks(kernel: NetlinkSocket, version: int) -> Networks:
    """What the socket's namespace is connected to. Raises OSError."""
    family = wire.FAMILIES[version == 6]
    try:
        names = {
            link.number: link.name
            for link in map(wire.parse_link, kernel.dump(wire.RTM_GETLINK, wire.ask_links()))
            if link.name != LOOPBACK
        }
        held = map(wire.parse_address, kernel.dump(wire.RTM_GETADDR, wire.ask_addresses(family)))
        # A kernel without IPv6 gives the addresses of IPv4 instead.
        usable = [each for each in held if each.is_usable and (":" in each.address) == (version == 6)]
        found = {(names[each.device], each.network) for each in usable if each.device in names and each.network}
        ways = kernel.dump(wire.RTM_GETROUTE, wire.ask_routes(family))
        defaults = [wire.parse_route(each) for each in ways if wire.is_default(each)]
    except ValueError as error:
        raise OSError(f"the kernel's answer is not understood: {error}") from error
    uplinks = {names[device] for route in defaults for device in route.devices if device in names}
    return Networks(tuple(sorted(found)), tuple(sorted(uplinks)))


def run_program(command: Sequence[str], text: str) -> str:
    """See `Run`. It runs in the network namespace of the thread that calls."""
    try:
        octets = text.encode("utf-8", "surrogateescape")
        done = subprocess.run(command, input=octets, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} takes more than {TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[:500]
        raise OSError(f"{command[0]} failed: {said or f'exit status {done.returncode}'}")
    return done.stdout.decode("utf-8", "surrogateescape")


def _tools(version: int) -> tuple[str, ...]:
    name = "iptables" if version == 4 else "ip6tables"
    return (name, f"{name}-nft", f"{name}-legacy")
