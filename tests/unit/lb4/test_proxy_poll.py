"""One epoll for many sockets: numbers that are used again, errors of ours, resets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import pytest

from lb4.proxy_poll import IN, Poller
from tests.fakes.proxied import both_loops, run


class Owner:
    """Counts what it is told, and does something then."""

    def __init__(self, do: Callable[[], None] = lambda: None) -> None:
        self.told = 0
        self.aborted = asyncio.Event()
        self._do = do

    def ready(self, events: int) -> None:
        self.told += 1
        self._do()

    def abort(self) -> None:
        self.aborted.set()


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@both_loops
def test_an_event_of_a_closed_socket_is_not_told_to_the_next_with_its_number(loop: str) -> None:
    async def story() -> None:
        poller = Poller()
        (one, one_peer), (two, two_peer) = pair(), pair()
        opened: list[socket.socket] = []
        owners: list[Owner] = []

        def close_the_other_and_open_one(mine: socket.socket, other: socket.socket) -> None:
            if not opened:
                numbers = {one.fileno(), two.fileno()}
                poller.close(other)
                opened.extend(pair())
                assert not {sock.fileno() for sock in opened} & numbers
                owners.append(Owner())
                poller.watch(opened[0], IN, owners[0])
            poller.close(mine)
            done.set()

        done = asyncio.Event()
        poller.watch(one, IN, Owner(lambda: close_the_other_and_open_one(one, two)))
        poller.watch(two, IN, Owner(lambda: close_the_other_and_open_one(two, one)))
        one_peer.send(b"1")
        two_peer.send(b"2")
        await done.wait()
        assert one.fileno() == two.fileno() == -1
        assert owners[0].told == 0
        assert len(poller) == 1
        poller.close(opened[0])
        for sock in (one_peer, two_peer, opened[1]):
            sock.close()
        poller.end()

    run(loop, story())


@both_loops
def test_an_error_of_ours_ends_only_whom_it_is_about(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        poller = Poller()
        (one, one_peer), (two, two_peer) = pair(), pair()
        heard = asyncio.Event()

        def fail() -> None:
            raise RuntimeError("a mistake of ours")

        def hear() -> None:
            two.recv(9)
            heard.set()

        bad, good = Owner(fail), Owner(hear)
        poller.watch(one, IN, bad)
        poller.watch(two, IN, good)
        one_peer.send(b"1")
        await bad.aborted.wait()
        poller.unwatch(one)
        two_peer.send(b"2")
        await heard.wait()
        assert not good.aborted.is_set()
        for sock in (one, two):
            poller.close(sock)
        for sock in (one_peer, two_peer):
            sock.close()
        poller.end()

    with caplog.at_level(logging.WARNING):
        run(loop, story())
    assert caplog.text.count("RuntimeError: a mistake of ours") == 1


@both_loops
def test_interest_can_change_and_a_reset_is_one(loop: str) -> None:
    async def story() -> None:
        poller = Poller()
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            taken = server.accept()[0]
        taken.setblocking(False)
        heard = asyncio.Event()

        def hear() -> None:
            poller.change(taken, 0)
            heard.set()

        owner = Owner(hear)
        poller.watch(taken, 0, owner)
        client.send(b"1")
        poller.change(taken, IN)
        await heard.wait()
        told = owner.told
        await asyncio.sleep(0)
        assert owner.told == told == 1
        poller.close(taken, reset=True)
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        client.close()
        poller.end()

    run(loop, story())
