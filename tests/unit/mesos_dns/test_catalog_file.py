"""The catalog's file: what is written is read back, and whatever else is there is refused without harm."""

from __future__ import annotations

import asyncio
import os
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesos_dns import catalog_file
from mesos_dns.catalog_file import CatalogFile, Saved
from mesos_dns.model import (
    App,
    Draining,
    Endpoint,
    Ensemble,
    Entity,
    Framework,
    Health,
    HealthOverlay,
    Key,
    Leadership,
    Network,
    Node,
    NodeState,
    Port,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipCheck,
    VipSelector,
    VipServer,
)

ENTITIES: tuple[Entity, ...] = (
    Node(id="S1", hostname="h", addresses=("10.0.0.1", "fd00::1"), state=NodeState.DRAINING),
    Framework(id="F1", name="marathon", active=False),
    Task(
        framework_id="F1",
        id="t",
        name="tëst",
        node_id="S1",
        state="TASK_RUNNING",
        health=Health.PENDING,
        labels=(("k", "v"),),
        ports=(Port(2**32 - 1, "http", "tcp", (("VIP_0", "web:80"),)),),
        networks=(Network("dcos", ("9.0.0.1",)),),
        label_addresses=(("docker", "172.17.0.2"),),
        start_time=1.5,
    ),
    Leadership(leader=Endpoint("10.0.0.2", 5050), masters=(Endpoint("10.0.0.3"),)),
    App(id="/a", instances=3),
    HealthOverlay(framework_id="F1", task_id="t", health=Health.UNHEALTHY, ports=(80,)),
    VipAddress(name="web.marathon", address="11.0.0.1", address6="fd01:c::1"),
    Vip("db.marathon", 5432, selector=VipSelector(app="/db"), servers=(VipServer("10.0.0.4", 1),), check=VipCheck()),
    Suspect("10.0.0.1"),
    Draining("F1", "t", 1_800_000_000.5),
    Ensemble((("10.0.0.3", "fd00::3"), ())),
    StaticRecords("a.mesos.", 65280, 5, (b"\x00\xff", b""), "mesos."),
)
SNAPSHOT: dict[str, dict[Key, Entity]] = {
    "mesos": {entity.key: entity for entity in ENTITIES},
    "file": {},
}


def tasks(count: int) -> dict[Key, Entity]:
    made = [Task(framework_id="f", id=str(n), name="n", node_id="s", state="TASK_RUNNING") for n in range(count)]
    return {task.key: task for task in made}


async def saved(path: Path, **more: Any) -> CatalogFile:
    file = CatalogFile(path, max_age=3600)
    await file.save(SNAPSHOT, {"serial": 7, "text": "x"}, **more)
    return file


async def load(file: CatalogFile, now: float | None = None) -> Saved | None:
    return await asyncio.to_thread(file.load, now)


@pytest.mark.asyncio
async def test_every_kind_is_read_back_as_it_was(tmp_path: Path) -> None:
    file = CatalogFile(tmp_path / "deep" / "catalog", max_age=3600)
    size = await file.save(SNAPSHOT, {"serial": 2**32 - 1, "text": "x"})
    found = await load(file)
    assert found is not None
    assert found.extra == {"serial": 2**32 - 1, "text": "x"}
    assert set(found.sources["mesos"].entities) == set(ENTITIES)
    assert found.sources["file"].entities == ()
    assert found.sources["mesos"].as_of == found.created
    status = file.path.stat()
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (size, 0o600)
    assert os.listdir(tmp_path / "deep") == ["catalog"]


def test_every_kind_of_the_model_can_be_saved() -> None:
    assert {type(entity) for entity in ENTITIES} == set(catalog_file.KINDS.values())
    assert all(catalog_file.KINDS[entity.key[0]] is type(entity) for entity in ENTITIES)


@pytest.mark.asyncio
async def test_more_entities_than_a_slice(tmp_path: Path) -> None:
    many = tasks(3 * catalog_file.SLICE + 1)
    file = CatalogFile(tmp_path / "catalog", max_age=3600)
    await file.save({"mesos": many}, {})
    found = await load(file)
    assert found is not None
    assert len(found.sources["mesos"].entities) == len(many)
    assert {entity.key: entity for entity in found.sources["mesos"].entities} == many


@pytest.mark.asyncio
async def test_saving_gives_the_loop_a_turn_after_every_slice(tmp_path: Path) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(other())
    await CatalogFile(tmp_path / "catalog", 1).save({"mesos": tasks(20 * catalog_file.SLICE)}, {})
    busy.cancel()
    assert turns >= 20


@pytest.mark.asyncio
async def test_without_a_file_there_is_nothing_and_no_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await load(CatalogFile(tmp_path / "catalog", 1)) is None
    assert caplog.text == ""


@pytest.mark.asyncio
async def test_every_truncation_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = await saved(tmp_path / "catalog")
    whole = file.path.read_bytes()
    for length in range(len(whole)):
        file.path.write_bytes(whole[:length])
        caplog.clear()
        assert await load(file) is None
        assert "saved catalog refused" in caplog.text
    file.path.write_bytes(whole)
    assert await load(file) is not None


