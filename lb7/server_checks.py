"""Checks of the servers of clusters from the parent process: from what a cluster says to the checks that run, and back.

    checks = ServerChecks(changed)
    checks.keep("/app:10000", cluster)      # from now on as this says; None: no more
    checks.marked(cluster)                  # the same with `down` on servers that fail
    await checks.close()

A port of an address that several clusters check in one way is checked once. A server is up until its checks have failed
`fall` times in a row, and so is one that was not checked yet, that can't be checked from here, or that no check is for.
It stays what it is while its cluster changes and it is checked as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from lb7.table import Cluster, Server, ServerCheck
from mesos_dns.checked import LONGEST, MOST_IN_A_ROW, SHORTEST, BackendKey, Checked
from mesos_dns.checks import Checks, CheckStatus
from mesos_dns.model import VipCheck
from mesos_dns.probe import Result


class ServerChecks:
    """See the module. `changed` is told the names of clusters with servers that went down or came up, together for one
    turn of the loop; a failing server that is new in a cluster is down in `marked` at once."""

    def __init__(self, changed: Callable[[frozenset[str]], None]) -> None:
        self._changed = changed
        self._checks = Checks(self._tell)
        self._wanted: dict[str, frozenset[Checked]] = {}
        self._clusters: dict[Checked, set[str]] = {}

    def __repr__(self) -> str:
        return f"<ServerChecks clusters={len(self._wanted)} checks={self._checks!r}>"

    @property
    def checked(self) -> int:
        """How many different checks of servers run."""
        return len(self._checks)

    @property
    def down(self) -> int:
        """How many of them fail now."""
        return len(self._checks.failing)

    @property
    def results(self) -> Counter[tuple[str, Result]]:
        """How many checks ended how, by type and result."""
        return self._checks.results

    def status(self) -> list[CheckStatus]:
        """All that are checked, by address and port."""
        return self._checks.status()

    def keep(self, name: str, cluster: Cluster | None) -> None:
        """Check a cluster's servers as it says from now on; None: no more."""
        new = frozenset(_checks_of(cluster)) if cluster is not None else frozenset()
        old = self._wanted.get(name, frozenset())
        if new:
            self._wanted[name] = new
        else:
            self._wanted.pop(name, None)
        for checked in new - old:
            self._clusters.setdefault(checked, set()).add(name)
            self._checks.add(checked)
        for checked in old - new:
            clusters = self._clusters[checked]
            clusters.discard(name)
            if not clusters:
                del self._clusters[checked]
                self._checks.drop(checked)

    def marked(self, cluster: Cluster) -> Cluster:
        """The cluster with `down` as checks have it now; itself where that is so already."""
        if cluster.check is None:
            down = [False] * len(cluster.servers)
        else:
            check = _sound(cluster.check)
            down = [self._checks.is_failing(_checked(server, check)) for server in cluster.servers]
        if down == [server.down for server in cluster.servers]:
            return cluster
        servers = zip(cluster.servers, down, strict=True)
        return msgspec.structs.replace(
            cluster, servers=tuple(msgspec.structs.replace(server, down=value) for server, value in servers)
        )

    async def close(self) -> None:
        """End all checks."""
        self._wanted.clear()
        self._clusters.clear()
        await self._checks.close()

    def _tell(self, changed: frozenset[Checked]) -> None:
        names = frozenset(name for checked in changed for name in self._clusters.get(checked, ()))
        if names:
            self._changed(names)


def _checks_of(cluster: Cluster) -> list[Checked]:
    if cluster.check is None:
        return []
    check = _sound(cluster.check)
    return [_checked(server, check) for server in cluster.servers]


def _checked(server: Server, check: VipCheck) -> Checked:
    return Checked(BackendKey(server.address, server.check_port or server.port), check)


def _sound(check: ServerCheck) -> VipCheck:
    """The check with numbers that can be carried out: an app's definition has no such limits."""
    return VipCheck(
        type=check.type,
        path=check.path if check.type == "http" else "/",
        interval=min(max(check.interval, SHORTEST), LONGEST),
        timeout=min(max(check.timeout, SHORTEST), LONGEST),
        fall=min(max(check.fall, 1), MOST_IN_A_ROW),
        rise=min(max(check.rise, 1), MOST_IN_A_ROW),
    )
