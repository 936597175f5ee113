"""Names of virtual addresses, asked over sockets and HTTP: under every name of their zone, before and after changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from agent.sections import AdminConfig
from lb4.names import VipNames
from mesos_dns.api_context import ApiContext
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.cookies import secrets_of
from mesos_dns.fastpath import fast_path
from mesos_dns.model import Sync, VipAddress
from mesos_dns.presence import Presence
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from mesos_dns.zone import ZoneView
from tests.fakes.api import LOOPBACK, Asking
from tests.fakes.dns_serving import connected, framed, read_one, udp
from tests.fakes.questions import AGENT, MARATHON, answers, extras, packet, put, task

pytestmark = pytest.mark.asyncio

KEY = "yb3kh1ngz9zfpdzc4z5eyx6rkw9p6hbqpc9ehx4hxo3ypo6x1cty"
PARENTS = ("thisdcos.directory", "thisdcos.global", f"{KEY}.dcos.directory")
ORIGINS = [f"{label}.{parent}" for label in ("l4lb", "dclb") for parent in PARENTS]
L4LB = ORIGINS[0]
WEB = VipAddress("web.marathon", "11.0.0.7", "fd01:c::7")
WEB6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa"
REVERSE = "7.0.0.11.in-addr.arpa"


def some_names() -> VipNames:
    names = VipNames()
    names.put("web.marathon", WEB, [("tcp", 80), ("tcp", 443), ("udp", 80)])
    names.put("api.hello-world.marathon", VipAddress("", "11.0.0.8"), [("tcp", 8080)])
    return names


class Served:
    """A server over a small cluster with VIPs; `reload` gives it a new view."""

    def __init__(self, names: VipNames, workers: int, **config: Any) -> None:
        self.names = names
        self.config = DnsConfig(listen=("127.0.0.1:0",), workers=workers, **config)
        self.responder = self._responder(0)
        self.server = DnsServer(self.config, self.responder)

    @property
    def view(self) -> ZoneView:
        return self.responder.view

    def _responder(self, serial: int) -> Responder:
        secrets = secrets_of(self.config)
        fast = fast_path(self.config, secrets)
        presence: Callable[[str], Presence | None] = fast.presence if fast is not None else lambda tag: None
        view = ZoneView(self.config, serial=serial, presence=presence, cluster_key=KEY, extra=self.names)
        view.fill_extra()
        view.apply(put(MARATHON, AGENT, task()))
        return Responder(view, self.config, None, secrets, fast)

    def reload(self) -> ZoneView:
        """The view that is asked no more; it still hears of changes."""
        before = self.responder.view
        self.responder = self._responder(before.serial + 1)
        self.server.swap(self.config, self.responder)
        return before

    async def ask(self, name: str, rtype: str = "A") -> dns.message.Message:
        """The answer by UDP, the second time too: then it was kept ready."""
        async with asyncio.timeout(20):
            first, again = [
                dns.message.from_wire(await udp(self.server.addresses[0], packet(name, rtype))) for _ in range(2)
            ]
        assert (first.rcode(), answers(first), extras(first)) == (again.rcode(), answers(again), extras(again))
        return first

    async def tcp(self, name: str, rtype: str) -> dns.message.Message:
        async with asyncio.timeout(20), connected(self.server.addresses[0]) as (reader, writer):
            writer.write(framed(packet(name, rtype)))
            return dns.message.from_wire(await read_one(reader))


@asynccontextmanager
async def served(names: VipNames, workers: int, **config: Any) -> AsyncIterator[Served]:
    server = Served(names, workers, **config)
    await server.server.start()
    try:
        yield server
    finally:
        await server.server.close()
        server.server.forget()


@pytest.fixture(params=[0, 1])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


async def test_under_every_name_of_the_zone(workers: int) -> None:
    async with served(some_names(), workers) as server:
        for origin in ORIGINS:
            name = f"web.marathon.{origin}"
            reply = await server.ask(f"Web.Marathon.{origin}")
            assert (answers(reply), reply.answer[0].ttl) == (["11.0.0.7"], 5)
            assert answers(await server.ask(name, "AAAA")) == ["fd01:c::7"]
            both = [f"{name}. 11.0.0.7", f"{name}. fd01:c::7"]
            for owner, ports in (
                ("web.marathon", (443, 80)),
                ("_80._tcp.web.marathon", (80,)),
                ("_80._udp.web.marathon", (80,)),
                ("_443._tcp.web.marathon", (443,)),
                ("_web._tcp.marathon", (443, 80)),
                ("_web._udp.marathon", (80,)),
            ):
                reply = await server.ask(f"{owner}.{origin}", "SRV")
                assert answers(reply) == [f"0 1 {port} {name}." for port in ports], owner
                assert extras(reply) == both, owner
            reply = await server.ask(f"_api._tcp.hello-world.marathon.{origin}", "SRV")
            assert answers(reply) == [f"0 1 8080 api.hello-world.marathon.{origin}."]
            assert extras(reply) == [f"api.hello-world.marathon.{origin}. 11.0.0.8"]


async def test_what_is_not_there(workers: int) -> None:
    async with served(some_names(), workers) as server:
        for origin in ORIGINS:
            for name, rtype, rcode in (
                ("api.hello-world.marathon", "AAAA", dns.rcode.NOERROR),
                ("_80._tcp.web.marathon", "A", dns.rcode.NOERROR),
                ("_tcp.web.marathon", "SRV", dns.rcode.NOERROR),
                ("marathon", "A", dns.rcode.NOERROR),
                ("other.marathon", "A", dns.rcode.NXDOMAIN),
                ("_81._tcp.web.marathon", "SRV", dns.rcode.NXDOMAIN),
                ("_443._udp.web.marathon", "SRV", dns.rcode.NXDOMAIN),
                ("x.web.marathon", "A", dns.rcode.NXDOMAIN),
            ):
                reply = await server.ask(f"{name}.{origin}", rtype)
                assert (reply.rcode(), reply.answer) == (rcode, []), name
                assert [rrset.name.to_text() for rrset in reply.authority] == [f"{origin}."]


async def test_addresses_point_back(workers: int) -> None:
    async with served(some_names(), workers) as server:
        for name, at in (
            (REVERSE, "web.marathon"),
            (WEB6, "web.marathon"),
            ("8.0.0.11.in-addr.arpa", "api.hello-world.marathon"),
        ):
            reply = await server.ask(name, "PTR")
            assert (answers(reply), reply.answer[0].ttl) == ([f"{at}.{L4LB}."], 5)
        assert (await server.ask("9.0.0.11.in-addr.arpa", "PTR")).rcode() == dns.rcode.REFUSED
        assert answers(await server.ask("1.0.0.9.in-addr.arpa", "PTR"))[0].endswith(".marathon.mesos.")


async def test_a_change_is_answered_at_once(workers: int) -> None:
    async with served(some_names(), workers) as server:
        name, other = f"web.marathon.{L4LB}", f"new.marathon.{L4LB}"
        assert answers(await server.ask(name)) == ["11.0.0.7"]
        assert answers(await server.ask(f"web.marathon.{ORIGINS[-1]}")) == ["11.0.0.7"]
        assert (await server.ask(other)).rcode() == dns.rcode.NXDOMAIN
        assert answers(await server.ask(REVERSE, "PTR")) == [f"{name}."]
        assert len(answers(await server.ask(name, "SRV"))) == 2
        server.names.put("web.marathon", VipAddress("", "11.0.0.9"), [("tcp", 80)])
        server.names.put("new.marathon", VipAddress("", "11.0.0.7"), [])
        for origin in ORIGINS:
            assert answers(await server.ask(f"web.marathon.{origin}")) == ["11.0.0.9"]
            assert answers(await server.ask(f"new.marathon.{origin}")) == ["11.0.0.7"]
        reply = await server.ask(name, "SRV")
        assert (answers(reply), extras(reply)) == ([f"0 1 80 {name}."], [f"{name}. 11.0.0.9"])
        assert answers(await server.ask(name, "AAAA")) == []
        assert (await server.ask(f"_443._tcp.{name}", "SRV")).rcode() == dns.rcode.NXDOMAIN
        assert answers(await server.ask(REVERSE, "PTR")) == [f"{other}."]
        server.names.drop("web.marathon")
        for origin in ORIGINS:
            assert (await server.ask(f"web.marathon.{origin}")).rcode() == dns.rcode.NXDOMAIN
            assert (await server.ask(f"_web._tcp.marathon.{origin}", "SRV")).rcode() == dns.rcode.NXDOMAIN
        assert (await server.ask("9.0.0.11.in-addr.arpa", "PTR")).rcode() == dns.rcode.REFUSED


async def test_a_new_view_has_the_names_and_the_old_one_hears_no_more(workers: int) -> None:
    async with served(some_names(), workers) as server:
        name = f"web.marathon.{L4LB}"
        assert answers(await server.ask(name)) == ["11.0.0.7"]
        old = server.reload()
        assert answers(await server.ask(name)) == ["11.0.0.7"]
        old.leave_extra()
        serial = old.serial
        server.names.put("web.marathon", VipAddress("", "11.0.0.9"), [])
        assert answers(await server.ask(name)) == ["11.0.0.9"]
        assert old.serial == serial < server.view.serial


async def test_many_ports_by_udp_and_tcp(workers: int) -> None:
    """What does not fit loses its additional records first, then TC is set."""
    names = VipNames()
    names.put("web.marathon", WEB, [("tcp", port) for port in range(1000, 1040)])
    async with served(names, workers) as server:
        name = f"web.marathon.{L4LB}"
        async with asyncio.timeout(20):
            short = dns.message.from_wire(await udp(server.server.addresses[0], packet(name, "SRV")))
        assert short.flags & dns.flags.TC
        whole = await server.tcp(name, "SRV")
        assert (len(answers(whole)), len(extras(whole))) == (40, 2)


def transferred(address: tuple[str, int], origin: str) -> dns.zone.Zone:
    zone = dns.zone.Zone(origin)
    dns.query.inbound_xfr(address[0], zone, port=address[1], timeout=20)
    return zone


async def test_zone_transfers(workers: int) -> None:
    async with served(some_names(), workers, transfer=("127.0.0.1",)) as server:
        zone = await asyncio.to_thread(transferred, server.server.addresses[0], L4LB)
        found = {str(name) for name in zone.nodes}
        assert found == {
            "@",
            "web.marathon",
            "_80._tcp.web.marathon",
            "_443._tcp.web.marathon",
            "_80._udp.web.marathon",
            "_web._tcp.marathon",
            "_web._udp.marathon",
            "api.hello-world.marathon",
            "_8080._tcp.api.hello-world.marathon",
            "_api._tcp.hello-world.marathon",
        }
        before = await asyncio.to_thread(transferred, server.server.addresses[0], "mesos")
        server.names.put("x.marathon", VipAddress("", "11.0.0.10"), [])
        after = await asyncio.to_thread(transferred, server.server.addresses[0], "mesos")
        assert set(before.nodes) == set(after.nodes)


async def test_http() -> None:
    names = some_names()
    view, catalog = ZoneView(DnsConfig(), extra=names), Catalog()
    view.fill_extra()
    catalog.register("mesos")
    catalog.listen(view.apply)
    catalog.publish("mesos", Sync((MARATHON, AGENT, task())))
    catalog.flush()
    catalog.mark("mesos", connected=True, synced=True)
    context = ApiContext(view=view, catalog=catalog, dns=view.config)
    async with Asking(context, admin=AdminConfig(listen=LOOPBACK)) as api:
        for origin in (L4LB, "dclb.thisdcos.global"):
            name = f"web.marathon.{origin}."
            assert await api.json(f"/v1/hosts/{name}") == [
                {"host": name, "ip": "11.0.0.7"},
                {"host": name, "ip": "fd01:c::7"},
            ]
            assert await api.json(f"/v1/services/_443._tcp.{name}") == [
                {"service": f"_443._tcp.{name}", "host": name, "ip": ip, "port": "443"}
                for ip in ("11.0.0.7", "fd01:c::7")
            ]
            assert len(await api.json(f"/v1/services/_web._tcp.marathon.{origin}.")) == 4
        assert await api.json(f"/v1/hosts/other.marathon.{L4LB}") == [{"host": "", "ip": ""}]
        assert "l4lb" not in str(await api.json("/v1/axfr"))
        assert "l4lb" not in str(await api.json("/v1/enumerate"))
        zones = {zone["origin"]: zone for zone in (await api.json("/status", part="admin"))["dns"]["zones"]}
        assert zones[L4LB] == {"origin": L4LB, "names": 9, "tasks": 0}
