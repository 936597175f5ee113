"""A policy and a decision as people see them."""

from __future__ import annotations

from typing import Any

import msgspec

from lb7.autoscale.decide import Decision
from lb7.autoscale.hook_urls import without_query
from lb7.autoscale.policy import Policy
from lb7.autoscale.propose import Proposal
from lb7.autoscale.shown import ShownDecision, ShownProposal

MOST_TEXT = 500
"""Characters of one text: what servers say may be in it."""


def shown_policy(policy: Policy) -> dict[str, Any]:
    """A policy as plain values. What a hook is asked for may be secret, and is left out."""
    metrics = (msgspec.structs.replace(each, url=without_query(each.url)) for each in policy.metrics)
    found: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(policy, metrics=tuple(metrics)))
    return found


def summary(decision: Decision, policy: Policy, now: float) -> ShownDecision:
    """What is shown of a decision by this policy at a time (seconds since 1970), its history left out."""
    kinds = {metric.key: metric.kind for metric in policy.metrics}
    return ShownDecision(
        at=now,
        instances=decision.instances,
        current=decision.current,
        wanted=decision.wanted,
        reason=decision.reason,
        text=decision.text[:MOST_TEXT],
        low=decision.low,
        high=decision.high,
        recommended=decision.recommended,
        schedules=decision.schedules,
        proposals=tuple(_shown(item, kinds.get(item.metric, "")) for item in decision.proposals),
        steps=tuple(step[:MOST_TEXT] for step in decision.steps),
    )


def _shown(proposal: Proposal, kind: str) -> ShownProposal:
    return ShownProposal(
        metric=proposal.metric,
        kind=kind,
        target=proposal.target,
        value=proposal.value,
        instances=proposal.instances,
        text=proposal.text[:MOST_TEXT],
    )
