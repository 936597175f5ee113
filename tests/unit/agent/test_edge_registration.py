"""Where an edge says that it is, and that it says so as long as it runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import checks, edge_registration
from agent.config import ConfigError, load_text
from agent.coordinators import StateDirCoordinator
from agent.edge_registration import EdgeRegistration, advertised
from lb7.autoscale.known_edges import read_entry
from tests.fakes.memory_coordinator import Memory

SOURCE = "[marathon]\nurls = ['http://m:8080']\n[l7]\nhttps = []\nmax_connections = 10\n"
NAME = socket.gethostname()


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        ("", "http://127.0.0.1:8123"),
        ("listen = ['127.0.0.1:1', '10.0.0.1:2', '10.0.0.2:3']", "http://10.0.0.1:2"),
        ("listen = [':1']", f"http://{NAME}:1"),
        ("listen = ['[::]:1']", f"http://{NAME}:1"),
        ("listen = ['[::1]:1', ':2']", f"http://{NAME}:2"),
        ("listen = [':1', '[fd00::1]:2']", "http://[fd00::1]:2"),
        ("listen = ['[::1]:1']", "http://[::1]:1"),
        ("listen = [':1']\ncert_file = '/c'\nkey_file = '/k'", f"https://{NAME}:1"),
        ("advertise = 'https://edge.example.com/'", "https://edge.example.com"),
    ],
)
def test_what_is_advertised(api: str, expected: str) -> None:
    assert advertised(load_text(f"{SOURCE}[api]\n{api}", "f")) == expected


def test_a_port_that_the_system_chose_is_told() -> None:
    config = load_text(f"{SOURCE}[api]\nlisten = ['127.0.0.1:0', '10.0.0.1:0']", "f")
    assert advertised(config, [("127.0.0.1", 5), ("10.0.0.1", 6)]) == "http://10.0.0.1:6"


def test_without_an_api_there_is_nothing_to_advertise() -> None:
    assert advertised(load_text(SOURCE, "f")) is None


@pytest.mark.parametrize("url", ["http://e", "https://e.example.com:1", "http://10.0.0.1:8123/", "http://[fd00::1]:1"])
def test_urls_that_can_be_advertised(url: str) -> None:
    load_text(f"{SOURCE}[api]\nadvertise = '{url}'", "f")


@pytest.mark.parametrize(
    "url",
    [
        "e",
        "ftp://e",
        "http://",
        "http://:1",
        "http://e:0",
        "http://e:x",
        "http://e/path",
        "http://e?x",
        "http://10.0.0.300",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_text(f"{SOURCE}[api]\nadvertise = '{url}'", "f")
    (problem,) = error.value.problems
    assert str(problem) == f"api.advertise: expected http(s)://HOST[:PORT], got {url!r}"


def test_a_secret_in_the_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as error:
        load_text(f"{SOURCE}[api]\nadvertise = 'http://me:secret@e'", "f")
    assert "secret" not in str(error.value)
    assert "credentials" in str(error.value)


def test_who_says_what_others_can_not_reach_is_advised() -> None:
    def advice(text: str) -> list[str]:
        found = map(str, checks.advice(load_text(SOURCE + text, "f")))
        return [line for line in found if line.startswith("api")]

    zookeeper = "[zookeeper]\nhosts = ['z']\n"
    (line,) = advice(f"{zookeeper}[api]\n")
    assert "can't reach http://127.0.0.1:8123" in line
    assert advice("[api]\n") == []
    assert advice(f"{zookeeper}[api]\nlisten = [':8123']") == []
    assert advice(zookeeper) == []
    token = "token_file = '/t'\n"
    (line,) = advice(f"{zookeeper}[api]\nlisten = ['10.0.0.1:8123']\n{token}")
    assert line.startswith("api.token_file: who decides shows http://10.0.0.1:8123 no token over plain HTTP")
    assert advice(f"{zookeeper}[api]\nlisten = ['10.0.0.1:8123']\ncert_file = '/c'\nkey_file = '/k'\n{token}") == []
    (line,) = advice(f"{zookeeper}[autoscale]\n")
    assert line.startswith("api: is off")


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_it_is_held_as_long_as_it_runs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(edge_registration, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(edge_registration, "AGAIN", 0.01)
    memory, urls = Memory(), ["http://a:1"]
    memory.lost = True
    running = asyncio.create_task(EdgeRegistration(memory.client(), "e1", lambda: urls[0]).run())
    await until(lambda: caplog.records)
    memory.lost = False
    await until(lambda: "edges/e1" in memory.values)
    assert len(caplog.records) == 1
    assert read_entry(memory.values["edges/e1"].value) == "http://a:1"
    urls[0] = "http://b:2"
    await until(lambda: [read_entry(each.value) for each in memory.values.values()] == ["http://b:2"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert memory.values == {}


@pytest.mark.asyncio
async def test_in_the_state_directory_too(tmp_path: Path) -> None:
    coordinator = StateDirCoordinator(tmp_path)
    running = asyncio.create_task(EdgeRegistration(coordinator, "e1", lambda: "http://a:1").run())
    async with asyncio.timeout(60):
        async for values in coordinator.watch("edges"):
            if values:
                break
    assert read_entry(values["edges/e1"]) == "http://a:1"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await coordinator.get("edges/e1") is None
    coordinator.close()
