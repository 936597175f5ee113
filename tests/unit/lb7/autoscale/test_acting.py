"""The Protocols of the decider's surroundings: who is used as such is one."""

from __future__ import annotations

from lb7.autoscale.acting import Actor, Progress, Shrinker, WatchedDemand
from tests.fakes.scaling import Edges, Emptying, Hands, World


def test_fakes_are_what_they_stand_for() -> None:
    world = World()
    hands = Hands(world, "one")
    actor: Actor = hands
    shrinker: Shrinker = hands
    demand: WatchedDemand = Edges(world)
    progress: Progress = Emptying("draining", 2)
    assert (actor is shrinker, demand.kinds >= {"rps"}, progress.tasks) == (True, True, 2)
