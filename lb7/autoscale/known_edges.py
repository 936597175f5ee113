"""Which edges there are: those of the configuration, and those that hold a key `edges/ID` in the coordinator.

One that vanishes from the coordinator is still counted on for GRACE seconds, as it may be one that starts again: else
what it carries would be missing from the sum, and nobody would know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import msgspec

from mesos_dns.sources.relay_link import server_url

log = logging.getLogger(__name__)

PREFIX = "edges"
GRACE = 10.0
MOST = 500
"""Edges that are followed at most."""
_MOST_VALUE = 4096


class EdgeEntry(msgspec.Struct, frozen=True):
    """The value of `edges/ID`."""

    url: str


def read_entry(value: bytes) -> str:
    """The URL in such a value, as `server_url` has it. Raises ValueError."""
    if len(value) > _MOST_VALUE:
        raise ValueError(f"{len(value)} octets, at most {_MOST_VALUE} are expected")
    try:
        return server_url(msgspec.json.decode(value, type=EdgeEntry).url)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)[:300]) from None


class KnownEdges:
    """See the module. `urls` are the edges now; `unreadable` those that can't be asked, by what they are known as, and
    why. `heard`: the coordinator has told, or there is none."""

    def __init__(self, static: Iterable[str], heard: bool) -> None:
        self.heard = heard
        self.unreadable: dict[str, str] = {}
        self._static: dict[str, None] = {}
        self._registered: dict[str, str] = {}
        self._leaving: dict[str, float] = {}
        for text in static:
            try:
                self._static[server_url(text)] = None
            except ValueError as error:
                self.unreadable[text] = f"[autoscale] edges: {error}"
        self._wrong = dict(self.unreadable)

    def __repr__(self) -> str:
        return f"<KnownEdges urls={len(self.urls)} unreadable={len(self.unreadable)}>"

    @property
    def urls(self) -> list[str]:
        """All of them, those of the configuration first."""
        return list(self._static | dict.fromkeys(self._registered.values()) | dict.fromkeys(self._leaving))[:MOST]

    def is_named(self, url: str) -> bool:
        """Whether the configuration has it, not the coordinator alone."""
        return url in self._static

    @property
    def left_out(self) -> int:
        """How many there are beyond MOST."""
        return max(0, len(self._static | dict.fromkeys(self._registered.values()) | self._leaving) - MOST)

    def told(self, values: Mapping[str, bytes], now: float) -> None:
        """These are all keys in the coordinator; `now`: a steady clock."""
        before = set(self._registered.values())
        self.heard = True
        self._registered = {}
        wrong = dict(self._wrong)
        for key, value in values.items():
            try:
                self._registered[key] = read_entry(value)
            except ValueError as error:
                wrong[key] = f"not an edge's entry: {error}"
        for key in wrong.keys() - self.unreadable.keys():
            log.warning("an edge's entry in the coordinator can't be used key=%s error=%s", key, wrong[key])
        self.unreadable = wrong
        there = set(self._registered.values())
        for url in before - there:
            self._leaving.setdefault(url, now + GRACE)
        for url in there:
            self._leaving.pop(url, None)

    def look(self, now: float) -> None:
        """Forget those that have been gone for long enough."""
        for url in [url for url, end in self._leaving.items() if end <= now]:
            del self._leaving[url]
