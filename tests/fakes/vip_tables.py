"""A VIP table that notes what it tells, and tasks that ask for VIPs."""

from __future__ import annotations

from typing import Any

from lb4.table import VipTable
from lb4.vip import State, VipKey
from mesos_dns.model import Entity, Port, Task
from tests.fakes import questions
from tests.fakes.questions import AGENT, MARATHON, drop, put

X = VipKey("tcp", "x.marathon", 80)


def vip_task(number: int = 0, *labels: str, port: int = 8080, **fields: Any) -> Task:
    """A task with a discovery port that asks for these VIPs, `/x:80` without any."""
    asked = tuple((f"VIP_{index}", label) for index, label in enumerate(labels or ("/x:80",)))
    return questions.task(number, ports=(Port(port, "http", "tcp", asked),), **fields)


class NotingTable(VipTable):
    """A table with MARATHON and AGENT that notes what its listeners hear."""

    def __init__(self, *entities: Entity) -> None:
        self.heard: list[frozenset[VipKey]] = []
        self.heard_names: list[frozenset[str]] = []
        super().__init__(self.heard.append)
        self.listen_names(self.heard_names.append)
        self.put(MARATHON, AGENT, *entities)
        self.heard.clear()
        self.heard_names.clear()

    def put(self, *entities: Entity) -> None:
        self.apply(put(*entities))

    def drop(self, *entities: Entity) -> None:
        self.apply(drop(*[entity.key for entity in entities]))

    def hears(self, *keys: VipKey) -> bool:
        """Whether since the last look one call told exactly these keys; without any: whether nothing was told."""
        found, expected = list(self.heard), [frozenset(keys)] if keys else []
        self.heard.clear()
        return found == expected

    def told(self, key: VipKey = X) -> list[tuple[str, int, int, State]]:
        state = self.get(key)
        backends = state.backends if state is not None else ()
        return [(each.address, each.port, each.weight, each.state) for each in backends]


def up(number: int, port: int = 8080) -> tuple[str, int, int, State]:
    return (f"9.0.0.{number + 1}", port, 1, State.ACTIVE)
