"""Stamps that differ when a file does, and descriptors that are closed whatever was opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mesos_dns.watched_file import opened, stamp_of


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_stamp_is_the_files_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    first = stamp_of(path.stat())
    assert stamp_of(path.stat()) == first
    path.write_text("four")
    assert stamp_of(path.stat()) != first
    (tmp_path / "b").write_text("four")
    os.utime(tmp_path / "b", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    assert stamp_of((tmp_path / "b").stat()) != stamp_of(path.stat())


def test_what_is_there_is_told_and_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    before = descriptors()
    for name, is_kind in (("file", stat.S_ISREG), ("pipe", stat.S_ISFIFO), (".", stat.S_ISDIR)):
        with opened(str(tmp_path / name)) as (fd, status):
            assert is_kind(status.st_mode)
            assert os.fstat(fd).st_ino == status.st_ino
    with pytest.raises(RuntimeError), opened(str(tmp_path)):
        raise RuntimeError
    assert descriptors() == before


@pytest.mark.parametrize(("path", "error"), [("absent", OSError), ("a\0b", ValueError)])
def test_what_can_not_be_opened(path: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error), opened(f"{tmp_path}/{path}"):
        pass
