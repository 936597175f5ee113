"""A socket that threads use in turns: who waits goes before who was just there."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from lb4 import netlink
from lb4.ipvs_line import Line
from lb4.netlink import NETLINK_GENERIC, NetlinkSocket
from tests.fakes.ipvs_kernel import IpvsKernel
from tests.fakes.turns import Waiting


def test_who_waits_goes_first() -> None:
    line = Line()
    waiting: Any = Waiting(2)
    line._next = waiting
    order: list[str] = []

    def other() -> None:
        with line.alone():
            order.append("other")

    thread = threading.Thread(target=other)
    with line.alone():
        thread.start()
        assert waiting.taken.wait(60)
        order.append("first")
    with line.alone():
        order.append("again")
    thread.join(60)
    assert order == ["first", "other", "again"]


def test_one_at_a_time_and_after_an_error_too() -> None:
    line = Line()
    with pytest.raises(RuntimeError), line.alone():
        raise RuntimeError
    inside, most = 0, 0

    def many() -> None:
        nonlocal inside, most
        for _ in range(200):
            with line.alone():
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1


def test_a_turn_needs_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = IpvsKernel()
    monkeypatch.setattr(netlink, "_opened", kernel.opened)
    line = Line()
    for _ in range(2):
        with pytest.raises(OSError) as caught, line.turn():
            pass
        assert caught.value.errno == errno.ENOTCONN
        assert line.sent == 0
        made = NetlinkSocket(NETLINK_GENERIC)
        with line.alone():
            line.put(made)
        with line.turn() as used:
            assert used is made
            made.sent = 3
        assert line.sent == 3
        with line.alone():
            line.put(None)
        assert kernel.sockets[-1].closed
