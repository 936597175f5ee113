"""Whose /state is believed."""

from __future__ import annotations

import pytest

from mesos_dns.sources.mesos_poll import is_leader
from mesos_dns.sources.mesos_state import StateHead

HERE = "http://10.0.0.1:5050"


@pytest.mark.parametrize(
    ("leader", "pid", "expected"),
    [
        ("master@10.0.0.1:5050", "master@10.0.0.1:5050", True),
        ("master@10.0.0.9:5050", "master@10.0.0.9:5050", True),  # reached at another address
        ("master@10.0.0.1:5050", None, True),
        ("master@10.0.0.2:5050", "master@10.0.0.1:5050", False),
        ("master@10.0.0.2:5050", None, False),
        ("master@10.0.0.1:5051", None, False),
        ("master@[::ffff:10.0.0.1]:5050", "", True),
        (None, "master@10.0.0.1:5050", False),
        ("", "", False),
        ("nonsense", "nonsense", False),
    ],
)
def test_is_leader(leader: str | None, pid: str | None, expected: bool) -> None:
    assert is_leader(StateHead(slaves=[], frameworks=[], leader=leader, pid=pid), HERE) is expected
