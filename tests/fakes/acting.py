"""A MarathonActor beside a simulated Marathon, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lb7.autoscale.marathon import MarathonActor
from mesos_dns.config import Duration, MarathonConfig
from mesos_dns.hosts import Hosts
from mesos_dns.model import App
from tests.fakes.marathon import Marathons
from tests.fakes.replay import no_names


def actor(*urls: str, **settings: Any) -> MarathonActor:
    """One that is impatient; `settings` are of [marathon]."""
    config = MarathonConfig(**{"connect_timeout": Duration(20), **settings})
    return MarathonActor(config, lambda framework: urls, Hosts(resolve=no_names), patience=0.0, looks=(0.0, 0.02))


def actor_of(marathon: Marathons, **settings: Any) -> MarathonActor:
    """One that knows all instances of a simulated Marathon."""
    return actor(*marathon.instances.urls, **settings)


def entity(marathon: Marathons, name: str = "/web") -> App:
    """A simulated app as the catalog has it."""
    found = marathon.marathon.apps.get(name)
    instances = found.definition.instances if found else 0
    return App(name, instances=instances, framework_id=marathon.framework.id)


def running(marathon: Marathons, name: str = "/web") -> list[str]:
    """Ids of an app's tasks, oldest first."""
    return list(marathon.simulated(name).instances)


def changes(marathon: Marathons) -> list[str]:
    """METHOD PATH of every change that was asked for."""
    return [request for request in marathon.instances.requests if not request.startswith(("GET ", "HEAD "))]


async def until(condition: Callable[[], object], limit: float = 30.0) -> None:
    """Wait until it holds; fails after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(marathon: Marathons) -> None:
    """Until no deployment is under way."""
    await until(lambda: not marathon.marathon.deployments)
