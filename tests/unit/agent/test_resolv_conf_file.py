"""The file on disk: taken, given back as it was, and left alone where somebody else wrote it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import resolv_conf_file
from agent.resolv_conf import is_ours, nameservers
from agent.resolv_conf_file import ResolvConf

OURS = ["198.51.100.1", "198.51.100.2"]
ORIGINAL = "search a\nnameserver 10.0.0.1\n"


@pytest.fixture
def file(tmp_path: Path) -> ResolvConf:
    (tmp_path / "etc").mkdir()
    made = ResolvConf(
        tmp_path / "etc" / "resolv.conf", tmp_path / "state" / "saved", OURS, uplinks=tmp_path / "uplinks"
    )
    made.path.write_text(ORIGINAL)
    made.path.chmod(0o640)
    return made


def again(file: ResolvConf) -> ResolvConf:
    """Another process' view of the same file."""
    return ResolvConf(file.path, file.saved, file.addresses)


def test_taken_and_given_back(file: ResolvConf) -> None:
    assert file.state() == "original"
    file.take()
    assert file.state() == "ours"
    assert file.servers() == OURS
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert file.look().state == "ours"
    assert file.original_nameservers() == ["10.0.0.1"]
    assert again(file).give_back()
    assert file.path.read_text() == ORIGINAL
    assert file.path.stat().st_mode & 0o777 == 0o640
    assert list(file.saved.parent.iterdir()) == []
    assert list(file.path.parent.iterdir()) == [file.path]
    assert not file.give_back()


@given(st.binary(max_size=400), st.integers(0, 0o777).map(lambda mode: mode | 0o600))
def test_any_bytes_come_back(content: bytes, mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = ResolvConf(Path(folder) / "r", Path(folder) / "s", OURS)
        file.path.write_bytes(content)
        file.path.chmod(mode)
        file.take()
        file.take()
        assert file.servers() == OURS
        assert again(file).give_back()
        assert file.path.read_bytes() == content
        assert file.path.stat().st_mode & 0o777 == mode


def test_a_link_comes_back_as_a_link(file: ResolvConf) -> None:
    target = file.path.with_name("theirs")
    file.path.rename(target)
    file.path.symlink_to("theirs")
    file.take()
    assert not file.path.is_symlink()
    assert target.read_text() == ORIGINAL
    target.write_text("nameserver 10.0.0.2\n")
    assert file.original_nameservers() == ["10.0.0.2"]
    assert again(file).give_back()
    assert os.readlink(file.path) == "theirs"


def test_a_missing_file_is_missing_again(file: ResolvConf) -> None:
    file.path.unlink()
    assert file.state() == "absent"
    file.take()
    assert file.servers() == OURS
    assert file.give_back()
    assert not file.path.exists()


def test_what_others_write_is_the_new_original(file: ResolvConf) -> None:
    file.take()
    file.path.write_text("nameserver 10.0.0.7\n")
    assert file.look().state == "changed"
    assert file.original_nameservers() == ["10.0.0.7"]
    file.take()
    assert file.servers() == OURS
    file.path.unlink()
    assert file.look().state == "changed"
    file.take()
    file.path.write_text(file.path.read_text() + "nameserver 9.9.9.9\n")
    assert file.look().state == "changed"
    file.take()
    assert file.look().state == "ours"
    moved = file.path.rename(file.path.with_name("moved"))
    file.path.symlink_to(moved)
    assert file.look().state == "changed"
    file.take()
    assert file.look().state == "ours"
    assert file.give_back()
    assert file.path.read_text() == "nameserver 10.0.0.7\n"


def test_what_others_wrote_is_not_overwritten_at_the_end(file: ResolvConf) -> None:
    file.take()
    file.path.write_text("nameserver 10.0.0.7\n")
    assert file.release([]) == "not ours"
    assert not file.give_back()
    assert file.path.read_text() == "nameserver 10.0.0.7\n"
    assert not file.saved.exists()
    assert file.release([]) == "not ours"


def test_release_prefers_the_original(file: ResolvConf) -> None:
    file.take()
    assert file.release(["192.0.2.1"]) == "original"
    assert file.path.read_text() == ORIGINAL


@pytest.mark.parametrize("text", ["", "search a\n", "nameserver 198.51.100.1\n"])
def test_release_without_another_server_names_the_upstreams(file: ResolvConf, text: str) -> None:
    file.path.write_text(text)
    file.take()
    assert file.original_nameservers() == []
    assert file.release([OURS[0], "192.0.2.1"]) == "upstreams"
    assert file.servers() == ["192.0.2.1"]
    assert file.state() == "upstreams"
    file.take()  # the text that stood in is no original
    assert file.give_back()
    assert file.path.read_text() == text


def test_without_any_other_server_the_original_comes_back(file: ResolvConf) -> None:
    file.path.write_text("search a\n")
    file.take()
    assert file.release([]) == "original"
    assert file.path.read_text() == "search a\n"


def test_a_pause_and_its_end(file: ResolvConf) -> None:
    file.take()
    assert file.release([], pause=True) == "original"
    assert file.path.read_text() == ORIGINAL
    assert again(file).look().state == "paused"
    file.take()
    assert file.look().state == "ours"
    assert file.give_back()
    assert file.path.read_text() == ORIGINAL


def test_after_power_loss_it_is_ours_and_the_original_is_known(file: ResolvConf) -> None:
    file.take()
    new = again(file)
    assert new.original_nameservers() == ["10.0.0.1"]
    new.take()
    assert new.give_back()
    assert file.path.read_text() == ORIGINAL


def test_a_lost_original(file: ResolvConf) -> None:
    file.take()
    for path in file.saved.parent.iterdir():
        path.unlink()
    assert file.original_nameservers() == []
    assert file.release([]) == "nothing"
    assert file.servers() == OURS
    file.take()
    assert file.look().state == "ours"
    assert file.release(["192.0.2.1"]) == "upstreams"


def test_what_is_said_of_other_bytes_is_not_believed(file: ResolvConf) -> None:
    file.take()
    file.saved.write_text("nameserver 10.0.0.8\n")
    original, _ = file._load()
    assert original is not None
    assert original.mode == resolv_conf_file.MODE
    assert file.original_nameservers() == ["10.0.0.8"]
    for junk in (b"{", b"[]", b"\xff", b'{"mode": "x", "link": 3}'):
        file.saved.with_name("saved.json").write_bytes(junk)
        assert file.original_nameservers() == ["10.0.0.8"]
    assert file.give_back()
    assert file.path.read_text() == "nameserver 10.0.0.8\n"


def test_systemd_resolved_is_not_asked_but_those_it_asks(file: ResolvConf, tmp_path: Path) -> None:
    file.path.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    assert file.original_nameservers() == ["127.0.0.53"]
    (tmp_path / "uplinks").write_text("nameserver 10.0.0.3\nnameserver 198.51.100.1\n")
    assert file.original_nameservers() == ["10.0.0.3"]
    file.take()
    assert file.original_nameservers() == ["10.0.0.3"]
    (tmp_path / "uplinks").write_text("nameserver 198.51.100.1\n")
    assert file.original_nameservers() == ["127.0.0.53"]


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EROFS])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    file: ResolvConf, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    replace = resolv_conf_file._rename_over

    def refuse(path: Path, make: Callable[[Path], None]) -> None:
        if path == file.path:
            raise OSError(code, os.strerror(code))
        replace(path, make)

    monkeypatch.setattr(resolv_conf_file, "_rename_over", refuse)
    number = file.path.stat().st_ino
    file.take()
    assert file.servers() == OURS
    assert file.give_back()
    assert file.path.read_text() == ORIGINAL
    assert file.path.stat().st_ino == number
    file.path.rename(file.path.with_name("theirs"))
    file.path.symlink_to("theirs")
    with pytest.raises(OSError, match="symbolic links"):  # what is behind a link is another's
        file.take()
    assert nameservers(file.path.read_text()) == ["10.0.0.1"]


