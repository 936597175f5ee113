"""Server-sent events in pieces of every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.marathon_stream import EventReader, ServerEvent


def events(data: bytes, size: int = 0, max_event: int = 1 << 20) -> list[ServerEvent]:
    """What a reader makes of `data`, fed in pieces of `size` bytes."""
    reader, found = EventReader(max_event), list[ServerEvent]()
    step = size or max(1, len(data))
    for start in range(0, len(data), step):
        found += reader.feed(data[start : start + step])
    return found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_in_pieces(size: int, end: bytes) -> None:
    lines = [b"\xef\xbb\xbfevent: one", b'data: {"a":1}', b"", b": comment", b"", b"data:x", b"data: y", b"id: 7", b""]
    assert events(end.join(lines) + end, size) == [ServerEvent("one", b'{"a":1}'), ServerEvent("", b"x\ny")]


def test_an_event_without_data_is_none_and_an_open_one_waits() -> None:
    assert events(b"event: one\n\nretry: 5\n\n\n\r\n\r\n") == []
    assert events(b"event: one\ndata: 1\n") == []
    assert events(b"data\n\n") == [ServerEvent("", b"")]


def test_the_type_does_not_stay_for_the_next_event() -> None:
    assert events(b"event: one\ndata: 1\n\ndata: 2\n\n") == [ServerEvent("one", b"1"), ServerEvent("", b"2")]


@pytest.mark.parametrize("size", [0, 1, 5, 64])
@pytest.mark.parametrize(
    "large", [b"event: big\ndata: " + b"x" * 500 + b"\n\n", b"event: big\n" + b"data: 12345\n" * 60 + b"\n"]
)
def test_a_large_event_is_thrown_away_and_the_next_one_read(size: int, large: bytes) -> None:
    found = events(large + b"event: next\ndata: 1\n\n", size, max_event=200)
    assert found == [ServerEvent("big", b"", too_large=True), ServerEvent("next", b"1")]


def test_a_line_without_end_is_not_kept() -> None:
    reader = EventReader(max_event=1000)
    for _ in range(2000):
        assert reader.feed(b"y" * 1000) == []
    assert sum(map(len, reader._line)) <= 2000


@given(st.lists(st.tuples(st.sampled_from(["a_b", "x"]), st.binary(max_size=30))), st.integers(1, 40))
def test_what_is_written_is_read(told: list[tuple[str, bytes]], size: int) -> None:
    told = [(kind, data.replace(b"\r", b"").replace(b"\n", b"")) for kind, data in told]
    written = b"".join(b"event: %s\r\ndata: %s\r\n\r\n" % (kind.encode(), data) for kind, data in told)
    assert events(written, size) == [ServerEvent(kind, data) for kind, data in told]
