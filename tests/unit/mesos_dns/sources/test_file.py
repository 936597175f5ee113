"""The file source: what it publishes while files appear, change, break and vanish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from mesos_dns.config import Duration, FileConfig
from mesos_dns.model import Entity, Key, StaticRecords, Sync
from mesos_dns.sources import file as module
from mesos_dns.sources.file import FileSource, merge
from mesos_dns.sources.master_file import MasterFile, parse
from mesos_dns.watched_file import Stamp, stamp_of

A1, A2 = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


class Listening:
    """A publisher that keeps what was said and wakes whoever waits for a state."""

    def __init__(self) -> None:
        self.held: dict[Key, Entity] = {}
        self.marks: list[tuple[bool, bool | None, str]] = []
        self.syncs = 0
        self._news = asyncio.Event()

    def put(self, entity: Entity) -> None:
        self.held[entity.key] = entity

    def drop(self, key: Key) -> None:
        self.held.pop(key, None)

    async def sync(self, change: Sync) -> None:
        new = {entity.key: entity for entity in change.changed}
        kept = {key: self.held[key] for key in self.held if key in change.kept or key[0] not in change.kinds}
        self.held = kept | new
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

    def data(self, owner: str, rtype: int = 1) -> tuple[bytes, ...]:
        found = self.held.get(("records", owner, str(rtype)))
        return found.rdata if isinstance(found, StaticRecords) else ()


@contextlib.asynccontextmanager
async def running(publish: Listening, *paths: Path) -> AsyncIterator[FileSource]:
    source = FileSource(FileConfig(paths=tuple(map(str, paths)), interval=Duration(0.01)), publish)
    task = asyncio.create_task(source.run())
    try:
        await publish.until(lambda: bool(publish.marks))
        yield source
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def replace(path: Path, text: str) -> None:
    spare = path.with_suffix(".new")
    spare.write_text(text)
    spare.replace(path)


def open_files(path: Path) -> list[Path]:
    """This process' descriptors that lead there."""
    return [fd for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd) == str(path.resolve())]


@pytest.mark.asyncio
async def test_publishes_files_and_their_edits(tmp_path: Path) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\nb.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    async with running(publish, path) as source:
        assert publish.data("a.mesos.") == (A1,)
        assert publish.marks[-1] == (True, True, "")
        replace(path, "a.mesos. 5 A 192.0.2.2\n")
        await publish.until(lambda: publish.data("a.mesos.") == (A2,))
        assert publish.data("b.mesos.") == ()
        assert source.counters.syncs == publish.syncs == 2


@pytest.mark.asyncio
async def test_an_unchanged_file_is_neither_read_nor_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n")
    reads: list[str] = []
    load = module._load

    def noted(path: str) -> tuple[Stamp, int, MasterFile | str]:
        reads.append(path)
        return load(path)

    monkeypatch.setattr(module, "_load", noted)
    publish = Listening()
    async with running(publish, path):
        await publish.until(lambda: len(publish.marks) > 5)
    assert reads == [str(path)]
    assert publish.syncs == 1


@pytest.mark.asyncio
async def test_a_removed_file_keeps_its_records_and_is_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    async with running(publish, path):
        path.unlink()
        await publish.until(lambda: not publish.marks[-1][0])
        seen = len(publish.marks)
        await publish.until(lambda: len(publish.marks) > seen + 3)
        assert publish.data("a.mesos.") == (A1,)
        assert publish.marks[-1] == (
            False,
            True,
            f"{path}: No such file or directory; what it last said stays",
        )
        path.write_text("a.mesos. 5 A 192.0.2.2\n")
        await publish.until(lambda: publish.data("a.mesos.") == (A2,) and publish.marks[-1][0])
    assert caplog.text.count("static file not usable") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["", "; all gone\n", "nonsense\n", "a.mesos. 5 A bad\n"])
