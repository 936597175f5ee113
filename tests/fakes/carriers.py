"""Workers that have counted what a test says, without processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lb7.counters import Totals
from lb7.wire import Counters


class FakeWorkers:
    """What metrics and status ask of lb7.workers.Workers; `counted` is what worker 0 tells."""

    def __init__(self, *counted: Counters) -> None:
        self.replaced = 0
        self.problems: dict[str, str] = {}
        self.certificates: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self.versions = [3]
        self._totals = Totals()
        for block in counted:
            self._totals.count(0, block)

    def totals(self) -> Totals:
        """What they have counted."""
        return self._totals

    def status(self) -> Mapping[str, Any]:
        """How they are, as the real ones tell it."""
        return {
            "ready": all(version >= 0 for version in self.versions),
            "workers": [{"number": n, "version": version} for n, version in enumerate(self.versions)],
            "listeners": {"http": ["127.0.0.1:80"]},
            "problems": dict(self.problems),
            "certificates": self.certificates,
            "left_out": self.left_out,
        }
