"""The answers that the edge gives itself: refusals, redirects, and that nobody else can answer."""

from __future__ import annotations

import functools

REASONS = {
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
"""Statuses and their phrases (RFC 9110 §15)."""


def answer(status: int, fields: bytes, close: bool, head_only: bool, minor: int) -> bytes:
    """A whole answer. `fields`: further header lines, each with its CRLF; `close`: the connection ends with it;
    `head_only`: to HEAD; `minor`: the client's HTTP/1.x."""
    begin, end, text = _parts(status)
    connection = b"Connection: close\r\n" if close else b"" if minor else b"Connection: keep-alive\r\n"
    return b"".join((begin, fields, connection, end, b"" if head_only else text))


@functools.lru_cache(maxsize=64)
def _parts(status: int) -> tuple[bytes, bytes, bytes]:
    """What stands before our fields and behind them, and the text; it names only the status, nothing of the request."""
    reason = REASONS.get(status, b"Error" if status >= 400 else b"See Location")
    text = b"" if status < 400 else b"%d %b\n" % (status, reason)
    # Nobody is to keep an answer that says how we are now.
    lines = [b"HTTP/1.1 %d %b" % (status, reason), b"Content-Length: %d" % len(text)]
    if text:
        lines += [b"Content-Type: text/plain", b"Cache-Control: no-store"]
    return b"\r\n".join(lines) + b"\r\n", b"\r\n", text
