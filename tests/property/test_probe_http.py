"""The head of a check's answer over random octets, in random pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.probe_http import Malformed, ResponseHead

parts = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.0 503", b"\r\n", b"\n", b"\r", b"A: b", b" ", b"HTTP/1."]
)
answers = st.lists(parts | st.binary(max_size=5), max_size=12).map(b"".join)


def status(pieces: list[bytes]) -> int | str | None:
    """The status after the first piece that gives one, None while there is none, "bad" for what is no answer."""
    head = ResponseHead()
    for piece in pieces:
        try:
            head.feed(piece)
        except Malformed:
            return "bad"
        if head.status is not None:
            return head.status
    assert head.ended()
    return None


@given(answers, st.lists(st.integers(1, 9), min_size=1))
def test_pieces_make_no_difference(answer: bytes, sizes: list[int]) -> None:
    pieces: list[bytes] = []
    at = 0
    while at < len(answer):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(answer[at : at + size])
        at += size
    assert status(pieces) == status([answer] if answer else [])


@given(st.integers(200, 599), st.binary(max_size=40))
def test_what_comes_behind_the_head_is_not_looked_at(code: int, rest: bytes) -> None:
    assert status([b"HTTP/1.1 %d x\r\nA: b\r\n\r\n" % code + rest]) == code
