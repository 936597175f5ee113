"""The names that a node gives itself, as record sets, and the values that can't be served."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.config import DnsConfig
from mesos_dns.model import StaticRecords
from mesos_dns.names import NS, SOA
from mesos_dns.resolver.config import ResolverConfig
from mesos_dns.resolver.local import local_problems, local_records
from mesos_dns.wire import name_from_wire, name_to_wire
from mesos_dns.zone import ZoneView

NODE = ("10.1.0.7", "fd00::7")


def sets(*node: str, dns: DnsConfig = DnsConfig(), **resolver: Any) -> tuple[StaticRecords, ...]:  # noqa: B008 - frozen
    return local_records(ResolverConfig(**resolver), dns, node)


def names(*node: str, **settings: Any) -> dict[tuple[str, str], list[str]]:
    """(owner, type) → rdata as text, without the zones' own SOA and NS."""
    return {
        (each.owner, dns.rdatatype.to_text(dns.rdatatype.RdataType.make(each.rtype))): [
            str(ipaddress.ip_address(data)) if len(data) in (4, 16) and each.rtype != 5 else name_from_wire(data)
            for data in each.rdata
        ]
        for each in sets(*node, **settings)
        if each.rtype not in (SOA, NS)
    }


def test_everything_that_a_node_is_called() -> None:
    found = names(*NODE, public_addresses=("192.0.2.7",), components={"Registry": "master.mesos.thisdcos.directory."})
    assert found == {
        ("localhost.", "A"): ["127.0.0.1"],
        ("localhost.", "AAAA"): ["::1"],
        ("*.localhost.", "A"): ["127.0.0.1"],
        ("*.localhost.", "AAAA"): ["::1"],
        ("ready.spartan.", "A"): ["127.0.0.1"],
        ("ns.spartan.", "A"): ["198.51.100.1"],
        ("thisnode.thisdcos.directory.", "A"): ["10.1.0.7"],
        ("thisnode.thisdcos.directory.", "AAAA"): ["fd00::7"],
        ("public.thisnode.thisdcos.directory.", "A"): ["192.0.2.7"],
        ("registry.component.thisdcos.directory.", "CNAME"): ["master.mesos.thisdcos.directory"],
    }


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (("198.51.100.2:53", "198.51.100.1:53"), {"A": ["198.51.100.2"]}),
        (("[fd01:d::c633:6401]:53", "127.0.0.1:5300"), {"A": ["127.0.0.1"], "AAAA": ["fd01:d::c633:6401"]}),
        (("0.0.0.0:53",), {"A": ["10.1.0.7"], "AAAA": ["fd00::7"]}),
        (("[::]:53", "10.9.9.9:53"), {"A": ["10.9.9.9"]}),
        ((":53",), {"A": ["10.1.0.7"], "AAAA": ["fd00::7"]}),
    ],
)
def test_the_name_server_is_where_the_resolver_listens(listen: tuple[str, ...], expected: dict[str, list[str]]) -> None:
    found = names(*NODE, listen=listen)
    assert {rtype: data for (owner, rtype), data in found.items() if owner == "ns.spartan."} == expected


def test_every_zone_says_of_itself_what_a_zone_has_to() -> None:
    settings = DnsConfig(directory="a.directory", directory_ttl=7, soa_refresh=9, soa_rname="admin.example.org")
    found = {(each.owner, each.rtype): each for each in sets(dns=settings) if each.rtype in (SOA, NS)}
    zones = {"localhost.", "spartan.", "thisnode.a.directory.", "component.a.directory."}
    assert set(found) == {(zone, rtype) for zone in zones for rtype in (SOA, NS)}
    for (owner, rtype), each in found.items():
        assert (each.zone, each.ttl) == (owner, 7 if rtype == SOA else 3600)
        if rtype == NS:
            assert each.rdata == (name_to_wire("ns.spartan"),)
        else:
            start = name_to_wire("ns.spartan") + name_to_wire("admin.example.org")
            assert each.rdata[0][: len(start)] == start
            numbers = struct.unpack(">5I", each.rdata[0][len(start) :])
            assert numbers == (1, 9, settings.soa_retry, settings.soa_expire, 7)


def test_absence_may_be_kept_as_long_as_the_configuration_says() -> None:
    for each in sets(dns=DnsConfig(soa_minttl=0)):
        if each.rtype == SOA:
            assert each.rdata[0][-4:] == bytes(4)


def test_without_dcos_names_a_node_still_has_its_own() -> None:
    assert {each.zone for each in sets(*NODE, dns=DnsConfig(directory=""))} == {"localhost.", "spartan."}