async def test_an_edit_without_a_valid_record_keeps_the_last_good_version(tmp_path: Path, content: str) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    async with running(publish, path):
        replace(path, content)
        await publish.until(lambda: not publish.marks[-1][0])
        assert publish.data("a.mesos.") == (A1,)
        assert "no valid record in it; what it last said stays" in publish.marks[-1][2]
        replace(path, "b.mesos. 5 A 192.0.2.2\n")
        await publish.until(lambda: publish.data("b.mesos.") == (A2,) and publish.marks[-1][0])


@pytest.mark.asyncio
async def test_a_bad_line_costs_its_record_only_and_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\nb.mesos. 5 A 192.0.2\n")
    publish = Listening()
    async with running(publish, path) as source:
        assert publish.data("a.mesos.") == (A1,)
        assert publish.marks[-1] == (True, True, "")
        replace(path, "a.mesos. 5 A 192.0.2.2\nb.mesos. 5 A 192.0.2\n")
        await publish.until(lambda: publish.data("a.mesos.") == (A2,))
        assert source.counters.malformed == 2
    assert caplog.text.count(f"{path}:2: address '192.0.2': expected IPv4 such as 192.0.2.1") == 1


@pytest.mark.asyncio
async def test_many_faults_do_not_flood_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n" + "".join(f"b{n}.mesos. 5 A {n}\n" for n in range(500)))
    with caplog.at_level(logging.WARNING):
        async with running(Listening(), path):
            pass
    assert len(caplog.records) <= module.FAULTS_LOGGED + 1
    assert "faults=500" in caplog.text


@pytest.mark.asyncio
async def test_one_bad_file_does_not_hold_up_the_others(tmp_path: Path) -> None:
    good, absent, folder = tmp_path / "good", tmp_path / "absent", tmp_path / "folder"
    good.write_text("a.mesos. 5 A 192.0.2.1\n")
    folder.mkdir()
    publish = Listening()
    async with running(publish, absent, folder, good, Path("nul\0")):
        assert publish.data("a.mesos.") == (A1,)
        connected, synced, detail = publish.marks[-1]
        assert (connected, synced) == (False, True)
        assert f"{absent}: No such file or directory; it was not read since the start" in detail
        assert f"{folder}: " in detail
        assert not open_files(folder)
        assert "nul" in detail


