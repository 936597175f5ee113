"""What is said again and again is a warning once in a while."""

from __future__ import annotations

import logging

import pytest

from mesos_dns.seldom import Seldom


def test_each_text_is_a_warning_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("mesos_dns.seldom.time.monotonic", lambda: now)
    say = Seldom(logging.getLogger("seldom"), 30.0)
    with caplog.at_level(logging.DEBUG):
        say("lost what=%s", "a")
        say("lost what=%s", "b")
        say("found what=%s", "c")
        now += 29.9
        say("lost what=%s", "d")
        now += 0.1
        say("lost what=%s", "e")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "lost what=a"),
        ("DEBUG", "lost what=b"),
        ("WARNING", "found what=c"),
        ("DEBUG", "lost what=d"),
        ("WARNING", "lost what=e"),
    ]
