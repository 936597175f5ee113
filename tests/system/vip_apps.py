"""Virtual IPs of a simulated cluster: apps with a label, and their tasks on agents that are network namespaces.

site = Site(simulated, backends, {"node1": "10.77.0.2", …})
web = App(site, 0, "web", 80, check=Check.HTTP)
web.change(web.slots[0], "start")
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.demo.spec import Check, Network, PortSpec, TaskSpec
from agent.demo.world import Agent, Framework, Task
from lb4.services import BackendKey, ServiceKey
from tests.system.simulated import Simulated
from tests.vm.vip_traffic import Backends


class Slot:
    """A place for a task of a VIP: an agent and a port, where a backend listens. `number` is the backend's.

    `good` says whether its task is to get connections: it runs and is healthy or has no check. `history` says from
    when on (seconds of time.monotonic) it may get some: from the change at the master on until the kernel knows better.
    """

    def __init__(self, number: int, agent: Agent, port: int) -> None:
        self.number, self.agent, self.port = number, agent, port
        self.task: Task | None = None
        self.good = False
        self.history: list[tuple[float, bool]] = [(0.0, False)]

    @property
    def key(self) -> BackendKey:
        """Where it is."""
        return BackendKey(self.agent.address, self.port)

    @property
    def state(self) -> str:
        """absent, or what its task is: pending, healthy, unhealthy, running, killing."""
        if self.task is None:
            return "absent"
        if self.task.state == "TASK_KILLING":
            return "killing"
        if self.task.spec.check is Check.NONE:
            return "running"
        return {None: "pending", True: "healthy", False: "unhealthy"}[self.task.healthy]

    def note(self, at: float, good: bool) -> None:
        """From now on it may get connections, or none."""
        if good != self.history[-1][1]:
            self.history.append((at, good))

    def was_good(self, begin: float, end: float) -> bool:
        """Whether it might get connections at any time from begin to end."""
        return any(
            good and since <= end and (at + 1 == len(self.history) or self.history[at + 1][0] >= begin)
            for at, (since, good) in enumerate(self.history)
        )


class Site:
    """The cluster, its agents by the namespace that each is, and its backends' program."""

    def __init__(self, simulated: Simulated, backends: Backends, agents: Mapping[str, str]) -> None:
        self.simulated, self.backends = simulated, backends
        self.framework: Framework = simulated.call(lambda: simulated.cluster.add_framework("marathon"))
        self.spaces = {
            simulated.call(lambda a=address: simulated.cluster.add_agent(a)).id: name  # type: ignore[misc]
            for name, address in agents.items()
        }
        self.addresses: dict[str, str] = {}
        """Of apps by name, as whoever asks finds out."""

    @property
    def agents(self) -> list[Agent]:
        """In their order."""
        return [self.simulated.cluster.agents[number] for number in self.spaces]


class App:
    """A VIP by a label, with a slot on each agent. Its slots' states change by `change`."""

    def __init__(
        self, site: Site, number: int, name: str, port: int, protocol: str = "tcp", check: Check = Check.NONE
    ) -> None:
        self.name, self.port, self.protocol = name, port, protocol
        self._site = site
        label = PortSpec(name, 0, protocol, {"VIP_0": f"/{name}:{port}"})
        self.spec = TaskSpec(name, ports=(label,), network=Network.HOST, check=check)
        self.slots = [Slot(number * 10 + n, agent, 31000 + number) for n, agent in enumerate(site.agents)]

    @property
    def dns(self) -> str:
        """The VIP's name in its zone."""
        return f"{self.name}.marathon"

    @property
    def service(self) -> ServiceKey:
        """Its service in the kernel."""
        return ServiceKey(self.protocol, self._site.addresses[self.name], self.port)

    def wanted(self) -> dict[BackendKey, int]:
        """The destinations that it should have, when none drains."""
        return {slot.key: 1 for slot in self.slots if slot.good}

    def ways(self, slot: Slot) -> list[str]:
        """What may happen to a slot's task."""
        if slot.state == "absent":
            return ["start"]
        if slot.state == "killing":
            return ["gone"]
        healths = {"pending": ["healthy"], "unhealthy": ["healthy"], "healthy": ["unhealthy"]}
        return [*healths.get(slot.state, []), "killing", "gone"]

    def change(self, slot: Slot, way: str) -> float:
        """Have it happen; when it did."""
        site = self._site
        if way == "start":
            site.backends.open(slot.number, site.spaces[slot.agent.id], self.protocol, *slot.key)
        at = site.simulated.call(lambda: self._change(slot, way))
        good = slot.state in ("running", "healthy")
        slot.good = good
        if good:
            slot.note(at, good)
        return at

    def close(self, slot: Slot) -> None:
        """Its backend listens no more."""
        self._site.backends.close(slot.number)

    def _change(self, slot: Slot, way: str) -> float:
        cluster, at = self._site.simulated.cluster, time.monotonic()
        if way == "start":
            task = cluster.launch(self._site.framework, self.spec, slot.agent, host_ports=(slot.port,))
            slot.task = task
            cluster.update(task, "TASK_STARTING")
            cluster.update(task, "TASK_RUNNING")
            return at
        assert slot.task is not None
        if way in ("healthy", "unhealthy"):
            cluster.health(slot.task, way == "healthy")
        elif way == "killing":
            cluster.update(slot.task, "TASK_KILLING")
        else:
            cluster.update(slot.task, "TASK_KILLED")
            slot.task = None
        return at
