"""Clusters for tests of balancing: servers 10.0.0.N:80 with the cookie cN, and a clock that begins at 1000 s."""

from __future__ import annotations

from typing import Any

import msgspec

from lb7._balance import Cluster, Server
from lb7.settings import Settings
from lb7.table import Cluster as ClusterSpec
from lb7.table import Server as ServerSpec

NOW = 1000.0


def server(number: int, **values: Any) -> ServerSpec:
    made = ServerSpec(f"10.0.0.{number}:80", f"10.0.0.{number}", 80, cookie=f"c{number}")
    return msgspec.structs.replace(made, **values)


def spec(*servers: ServerSpec, balance: Any = "roundrobin", **values: Any) -> ClusterSpec:
    return ClusterSpec("/app:10000", "/app", 10000, servers, balance=balance, **values)


def cluster(*servers: ServerSpec, balance: str = "roundrobin", sticky: str = "", **settings: Any) -> Cluster:
    return Cluster(spec(*servers, balance=balance, sticky=sticky), Settings(**settings), NOW)


def pick(made: Cluster, now: float = NOW, hash: int = 0, cookie: str = "", tried: list[Server] | None = None) -> int:
    """The number of the picked server, 0: none."""
    picked = made.pick(now, hash, cookie.encode() or None, tried)
    return number_of(picked) if picked is not None else 0


def number_of(picked: Server) -> int:
    return int(picked.address.rpartition(".")[2])


def numbered(made: Cluster, number: int) -> Server:
    return next(one for one in made.servers if number_of(one) == number)


def fail(made: Cluster, number: int, times: int = 1, now: float = NOW) -> None:
    for _ in range(times):
        made.connect_failed(numbered(made, number), now)


def states(made: Cluster) -> dict[int, object]:
    return {int(str(row["id"]).partition(":")[0].rpartition(".")[2]): row["state"] for row in made.status()}
