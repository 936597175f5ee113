"""One Pharos that decides and is the edge, without ZooKeeper, before a simulated cluster whose tasks really serve.

with alone(tmp_path, 'prometheus = "http://…"') as made:
    made.create(2, "/jobs", PHAROS_SCALE_MAX="5", …)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agent.demo.agent_statistics import AgentStatistics
from agent.demo.marathon_deployments import DeployingMarathon
from tests.system.autoscale_stage import HOST, LIMIT, Stage
from tests.system.resolver_lab import until
from tests.system.simulated import Simulated, simulated

AGENTS = 4


class Alone(Stage):
    """See the module. Made by `alone`. `agents` are who tells CPU and memory."""

    def __init__(self, folder: Path, sim: Simulated, marathon: DeployingMarathon, autoscale: str, api: int) -> None:
        super().__init__(folder, sim, marathon, [])
        if api:
            self.ports["one"] = (api, self.ports["one"][1])
        self.agents = AgentStatistics(sim.cluster)
        self._autoscale = autoscale

    def start(self) -> None:
        """Run it, until it decides and serves."""
        for number in range(1, AGENTS + 1):
            self.sim.wait(self.agents.add_agent(f"127.0.1.{number}"))
        sections = (
            f'[mesos]\nmasters = ["{self.sim.url}"]\n[marathon]\n'
            f'[l7]\nhttp = ["{HOST}:{self.port}"]\nhttps = []\napp_id = []\nservice_address = "{HOST}"\nworkers = 2\n'
            f'[autoscale]\ninterval = "1s"\nwindow = "3s"\ndrain_timeout = "5s"\n{self._autoscale}\n'
        )
        program = self.programs["one"] = self.pharos("one", sections)
        until(lambda: self.is_ready("one"), "it is ready", program.text, LIMIT)
        until(self.leader, "it decides", self.told, LIMIT)

    def stop(self) -> None:
        """End all of it."""
        super().stop()
        self.sim.wait(self.agents.close())


@contextlib.contextmanager
def alone(folder: Path, autoscale: str = "", *, api: int = 0) -> Iterator[Alone]:
    """All of it until the end of the context. `autoscale`: lines of that section; `api`: the port of `[api]`."""
    with simulated() as sim, sim.marathon() as marathon:
        made = Alone(folder, sim, marathon, autoscale, api)
        made.load.start()
        try:
            made.start()
            yield made
        finally:
            made.stop()
