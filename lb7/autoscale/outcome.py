"""What became of a change that an orchestrator was asked for."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Result: TypeAlias = Literal["done", "changed", "locked", "delayed", "gone", "refused", "unreachable", "uncertain"]
"""done: it was accepted. changed: the app is not what was decided about, nothing was done. locked: a deployment is
under way. delayed: the orchestrator itself waits before it starts more. gone: there is no such app. refused: it said no
(the text says why). unreachable: nothing was sent. uncertain: it was sent, and no answer came."""


class Outcome(msgspec.Struct, frozen=True):
    """`instances` is what the app is defined to have now, where that is known; `retry_after` seconds are to pass before
    another try."""

    result: Result
    text: str = ""
    instances: int | None = None
    deployment: str = ""
    retry_after: float = 0.0
