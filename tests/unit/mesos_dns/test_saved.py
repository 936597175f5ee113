"""Saving and restoring the catalog: a restart in an unchanged cluster changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mesos_dns import saved as module
from mesos_dns.catalog import Catalog, Delta
from mesos_dns.model import Drop, Entity, Framework, Key, Node, Put, StaticRecords, Sync, Task
from mesos_dns.saved import SavedCatalog

ENTITIES: tuple[Entity, ...] = (
    Node(id="S1", hostname="h", addresses=("10.0.0.1",)),
    Framework(id="F1", name="marathon"),
    *(Task(framework_id="F1", id=str(n), name="web", node_id="S1", state="TASK_RUNNING") for n in range(1000)),
)
RECORD = StaticRecords("a.mesos.", 1, 5, (b"\x0a\x00\x00\x01",))


def keeper(
    catalog: Catalog,
    folder: Path,
    interval: float = 0.0,
    max_age: float = 3600.0,
    extra: Callable[[], Mapping[str, int | str]] = dict,
) -> SavedCatalog:
    return SavedCatalog(catalog, folder / "catalog", max_age=max_age, interval=interval, extra=extra)


def fresh(*sources: str) -> Catalog:
    catalog = Catalog()
    for source in sources:
        catalog.register(source)
    return catalog


async def cluster() -> Catalog:
    catalog = fresh("mesos", "file")
    await catalog.sync("mesos", Sync(changed=ENTITIES))
    catalog.publish("file", Put(RECORD))
    for source in ("mesos", "file"):
        catalog.mark(source, connected=True, synced=True)
    return catalog


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_a_restart_with_the_same_tasks_yields_no_change(tmp_path: Path) -> None:
    before = await cluster()
    assert await keeper(before, tmp_path, extra=lambda: {"serial": 2024}).save()

    catalog = fresh("mesos", "file")
    assert await keeper(catalog, tmp_path).restore() == {"serial": 2024}
    assert {entity.key: entity for entity in catalog.entities()} == {each.key: each for each in before.entities()}
    for name in ("mesos", "file"):
        status = catalog.sources[name]
        assert (status.restored, status.connected, status.synced, status.stale) == (True, False, False, True)

    deltas: list[Delta] = []
    catalog.listen(deltas.append, replay=False)
    version = catalog.version
    await catalog.sync("mesos", Sync(changed=ENTITIES))
    catalog.mark("mesos", connected=True, synced=True)
    await asyncio.sleep(0)
    assert (deltas, catalog.version) == ([], version)
    assert not catalog.sources["mesos"].restored

    await catalog.sync("mesos", Sync(changed=ENTITIES[:-1]))
    await asyncio.sleep(0)
    assert [list(delta.changes) for delta in deltas] == [[ENTITIES[-1].key]]
    assert catalog.get(RECORD.key) == RECORD


@pytest.mark.asyncio
async def test_sources_that_spoke_or_are_not_configured_get_nothing(tmp_path: Path) -> None:
    await keeper(await cluster(), tmp_path).save()
    catalog = fresh("file")
    other = StaticRecords("b.mesos.", 1, 5, (b"\x0a\x00\x00\x02",))
    catalog.publish("file", Put(other))
    await keeper(catalog, tmp_path).restore()
    assert list(catalog.entities()) == [other]
    assert not catalog.sources["file"].restored
    assert "mesos" not in catalog.sources


@pytest.mark.asyncio
async def test_the_order_of_trust_is_that_of_registration_not_of_the_file(tmp_path: Path) -> None:
    catalog = fresh("a", "b")
    for source in ("b", "a"):
        catalog.publish(source, Put(Node(id="n", hostname=source)))
    await keeper(catalog, tmp_path).save()
    again = fresh("b", "a")
    await keeper(again, tmp_path).restore()
    assert again.get(("node", "mesos", "n")) == Node(id="n", hostname="b")
    again.publish("b", Drop(("node", "mesos", "n")))
    assert again.get(("node", "mesos", "n")) == Node(id="n", hostname="a")


@pytest.mark.asyncio
async def test_age_counts_from_the_last_true_word_however_often_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("time.time", lambda: clock)
    catalog = await cluster()
    clock = 2000.0
    catalog.mark("mesos", connected=False, detail="gone")
    clock = 2500.0
    await keeper(catalog, tmp_path).save()

    clock = 3000.0
    second = fresh("mesos", "file")
    await keeper(second, tmp_path).restore()
    assert second.sources["mesos"].since == 2000.0
    assert second.sources["file"].since == 2500.0
    second.mark("mesos", connected=False, detail="still gone")
    clock = 5000.0
    await keeper(second, tmp_path).save()

    # A third process still knows when it was last right, 3400 s ago, and a fourth that it is over (3700 s).
    clock = 5400.0
    third = fresh("mesos", "file")
    await keeper(third, tmp_path).restore()
    assert third.sources["mesos"].since == 2000.0
    clock = 5700.0
    fourth = fresh("mesos", "file")
    await keeper(fourth, tmp_path).restore()
    assert (len(fourth.said("mesos")), len(fourth.said("file"))) == (0, 1)


@pytest.mark.asyncio
async def test_nothing_to_restore(tmp_path: Path) -> None:
    catalog = fresh("mesos")
    assert await keeper(catalog, tmp_path).restore() == {}
    (tmp_path / "catalog").write_bytes(b"foreign")
    assert await keeper(catalog, tmp_path).restore() == {}
    assert not catalog.sources["mesos"].restored


@pytest.mark.asyncio
async def test_it_saves_after_each_change(tmp_path: Path) -> None:
    catalog = fresh("mesos", "file")
    saving = keeper(catalog, tmp_path)
    catalog.publish("file", Put(RECORD))
    task = asyncio.create_task(saving.run())
    await until(lambda: saving.saves == 1)  # what was said before it ran counts too
    await catalog.sync("mesos", Sync(changed=ENTITIES))
    await until(lambda: saving.saves >= 2)
    before = saving.saves
    catalog.publish("file", Drop(RECORD.key))
    await until(lambda: saving.saves > before)
    assert saving.last_size == await asyncio.to_thread(os.path.getsize, tmp_path / "catalog")
    task.cancel()
    await asyncio.wait([task])
    again = fresh("mesos", "file")
    await keeper(again, tmp_path).restore()
    assert len(again) == len(ENTITIES)


@pytest.mark.asyncio
async def test_what_was_restored_and_an_empty_catalog_are_not_written_again(tmp_path: Path) -> None:
    await keeper(await cluster(), tmp_path).save()
    for catalog, folder in ((fresh("mesos", "file"), tmp_path), (fresh("mesos"), tmp_path / "none")):
        saving = keeper(catalog, folder)
        await saving.restore()
        task = asyncio.create_task(saving.run())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert saving.saves == 0
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.asyncio
async def test_an_unchanged_catalog_is_not_saved_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COST_FACTOR", 0)
    saving = keeper(await cluster(), tmp_path)
    task = asyncio.create_task(saving.run())
    await until(lambda: saving.saves == 1)
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert saving.saves == 1
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.asyncio
async def test_many_changes_within_the_interval_are_one_save(tmp_path: Path) -> None:
    catalog = await cluster()
    saving = keeper(catalog, tmp_path, interval=3600.0)
    task = asyncio.create_task(saving.run())
    await until(lambda: saving.saves == 1)
    for number in range(10):
        catalog.publish("mesos", Put(Node(id=str(number), hostname="h")))
        await asyncio.sleep(0.01)
    assert saving.saves == 1
    task.cancel()
    await asyncio.wait([task])
    assert await saving.save()  # as the service does at its end
    again = fresh("mesos")
    await keeper(again, tmp_path).restore()
    assert len(again) == len(ENTITIES) + 10


@pytest.mark.asyncio
async def test_an_unchanged_catalog_is_written_again_before_it_would_grow_too_old(tmp_path: Path) -> None:
    saving = keeper(await cluster(), tmp_path, max_age=0.24)
    task = asyncio.create_task(saving.run())
    await until(lambda: saving.saves >= 3)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.asyncio
async def test_pauses_grow_with_the_cost_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(3600 if len(pauses) == 2 else 0)

    saving = keeper(await cluster(), tmp_path, interval=0.001)
    monkeypatch.setattr(asyncio, "sleep", noted)
    task = asyncio.create_task(saving.run())
    while len(pauses) < 2:
        await sleep(0.001)
    assert pauses == [min(0.001, module.SETTLE), max(0.001, module.COST_FACTOR * saving.last_seconds)]
    assert saving.last_seconds > 0
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.asyncio
async def test_a_disk_that_takes_nothing_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    saving = keeper(await cluster(), folder)
    with caplog.at_level(logging.ERROR):
        assert not await saving.save()
        assert not await saving.save()
    assert (saving.errors, saving.saves) == (2, 0)
    assert caplog.text.count("catalog not saved") == 1
    folder.unlink()
    assert await saving.save()


@pytest.mark.asyncio
async def test_changes_while_it_is_saved_are_saved_next(tmp_path: Path) -> None:
    catalog = await cluster()
    saving = keeper(catalog, tmp_path)
    extras: list[int] = []

    def extra() -> Mapping[str, int | str]:
        extras.append(len(catalog))
        if len(extras) == 1:
            catalog.publish("mesos", Put(Node(id="late", hostname="h")))
        return {}

    saving._extra = extra
    task = asyncio.create_task(saving.run())
    await until(lambda: saving.saves == 2)
    task.cancel()
    await asyncio.wait([task])
    again = fresh("mesos")
    await keeper(again, tmp_path).restore()
    key: Key = ("node", "mesos", "late")
    assert again.get(key) is not None
