"""Outcomes are plain values."""

from __future__ import annotations

import msgspec

from lb7.autoscale.outcome import Outcome


def test_an_outcome_goes_through_json() -> None:
    outcome = Outcome("locked", "deployment d1", instances=3, deployment="d1", retry_after=2.5)
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
