"""Which policy an app has: that of the configuration, or else what its labels ask for, within what they may."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from msgspec import structs

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.labels import PREFIX, Scaling, read_scaling
from lb7.autoscale.policy import Policy
from lb7.autoscale.scaled_app import ToldBy
from lb7.table import Problem
from mesos_dns.model import App

Sleeps: TypeAlias = Callable[[App], bool]
"""Whether an app may ever have no instance while it is wanted."""


class Found(NamedTuple):
    """An app's policy (None: it is not scaled), where it is from, and what is not carried out. `ignored`: it has labels
    that count for nothing."""

    policy: Policy | None = None
    told_by: ToldBy = "labels"
    problems: tuple[Problem, ...] = ()
    ignored: bool = False


def has_labels(app: App) -> bool:
    """Whether any of its labels is about scaling."""
    return any(name.startswith(PREFIX) for name, _ in app.labels)


def policy_of(app: App, config: AutoscaleConfig, scaling: Scaling | None = None) -> Found:
    """The policy of an app. `scaling`: its labels, where they were read already."""
    told = config.apps.get(app.id)
    if told is None and not (config.labels and has_labels(app)):
        return Found()
    if app.kind != "app":
        what = f"autoscale.apps.{app.id}" if told is not None else f"{PREFIX}…"
        return Found(problems=(Problem(app.id, "scale-policy", f"{what}: a {app.kind} is not scaled, only apps are"),))
    if told is not None:
        return Found(told, "config", ignored=has_labels(app))
    policy, problems = scaling or read_scaling(app)
    if policy is None or not config.max_instances:
        return Found(policy, problems=problems)
    asked, most = most_asked(policy), config.max_instances
    if asked > most:
        text = f"{PREFIX}MAX: {asked} instances are asked for, and max_instances of [autoscale] allows {most}: so many"
        return Found(capped(policy, most), problems=(*problems, Problem(app.id, "scale-limit", text)))
    return Found(policy, problems=problems)


def most_asked(policy: Policy) -> int:
    """The most instances that a policy may ever ask for."""
    return max(policy.max, *(max(each.min or 0, each.max or 0) for each in policy.schedules), 0)


def capped(policy: Policy, most: int) -> Policy:
    """A policy with no bound above `most` (1 or more)."""
    schedules = [
        structs.replace(
            each,
            min=None if each.min is None else min(each.min, most),
            max=None if each.max is None else min(each.max, most),
        )
        for each in policy.schedules
    ]
    return structs.replace(
        policy,
        max=min(policy.max, most),
        min=min(policy.min, most),
        wake=min(policy.wake, most),
        schedules=tuple(schedules),
    )


def sleeps_by(config: AutoscaleConfig | None) -> Sleeps:
    """Which apps may sleep by a configuration; without the section by their labels. A policy that is paused counts:
    who paused it may have put the app to sleep."""
    known = config or AutoscaleConfig()

    def sleeps(app: App) -> bool:
        policy = policy_of(app, known).policy
        return policy is not None and policy.sleeps

    return sleeps
