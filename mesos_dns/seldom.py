"""Warnings that may come again and again: each text is one for a while, and a debug line in between."""

from __future__ import annotations

import logging
import time


class Seldom:
    """See the module. `every`: seconds between two warnings of one text; texts are a program's own, so they are few."""

    def __init__(self, log: logging.Logger, every: float) -> None:
        self._log = log
        self._every = every
        self._said: dict[str, float] = {}

    def __call__(self, text: str, *what: object) -> None:
        """Log a text with its arguments, as `logging` takes them."""
        now = time.monotonic()
        level = logging.WARNING if now - self._said.get(text, -self._every) >= self._every else logging.DEBUG
        if level == logging.WARNING:
            self._said[text] = now
        self._log.log(level, text, *what)
