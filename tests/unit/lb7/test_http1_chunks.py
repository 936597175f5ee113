"""Bodies in chunks that are accepted, and their limits."""

from __future__ import annotations

import pytest

from lb7._http1 import MOST_EXTENSION, MOST_TRAILER, MOST_TRAILERS, Chunks, Refused

BODIES = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n5\r\nhello\r\n0\r\n\r\n", b"abchello"),
    (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
    (b"000000000000003\r\na\r\n\r\n0\r\n\r\n", b"a\r\n"),
    (b'3;a;b=c;d="e;\\"\\\\\t\xff"\r\nabc\r\n0;x\r\n\r\n', b"abc"),
    (b"1\r\na\r\n0\r\nServer-Timing: x\r\nDigest:\t \xe4\r\nEmpty:\r\n\r\n", b"a"),
]


@pytest.mark.parametrize(("octets", "held"), BODIES)
def test_bodies(octets: bytes, held: bytes) -> None:
    chunks = Chunks()
    assert chunks.unwrap(octets + b"GET / ") == (len(octets), held)
    assert chunks.done
    assert chunks.read(b"more") == 0


@pytest.mark.parametrize(("octets", "held"), BODIES)
def test_cuts_make_no_difference(octets: bytes, held: bytes) -> None:
    for size in range(1, len(octets)):
        chunks, other, got = Chunks(), Chunks(), b""
        for at in range(0, len(octets), size):
            assert not chunks.done
            length, part = chunks.unwrap(octets[at : at + size])
            assert other.read(octets[at : at + size]) == length == len(octets[at : at + size])
            got += part
        assert chunks.done
        assert other.done
        assert got == held


def test_a_beginning_is_not_all() -> None:
    octets = BODIES[4][0]
    for length in range(len(octets)):
        chunks = Chunks()
        assert chunks.read(octets[:length]) == length
        assert not chunks.done


def test_the_largest_chunk() -> None:
    chunks = Chunks()
    assert chunks.unwrap(b"fffffffffffffff\r\nabc") == (20, b"abc")
    assert not chunks.done


def test_room_for_extensions_grows_with_the_body() -> None:
    def extended(held: int, name: int) -> bytes:
        return b"%x;" % held + b"x" * name + b"\r\n" + b"y" * held + b"\r\n"

    # The last octet is the CR behind the name.
    most = MOST_EXTENSION - 1
    assert Chunks().read(extended(1, most)) > most
    with pytest.raises(Refused):
        Chunks().read(extended(1, most + 1))
    body = extended(100, 99) * 100
    assert Chunks().read(body) == len(body)
    with pytest.raises(Refused):
        Chunks().read(extended(1, 99) * 100)


def test_most_octets_of_trailers() -> None:
    def trailers(size: int) -> bytes:
        return b"0\r\nA: " + b"x" * (size - 7) + b"\r\n\r\n"

    chunks = Chunks()
    chunks.read(trailers(MOST_TRAILER))
    assert chunks.done
    with pytest.raises(Refused):
        Chunks().read(trailers(MOST_TRAILER + 1))


def test_most_trailers() -> None:
    chunks = Chunks()
    chunks.read(b"0\r\n" + b"A: b\r\n" * MOST_TRAILERS + b"\r\n")
    assert chunks.done
    with pytest.raises(Refused):
        Chunks().read(b"0\r\n" + b"A: b\r\n" * (MOST_TRAILERS + 1))
