"""What people are told of scaling: the answer of `/v1/autoscale` and of `pharos scale APP explain`."""

from __future__ import annotations

from typing import Any

import msgspec


class ShownProposal(msgspec.Struct, frozen=True):
    """What one metric asks for. `instances` None: it failed, or holds; `text` has the arithmetic or the error."""

    metric: str
    kind: str
    target: float
    value: float | None = None
    instances: int | None = None
    text: str = ""


class ShownDecision(msgspec.Struct, frozen=True):
    """A decision at a time (seconds since 1970): lb7/autoscale/decide.py has the meaning of its fields."""

    at: float
    instances: int
    current: int
    wanted: int
    reason: str
    text: str
    low: int
    high: int
    recommended: int | None = None
    schedules: tuple[str, ...] = ()
    proposals: tuple[ShownProposal, ...] = ()
    steps: tuple[str, ...] = ()


class ShownAction(msgspec.Struct, frozen=True):
    """The last change that was asked for, and what became of it ("draining", "sent", an Outcome's result,
    "given-up": tasks drained, and fewer are no longer wanted; "dropped": found not to have been carried out)."""

    at: float
    before: int
    after: int
    state: str
    text: str = ""


class ShownApp(msgspec.Struct, frozen=True):
    """One scaled app. `paused`: by an operator (`pharos scale APP pause`). `policy` is the policy as plain values."""

    app: str
    framework: str = ""
    cluster: str = ""
    told_by: str = ""
    paused: bool = False
    policy: dict[str, Any] = {}
    decision: ShownDecision | None = None
    action: ShownAction | None = None
    problems: tuple[str, ...] = ()


class Shown(msgspec.Struct, frozen=True):
    """All of it. `leading`: this process decides; `decider` names the one that does ("": not known). `edges`: URL and
    state of each edge that is asked."""

    leading: bool = False
    decider: str = ""
    edges: tuple[dict[str, Any], ...] = ()
    apps: tuple[ShownApp, ...] = ()
