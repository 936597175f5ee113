"""The decider as a whole: it stands, leads, is woken, goes by another configuration, fails and stands again."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.scaler import nothing_known
from mesos_dns.config import Duration
from tests.fakes.scaling import World, running, until
from tests.fakes.virtual_time import run

POLICY = Policy(min=0, max=9, metrics=(Metric(kind="rps", target=100),))


def test_one_of_them_leads_and_all_have_metrics_read() -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 0, POLICY)
        one, two = world.decider("one"), world.decider("two")
        one.scaler.woken(key)  # before it runs, that is nobody's affair
        async with running(one, two):
            await until(lambda: one.scaler.leading)
            assert not two.scaler.leading
            assert one.edges.wanted == two.edges.wanted == {key}
            assert repr(one.scaler) == "<Scaler one leading=True apps=1>"
            two.scaler.woken(key)
            assert (one.scaler.counts.wakes, two.scaler.counts.wakes) == (0, 0)
            one.scaler.woken(key)
            assert one.scaler.counts.wakes == 1

    run(main())


def test_another_configuration() -> None:
    async def main() -> None:
        world = World()
        world.add("/web", 1, POLICY)
        one = world.decider("one", interval=100.0)
        async with running(one):
            one.scaler.reconfigure(AutoscaleConfig(interval=Duration(100.0)))
            await until(lambda: one.scaler.leading)
            await asyncio.sleep(150)
            before = one.scaler.counts.decisions.total()
            one.scaler.reconfigure(AutoscaleConfig(interval=Duration(1.0)))
            await asyncio.sleep(20)
            assert one.scaler.counts.decisions.total() - before >= 18

    run(main())


def test_an_election_that_can_not_be_had_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        world.load[key] = 450.0
        one = world.decider("one")
        one.coordinator.refuse = 3
        async with running(one):
            await until(lambda: world.instances[key] == 5)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert "can't lead, nothing is scaled reason=refused" in caplog.text


def test_a_fault_ends_one_time_of_leading_and_not_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        key = world.add("/web", 2, POLICY)
        one = world.decider("one")
        faults = [RuntimeError("a fault")]

        def fail(name: str) -> None:
            if faults:
                raise faults.pop()

        one.coordinator.before_put = fail
        world.load[key] = 450.0
        async with running(one):
            await until(lambda: world.instances[key] == 5)

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.getMessage() for record in caplog.records] == ["deciding failed"]


def test_without_a_catalog_only_scaled_apps_are_known() -> None:
    assert list(nothing_known("/web")) == []
