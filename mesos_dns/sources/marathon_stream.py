"""Server-sent events: the bytes of a text/event-stream cut into events (WHATWG HTML, §9.2.6).

Lines end with CR LF, LF or CR; a blank line ends an event; a line that begins with a colon is a comment. `id` and
`retry` are of no use here and skipped. An event that grows beyond the limit is thrown away as a whole, and handed out
as one that says so: whoever reads knows that something happened, not what.
"""

from __future__ import annotations

import re

import msgspec

MAX_EVENT = 16 << 20
"""Bytes of the largest event: Marathon before 1.5 puts whole groups into those of deployments."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its type ("" where the stream names none) and its data; `too_large`: the data was thrown away."""

    type: str
    data: bytes
    too_large: bool = False


class EventReader:
    """Push parser: `feed` what arrives, in pieces of any size; it hands out the events that are complete."""

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._line: list[bytes] = []
        self._line_size = 0
        self._type = b""
        self._data: list[bytes] = []
        self._size = 0
        self._too_large = False
        self._after_cr = False
        self._begun = False

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that end in this piece."""
        found: list[ServerEvent] = []
        if self._after_cr and piece:
            self._after_cr = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
        if not piece:
            return found
        *lines, rest = _LINE_END.split(piece)
        for line in lines:
            if self._line:
                line = b"".join((*self._line, line))
                self._line.clear()
            self._line_size = 0
            self._take(line, found)
        self._keep(rest)
        self._after_cr = piece.endswith(b"\r")
        return found

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of a line whose end is not there yet, while it can become one that is of use."""
        if not rest:
            return
        self._line_size += len(rest)
        if self._line_size + self._size > self._max:
            self._overflow()
        # What the line is shows in its first bytes; the others are dropped when it is too large.
        if not self._too_large or not self._line:
            self._line.append(rest[: self._max])

    def _overflow(self) -> None:
        self._too_large = True
        self._data.clear()
        self._size = 0
        if self._line:
            self._line = [b"".join(self._line)[:64]]

    def _take(self, line: bytes, found: list[ServerEvent]) -> None:
        """One whole line."""
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(found)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            if self._size > self._max:
                self._overflow()
            if not self._too_large:
                self._data.append(value)
        elif name == b"event":
            self._type = value[:256]

    def _dispatch(self, found: list[ServerEvent]) -> None:
        """A blank line: an event without data is none."""
        kind = self._type.decode("utf-8", "replace")
        if self._too_large:
            found.append(ServerEvent(kind, b"", too_large=True))
        elif self._data:
            found.append(ServerEvent(kind, b"\n".join(self._data)))
        self._type = b""
        self._data.clear()
        self._size = 0
        self._too_large = False