def test_a_directory_in_capitals_is_the_same() -> None:
    assert names(*NODE, dns=DnsConfig(directory="A.Directory"))["thisnode.a.directory.", "A"] == ["10.1.0.7"]


def test_an_address_twice_is_one_record() -> None:
    assert names("10.1.0.7", "10.1.0.7", "::ffff:10.1.0.7")["thisnode.thisdcos.directory.", "A"] == ["10.1.0.7"]


COMPONENT = "resolver.components."


@pytest.mark.parametrize(
    ("resolver", "dns", "path"),
    [
        ({"node_addresses": ("10.0.0.1", "x")}, {}, "resolver.node_addresses[1]"),
        ({"node_addresses": ("::",)}, {}, "resolver.node_addresses[0]"),
        ({"public_addresses": ("10.0.0.300",)}, {}, "resolver.public_addresses[0]"),
        ({"components": {"": "a.b"}}, {}, COMPONENT + '""'),
        ({"components": {"a..b": "a.b"}}, {}, COMPONENT + '"a..b"'),
        ({"components": {"a b": "a.b"}}, {}, COMPONENT + '"a b"'),
        ({"components": {"*": "a.b"}}, {}, COMPONENT + '"*"'),
        ({"components": {"a" * 64: "a.b"}}, {}, COMPONENT + f'"{"a" * 64}"'),
        ({"components": {".".join(["a" * 60] * 4): "a.b"}}, {}, COMPONENT + f'"{".".join(["a" * 60] * 4)}"'),
        ({"components": {"a": ""}}, {}, COMPONENT + '"a"'),
        ({"components": {"a": "."}}, {}, COMPONENT + '"a"'),
        ({"components": {"a": "b..c"}}, {}, COMPONENT + '"a"'),
        ({"components": {"a": "ü.test"}}, {}, COMPONENT + '"a"'),
        ({"components": {"a": "A.component.thisdcos.directory."}}, {}, COMPONENT + '"a"'),
        ({"components": {"a": "b", "A": "c"}}, {}, COMPONENT + '"A"'),
        ({"cluster_key": "a.b"}, {}, "resolver.cluster_key"),
        ({"cluster_key": "k" * 64}, {}, "resolver.cluster_key"),
        ({}, {"domain": "localhost"}, "dns.domain"),
        ({}, {"domain": "x.Spartan"}, "dns.domain"),
        ({}, {"domain": "l4lb.thisdcos.directory"}, "dns.domain"),
        ({}, {"domain": "component.test", "directory": "test"}, "dns.domain"),
    ],
)
def test_values_that_can_not_be_served(resolver: dict[str, Any], dns: dict[str, Any], path: str) -> None:
    found = list(local_problems(ResolverConfig(**resolver), DnsConfig(**dns)))
    assert [each for each, _ in found] == [path]
    assert all(text for _, text in found)


def test_values_that_can_be_served() -> None:
    resolver = ResolverConfig(
        node_addresses=NODE,
        public_addresses=("192.0.2.7", "2001:db8::7"),
        components={"registry": "master.mesos.thisdcos.directory", "a.b_c": "example.org."},
        cluster_key="yb3kh1ngz9zfpdzc4z5eyx6rkw9p6hbqpc9ehx4hxo3ypo6x1cty",
    )
    assert list(local_problems(resolver, DnsConfig())) == []
    assert list(local_problems(ResolverConfig(), DnsConfig(directory=""))) == []
    for records in local_records(resolver, DnsConfig(), NODE):
        assert name_to_wire(records.owner)


texts = st.text("ab.-_*Z ü\\", max_size=8) | st.sampled_from(
    ("a" * 63, "a" * 64, "a.component.thisdcos.directory", "b.test.")
)
addresses = st.lists(st.ip_addresses().map(str) | st.sampled_from(("", "10.0.0.300", "::ffff:10.0.0.1")), max_size=3)


@given(st.dictionaries(texts, texts, max_size=3), addresses, addresses, texts)
def test_what_has_no_problem_can_be_served(
    components: dict[str, str], node: list[str], public: list[str], key: str
) -> None:
    resolver = ResolverConfig(
        components=components, node_addresses=tuple(node), public_addresses=tuple(public), cluster_key=key
    )
    if list(local_problems(resolver, DnsConfig())):
        return
    records = local_records(resolver, DnsConfig(), resolver.node_addresses)
    view = ZoneView(DnsConfig(), local=records, cluster_key=key)
    assert view.refused == 0
    for each in records:
        zone = view.find(name_to_wire(each.owner))
        assert zone is not None
        assert set(each.rdata) <= set(zone.rrset(view.relative(name_to_wire(each.owner), zone), each.rtype))
