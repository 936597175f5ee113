"""The state directory as coordinator: compare-and-set, watches, ephemerals, elections, and kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import stat
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent import coordinators
from agent.coordinators import StateDirCoordinator
from mesos_dns.coordinate import ABSENT, MAX_VALUE, Coordinator, CoordinatorLost, VersionConflict, Versioned
from tests.coordinator_clients import line, process, shows, soon, watching


def open_at(path: Path) -> StateDirCoordinator:
    return StateDirCoordinator(path / "state", poll=0.02)


def child(folder: Path, body: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Another process that has `c`, a coordinator on the same directory; it is killed at the end."""
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom agent.coordinators import StateDirCoordinator\n"
        f"c = StateDirCoordinator(Path({str(folder / 'state')!r}), poll=0.02)\n"
        "def say(text): print(text, flush=True)\n"
        "async def main():\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "asyncio.run(main())\n"
    )
    return process(program)


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_compare_and_set(tmp_path: Path) -> None:
    c: Coordinator = open_at(tmp_path)
    assert await c.get("a/b") is None
    assert await c.put_if("a/b", b"one", ABSENT) == 0
    assert await c.get("a/b") == Versioned(b"one", 0)
    with pytest.raises(VersionConflict, match="key 'a/b': version 0 found, -1 expected"):
        await c.put_if("a/b", b"x", ABSENT)
    with pytest.raises(VersionConflict):
        await c.put_if("a/b", b"x", 1)
    assert await c.put_if("a/b", b"", 0) == 1
    assert await c.get("a/b") == Versioned(b"", 1)
    with pytest.raises(VersionConflict):
        await c.delete_if("a/b", 0)
    await c.delete_if("a/b", 1)
    assert await c.get("a/b") is None
    await c.delete_if("a/b", ABSENT)
    with pytest.raises(VersionConflict):
        await c.put_if("a/b", b"x", 0)
    assert await c.put_if("a/b", b"new", ABSENT) == 0


@pytest.mark.asyncio
async def test_a_key_may_be_the_parent_of_others_and_leaves_no_folders(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    for key in ("a", "a/b", "a/b/c"):
        await c.put_if(key, key.encode(), ABSENT)
    await c.delete_if("a/b", 0)
    assert await c.get("a/b/c") == Versioned(b"a/b/c", 0)
    await c.delete_if("a/b/c", 0)
    await c.delete_if("a", 0)
    assert os.listdir(tmp_path / "state" / "data") == []


@pytest.mark.asyncio
async def test_values_outlive_the_process(tmp_path: Path) -> None:
    await open_at(tmp_path).put_if("vips/web:80".replace(":", "_"), bytes(range(256)), ABSENT)
    assert await open_at(tmp_path).get("vips/web_80") == Versioned(bytes(range(256)), 0)


@pytest.mark.asyncio
async def test_only_the_owner_can_read(tmp_path: Path) -> None:
    await open_at(tmp_path).put_if("secret", b"x", ABSENT)
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "a b",
        "a=b",
        "ä",
        "a\0",
        "a\n",
        "x" * 201,
        "a/" * 300 + "a",
    ],
)
async def test_keys_that_are_not_allowed(tmp_path: Path, key: str) -> None:
    c = open_at(tmp_path)
    for work in (c.get(key), c.put_if(key, b"", ABSENT), c.delete_if(key, 0)):
        with pytest.raises(ValueError, match="expected segments"):
            await work
    with pytest.raises(ValueError, match="expected segments"):
        async with c.register(key, b""):
            pass
    if key:
        with pytest.raises(ValueError, match="expected segments"):
            await anext(c.watch(key))
    with pytest.raises(ValueError, match="expected one segment"):
        async with c.elect(key):
            pass
    assert not (tmp_path / "state").exists()


