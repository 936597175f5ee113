"""A node's resolver beside DC/OS': the recordings of what dcos-net does, case by case, and where we differ.

What differs on purpose is said at each case; the rest has to be the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from agent.config import ConfigError, load_text
from mesos_dns.config import host_port
from mesos_dns.message import Query, read_query
from mesos_dns.model import Endpoint, Ensemble, Leadership, StaticRecords
from mesos_dns.resolver.address import parse_upstream
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.resolver import Resolver
from mesos_dns.resolver.upstreams import Reply
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from tests.fakes.node_resolver import NODE, NodeResolver, node_resolver
from tests.fakes.questions import answers, has_flag, packet, put, soa, static, task, view_of
from tests.fakes.upstreams import failing, found, saying, silent, upstream

pytestmark = pytest.mark.asyncio

DATA = Path(__file__).parent.parent / "data" / "dcos-net"
KEY = "yb3kh1ngz9zfpdzc4z5eyx6rkw9p6hbqpc9ehx4hxo3ypo6x1cty"
ZK = Ensemble((("10.0.0.1",), ("10.0.0.2",), ("10.0.0.3",)))


def recorded(name: str, folder: Path = DATA) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / name).read_text())
    return document


# --- where a question goes -------------------------------------------------------------------------


def follows(node: NodeResolver, case: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether a question goes where dcos-net sends it, or where we send it on purpose."""
    names, expected = case["qnames"], case["expected"]
    if len(names) > 1:
        # One message, one question (RFC 9619 §4); dcos-net answers such a list as a whole, as it pleases.
        parts = [packet(name)[12:] for name in names]
        query = packet(names[0])[:4] + len(names).to_bytes(2, "big") + bytes(6) + b"".join(parts)
        reply = node.responder.respond(query, "udp")
        return isinstance(reply, bytes) and dns.message.from_wire(reply[:12]).rcode() == dns.rcode.FORMERR
    query_read = read_query(packet(names[0] or "."))
    assert isinstance(query_read, Query)
    name = query_read.name
    reply = node.responder.respond(packet(names[0] or "."), "udp")
    zone = node.view.find(name)
    if "upstreams" in expected and expected["upstreams"] != config["mesos_resolvers"]:
        zone_of, servers = node.servers_of(name)
        return isinstance(reply, Forward) and (zone_of, servers) == (expected["zone"], expected["upstreams"])
    if not isinstance(reply, bytes) or zone is None:
        return False
    if "rename" in expected:
        asked, stands_for = (node.view.zones[name_to_wire(each)] for each in expected["rename"])
        return zone is asked and asked.store is stands_for.store
    # mesos-dns is us: what dcos-net forwards to the masters for the domain is answered here. A zone that DC/OS could
    # have below its directory and does not is ours, too.
    origin = expected.get("internal", "mesos.")
    return f".{origin}".endswith(f".{zone.origin}.")


def routing(document: dict[str, Any]) -> tuple[NodeResolver, list[dict[str, Any]]]:
    config = document["config"]
    resolver = ResolverConfig(
        upstreams=tuple(config["upstream_resolvers"]),
        zones={zone: tuple(servers) for zone, servers in config["forward_zones"].items()},
        cluster_key=KEY,
        workers=0,
    )
    return NodeResolver(resolver, ZK), document["cases"]


@pytest.mark.parametrize("number", range(len(recorded("dns_routing.json")["cases"])))
async def test_where_a_question_goes(number: int) -> None:
    document = recorded("dns_routing.json")
    node, cases = routing(document)
    assert follows(node, cases[number], document["config"]), cases[number]


async def test_where_every_recorded_question_goes(truth: Path) -> None:
    document = recorded("dns_routing.json", truth / "dcos-net")
    node, cases = routing(document)
    assert [case for case in cases if not follows(node, case, document["config"])] == []


