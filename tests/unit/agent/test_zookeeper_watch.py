"""Whole pictures of what is below a prefix, from a tree's single findings."""

from __future__ import annotations

import pytest

from agent.zookeeper_watch import Picture
from mesos_dns.zookeeper import Stat
from mesos_dns.zookeeper_tree import Kind

STAT = Stat(*range(11))


def test_values_below_the_prefix_are_read_and_its_own_is_not() -> None:
    picture = Picture("/p/keys/v", len("/p/keys/"))
    assert picture.kind("/p/keys/v", "a") is Kind.BRANCH
    assert picture.kind("/p/keys/v/a", "=value") is Kind.LEAF
    assert picture.kind("/p/keys/v", "=value") is Kind.IGNORED
    picture.leaf("/p/keys/v/a/b/=value", b"1", STAT)
    assert picture.values == {"v/a/b": b"1"}
    assert picture.changed.is_set()
    picture.gone("/p/keys/v/a/b/=value")
    assert picture.values == {}


def test_the_first_picture_waits_until_all_could_be_read(caplog: pytest.LogCaptureFixture) -> None:
    picture = Picture("/p/keys", len("/p/keys/"))
    for _ in range(2):
        picture.complain("forbidden")
        picture.complete()
        assert not picture.ready
    picture.complete()
    assert picture.ready
    picture.complain("forbidden")
    picture.complete()
    assert picture.ready, "what is known is not taken back"
    assert caplog.text.count("forbidden") == 1
