"""What a simulated master can be told to do wrong, and how that changes what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

WRONG = b'{"type":"SUBSCRIBED","subscribed":{"get_state":[1,2],"tasks":"none"},"slaves":7,"frameworks":{"a":1}}'


@dataclass(slots=True)
class Faults:
    """Switches for tests; every field applies from the next request, record or piece on.

    unavailable     503: "recovering" (the text of a master that has not finished recovery), "no-leader",
                    or "json" (a body that would parse as an empty but valid state)
    truncate        bodies and the SUBSCRIBED record lose their second half, then the connection ends
    wrong           bodies and the SUBSCRIBED record are valid JSON of wrong shapes
    empty           the master knows no agents, frameworks and tasks
    stall           requests are accepted and never answered
    silent          open streams get neither events nor heartbeats any more (the events are lost)
    garble          the next event's record is of its right length, but no JSON; then off again
    cut_after       the next event's record ends after so many bytes and the connection with it; then off
    content_type    instead of application/json
    piece, pause    bodies and records are written in pieces of so many bytes, seconds apart
    """

    unavailable: str = ""
    truncate: bool = False
    wrong: bool = False
    empty: bool = False
    stall: bool = False
    silent: bool = False
    garble: bool = False
    cut_after: int | None = None
    content_type: str = ""
    piece: int = 0
    pause: float = 0.0

    def clear(self) -> None:
        """All faults off."""
        for name, value in vars_of(Faults()).items():
            setattr(self, name, value)

    def body(self, data: bytes) -> bytes:
        """What goes out instead of a whole document."""
        if self.wrong:
            return WRONG
        return data[: len(data) // 2] if self.truncate else data

    @property
    def rewrites_bodies(self) -> bool:
        """Whether documents have to be whole before they go out."""
        return self.wrong or self.truncate

    def split(self, data: bytes) -> Iterator[bytes]:
        """`data` in pieces, if pieces are asked for."""
        if self.piece <= 0:
            yield data
            return
        for start in range(0, len(data), self.piece):
            yield data[start : start + self.piece]

    async def breathe(self) -> None:
        """Between two pieces."""
        if self.piece > 0:
            await asyncio.sleep(self.pause)


def vars_of(faults: Faults) -> dict[str, object]:
    """Names and values of the switches."""
    return {name: getattr(faults, name) for name in Faults.__slots__}
