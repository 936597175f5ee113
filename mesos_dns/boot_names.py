"""How the hosts of masters, ZooKeeper and servers get their addresses, also while this node's own DNS is not yet there.

Where this node resolves names for its programs, its resolv.conf points at Pharos, and the system's resolver
would ask the very process that is about to start. So with `[resolver]` a name's addresses come from, in this order,

1. itself, when it is an address;
2. the hosts file, and for localhost and what ends in .localhost the loopback addresses (RFC 6761 §6.3);
3. the upstreams, A and AAAA. A name is asked for as it stands: search domains are never appended, a name
   without a dot is asked for without one;
4. the last known addresses, which are kept in `state_dir`/hosts.json.

Names inside the zones that Pharos answers itself skip step 3: no upstream knows them, and Pharos learns
them from the very hosts that they name. Without `[resolver]` the system's resolver stands for steps 2 and 3.

When a look-up failed after SLOW seconds or more, names with last known addresses are not asked for in the next
QUIET seconds: dead upstreams must not hold up a thousand names that are known. `Hosts` asks again soon, as what it
gets is `Remembered`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mesos_dns.config import DnsConfig
from mesos_dns.hosts import Remembered, Resolve, system_resolve
from mesos_dns.hosts_file import HostsFile, folded
from mesos_dns.model import canonical_address
from mesos_dns.remembered_hosts import RememberedHosts

log = logging.getLogger(__name__)

LIMIT = 4.0
"""Seconds that the system's resolver or the upstreams may take: less than `hosts.LIMIT`, which counts step 4 in."""

SLOW, QUIET = 1.0, 5.0
"""Seconds; see the module."""

MAX_COMPLAINTS = 1000
"""Names that are complained about at a time."""

_LOOPBACK = ("127.0.0.1", "::1")
_OWN = ("zk", "thisnode", "spartan", "thisdcos.global")


def own_zones(dns: DnsConfig, cluster_key: str = "") -> tuple[str, ...]:
    """The zones whose names Pharos answers from what it knows of the cluster; `cluster_key` is `[resolver]`'s.

    DC/OS' directory counts as a whole, since all that is in it is answered here.
    """
    directory = (dns.directory,) if dns.directory else ()
    keyed = (f"{cluster_key}.dcos.directory",) if cluster_key else ()
    return tuple(folded(zone) for zone in (dns.domain, *directory, *keyed, *_OWN))


def circular_zone(host: str, own: Iterable[str], forwarded: Iterable[str] = ()) -> str:
    """The own zone that a host's name lies in, "" when there is none or the name is an address.

    `forwarded` are zones that have servers of their own: the longest suffix wins, and an own zone where both are equal.
    """
    if canonical_address(host):
        return ""
    name = folded(host)
    zone = max((zone for zone in own if _inside(name, folded(zone))), key=len, default="")
    beyond = max((len(zone) for zone in forwarded if _inside(name, folded(zone))), default=0)
    return zone if beyond <= len(zone) else ""


def _inside(name: str, zone: str) -> bool:
    return f".{name}".endswith(f".{zone}")


class BootNames:
    """See the module. `resolve` is what `Hosts` and ZooKeeper sessions take; one for the whole process.

    At first it asks the system; `use_upstreams` and `use_system` say otherwise, at any time. counters: where
    answers came from (hosts_file, system, upstreams, remembered), and how many names had none (failed).
    """

    def __init__(self, path: Path, hosts_file: HostsFile | None = None) -> None:
        self.remembered = RememberedHosts(path)
        self.counters: Counter[str] = Counter()
        self._file = hosts_file or HostsFile()
        self._system = True
        self._upstreams: Resolve | None = None
        self._own: tuple[str, ...] = ()
        self._forwarded: tuple[str, ...] = ()
        self._quiet_until = 0.0
        self._complained: set[str] = set()

    def use_system(self) -> None:
        """Ask the system's resolver: `[resolver]` is off."""
        self._system, self._upstreams, self._own, self._forwarded = True, None, (), ()
        self._quiet_until = 0.0

    def use_upstreams(self, upstreams: Resolve | None, own: Iterable[str] = (), forwarded: Iterable[str] = ()) -> None:
        """Ask upstreams (None: there are none) and never the system: `[resolver]` is on.

        `own` and `forwarded`: see `circular_zone`.
        """
        self._system, self._upstreams, self._own, self._forwarded = False, upstreams, tuple(own), tuple(forwarded)
        self._quiet_until = 0.0

    async def resolve(self, name: str) -> tuple[str, ...]:
        """The canonical addresses of a host, `Remembered` ones if they are old. Raises OSError when there are none."""
        if address := canonical_address(name):
            return (address,)
        key = folded(name)
        if not self._system and (here := await self._local(key)):
            self.counters["hosts_file"] += 1
            return here
        try:
            found = await self._ask(key)
        except (OSError, UnicodeError) as error:
            return self._last_known(key, str(error) or type(error).__name__)
        if not found:
            return self._last_known(key, "the name has no address")
        self.counters["system" if self._system else "upstreams"] += 1
        self._complained.discard(key)
        self.remembered.note(key, found)
        return found

    async def _local(self, key: str) -> tuple[str, ...]:
        found = await self._file.lookup(key)
        return found or (_LOOPBACK if _inside(key, "localhost") else ())

    async def _ask(self, key: str) -> tuple[str, ...]:
        """The addresses of a name by steps 2 and 3. Raises OSError, UnicodeError."""
        if zone := circular_zone(key, self._own, self._forwarded):
            raise OSError(
                f"it lies in {zone}, which this node answers from what this very host has yet to tell: "
                "configure its addresses, or a name that the upstreams know"
            )
        resolve = system_resolve if self._system else self._upstreams
        if resolve is None:
            raise OSError("there is no upstream to ask")
        if time.monotonic() < self._quiet_until and self.remembered.get(key):
            raise OSError("others could not be looked up a moment ago")
        began = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT):
                return await resolve(key)
        except OSError as error:
            if time.monotonic() - began >= SLOW:
                self._quiet_until = time.monotonic() + QUIET
            raise OSError(str(error) or "no answer came in time") from None

    def _last_known(self, key: str, reason: str) -> Remembered:
        found = self.remembered.get(key)
        if key not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(key)
            told = (
                f"using its last known addresses {','.join(found)}" if found else "and no address of it is remembered"
            )
            log.warning("a host name can't be looked up, %s host=%s reason=%s", told, key, reason)
        if not found:
            self.counters["failed"] += 1
            raise OSError(f"{key}: {reason}")
        self.counters["remembered"] += 1
        return Remembered(found)
