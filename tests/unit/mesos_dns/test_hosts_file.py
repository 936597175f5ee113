"""The hosts file: what counts as a line, and that a change of the file is seen."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from mesos_dns import hosts_file
from mesos_dns.hosts_file import MAX_ADDRESSES, HostsFile, folded, parse


def test_lines() -> None:
    parsed = parse(
        "# the master\n127.0.0.1\tlocalhost  loop # both\r\n\n::1 localhost\n"
        "10.0.0.1 Master-1.Example. master-1\n  FD00::0:1 master-1\n10.0.0.2 master-1\n"
    )
    assert parsed.addresses == {
        "localhost": ("127.0.0.1", "::1"),
        "loop": ("127.0.0.1",),
        "master-1.example": ("10.0.0.1",),
        "master-1": ("10.0.0.1", "fd00::1", "10.0.0.2"),
    }
    assert parsed.bad == ()


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.1",
        "10.0.0.300 a",
        "010.0.0.1 a",
        "a 10.0.0.1",
        "fe80::1%eth0 a",
        "10.0.0.1 a 10.0.0.2",
        "10.0.0.1 a b/c",
        "10.0.0.1 a..b",
        "10.0.0.1 " + "x" * 64,
        "10.0.0.1 a\0b",
        "10.0.0.1 \ufffd",
        "10.0.0.1 ünter",
    ],
)
def test_a_bad_line_costs_itself_only(line: str) -> None:
    parsed = parse(f"10.0.0.8 before\n{line}\n10.0.0.9 after")
    assert parsed.addresses == {"before": ("10.0.0.8",), "after": ("10.0.0.9",)}
    assert parsed.bad == (2,)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    many = parse("".join(f"10.0.{n // 256}.{n % 256} a\n" for n in range(500)))
    assert len(many.addresses["a"]) == MAX_ADDRESSES
    monkeypatch.setattr(hosts_file, "MAX_NAMES", 2)
    parsed = parse("10.0.0.1 a b c\n10.0.0.2 a\n")
    assert parsed.addresses == {"a": ("10.0.0.1", "10.0.0.2"), "b": ("10.0.0.1",)}
    assert parsed.bad == (1,)


def test_folded() -> None:
    assert folded("Master.Example.") == "master.example"


@pytest.mark.asyncio
async def test_a_change_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    file = HostsFile(path)
    monkeypatch.setattr(hosts_file, "CHECK", 0.0)
    assert await file.lookup("a") == ()
    path.write_text("10.0.0.1 a\n")
    assert await file.lookup("a") == ("10.0.0.1",)
    (tmp_path / "new").write_text("10.0.0.2 a\n")
    (tmp_path / "new").replace(path)
    assert await file.lookup("a") == ("10.0.0.2",)
    path.unlink()
    assert await file.lookup("a") == ()


@pytest.mark.asyncio
async def test_it_is_looked_at_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a\n")
    monkeypatch.setattr(hosts_file, "CHECK", 3600.0)
    file = HostsFile(path)
    assert await file.lookup("a") == ("10.0.0.1",)
    path.unlink()
    assert await file.lookup("a") == ("10.0.0.1",)


@pytest.mark.asyncio
async def test_what_can_not_be_read_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a\nnonsense\n")
    file = HostsFile(path)
    monkeypatch.setattr(hosts_file, "CHECK", 0.0)
    with caplog.at_level(logging.WARNING):
        assert await file.lookup("a") == ("10.0.0.1",)
        path.write_text("10.0.0.2 a\nnonsense\n" * 3)
        monkeypatch.setattr(hosts_file, "MAX_FILE", 10)
        for _ in range(3):
            assert await file.lookup("a") == ("10.0.0.1",)
        path.unlink()
        os.mkfifo(path)
        assert await file.lookup("a") == ("10.0.0.1",)
    assert [record.getMessage().partition("reason=")[2] for record in caplog.records] == [
        "lines are passed over: 1, the first is 2",
        "larger than 10 bytes; what it said before holds",
        f"{path} is no regular file; what it said before holds",
    ]
    path.unlink()
    path.write_text("10.0.0.3 a")
    assert await file.lookup("a") == ("10.0.0.3",)
