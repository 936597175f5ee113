"""RecordIO framing: a byte stream of `<decimal length>\\n<record>` cut into records.

Grammar (Mesos docs/recordio.md): record = 1*DIGIT LF OCTET{length}, nothing after a record; borders
of HTTP chunks carry no meaning. Blank lines before a length are skipped, as the reference's pseudo
code does. Anything else in a length line, a line that is too long and a record that is too large
end the stream: after a framing error no later byte can be trusted.

Records up to `whole` bytes are handed out in one part; larger ones as they arrive, so that a
snapshot of hundreds of megabytes is never held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

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

    def feed(self, data: bytes) -> Iterator[Part]:
        """Read a piece of any size; iterate to the end. Raises FramingError behind the good parts before it."""
        position, end = 0, len(data)
        while position < end:
            if self._left < 0:
                position = self._read_length(data, position)
                if self._left != 0:
                    continue
            size = min(self._left, end - position)
            piece = data[position : position + size]
            position += size
            self._left -= size
            part = self._take(piece)
            if part is not None:
                yield part

    def _take(self, piece: bytes) -> Part | None:
        last = self._left == 0
        part: Part | None = None
        if self._streaming:
            part = Part(piece, self._first, last)
            self._first = False
        elif last and not self._record:
            part = Part(piece, True, True)
        else:
            self._record += piece
            if last:
                part = Part(bytes(self._record), True, True)
        if last:
            self._record.clear()
            self._left = -1
        return part

    def _read_length(self, data: bytes, position: int) -> int:
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
            size = int(self._line)
            self._line.clear()
            if size > self._max_record:
                raise FramingError(f"a record of {size} bytes is larger than {self._max_record}")
            self._left = size
            self._streaming = self._first = size > self._whole
        return newline + 1
