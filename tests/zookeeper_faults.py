"""Faults of ZooKeeper sessions on demand: one that the server ends, one whose requests are lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

from mesos_dns.zookeeper import Session, ZooKeeperLost
from tests.system.ensemble import Ensemble, Server
from tests.zookeeper_clients import until


async def end_session(ensemble: Ensemble, session: Session) -> None:
    """Have the server end a session as if its time had passed, and wait for the next one."""
    old, client = session.session_id, session._client
    assert client is not None
    await asyncio.to_thread(_close_session, ensemble.servers[0], *client.client_id)
    await until(lambda: session.connected and session.session_id not in (None, old))


def _close_session(server: Server, session_id: int, password: bytes) -> None:
    """Take a session over and close it in one go, before its owner takes it back."""
    connect = struct.pack(">iqiqi16s?", 0, 0, 4000, session_id, 16, password, False)
    close = struct.pack(">ii", 1, -11)
    with socket.create_connection((server.address, server.port), 10) as sock:
        sock.sendall(b"".join(struct.pack(">i", len(packet)) + packet for packet in (connect, close)))
        while sock.recv(4096):
            pass  # until the server has done it and hangs up


async def drop(session: Session) -> None:
    """Break the connection; the session goes on over another one."""
    connection = session.connection
    assert session._threads is not None
    session._threads.drop()
    await until(lambda: session.connected and session.connection > connection)


@contextlib.contextmanager
def lose_answers(session: Session, method: str, times: int = 1) -> Iterator[list[Any]]:
    """Have the next answers to a kind of request be lost although the request was done; what they were."""
    real = getattr(session, method)
    answers: list[Any] = []

    async def lossy(*arguments: Any, **more: Any) -> Any:
        answer = await real(*arguments, **more)
        if len(answers) < times:
            answers.append(answer)
            raise ZooKeeperLost("the answer was lost")
        return answer

    setattr(session, method, lossy)
    try:
        yield answers
    finally:
        delattr(session, method)
