"""Apps that are scaled by what others tell than edges: the CPU and memory of Mesos' agents, and hooks; and by all
listeners of the edge together.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.autoscale_alone import AGENTS, Alone, alone
from tests.system.autoscale_stage import HOST, LIMIT, TARGET
from tests.system.prometheus_server import Served, exporter
from tests.system.resolver_lab import until

POLICY = {"PHAROS_SCALE_MIN": "1", "PHAROS_SCALE_MAX": "6", "PHAROS_SCALE_DOWN_WINDOW": "1s"}


@pytest.fixture(scope="module")
def hook() -> Iterator[Served]:
    with exporter() as served:
        served.text = '{"value": 30}'
        yield served


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, hook: Served) -> Iterator[Alone]:
    folder = Path(tmp_path_factory.mktemp("metrics"))
    of_config = (
        f'[autoscale.apps."/of/config"]\nmax = 6\n'
        f'metrics = [{{ kind = "hook", name = "told", target = 10, url = "http://{hook.place}/private/told" }}]\n'
    )
    with alone(folder, f'hooks = ["http://{hook.place}/open/"]\n{of_config}') as found:
        yield found


def test_by_cpu_and_memory_of_the_agents(made: Alone) -> None:
    silent = list(made.sim.cluster.agents.values())[-1]
    made.agents.silent.add(silent.id)
    silent.deactivated = True  # it gets no task of these two
    made.agents.use("by_cpu", cpu=1.0)
    made.agents.use("by_memory", memory=0.9)
    made.agents.use("in_part", cpu=0.05)
    made.create(2, "/by/cpu", **POLICY | {"PHAROS_SCALE_MAX": "4"}, PHAROS_SCALE_CPU="50%")
    made.create(2, "/by/memory", **POLICY | {"PHAROS_SCALE_MAX": "3"}, PHAROS_SCALE_MEMORY="60%")
    made.until_running(4, app="/by/cpu")
    made.until_running(3, app="/by/memory")
    silent.deactivated = False
    made.create(AGENTS, "/in/part", **POLICY, PHAROS_SCALE_CPU="50%")
    assert silent.tasks
    made.sim.call(lambda: made.agents.use("by_cpu", cpu=0.05))
    made.until_running(1, app="/by/cpu")
    # Of one instance nobody knows what it does: so all stay, though the others do next to nothing.
    decision = made.decided("no-metric", "/in/part")
    assert "is less than there are, but cpu is known in part" in decision["text"], decision
    assert made.changes_of("/in/part") == []
    assert made.changes_of("/by/memory") == [(2, 3)]


def test_by_hooks_where_labels_may_have_them(made: Alone, hook: Served) -> None:
    hook.paths.clear()
    for name, path in (("allowed", "open/told?key=a"), ("refused", "opened/told"), ("above", "open/../private/told")):
        asked = {"PHAROS_SCALE_HOOK_told": f"http://{hook.place}/{path}", "PHAROS_SCALE_TARGET_told": "10"}
        made.create(1, f"/hook/{name}", **POLICY, **asked)
    made.create(1, "/of/config")
    made.until_running(3, app="/hook/allowed")
    made.until_running(3, app="/of/config")
    decision = made.decided("no-metric", "/hook/refused")
    assert "begins with none of [autoscale] hooks" in decision["text"]
    decision = made.decided("no-metric", "/hook/above")
    assert 'expected a path without ".", ".."' in decision["text"]
    assert made.running("/hook/refused") == made.running("/hook/above") == 1
    assert set(hook.paths) == {"/open/told?key=a", "/private/told"}
    hook.status = 503
    made.decided("steady", "/hook/allowed")  # for some time the last value counts
    hook.status, hook.text = 200, '{"value": "ten"}'
    decision = made.decided("no-metric", "/hook/allowed")
    assert "key=a" not in str(made.autoscale("one"))
    assert made.running("/hook/allowed") == 3
    hook.text = "9.5"
    made.until_running(1, app="/hook/allowed")


def test_an_app_has_one_load_by_whichever_listener_it_comes(made: Alone) -> None:
    vhost = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "two.example.test"}
    made.create(1, "/two", **POLICY, **vhost, PHAROS_SCALE_RPS=str(TARGET))
    port = made.marathon(lambda marathon: marathon.apps["/two"].service_ports[0])
    until(lambda: _answers(port), "its service port answers", made.told, LIMIT)
    by_name = made.load_of("two.example.test", 1.9 * TARGET)
    made.until_running(2, app="/two")
    by_port = made.load_of("any.example.test", 1.9 * TARGET, port)
    made.until_running(4, app="/two")
    until(lambda: 3.5 * TARGET < _value(made, "/two") < 4.1 * TARGET, "both count, once", made.told, LIMIT)
    assert set(by_name.statuses) == set(by_port.statuses) == {200}, by_name.failures + by_port.failures
    by_name.rate = by_port.rate = 0.0


def _value(made: Alone, app: str) -> float:
    """What the only metric of an app was in its last decision."""
    return float(made.row(app)["decision"]["proposals"][0]["value"] or 0)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
