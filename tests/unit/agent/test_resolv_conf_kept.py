"""The file while Pharos runs: kept against others, the watchdog beside it, given back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent import resolv_conf_kept
from agent.resolv_conf_file import ResolvConf
from agent.resolv_conf_kept import KeptResolvConf
from agent.resolv_conf_watchdog import END, HOLD

pytestmark = pytest.mark.asyncio

OURS = ["127.0.0.1"]
ORIGINAL = "nameserver 10.0.0.1\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvConf:
    for name, value in (("LOOK_EVERY", 0.02), ("SETTLE", 0.01), ("PAUSES", (0.02, 0.03)), ("LOCK_WAIT", 0.2)):
        monkeypatch.setattr(resolv_conf_kept, name, value)
    made = ResolvConf(tmp_path / "resolv.conf", tmp_path / "state" / "saved", OURS)
    made.path.write_text(ORIGINAL)
    return made


class Told:
    """What `changed` was told."""

    def __init__(self) -> None:
        self.servers: list[list[str]] = []

    def __call__(self, servers: list[str]) -> None:
        self.servers.append(servers)


@contextlib.asynccontextmanager
async def taken(file: ResolvConf, told: Told | None = None) -> AsyncIterator[KeptResolvConf]:
    """Kept and looked after until the end of the context."""
    kept = KeptResolvConf(file, ["192.0.2.1"], told or Told())
    await kept.start()
    await kept.take()
    task = asyncio.create_task(kept.run())
    try:
        yield kept
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await kept.close()


async def until(condition: Callable[[], object], limit: float = 30) -> None:
    async with asyncio.timeout(limit):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


async def read(file: ResolvConf) -> str:
    return await asyncio.to_thread(file.path.read_text)


def pid_of(kept: KeptResolvConf) -> int:
    assert kept._process is not None
    return kept._process.pid


async def test_the_file_is_untouched_until_it_is_taken(file: ResolvConf) -> None:
    kept = KeptResolvConf(file, [], Told())
    assert await kept.start() == ["10.0.0.1"]
    assert await read(file) == ORIGINAL
    await kept.take()
    assert await asyncio.to_thread(file.servers) == OURS
    pid = pid_of(kept)
    await kept.close()
    assert await read(file) == ORIGINAL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_closed_without_having_taken(file: ResolvConf) -> None:
    kept = KeptResolvConf(file, [], Told())
    await kept.start()
    await kept.close()
    assert await read(file) == ORIGINAL


async def test_a_text_that_a_crash_left_goes_with_the_next_life_even_if_that_never_answers(file: ResolvConf) -> None:
    await asyncio.to_thread(file.take)
    kept = KeptResolvConf(file, [], Told())
    assert await kept.start() == ["10.0.0.1"]
    assert await asyncio.to_thread(file.servers) == OURS
    await kept.close()
    assert await read(file) == ORIGINAL


async def test_what_others_write_is_saved_told_and_replaced(file: ResolvConf) -> None:
    told = Told()
    async with taken(file, told) as kept:
        await asyncio.to_thread(file.path.write_text, "nameserver 10.0.0.2\n")
        await until(lambda: kept.replaced == 1 and file.servers() == OURS and told.servers)
        assert told.servers == [["10.0.0.2"]]
        await asyncio.to_thread(file.path.unlink)
        await until(lambda: kept.replaced == 2 and file.servers() == OURS)
        assert kept.status["state"] == "ours"
        assert kept.status["original_nameservers"] == ["10.0.0.2"]
    assert await read(file) == "nameserver 10.0.0.2\n"
    assert told.servers == [["10.0.0.2"]]


async def test_the_servers_behind_a_linked_original_are_followed(file: ResolvConf) -> None:
    target = file.path.with_name("theirs")

    def link() -> None:
        file.path.rename(target)
        file.path.symlink_to(target)

    await asyncio.to_thread(link)
    told = Told()
    async with taken(file, told) as kept:
        await asyncio.to_thread(target.write_text, "nameserver 10.0.0.3\n")
        await until(lambda: told.servers == [["10.0.0.3"]])
        assert await asyncio.to_thread(file.servers) == OURS
        # The text follows it as well: its search list may be another.
        await until(lambda: file.look().state == "ours")
        assert kept.errors == 0
    assert await asyncio.to_thread(file.path.is_symlink)


async def test_a_watchdog_that_ends_is_replaced(file: ResolvConf) -> None:
    async with taken(file) as kept:
        first = pid_of(kept)

        def is_replaced() -> bool:
            process = kept._process  # for a moment still the first one
            return process is not None and process.pid != first and kept._ready.is_set()

        os.kill(first, signal.SIGKILL)
        await until(is_replaced)
        assert kept.restarts == 1
        assert await asyncio.to_thread(file.servers) == OURS
    assert await read(file) == ORIGINAL


async def test_a_pause_by_the_watchdog_is_left_alone(file: ResolvConf) -> None:
    async with taken(file) as kept:
        await asyncio.to_thread(file.release, [], pause=True)
        await until(lambda: kept.status["state"] == "paused")
        await asyncio.sleep(0.2)
        assert await read(file) == ORIGINAL
        assert kept.replaced == 0
    assert await read(file) == ORIGINAL
    assert not await asyncio.to_thread(file.saved.exists)


async def test_another_keeper_is_refused(file: ResolvConf) -> None:
    async with taken(file):
        other = KeptResolvConf(file, [], Told())
        with pytest.raises(BlockingIOError, match="another Pharos keeps"):
            await other.start()
        await other.close()
        assert await asyncio.to_thread(file.servers) == OURS


async def test_no_watchdog_no_change(file: ResolvConf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolv_conf_kept, "PROGRAM", Path("/nonexistent"))
    kept = KeptResolvConf(file, [], Told())
    await kept.start()
    with pytest.raises(OSError, match="watchdog could not be started"):
        await kept.take()
    assert await read(file) == ORIGINAL
    await kept.close()


async def test_what_the_disk_does_not_take_is_counted_and_tried_again(
    file: ResolvConf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with taken(file) as kept:
        take = file.take
        with monkeypatch.context() as patch:

            def refuse() -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(file, "take", refuse)
            await asyncio.to_thread(file.path.write_text, "nameserver 10.0.0.2\n")
            await until(lambda: kept.errors >= 3)
        assert file.take == take
        await until(lambda: file.servers() == OURS)
    said = [record for record in caplog.records if "can't be kept" in record.message and record.levelname == "WARNING"]
    assert len(said) == 1


async def test_a_file_that_is_being_written_is_waited_for(file: ResolvConf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolv_conf_kept, "SETTLE", 1.0)
    told = Told()

    def write() -> None:
        with file.path.open("w", buffering=1) as half:
            for number in range(20):
                half.write(f"# {number}\n")
                time.sleep(0.1)
            half.write("nameserver 10.0.0.2\n")

    async with taken(file, told) as kept:
        await asyncio.to_thread(write)
        await until(lambda: kept.replaced == 1 and told.servers)
    assert told.servers == [["10.0.0.2"]]
    assert (await read(file)).endswith("# 19\nnameserver 10.0.0.2\n")


async def test_the_watchdog_holds_before_the_file_is_given_back(
    file: ResolvConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptResolvConf(file, [], Told())
    await kept.start()
    await kept.take()
    steps: list[object] = []
    tell, release = kept._tell, file.release

    def telling(message: bytes) -> None:
        steps.append(message)
        tell(message)

    def releasing(upstreams: list[str]) -> str:
        steps.append("released")
        return release(upstreams)

    monkeypatch.setattr(kept, "_tell", telling)
    monkeypatch.setattr(file, "release", releasing)
    await kept.close()
    assert steps == [HOLD, "released", END]
    assert await read(file) == ORIGINAL


async def test_a_watchdog_that_hangs_is_killed_before_the_file_is_given_back(
    file: ResolvConf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolv_conf_kept, "HOLD_WAIT", 0.05)
    kept = KeptResolvConf(file, [], Told())
    await kept.start()
    await kept.take()
    pid, gone = pid_of(kept), []
    release = file.release

    def releasing(upstreams: list[str]) -> str:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            gone.append(False)
        return release(upstreams)

    monkeypatch.setattr(file, "release", releasing)
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(15):  # a watchdog has more time than that to start
        await kept.close()
    assert gone == []
    assert await read(file) == ORIGINAL


async def test_nothing_is_left_and_the_log_says_when_it_is_taken(
    file: ResolvConf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with taken(file):
        assert caplog.messages == [f"resolv.conf points at the resolver file={file.path} addresses=127.0.0.1"]
        assert await asyncio.to_thread(file.is_kept)
    assert not await asyncio.to_thread(file.is_kept)
    names = [path.name for path in await asyncio.to_thread(lambda: list(file.path.parent.rglob("*")))]
    assert sorted(names) == ["resolv.conf", "state"]


async def test_every_watchdog_watches(file: ResolvConf, free_port: int) -> None:
    kept = KeptResolvConf(file, [], Told(), port=free_port, interval=0.05)
    await kept.start()
    await kept.take()
    task = asyncio.create_task(kept.run())
    await until(lambda: kept.status["state"] == "paused" and kept.given and file.path.read_text() == ORIGINAL)
    os.kill(pid_of(kept), signal.SIGKILL)
    await until(lambda: kept.restarts == 1)
    given = kept.given
    await asyncio.to_thread(file.take)
    await until(lambda: kept.given > given and file.path.read_text() == ORIGINAL)
    task.cancel()
    await asyncio.wait((task,))
    await kept.close()


async def test_the_watchdog_keeps_the_lock_when_pharos_is_gone(file: ResolvConf) -> None:
    kept = KeptResolvConf(file, [], Told())
    await kept.start()
    await kept.take()
    os.close(kept._lock)
    kept._lock = -1
    with pytest.raises(BlockingIOError):
        await asyncio.to_thread(file.lock)
    await kept.close()
    os.close(await asyncio.to_thread(file.lock))
