"""A process that carries traffic and scales an app is given one configuration after the other, and is ended with and
without its ZooKeeper: no request fails, the app is scaled as the file says, nothing hangs and nothing is complained of.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports
from tests.system.autoscale_stage import APP, HOST, LABELS, LIMIT, Load, Stage
from tests.system.ensemble import Ensemble, ensemble, missing
from tests.system.resolver_lab import Program, quoted, until
from tests.system.simulated import Simulated, simulated

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

SILENT = 1
"""No Marathon listens on this port."""


class Alone:
    """One process and its file, and a client of its edge. `sections`: the file as it is at first."""

    def __init__(self, folder: Path, sim: Simulated, zookeeper: Ensemble) -> None:
        self.folder, self.zookeeper = folder, zookeeper
        self.edge, self.api, self.other_api, self.admin = free_ports(4)
        self.sections = {
            "mesos": f'masters = ["{sim.url}"]',
            "marathon": "",
            "zookeeper": f'hosts = {quoted(zookeeper.hosts)}\nsession_timeout = "3s"',
            "l7": f'http = ["{HOST}:{self.edge}"]\nhttps = []\napp_id = []\nservice_ports = false\nworkers = 1',
            "autoscale": 'interval = "1s"\nwindow = "3s"\ndrain_timeout = "5s"',
            "api": f'listen = ["{HOST}:{self.api}"]',
            "admin": f'listen = ["{HOST}:{self.admin}"]',
        }
        self.file = folder / "pharos.toml"
        self.load = Load(self.edge)
        self.write()
        self.program = Program(
            [sys.executable, "-W", "error", "-m", "agent", "run", "-c", str(self.file)], folder / "log"
        )

    def write(self, **sections: str | None) -> None:
        """The file, with other sections (None: without one)."""
        found = {name: text for name, text in (self.sections | sections).items() if text is not None}
        head = f'state_dir = "{self.folder / "state"}"\ndrain_timeout = "1s"\n'
        self.file.write_text(head + "".join(f"[{name}]\n{text}\n" for name, text in found.items()))

    def reload(self, **sections: str | None) -> list[dict[str, Any]]:
        """SIGHUP with other sections: what was logged until that was done."""
        begin = len(self.program.text())
        self.write(**sections)
        self.program.running.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in self.program.text()[begin:], f"{sections} are taken", self.program.text, LIMIT)
        return logged(self.program.text()[begin:])

    def told(self, path: str = "/v1/autoscale") -> Any:
        """What `[admin]` answers; None where it does not."""
        try:
            return Stage._get(f"http://{HOST}:{self.admin}{path}")
        except (OSError, ValueError, http.client.HTTPException):
            return None

    def decides(self, what: str) -> None:
        """Wait until it decides, from now on, by what the edge counts."""
        began = time.time()

        def decided() -> bool:
            told = self.told() or {"leading": False, "apps": []}
            found = [row["decision"] for row in told["apps"] if row["app"] == APP and row["decision"]]
            known = [row for row in found if row["at"] > began and row["proposals"][0]["value"] is not None]
            return bool(told["leading"] and known)

        until(decided, what, self.program.text, LIMIT)


def logged(text: str) -> list[dict[str, Any]]:
    """Lines of a log."""
    return [json.loads(line) for line in text.splitlines()]


def complaints(text: str) -> list[str]:
    """What is worse than information, the advice about the file apart."""
    return [
        f"{line['part']}: {line['event']} {line.get('error', '')}"
        for line in logged(text)
        if line["level"] not in ("info", "debug") and line["part"] != "agent.config"
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    folder = Path(tmp_path_factory.mktemp("reloads"))
    with contextlib.ExitStack() as stack:
        zookeeper = stack.enter_context(ensemble(folder / "zookeeper"))
        sim = stack.enter_context(simulated())
        sim.call(lambda: sim.cluster.add_agent("127.0.1.1"))
        marathon = stack.enter_context(sim.marathon())
        labels = LABELS | {"PHAROS_SCALE_MIN": "1"}
        raw = {"id": APP, "cmd": "serve", "cpus": 0.1, "mem": 32, "instances": 1, "labels": labels}
        sim.call(lambda: marathon.create({**raw, "portDefinitions": [{"name": "http", "labels": {}}]}))
        made = Alone(folder, sim, zookeeper)
        try:
            until(lambda: (made.told("/status") or {}).get("ready"), "it is ready", made.program.text, LIMIT)
            made.load.start()
            made.load.rate = 15
            yield made
        finally:
            zookeeper.servers[0].resume()
            made.load.finish()
            made.program.end()


def test_what_is_not_asked_for_any_more_ends_and_comes_back(alone: Alone) -> None:
    alone.decides("it decides at first")
    assert complaints(alone.program.text()) == []
    begin = len(alone.program.text())
    alone.reload(autoscale=None)
    until(lambda: alone.told() is None, "scaling is off", alone.program.text, LIMIT)
    assert alone.told("/status")["autoscale"] is None
    alone.reload(autoscale='interval = "2s"\nwindow = "3s"')
    alone.decides("it decides again")
    status = alone.told("/status")["autoscale"]
    assert (status["leading"], status["apps"], status["edges"]) == (True, 1, {"connected": 1})
    alone.reload(l7=alone.sections["l7"] + '\ncompat = "marathon-lb"')
    alone.decides("it decides in the other order of rules")
    alone.reload(zookeeper=None)
    alone.decides("it decides alone")
    alone.reload()
    alone.decides("it decides in ZooKeeper")
    assert complaints(alone.program.text()[begin:]) == []
    assert not alone.load.failures


def test_an_api_that_moves_is_told_anew(alone: Alone) -> None:
    alone.reload(api=f'listen = ["{HOST}:{alone.other_api}"]')
    alone.decides("it decides by the edge's new address")
    urls = [edge["url"] for edge in alone.told()["edges"] if edge["state"] == "connected"]
    assert urls == [f"http://{HOST}:{alone.other_api}"]
    alone.reload(api=None)
    until(lambda: (alone.told() or {}).get("edges") == [], "no edge is told of", alone.program.text, LIMIT)
    alone.reload()
    alone.decides("it is back")
    assert not alone.load.failures


def test_a_bad_file_and_a_marathon_that_is_away_take_nothing_away(alone: Alone) -> None:
    decider = alone.told()["decider"]
    (line,) = alone.reload(autoscale='interval = "x"')
    assert (line["level"], "autoscale.interval" in line["event"]) == ("error", True)
    assert (alone.told()["leading"], alone.told()["decider"]) == (True, decider)
    alone.reload(marathon=f'urls = ["http://{HOST}:{SILENT}"]')
    until(lambda: (alone.told() or {}).get("leading"), "it decides about what is known", alone.program.text, LIMIT)
    served = alone.load.statuses[200]
    until(lambda: alone.load.statuses[200] > served + 20, "requests are served", alone.program.text, LIMIT)
    alone.reload()
    alone.decides("Marathon is back")
    assert not alone.load.failures


def test_without_its_coordinator_it_serves_reloads_and_ends(alone: Alone) -> None:
    alone.zookeeper.servers[0].pause()
    alone.reload(autoscale='interval = "2s"\nwindow = "3s"')
    until(lambda: alone.told() and not alone.told()["leading"], "it decides no more", alone.program.text, LIMIT)
    served = alone.load.statuses[200]
    until(lambda: alone.load.statuses[200] > served + 20, "requests are served", alone.program.text, LIMIT)
    assert alone.told("/status")["autoscale"]["decider"] == ""
    assert not alone.load.failures
    alone.load.finish()
    assert alone.program.stop() == 0
    assert "Traceback" not in alone.program.text()


def test_with_nothing_that_answers_it_starts_and_ends(alone: Alone) -> None:
    """After the one before: ZooKeeper is away still."""
    nobody = f"http://{HOST}:{SILENT}"
    alone.write(mesos=f'masters = ["{nobody}"]', marathon=f'urls = ["{nobody}"]')
    begin = len(alone.program.text())
    alone.program.start()
    until(lambda: alone.told("/status"), "it answers", alone.program.text, LIMIT)
    assert alone.program.stop() == 0
    assert "Traceback" not in alone.program.text()[begin:]
