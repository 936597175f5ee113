"""Which URLs of hooks may be asked: what a label may have us connect to is for the configuration to say.

A URL is allowed by a prefix that has its scheme, host and port, and whose path's segments its own begin with. What one
program reads in one way and another in another way is refused for both: a URL is sent as it was checked.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

MOST_CHARACTERS = 2048

_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")
_PORT = re.compile(r"[0-9]{1,5}")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BETWEEN_READINGS = re.compile(rb"[\x00-\x20/\\%\x7f]")
"""What in a decoded segment would be read otherwise by who decodes twice, or splits after decoding."""


class HookUrl(NamedTuple):
    """A checked URL: `origin` is scheme, host and port; `path` its segments, decoded; `text` the URL as it is sent."""

    text: str
    origin: tuple[str, str, int]
    path: tuple[bytes, ...]
    query: str

    @property
    def name(self) -> str:
        """The URL for people: without its query, which may hold what is secret."""
        return self.text.partition("?")[0]


def read_url(text: str) -> HookUrl:
    """A URL of a hook. Raises ValueError that says what is wrong with it, and does not repeat it."""
    if len(text) > MOST_CHARACTERS or not _PLAIN.fullmatch(text):
        raise ValueError(f"expected at most {MOST_CHARACTERS} printable ASCII characters without spaces")
    if "\\" in text or "#" in text:
        raise ValueError("expected a URL without backslash and fragment")
    if _ESCAPE.search(text):
        raise ValueError("expected % before two hexadecimal digits only")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("expected an address in brackets to be one") from None
    if parts.scheme not in _PORTS or not text.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("expected http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("expected a URL without user and password")
    host, port = _host_port(parts.netloc, parts.scheme)
    segments = tuple(unquote_to_bytes(segment) for segment in parts.path.split("/")[1:])
    for segment in segments:
        # "..;x" is ".." to servers that know parameters of segments.
        if segment.partition(b";")[0] in (b".", b"..") or _BETWEEN_READINGS.search(segment):
            raise ValueError(
                'expected a path without ".", "..", and without encoded "/", "\\", "%" and control characters'
            )
    return HookUrl(text, (parts.scheme, host, port), segments, parts.query)


def without_query(text: str) -> str:
    """A URL as people may see it, whether it can be read or not: no value of its query, and nothing before an "@"."""
    start, asks, _ = text.partition("?")
    scheme, _, rest = start.rpartition("://")
    kept = f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else start
    return f"{kept}?***" if asks else kept


def _host_port(netloc: str, scheme: str) -> tuple[str, int]:
    host, colon, port = netloc.rpartition(":") if not netloc.endswith("]") else (netloc, "", "")
    if not colon:
        host = netloc
    if not _HOST.fullmatch(host) or (colon and not _PORT.fullmatch(port)):
        raise ValueError("expected HOST or HOST:PORT after the scheme")
    number = int(port) if colon else _PORTS[scheme]
    if not 1 <= number <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {number}")
    return host.lower(), number


def read_prefix(text: str) -> HookUrl:
    """What URLs may begin with: a URL without query. Raises ValueError."""
    prefix = read_url(text)
    if prefix.query or "?" in text:
        raise ValueError("expected a URL without query")
    path = prefix.path[:-1] if prefix.path and not prefix.path[-1] else prefix.path
    return prefix._replace(path=path)


def allowed(url: HookUrl, prefix: HookUrl) -> bool:
    """Whether a URL begins with what `read_prefix` made."""
    return url.origin == prefix.origin and url.path[: len(prefix.path)] == prefix.path
