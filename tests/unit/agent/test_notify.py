"""systemd's notification socket and watchdog."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def test_state_reaches_the_manager(manager: socket.socket) -> None:
    assert notify.notify("READY=1", {"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(100) == b"READY=1"


def test_abstract_socket() -> None:
    name = f"pharos-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        assert notify.notify("STOPPING=1", {"NOTIFY_SOCKET": "@" + name})
        receiver.setblocking(False)
        assert receiver.recv(100) == b"STOPPING=1"


def test_no_manager_is_no_error(tmp_path: Path) -> None:
    assert not notify.notify("READY=1", {})
    assert not notify.notify("READY=1", {"NOTIFY_SOCKET": "relative"})
    assert not notify.notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_watchdog_interval_is_half_of_what_systemd_waits() -> None:
    assert notify.watchdog_interval({"WATCHDOG_USEC": "3000000"}) == 1.5
    assert notify.watchdog_interval({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}) == 1.5
    for env in ({}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}):
        assert notify.watchdog_interval(env) is None


@pytest.mark.asyncio
async def test_watchdog_returns_where_nobody_waits() -> None:
    await notify.watchdog({})


@pytest.mark.asyncio
async def test_watchdog_goes_on_after_a_manager_that_was_away(tmp_path: Path) -> None:
    address = str(tmp_path / "late")
    alive = asyncio.create_task(notify.watchdog({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000"}))
    await asyncio.sleep(0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setblocking(False)
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(receiver, 100), 60) == b"WATCHDOG=1"
        assert await asyncio.wait_for(loop.sock_recv(receiver, 100), 60) == b"WATCHDOG=1"
    alive.cancel()
