"""What one changed task costs, from the catalog to the DNS packet, with 1,000 and with 100,000 tasks there."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import dns.message
import msgspec

from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.model import Framework, Health, Network, Node, Port, Put, Sync, Task
from mesos_dns.respond import Responder
from mesos_dns.zone import ZoneView
from tests.bench.cluster import median

INSTANCES = 20
CHANGES = 2000


def measure() -> dict[str, Any]:
    """CPU µs of one change (published, in the zone, asked for by DNS), medians of 5 interleaved runs."""
    runs: dict[int, list[float]] = {1_000: [], 100_000: []}
    for _ in range(5):
        for tasks, found in runs.items():
            found.append(asyncio.run(_run(tasks)))
            gc.collect()
    small, large = median(runs[1_000]), median(runs[100_000])
    return {
        "measurement": "change",
        "instances_per_app": INSTANCES,
        "cpu_us_at_1000_tasks": small,
        "cpu_us_at_100000_tasks": large,
        "ratio": round(large / small, 3),
    }


async def _run(tasks: int) -> float:
    catalog = Catalog()
    catalog.register("mesos")
    view = ZoneView(DnsConfig(domain="mesos"))
    responder = Responder(view, view.config)
    catalog.listen(view.apply)
    nodes = [
        Node(f"agent-S{n}", f"h{n}", (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",), 5051)
        for n in range(max(10, tasks // 10))
    ]
    entities = [_task(number, tasks, nodes) for number in range(tasks)]
    await catalog.sync("mesos", Sync((Framework("f", "marathon"), *nodes, *entities)))
    catalog.flush()
    gc.freeze()
    questions = [
        dns.message.make_query(f"{entity.discovery_name}.marathon.mesos", "A").to_wire()
        for entity in entities[:CHANGES]
    ]
    before = time.process_time()
    for number in range(CHANGES):
        index = number % len(entities)
        entity = entities[index]
        health = Health.UNHEALTHY if entity.health is Health.HEALTHY else Health.HEALTHY
        entities[index] = msgspec.structs.replace(entity, health=health)
        catalog.publish("mesos", Put(entities[index]))
        catalog.flush()
        responder.respond(questions[index % len(questions)], "udp")
    return (time.process_time() - before) / CHANGES * 1e6


def _task(number: int, tasks: int, nodes: list[Node]) -> Task:
    node = nodes[number * 7919 % len(nodes)]
    name = f"app-{number % max(1, tasks // INSTANCES)}"
    return Task(
        "f",
        f"{name}.instance-{number:08x}._app.1",
        name,
        node.id,
        "TASK_RUNNING",
        Health.HEALTHY,
        discovery_name=name,
        ports=(Port(31000 + number % 1000, "http", "tcp"),),
        networks=(Network("", node.addresses),),
        host_ports=(31000 + number % 1000,),
    )
