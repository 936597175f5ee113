"""Compiled answers that are kept in this process, by question: dropped exactly when a change touches them."""

from __future__ import annotations

from typing import Protocol

from mesos_dns.answer import Answer, Dependency
from mesos_dns.zone import EVERYTHING

CACHE_BYTES = 128 << 20
"""Memory for compiled answers, about; the oldest are dropped first."""
_ENTRY_BYTES, _DEPENDENCY_BYTES = 600, 450
"""What an answer and each owner it depends on cost besides its records (measured on CPython 3.11)."""


class Kept(Protocol):
    """Where a responder keeps answers. A key is the folded name, the type and the class, as on the wire."""

    def get(self, key: bytes) -> Answer | None:
        """The answer that is kept for a question."""

    def keep(self, key: bytes, answer: Answer) -> None:
        """Keep an answer, if it is one that may be."""

    def drop(self, tag: str, owner: str) -> None:
        """Drop every answer that was built from an owner (all, for the tag EVERYTHING)."""


class KeptAnswers:
    """See the module: what serves without the native table."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answer] = {}
        self._dependents: dict[Dependency, set[bytes]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: bytes) -> Answer | None:
        """The answer that is kept for a question."""
        return self._answers.get(key)

    def keep(self, key: bytes, answer: Answer) -> None:
        """Keep an answer. Negative answers, referrals and what wildcards give depend on nothing and are built
        anew each time: so no old serial is ever shown, and no stream of random names fills memory."""
        if not answer.depends:
            return
        self._answers[key] = answer
        self._bytes += _weight(answer)
        for dependency in answer.depends:
            self._dependents.setdefault(dependency, set()).add(key)
        while self._bytes > CACHE_BYTES:
            self._forget(next(iter(self._answers)))

    def drop(self, tag: str, owner: str) -> None:
        """Drop every answer that was built from an owner (all, for the tag EVERYTHING)."""
        if tag == EVERYTHING:
            self._answers.clear()
            self._dependents.clear()
            self._bytes = 0
            return
        for key in self._dependents.pop((tag, owner), ()):
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is None:
            return
        self._bytes -= _weight(answer)
        for dependency in answer.depends:
            held = self._dependents.get(dependency)
            if held is not None:
                held.discard(key)
                if not held:
                    del self._dependents[dependency]


def _weight(answer: Answer) -> int:
    """The memory that a kept answer costs, about (its glue is held twice: whole and by record set)."""
    return _ENTRY_BYTES + len(answer.wire) + 3 * len(answer.glue_full) + _DEPENDENCY_BYTES * len(answer.depends)
