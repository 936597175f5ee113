"""Log lines: text for terminals, JSON for machines; nothing from outside breaks a line."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agent import log


@pytest.fixture(autouse=True)
def keep_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(stream: io.StringIO, style: str, message: str = "event x=%s", *args: object, **more: Any) -> str:
    log.setup("info", style, stream)
    logging.getLogger("part.name").warning(message, *args, **more)
    return stream.getvalue()


def test_json_line() -> None:
    line = json.loads(written(io.StringIO(), "auto", "event x=%s", 1, extra={"task": "t", "odd": {1}}))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"level": "warning", "part": "part.name", "event": "event x=1", "task": "t", "odd": "{1}"}


def test_json_line_breaks_are_escaped() -> None:
    assert written(io.StringIO(), "json", "a\nb").count("\n") == 1


def test_text_on_a_terminal() -> None:
    text = written(Terminal(), "auto", "event x=%s", 1, extra={"task": "t"})
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING part\.name event x=1 task=t\n", text)


def test_text_disarms_control_characters() -> None:
    text = written(io.StringIO(), "text", "name=%s", "\x1b[31m\nfake\x9b")
    assert "name=\\x1b[31m\\x0afake\\x9b\n" in text


@pytest.mark.parametrize("style", ["text", "json"])
def test_exceptions_come_with_their_traceback(style: str) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        text = written(io.StringIO(), style, "failed", exc_info=sys.exc_info())
    assert "Traceback" in text
    assert "ValueError: why" in text


def test_level_holds_and_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.setup("debug", "text", first)
    log.setup("error", "text", second)
    logging.getLogger("x").warning("not this")
    logging.getLogger("x").error("this")
    assert first.getvalue() == ""
    assert "this" in second.getvalue()
    assert "not" not in second.getvalue()


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "text")
    logging.getLogger("x").error("there")
    assert "there" in capsys.readouterr().err