@pytest.mark.asyncio
async def test_values_that_are_too_large(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    await c.put_if("a", bytes(MAX_VALUE), ABSENT)
    assert await c.get("a") == Versioned(bytes(MAX_VALUE), 0)
    with pytest.raises(ValueError, match=f"at most {MAX_VALUE}"):
        await c.put_if("a", bytes(MAX_VALUE + 1), 0)
    with pytest.raises(ValueError, match=f"at most {MAX_VALUE}"):
        async with c.register("b", bytes(MAX_VALUE + 1)):
            pass


@pytest.mark.asyncio
async def test_of_many_writers_one_wins_each_version(tmp_path: Path) -> None:
    several = [open_at(tmp_path) for _ in range(4)]
    await several[0].put_if("n", b"0", ABSENT)

    async def add(c: StateDirCoordinator) -> None:
        for _ in range(10):
            while True:
                now = await c.get("n")
                assert now is not None
                with contextlib.suppress(VersionConflict):
                    await c.put_if("n", str(int(now.value) + 1).encode(), now.version)
                    break

    await soon(asyncio.gather(*map(add, several)))
    assert await several[0].get("n") == Versioned(b"40", 40)


@pytest.mark.asyncio
async def test_several_processes_count_together(tmp_path: Path) -> None:
    body = """
from mesos_dns.coordinate import VersionConflict
for _ in range(20):
    while True:
        now = await c.get("n")
        try:
            await c.put_if("n", str(int(now.value) + 1).encode(), now.version)
        except VersionConflict:
            continue
        break
say("done")"""
    c = open_at(tmp_path)
    await c.put_if("n", b"0", ABSENT)
    with child(tmp_path, body) as one, child(tmp_path, body) as two:
        assert [await line(one), await line(two)] == ["done", "done"]
    assert await c.get("n") == Versioned(b"40", 40)


@pytest.mark.asyncio
async def test_a_process_killed_while_it_writes_leaves_whole_values_and_no_lock(tmp_path: Path) -> None:
    body = """
version = -1 if (now := await c.get("n")) is None else now.version
while True:
    version = await c.put_if("n", b"%08d" % (version + 1) * 5000, version)
    say(version)"""
    c = open_at(tmp_path)
    chance = random.Random(1)
    for _ in range(6):
        with child(tmp_path, body) as process:
            acknowledged = int(await line(process))
            for _ in range(chance.randrange(20)):
                acknowledged = int(await line(process))
            await asyncio.sleep(chance.random() * 0.01)
            process.kill()
            await asyncio.to_thread(process.wait)
            assert process.stdout is not None
            for said in await asyncio.to_thread(process.stdout.readlines):
                acknowledged = max(acknowledged, int(said))
        now = await soon(c.get("n"))
        assert now is not None
        assert now.version in (acknowledged, acknowledged + 1)
        assert now.value == b"%08d" % now.version * 5000
        assert await soon(c.put_if("other", b"", ABSENT)) == 0  # the lock is free
        await c.delete_if("other", 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", [b"", b"x", b"PHK1" + bytes(100), None])
async def test_a_damaged_value_is_named_and_costs_only_itself(tmp_path: Path, damage: bytes | None) -> None:
    c = open_at(tmp_path)
    for key in ("bad", "good"):
        await c.put_if(key, b"value", ABSENT)
    path = tmp_path / "state" / "data" / "bad" / "=value"
    path.write_bytes(path.read_bytes()[:-1] + b"X" if damage is None else damage)
    with pytest.raises(CoordinatorLost, match=f"{path} is damaged; restore it or remove it"):
        await c.get("bad")
    with pytest.raises(CoordinatorLost):
        await c.put_if("bad", b"x", 0)
    async with watching(c, "") as stream:
        assert await soon(anext(stream)) == {"good": b"value"}
    async with c.register("life", b""):
        pass
    path.unlink()
    assert await c.put_if("bad", b"again", ABSENT) == 0


@pytest.mark.asyncio
async def test_a_directory_that_can_not_be_used_is_a_lost_coordinator(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    c = open_at(tmp_path)
    with pytest.raises(CoordinatorLost, match=str(tmp_path / "state")):
        await c.put_if("a", b"", ABSENT)
    with pytest.raises(CoordinatorLost):
        async with c.register("a", b""):
            pass


@pytest.mark.asyncio
async def test_a_lock_that_is_never_free_is_a_lost_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinators, "LOCK_TIMEOUT", 0.05)
    c = open_at(tmp_path)
    await c.put_if("a", b"", ABSENT)
    with (tmp_path / "state" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CoordinatorLost, match="is held by another process"):
            await c.put_if("a", b"", 0)
        assert await c.get("a") == Versioned(b"", 0)  # reading needs no lock
    assert await c.put_if("a", b"", 0) == 1


# --- watches -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_watch_tells_all_and_then_each_change(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    c.poll = 3600.0  # what this process does needs no polling
    await c.put_if("v/a", b"1", ABSENT)
    await c.put_if("v", b"not below itself", ABSENT)
    await c.put_if("w/a", b"elsewhere", ABSENT)
    async with watching(c, "v") as stream:
        assert await soon(anext(stream)) == {"v/a": b"1"}
        await c.put_if("v/b/c", b"2", ABSENT)
        assert await soon(anext(stream)) == {"v/a": b"1", "v/b/c": b"2"}
        await c.put_if("v/a", b"3", 0)
        assert await soon(anext(stream)) == {"v/a": b"3", "v/b/c": b"2"}
        await c.put_if("w/a", b"of no interest", 0)
        await c.delete_if("v/a", 1)
        assert await soon(anext(stream)) == {"v/b/c": b"2"}


@pytest.mark.asyncio
async def test_a_watch_of_nothing_begins_empty(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    async with watching(c, "") as stream:
        assert await soon(anext(stream)) == {}
        await c.put_if("a", b"1", ABSENT)
        assert await soon(anext(stream)) == {"a": b"1"}


@pytest.mark.asyncio
async def test_a_watch_sees_what_other_processes_write(tmp_path: Path) -> None:
    c, other = open_at(tmp_path), open_at(tmp_path)
    async with watching(c, "v") as stream:
        assert await soon(anext(stream)) == {}
        for version in range(-1, 20):  # as fast as it goes: time stamps can't tell them apart
            await other.put_if("v/a", b"%02d" % version, version)
        await shows(stream, {"v/a": b"19"})
    with child(tmp_path, 'await c.put_if("v/b", b"2", -1)\nsay("done")\nawait asyncio.sleep(60)') as process:
        assert await line(process) == "done"
        async with watching(c, "v") as stream:
            await shows(stream, {"v/a": b"19", "v/b": b"2"})


@pytest.mark.asyncio
async def test_a_value_is_read_again_unless_its_time_stamp_is_old_and_the_same(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    await c.put_if("a", b"1", ABSENT)
    path = tmp_path / "state" / "data" / "a" / "=value"
    one = path.read_bytes()
    await c.put_if("a", b"2", 0)
    two = path.read_bytes()

    def write(data: bytes, stamp: int) -> None:
        path.write_bytes(data)
        os.utime(path, ns=(stamp, stamp))

    for stamp, noticed in ((time.time_ns() + 10**9, True), (time.time_ns() - 10**10, False)):
        write(one, stamp)
        seen, values = await asyncio.to_thread(c._scan, "", {})
        assert values == {"a": b"1"}
        write(two, stamp)  # same inode, size and time: what a second write within one clock tick looks like
        assert (await asyncio.to_thread(c._scan, "", seen))[1] == {"a": b"2" if noticed else b"1"}
        os.utime(path, ns=(stamp + 1, stamp + 1))
        assert (await asyncio.to_thread(c._scan, "", seen))[1] == {"a": b"2"}


@pytest.mark.asyncio
async def test_a_watch_keeps_what_it_had_when_a_value_or_everything_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    c = open_at(tmp_path)
    await c.put_if("v/a", b"1", ABSENT)
    data = tmp_path / "state" / "data"
    async with watching(c, "v") as stream:
        assert await soon(anext(stream)) == {"v/a": b"1"}
        (data / "v" / "a" / "=value").write_bytes(b"damaged")
        await c.put_if("v/b", b"2", ABSENT)
        assert await soon(anext(stream)) == {"v/a": b"1", "v/b": b"2"}
        data.rename(tmp_path / "away")
        task = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done
        (tmp_path / "away").rename(data)
        await c.put_if("v/b", b"3", 0)
        assert await soon(task) == {"v/a": b"1", "v/b": b"3"}
    assert caplog.text.count("is damaged") == 1
    assert caplog.text.count("is gone") == 1


# --- ephemerals --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_ephemeral_lives_as_long_as_its_context(tmp_path: Path) -> None:
    c, other = open_at(tmp_path), open_at(tmp_path)
    async with c.register("edges/one", b"addr"):
        assert await other.get("edges/one") == Versioned(b"addr", 0)
        with pytest.raises(VersionConflict):
            async with other.register("edges/one", b"mine"):
                pass
        with pytest.raises(VersionConflict):
            async with c.register("edges/one", b"twice"):
                pass
        assert await c.get("edges/one") == Versioned(b"addr", 0)
        await other.put_if("edges/one", b"moved", 0)
    assert await other.get("edges/one") is None
    async with other.register("edges/one", b"mine"):
        pass
    for each in (c, other):
        each.close()


@pytest.mark.asyncio
async def test_a_permanent_key_is_not_taken(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    await c.put_if("a", b"stays", ABSENT)
    with pytest.raises(VersionConflict):
        async with c.register("a", b""):
            pass
    assert await c.get("a") == Versioned(b"stays", 0)
    c.close()


@pytest.mark.asyncio
async def test_closing_gives_up_the_ephemerals(tmp_path: Path) -> None:
    c, other = open_at(tmp_path), open_at(tmp_path)
    context = c.register("edges/one", b"")
    await context.__aenter__()
    async with watching(other, "edges") as stream:
        assert await soon(anext(stream)) == {"edges/one": b""}
        c.close()
        await shows(stream, {})
    assert await other.get("edges/one") is None
    await context.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_the_ephemerals_of_a_killed_process_vanish_and_are_removed(tmp_path: Path) -> None:
    body = """
async with c.register("edges/one", b"1"), c.register("edges/two", b"2"):
    say("there")
    await asyncio.sleep(60)"""
    c = open_at(tmp_path)
    with child(tmp_path, body) as process:
        assert await line(process) == "there"
        async with watching(c, "edges") as stream:
            assert await soon(anext(stream)) == {"edges/one": b"1", "edges/two": b"2"}
            process.kill()
            await shows(stream, {})
    assert await c.get("edges/one") is None
    assert await c.put_if("edges/one", b"free", ABSENT) == 0
    async with c.register("edges/three", b"3"):
        assert not (tmp_path / "state" / "data" / "edges" / "two").exists()
        assert len(os.listdir(tmp_path / "state" / "holders")) == 1
    assert await c.get("edges/one") == Versioned(b"free", 0)  # and what is written over one stays
    c.close()


@pytest.mark.asyncio
async def test_a_living_process_takes_the_key_of_a_dead_one(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    async with c.register("edges/mine", b""):
        with child(
            tmp_path, 'async with c.register("edges/one", b"1"):\n    say("there")\n    await asyncio.sleep(60)'
        ) as dies:
            assert await line(dies) == "there"
            with pytest.raises(VersionConflict):
                async with c.register("edges/one", b"2"):
                    pass
        async with c.register("edges/one", b"2"):
            assert await c.get("edges/one") == Versioned(b"2", 0)
    c.close()


@pytest.mark.asyncio
async def test_a_cancelled_registration_leaves_no_key(tmp_path: Path) -> None:
    c = open_at(tmp_path)
    await c.put_if("warm", b"", ABSENT)
    with (tmp_path / "state" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        entering = asyncio.create_task(c.register("edges/one", b"").__aenter__())
        await asyncio.sleep(0.02)
        entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(entering)
    assert await c.get("edges/one") is None
    c.close()


# --- elections through the coordinator -----------------------------------------------------------------


@pytest.mark.asyncio
async def test_one_of_several_processes_leads_and_the_next_takes_over(tmp_path: Path) -> None:
    body = 'async with c.elect("decider") as e:\n    await e.won()\n    say("leads")\n    await asyncio.sleep(60)'
    c = open_at(tmp_path)
    with child(tmp_path, body) as process:
        assert await line(process) == "leads"
        async with c.elect("decider") as election, c.elect("other") as free:
            await soon(free.won())
            assert not election.leading
            process.kill()
            await soon(election.won())
            assert election.leading
        assert not election.leading
        await soon(election.lost())