@pytest.mark.asyncio
async def test_every_damaged_octet_is_refused(tmp_path: Path) -> None:
    file = await saved(tmp_path / "catalog")
    whole = file.path.read_bytes()
    for at in range(len(whole)):
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert await load(file) is None
    file.path.write_bytes(whole + b"\0")
    assert await load(file) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "another magic"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"x" * 100), "another magic"),
        (lambda path: path.write_bytes(b"PHAROSCT\x00\x02" + bytes(100)), "format 2"),
        (lambda path: path.write_bytes(b"PHAROSCT\x00\x01" + bytes(8) + b"\xff" * 4), "impossible length"),
        (lambda path: path.mkdir(), "directory"),
    ],
)
async def test_foreign_files_are_refused_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "catalog"
    make(path)
    assert await load(CatalogFile(path, 1)) is None
    assert reason in caplog.text.lower()
    assert str(path) in caplog.text


@pytest.mark.asyncio
async def test_too_large_files_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await saved(tmp_path / "catalog")
    monkeypatch.setattr(catalog_file, "MAX_FILE", 10)
    assert await load(file) is None
    assert "at most 10 are read" in caplog.text


@pytest.mark.asyncio
async def test_a_source_that_is_too_old_is_left_out_and_the_extra_values_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await saved(tmp_path / "catalog", as_of={"mesos": 1000.0, "file": 3000.0})
    found = await load(file, now=5000.0)
    assert found is not None
    assert set(found.sources) == {"file"}
    assert found.extra["serial"] == 7
    assert "source mesos, too old" in caplog.text
    found = await load(file, now=4000.0)
    assert found is not None
    assert found.sources["mesos"].as_of == 1000.0


@pytest.mark.asyncio
async def test_a_clock_that_went_back_makes_nothing_too_old(tmp_path: Path) -> None:
    file = await saved(tmp_path / "catalog", as_of={"mesos": 5000.0})
    found = await load(file, now=1000.0)
    assert found is not None
    assert set(found.sources) == {"mesos", "file"}


def with_frames(path: Path, *frames: object) -> CatalogFile:
    """A file as another version of Pharos might have written it."""
    import hashlib

    body = struct.pack(">8sHd", b"PHAROSCT", 1, 1000.0)
    for frame in frames:
        encoded = msgspec.msgpack.encode(frame)
        body += struct.pack(">I", len(encoded)) + encoded
    body += bytes(4)
    path.write_bytes(body + hashlib.sha256(body).digest())
    return CatalogFile(path, 1e12)


@pytest.mark.asyncio
async def test_another_versions_fields_and_kinds_and_a_malformed_entity_cost_only_themselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"id": "S1", "hostname": "h", "a_new_field": [1, 2]}
    file = with_frames(
        tmp_path / "catalog",
        ["mesos", 1000.0, "", {}],
        ["mesos", 1000.0, "node", [good, {"id": 7}, {"hostname": "x"}, good | {"id": "S2"}]],
        ["mesos", 1000.0, "planet", [{"id": "earth"}]],
        ["", 0.0, "", {"serial": 3}],
    )
    found = await load(file)
    assert found is not None
    assert found.sources["mesos"].entities == (Node(id="S1", hostname="h"), Node(id="S2", hostname="h"))
    assert found.extra == {"serial": 3}
    assert "malformed node count=2" in caplog.text
    assert "unknown kind planet" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("frame", [1, ["mesos"], ["mesos", "x", "", {}], ["", 0.0, "", []], ["m", 1000.0, "node", {}]])
async def test_frames_of_another_shape_refuse_the_file(
    tmp_path: Path, frame: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert await load(with_frames(tmp_path / "catalog", ["m", 1000.0, "", {}], frame)) is None
    assert "saved catalog refused" in caplog.text


@pytest.mark.asyncio
async def test_an_entity_that_can_not_be_encoded_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog_file._complain.cache_clear()
    bad, good = Node(id="\ud800", hostname="h"), Node(id="S1", hostname="h")
    file = CatalogFile(tmp_path / "catalog", 3600)
    for _ in range(2):
        await file.save({"mesos": {bad.key: bad, good.key: good}}, {})
    found = await load(file)
    assert found is not None
    assert found.sources["mesos"].entities == (good,)
    assert caplog.text.count("entity not saved") == 1


@pytest.mark.asyncio
async def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await saved(tmp_path / "catalog")
    before = file.path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await file.save({"mesos": {}}, {})
    assert os.listdir(tmp_path) == ["catalog"]
    assert file.path.read_bytes() == before


@pytest.mark.asyncio
async def test_a_cancelled_save_waits_for_its_thread_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await saved(tmp_path / "catalog")
    before = file.path.read_bytes()
    entered, go_on = threading.Event(), threading.Event()
    flush = catalog_file._Writer.flush

    def slow(self: catalog_file._Writer) -> None:
        flush(self)
        entered.set()
        go_on.wait(30)

    monkeypatch.setattr(catalog_file._Writer, "flush", slow)
    monkeypatch.setattr(catalog_file, "WRITE_SIZE", 1)
    saving = asyncio.create_task(file.save({"mesos": tasks(1000)}, {}))
    await asyncio.to_thread(entered.wait, 30)
    saving.cancel()
    await asyncio.sleep(0)
    assert not saving.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert os.listdir(tmp_path) == ["catalog"]
    assert file.path.read_bytes() == before


@pytest.mark.asyncio
async def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / "catalog.new"
    left.write_bytes(b"half")
    left.chmod(0o644)
    file = await saved(tmp_path / "catalog")
    assert await load(file) is not None
    assert os.listdir(tmp_path) == ["catalog"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
