"""Last known addresses on disk: written whole, read with suspicion, bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest

from mesos_dns import remembered_hosts
from mesos_dns.remembered_hosts import MAX_ADDRESSES, MAX_AGE, RememberedHosts

pytestmark = pytest.mark.asyncio


def document(**hosts: object) -> dict[str, object]:
    return {"format": 1, "hosts": hosts}


def entry(*addresses: str, seen: float | None = None) -> dict[str, object]:
    return {"addresses": addresses, "seen": time.time() if seen is None else seen}


async def restored(path: Path) -> RememberedHosts:
    hosts = RememberedHosts(path)
    await hosts.restore()
    return hosts


async def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "state" / "hosts.json"
    first = await restored(path)
    assert await first.save(), "there is nothing to save"
    assert not path.exists()
    first.note("zk-1.example", ("10.0.0.1", "fd00::1"))
    first.note("master", ("10.0.0.2",))
    assert await first.save()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["hosts.json"]
    second = await restored(path)
    assert (second.get("zk-1.example"), second.get("master"), second.get("other")) == (
        ("10.0.0.1", "fd00::1"),
        ("10.0.0.2",),
        (),
    )
    assert len(second) == 2


async def test_the_same_again_is_not_written(tmp_path: Path) -> None:
    hosts = RememberedHosts(tmp_path / "hosts.json")
    hosts.note("a", ("10.0.0.1", "10.0.0.2"))
    await hosts.save()
    hosts.note("a", ("10.0.0.2", "10.0.0.1"))
    await hosts.save()
    assert hosts.saves == 1
    hosts.note("a", ("10.0.0.2",))
    await hosts.save()
    assert hosts.saves == 2


async def test_the_same_again_after_long_renews_its_time(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(document(a=entry("10.0.0.1", seen=time.time() - MAX_AGE / 2))))
    hosts = await restored(path)
    hosts.note("a", ("10.0.0.1",))
    await hosts.save()
    assert json.loads(path.read_text())["hosts"]["a"]["seen"] > time.time() - 3600


async def test_old_entries_are_dropped_and_times_to_come_are_now(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    now = time.time()
    path.write_text(
        json.dumps(document(old=entry("10.0.0.1", seen=now - MAX_AGE - 60), new=entry("10.0.0.2", seen=now + 1e6)))
    )
    hosts = await restored(path)
    assert (hosts.get("old"), hosts.get("new")) == ((), ("10.0.0.2",))
    hosts.note("other", ("10.0.0.3",))
    await hosts.save()
    saved = json.loads(path.read_text())["hosts"]
    assert set(saved) == {"new", "other"}
    assert saved["new"]["seen"] <= time.time()


async def test_what_was_learned_before_the_file_was_read_stays(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(document(a=entry("10.0.0.1"), b=entry("10.0.0.2"))))
    hosts = RememberedHosts(path)
    hosts.note("a", ("10.0.0.9",))
    await hosts.restore()
    assert (hosts.get("a"), hosts.get("b")) == (("10.0.0.9",), ("10.0.0.2",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps(document(a=entry("10.0.0.1"))).encode()[:-3],
        json.dumps({"format": 2, "hosts": {}}).encode(),
        json.dumps({"format": 1, "hosts": {}, "more": 1}).encode(),
        json.dumps(document(a=entry("10.0.0.300"))).encode(),
        json.dumps(document(a=entry("FD00::0:1"))).encode(),
        json.dumps(document(a=entry("evil.example"))).encode(),
        json.dumps(document(a=entry())).encode(),
        json.dumps(document(a=entry(*["10.0.0.1"] * (MAX_ADDRESSES + 1)))).encode(),
        json.dumps(document(**{"A.Example": entry("10.0.0.1")})).encode(),
        json.dumps(document(**{"a/b": entry("10.0.0.1")})).encode(),
        json.dumps(document(**{"10.0.0.1": entry("10.0.0.2")})).encode(),
        json.dumps(document(a={"addresses": ["10.0.0.1"], "seen": "now"})).encode(),
    ],
)
async def test_a_damaged_file_is_refused_with_one_line(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hosts.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        hosts = await restored(path)
    assert len(hosts) == 0
    assert len(caplog.records) == 1
    assert "refused" in caplog.text
    hosts.note("a", ("10.0.0.1",))
    assert await hosts.save()
    assert (await restored(path)).get("a") == ("10.0.0.1",)


async def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hosts.json"
    hosts = RememberedHosts(path)
    monkeypatch.setattr(remembered_hosts, "MAX_NAMES", 3)
    for name in ("a", "b", "c"):
        hosts.note(name, ("10.0.0.1",))
    hosts.note("a", tuple(f"10.0.0.{number}" for number in range(1, 100)))
    hosts.note("d", ("10.0.0.1",))
    assert [bool(hosts.get(name)) for name in ("a", "b", "c", "d")] == [True, False, True, True]
    assert len(hosts.get("a")) == MAX_ADDRESSES
    await hosts.save()
    monkeypatch.setattr(remembered_hosts, "MAX_NAMES", 2)
    assert len(await restored(path)) == 0
    monkeypatch.setattr(remembered_hosts, "MAX_FILE", 5)
    assert len(await restored(path)) == 0
    assert "3 names" in caplog.text
    assert "at most 5 are read" in caplog.text


async def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("no folder")
    hosts = RememberedHosts(tmp_path / "state" / "hosts.json")
    hosts.note("a", ("10.0.0.1",))
    assert not await hosts.save()
    assert not await hosts.save()
    assert (hosts.errors, hosts.saves, len(caplog.records)) == (2, 0, 1)
    (tmp_path / "state").unlink()
    assert await hosts.save()
    assert (await restored(hosts.path)).get("a") == ("10.0.0.1",)


async def test_it_is_saved_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_hosts, "INTERVAL", 0.01)
    monkeypatch.setattr(remembered_hosts, "RETRY", 0.01)
    path = tmp_path / "state" / "hosts.json"
    path.parent.write_text("no folder")
    hosts = RememberedHosts(path)
    running = asyncio.create_task(hosts.run())
    hosts.note("a", ("10.0.0.1",))
    async with asyncio.timeout(20):
        while not hosts.errors:
            await asyncio.sleep(0.005)
        path.parent.unlink()
        while not hosts.saves:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await restored(path)).get("a") == ("10.0.0.1",)
