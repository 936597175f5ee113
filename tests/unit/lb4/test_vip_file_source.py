"""The VIP file source: what it publishes while the file appears, changes, breaks and vanishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from lb4 import vip_file_source as module
from lb4.vip_file_source import VipFileSource
from mesos_dns.model import Entity, Key, Sync, Vip
from mesos_dns.toml_tables import MAX_BYTES
from mesos_dns.watched_file import Stamp, stamp_of

ONE = "[[vip]]\nname = 'a.marathon'\nport = 1\n"
TWO = ONE + "[[vip]]\nname = 'b.marathon'\nport = 2\n"
BAD = TWO + "[[vip]]\nname = 'c'\nprot = 3\n"


class Listening:
    """A publisher that keeps what was said and wakes whoever waits for a state."""

    def __init__(self, *restored: Entity) -> None:
        self.held: dict[Key, Entity] = {entity.key: entity for entity in restored}
        self.marks: list[tuple[bool, bool | None, str]] = []
        self.syncs = 0
        self._news = asyncio.Event()

    def put(self, entity: Entity) -> None:
        raise AssertionError("a file is told as a whole")

    def drop(self, key: Key) -> None:
        raise AssertionError("a file is told as a whole")

    async def sync(self, change: Sync) -> None:
        assert change.kinds == {"vip"}
        self.held = {entity.key: entity for entity in change.changed}
        self.syncs += 1
        self._news.set()

    def said(self) -> Mapping[Key, Entity]:
        return self.held

    def mark(
        self, *, connected: bool, synced: bool | None = None, detail: str = "", since: float | None = None
    ) -> None:
        self.marks.append((connected, synced, detail))
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def looks(self, count: int) -> None:
        """So many more looks at the file."""
        seen = len(self.marks)
        await self.until(lambda: len(self.marks) >= seen + count)

    def targets(self) -> list[str]:
        return [vip.target for vip in self.held.values() if isinstance(vip, Vip)]


@contextlib.asynccontextmanager
async def running(publish: Listening, path: Path) -> AsyncIterator[VipFileSource]:
    source = VipFileSource(publish, path, cluster="prod", interval=0.01)
    task = asyncio.create_task(source.run())
    try:
        await publish.until(lambda: bool(publish.marks))
        yield source
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def write(path: Path, text: str) -> None:
    """Write a file in place."""
    path.write_text(text)


def open_files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def replace(path: Path, text: str) -> None:
    """Write a file as an editor does."""
    spare = path.with_suffix(".new")
    spare.write_text(text)
    spare.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "vips.toml"
    file.write_text(ONE)
    return file


@pytest.mark.asyncio
async def test_publishes_the_file_and_its_edits(path: Path) -> None:
    publish = Listening()
    async with running(publish, path) as source:
        assert list(publish.held.values()) == [Vip("a.marathon", 1, cluster="prod")]
        assert publish.marks[-1] == (True, True, "")
        assert not source.unread
        replace(path, TWO)
        await publish.until(lambda: publish.targets() == ["a.marathon", "b.marathon"])
        write(path, ONE)  # in place
        await publish.until(lambda: publish.targets() == ["a.marathon"])
        replace(path, "vip = []")
        await publish.until(lambda: not publish.held)
        await publish.looks(2)
        assert source.counters.syncs == publish.syncs == 4
        assert publish.marks[-1] == (True, True, "")


@pytest.mark.asyncio
async def test_an_unchanged_file_is_neither_read_nor_published_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    load = module._load

    def noted(name: str) -> tuple[Stamp, bytes]:
        reads.append(name)
        return load(name)

    monkeypatch.setattr(module, "_load", noted)
    publish = Listening()
    async with running(publish, path):
        await publish.looks(5)
    assert reads == [str(path)]
    assert publish.syncs == 1


@pytest.mark.asyncio
async def test_a_bad_edit_keeps_the_last_good_one_and_every_problem_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish = Listening()
    async with running(publish, path) as source:
        replace(path, BAD)
        await publish.until(lambda: not publish.marks[-1][0])
        await publish.looks(3)
        assert publish.targets() == ["a.marathon"]
        assert publish.marks[-1] == (
            False,
            True,
            f"{path}: vip[2].prot: unknown key; did you mean 'port'? (and 1 more); what it last said stays",
        )
        assert source.problem == publish.marks[-1][2]
        assert source.counters.malformed == 2
        replace(path, TWO)
        await publish.until(lambda: publish.marks[-1][0])
        assert publish.targets() == ["a.marathon", "b.marathon"]
        assert source.problem == ""
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0] == f"vip file not taken file={path} problems=2; what it last said stays"
    assert warnings[1] == f"vip file: {path}: vip[2].prot: unknown key; did you mean 'port'?"
    assert warnings[2].startswith(f"vip file: {path}: vip[2].name: expected LABEL.FRAMEWORK")
    assert len(warnings) == 3


@pytest.mark.asyncio
async def test_many_problems_do_not_flood_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, "[[vip]]\nname = 'a'\nport = 1\n" * 500)
    async with running(Listening(), path) as source:
        assert source.counters.malformed == 500
    assert len(caplog.records) == module.PROBLEMS_LOGGED + 2
    assert "more=480" in caplog.text


@pytest.mark.asyncio
async def test_a_removed_file_keeps_what_it_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish = Listening()
    async with running(publish, path):
        remove(path)
        await publish.until(lambda: not publish.marks[-1][0])
        await publish.looks(3)
        assert publish.targets() == ["a.marathon"]
        assert publish.marks[-1][2] == f"{path}: No such file or directory; what it last said stays"
        assert caplog.text.count("vip file not taken") == 1
        replace(path, ONE)  # the same again
        await publish.until(lambda: publish.marks[-1][0])
        remove(path)
        await publish.until(lambda: not publish.marks[-1][0])
        replace(path, TWO)
        await publish.until(lambda: publish.targets() == ["a.marathon", "b.marathon"])
    assert caplog.text.count("vip file not taken") == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["", " \n"])
async def test_an_emptied_file_is_no_word_but_an_edit_under_way(path: Path, content: str) -> None:
    publish = Listening()
    async with running(publish, path):
        write(path, content)
        await publish.until(lambda: not publish.marks[-1][0])
        assert publish.targets() == ["a.marathon"]
        assert "is empty: write `vip = []` to have no VIPs" in publish.marks[-1][2]
        write(path, "# none any more\n")
        await publish.until(lambda: not publish.held and publish.marks[-1][0])


@pytest.mark.asyncio
async def test_a_file_that_is_still_being_written_is_left_until_it_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Listening()
    look = module._stamp_of
    editing = iter(("", ONE, TWO[:-9], TWO))
    read: list[bytes] = []

    def stamp_of(name: str) -> Stamp:
        if publish.syncs and (text := next(editing, None)) is not None:
            path.write_text(text)  # an editor that truncates and writes on, one step before each look
        return look(name)

    def load(name: str) -> tuple[Stamp, bytes]:
        stamp, raw = original(name)
        read.append(raw)
        return stamp, raw

    original = module._load
    monkeypatch.setattr(module, "_stamp_of", stamp_of)
    monkeypatch.setattr(module, "_load", load)
    async with running(publish, path):
        await publish.until(lambda: publish.targets() == ["a.marathon", "b.marathon"])
    assert read == [ONE.encode(), TWO.encode()]
    assert all(connected for connected, _, _ in publish.marks)


@pytest.mark.asyncio
async def test_a_file_that_changed_while_it_was_read_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter(range(1000))
    monkeypatch.setattr(module, "stamp_of", lambda status: (next(changes), 0, 0))
    publish = Listening()
    async with running(publish, path):
        assert not publish.held
        assert "changed while it was read" in publish.marks[-1][2]
        monkeypatch.setattr(module, "stamp_of", stamp_of)
        await publish.until(lambda: publish.targets() == ["a.marathon"])


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [None, "", BAD])
async def test_a_bad_file_at_the_start_leaves_what_the_saved_catalog_has(path: Path, content: str | None) -> None:
    if content is None:
        remove(path)
    else:
        write(path, content)
    publish = Listening(Vip("old.marathon", 1, cluster="prod"))
    async with running(publish, path) as source:
        assert publish.targets() == ["old.marathon"]
        assert publish.syncs == 0
        assert publish.marks[-1][:2] == (False, True)
        assert publish.marks[-1][2].endswith("; it was not read since the start")
        assert not source.unread  # known from before
        replace(path, ONE)
        await publish.until(lambda: publish.targets() == ["a.marathon"])


@pytest.mark.asyncio
async def test_a_file_that_was_never_there(tmp_path: Path) -> None:
    publish = Listening()
    async with running(publish, tmp_path / "absent") as source:
        assert publish.marks[-1][:2] == (False, True)
        assert source.unread


@pytest.mark.asyncio
async def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, text in ((tmp_path / "pipe", "no regular file"), (tmp_path, "no regular file"), (Path("a\0b"), "null")):
        publish = Listening()
        async with running(publish, path):
            before = open_files()
            await publish.looks(3)
            assert text in publish.marks[-1][2]
            assert open_files() == before


@pytest.mark.asyncio
async def test_a_file_that_is_too_large_is_refused(path: Path) -> None:
    write(path, "#" * (MAX_BYTES + 1))
    publish = Listening()
    async with running(publish, path):
        assert "larger than 1048576 bytes" in publish.marks[-1][2]
        assert not publish.held
