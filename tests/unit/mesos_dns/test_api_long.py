"""Names that DNS can't carry are still looked up over HTTP."""

from __future__ import annotations

import pytest

from mesos_dns import api_long
from mesos_dns.api_context import ApiContext
from mesos_dns.api_lookup import hosts, services
from mesos_dns.api_shapes import Host, Service
from mesos_dns.model import Endpoint, Health, Leadership, Port
from mesos_dns.names import unique_suffix
from tests.fakes.api import Asking, context_of
from tests.fakes.questions import task

pytestmark = pytest.mark.asyncio

LONG = "y" * 60
OVER = "Z" * 70


async def look(context: ApiContext, name: str) -> tuple[list[Host], list[Service]]:
    return (
        await api_long.hosts(context.view, context.catalog, name),
        await api_long.services(context.view, context.catalog, name),
    )


@pytest.mark.parametrize(
    ("name", "long"),
    [
        ("leader.mesos.", False),
        (f"{LONG}.marathon.mesos", True),
        (f"{LONG}.example.org", False),
        (f"{LONG}.MESOS.", True),
        (".".join(["a"] * 110) + ".mesos", True),
        ("a..mesos", True),
        ("mesos", False),
        (f"{LONG}mesos", False),
    ],
)
async def test_which_names_are_long(name: str, long: bool) -> None:
    assert api_long.is_long(context_of().view, name) is long


async def test_an_srv_target_that_is_too_long() -> None:
    one = task(1, name=LONG, host_ports=(31000, 31001))
    context = context_of(one)
    owner = f"_{LONG}._tcp.marathon.slave.mesos."
    target = f"{LONG}{unique_suffix(one)}.marathon.slave.mesos."
    assert services(context.view, owner) == [Service()], "no record in DNS"
    _, found = await look(context, owner)
    assert sorted(found, key=lambda row: row.port) == [
        Service(owner, target, "10.1.0.1", "31000"),
        Service(owner, target, "10.1.0.1", "31001"),
    ]
    assert (await look(context, target))[0] == [Host(target, "10.1.0.1")]


async def test_a_discovery_name_longer_than_a_label() -> None:
    context = context_of(task(1, discovery_name=OVER, ports=(Port(80, "http", "tcp"),)))
    assert hosts(context.view, f"{OVER}.marathon.mesos") == [Host()]
    assert (await look(context, f"{OVER}.marathon.mesos"))[0] == [Host(f"{OVER.lower()}.marathon.mesos.", "9.0.0.2")]
    _, found = await look(context, f"_http._{OVER}._tcp.marathon.mesos")
    assert [(row.ip, row.port) for row in found] == [("9.0.0.2", "80")]


async def test_unknown_ones_give_the_empty_row() -> None:
    assert await look(context_of(), f"{LONG}.marathon.mesos") == ([Host()], [Service()])


async def test_unhealthy_ones_are_left_out() -> None:
    context = context_of(task(1, name=LONG), task(2, name=LONG, health=Health.UNHEALTHY))
    assert (await look(context, f"{LONG}.marathon.mesos"))[0] == [Host(f"{LONG}.marathon.mesos.", "9.0.0.2")]


async def test_both_ways_agree_where_both_know() -> None:
    leadership = Leadership(Endpoint("10.0.0.11", 5050), (Endpoint("10.0.0.11", 5050), Endpoint("fd00::1", 5050)))
    context = context_of(leadership, task(1, host_ports=(31000,)), task(2))
    for name in ("leader.mesos", "master.mesos.", "WEB.marathon.mesos", "web.marathon.slave.mesos", "ns1.mesos"):
        assert (await look(context, name))[0] == hosts(context.view, name)
    for name in ("_leader._tcp.mesos", "_web._tcp.marathon.slave.mesos", "_slave._tcp.mesos"):
        assert (await look(context, name))[1] == services(context.view, name)


async def test_the_api_takes_this_way() -> None:
    async with Asking(context_of(task(1, name=LONG, host_ports=(31000,)))) as asking:
        rows = await asking.json(f"/v1/services/_{LONG}._tcp.marathon.slave.mesos")
        assert [(row["ip"], row["port"]) for row in rows] == [("10.1.0.1", "31000")]
        assert (await asking.json(f"/v1/hosts/{rows[0]['host']}"))[0]["ip"] == "10.1.0.1"