@pytest.mark.asyncio
async def test_a_file_that_was_never_read_is_told_apart_from_one_that_was_lost(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    async with running(publish, one, two) as source:
        assert publish.marks[-1][:2] == (False, True)  # the process is ready, a zone file may come later
        assert source.unread
        two.write_text("b.mesos. 5 A 192.0.2.2\n")
        await publish.until(lambda: publish.marks[-1][0])
        assert not source.unread
        two.unlink()
        await publish.until(lambda: not publish.marks[-1][0])
        assert not source.unread
    async with running(publish, one, two) as source:  # what it said is known from before
        assert not source.unread


@pytest.mark.asyncio
async def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    publish = Listening()
    async with running(publish, pipe):
        assert "no regular file" in publish.marks[-1][2]


@pytest.mark.asyncio
async def test_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n" * 10)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    publish = Listening()
    async with running(publish, path):
        assert "over 100 bytes" in publish.marks[-1][2]
        assert not publish.held


@pytest.mark.asyncio
async def test_restored_records_stay_until_every_file_was_read_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    publish.put(StaticRecords("b.mesos.", 1, 5, (A1,)))
    publish.put(StaticRecords("gone.mesos.", 1, 5, (A1,)))
    async with running(publish, one, two):
        assert publish.data("b.mesos.") == (A1,)
        two.write_text("b.mesos. 5 A 192.0.2.2\n")
        await publish.until(lambda: publish.data("b.mesos.") == (A2,))
        assert publish.data("gone.mesos.") == ()
        assert publish.data("a.mesos.") == (A1,)


@pytest.mark.asyncio
async def test_without_files_it_says_that_there_is_nothing() -> None:
    publish = Listening()
    publish.put(StaticRecords("gone.mesos.", 1, 5, (A1,)))
    async with running(publish):
        assert publish.marks[-1] == (True, True, "")
        assert not publish.held


@pytest.mark.asyncio
async def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "extra"
    path.write_bytes(b"\xef\xbb\xbfa.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    async with running(publish, path):
        assert publish.data("a.mesos.") == (A1,)


@pytest.mark.asyncio
async def test_a_file_that_is_still_being_written_is_left_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\nb.mesos. 5 A 192.0.2.1\n")
    publish = Listening()
    looks = module._stamps
    done = False
    editing = iter(("", "a.mesos. 5 A 192.0.2.2\n", "a.mesos. 5 A 192.0.2.2\nb.mesos. 5 A 192.0.2.2\n"))

    def stamps(paths: list[str]) -> dict[str, Stamp | None]:
        nonlocal done
        if publish.syncs and (text := next(editing, None)) is not None:
            path.write_text(text)  # an editor that truncates and writes on, one step before each look
        elif publish.syncs:
            done = True
        return looks(paths)

    seen: set[str] = set()
    load = module._load

    def noted(path: str) -> tuple[Stamp, int, MasterFile | str]:
        seen.add(Path(path).read_text())
        return load(path)

    monkeypatch.setattr(module, "_stamps", stamps)
    monkeypatch.setattr(module, "_load", noted)
    async with running(publish, path):
        await publish.until(lambda: done and publish.data("b.mesos.") == (A2,))
    assert len(seen) == 2


@pytest.mark.asyncio
async def test_a_file_that_changed_while_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "extra"
    path.write_text("a.mesos. 5 A 192.0.2.1\n")
    changes = iter(range(1, 1000))
    monkeypatch.setattr(module, "stamp_of", lambda status: (next(changes), 0, 0))
    publish = Listening()
    async with running(publish, path):
        assert not publish.held
        assert "changed while it was read" in publish.marks[-1][2]
        monkeypatch.setattr(module, "stamp_of", stamp_of)
        await publish.until(lambda: publish.data("a.mesos.") == (A1,))


def read(text: str) -> MasterFile:
    return parse(text.encode().splitlines(keepends=True))


def test_files_of_one_zone_add_up() -> None:
    records, conflicts = merge([read("a. 9 A 192.0.2.1\n"), read("a. 5 A 192.0.2.2\na. 5 A 192.0.2.1\n")])
    assert records == [StaticRecords("a.", 1, 5, (A1, A2))]
    assert conflicts == []


def test_the_longer_zone_is_the_authority_for_a_name() -> None:
    parent = read("x. 5 SOA a. b. 1 2 3 4 5\nsub.x. 5 NS one.\n")
    child = read("sub.x. 5 SOA a. b. 1 2 3 4 5\nsub.x. 5 NS two.\n")
    extra = read("sub.x. 5 NS three.\n")
    for files in ([parent, child, extra], [extra, child, parent]):
        records, conflicts = merge(files)
        found = {records.key: records for records in records}
        assert found["records", "sub.x.", "2"].rdata == (b"\x03two\x00",)
        assert found["records", "sub.x.", "2"].zone == "sub.x."
        assert len(conflicts) == 2
        assert "sub.x. type 2 is in two zones: sub.x.'s is served" in conflicts


def test_two_files_can_not_both_hold_what_is_single() -> None:
    records, conflicts = merge([read("a. 5 CNAME b.\n"), read("a. 5 CNAME c.\n")])
    assert [each.rdata for each in records] == [(b"\x01b\x00",)]
    assert conflicts == ["a. type 5 is in two files: the first one's is served"]


def test_two_files_together_keep_the_limit_of_a_set() -> None:
    files = [read("".join(f'a. 5 TXT "{start + n:0200d}"\n' for n in range(200))) for start in (0, 1000)]
    records, conflicts = merge(files)
    assert records[0].rdata == files[0].sets["a.", 16].rdata
    assert "over 65000 octets" in conflicts[0]
