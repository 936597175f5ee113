"""Containers with a network of their own: which files tell of one, and what is said when they change."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb4 import namespaces
from lb4.namespaces import Change, Container, NamespaceFolder, differences, parse_path

A, B = Container("a", "/n/a", (1, 1)), Container("b", "/n/b", (1, 2))


def test_differences_are_what_went_and_then_what_came() -> None:
    assert differences({}, {"a": A, "b": B}) == [Change(True, A), Change(True, B)]
    assert differences({"a": A}, {"a": A}) == []
    assert differences({"a": A}, {"b": B}) == [Change(False, A), Change(True, B)]
    other = A._replace(identity=(1, 3))
    assert differences({"a": A}, {"a": other}) == [Change(False, A), Change(True, other)]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([A, B]), max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([A, B]), max_size=4),
)
def test_differences_lead_from_one_to_the_other(before: dict[str, Container], now: dict[str, Container]) -> None:
    before = {key: each._replace(id=key) for key, each in before.items()}
    now = {key: each._replace(id=key) for key, each in now.items()}
    known = dict(before)
    for change in differences(before, now):
        if change.is_there:
            assert change.container.id not in known
            known[change.container.id] = change.container
        else:
            assert known.pop(change.container.id) == change.container
    assert known == now


@pytest.mark.parametrize("content", [b"/proc/7/ns/net", b"/proc/7/ns/net\n", b" /proc/7/ns/net \n"])
def test_a_path(content: bytes) -> None:
    assert parse_path(content) == "/proc/7/ns/net"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"proc/7", b"/a\n/b", b"/a\0b", b"/a\tb", b"/" * 4097, b'{"path": "/a"}']
)
def test_what_is_no_path(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_path(content)


class Lab:
    """Files that stand for network namespaces, by their path."""

    def __init__(self, base: Path) -> None:
        self.folder, self.spaces = base / "cni", base / "spaces"
        self.folder.mkdir()
        self.spaces.mkdir()

    def space(self, name: str) -> str:
        """A network namespace's path."""
        path = self.spaces / name
        path.write_text("")
        return str(path)

    def tell(self, name: str, content: str | bytes) -> None:
        """A file for a container."""
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)

    def ioctl(descriptor: int, request: int) -> int:
        assert request == 0xB703
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path.startswith("net:["):
            return 0x40000000
        if path == "/spaces/mount" or path.endswith("/spaces/mount"):
            return 0x00020000
        if "/spaces/" in path:
            return 0x40000000
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    return made


def found(folder: NamespaceFolder) -> dict[str, str]:
    """Paths by id."""
    containers = folder.look()
    assert containers is not None
    return {key: each.path for key, each in containers.items()}


def test_every_good_file_is_a_container(lab: Lab) -> None:
    lab.tell("one", lab.space("1"))
    lab.tell("2.two_-", lab.space("2") + "\n")
    lab.tell(".hidden", lab.space("3"))
    assert found(NamespaceFolder(lab.folder)) == {"one": f"{lab.spaces}/1", "2.two_-": f"{lab.spaces}/2"}


def test_containers_that_share_a_namespace_count_once_and_the_hosts_own_never(lab: Lab) -> None:
    lab.tell("b", lab.space("1"))
    lab.tell("a", lab.space("1"))
    lab.tell("c", "/proc/self/ns/net")
    assert found(NamespaceFolder(lab.folder)) == {"a": f"{lab.spaces}/1"}


def test_a_bad_file_is_said_once_and_stops_no_other(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.tell("good", lab.space("1"))
    lab.tell("relative", "spaces/1")
    lab.tell("gone", str(lab.spaces / "gone"))
    lab.tell("mount", lab.space("mount"))
    lab.tell("a name", lab.space("2"))
    lab.tell("file", str(lab.folder / "file"))
    lab.tell("device", "/dev/null")
    lab.tell("long", b"/" + b"a" * 5000)
    (lab.folder / "folder").mkdir()
    (lab.folder / "link").symlink_to(lab.folder / "good")
    os.mkfifo(lab.folder / "fifo")
    os.mkfifo(lab.spaces / "fifo")
    lab.tell("to-fifo", str(lab.spaces / "fifo"))
    folder = NamespaceFolder(lab.folder)
    for _ in range(2):
        assert found(folder) == {"good": f"{lab.spaces}/1"}
    assert folder.rejected == 11
    assert len(caplog.records) == 11
    assert "file='mount' reason=a namespace of another kind" in caplog.text
    (lab.folder / "mount").unlink()
    found(folder)
    lab.tell("mount", str(lab.spaces / "mount"))
    found(folder)
    assert len(caplog.records) == 12


def test_more_than_can_be_followed_are_left_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(namespaces, "MOST", 2)
    for name in "abc":
        lab.tell(name, lab.space(name))
    assert found(NamespaceFolder(lab.folder)).keys() == {"a", "b"}
    assert "more than 2 files" in caplog.text


def test_no_folder_is_no_containers_and_an_unreadable_one_is_unknown(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    assert NamespaceFolder(lab.folder / "gone").look() == {}
    lab.tell("file", "/")
    assert NamespaceFolder(lab.folder / "file").look() is None
    assert "container's network not used" in caplog.text


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set by each look that has ended."""
    event = threading.Event()
    look = NamespaceFolder.look

    def noted(self: NamespaceFolder) -> object:
        try:
            return look(self)
        finally:
            event.set()

    monkeypatch.setattr(NamespaceFolder, "look", noted)
    yield event
    event.set()


@pytest.mark.asyncio
async def test_changes_are_told_as_they_come(lab: Lab, looked: threading.Event) -> None:
    lab.tell("a", lab.space("1"))
    async with asyncio.timeout(20):
        changes = NamespaceFolder(lab.folder, every=0.01).changes()
        first = await anext(changes)
        assert (first.is_there, first.container.id) == (True, "a")
        await asyncio.to_thread(lab.tell, "a", lab.space("2"))
        second, third = await anext(changes), await anext(changes)
        assert (second.is_there, second.container) == (False, first.container)
        assert (third.is_there, third.container.path) == (True, f"{lab.spaces}/2")
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.to_thread((lab.folder / "a").rename, lab.folder / ".a")
        assert await waiting == Change(False, third.container)
        os.rename(lab.folder, f"{lab.folder}-away")
        (lab.folder.parent / "cni").write_text("not a folder")
        last = asyncio.ensure_future(anext(changes))
        for _ in range(2):
            looked.clear()
            assert await asyncio.to_thread(looked.wait, 10)
        assert not last.done()
        last.cancel()
        await asyncio.wait((last,))
