"""The demo's app that grows and shrinks with its requests, sleeps and wakes: its load, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.traffic import Traffic

APP = "/shop/checkout"
VHOST = "checkout.example.test"
TARGET = 10
MOST = 6
DEFINITION = {
    "id": APP,
    "instances": 1,
    "labels": {
        "HAPROXY_GROUP": "external",
        "HAPROXY_0_VHOST": VHOST,
        "PHAROS_SCALE_MIN": "0",
        "PHAROS_SCALE_MAX": str(MOST),
        "PHAROS_SCALE_RPS": str(TARGET),
        "PHAROS_SCALE_DOWN_WINDOW": "5s",
        "PHAROS_SCALE_IDLE": "5s",
    },
}
SECTION = '[autoscale]\ninterval = "1s"\nwindow = "3s"\n'

LOADS = ((8, 6.0), (38, 12.0), (18, 12.0), (0, 20.0))
"""Requests a second, and for how many seconds; while there are none it falls asleep, and the next ones wake it."""
LOOK = 0.1

Say = Callable[[str], None]


async def show_scaling(marathon: DeployingMarathon, port: int, say: Say) -> None:
    """Load the app through the edge at `port`, over and over, and say how many instances it has; until cancelled."""
    traffic = Traffic(port, VHOST)
    async with asyncio.TaskGroup() as parts:
        parts.create_task(traffic.run())
        parts.create_task(_tell(marathon, traffic, say))
        while True:
            for rate, seconds in LOADS:
                traffic.rate = float(rate)
                say(f"  {APP}: {rate or 'no'} requests a second from now on")
                await asyncio.sleep(seconds)


async def _tell(marathon: DeployingMarathon, traffic: Traffic, say: Say) -> None:
    """Say each other number of tasks that run."""
    before = running(marathon)
    while True:
        await asyncio.sleep(LOOK)
        now = running(marathon)
        if now == before:
            continue
        woken = f"; who woke it waited {traffic.longest:.1f} s" if before == 0 and await _answered(traffic) else ""
        counts = f"{traffic.answered} requests answered, {traffic.failed} failed"
        say(f"  {APP}: {before} → {now} {'instance' if now == 1 else 'instances'}; {counts}{woken}")
        traffic.longest = 0.0
        before = now


async def _answered(traffic: Traffic, limit: float = 3.0) -> bool:
    """Wait a little until one more request has been; whether it was."""
    before = traffic.answered
    for _ in range(int(limit / LOOK)):
        if traffic.answered > before:
            return True
        await asyncio.sleep(LOOK)
    return False


def running(marathon: DeployingMarathon) -> int:
    """Tasks of the app that run."""
    app = marathon.apps[APP]
    return sum(instance.task.state == "TASK_RUNNING" for instance in app.instances.values())
