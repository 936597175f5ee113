"""What the switches do to bodies and pieces."""

from __future__ import annotations

import json

import pytest

from agent.demo.faults import Faults, vars_of


def test_without_faults_nothing_changes() -> None:
    faults = Faults()
    assert not faults.rewrites_bodies
    assert faults.body(b"abc") == b"abc"
    assert list(faults.split(b"abc")) == [b"abc"]


def test_truncated_and_wrong_bodies() -> None:
    assert Faults(truncate=True).body(b'{"a":1}') == b'{"a'
    assert json.loads(Faults(wrong=True).body(b"{}"))["slaves"] == 7


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_pieces_are_of_any_size(piece: int) -> None:
    pieces = list(Faults(piece=piece).split(b"0123456"))
    assert b"".join(pieces) == b"0123456"
    assert all(len(part) <= piece for part in pieces)


def test_clear_switches_all_off() -> None:
    faults = Faults(unavailable="json", truncate=True, stall=True, cut_after=3, piece=1, content_type="text/html")
    faults.clear()
    assert vars_of(faults) == vars_of(Faults())
