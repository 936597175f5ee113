"""/v1/vips and /v1/nodes over a table, with and without a data plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Sequence
from typing import Any, Literal

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from lb4.api import DOCUMENTED, VipView, is_named, routes, vip_text
from lb4.api_shapes import VipFailureRow
from lb4.services import BackendKey
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.api import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.model import Health, Network, Port, Put, Suspect, VipAddress
from tests.fakes.api import Asking, context_of
from tests.fakes.questions import AGENT, MARATHON, drop, put, task

ZONE = "l4lb.thisdcos.directory"
WEB = VipKey("tcp", "web.marathon", 80)
FIXED = VipKey("udp", "10.7.7.7", 53)


def entities(**fields: Any) -> list[Any]:
    """A named VIP with two backends, of which one is unhealthy, and one of an address."""
    named = Port(8080, "http", "tcp", (("VIP_0", "/web:80"),))
    fixed = Port(5353, "dns", "udp", (("VIP_0", "10.7.7.7:53"),))
    return [
        task(0, ports=(named,), health=Health.HEALTHY, networks=(Network("dcos", ("9.0.0.1",)),)),
        task(1, ports=(named,), health=Health.UNHEALTHY, networks=(Network("dcos", ("9.0.0.2",)),)),
        task(2, "names", ports=(fixed,), networks=(Network("dcos", ("9.0.0.3",)),)),
    ]


class Plane:
    """What a data plane says, as the test wants it."""

    def __init__(self) -> None:
        self.revision = 1
        self.failing: Container[BackendKey] = frozenset()
        self.served: set[VipKey] = {WEB, FIXED}
        self.failed: dict[VipKey, list[VipFailureRow]] = {}
        self.others: dict[VipKey, list[VipKey]] = {}

    def failing_of(self, key: VipKey) -> Container[BackendKey]:
        return self.failing if key == WEB else ()

    def is_served(self, key: VipKey) -> bool:
        return key in self.served

    def failures(self, key: VipKey) -> Sequence[VipFailureRow]:
        return self.failed.get(key, ())

    def shared(self, key: VipKey) -> Collection[VipKey]:
        return self.others.get(key, ())


def asking(context: ApiContext, plane: Plane | None = None) -> Asking:
    """A server with the routes."""
    table = VipTable()
    context.catalog.listen(table.apply)
    context.catalog.flush()
    context.documented = DOCUMENTED
    view = VipView(table, context.catalog, lambda: ZONE, lambda: plane)
    return Asking(context, more=routes(context, view))


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["vip"]: row for row in rows}


@pytest.mark.asyncio
async def test_vips_without_a_data_plane() -> None:
    context = context_of(*entities())
    async with asking(context) as api:
        rows = by_name(await api.json("/v1/vips"))
        web = rows[f"web.marathon.{ZONE}:80"]
        assert web["protocol"] == "tcp"
        assert [(b["ip"], b["port"], b["weight"], b["health"], b["state"]) for b in web["backend"]] == [
            ("9.0.0.1", 8080, 1, "healthy", "active"),
            ("9.0.0.2", 8080, 0, "unhealthy", "unhealthy"),
        ]
        assert (web["state"], web["reason"], web["address"]) == ("waiting", "no address yet", "")
        fixed = rows["10.7.7.7:53"]
        assert (fixed["protocol"], fixed["address"], fixed["state"]) == ("udp", "10.7.7.7", "serving")
        context.catalog.publish("mesos", Put(VipAddress("web.marathon", "11.0.0.1", "fd01:c::1")))
        context.catalog.flush()
        web = by_name(await api.json("/v1/vips"))[f"web.marathon.{ZONE}:80"]
        assert (web["state"], web["address"], web["address6"]) == ("serving", "11.0.0.1", "fd01:c::1")


@pytest.mark.asyncio
async def test_what_the_data_plane_says() -> None:
    plane = Plane()
    context = context_of(*entities(), VipAddress("web.marathon", "11.0.0.1"))
    plane.served.discard(WEB)
    plane.failed[FIXED] = [VipFailureRow("add-service", "10.7.7.7", "EPERM", "not permitted")]
    plane.others[FIXED] = [WEB]
    async with asking(context, plane) as api:
        rows = by_name(await api.json("/v1/vips"))
        web, fixed = rows[f"web.marathon.{ZONE}:80"], rows["10.7.7.7:53"]
        assert (web["state"], web["reason"]) == ("waiting", "not in the data plane yet")
        assert (fixed["state"], fixed["reason"]) == ("failed", "add-service: not permitted")
        assert fixed["failures"][0]["errno"] == "EPERM"
        assert fixed["shared"] == [f"web.marathon.{ZONE}:80"]
        plane.failing = {BackendKey("9.0.0.1", 8080)}
        web = by_name(await api.json("/v1/vips"))[f"web.marathon.{ZONE}:80"]
        assert [(b["weight"], b["state"]) for b in web["backend"]] == [(1, "fail-open"), (0, "unhealthy")]


@pytest.mark.asyncio
async def test_a_vip_at_a_nodes_address_is_withheld() -> None:
    taken = Port(8080, "http", "tcp", (("VIP_0", "10.1.0.1:80"),))
    async with asking(context_of(task(0, ports=(taken,)))) as api:
        (row,) = await api.json("/v1/vips")
        assert (row["vip"], row["state"], row["backend"]) == ("10.1.0.1:80", "withheld", [])
        assert row["reason"]


@pytest.mark.asyncio
async def test_one_vip_and_none() -> None:
    async with asking(context_of(*entities())) as api:
        assert len(await api.json("/v1/vips?name=web.marathon")) == 1
        assert len(await api.json(f"/v1/vips?name=web.marathon.{ZONE}.:80")) == 1
        assert await api.json("/v1/vips?name=nobody") == []
        assert await api.json("/v1/vips/?name=10.7.7.7:54") == []
    async with asking(context_of()) as api:
        assert await api.json("/v1/vips") == []


@pytest.mark.asyncio
async def test_nobody_is_told_twice() -> None:
    plane = Plane()
    async with asking(context_of(*entities()), plane) as api:
        async with api.session.get(api.url("/v1/vips")) as response:
            tag = response.headers["ETag"]
        status, _, body = await api.ask("/v1/vips", **{"If-None-Match": tag})
        assert (status, body) == (304, "")
        plane.revision += 1
        assert (await api.ask("/v1/vips", **{"If-None-Match": tag}))[0] == 200


def test_a_tag_is_that_of_what_is_told() -> None:
    """Whatever a row says, and of whichever data plane."""
    table, plane, zones = VipTable(), Plane(), [ZONE]
    planes: list[Plane | None] = [plane]
    view = VipView(table, Catalog(), lambda: zones[0], lambda: planes[0])
    late = task(4, "late", ports=(Port(5353, "dns", "udp", (("VIP_0", "10.8.8.8:53"),)),))
    tags = [view.tag()]
    changes: tuple[Callable[[], object], ...] = (
        lambda: table.apply(put(MARATHON, AGENT, *entities())),
        lambda: table.apply(put(VipAddress("web.marathon", "11.0.0.1"))),
        lambda: table.protect(["10.7.7.7"]),
        lambda: table.protect(["10.8.8.8"]),
        lambda: table.apply(put(late)),  # is withheld at once
        lambda: table.apply(drop(late.key)),
        lambda: setattr(plane, "revision", 2),
        lambda: planes.__setitem__(0, None),
        lambda: zones.__setitem__(0, "l4lb.other"),
    )
    for change in changes:
        change()
        tags.append(view.tag())
        assert view.tag() == tags[-1]
    table.apply(put(task(5, "without-a-vip")))
    assert view.tag() == tags[-1]
    assert len(set(tags)) == len(tags)
    assert VipView(table, Catalog(), lambda: zones[0]).tag() not in tags  # another run has told other things


class Counted(asyncio.Semaphore):
    """Knows how often it was taken."""

    taken = 0

    async def acquire(self) -> Literal[True]:
        self.taken += 1
        return await super().acquire()


@pytest.mark.asyncio
async def test_few_whole_tables_are_told_at_once() -> None:
    context = context_of(*entities())
    context.enumerations = counted = Counted(2)
    async with asking(context, Plane()) as api:
        for path, taken in (("/v1/vips", 1), ("/v1/nodes", 2), ("/v1/vips?name=web.marathon", 2)):
            await api.json(path)
            assert counted.taken == taken


@pytest.mark.asyncio
async def test_before_anybody_said_what_runs() -> None:
    context = context_of(synced=False)
    context.view.known = lambda: False
    async with asking(context) as api:
        assert [(await api.ask(path))[0] for path in ("/v1/vips", "/v1/nodes")] == [503, 503]


@pytest.mark.asyncio
async def test_nodes() -> None:
    context = context_of()
    async with asking(context) as api:
        (node,) = await api.json("/v1/nodes")
        assert node["hostname"] == "agent0"
        assert (node["private_ip"], node["public_ips"]) == ("10.1.0.1", [])
        assert node["updated"].endswith("Z")
        assert (node["state"], node["reachability"]) == ("active", "ok")
        context.catalog.publish("mesos", Put(Suspect("10.1.0.1")))
        (node,) = await api.json("/v1/nodes/")
        assert node["reachability"] == "suspect"


@pytest.mark.asyncio
async def test_the_document_has_both() -> None:
    async with asking(context_of(*entities())) as api:
        document = await api.json("/openapi.json")
        OpenAPIV31SpecValidator(document).validate()
        for path in ("/v1/vips", "/v1/nodes"):
            shape = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            name = shape["schema"]["items"]["$ref"].rpartition("/")[2]
            (row, *_) = await api.json(path)
            assert set(row) == set(document["components"]["schemas"][name]["properties"])


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("web.marathon", True),
        ("WEB.marathon.", True),
        (f"web.marathon.{ZONE}", True),
        ("web.marathon:80", True),
        ("web.marathon:81", False),
        ("web", False),
        ("", False),
    ],
)
def test_names_as_people_write_them(wanted: str, named: bool) -> None:
    assert is_named(WEB, wanted, ZONE) is named


def test_addresses_as_people_write_them() -> None:
    six = VipKey("tcp", "fd01:c::5", 80)
    assert vip_text(six, ZONE) == "[fd01:c::5]:80"
    assert is_named(six, "[fd01:c::5]:80", ZONE)
    assert is_named(six, "fd01:c:0::5", ZONE)
    assert not is_named(six, "[fd01:c::5]:81", ZONE)
