"""What keeps an app from being changed: deployments, Marathon's own delays, cooldowns, pauses; schedules, which have it
changed without a metric; and the policies of marathon-lb-autoscale's flags.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.coordinators import StateDirCoordinator
from agent.demo.marathon_deployments import Deployment
from lb7.autoscale.marks import DEPLOYED, Marks
from tests.ports import free_ports
from tests.system.autoscale_alone import Alone, alone
from tests.system.autoscale_stage import HOST, LIMIT, TARGET
from tests.system.resolver_lab import Program, until

HELD_BACK = 1000.0
"""Seconds: until a test says otherwise."""
DELAY = 6.0
COOLDOWN = 4.0
POLICY = {
    "PHAROS_SCALE_MIN": "1",
    "PHAROS_SCALE_MAX": "6",
    "PHAROS_SCALE_RPS": str(TARGET),
    "PHAROS_SCALE_DOWN_WINDOW": "1s",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    with alone(Path(tmp_path_factory.mktemp("judgement"))) as found:
        yield found


def create(made: Alone, name: str, instances: int = 1, **labels: str) -> str:
    """An app that the edge knows by its name."""
    routed = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": f"{name}.example.test"}
    made.create(instances, f"/{name}", **routed, **POLICY | labels)
    return f"/{name}"


def load(made: Alone, app: str, instances: float) -> None:
    """Requests for so many instances, from now on."""
    made.load_of(f"{app[1:]}.example.test", instances * TARGET)


def hold_back(made: Alone, app: str, seconds: float) -> None:
    """Marathon starts no instance of an app for so long; 0: at once again."""
    made.marathon(lambda marathon: marathon.hold_back(app, seconds))


def test_a_deployment_that_is_under_way_is_waited_for(made: Alone) -> None:
    app = create(made, "busy")
    hold_back(made, app, HELD_BACK)
    deployment: Deployment = made.marathon(lambda marathon: marathon.update(marathon.apps[app], {"instances": 2}))
    load(made, app, 3.6)
    until(lambda: made.row(app)["decision"].get("wanted") == 4, "it is to have 4", made.told, LIMIT)
    decision = made.decided("locked", app)
    assert f"a deployment is under way: {deployment.id}" in decision["text"]
    assert made.deployments() == [deployment.id]
    hold_back(made, app, 0)
    made.until_running(4, app=app)
    assert made.changes_of(app) == [(1, 2), (2, 4)]
    assert not any(change.forced for change in made.changes)


def test_marathon_waits_itself_and_is_not_asked_for_more(made: Alone) -> None:
    app = create(made, "queued", 2, PHAROS_SCALE_MIN="2")
    hold_back(made, app, DELAY)
    made.marathon(
        lambda marathon: marathon.cluster.update(next(iter(marathon.apps[app].instances.values())).task, "TASK_FAILED")
    )
    load(made, app, 3.6)
    decision = made.decided("locked", app)
    assert "delayed: Marathon waits" in decision["text"]
    assert made.changes_of(app) == []
    made.until_running(4, app=app)
    assert made.changes_of(app) == [(2, 4)]


def test_a_deployment_of_pharos_is_waited_for(made: Alone) -> None:
    app = create(made, "ours")
    key = ("app", "mesos", made.marathon(lambda marathon: marathon.framework.id), app)

    def mark(is_marked: bool) -> None:
        coordinator = StateDirCoordinator(made.folder / "one" / "state" / "coordination")
        asyncio.run(Marks(coordinator, DEPLOYED).set(key, is_marked))
        coordinator.close()

    mark(True)
    load(made, app, 1.8)
    decision = made.decided("locked", app)
    assert "a deployment of Pharos is under way" in decision["text"]
    assert decision["wanted"] == 2
    assert made.changes_of(app) == []
    mark(False)
    made.until_running(2, app=app)


def test_cooldowns_pauses_dry_runs_and_schedules(made: Alone) -> None:
    open_always = "* * * * * to 0 0 1 1 * min=3"
    office = create(made, "office", PHAROS_SCALE_SCHEDULE_HOURS=open_always)
    cooling = create(made, "cooling", PHAROS_SCALE_UP_RATES="1/1s", PHAROS_SCALE_UP_COOLDOWN=f"{COOLDOWN:g}s")
    paused = create(made, "paused", PHAROS_SCALE_PAUSE="true")
    dry = create(made, "dry", PHAROS_SCALE_DRY_RUN="true")
    for app in (cooling, paused, dry):
        load(made, app, 2.7)
    made.until_running(3, app=office)
    assert made.row(office)["decision"]["schedules"] == ["hours"]
    made.decided("cooldown", cooling)
    made.until_running(3, app=cooling)
    times = [change.at for change in made.changes if change.app == cooling]
    assert made.changes_of(cooling) == [(1, 2), (2, 3)]
    assert all(after - before >= COOLDOWN for before, after in itertools.pairwise(times))
    for app, reason in ((paused, "paused"), (dry, "dry-run")):
        decision = made.decided(reason, app)
        until(lambda app=app: made.row(app)["decision"]["wanted"] == 3, "it would be 3", made.told, LIMIT)  # type: ignore[misc]
        assert (decision["instances"], made.running(app), made.changes_of(app)) == (1, 1, [])


def test_the_flags_of_marathon_lb_autoscale(made: Alone, tmp_path: Path) -> None:
    routed = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "flags.example.test"}
    made.create(1, "/flags", **routed)
    url = made.marathon(lambda marathon: marathon.framework.webui_url)
    flags = f"--marathon {url} --haproxy http://127.0.0.1:9090 --apps flags_10000 --interval 1 --samples 2 --cooldown 1"
    flags += f" --target-rps {TARGET} --max-instances 4"
    command = [sys.executable, "-m", "agent", "import", "marathon-lb-autoscale", "--", *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--haproxy" in done.stderr
    port, api, admin = free_ports(3)
    # Only where it listens is not as it was printed, and the edge is in it.
    text = done.stdout.replace("[api]\n", f'[api]\nlisten = ["{HOST}:{api}"]\n')
    text = text.replace("[admin]\n", f'[admin]\nlisten = ["{HOST}:{admin}"]\n')
    assert text.count("\nlisten = ") == 2
    more = f'[l7]\nhttp = ["{HOST}:{port}"]\nhttps = []\napp_id = []\nservice_ports = false\nworkers = 1\n'
    (tmp_path / "pharos.toml").write_text(f'state_dir = "{tmp_path / "state"}"\n{text}\n{more}')
    run = [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "pharos.toml")]
    made.programs["flags"] = program = Program(run, tmp_path / "log")
    made.ports["flags"] = (api, admin)
    until(lambda: made.is_ready("flags"), "it is ready", program.text, LIMIT)
    asked = made.load_of("flags.example.test", 0, port)
    asked.rate = 3.6 * TARGET
    made.until_running(4, app="/flags")
    asked.rate = 0.5 * TARGET
    made.until_running(1, app="/flags")
    assert set(asked.statuses) == {200}, asked.failures
    assert all(change.app != "/flags" or 1 <= change.after <= 4 for change in made.changes)
