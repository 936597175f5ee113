"""marathon-lb's two map files, for scripts that read them: which backend a host and an app id lead to.

Each line is a key, a space and a backend's name, as HAProxy writes maps. marathon-lb fills them with `--haproxy-map`
alone; here they are there in any case.
"""

from __future__ import annotations

from collections.abc import Iterable

from lb7.claims import APP_ID, HTTP, HTTPS
from lb7.table import Cluster, RouteTable


def backend_name(cluster: Cluster) -> str:
    """marathon-lb's name for an app's port: "p_root_10000" for port 10000 of /p/root."""
    return f"{cluster.app.removeprefix('/').replace('/', '_')}_{cluster.service_port}"


def vhost_map(table: RouteTable) -> str:
    """HOST BACKEND: hosts of HTTP (and of HTTPS where there is no HTTP) with a route for every path. Wildcards are no
    keys of such a map, and are left out."""
    wanted = HTTP if any(listener.table == HTTP for listener in table.listeners.values()) else HTTPS
    found: dict[str, str] = {}
    for (name, host), rules in table.hosts.items():
        key = host.rstrip(":")
        if name != wanted or not key or key.startswith("*"):
            continue
        cluster = next((route.cluster for route in rules.routes if not route.paths), "")
        if cluster in table.clusters:
            found.setdefault(key, backend_name(table.clusters[cluster]))
    return _lines(found.items())


def app_map(table: RouteTable) -> str:
    """APP_ID BACKEND: the first HTTP port of each app that is found by its id."""
    found: dict[str, str] = {}
    for (name, _), rules in table.hosts.items():
        cluster = table.clusters.get(rules.routes[0].cluster) if name == APP_ID and rules.routes else None
        if cluster is not None:
            found[cluster.app] = backend_name(cluster)
    return _lines(found.items())


def _lines(entries: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{key} {backend}\n" for key, backend in sorted(entries))
