"""Which coordinator a process has: ZooKeeper's or the state directory's, across reloads, over shared sessions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import load_text
from agent.coordination import FOLDER, Coordination, Ensemble, place
from agent.coordinators import StateDirCoordinator
from agent.sections import Config
from agent.zookeeper_coordinator import ZooKeeperCoordinator
from agent.zookeeper_sessions import Sessions, ensemble_target
from mesos_dns.coordinate import ABSENT, Coordinator, CoordinatorLost, Versioned
from mesos_dns.zookeeper_target import Target
from tests.system.ensemble import Ensemble as Servers
from tests.zookeeper_clients import unique_path, until


def config(folder: Path, zookeeper: str = "", more: str = "") -> Config:
    section = f"[zookeeper]\n{zookeeper}\n" if zookeeper else ""
    return load_text(f"state_dir = '{folder}'\n{section}{more}", "f.toml")


def test_where_it_is(tmp_path: Path) -> None:
    assert place(config(tmp_path)) == tmp_path / FOLDER
    assert place(config(tmp_path, more="[mesos]\nzk = 'zk://a/mesos'\n")) == tmp_path / FOLDER
    found = place(config(tmp_path, "hosts = ['a', 'b:1']\nroot = '/our/own/'\nsession_timeout = '4s'"))
    assert found == Ensemble(Target((("a", 2181), ("b", 1)), session_timeout=4.0), "/our/own")


@pytest.mark.asyncio
async def test_the_state_directory(tmp_path: Path) -> None:
    coordination = Coordination(Sessions())
    asked = config(tmp_path)
    assert not await coordination.is_for(asked)
    coordinator: Coordinator = await coordination.open(asked)
    assert coordination.coordinator is coordinator
    assert isinstance(coordinator, StateDirCoordinator)
    assert coordination.target is None
    await coordinator.put_if("a", b"1", ABSENT)
    assert (tmp_path / FOLDER / "data").is_dir()
    assert await coordination.is_for(config(tmp_path, more="[dns]\n"))
    assert await coordination.open(config(tmp_path, more="[dns]\n")) is coordinator
    await coordination.close()
    assert coordination.coordinator is None
    await coordination.close()
    again = await coordination.open(asked)
    assert await again.get("a") == Versioned(b"1", 0)
    await coordination.close()


@pytest.mark.asyncio
async def test_the_ensemble_over_the_session_of_others(tmp_path: Path, zookeeper: Servers) -> None:
    sessions = Sessions()
    coordination = Coordination(sessions)
    root = unique_path()
    asked = config(tmp_path, f"hosts = {json.dumps(zookeeper.hosts)}\nroot = '{root}'\nsession_timeout = '4s'")
    target = ensemble_target(asked)
    assert target is not None
    session = sessions.get(target)
    coordinator = await coordination.open(asked)
    try:
        assert sessions.all() == [session]
        assert coordination.target == target
        await until(lambda: session.connected)
        await coordinator.put_if("a", b"1", ABSENT)
        assert await session.get(f"{root}/keys/a/=value") is not None

        # Another root in the same ensemble: another coordinator over the same session.
        other_root = config(
            tmp_path, f"hosts = {json.dumps(zookeeper.hosts)}\nroot = '{root}/b'\nsession_timeout = '4s'"
        )
        assert not await coordination.is_for(other_root)
        other = await coordination.open(other_root)
        assert other is not coordinator
        assert sessions.all() == [session]
        assert await other.get("a") is None

        # Without the section: the state directory; the session is nobody's now.
        assert isinstance(await coordination.open(config(tmp_path)), StateDirCoordinator)
        assert coordination.target is None
        assert session.connected
        await sessions.keep(set())
        assert not session.connected

        back = await coordination.open(asked)
        await until(lambda: all(opened.connected for opened in sessions.all()))
        assert await back.get("a") == Versioned(b"1", 0)
    finally:
        await coordination.close()
        await sessions.keep(set())


@pytest.mark.asyncio
async def test_an_ensemble_that_is_not_there_is_no_reason_to_use_another_place(tmp_path: Path, free_port: int) -> None:
    sessions = Sessions()
    coordination = Coordination(sessions)
    coordinator = await coordination.open(config(tmp_path, f"hosts = ['127.0.0.1:{free_port}']"))
    try:
        assert isinstance(coordinator, ZooKeeperCoordinator)
        with pytest.raises(CoordinatorLost):
            await coordinator.get("a")
        assert "ZooKeeperCoordinator" in repr(coordination)
    finally:
        await coordination.close()
        await sessions.keep(set())


@pytest.mark.asyncio
async def test_what_can_not_be_read_changes_nothing(tmp_path: Path) -> None:
    sessions = Sessions()
    coordination = Coordination(sessions)
    (tmp_path / "secret").write_text("s3cret\n")
    asked = config(tmp_path, f"hosts = ['a']\nauth = 'digest'\nprincipal = 'bob'\nsecret_file = '{tmp_path}/secret'")
    (tmp_path / "secret").unlink()
    with pytest.raises(OSError, match="secret"):
        await coordination.open(asked)
    assert (coordination.coordinator, sessions.all()) == (None, [])
    coordinator = await coordination.open(config(tmp_path))
    for ask in (coordination.open, coordination.is_for):
        with pytest.raises(OSError, match="secret"):
            await ask(asked)
    assert coordination.coordinator is coordinator
    await coordination.close()
