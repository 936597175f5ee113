"""The channel: messages whole and in order, sockets beside theirs, nothing without bound, an end that is told."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from lb7.channel import MOST_FDS, Channel, ChannelError
from lb7.table import Cluster, TableDelta
from lb7.wire import DOWN, UP, Applied, Apply, Down, Fault, Listen, Mark, Unlisten, Up, encode

Ends = tuple[Channel[Up], Channel[Down]]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a stream socket."""
    both = socket.socketpair()
    yield both
    for sock in both:
        sock.close()


def ends(pair: tuple[socket.socket, socket.socket]) -> Ends:
    return Channel(pair[0], UP), Channel(pair[1], DOWN, takes_files=True)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.asyncio
async def test_messages_go_both_ways_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = ends(pair)
    for number in range(100):
        await parent.send(encode(Mark(number)))
        await worker.send(encode(Applied(number)))
    assert [await worker.receive() for _ in range(100)] == [(Mark(number), []) for number in range(100)]
    assert [await parent.receive() for _ in range(100)] == [(Applied(number), []) for number in range(100)]
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_a_large_message_waits_for_its_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    parent = Channel(pair[0], UP)
    large = Apply(TableDelta(clusters={"a": Cluster("a" * 3_000_000, "/a", 1)}))
    sending = asyncio.create_task(parent.send(encode(large)))
    small = asyncio.create_task(parent.send(encode(Mark(1))))
    await asyncio.sleep(0.05)
    assert not sending.done(), "more went out than the system has room for"
    worker = Channel(pair[1], DOWN)
    assert await worker.receive() == (large, [])
    assert await worker.receive() == (Mark(1), [])
    await asyncio.gather(sending, small)
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_one_who_does_not_read_is_not_read_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """However much is sent, this end keeps little of it."""
    parent, worker = ends(pair)
    frame = encode(Fault("key", "x" * 10_000))

    async def flood() -> None:
        while True:
            await worker.send(frame)

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0.1)
    assert len(parent._arrived) < 1 << 20
    for _ in range(1000):
        assert await parent.receive() == (Fault("key", "x" * 10_000), [])
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_sockets_arrive_with_their_message(pair: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = ends(pair)
    before = descriptors()
    made = [socket.socket() for _ in range(7)]
    for sock in made:
        sock.bind(("127.0.0.1", 0))
    await parent.send(encode(Listen("a", 0, 2)), made[:2])
    await parent.send(encode(Unlisten("a", 0)))
    await parent.send(encode(Listen("b", 1, 5)), made[2:])
    ports = [sock.getsockname()[1] for sock in made]
    for sock in made:  # the message has them still
        sock.close()
    came: list[int] = []
    for expected, count in ((Listen("a", 0, 2), 2), (Unlisten("a", 0), 0), (Listen("b", 1, 5), 5)):
        message, files = await worker.receive()
        assert (message, len(files)) == (expected, count)
        came += files
    received = [socket.socket(fileno=fd) for fd in came]
    assert [sock.getsockname()[1] for sock in received] == ports
    assert not any(os.get_inheritable(fd) for fd in came)
    for sock in received:
        sock.close()
    assert descriptors() == before
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_as_many_sockets_as_the_system_takes(pair: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = ends(pair)
    with socket.socket() as sock:
        await parent.send(encode(Listen("a", 0, MOST_FDS)), [sock] * MOST_FDS)
        _, files = await worker.receive()
        assert len(files) == MOST_FDS
        for fd in files:
            os.close(fd)
        with pytest.raises(ValueError, match="too much"):
            await parent.send(encode(Listen("a", 0, MOST_FDS + 1)), [sock] * (MOST_FDS + 1))
        sock.close()
        with pytest.raises(ValueError, match="closed before"):
            await parent.send(encode(Listen("a", 0, 1)), [sock])
    await parent.send(encode(Mark(1)))  # nothing was sent by halves
    assert await worker.receive() == (Mark(1), [])
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_files_that_nobody_takes_are_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = ends(pair)
    with socket.socket() as sock:
        before = descriptors()
        await parent.send(encode(Listen("a", 0, 3)), [sock] * 3)
        while not worker._files:
            await asyncio.sleep(0.01)
        assert len(descriptors() - before) == 3
        worker.close()
        assert not descriptors() - before
    parent.close()


@pytest.mark.asyncio
async def test_one_who_takes_no_files_gets_none(pair: tuple[socket.socket, socket.socket]) -> None:
    """A worker can't use up its parent's."""
    parent, worker = ends(pair)
    before = descriptors()
    with socket.socket() as sock:
        for number in range(3):
            await worker.send(encode(Applied(number)), [sock] * 10)
    assert [await parent.receive() for _ in range(3)] == [(Applied(number), []) for number in range(3)]
    assert descriptors() == before
    assert not parent._files
    parent.close()
    worker.close()


@pytest.mark.asyncio
async def test_the_end_is_told_after_all_that_was_said(pair: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = ends(pair)
    await worker.send(encode(Applied(1)))
    worker.close()
    assert await parent.receive() == (Applied(1), [])
    with pytest.raises(ChannelError, match="gone"):
        await parent.receive()
    with pytest.raises(ChannelError):
        await parent.send(encode(Mark(1)))
    parent.close()


@pytest.mark.asyncio
async def test_whoever_waits_for_room_learns_of_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    parent = Channel(pair[0], UP)
    sending = asyncio.create_task(parent.send(b"\x00" * 5_000_000))
    await asyncio.sleep(0.05)
    pair[1].close()
    with pytest.raises(ChannelError):
        await sending
    parent.close()


@pytest.mark.asyncio
async def test_a_message_that_is_broken_off_ends_the_channel(pair: tuple[socket.socket, socket.socket]) -> None:
    parent = Channel(pair[0], UP)
    sending = asyncio.create_task(parent.send(b"\x00" * 5_000_000))
    await asyncio.sleep(0.05)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    with pytest.raises(ChannelError, match="broken off"):
        await parent.send(encode(Mark(1)))
    parent.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("octets", "match"),
    [
        (struct.pack(">I", 1 << 31), "too long"),
        (struct.pack(">I", 3) + b"\xc1\xc1\xc1", "not a message"),
        (struct.pack(">I", 9) + b"\x92\xa7unknown", "not a message"),
    ],
)
async def test_what_is_no_message(pair: tuple[socket.socket, socket.socket], octets: bytes, match: str) -> None:
    pair[0].send(octets)
    worker = Channel(pair[1], DOWN)
    with pytest.raises(ChannelError, match=match):
        await worker.receive()
    with pytest.raises(ChannelError):
        await worker.send(encode(Applied(1)))
    worker.close()
