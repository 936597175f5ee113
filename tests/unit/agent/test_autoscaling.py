"""agent.autoscaling: who decides by which configuration, where edges say that they are, and one app from end to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from agent import autoscaling
from agent.autoscaling import Autoscaling, coordinates, decides
from agent.config import load_text
from agent.edge_registration import EdgeRegistration
from agent.sections import Config
from lb7.autoscale.known_edges import PREFIX
from mesos_dns.catalog import Catalog
from mesos_dns.hosts import Hosts
from mesos_dns.model import Framework, Put
from tests.fakes.marathon import FollowedMarathon, Marathons, app
from tests.fakes.memory_coordinator import Memory
from tests.fakes.replay import no_names

RELAY = '[relay]\nservers = ["http://127.0.0.1:1"]\n'
ALWAYS_THREE = {
    "PHAROS_SCALE_MIN": "3",
    "PHAROS_SCALE_MAX": "5",
    "PHAROS_SCALE_RPS": "10",
}


def config(text: str) -> Config:
    return load_text(f'state_dir = "/nowhere"\n{text}', "test")


def edge(catalog: Catalog | None = None, known: Callable[[], bool] = lambda: True) -> Autoscaling:
    return Autoscaling(catalog if catalog is not None else Catalog(), "one", known, lambda: Hosts(resolve=no_names))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(scaling: Autoscaling, text: str, memory: Memory | None) -> AsyncIterator[Autoscaling]:
    await scaling.open(config(text), memory.client() if memory is not None else None)
    try:
        yield scaling
    finally:
        await scaling.close()


@pytest.mark.parametrize(
    ("text", "decider", "coordinated"),
    [
        ("", False, False),
        ("[autoscale]\n", False, False),
        ('[autoscale]\n[marathon]\nurls = ["http://127.0.0.1:1"]\n', True, True),
        (f"[l7]\n{RELAY}", False, False),
        (f'[l7]\n{RELAY}[zookeeper]\nhosts = ["127.0.0.1"]\n', False, True),
    ],
)
def test_who_needs_a_coordinator(text: str, decider: bool, coordinated: bool) -> None:
    assert (decides(config(text)), coordinates(config(text))) == (decider, coordinated)


@pytest.mark.asyncio
async def test_an_edge_says_where_it_is_while_it_runs() -> None:
    memory = Memory()
    text = f'[l7]\n{RELAY}[api]\nlisten = ["127.0.0.1:8123"]\n'
    async with opened(edge(), text, memory) as scaling:
        await until(lambda: f"{PREFIX}/one" in memory.values)
        assert msgspec.json.decode(memory.values[f"{PREFIX}/one"].value)["url"] == "http://127.0.0.1:8123"
        assert scaling.autoscale() is None
        assert await scaling.metrics() == []
        assert await scaling.status() is None
    assert f"{PREFIX}/one" not in memory.values


@pytest.mark.asyncio
async def test_a_part_that_fails_goes_on_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(autoscaling, "AGAIN", 0.0)
    tries = 0

    async def fail(self: EdgeRegistration) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("first" if tries < 5 else "second")

    monkeypatch.setattr(EdgeRegistration, "run", fail)
    async with opened(edge(), f'[l7]\n{RELAY}[api]\nlisten = ["127.0.0.1:8123"]\n', Memory()):
        await until(lambda: tries > 10)
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "CRITICAL"]


@pytest.mark.asyncio
async def test_without_a_coordinator_nothing_is_scaled_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with opened(edge(), '[autoscale]\n[marathon]\nurls = ["http://127.0.0.1:1"]\n', None) as scaling:
        assert scaling.autoscale() is None
    assert "nothing is scaled: there is no coordinator" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("named", [True, False])
async def test_an_app_is_brought_to_its_bounds_and_that_is_told(named: bool) -> None:
    memory = Memory()
    definition = app("/web", instances=1, labels=ALWAYS_THREE)
    async with Marathons(definition) as marathons, FollowedMarathon(*marathons.instances.urls) as followed:
        if not named:  # it is found among the frameworks of the cluster
            framework = Framework(marathons.framework.id, "marathon", webui_url=marathons.instances.urls[0])
            followed.catalog.register("mesos")
            followed.catalog.publish("mesos", Put(framework))
        marathon = f"[marathon]\nurls = {list(marathons.instances.urls)}\n".replace("'", '"')
        found = marathon if named else '[marathon]\n[mesos]\nmasters = ["http://127.0.0.1:1"]\n'
        ready = asyncio.Event()
        scaling = edge(followed.catalog, ready.is_set)
        async with opened(scaling, f'[autoscale]\ninterval = "1s"\n{found}', memory):
            assert scaling.scaler is not None
            assert not scaling.scaler.leading
            ready.set()
            await until(lambda: marathons.simulated("/web").definition.instances == 3)
            told = scaling.autoscale()
            assert told is not None
            async with asyncio.timeout(60):
                while not (shown := (await told.shown("/web")).apps) or shown[0].action is None:
                    await asyncio.sleep(0.02)
            assert (shown[0].action.before, shown[0].action.after) == (1, 3)
            status = await scaling.status()
            assert status is not None
            assert (status["leading"], status["decider"], status["apps"]) == (True, "one", 1)
            names = {metric.name for metric in await scaling.metrics()}
            assert "pharos_autoscale_leading" in names
        assert scaling.autoscale() is None
