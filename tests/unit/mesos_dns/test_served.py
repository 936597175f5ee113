"""What a served zone says of itself."""

from __future__ import annotations

from mesos_dns.config import DnsConfig
from mesos_dns.names import NS, SOA, A
from mesos_dns.records import RecordStore
from mesos_dns.served import Zone, mname_of, name_server_of
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import soa


def zone(plain: bool = False, ttl: int = 60, **config: object) -> Zone:
    settings = DnsConfig(**config)  # type: ignore[arg-type]  # any key of the section
    return Zone("mesos", "domain", RecordStore(), None, settings, ttl=ttl, srv=(0, 1), plain=plain)


def test_soa() -> None:
    wire = zone(soa_refresh=1, soa_retry=2, soa_expire=3, soa_minttl=4).soa(99)
    assert wire == name_to_wire("ns1.mesos") + name_to_wire("root.ns1.mesos") + bytes.fromhex(
        "0000006300000001000000020000000300000004"
    )


def test_the_minimum_is_the_ttl_unless_set() -> None:
    assert zone(ttl=60).negative_ttl == 60
    assert zone(ttl=60, soa_minttl=5).negative_ttl == 5
    assert zone(ttl=5, soa_minttl=60).negative_ttl == 5


def test_a_plain_zone_has_its_own_soa_and_negative_ttl() -> None:
    plain = zone(plain=True)
    plain.store.add("", SOA, soa(minimum=30))
    plain.ttls["", SOA] = 300
    assert plain.soa(99) == soa(minimum=30)
    assert plain.negative_ttl == 30
    plain.ttls["", SOA] = 10
    assert plain.negative_ttl == 10


def test_apex() -> None:
    ours = zone()
    assert ours.types("") == [NS, SOA]
    assert ours.rrset("", NS) == [name_to_wire("ns1.mesos")]
    assert ours.exists("")
    plain = zone(plain=True)
    assert plain.types("") == []
    assert plain.rrset("", NS) == []


def test_ttl_of_a_record_set() -> None:
    ours = zone()
    ours.ttls["web", A] = 5
    assert ours.ttl_of("web", A) == 5
    assert ours.ttl_of("web", NS) == 60


def test_the_name_server() -> None:
    assert mname_of(DnsConfig(domain="mesos")) == "ns1.mesos"
    assert mname_of(DnsConfig(soa_mname="Dns.Example.org.")) == "Dns.Example.org"
    assert name_server_of(DnsConfig()) == "ns1"
    assert name_server_of(DnsConfig(domain="Mesos.", soa_mname="A.b.MESOS.")) == "a.b"
    assert name_server_of(DnsConfig(soa_mname="ns.example.org")) == ""
    assert name_server_of(DnsConfig(soa_mname="xmesos")) == ""
