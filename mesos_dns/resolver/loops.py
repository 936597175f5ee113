"""Finds upstreams that ask us what we ask them: a question with a random name is sent, and must not come back.

The name is `<32 hex digits>.pharos-loop.example` for default upstreams, and `<32 hex digits>.pharos-loop.ZONE` for
those of a zone, as they may treat other names in another way. No resolver answers `example` by itself, as many do
`invalid` (RFC 6761 §6.4, §6.5). A name is good for one probe; an answer that an
upstream has kept says nothing of where it sends questions.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable

from mesos_dns.resolver.question import Question
from mesos_dns.resolver.upstream import Upstream
from mesos_dns.wire import MAX_NAME, name_to_wire

log = logging.getLogger(__name__)

AGAIN = 60.0
"""Seconds between the probes of an upstream that loops, and at least between those of one that fails."""
SUSPECT = 3
"""Questions in a row without a good answer after which an upstream is probed."""
_MARK = name_to_wire("pharos-loop")[:-1]
_SECONDS = 3.0
_GRACE = 1.0
"""Seconds that a probe may still come back after it was answered: an upstream may ask several servers at once."""
_TICK = 1.0
_PARALLEL = 16
_TXT_IN = b"\0\x10\0\1"


class _Probe:
    """A probe that is under way."""

    __slots__ = ("returned", "upstream")

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.returned = False


class Loops:
    """Probes the upstreams that `upstreams` gives, while `run` runs."""

    def __init__(self, upstreams: Callable[[], Iterable[Upstream]]) -> None:
        self._upstreams = upstreams
        self._live: dict[bytes, _Probe] = {}
        self._probed: dict[Upstream, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def is_probe(self, name: bytes) -> bool:
        """True for the folded wire name of a probe of ours that is under way: its upstream loops."""
        if name[33:45] != _MARK or name[0] != 32:
            return False
        probe = self._live.get(name[1:33])
        if probe is None:
            return False
        probe.returned, upstream = True, probe.upstream
        if not upstream.looping:
            upstream.looping = True
            log.warning("upstream %s (zone %s) sends our questions back: not asked", upstream.label, upstream.zone)
        return True

    async def run(self) -> None:
        """Probe what is due, until cancelled."""
        try:
            while True:
                self._start()
                await asyncio.sleep(_TICK)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        """Begin the probes that are due."""
        now = asyncio.get_running_loop().time()
        present = [upstream for upstream in self._upstreams() if not upstream.own]
        self._probed = {upstream: self._probed[upstream] for upstream in present if upstream in self._probed}
        for upstream in present:
            if len(self._tasks) >= _PARALLEL:
                return
            before = self._probed.get(upstream)
            suspect = upstream.looping or upstream.unanswered >= SUSPECT
            if before is None or (suspect and now >= before + AGAIN):
                self._probed[upstream] = now
                task = asyncio.create_task(self.probe(upstream))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def probe(self, upstream: Upstream) -> None:
        """One probe. An upstream that loops is used again after one that was answered and did not come back."""
        label = secrets.token_hex(16).encode()
        name = b"\x20" + label + _MARK + name_to_wire("example" if upstream.zone == "." else upstream.zone)
        if len(name) > MAX_NAME:
            return  # no room before this zone's name
        probe = self._live[label] = _Probe(upstream)
        try:
            _, reply, _ = await upstream.reply(Question(name + _TXT_IN), _SECONDS)
            await asyncio.sleep(_GRACE)
        finally:
            del self._live[label]
        if upstream.looping and reply is not None and not probe.returned:
            upstream.looping = False
            log.info("upstream %s (zone %s) sends nothing back: asked again", upstream.label, upstream.zone)
