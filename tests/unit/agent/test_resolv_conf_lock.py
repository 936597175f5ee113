"""The lock of a resolv.conf: one keeper whatever its state_dir, none of it for others, and nothing left of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import resolv_conf_lock
from agent.resolv_conf_lock import is_locked, is_mounted, lock, unlock

HOLD = """
import fcntl, os, sys
os.chdir(sys.argv[1])
os.setuid(65534)
for path in (".", *os.listdir(".")):
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError:
        print("forbidden", flush=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "resolv.conf").touch()
    return tmp_path / "etc" / "resolv.conf"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "state" / "saved"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_one_keeper_and_nothing_left(path: Path, saved: Path, tmp_path: Path) -> None:
    assert not is_locked(path, saved)
    fd = lock(path, saved)
    place = path.with_name(".pharos-resolv.conf.lock")
    assert place.stat().st_mode & 0o777 == 0o600
    for other in (saved, tmp_path / "another" / "saved"):
        assert is_locked(path, other)
        with pytest.raises(BlockingIOError):
            lock(path, other)
    unlock(fd, path, saved)
    assert not is_locked(path, saved)
    assert files(tmp_path) == ["resolv.conf"]


def test_a_file_that_a_crash_left_is_locked_again(path: Path, saved: Path) -> None:
    os.close(lock(path, saved))
    assert not is_locked(path, saved)
    unlock(lock(path, saved), path, saved)


def test_the_folder_is_no_lock(path: Path, saved: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    unlock(lock(path, saved), path, saved)
    os.close(folder)


@pytest.mark.root
def test_an_ordinary_user_can_hold_nothing(path: Path, saved: Path) -> None:
    path.parent.chmod(0o755)
    os.close(lock(path, saved))
    command = [sys.executable, "-I", "-S", "-c", HOLD, str(path.parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "forbidden\n"
    assert process.stdout.readline() == "held\n"
    unlock(lock(path, saved), path, saved)
    process.communicate(timeout=20)


def test_where_its_folder_takes_no_file_it_is_beside_the_saved_one(
    path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    fd = lock(path, saved)
    assert files(path.parent) == ["resolv.conf"]
    assert saved.with_name("saved.lock").stat().st_mode & 0o777 == 0o600
    assert saved.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.undo()
    with pytest.raises(BlockingIOError):  # nor for one that can make a file there
        lock(path, saved)
    unlock(fd, path, saved)
    assert files(saved.parent) == []


def test_a_lock_that_is_removed_at_this_moment_counts_for_nothing(
    path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, place = fcntl.flock, path.with_name(".pharos-resolv.conf.lock")
    removed: list[Path] = []

    def removing(fd: int, kind: int) -> None:
        flock(fd, kind)
        if not removed and kind & fcntl.LOCK_EX:
            removed.append(place)
            place.unlink()

    monkeypatch.setattr(fcntl, "flock", removing)
    fd = lock(path, saved)
    assert removed
    assert is_locked(path, saved)
    unlock(fd, path, saved)


def test_who_may_not_look_believes_the_file(path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = lock(path, saved)

    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert is_locked(path, saved)
    unlock(fd, path, saved)


def test_a_mounted_file_is_not_its_folders(path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers may share a folder and not the file."""
    first = lock(path, saved)
    monkeypatch.setattr(resolv_conf_lock, "is_mounted", lambda path: True)
    second = lock(path, saved)
    with pytest.raises(BlockingIOError):
        lock(path, saved)
    unlock(second, path, saved)
    monkeypatch.undo()
    unlock(first, path, saved)
    assert files(path.parent) == ["resolv.conf"]


def test_mounts_are_known() -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(Path("/proc/version"))
