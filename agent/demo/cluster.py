"""The simulated cluster: agents, frameworks and tasks, and the operator events that each change makes.

It is what the leading master knows, plus what that master has yet to hear: an agent that is not
`registered` is one of `recovered_agents`, and nothing that happens on it makes an event until it
registers again. No clock but the one given, no I/O, no randomness but the seed's. The orders of
events are those of a real master:

    launch             TASK_ADDED (staging), TASK_UPDATED starting, running
    agent lost         TASK_UPDATED (unreachable or lost) per task; no agent event
    agent returns      TASK_ADDED (running) per task, then AGENT_ADDED
    agent unregisters  TASK_UPDATED (lost) per task, then AGENT_REMOVED
    leader fails over  a snapshot of few or no agents, then per agent as "agent returns"
    framework removed  TASK_UPDATED (killed) per task, then FRAMEWORK_REMOVED
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable
from typing import Any

from agent.demo import v1
from agent.demo.spec import Network, TaskSpec
from agent.demo.world import TERMINAL, Agent, Framework, Status, Task

Event = dict[str, Any]
Listener = Callable[[Event], None]
StatusListener = Callable[[Task, Status], None]

MAX_COMPLETED = 1000  # the master's --max_completed_tasks_per_framework
HEALTH_REASON = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


class Cluster:
    """Agents, frameworks and tasks of one simulated Mesos cluster.

    Listeners are called with each event, a dict of the operator API, as it happens; schedulers with
    each status, also those that the master does not hear of. `tasks` holds the running ones by
    (framework id, task id).
    """

    def __init__(self, *, seed: int = 0, now: Callable[[], float] = time.time) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.id = self._uuid()
        self.agents: dict[str, Agent] = {}
        self.frameworks: dict[str, Framework] = {}
        self.completed_frameworks: list[Framework] = []
        self.tasks: dict[tuple[str, str], Task] = {}
        self.listeners: list[Listener] = []
        self.schedulers: list[StatusListener] = []
        self.elected_time = now()
        self.overlay = "9"  # first octet of container addresses; "127" makes them answer on loopback
        self.agents_made = 0
        self._frameworks_made = 0
        self._tasks_made = 0

    def _uuid(self) -> str:
        digits = f"{self.random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def _now_ns(self) -> int:
        return int(self.now() * 1e9)

    def _emit(self, kind: str, make_body: Callable[[], Any]) -> None:
        if self.listeners:
            event: Event = {"type": kind, kind.lower(): make_body()}
            for listener in tuple(self.listeners):
                listener(event)

    # Agents

    def add_agent(
        self, address: str = "", *, hostname: str = "", attributes: dict[str, str] | None = None, port: int = 5051
    ) -> Agent:
        """A new agent registers. Without an address it gets one of 10.64.0.0/10."""
        number = self.agents_made
        self.agents_made += 1
        address = address or f"10.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        agent = Agent(
            id=f"{self.id}-S{number}",
            number=number,
            address=address,
            hostname=hostname or address,
            registered_ns=self._now_ns(),
            attributes={"rack": f"r{number % 20 + 1}"} if attributes is None else attributes,
            port=port,
        )
        self.agents[agent.id] = agent
        self._emit("AGENT_ADDED", lambda: {"agent": v1.agent(agent)})
        return agent

    def remove_agent(self, agent: Agent) -> None:
        """The agent unregisters itself (a graceful stop): its tasks are lost, whatever the framework can do."""
        for task in tuple(agent.tasks.values()):
            self._master_update(task, "TASK_LOST", f"Agent {agent.hostname} removed: the agent unregistered")
            self._end(task)
        self.agents.pop(agent.id, None)
        self._emit("AGENT_REMOVED", lambda: {"agent_id": {"value": agent.id}})

    def agent_unreachable(self, agent: Agent) -> None:
        """The master's pings go unanswered: one update per task, no agent event."""
        at = self._now_ns()
        for task in tuple(agent.tasks.values()):
            state = "TASK_UNREACHABLE" if task.framework.partition_aware else "TASK_LOST"
            self._master_update(task, state, "health check timed out", unreachable_ns=at)
            task.framework.unreachable[task.id] = task
            self.tasks.pop((task.framework.id, task.id), None)
            task.framework.tasks.pop(task.id, None)
        agent.unreachable = True

    def agent_returns(self, agent: Agent) -> None:
        """An agent that was unreachable or recovered registers again: its tasks first, then itself.

        Frameworks that the master does not know yet become known through the agent.
        """
        agent.registered_ns = self._now_ns()
        agent.reregistered_ns = agent.registered_ns + 41000
        was_unreachable, agent.unreachable, agent.registered = agent.unreachable, False, True
        self.agents[agent.id] = agent
        for framework in {task.framework.id: task.framework for task in agent.tasks.values()}.values():
            self.hear_of(framework)
        for task in agent.tasks.values():
            if was_unreachable:
                task.statuses = tuple(kept for kept in task.statuses if kept.by_executor)
                task.state = task.statuses[-1].state if task.statuses else "TASK_STAGING"
                task.framework.unreachable.pop(task.id, None)
                task.framework.tasks[task.id] = task
                task.changed()
            self.tasks[(task.framework.id, task.id)] = task
            self._emit("TASK_ADDED", lambda task=task: {"task": v1.task(task)})  # type: ignore[misc]
        agent.v1_json = None
        self._emit("AGENT_ADDED", lambda: {"agent": v1.agent(agent)})

    def agent_gone(self, agent: Agent) -> None:
        """An operator marks the agent gone: its tasks end for good, no agent event."""
        for task in tuple(agent.tasks.values()):
            aware = task.framework.partition_aware
            state, reason = (
                ("TASK_GONE_BY_OPERATOR", "REASON_AGENT_REMOVED_BY_OPERATOR") if aware else ("TASK_LOST", "")
            )
            self._master_update(task, state, "Agent has been marked gone", reason=reason)
            self._end(task)
        self.agents.pop(agent.id, None)

    def drain_agent(self, agent: Agent) -> None:
        """An operator drains the agent: its tasks are killed with that reason, no agent event."""
        agent.deactivated = True
        agent.v1_json = None
        tasks = tuple(agent.tasks.values())
        for task in tasks:
            self.update(task, "TASK_KILLING", reason="REASON_AGENT_DRAINING")
        for task in tasks:
            message = "Command terminated with signal Terminated"
            self.update(task, "TASK_KILLED", reason="REASON_AGENT_DRAINING", message=message)

    def reactivate_agent(self, agent: Agent) -> None:
        """Takes tasks again; no event."""
        agent.deactivated = False
        agent.v1_json = None

    # Frameworks

    def add_framework(self, name: str, **facts: Any) -> Framework:
        """A framework subscribes for the first time. `facts` are fields of world.Framework."""
        at = self._now_ns()
        framework = Framework(
            id=f"{self.id}-{self._frameworks_made:04d}", name=name, registered_ns=at, reregistered_ns=at, **facts
        )
        self._frameworks_made += 1
        self.frameworks[framework.id] = framework
        self._emit("FRAMEWORK_ADDED", lambda: {"framework": v1.framework_event(framework)})
        return framework

    def disconnect_framework(self, framework: Framework) -> None:
        """The scheduler's connection drops: no event."""
        framework.connected = False

    def update_framework(self, framework: Framework) -> None:
        """The scheduler subscribes again, to the same master or to a new one."""
        if not framework.known:
            framework.registered_ns = self._now_ns()
        was_known, framework.known = framework.known, True
        framework.connected, framework.recovered = True, False
        framework.reregistered_ns = self._now_ns()
        kind = "FRAMEWORK_UPDATED" if was_known else "FRAMEWORK_ADDED"
        self._emit(kind, lambda: {"framework": v1.framework_event(framework)})

    def remove_framework(self, framework: Framework) -> None:
        """Torn down, or gone for longer than its failover timeout: its tasks are killed, then it is removed."""
        message = f"Framework {framework.id} removed"
        for task in tuple(framework.tasks.values()):
            self._master_update(task, "TASK_KILLED", message, reason="REASON_FRAMEWORK_REMOVED")
            self._end(task)
        for task in tuple(framework.unreachable.values()):
            self._end(task)
        framework.connected = False
        framework.unregistered_ns = self._now_ns()
        del self.frameworks[framework.id]
        self.completed_frameworks.append(framework)
        self._emit("FRAMEWORK_REMOVED", lambda: {"framework_info": v1.framework_info(framework)})

    def hear_of(self, framework: Framework) -> None:
        """An agent tells the master of a framework that it does not know."""
        if framework.known or framework.id not in self.frameworks:
            return
        framework.known = framework.recovered = True
        framework.connected = False
        framework.registered_ns = framework.reregistered_ns = 0
        self._emit("FRAMEWORK_ADDED", lambda: {"framework": v1.framework_event(framework)})

    # Tasks

    def launch(
        self,
        framework: Framework,
        spec: TaskSpec,
        agent: Agent,
        *,
        host_ports: tuple[int, ...] = (),
        container: str = "_app",
    ) -> Task:
        """A task in TASK_STAGING. Host ports are taken from the agent unless given; pods name their containers."""
        if spec.network.maps_host_ports:
            host_ports = host_ports or tuple(agent.free_port() for _ in spec.ports)
        self._tasks_made += 1
        number = self._tasks_made
        clock = f"{0x64000000 + number:08x}-e6fa-11f1-a2b6-02fc00000001"
        task = Task(
            id=f"{spec.prefix}.instance-{clock}.{container}.1",
            spec=spec,
            framework=framework,
            agent=agent,
            container_id=self._uuid(),
            addresses=self._addresses(spec, agent),
            host_ports=host_ports,
            pid=1000 + number % 60000,
        )
        agent.tasks[task.id] = task
        agent.usage.add(spec, host_ports)
        agent.v1_json = None
        framework.usage.add(spec, host_ports)
        framework.tasks[task.id] = task
        self.tasks[(framework.id, task.id)] = task
        if agent.heard:
            self._emit("TASK_ADDED", lambda: {"task": v1.task(task)})
        return task

    def _addresses(self, spec: TaskSpec, agent: Agent) -> tuple[tuple[str, str], ...]:
        if spec.network is Network.HOST:
            return (("IPv4", agent.address),)
        host = agent.next_container
        agent.next_container = host % 250 + 1
        if spec.network is Network.BRIDGE:
            return (("IPv4", f"172.31.254.{host}"),)
        if spec.network is Network.DOCKER:
            return (("IPv4", f"172.17.0.{host}"),)
        subnet = f"{self.overlay}.{1 + agent.number // 250 % 250}.{agent.number % 250}.{host}"
        if spec.network is Network.CONTAINER:
            return (("IPv4", subnet),)
        return ("IPv4", subnet), ("IPv6", f"fd01:b:0:{agent.number:x}::{host:x}")

    def start(self, framework: Framework, spec: TaskSpec, agent: Agent) -> Task:
        """Launches a task and has it run at once: staging, starting, running."""
        task = self.launch(framework, spec, agent)
        self.update(task, "TASK_STARTING")
        self.update(task, "TASK_RUNNING")
        return task

    def update(
        self, task: Task, state: str, *, healthy: bool | None = None, reason: str = "", message: str = ""
    ) -> None:
        """A status of the task's executor; a terminal state ends the task."""
        uuid = base64.b64encode(self.random.randbytes(16)).decode()
        status = Status(state, self.now(), uuid, healthy=healthy, reason=reason, message=message)
        task.last_update = (state, uuid)
        self._apply(task, status)
        if state in TERMINAL:
            self._end(task)

    def health(self, task: Task, healthy: bool) -> None:
        """A health check's result: TASK_RUNNING again, with `healthy`. One event per result, as Mesos sends them."""
        self.update(task, "TASK_RUNNING", healthy=healthy, reason=HEALTH_REASON)

    def kill(self, task: Task) -> None:
        """TASK_KILLING, if the framework knows it, then TASK_KILLED."""
        if task.framework.killing_state:
            self.update(task, "TASK_KILLING")
        self.update(task, "TASK_KILLED", message="Command terminated with signal Terminated")

    def finish(self, task: Task) -> None:
        """The command ends well."""
        self.update(task, "TASK_FINISHED", message="Command exited with status 0")

    def fail(self, task: Task, message: str = "Command exited with status 1") -> None:
        """The command ends badly."""
        self.update(task, "TASK_FAILED", message=message)

    def move_silently(self, task: Task, addresses: tuple[tuple[str, str], ...]) -> None:
        """A new container address without an event: the master replaces the status of a same-state update silently."""
        task.addresses = addresses
        task.changed()

    def _master_update(
        self, task: Task, state: str, message: str, *, reason: str = "", unreachable_ns: int = 0
    ) -> None:
        reason = reason or "REASON_AGENT_REMOVED"
        self._apply(task, Status(state, self.now(), "", False, None, reason, message, unreachable_ns))

    def _apply(self, task: Task, status: Status) -> None:
        task.add_status(status)
        if task.agent.heard:
            self._emit(
                "TASK_UPDATED",
                lambda: {
                    "framework_id": {"value": task.framework.id},
                    "status": v1.status(task, status),
                    "state": status.state,
                },
            )
        for scheduler in self.schedulers:
            scheduler(task, status)

    def _end(self, task: Task) -> None:
        """The task is over: its resources are free and it is history."""
        framework = task.framework
        if task.agent.tasks.pop(task.id, None) is not None:
            task.agent.usage.take(task.spec, task.host_ports)
            framework.usage.take(task.spec, task.host_ports)
            task.agent.v1_json = None
        framework.tasks.pop(task.id, None)
        framework.unreachable.pop(task.id, None)
        self.tasks.pop((framework.id, task.id), None)
        framework.completed.append(task)
        if len(framework.completed) > MAX_COMPLETED:
            del framework.completed[0]

    # Fail-over

    def fail_over(self, *, agents: int = 0, frameworks: int = 0) -> None:
        """A new leader: it knows the first `agents` agents and `frameworks` frameworks, and no history.

        All other agents are recovered ones: `agent_returns` registers each of them again, and
        `update_framework` each framework. Nothing is emitted; subscribers of the old leader are cut.
        """
        self.elected_time = self.now()
        self.completed_frameworks = []
        gone = [agent for agent in self.agents.values() if agent.unreachable]
        for agent in gone:
            del self.agents[agent.id]
        for number, framework in enumerate(self.frameworks.values()):
            framework.completed, framework.unreachable = [], {}
            framework.known = framework.connected = number < frameworks
            if framework.known:
                framework.registered_ns = framework.reregistered_ns = self._now_ns()
        for number, agent in enumerate(self.agents.values()):
            agent.registered = number < agents
            if agent.registered:
                agent.reregistered_ns = self._now_ns()
            agent.v1_json = None
        for agent in self.agents.values():
            if agent.registered:
                for framework in {task.framework.id: task.framework for task in agent.tasks.values()}.values():
                    self.hear_of(framework)

    def return_all(self) -> None:
        """Every framework subscribes to the new leader and every agent registers again."""
        for framework in tuple(self.frameworks.values()):
            if not framework.connected:
                self.update_framework(framework)
        for agent in tuple(self.agents.values()):
            if not agent.registered:
                self.agent_returns(agent)
