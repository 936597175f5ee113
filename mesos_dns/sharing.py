"""One object for equal ones: tasks of an app repeat each other's names, labels, ports and networks.

What decodes entities (a source, the saved catalog, a server's stream) passes them through here: in a catalog of
100,000 tasks that is half of the memory.
"""

from __future__ import annotations

import sys
from typing import TypeVar

from mesos_dns.model import Entity, Task

S = TypeVar("S", bound=tuple[object, ...])

_MOST = 16384
_shared: dict[tuple[object, ...], tuple[object, ...]] = {}


def share(value: S) -> S:
    """The one tuple for all that are equal to this one."""
    if not value:
        return value
    if len(_shared) >= _MOST:
        _shared.clear()
    return _shared.setdefault(value, value)  # type: ignore[return-value]


def shared(entity: Entity) -> Entity:
    """The same entity, of shared parts; those of which there are few are left alone."""
    if type(entity) is not Task:
        return entity
    intern = sys.intern
    return Task(
        framework_id=intern(entity.framework_id),
        id=entity.id,
        name=intern(entity.name),
        node_id=intern(entity.node_id),
        state=intern(entity.state),
        health=entity.health,
        labels=share(entity.labels),
        discovery_name=intern(entity.discovery_name),
        visibility=intern(entity.visibility),
        ports=share(entity.ports),
        networks=share(entity.networks),
        label_addresses=share(entity.label_addresses),
        port_mappings=share(entity.port_mappings),
        host_ports=share(entity.host_ports),
        runtime=intern(entity.runtime),
        start_time=entity.start_time,
        cluster=intern(entity.cluster),
        duplicate=entity.duplicate,
    )
