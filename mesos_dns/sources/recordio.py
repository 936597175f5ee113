"""RecordIO framing: a byte stream of `<decimal length>\\n<record>` cut into records.

Grammar (Mesos docs/recordio.md): record = 1*DIGIT LF OCTET{length}, nothing after a record; borders
of HTTP chunks carry no meaning. Blank lines before a length are skipped, as the reference's pseudo
code does. Anything else in a length line, a line that is too long and a record that is too large
end the stream: after a framing error no later byte can be trusted.

Records up to `whole` bytes are handed out in one part; larger ones as they arrive, so that a
snapshot of hundreds of megabytes is never held in memory.
"""

from __future__ import annotations

import msgspec

MAX_RECORD = 512 << 20
MAX_LENGTH_LINE = 20
WHOLE = 128 << 10


class FramingError(ValueError):
    """The stream is not RecordIO or exceeds a limit; the connection is of no more use."""


class Part(msgspec.Struct, frozen=True, gc=False):
    """Some bytes of a record; a small record is one part that is `first` and `last`."""

    data: bytes
    first: bool
    last: bool


class RecordReader:
    """Push parser: `feed` bytes, get parts. `in_record` tells whether a record has begun and not ended."""

    def __init__(self, max_record: int = MAX_RECORD, whole: int = WHOLE) -> None:
        self._max_record = max_record
        self._whole = whole
        self._line = bytearray()
        self._record = bytearray()
        self._left = -1
        self._streaming = False
        self._first = False

    @property
    def in_record(self) -> bool:
        """True while bytes of a begun length line or record are missing."""
        return self._left >= 0 or bool(self._line)

    def feed(self, data: bytes) -> list[Part]:
        """Read a piece of any size. Raises FramingError."""
        parts: list[Part] = []
        position, end = 0, len(data)
        while position < end:
            if self._left < 0:
                position = self._read_length(data, position, parts)
                continue
            size = min(self._left, end - position)
            piece = data[position : position + size]
            position += size
            self._left -= size
            self._take(piece, parts)
        return parts

    def _take(self, piece: bytes, parts: list[Part]) -> None:
        last = self._left == 0
        if self._streaming:
            parts.append(Part(piece, self._first, last))
            self._first = False
        elif last and not self._record:
            parts.append(Part(piece, True, True))
        else:
            self._record += piece
            if last:
                parts.append(Part(bytes(self._record), True, True))
        if last:
            self._record.clear()
            self._left = -1

    def _read_length(self, data: bytes, position: int, parts: list[Part]) -> int:
        newline = data.find(b"\n", position, position + MAX_LENGTH_LINE + 1)
        stop = newline if newline >= 0 else min(len(data), position + MAX_LENGTH_LINE + 1)
        self._line += data[position:stop]
        if len(self._line) > MAX_LENGTH_LINE:
            raise FramingError(f"a length line is longer than {MAX_LENGTH_LINE} bytes: {bytes(self._line)!r}")
        if self._line and not self._line.isdigit():
            raise FramingError(f"expected a decimal record length, got {bytes(self._line)!r}")
        if newline < 0:
            return stop
        if self._line:
            self._begin(int(self._line), parts)
            self._line.clear()
        return newline + 1

    def _begin(self, size: int, parts: list[Part]) -> None:
        if size > self._max_record:
            raise FramingError(f"a record of {size} bytes is larger than {self._max_record}")
        if size == 0:
            parts.append(Part(b"", True, True))
            return
        self._left = size
        self._streaming = self._first = size > self._whole
