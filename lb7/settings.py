"""What one worker process goes by: the part of `[l7]` that concerns traffic, limits divided among the workers."""

from __future__ import annotations

import msgspec

from lb7.config import L7Config


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """As in `[l7]`, whose keys are explained in `lb7/config.py`; seconds; limits are of this worker alone."""

    trusted_proxies: tuple[str, ...] = ()
    connect_timeout: float = 3.0
    request_timeout: float = 15.0
    client_timeout: float = 30.0
    server_timeout: float = 30.0
    keep_alive_timeout: float = 60.0
    server_keep_alive: float = 30.0
    tunnel_timeout: float = 3600.0
    queue_timeout: float = 30.0
    max_head: int = 16384
    max_headers: int = 100
    max_body: int = 0
    max_connections: int = 50_000
    max_connections_per_client: int = 0
    max_requests_per_server: int = 0
    max_requests_per_route: int = 0
    max_waiting: int = 1024
    max_held: int = 1000
    hold_timeout: float = 60.0
    retries: int = 3
    retry_budget: float = 0.2
    eject_after: int = 5
    eject_time: float = 10.0
    max_ejected: float = 0.5
    slow_start: float = 0.0
    request_id: bool = True
    access_log: float = 0.0
    compat: bool = False
    workers: int = 1


_DIVIDED = frozenset(
    {
        "max_connections",
        "max_connections_per_client",
        "max_requests_per_server",
        "max_requests_per_route",
        "max_waiting",
        "max_held",
    }
)
"""Limits over all workers; what is left of a division is given to each, so that no limit becomes none."""


def settings_of(config: L7Config, workers: int) -> Settings:
    """The settings of each of so many workers."""
    values = {name: getattr(config, name) for name in Settings.__struct_fields__ if name not in ("compat", "workers")}
    for name in _DIVIDED:
        values[name] = -(-values[name] // workers)
    floats = {name: float(value) for name, value in values.items() if isinstance(value, float)}
    return Settings(**(values | floats), compat=bool(config.compat), workers=workers)
