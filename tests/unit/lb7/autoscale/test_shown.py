"""What is shown goes through JSON as it is."""

from __future__ import annotations

import msgspec

from lb7.autoscale.shown import Shown, ShownAction, ShownApp, ShownDecision, ShownProposal


def test_it_goes_through_json() -> None:
    proposal = ShownProposal("rps", "rps", 100, 250.0, 3, "⌈250 / 100⌉ = 3")
    decision = ShownDecision(1.5, 3, 2, 3, "up", "2 → 3 (up)", 1, 9, proposals=(proposal,), steps=("up",))
    app = ShownApp("/shop", decision=decision, action=ShownAction(1.0, 1, 2, "done"), policy={"max": 9})
    shown = Shown(True, "one", ({"url": "http://127.0.0.1:8123", "state": "connected"},), (app,))
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Shown) == shown