@pytest.mark.parametrize(
    ("name", "zone", "servers"),
    [
        # The longest suffix, whatever the order of the configuration; dcos-net takes the last one of a map.
        ("x.y.a.contoso.com", "a.contoso.com.", ["1.1.1.1:53", "2.2.2.2:53"]),
        ("A.Contoso.COM", "a.contoso.com.", ["1.1.1.1:53", "2.2.2.2:53"]),
        ("aa.contoso.com", "contoso.com.", ["9.9.9.9:53"]),
        ("xcontoso.com", ".", ["1.1.1.1:53", "1.0.0.1:53"]),
        ("web.foo.dcos.directory", "foo.dcos.directory.", ["8.8.4.4:53"]),
        ("web.l4lb.other.dcos.directory", ".", ["1.1.1.1:53", "1.0.0.1:53"]),
        ("thisdcos.global", ".", ["1.1.1.1:53", "1.0.0.1:53"]),
        (f"{KEY}.dcos.directory", ".", ["1.1.1.1:53", "1.0.0.1:53"]),
        ("xzk", ".", ["1.1.1.1:53", "1.0.0.1:53"]),
    ],
)
async def test_other_names_go_to_the_servers_of_the_longest_zone(name: str, zone: str, servers: list[str]) -> None:
    node, _ = routing(recorded("dns_routing.json"))
    assert isinstance(node.responder.respond(packet(name), "udp"), Forward)
    assert node.servers_of(name_to_wire(name.lower())) == (zone, servers)


@pytest.mark.parametrize("parent", ["thisdcos.directory", "thisdcos.global", f"{KEY}.dcos.directory"])
@pytest.mark.parametrize("label", ["dcos", "mesos", "l4lb", "dclb", "thisnode", "component", "not-there"])
async def test_nothing_below_the_directory_is_asked_of_others(label: str, parent: str) -> None:
    node, _ = routing(recorded("dns_routing.json"))
    for name in (f"{label}.{parent}", f"a.b.{label}.{parent}"):
        assert isinstance(node.responder.respond(packet(name), "udp"), bytes), name


# --- the configuration of other servers --------------------------------------------------------------


