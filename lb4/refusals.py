"""What is left out for being bad: counted by category each time, and logged once."""

from __future__ import annotations

import logging
from collections import Counter

REMEMBERED = 10_000
"""Bad things remembered as logged, at most; those beyond are only counted."""


class Refusals:
    """See the module. `what` begins the log line; `counts` has how many of each category."""

    def __init__(self, log: logging.Logger, what: str, remembered: int = REMEMBERED) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._what = what
        self._remembered = remembered
        self._logged: set[tuple[str, str]] = set()

    def note(self, reason: str, thing: str, text: str, where: object = "") -> None:
        """Count a bad `thing`, and log it with the text unless that was done. `where` is only told."""
        self.counts[reason] += 1
        mark = (reason, thing[:200])
        if mark in self._logged or len(self._logged) >= self._remembered:
            return
        self._logged.add(mark)
        self._log.warning("%s reason=%s thing=%r where=%r text=%s", self._what, reason, thing[:200], where, text)
