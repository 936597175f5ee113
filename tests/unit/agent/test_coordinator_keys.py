"""Keys, roles and values: what is allowed and what the refusal says."""

from __future__ import annotations

import pytest

from agent.coordinator_keys import MAX_KEY, check_key, check_role, check_value, is_legal
from mesos_dns.coordinate import MAX_VALUE


@pytest.mark.parametrize("key", ["a", "a/b", "vips/web_80.example-1", "...", "x" * 200, "a/" * 255 + "ab"])
def test_keys_that_are_allowed(key: str) -> None:
    assert is_legal(key)
    check_key(key)
    assert len(key) <= MAX_KEY


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "a/..", "a b", "a=b", "ä", "a\0", "a\n", "x" * 201, "a/" * 256 + "a"]
)
def test_keys_that_are_not(key: str) -> None:
    with pytest.raises(ValueError, match="expected segments"):
        check_key(key)


def test_a_role_is_one_segment() -> None:
    check_role("decider")
    with pytest.raises(ValueError, match="expected one segment"):
        check_role("a/b")


def test_the_largest_value() -> None:
    check_value("a", bytes(MAX_VALUE))
    with pytest.raises(ValueError, match=f"'a': {MAX_VALUE + 1} bytes, at most {MAX_VALUE}"):
        check_value("a", bytes(MAX_VALUE + 1))
