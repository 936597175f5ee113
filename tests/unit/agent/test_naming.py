"""The names and their servers: two servers over one view, and reloads that keep what can't be replaced."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from agent.naming import Naming
from agent.sections import Config
from mesos_dns.catalog import Catalog
from mesos_dns.config import DnsConfig
from mesos_dns.model import Drop, Put
from mesos_dns.resolver.config import ResolverConfig
from tests.fakes.questions import AGENT, MARATHON, task
from tests.fakes.upstreams import Step, right, upstream

pytestmark = pytest.mark.asyncio

HERE = ("127.0.0.1:0",)
NOBODY = ("127.0.0.1:1",)


def config(folder: Path, *, dns: dict[str, Any] | None = None, **resolver: Any) -> Config:
    section = {"listen": HERE, "device": "", "upstreams": NOBODY, **resolver}
    return Config(
        state_dir=str(folder),
        dns=DnsConfig(**{"listen": HERE, **dns}) if dns is not None else None,
        resolver=ResolverConfig(**section),
    )


@asynccontextmanager
async def named(start: Config, known: bool = True) -> AsyncIterator[tuple[Naming, Catalog]]:
    """Names of a small cluster, served."""
    catalog = Catalog()
    catalog.register("test")
    for entity in (AGENT, MARATHON, task()):
        catalog.publish("test", Put(entity))
    naming = Naming(catalog, lambda: known)
    await naming.prepare(start)
    await naming.start()
    try:
        yield naming, catalog
    finally:
        await naming.close()


async def ask(naming: Naming, section: str, name: str, rtype: str = "A") -> dns.message.Message:
    host, port = naming.addresses(section)[0]
    return await dns.asyncquery.udp(dns.message.make_query(name, rtype), host, timeout=30, port=port)


async def says(naming: Naming, section: str, name: str, text: str) -> None:
    """Ask until the answer has the text; 20 s at most."""
    async with asyncio.timeout(20):
        while text not in (await ask(naming, section, name)).to_text():
            await asyncio.sleep(0.01)


async def test_both_servers_follow_one_catalog(tmp_path: Path) -> None:
    async with named(config(tmp_path, dns={})) as (naming, catalog):
        for section in ("dns", "resolver"):
            await says(naming, section, "web.marathon.mesos", "NOERROR")
        catalog.publish("test", Drop(task().key))
        for section in ("dns", "resolver"):
            await says(naming, section, "web.marathon.mesos", "NXDOMAIN")
        catalog.publish("test", Put(task()))
        for section in ("dns", "resolver"):
            await says(naming, section, "web.marathon.mesos", "NOERROR")
        assert (await ask(naming, "dns", "www.example.org")).rcode() == dns.rcode.REFUSED


async def test_other_names_come_from_upstreams_and_stay_over_a_reload(tmp_path: Path) -> None:
    async with upstream(right) as server:
        first = config(tmp_path, dns={}, upstreams=(server.address().label,))
        async with named(first) as (naming, _):
            await says(naming, "resolver", "www.example.org", "192.0.2.7")
            asked = len([name for name in server.names if "pharos-loop" not in name])
            resolver, sockets = naming.servers["resolver"], naming.addresses("resolver")
            assert await naming.swap(msgspec.structs.replace(first, dns=DnsConfig(listen=HERE, ttl=7))) == set()
            assert (naming.servers["resolver"], naming.addresses("resolver")) == (resolver, sockets)
            assert (await ask(naming, "resolver", "web.marathon.mesos")).answer[0].ttl == 7
            await says(naming, "resolver", "www.example.org", "192.0.2.7")
            assert len([name for name in server.names if "pharos-loop" not in name]) == asked


async def test_another_cache_size_keeps_what_is_cached_and_other_upstreams_do_not(tmp_path: Path) -> None:
    async with upstream(right) as server:
        first = config(tmp_path, upstreams=(server.address().label,))
        async with named(first) as (naming, _):
            await says(naming, "resolver", "www.example.org", "192.0.2.7")
            assert naming.resolving is not None
            cache = naming.resolving.resolver.cache
            await naming.swap(config(tmp_path, upstreams=(server.address().label,), cache_size=50))
            assert naming.resolving.resolver.cache is cache
            await naming.swap(config(tmp_path, upstreams=NOBODY))
            assert naming.resolving.resolver.cache is not cache
            assert (await ask(naming, "resolver", "www.example.org")).rcode() == dns.rcode.SERVFAIL


async def test_a_section_whose_address_is_taken_stays_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        taken = (f"127.0.0.1:{holder.getsockname()[1]}",)
        async with named(config(tmp_path, dns={})) as (naming, _):
            kept = await naming.swap(config(tmp_path, dns={"ttl": 7}, listen=taken))
            assert kept == {"resolver"}
            assert (await ask(naming, "dns", "web.marathon.mesos")).answer[0].ttl == 7
            assert (await ask(naming, "resolver", "web.marathon.mesos")).answer[0].ttl == 7
            kept = await naming.swap(config(tmp_path, dns={"ttl": 9, "listen": taken}))
            assert kept == {"dns"}
            for section in ("dns", "resolver"):
                assert (await ask(naming, section, "web.marathon.mesos")).answer[0].ttl == 7
    assert "[resolver] stays as it was" in caplog.text
    assert "[dns] stays as it was" in caplog.text


async def test_a_section_that_is_off_serves_nothing_and_comes_back(tmp_path: Path) -> None:
    both = config(tmp_path, dns={})
    async with named(both) as (naming, _):
        assert await naming.swap(msgspec.structs.replace(both, resolver=None)) == set()
        assert (naming.addresses("resolver"), naming.resolving) == ([], None)
        assert (await ask(naming, "dns", "localhost")).rcode() == dns.rcode.REFUSED
        assert await naming.swap(msgspec.structs.replace(both, dns=None)) == set()
        assert naming.addresses("dns") == []
        await says(naming, "resolver", "localhost", "127.0.0.1")


async def test_before_anybody_has_said_what_runs_other_names_are_answered(tmp_path: Path) -> None:
    async with upstream(right) as server:
        async with named(config(tmp_path, upstreams=(server.address().label,)), known=False) as (naming, _):
            assert (await ask(naming, "resolver", "nothing.mesos")).rcode() == dns.rcode.SERVFAIL
            await says(naming, "resolver", "www.example.org", "192.0.2.7")


async def test_a_change_reaches_no_view_that_was_replaced(tmp_path: Path) -> None:
    async with named(config(tmp_path, dns={})) as (naming, catalog):
        before = naming.view
        await naming.swap(config(tmp_path, dns={"ttl": 7}))
        serial = before.serial
        catalog.publish("test", Drop(task().key))
        await says(naming, "dns", "web.marathon.mesos", "NXDOMAIN")
        assert before.serial == serial


async def test_an_alias_of_ours_is_followed_to_upstreams(tmp_path: Path) -> None:
    async with upstream(right) as server:
        made = config(tmp_path, upstreams=(server.address().label,), components={"registry": "registry.example.org"})
        async with named(made) as (naming, _):
            for _ in range(3):
                reply = await ask(naming, "resolver", "registry.component.thisdcos.directory")
                assert [rrset.to_text().split(" ", 2)[::2] for rrset in reply.answer] == [
                    ["registry.component.thisdcos.directory.", "IN CNAME registry.example.org."],
                    ["registry.example.org.", "IN A 192.0.2.7"],
                ]
            assert [name for name in server.names if "pharos-loop" not in name] == ["registry.example.org."]


async def test_an_alias_of_an_upstream_that_leads_here_is_answered_with_what_runs(tmp_path: Path) -> None:
    def alias(question: bytes, transport: str) -> list[Step]:
        query = dns.message.from_wire(question)
        reply = dns.message.make_response(query, recursion_available=True)
        name = query.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "web.marathon.mesos."))
        reply.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", "a. b. 1 2 3 4 60"))
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return [reply.to_wire()]

    async with upstream(alias) as server:
        made = config(tmp_path, upstreams=(server.address().label,))
        async with named(made) as (naming, catalog):
            for there in (True, False, True):
                catalog.publish("test", Put(task()) if there else Drop(task().key))
                await says(naming, "resolver", "web.marathon.mesos", "NOERROR" if there else "NXDOMAIN")
                reply = await ask(naming, "resolver", "www.corp.example")
                own = await ask(naming, "resolver", "web.marathon.mesos")
                assert reply.answer[0].to_text() == "www.corp.example. 60 IN CNAME web.marathon.mesos."
                assert reply.answer[1:] == own.answer
                assert reply.rcode() == own.rcode()
            assert len([name for name in server.names if "pharos-loop" not in name]) == 1
