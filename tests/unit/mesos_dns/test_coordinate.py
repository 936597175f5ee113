"""The coordinator's vocabulary: what every implementation and every user rely on."""

from __future__ import annotations

import pytest

from mesos_dns.coordinate import ABSENT, MAX_VALUE, CoordinatorLost, VersionConflict, Versioned


def test_absent_is_no_version_that_a_key_can_have() -> None:
    # ZooKeeper's versions start at 0, and -1 means "any" there: an implementation must never pass ABSENT on.
    assert ABSENT < 0


def test_the_largest_value_leaves_room_for_the_rest_of_a_packet() -> None:
    # jute.maxbuffer is 1 MiB - 1 for a packet; a key has 512 characters at most, a root 1024.
    assert MAX_VALUE == 1024 * 1024 - 8192


def test_a_versioned_value_can_not_be_changed() -> None:
    value = Versioned(b"x", 3)
    with pytest.raises(AttributeError):
        value.version = 4  # type: ignore[misc]
    assert value == Versioned(b"x", 3)


def test_lost_and_conflict_are_told_apart() -> None:
    # After a conflict the caller reads again; after a loss it knows nothing and must not act.
    assert not issubclass(CoordinatorLost, VersionConflict)
    assert not issubclass(VersionConflict, CoordinatorLost)