def toml(value: Any) -> str:
    """A JSON value in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


async def test_forward_zones_that_are_taken_and_that_are_not() -> None:
    document = recorded("forwarder_config.json")
    for valid in document["valid"]:
        config = load_text(f"[resolver]\nzones = {toml(valid)}\n", "pharos.toml")
        assert config.resolver is not None
        assert config.resolver.zones == {zone: tuple(servers) for zone, servers in valid.items()}
    for case in document["invalid"]:
        with pytest.raises(ConfigError, match=r"resolver\.zones"):
            load_text(f"[resolver]\nzones = {toml(case['config'])}\n", "pharos.toml")


async def test_how_the_address_of_a_server_is_read() -> None:
    document = recorded("forwarder_config.json")
    for text, default_port, (host, port) in document["parse"]:
        assert host_port(text, default_port) == (host, port)
        read = parse_upstream(text)
        assert (read.transport, read.host) == ("udp", host)
        assert read.port == (port if ":" in text else 53)
    lowest, highest = document["port_range"]
    for port in (lowest, highest):
        assert parse_upstream(f"8.8.8.8:{port}").port == port
    for port in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match="port"):
            parse_upstream(f"8.8.8.8:{port}")
    assert parse_upstream("[2001:db8::1]:5300").port == 5300  # dcos-net knows IPv4 alone


# --- what is answered, over sockets ------------------------------------------------------------------

Case = dict[str, Any]


def address_set(name: str, count: int, zone: str = "") -> StaticRecords:
    return static(f"{name}.", "A", *(bytes((127, 0, 0, number)) for number in range(1, count + 1)), zone=zone, ttl=5)


def masters(*addresses: str) -> Leadership:
    at = tuple(Endpoint(address, 5050) for address in addresses)
    return Leadership(at[0], at)


def order(message: dns.message.Message) -> tuple[str, ...]:
    return tuple(rdata.to_text() for rrset in message.answer for rdata in rrset)


def in_order(reply: bytes) -> list[str]:
    """ "owner type rdata" of each record of an answer, as they stand in it."""
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    kinds = {1: "A", 5: "CNAME"}
    return [f"{rr.name.to_text()} {kinds[rr.rdtype]} {rr[0].to_text()}" for rr in message.answer]


async def one_name(case: Case, workers: int) -> None:
    async with node_resolver(workers=workers) as node:
        name, rtype = case["query"]
        for _ in range(2):
            replies = [await node.udp(name, rtype), *await node.tcp(name, rtype=rtype)]
            assert [answers(reply) for reply in replies] == [case["expected"]] * 2
            assert all(has_flag(reply, dns.flags.QR) for reply in replies)


async def tcp_keepalive(case: Case, workers: int) -> None:
    async with node_resolver(task(), workers=workers) as node:
        replies = await node.tcp("ready.spartan", "web.marathon.mesos", "localhost")
        assert [answers(reply) for reply in replies] == [["127.0.0.1"], ["9.0.0.1"], ["127.0.0.1"]]
        assert float(node.config.tcp_idle) == 10.0


async def tcp_fallback(case: Case, workers: int) -> None:
    name = "app.autoip.dcos.thisdcos.directory"
    async with node_resolver(address_set(name, 128), workers=workers) as node:
        for payload in (None, 512, 1232):
            for _ in range(2):
                assert has_flag(await node.udp(name, payload=payload), dns.flags.TC)
        (reply,) = await node.tcp(name)
        assert not has_flag(reply, dns.flags.TC)
        assert set(order(reply)) == {f"127.0.0.{number}" for number in range(1, 129)}


async def failing_upstreams(case: Case, workers: int) -> None:
    """dcos-net leaves QR unset."""
    async with node_resolver(upstreams=case["config"]["upstream_resolvers"], workers=workers) as node:
        name, rtype = case["query"]
        for reply in (await node.udp(name, rtype), *await node.tcp(name, rtype=rtype)):
            assert dns.rcode.to_text(reply.rcode()) == case["expected_rcode"]
            assert has_flag(reply, dns.flags.QR)


async def mixed_upstreams(case: Case, workers: int) -> None:
    """A dead one, and one that knows nothing: an error never wins while another one may know the answer."""
    async with upstream(saying("192.0.2.1")) as one, upstream(silent) as dead, upstream(failing(2)) as broken:
        labels = [each.address().label for each in (dead, broken, one)]
        async with node_resolver(upstreams=labels, workers=workers, cache_size=0) as node:
            for number in range(8):
                assert answers(await node.udp(f"host{number}.dcos.io")) == ["192.0.2.1"]


async def cname_chain(case: Case, workers: int) -> None:
    zone = "test.thisdcos.directory."
    links = [
        static(f"{name}.{zone}", "CNAME", name_to_wire(f"{target}.{zone}"), zone=zone)
        for name, target in (("foo", "bar"), ("bar", "baz"), ("baz", "qux"))
    ]
    of_zone = static(zone, "SOA", soa(), zone=zone)
    async with node_resolver(of_zone, *links, address_set(f"qux.{zone}"[:-1], 5, zone), workers=workers) as node:
        name, rtype = case["query"]
        for _ in range(8):
            reply = node.responder.respond(packet(name, rtype), "tcp", bytes((127, 0, 0, 1)))
            assert isinstance(reply, bytes)
            records = in_order(reply)
            assert len(records) == case["expected_count"]
            assert [line.replace(f".{zone}", "") for line in records[:3]] == case["expected_order"][:3]
            assert sorted(records[3:]) == [f"qux.{zone} A 127.0.0.{number}" for number in range(1, 6)]
            assert order(await node.udp(name, rtype))[:3] == tuple(f"{each}.{zone}" for each in ("bar", "baz", "qux"))


async def registry_component(case: Case, workers: int) -> None:
    five = [f"10.0.0.{number}" for number in range(1, 6)]
    target = "master.mesos.thisdcos.directory"
    async with node_resolver(masters(*five), components={"registry": target}, workers=workers) as node:
        for _ in range(2):
            found_order = order(await node.udp("registry.component.thisdcos.directory"))
            assert found_order[0] == f"{target}."
            assert sorted(found_order[1:]) == five


async def loadbalance(case: Case, workers: int) -> None:
    """One record set is turned at random: `random`, which shuffles, is the same to us as `round_robin`."""
    name = "app.autoip.dcos.thisdcos.directory"
    rotate = case["config"]["loadbalance"] != "disabled"
    async with node_resolver(address_set(name, 16), rotate=rotate, workers=workers) as node:
        orders = {order(await node.udp(name)) for _ in range(128)}
    assert {frozenset(each) for each in orders} == {frozenset(f"127.0.0.{number}" for number in range(1, 17))}
    assert len(orders) > 8 if rotate else len(orders) == 1


async def l4lb_rename(case: Case, workers: int) -> None:
    records = static("app.marathon.l4lb.thisdcos.directory.", "A", b"\x0b\0\0\1", ttl=5)
    async with node_resolver(records, workers=workers) as node:
        for zone in (f"{label}.thisdcos.{end}" for label in ("l4lb", "dclb") for end in ("directory", "global")):
            for name in (f"app.marathon.{zone}", f"App.Marathon.{zone}"):
                reply = await node.udp(name)
                assert answers(reply) == ["11.0.0.1"]
                assert reply.answer[0].name.to_text() == f"{name}."
            assert (await node.udp(f"absent.marathon.{zone}")).rcode() == dns.rcode.NXDOMAIN


async def dcos_rename(case: Case, workers: int) -> None:
    async with node_resolver(task(), masters("10.0.0.1"), cluster_key=KEY, workers=workers) as node:
        for name in ("web.marathon.autoip.dcos", "web.marathon.mesos", "leader.dcos", "thisnode"):
            here, everywhere = f"{name}.thisdcos.directory", f"{name}.{KEY}.dcos.directory"
            reply = await node.udp(everywhere)
            assert answers(reply) == answers(await node.udp(here)) != []
            assert reply.answer[0].name.to_text() == f"{everywhere}."


async def overload(case: Case, workers: int) -> None:
    config, hold = ResolverConfig(), asyncio.Event()
    view = view_of()
    resolver = Resolver(config, Held(hold))
    Responder(view, view.config, recursion=resolver).take_over()
    clients = [bytes((10, 0, 0, number % 32)) for number in range(4 * config.clients)]

    async def ask(number: int, client: bytes) -> bytes | None:
        question = packet(f"host{number}.example.org")
        query = read_query(question)
        assert isinstance(query, Query)
        return await resolver.resolve(question, Forward(query, (), client), "udp")

    async with asyncio.timeout(30):
        tasks = [asyncio.ensure_future(ask(number, client)) for number, client in enumerate(clients)]
        await asyncio.sleep(0)
        hold.set()
        replies = await asyncio.gather(*tasks)
    await resolver.close()
    assert config.clients == 1024
    assert sum(reply is None for reply in replies) == 3 * config.clients
    good = [dns.message.from_wire(reply) for reply in replies if reply is not None]
    assert all(answers(reply) == ["192.0.2.7"] for reply in good)


class Held:
    """Upstreams that answer once they may."""

    def __init__(self, hold: asyncio.Event) -> None:
        self._hold = hold

    async def ask(
        self,
        name: bytes,
        question: bytes,
        *,
        dnssec_ok: bool,
        checking_disabled: bool,
        read: Callable[[bytes], object] | None = None,
    ) -> Reply:
        await self._hold.wait()
        packet = found(b"\0\0\1\0\0\1\0\0\0\0\0\0" + question)
        return Reply(packet, "192.0.2.53:53", 0.0, read(packet) if read is not None else None)

    def is_probe(self, name: bytes) -> bool:
        return False


async def zk_zone(case: Case, workers: int) -> None:
    ensemble = Ensemble(tuple((address,) for address in case["input_masters"]))
    async with node_resolver(ensemble, workers=workers) as node:
        for name, address in case["expected"].items():
            assert answers(await node.udp(name)) == [address]
        assert (await node.udp("zk-6.zk")).rcode() == dns.rcode.NXDOMAIN


async def dcos_zone_static(case: Case, workers: int) -> None:
    """NS and SOA name the cluster's name server, and the serial grows with each change: dcos-net's is 1 for ever."""
    async with node_resolver(masters("10.0.0.1", "10.0.0.2"), workers=workers) as node:
        zone = "dcos.thisdcos.directory"
        assert answers(await node.udp(f"leader.{zone}")) == ["10.0.0.1"]
        assert answers(await node.udp(f"master.{zone}")) == ["10.0.0.1", "10.0.0.2"]
        before = (await node.udp(zone, "SOA")).answer[0]
        assert before.ttl == 5
        node.view.apply(put(masters("10.0.0.2", "10.0.0.1")))
        assert answers(await node.udp(f"leader.{zone}")) == ["10.0.0.2"]
        assert (await node.udp(zone, "SOA")).answer[0][0].serial > before[0].serial
        servers = (await node.udp(zone, "NS")).answer[0]
        assert (servers.ttl, [each.to_text() for each in servers]) == (3600, ["ns1.mesos."])


async def thisnode(case: Case, workers: int) -> None:
    public = ("192.0.2.7", "2001:db8::7")
    async with node_resolver(public_addresses=public, workers=workers) as node:
        assert answers(await node.udp("thisnode.thisdcos.directory")) == [NODE]
        assert answers(await node.udp("public.thisnode.thisdcos.directory")) == ["192.0.2.7"]
        assert answers(await node.udp("public.thisnode.thisdcos.directory", "AAAA")) == ["2001:db8::7"]


async def ttl(case: Case, workers: int) -> None:
    expected = case["expected"]
    of_records, components = expected["A/AAAA/SRV/CNAME in *.directory"], {"a": "web.marathon.mesos.thisdcos.directory"}
    virtual = static("v.l4lb.thisdcos.directory.", "AAAA", bytes(15) + b"\1", ttl=of_records)
    async with node_resolver(task(host_ports=(31000,)), virtual, components=components, workers=workers) as node:
        for name, rtype in (
            ("web.marathon.agentip.dcos.thisdcos.directory", "A"),
            ("web.marathon.mesos.thisdcos.directory", "A"),
            ("_web._tcp.marathon.mesos.thisdcos.directory", "SRV"),
            ("v.dclb.thisdcos.global", "AAAA"),
            ("thisnode.thisdcos.directory", "A"),
            ("a.component.thisdcos.directory", "CNAME"),
            ("a.component.thisdcos.directory", "A"),
        ):
            reply = await node.udp(name, rtype)
            assert reply.answer
            assert {rrset.ttl for rrset in (*reply.answer, *reply.additional)} == {of_records}, name
        for label in ("dcos", "mesos", "l4lb", "dclb", "thisnode", "component"):
            zone = f"{label}.thisdcos.directory"
            for rtype in ("NS", "SOA"):
                assert (await node.udp(zone, rtype)).answer[0].ttl == expected[rtype], (zone, rtype)
        for rdata in (await node.udp("_web._tcp.marathon.mesos.thisdcos.directory", "SRV")).answer[0]:
            assert [rdata.priority, rdata.weight] == expected["SRV priority/weight"]


STORIES: dict[str, Callable[[Case, int], Awaitable[None]]] = {
    "ready_udp_tcp": one_name,
    "ns_spartan": one_name,
    "localhost": one_name,
    "tcp_keepalive": tcp_keepalive,
    "tcp_fallback": tcp_fallback,
    "no_upstream": failing_upstreams,
    "broken_upstreams": failing_upstreams,
    "mixed_upstreams": mixed_upstreams,
    "cname_chain": cname_chain,
    "registry_component": registry_component,
    "rr_loadbalance": loadbalance,
    "random_loadbalance": loadbalance,
    "none_loadbalance": loadbalance,
    "l4lb_rename": l4lb_rename,
    "dcos_rename": dcos_rename,
    "overload": overload,
    "zk_zone": zk_zone,
    "zk_zone_one_master": zk_zone,
    "dcos_zone_static": dcos_zone_static,
    "thisnode": thisnode,
    "ttl": ttl,
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("case", recorded("dns_server_behaviour.json")["cases"], ids=lambda case: case["id"])
async def test_what_is_answered(case: Case, workers: int) -> None:
    await STORIES[case["id"]](case, workers)
