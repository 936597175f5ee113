"""Questions over a stream: however the octets are cut, the answers are the same, and nothing else is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.connections import Connections
from mesos_dns.forward import Forwarder
from mesos_dns.tcp import MAX_QUESTION, Shared, TcpConnection
from tests.fakes.questions import packet, responder_of, task

RESPONDER = responder_of(task())
QUERIES = [packet("web.marathon.mesos"), packet("nope.mesos", "AAAA"), packet("mesos", "SOA", payload=1232), bytes(12)]


class Transport:
    """What a connection uses of its transport; a client that reads when it is told to."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = self.paused = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5353) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


async def conversation(pieces: list[bytes], blocked: set[int]) -> Transport:
    """Feed the pieces; before those in `blocked` the client's buffer is full, and after them it is empty again."""
    shared = Shared(Connections(RESPONDER.view.config, RESPONDER.counters), RESPONDER, Forwarder(RESPONDER, 1, 1))
    connection, transport = TcpConnection(shared), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    for number, piece in enumerate(pieces):
        if transport.closed:
            break
        if number in blocked:
            connection.pause_writing()
        while piece and not transport.closed:
            room = connection.get_buffer(-1)
            part, piece = piece[: len(room)], piece[len(room) :]
            room[: len(part)] = part
            connection.buffer_updated(len(part))
            if transport.paused:
                connection.resume_writing()
        assert transport.paused is False
        connection.resume_writing()
    connection.connection_lost(None)
    await shared.connections.close()
    return transport


def answer_ids(sent: bytes) -> list[bytes]:
    """The ids of the answers, in their order."""
    found = []
    while sent:
        size = int.from_bytes(sent[:2], "big")
        assert len(sent) >= 2 + size
        found.append(sent[2:4])
        sent = sent[2 + size :]
    return found


@given(
    chosen=st.lists(st.sampled_from(QUERIES), max_size=40),
    cuts=st.lists(st.integers(1, 60), max_size=60),
    blocked=st.sets(st.integers(0, 20)),
)
def test_however_questions_are_cut(chosen: list[bytes], cuts: list[int], blocked: set[int]) -> None:
    queries = [number.to_bytes(2, "big") + query[2:] for number, query in enumerate(chosen)]
    stream, pieces = b"".join(len(query).to_bytes(2, "big") + query for query in queries), []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    transport = asyncio.run(conversation([*pieces, stream], blocked))
    assert answer_ids(transport.sent) == [query[:2] for query in queries]
    assert not transport.closed


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_octets_cost_only_their_connection(pieces: list[bytes]) -> None:
    transport = asyncio.run(conversation(pieces, set()))
    answer_ids(transport.sent)


@given(st.integers(MAX_QUESTION + 1, 65535), st.integers(0, 5))
def test_a_question_over_the_limit_ends_the_connection(size: int, before: int) -> None:
    framed = len(QUERIES[0]).to_bytes(2, "big") + QUERIES[0]
    transport = asyncio.run(conversation([framed * before + size.to_bytes(2, "big"), bytes(10)], set()))
    assert len(answer_ids(transport.sent)) == before
    assert transport.closed
