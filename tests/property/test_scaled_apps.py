"""The apps that are scaled under random change: always what they are when made anew from the same catalog."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from lb7.autoscale.apps import HealthFilter, ScaledApps
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.policy import Metric, Policy
from mesos_dns.catalog import Delta
from mesos_dns.model import App, Framework, HealthOverlay, Task
from tests.property.test_route_view import FRAMEWORKS, GROUPS, NAMES, World, frameworks, mesos_tasks, overlays

POLICY = Policy(max=7, min=0, metrics=(Metric(kind="rps", target=1.0),))
CONFIGS = (
    AutoscaleConfig(),
    AutoscaleConfig(labels=False, apps={"/a": POLICY}),
    AutoscaleConfig(max_instances=4, apps={"/team/x": POLICY}),
)
Setting: TypeAlias = tuple[AutoscaleConfig, HealthFilter, bool]
HEALTH: tuple[HealthFilter, ...] = ("ignore", "exclude-unhealthy")
SETTINGS = st.tuples(st.sampled_from(CONFIGS), st.sampled_from(HEALTH), st.booleans())

labels = st.fixed_dictionaries(
    {},
    optional={
        "PHAROS_SCALE_MAX": st.sampled_from(("3", "9", "x")),
        "PHAROS_SCALE_MIN": st.sampled_from(("0", "2")),
        "PHAROS_SCALE_RPS": st.sampled_from(("1", "2")),
        "PHAROS_SCALE_IDLE": st.sampled_from(("1m", "x")),
        "HAPROXY_DEPLOYMENT_GROUP": st.sampled_from(GROUPS),
    },
)
apps = st.builds(
    App,
    id=st.sampled_from(NAMES),
    labels=labels.map(lambda found: tuple(found.items())),
    kind=st.sampled_from(("app", "app", "app", "pod")),
    instances=st.integers(0, 3),
    framework_id=st.sampled_from(FRAMEWORKS),
)
entities = st.one_of(apps, apps, apps, overlays, overlays, mesos_tasks, frameworks)
# An entity comes (or is another one), the one that is there n-th goes, the configuration is another one, or a moment
# passes, in which all that happened before is seen at once, and perhaps looked at.
steps = st.lists(st.one_of(entities, entities, st.integers(0, 30), SETTINGS, st.sampled_from(("tell", "look"))))


@settings(max_examples=150)
@given(steps, SETTINGS)
def test_incremental_is_from_scratch(changes: list[object], setting: Setting) -> None:
    world = World()
    scaled = made(setting)
    for change in [*changes, "tell"]:
        if isinstance(change, tuple):
            setting = change
            config, health, compat = change
            scaled.reconfigure(config, health, compat=compat)
        elif isinstance(change, str):
            scaled.apply(world.delta())
            if change == "look":
                assert dict(scaled.apps) == dict(anew(world, setting).apps)
        elif isinstance(change, int):
            if world.current:
                del world.current[sorted(world.current)[change % len(world.current)]]
        elif isinstance(change, App | HealthOverlay | Task | Framework):
            world.current[change.key] = change
    fresh = anew(world, setting)
    assert dict(scaled.apps) == dict(fresh.apps)
    assert scaled.problems == fresh.problems
    assert scaled.problem_counts == fresh.problem_counts
    assert not scaled.faults


def made(setting: Setting) -> ScaledApps:
    config, health, compat = setting
    return ScaledApps(config, health, compat=compat)


def anew(world: World, setting: Setting) -> ScaledApps:
    """One that has seen nothing but what there is, and what Mesos dropped."""
    scaled = made(setting)
    scaled.apply(Delta(1, {key: (None, task) for key, task in world.dropped.items()}))
    scaled.apply(Delta(1, dict.fromkeys(world.dropped, (None, None))))
    scaled.apply(Delta(1, {key: (None, entity) for key, entity in world.told.items()}))
    return scaled
