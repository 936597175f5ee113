"""Scaled apps by what they are measured by, and what a provider knows of them in the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.provider import Provider
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import AppTask, ScaledApp, ToldBy
from mesos_dns.hosts import Hosts
from mesos_dns.model import App
from tests.fakes.replay import no_names


def scaled_app(
    name: str, *metrics: Metric, told_by: ToldBy = "labels", tasks: tuple[AppTask, ...] = (), framework_id: str = "F"
) -> ScaledApp:
    """An app that is scaled by these metrics."""
    app = App(name, instances=len(tasks) or 1, framework_id=framework_id)
    return ScaledApp(app, Policy(max=10, metrics=metrics), told_by, tasks)


def query(text: str, name: str = "jobs") -> Metric:
    """A metric that is a query of Prometheus."""
    return Metric(kind="prometheus", name=name, target=1, query=text)


def hook(url: str, name: str = "jobs") -> Metric:
    """A metric that is a hook."""
    return Metric(kind="hook", name=name, target=1, url=url)


def nameless() -> Hosts:
    """Hosts that know addresses only."""
    return Hosts(resolve=no_names)


@contextlib.asynccontextmanager
async def providing(provider: Provider, *apps: ScaledApp) -> AsyncIterator[None]:
    """The provider runs, and these apps are wanted."""
    provider.want({app.key: app for app in apps})
    task = asyncio.create_task(provider.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def known(
    provider: Provider, app: ScaledApp, until: Callable[[Reading], bool] = lambda found: found.error != "not read yet"
) -> Reading:
    """The reading of the app's first metric, when it is as it is waited for."""
    async with asyncio.timeout(20):
        while not until(found := provider.reading(app, app.policy.metrics[0], time.time())):
            await asyncio.sleep(0.002)
    return found
