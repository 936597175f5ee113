"""A worker's own form of the route table: native clusters and tables of rules, changed as deltas say.

A delta is applied in an order in which no request meets half of it: clusters first, then the rules that name them, then
what is gone. A request reads the rules of one host and one cluster, each of which is replaced whole; so a large delta
may be done in slices, between which requests are served.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import TypeAlias

from lb7._balance import Cluster
from lb7._lookup import Table
from lb7.settings import Settings
from lb7.table import Cluster as Spec
from lb7.table import HostKey, HostRules, Listener, TableDelta

Pause: TypeAlias = Callable[[], Awaitable[None]]

SLICE = 0.01
"""Seconds that a delta may hold the loop at once."""
MOST_RETIRING = 10_000
"""Clusters that are gone and still have requests; of more the last requests are not counted."""


class Tables:
    """See the module. `fault(key, text)` hears of what can't be applied; the rest of its delta is. `held(name)` is
    called when requests for a cluster begin to be held."""

    def __init__(
        self, settings: Settings, fault: Callable[[str, str], None], held: Callable[[str], None] = lambda name: None
    ) -> None:
        self.settings = settings
        self._held = held
        self.listeners: dict[str, Listener] = {}
        self.hosts: dict[HostKey, HostRules] = {}
        self.clusters: dict[str, Cluster] = {}
        self.retiring: list[Cluster] = []
        self._tables: dict[str, Table] = {}
        self._users: dict[str, set[HostKey]] = {}
        self._by_table: dict[str, dict[str, Listener]] = {}
        self._fault = fault
        self.renewed = False
        """Whether tables or clusters became other objects by the same names; who has looked sets it back."""

    def __repr__(self) -> str:
        return f"<Tables listeners={len(self.listeners)} hosts={len(self.hosts)} clusters={len(self.clusters)}>"

    def table(self, name: str) -> Table:
        """The rules by a table's name; empty ones where none are there yet."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = self._new_table(name)
        return found

    def find(self, name: str) -> Table | None:
        """The same where there are any."""
        return self._tables.get(name)

    async def apply(self, delta: TableDelta, pause: Pause) -> None:
        """Carry it out; `pause` is awaited whenever it has held the loop for long. One at a time."""
        await _in_slices(self._steps(delta), pause)

    async def configure(self, settings: Settings, pause: Pause) -> None:
        """Go by other settings from now on: clusters begin anew; requests that the old ones have end there, at the
        servers of then. Whoever holds tables must look at once, as `renewed` says."""
        self.settings = settings
        await _in_slices(self._anew(), pause)

    def counting(self) -> list[Cluster]:
        """All that count, to be read now. Those that are gone and have no more requests are among them once more."""
        found = [*self.clusters.values(), *self.retiring]
        self.retired()
        return found

    def named(self, names: Collection[str]) -> list[Cluster]:
        """Those of these names, also of those that are gone but for their last requests."""
        found = [self.clusters[name] for name in names if name in self.clusters]
        return found + [cluster for cluster in self.retiring if cluster.name in names]

    def retired(self) -> None:
        """Forget those that are gone and have no more requests."""
        busy = [cluster for cluster in self.retiring if cluster.active]
        for cluster in [cluster for cluster in self.retiring if not cluster.active] + busy[:-MOST_RETIRING]:
            cluster.close()
        self.retiring = busy[-MOST_RETIRING:]

    def _steps(self, delta: TableDelta) -> Iterator[None]:
        came: dict[HostKey, None] = {}
        left = {self.listeners[name].table for name in delta.listeners.keys() & self.listeners.keys()}
        for name, spec in delta.clusters.items():
            if spec is not None and self._put_cluster(name, spec):
                came |= dict.fromkeys(self._users.get(name, ()))
            yield
        yield from self._change_listeners(delta)
        for key, rules in ({key: self.hosts[key] for key in came} | delta.hosts).items():
            if rules is not None:
                self._put_host(key, rules)
            yield
        for key, rules in delta.hosts.items():
            if rules is None:
                self._drop_host(key)
                yield
        for name, spec in delta.clusters.items():
            if spec is None and (cluster := self.clusters.pop(name, None)) is not None:
                self.retiring.append(cluster)
                for former in self.retiring:  # those of other settings too: requests may wait there for servers
                    if former.name == name:
                        former.close()
                for key in list(self._users.get(name, ())):  # rules that still name it, which they should not
                    self._put_host(key, self.hosts[key])
                yield
        self._drop_tables(left | {key[0] for key, rules in delta.hosts.items() if rules is None})

    def _change_listeners(self, delta: TableDelta) -> Iterator[None]:
        """What a table is looked up by may change how its names are compared."""
        for name, listener in delta.listeners.items():
            if (before := self.listeners.pop(name, None)) is not None:
                self._by_table[before.table].pop(name)
            if listener is not None:
                self.listeners[name] = listener
                self._by_table.setdefault(listener.table, {})[name] = listener
        touched = {listener.table for listener in delta.listeners.values() if listener is not None}
        for name in touched & self._tables.keys():
            if self._tables[name].exact_case != self._exact_case(name):
                yield from self._make_tables((name,))

    def _anew(self) -> Iterator[None]:
        """Until tables are made anew, requests go to the old clusters, so these don't retire before."""
        old = dict(self.clusters)
        for name, cluster in old.items():
            self.clusters[name] = Cluster(cluster.spec, self.settings, time.monotonic(), self._held)
            yield
        yield from self._make_tables(tuple(self._tables))
        self.retiring += old.values()

    def _make_tables(self, names: Iterable[str]) -> Iterator[None]:
        """Make tables anew with all their rules; those in use are replaced when they are whole."""
        before = {name: self._tables.pop(name) for name in names}
        made = {name: self.table(name) for name in before}
        self._tables |= before
        for key, rules in self.hosts.items():
            if key[0] in made:
                made[key[0]].put(key[1], rules, self.clusters)
                yield
        self._tables |= made
        self.renewed = True

    def _new_table(self, name: str) -> Table:
        """An empty one; with `compat` hosts and paths are compared as they come, and server names by their case."""
        compat = self.settings.compat
        return Table(name, exact_host=compat, exact_path=compat, exact_case=self._exact_case(name))

    def _exact_case(self, name: str) -> bool:
        by_name = any(listener.by == "sni" for listener in self._by_table.get(name, {}).values())
        return self.settings.compat and by_name

    def _put_cluster(self, name: str, spec: Spec) -> bool:
        """Have a cluster; True when it is a new one, which rules of before don't have."""
        there, now = self.clusters.get(name), time.monotonic()
        try:
            for former in self.retiring:
                if former.active and former.name == name:  # its requests may be tried again, its servers may be gone
                    former.change(spec, now)
            if there is None:
                self.clusters[name] = Cluster(spec, self.settings, now, self._held)
                self.renewed = True
                return True
            there.change(spec, now)
        except Exception as error:
            self._fault(f"cluster {name}", f"{type(error).__name__}: {error}")
        return False

    def _put_host(self, key: HostKey, rules: HostRules) -> None:
        self._forget_uses(key)
        self.hosts[key] = rules
        for route in rules.routes:
            self._users.setdefault(route.cluster, set()).add(key)
        try:
            self.table(key[0]).put(key[1], rules, self.clusters)
        except Exception as error:
            self._fault(f"host {key[1]} of {key[0]}", f"{type(error).__name__}: {error}")

    def _drop_host(self, key: HostKey) -> None:
        if key in self.hosts:
            self._forget_uses(key)
            del self.hosts[key]
            self.table(key[0]).drop(key[1])

    def _forget_uses(self, key: HostKey) -> None:
        """The host's rules, as they were, name no clusters any more."""
        for route in self.hosts[key].routes if key in self.hosts else ():
            users = self._users.get(route.cluster)
            if users is not None:
                users.discard(key)
                if not users:
                    del self._users[route.cluster]

    def _drop_tables(self, names: Iterable[str]) -> None:
        """Forget those without rules that nobody listens for any more, as tables of service ports that are gone."""
        for name in names:
            if not self._by_table.get(name):
                self._by_table.pop(name, None)
                if name in self._tables and not len(self._tables[name]):
                    del self._tables[name]


async def _in_slices(steps: Iterator[None], pause: Pause) -> None:
    until = time.monotonic() + SLICE
    for _ in steps:
        if time.monotonic() >= until:
            await pause()
            until = time.monotonic() + SLICE
