"""RecordIO framing: recorded cases, any piece borders, limits."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.recordio import FramingError, RecordReader

records = st.lists(st.binary(max_size=60), max_size=8)


def frame(items: list[bytes]) -> bytes:
    return b"".join(b"%d\n%b" % (len(item), item) for item in items)


def read(reader: RecordReader, pieces: list[bytes]) -> list[bytes]:
    """Whole records; checks that first and last are told rightly."""
    whole, current, is_open = [], b"", False
    for piece in pieces:
        for part in reader.feed(piece):
            assert part.first != is_open
            current, is_open = current + part.data, not part.last
            if part.last:
                whole.append(current)
                current = b""
    return whole


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(items=records, cuts=st.lists(st.integers(0, 10**6), max_size=20), whole=st.integers(0, 70))
def test_any_borders_and_any_part_size(items: list[bytes], cuts: list[int], whole: int) -> None:
    reader = RecordReader(whole=whole)
    assert read(reader, pieces(frame(items), cuts)) == items
    assert not reader.in_record


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        list(RecordReader(max_record=100).feed(data))
    except FramingError:
        pass


def test_small_records_come_in_one_part_and_large_ones_as_they_arrive() -> None:
    reader = RecordReader(whole=4)
    assert [part.data for part in reader.feed(b"4\nab")] == []
    assert [(part.data, part.first, part.last) for part in reader.feed(b"cd5\nabc")] == [
        (b"abcd", True, True),
        (b"abc", True, False),
    ]
    assert reader.in_record
    assert [(part.data, part.first, part.last) for part in reader.feed(b"de")] == [(b"de", False, True)]


@pytest.mark.parametrize(
    "data", [b"abc\n{}", b"-5\nhello", b"1" * 21, b"99999999999\n", b"0x10\n", b"1 \n", b"1\r\n", b"\xb2\n"]
)
def test_refused(data: bytes) -> None:
    with pytest.raises(FramingError):
        list(RecordReader().feed(data))


def test_the_largest_record_that_is_allowed() -> None:
    assert next(RecordReader(max_record=5).feed(b"5\nhello")).last
    with pytest.raises(FramingError, match="larger than 5"):
        list(RecordReader(max_record=5).feed(b"6\n"))


def test_recorded_cases(truth: Path) -> None:
    for case in json.loads((truth / "dcos-net/operator_api/recordio_frames.json").read_text())["cases"]:
        chunks = [base64.b64decode(chunk) for chunk in case["chunks_b64"]]
        if (case["outcome"] or "").startswith("error"):
            with pytest.raises(FramingError):
                read(RecordReader(), chunks)
            continue
        reader = RecordReader()
        assert read(reader, chunks) == [base64.b64decode(record) for record in case["records_b64"]], case["case"]
        assert reader.in_record == (case["outcome"] == "need-more"), case["case"]


def test_what_came_before_an_error_counts() -> None:
    parts = RecordReader().feed(b"2\nok0\nbad\n")
    assert [next(parts).data, next(parts).data] == [b"ok", b""]
    with pytest.raises(FramingError):
        next(parts)
