"""Instances that serve are counted."""

from __future__ import annotations

from lb7.autoscale.samples import Instance, Samples


def test_ready_instances() -> None:
    running = (Instance("a"), Instance("b", ready=False))
    assert Samples(instances=3, running=running).ready() == 1
    assert Samples(instances=3).ready() == 3
