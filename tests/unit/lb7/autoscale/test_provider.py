"""What is not told is not taken for nothing."""

from __future__ import annotations

from lb7.autoscale.provider import Loads


def test_loads_are_incomplete_until_all_have_told() -> None:
    assert not Loads().complete
