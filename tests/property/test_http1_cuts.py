"""Heads and chunks over any octets, cut as they may be: a beginning never has another result than the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7._http1 import Chunks, Head, Refused, copy_fields, request, response
from tests.fakes.http_messages import PIECES, answers, chunked_bodies, mutated, requests

Reader = Callable[[bytes, int, int], Head | None]

some_octets = st.lists(st.sampled_from([*PIECES, b"GET / "]) | st.binary(max_size=5), max_size=12).map(b"".join)
messages = st.one_of(some_octets, mutated(requests()), mutated(answers()))
limits = st.tuples(st.sampled_from([40, 100, 16384]), st.sampled_from([1, 4, 100]))


def result(read: Reader, octets: bytes, limit: tuple[int, int]) -> int | str:
    """The head's length, 0 for more, or the fault."""
    try:
        head = read(octets, *limit)
    except Refused as refused:
        return refused.fault
    return head.length if head else 0


@pytest.mark.parametrize("read", [request, response])
@given(octets=messages, limit=limits)
def test_a_beginning_of_a_head_has_no_other_result(read: Reader, octets: bytes, limit: tuple[int, int]) -> None:
    whole = result(read, octets, limit)
    before: int | str = 0
    for length in range(len(octets)):
        one = result(read, octets[:length], limit)
        assert one == before or (before == 0 and one == whole)
        assert not isinstance(one, int) or one <= length
        before = one


@pytest.mark.parametrize("read", [request, response])
@given(octets=messages, limit=limits)
def test_limits_hold(read: Reader, octets: bytes, limit: tuple[int, int]) -> None:
    try:
        head = read(octets, *limit)
    except Refused:
        return
    if head is None:
        assert len(octets) < limit[0]
        return
    assert head.length <= limit[0]
    assert len(head.fields) <= limit[1]
    assert octets[: head.length].endswith(b"\r\n\r\n")
    kept = [field for field in head.fields if field not in head.dropped]
    lines = copy_fields(head)
    assert len(lines) <= head.length + 2 * len(head.fields)
    for name, value in kept:
        assert name + b": " + value + b"\r\n" in lines


def in_pieces(octets: bytes, sizes: list[int]) -> tuple[int, bytes, bool] | None:
    """Octets of the body, what its chunks hold, whether it is whole; None when it is refused."""
    chunks, plain = Chunks(), Chunks()
    at = number = 0
    held = b""
    while at < len(octets) and not chunks.done:
        piece = octets[at : at + sizes[number % len(sizes)]]
        number += 1
        try:
            length, part = chunks.unwrap(piece)
        except Refused:
            with pytest.raises(Refused):
                plain.read(piece)
            return None
        assert plain.read(piece) == length
        held += part
        at += length
    assert plain.done == chunks.done
    return at, held, chunks.done


@given(mutated(chunked_bodies) | chunked_bodies | some_octets, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_cuts_of_chunks_make_no_difference(octets: bytes, sizes: list[int]) -> None:
    assert in_pieces(octets, sizes) == in_pieces(octets, [max(1, len(octets))])


@given(chunked_bodies, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_right_chunks_are_read_to_their_end(octets: bytes, sizes: list[int]) -> None:
    read = in_pieces(octets + b"more", sizes)
    assert read is not None
    assert (read[0], read[2]) == (len(octets), True)
