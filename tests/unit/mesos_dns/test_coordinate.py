"""The coordinator's vocabulary: what every implementation and every user rely on."""

from __future__ import annotations

import pytest

from mesos_dns.coordinate import ABSENT, MAX_VALUE, CoordinatorLost, VersionConflict, Versioned


def test_absent_is_no_version_that_a_key_can_have() -> None:
    # ZooKeeper's versions start at 0, and -1 means "any" there: an implementation must never pass ABSENT on.
    assert ABSENT < 0
    assert MAX_VALUE == 1024 * 1024


def test_a_versioned_value_can_not_be_changed() -> None:
    value = Versioned(b"x", 3)
    with pytest.raises(AttributeError):
        value.version = 4  # type: ignore[misc]
    assert value == Versioned(b"x", 3)


def test_lost_and_conflict_are_told_apart() -> None:
    # After a conflict the caller reads again; after a loss it knows nothing and must not act.
    assert not issubclass(CoordinatorLost, VersionConflict)
    assert not issubclass(VersionConflict, CoordinatorLost)
