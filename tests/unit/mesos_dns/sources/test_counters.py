"""Complaints are logged once each, and the memory of them is bounded."""

from __future__ import annotations

import logging

import pytest

from mesos_dns.sources import counters


def test_each_complaint_once(caplog: pytest.LogCaptureFixture) -> None:
    complain = counters.Complaints(logging.getLogger("test"))
    for text in ("a", "b", "a", "a", "b"):
        complain(text)
    assert caplog.messages == ["a", "b"]


def test_the_memory_is_bounded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "COMPLAINTS_KEPT", 3)
    complain = counters.Complaints(logging.getLogger("test"))
    for text in ("a", "b", "c", "d", "a"):
        complain(text)
    assert caplog.messages == ["a", "b", "c", "d", "a"]


def test_percent_signs_are_text(caplog: pytest.LogCaptureFixture) -> None:
    counters.Complaints(logging.getLogger("test"))("100 %s %d")
    assert caplog.messages == ["100 %s %d"]


def test_counters_begin_at_zero() -> None:
    fresh = counters.SourceCounters()
    assert fresh.malformed == fresh.bytes == fresh.events["TASK_ADDED"] == fresh.errors["auth"] == 0
