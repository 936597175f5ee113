"""What a served zone says of itself."""

from __future__ import annotations

from mesos_dns.config import DnsConfig
from mesos_dns.names import NS, SOA, A
from mesos_dns.records import RecordStore
from mesos_dns.served import Zone, aliases, mname_of, name_server_of, other_parents
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


def test_the_ttl_of_a_zones_own_name_servers() -> None:
    theirs = Zone("mesos", "domain", RecordStore(), None, DnsConfig(), ttl=5, srv=(0, 1), ns_ttl=3600)
    assert [theirs.ttl_of(owner, rtype) for owner, rtype in (("", NS), ("", SOA), ("web", NS))] == [3600, 5, 5]
    theirs.ttls["", NS] = 60
    assert theirs.ttl_of("", NS) == 60
    assert zone(ttl=5).ttl_of("", NS) == 5


def test_another_name_of_a_zone() -> None:
    ours = zone()
    ours.store.add("web", A, b"\x0a\0\0\1")
    other = ours.renamed("Other.test")
    assert (other.origin, other.wire, other.alias) == ("Other.test", name_to_wire("other.test"), True)
    assert (ours.origin, ours.alias) == ("mesos", False)
    ours.store.add("web", A, b"\x0a\0\0\2")
    ours.ttls["web", A] = 7
    assert other.rrset("web", A) == [b"\x0a\0\0\1", b"\x0a\0\0\2"]
    assert (other.ttl_of("web", A), other.soa(9)) == (7, ours.soa(9))


def test_secondaries_are_told_of_zones_with_something_in_them_by_one_name() -> None:
    ours = zone()
    assert not ours.notified
    ours.store.add("web", A, b"\x0a\0\0\1")
    assert ours.notified
    assert not ours.renamed("other.test").notified
    assert zone(plain=True).notified


def test_other_names_of_the_directory() -> None:
    assert other_parents("thisdcos.directory", "") == ("thisdcos.global",)
    assert other_parents("a.b.Directory", "key") == ("a.b.global", "key.dcos.directory")
    assert other_parents("cluster.test", "") == other_parents("directory", "") == ()


def test_aliases_of_the_zones_that_are_there() -> None:
    settings = DnsConfig()
    made = [
        Zone(f"{label}.d.test", label, RecordStore(), None, settings, ttl=5, srv=(0, 1)) for label in ("dcos", "l4lb")
    ]
    zones = {each.wire: each for each in made}
    assert {each.origin: each.tag for each in aliases(zones, "d.test", ("e.test",))} == {
        "dclb.d.test": "l4lb",
        "dcos.e.test": "dcos",
        "l4lb.e.test": "l4lb",
        "dclb.e.test": "l4lb",
    }
    taken = made[0].renamed("dcos.e.test")
    assert "dcos.e.test" not in {each.origin for each in aliases({**zones, taken.wire: taken}, "d.test", ("e.test",))}


def test_the_name_server() -> None:
    assert mname_of(DnsConfig(domain="mesos")) == "ns1.mesos"
    assert mname_of(DnsConfig(soa_mname="Dns.Example.org.")) == "Dns.Example.org"
    assert name_server_of(DnsConfig()) == "ns1"
    assert name_server_of(DnsConfig(domain="Mesos.", soa_mname="A.b.MESOS.")) == "a.b"
    assert name_server_of(DnsConfig(soa_mname="ns.example.org")) == ""
    assert name_server_of(DnsConfig(soa_mname="xmesos")) == ""
