"""The HTTP of a check: one GET, and the status out of whatever bytes come back. Pure.

    head = ResponseHead()
    while head.status is None:
        head.feed(received)          # raises Malformed as soon as it can be no answer of HTTP/1

Only the status line is taken apart (RFC 9112 §4); of the fields only the empty line at their end counts. Heads of
interim answers (1xx) are passed over.
"""

from __future__ import annotations

import re

from mesos_dns.checked import BackendKey
from mesos_dns.config import host_port_text

MAX_HEAD = 64 << 10
"""Octets of all heads of one answer, at most."""
MAX_LINE = 8 << 10
"""Octets of a status line, at most."""

_START = b"HTTP/1."
# RFC 9112 §4: HTTP-name and version, a space, three digits, a space and a reason; many leave the second space out.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")


class Malformed(ValueError):
    """An answer that is none of HTTP/1; the text says what is wrong with it."""


def request(backend: BackendKey, path: str) -> bytes:
    """The question. Raises ValueError for a path that is no ASCII (checked.py keeps out all the rest)."""
    host = host_port_text(backend.address, backend.port)
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: pharos-check",
        "Accept: */*",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def is_good(status: int) -> bool:
    """Whether a backend with this status works: 200 to 399, as HAProxy's httpchk has it."""
    return 200 <= status < 400


class ResponseHead:
    """Collects an answer's head; `status` is None until all of it is there."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._buffer = bytearray()
        self._looked = 0
        self._passed = 0

    def feed(self, data: bytes) -> None:
        """More octets of the answer. Raises Malformed."""
        self._buffer += data
        while self.status is None and self._buffer and self._step():
            pass
        if self.status is None and self._passed + len(self._buffer) >= MAX_HEAD:
            raise Malformed(f"a head of more than {MAX_HEAD} octets")

    def ended(self) -> str:
        """What to say of an answer that ends here, before its head does."""
        return "closed within the head" if self._buffer or self._passed else "closed without an answer"

    def _step(self) -> bool:
        """Look at one head; True when it was an interim one that is done."""
        start = bytes(self._buffer[: len(_START)])
        if not _START.startswith(start):
            raise Malformed(f"no HTTP/1: begins with {bytes(self._buffer[:40])!r}")
        line = _STATUS_LINE.match(self._buffer)
        if line is None:
            if b"\n" in self._buffer[:MAX_LINE] or len(self._buffer) >= MAX_LINE:
                raise Malformed(f"no status line: begins with {bytes(self._buffer[:40])!r}")
            return False
        end = _END.search(self._buffer, max(self._looked, line.end() - 2))
        if end is None:
            self._looked = max(0, len(self._buffer) - 3)
            return False
        status = int(line[1])
        if status == 101 or status >= 200:
            self.status = status
            return False
        self._passed += end.end()
        self._looked = 0
        del self._buffer[: end.end()]
        return True
