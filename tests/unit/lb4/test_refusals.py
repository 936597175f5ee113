"""What is left out: counted each time, logged once."""

from __future__ import annotations

import logging

import pytest

from lb4.refusals import Refusals

log = logging.getLogger("refusing")


def test_each_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(log, "left out")
    for task in ("t-1", "t-2"):
        refusals.note("port", "/x:0", "no such port", task)
    refusals.note("name", "/x:0", "no such name")
    assert refusals.counts == {"port": 2, "name": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "left out reason=port thing='/x:0' where='t-1' text=no such port",
        "left out reason=name thing='/x:0' where='' text=no such name",
    ]


def test_what_is_remembered_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(log, "left out", remembered=2)
    for number in range(5):
        refusals.note("port", f"/x:{number}" + "y" * 1000, "no such port")
    assert refusals.counts == {"port": 5}
    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) < 400 for record in caplog.records)
