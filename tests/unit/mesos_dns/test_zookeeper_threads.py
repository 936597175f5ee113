"""Connections of kazoo's threads: silent servers are left alone for a while, all of them never."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import ConnectionDropped

from mesos_dns.zookeeper_threads import Threads, match_answers


@pytest.fixture
def listeners() -> list[socket.socket]:
    return [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]


def names(listeners: list[socket.socket]) -> dict[tuple[str, int], str]:
    return {listener.getsockname(): "zk.example" for listener in listeners}


def test_a_server_that_did_not_take_us_in_is_left_alone_for_a_while(listeners: list[socket.socket]) -> None:
    first, second = (listener.getsockname() for listener in listeners)
    threads = Threads(0.05, names(listeners))
    threads.create_connection(first).close()
    threads.create_connection(second).close()  # the first one did not answer: its time begins
    threads._taken_in = True  # the second one did
    with pytest.raises(OSError, match="silent"):
        threads.create_connection(first)
    time.sleep(0.21)  # 2 x limit x servers
    threads.create_connection(first).close()
    for listener in listeners:
        listener.close()


def test_when_all_were_silent_all_are_tried(listeners: list[socket.socket]) -> None:
    first, second = (listener.getsockname() for listener in listeners)
    threads = Threads(5.0, names(listeners))
    for address in (first, second, first, second):
        threads.create_connection(address).close()
    for listener in listeners:
        listener.close()


def test_a_dropped_connection_ends_for_both_sides(listeners: list[socket.socket]) -> None:
    threads = Threads(1.0, names(listeners))
    threads.drop()  # nothing to drop is no error
    ours = threads.create_connection(listeners[0].getsockname())
    theirs, _ = listeners[0].accept()
    threads.drop()
    assert ours.recv(1) == b""
    assert theirs.recv(1) == b""
    for sock in (ours, theirs, *listeners):
        sock.close()


def test_the_wake_up_pipe_never_blocks() -> None:
    reader, writer = Threads(1.0, {}).create_socket_pair()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(BlockingIOError):
        writer.sendall(bytes(1_000_000))
    reader.close()
    writer.close()


def test_each_connection_numbers_its_requests_anew_and_a_missing_answer_ends_it() -> None:
    # The story: a server that had been stopped left out one answer. kazoo gave up, and with it went the session.
    def read(header: Any, buffer: Any, offset: int) -> str:
        if header == "wrong":
            raise RuntimeError("xids do not match")
        return f"answer to {header}"

    connection = SimpleNamespace(_connect=lambda *place: place, _read_response=read, _xid=0)
    match_answers(SimpleNamespace(_connection=connection))
    numbers = set()
    for _ in range(10):
        connection._xid = 0  # as kazoo does before it connects
        assert connection._connect("zk.example", "192.0.2.1", 2181) == ("zk.example", "192.0.2.1", 2181)
        numbers.add(connection._xid)
    assert len(numbers) > 5
    assert connection._read_response("a request", b"", 0) == "answer to a request"
    with pytest.raises(ConnectionDropped, match="xids do not match"):
        connection._read_response("wrong", b"", 0)
