"""A catalog that one source speaks to, and what a test asks of it."""

from __future__ import annotations

from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Framework, Key, Leadership, Node, Task
from mesos_dns.publish import CatalogPublisher


class Followed:
    """A catalog with one source "mesos", its publisher, and every delta that a listener got."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.publisher = CatalogPublisher(self.catalog, "mesos")
        self.deltas: list[Delta] = []
        self.catalog.listen(self.deltas.append)

    def changes(self) -> dict[Key, object]:
        """The keys that changed since the last call, with what they are now."""
        self.catalog.flush()
        changed: dict[Key, object] = {key: after for delta in self.deltas for key, (_, after) in delta.changes.items()}
        self.deltas.clear()
        return changed

    def tasks(self) -> dict[tuple[str, str], Task]:
        """Tasks by (framework id, task id)."""
        return {(e.framework_id, e.id): e for e in self.catalog.entities("task") if isinstance(e, Task)}

    def running(self) -> set[tuple[str, str]]:
        """(framework id, task id) of the running tasks."""
        return {key for key, task in self.tasks().items() if task.state == "TASK_RUNNING"}

    def nodes(self) -> dict[str, Node]:
        """Nodes by id."""
        return {e.id: e for e in self.catalog.entities("node") if isinstance(e, Node)}

    def frameworks(self) -> dict[str, Framework]:
        """Frameworks by id."""
        return {e.id: e for e in self.catalog.entities("framework") if isinstance(e, Framework)}

    def leadership(self) -> Leadership | None:
        """The leadership, if it was said."""
        entity = self.catalog.get(("leadership", "mesos"))
        return entity if isinstance(entity, Leadership) else None
