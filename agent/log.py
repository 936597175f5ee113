"""Logging to standard error: readable lines on a terminal, one JSON object a line otherwise.

A JSON line has `time` (RFC 3339, UTC), `level`, `part` (the logger), `event` (the message), the
fields given as `extra`, and `error` with the traceback of an exception.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09}
"""What bytes from outside must not do to a terminal or to the line structure of a log."""


class TextFormatter(logging.Formatter):
    """`18:02:16.123 WARNING mesos_dns.sources.mesos event key=value` in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback of an exception below it."""
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={value}" for key, value in _extra(record).items())
        line = f"{clock} {record.levelname:<7} {record.name} {record.getMessage()}{fields}".translate(_UNPRINTABLE)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object without line breaks; values that JSON does not know are written as text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": record.name,
            "event": record.getMessage(),
        }
        line.update({key: value for key, value in _extra(record).items() if key not in line})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Send everything from `level` on to `stream` (default: standard error); replaces earlier set-ups.

    `style` is "text", "json", or "auto": text when the stream is a terminal.
    """
    out = sys.stderr if stream is None else stream
    as_text = style == "text" or (style == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}
