"""Apps for the route view: entities written by hand, and those of a recorded /v2/apps document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lb7.config import L7Config
from lb7.table import RouteTable, TableDelta
from lb7.view import RouteView
from mesos_dns.catalog import Delta
from mesos_dns.model import App, AppCheck, AppPort, Entity, Health, HealthOverlay, Key, canonical_address
from mesos_dns.sources.marathon_read import read_apps

FRAMEWORK = "m-0001"
HTTP_CHECK = AppCheck(protocol="HTTP", path="/health", port_index=0, interval=30, timeout=10)


def app(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    ports: Iterable[int] = (10000,),
    group: str = "external",
    changed: float = 1.0,
    instances: int = 2,
    checks: tuple[AppCheck, ...] = (HTTP_CHECK,),
    network: str = "bridge",
    framework: str = FRAMEWORK,
    kind: str = "app",
    scaled: float = 0.0,
) -> App:
    """An app; `labels` without "HAPROXY_", `group` "" for none."""
    named = {f"HAPROXY_{key}": value for key, value in (labels or {}).items()}
    if group:
        named = {"HAPROXY_GROUP": group} | named
    return App(
        id=name,
        labels=tuple(named.items()),
        kind=kind,
        network=network,
        ports=tuple([AppPort(service_port=port, container_port=8080 + i) for i, port in enumerate(ports)]),
        checks=checks,
        instances=instances,
        config_changed=changed,
        scaled=scaled,
        framework_id=framework,
    )


def task(
    of: App,
    number: int = 1,
    *,
    host: str = "",
    ports: tuple[int, ...] = (),
    health: Health = Health.HEALTHY,
    state: str = "TASK_RUNNING",
    addresses: tuple[str, ...] = (),
    started: float = 0.0,
) -> HealthOverlay:
    """A task of an app; without `host` and `ports`: 10.1.0.NUMBER and 31000, 31001, …"""
    place = host or f"10.1.0.{number}"
    return HealthOverlay(
        framework_id=of.framework_id,
        task_id=f"{of.id.strip('/').replace('/', '_')}.{number}",
        health=health,
        ports=ports or tuple(range(31000, 31000 + len(of.ports))),
        app=of.id,
        host=place,
        host_addresses=(place,) if canonical_address(place) else (),
        addresses=addresses,
        state=state,
        started=started,
        cluster=of.cluster,
    )


def tasks(of: App, count: int = 2, port: int = 31000) -> list[HealthOverlay]:
    """Some healthy tasks, on hosts of their own; their first port is `port`."""
    return [task(of, number, ports=tuple(range(port, port + len(of.ports)))) for number in range(1, count + 1)]


def delta(*entities: Entity, gone: Iterable[Key] = ()) -> Delta:
    """What the catalog tells when these came and those went."""
    changes: dict[Key, tuple[Entity | None, Entity | None]] = {entity.key: (None, entity) for entity in entities}
    changes |= dict.fromkeys(gone, (None, None))
    return Delta(1, changes)


def view_of(config: L7Config | None = None, *entities: Entity, certificates: bool = True) -> RouteView:
    """A view of these entities, up to date."""
    view = RouteView(config or L7Config(), certificates=certificates)
    view.apply(delta(*entities))
    view.flush()
    return view


def table_of(*entities: Entity, config: L7Config | None = None, certificates: bool = True) -> RouteTable:
    """The route table of these entities."""
    return view_of(config, *entities, certificates=certificates).table


class FollowedTable:
    """A table made of nothing but what a view tells, and each delta that was told."""

    def __init__(self, view: RouteView) -> None:
        self.view = view
        self.deltas: list[TableDelta] = []
        self.table = RouteTable(dict(view.table.listeners), dict(view.table.hosts), dict(view.table.clusters))
        view.listen(self.hear)

    def hear(self, delta: TableDelta) -> None:
        """Take it over. Whatever is routed to must be there then."""
        assert delta
        self.deltas.append(delta)
        parts: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
            (self.table.listeners, delta.listeners),
            (self.table.hosts, delta.hosts),
            (self.table.clusters, delta.clusters),
        ]
        for there, told in parts:
            for key, value in told.items():
                if value is None:
                    there.pop(key, None)
                else:
                    there[key] = value
        clusters = self.table.clusters.keys()
        assert all(rule.cluster in clusters for rules in self.table.hosts.values() for rule in rules.routes)
        assert all(one.cluster in clusters for one in self.table.listeners.values() if one.cluster)


def recorded(folder: Path) -> list[Entity]:
    """The apps and tasks of a recorded case; hosts given as addresses are their own."""
    read = read_apps((folder / "apps.json").read_bytes(), FRAMEWORK)
    assert not read.bad, read.bad
    found: list[Entity] = list(read.apps)
    for overlay in read.overlays:
        found.append(msgspec.structs.replace(overlay, host_addresses=(overlay.host,)))
    return found
