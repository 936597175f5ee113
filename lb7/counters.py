"""What all workers have counted, by cluster, by listener and by worker: totals that never go down.

Workers tell what is new since they last told (`lb7/worker_counters.py`), so that one that is replaced takes nothing
away but its last second. What is now (open connections, requests that wait) is the sum of what each last said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from lb7._balance import Tally
from lb7.table import TableDelta
from lb7.wire import Counters, Counts
from lb7.worker_counters import add

CLUSTERS_KEPT, LISTENERS_KEPT = 1000, 100
"""Of how many the totals are kept after they are gone, for they may come back; the oldest are forgotten first."""


T = TypeVar("T")


class _Counted(Generic[T]):
    """Totals by the names of what comes and goes. Workers tell of the last requests of what is gone, maybe long after:
    what they tell of counts, but is not kept for longer than others that are gone."""

    def __init__(self, kept: int, new: Callable[[], T]) -> None:
        self.totals: dict[str, T] = {}
        self.gone: dict[str, None] = {}
        self._there: set[str] = set()
        self._kept, self._new = kept, new

    def of(self, name: str) -> T:
        """The totals to which something is to be added."""
        total = self.totals.get(name)
        if total is None:
            total = self.totals[name] = self._new()
        if name not in self._there and name not in self.gone:
            self._leave(name)
        return total

    def change(self, entries: Mapping[str, object]) -> None:
        """The table has changed; None: gone."""
        for name, entry in entries.items():
            self.gone.pop(name, None)
            if entry is not None:
                self._there.add(name)
                continue
            self._there.discard(name)
            self._leave(name)

    def _leave(self, name: str) -> None:
        self.gone[name] = None
        if len(self.gone) > self._kept:
            oldest = next(iter(self.gone))
            del self.gone[oldest]
            self.totals.pop(oldest, None)


class Totals:
    """See the module: `worker` is the sum of all workers, `workers` are by number. `touched`, where it is set, gets the
    names of clusters whose counts or figures change; who set it takes them out."""

    def __init__(self) -> None:
        self.touched: set[str] | None = None
        self.worker: Counts = {}
        self.workers: dict[int, Counts] = {}
        self._listeners: _Counted[Counts] = _Counted(LISTENERS_KEPT, dict)
        self._clusters: _Counted[Tally] = _Counted(CLUSTERS_KEPT, Tally)
        self.blocks = 0
        self._now: dict[int, dict[str, int | float]] = {}
        self._clusters_now: dict[int, dict[str, dict[str, int | float]]] = {}

    def __repr__(self) -> str:
        return f"<Totals workers={len(self.workers)} clusters={len(self.clusters)} blocks={self.blocks}>"

    def count(self, number: int, block: Counters) -> None:
        """A worker has told what is new. Raises ValueError where a cluster can't have counted that."""
        self.blocks += 1
        add(self.worker, block.worker)
        add(self.workers.setdefault(number, {}), block.worker)
        for name, counts in block.listeners.items():
            add(self._listeners.of(name), counts)
        for name, grown in block.clusters:
            self._clusters.of(name).add(grown)
        if block.now:  # large blocks come in parts, of which the first has it
            self._now[number] = block.now
        of_clusters = self._clusters_now.setdefault(number, {})
        for name, figures in block.clusters_now.items():
            if any(figures.values()):
                of_clusters[name] = figures
            else:
                of_clusters.pop(name, None)
        if self.touched is not None:
            self.touched.update(name for name, _ in block.clusters)
            self.touched.update(block.clusters_now)

    def number(self, name: str) -> int | float:
        """One counter of all workers together."""
        value = self.worker.get(name, 0)
        return 0 if isinstance(value, list) else value

    def ended(self, number: int) -> None:
        """A worker is no more: it has counted, but nothing is now."""
        self._now.pop(number, None)
        figures = self._clusters_now.pop(number, {})
        if self.touched is not None:
            self.touched.update(figures)

    @property
    def now(self) -> Counts:
        """Figures that go up and down, of all workers."""
        whole: Counts = {}
        for figures in self._now.values():
            add(whole, figures)
        return whole

    def now_of(self, number: int) -> dict[str, int | float]:
        """The same of one worker, as it last said."""
        return self._now.get(number, {})

    @property
    def clusters_now(self) -> dict[str, Counts]:
        """The same by cluster; those where all figures are 0 are left out."""
        whole: dict[str, Counts] = {}
        for of_worker in self._clusters_now.values():
            for name, figures in of_worker.items():
                add(whole.setdefault(name, {}), figures)
        return whole

    def figures_of(self, cluster: str) -> Counts:
        """The same of one cluster."""
        whole: Counts = {}
        for of_worker in self._clusters_now.values():
            if (figures := of_worker.get(cluster)) is not None:
                add(whole, figures)
        return whole

    @property
    def listeners(self) -> dict[str, Counts]:
        """By listener; some that are gone are among them."""
        return self._listeners.totals

    @property
    def clusters(self) -> dict[str, Tally]:
        """By cluster; some that are gone are among them."""
        return self._clusters.totals

    def table_changed(self, delta: TableDelta) -> None:
        """Listeners and clusters have come or gone."""
        self._listeners.change(delta.listeners)
        self._clusters.change(delta.clusters)


_RANK = ("down", "draining", "ejected", "waking", "slow-start", "up")
"""States of a server, the worst first."""


def servers_together(
    of_workers: Iterable[dict[str, list[dict[str, str | int | float]]]],
) -> dict[str, list[dict[str, str | int | float]]]:
    """What several workers know of the servers of clusters, as one: numbers are added, of the state the worst one and
    of the latency the highest is taken."""
    whole: dict[str, dict[str, dict[str, str | int | float]]] = {}
    for clusters in of_workers:
        for name, servers in clusters.items():
            known = whole.setdefault(name, {})
            for server in servers:
                there = known.get(str(server["id"]))
                known[str(server["id"])] = dict(server) if there is None else _both(there, server)
    return {name: list(servers.values()) for name, servers in whole.items()}


def _both(one: dict[str, str | int | float], other: dict[str, str | int | float]) -> dict[str, str | int | float]:
    both = dict(one)
    for key in ("active", "connections", "requests", "failures"):
        a, b = one.get(key, 0), other.get(key, 0)
        if isinstance(a, int) and isinstance(b, int):
            both[key] = a + b
    both["state"] = min(str(one["state"]), str(other["state"]), key=_rank)
    a, b = one.get("latency", 0.0), other.get("latency", 0.0)
    if isinstance(a, float) and isinstance(b, float):
        both["latency"] = max(a, b)
    return both


def _rank(state: str) -> int:
    return _RANK.index(state) if state in _RANK else len(_RANK)