@pytest.mark.parametrize("full", ["resolv.conf", "saved"])
def test_a_full_disk_leaves_the_file_as_it_is(file: ResolvConf, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    replace = resolv_conf_file._rename_over

    def refuse(path: Path, make: Callable[[Path], None]) -> None:
        if path.name == full:
            raise OSError(errno.ENOSPC, "full")
        replace(path, make)

    monkeypatch.setattr(resolv_conf_file, "_rename_over", refuse)
    with pytest.raises(OSError, match="full"):
        file.take()
    assert file.path.read_text() == ORIGINAL


def test_only_one_keeper(file: ResolvConf) -> None:
    lock = file.lock()
    assert again(file).is_kept()
    with pytest.raises(BlockingIOError):
        again(file).lock()
    file.unlock(lock)
    assert not again(file).is_kept()


def test_a_state_dir_that_is_made_here_is_for_its_owner_alone(file: ResolvConf) -> None:
    file.take()
    assert file.saved.parent.stat().st_mode & 0o777 == 0o700


def test_leftovers_of_a_killed_writer(file: ResolvConf) -> None:
    file.take()
    left = [file.path.with_name(".resolv.conf.pharos-1"), file.saved.with_name(".saved.json.pharos-1")]
    for path in left:
        path.touch()
    file.clean()
    assert not any(path.exists() for path in left)
    assert is_ours(file.path.read_text())


def test_what_is_no_resolv_conf(file: ResolvConf, tmp_path: Path) -> None:
    file.path.write_bytes(b"#" * (resolv_conf_file.LARGEST + 1))
    with pytest.raises(OSError, match="larger than"):
        file.take()
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(OSError, match=r"neither a file|directory"):
        file.take()
    with pytest.raises(OSError, match="no address"):
        ResolvConf(tmp_path / "x", tmp_path / "y", []).take()
