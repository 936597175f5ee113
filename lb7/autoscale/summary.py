"""A decision as people see it."""

from __future__ import annotations

from lb7.autoscale.decide import Decision
from lb7.autoscale.policy import Policy
from lb7.autoscale.propose import Proposal
from lb7.autoscale.shown import ShownDecision, ShownProposal

MOST_TEXT = 500
"""Characters of one text: what servers say may be in it."""


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
