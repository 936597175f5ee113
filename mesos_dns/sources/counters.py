"""What a source counts: plain integers that the metrics read, and complaints that are logged once."""

from __future__ import annotations

import logging
from collections import Counter

COMPLAINTS_KEPT = 4096
"""Distinct bad inputs that are remembered; when more come, the memory starts afresh."""


class SourceCounters:
    """One source's totals since the process started. Times are seconds, sizes bytes.

    `reads` are single things that were read again after an event. `held_tasks` are registrations that
    vanished while the session that they were seen with was lost. `events` counts by event type (types
    that are not known count as "other"); `errors` by a short kind ("connect", "status", "auth",
    "framing", "document", "stall", "redirect", "schedulers", "silence", "moved", "empty").
    `last_event_at` and `last_sync_at` are seconds since the epoch, 0 before the first.
    """

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.bytes = 0
        self.connects = 0
        self.reconnects = 0
        self.syncs = 0
        self.reads = 0
        self.malformed = 0
        self.skipped_entities = 0
        self.skipped_fields = 0
        self.unknown_tasks = 0
        self.held_agents = 0
        self.held_tasks = 0
        self.sync_seconds = 0.0
        self.last_event_at = 0.0
        self.last_sync_at = 0.0


class Complaints:
    """Logs each distinct bad input once, so that one that is repeated every second does not flood the log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        """Log `text` as a warning unless it was logged before."""
        if text in self._seen:
            return
        if len(self._seen) >= COMPLAINTS_KEPT:
            self._seen.clear()
        self._seen.add(text)
        self._log.warning("%s", text)
