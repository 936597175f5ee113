"""Which health check of an app's definition bears on one of its ports, and what the edge makes of it."""

from __future__ import annotations

from lb7.table import ServerCheck
from mesos_dns.model import App, AppCheck

_HTTP = frozenset({"HTTP", "MESOS_HTTP"})
_CONNECTS = frozenset({"HTTPS", "MESOS_HTTPS", "TCP", "MESOS_TCP"})

SHORTEST = 0.5
"""Seconds between two checks of a server, and for one, at least."""


def check_for(app: App, index: int) -> AppCheck | None:
    """The first that has an explicit port or is of the port with this index, as marathon-lb has it."""
    for check in app.checks:
        if check.port or check.port_index == index:
            return check
    return None


def check_of_servers(
    app: App, index: int, label: int | None, mode: str, wanted: bool
) -> tuple[ServerCheck | None, int, int]:
    """How the servers of a port are checked from here, the index of the port that is checked (-1: the same), and its
    number (0: none was named). `label` is HAPROXY_n_BACKEND_HEALTHCHECK_PORT_INDEX.

    Commands can't be run from here, and HTTPS is only connected to. A port number of a Mesos check is the container's
    own, which can be reached from outside only where there is no bridge.
    """
    check = check_for(app, index)
    if check is None and label is not None:
        check = check_for(app, label)
    if check is None or not wanted or check.protocol not in _HTTP | _CONNECTS:
        return None, -1, 0
    port = check.port
    inside = port != 0 and check.protocol.startswith("MESOS_") and app.network == "bridge"
    http = check.protocol in _HTTP and mode == "http" and not inside and check.path.startswith("/")
    found = ServerCheck(
        type="http" if http else "tcp",
        path=check.path if http else "/",
        interval=max(SHORTEST, check.interval),
        timeout=max(SHORTEST, check.timeout),
        fall=max(1, check.max_failures + 1),
    )
    if label is not None:
        return found, label, 0
    return found, -1, 0 if inside else port
