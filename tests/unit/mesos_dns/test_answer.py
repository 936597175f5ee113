"""Answers, from question to bytes: what they hold, how they rotate and how they shrink."""

from __future__ import annotations

from collections import Counter

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.reversename
import pytest

from mesos_dns import names
from mesos_dns.answer import Answer, Glue, compile_answer
from mesos_dns.config import DnsConfig
from mesos_dns.message import Query, read_query
from mesos_dns.model import Endpoint, Entity, Leadership, Network, Node, Port
from mesos_dns.names import AAAA, SRV, A
from mesos_dns.respond import Responder
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import ZoneView
from tests.fakes.extra_records import Extra
from tests.fakes.questions import (
    answers,
    ask,
    ask_raw,
    extras,
    has_flag,
    packet,
    responder_of,
    soa,
    static,
    task,
    view_of,
)

AA, TC, RD = dns.flags.AA, dns.flags.TC, dns.flags.RD
ONE, TWO = b"\x0a\7\0\1", b"\x0a\7\0\2"


def unique(number: int = 0) -> str:
    return names.unique_suffix(task(number))


def plain_zone() -> list[Entity]:
    """example.org: a wildcard, a chain of CNAMEs, a delegation, an empty non-terminal."""
    zone = "example.org."
    return [
        static("example.org.", "SOA", soa(minimum=30), zone=zone, ttl=900),
        static("example.org.", "NS", name_to_wire("ns.example.org"), zone=zone),
        static("ns.example.org.", "A", ONE, zone=zone),
        static("www.example.org.", "A", ONE, TWO, zone=zone, ttl=7),
        static("www.example.org.", "TXT", b"\4text", zone=zone),
        static("alias.example.org.", "CNAME", name_to_wire("second.example.org"), zone=zone, ttl=3),
        static("second.example.org.", "CNAME", name_to_wire("www.example.org"), zone=zone),
        static("cluster.example.org.", "CNAME", name_to_wire("Web.Marathon.mesos"), zone=zone),
        static("out.example.org.", "CNAME", name_to_wire("www.example.net"), zone=zone),
        static("nowhere.example.org.", "CNAME", name_to_wire("missing.a.ent.example.org"), zone=zone),
        static("loop.example.org.", "CNAME", name_to_wire("loop.example.org"), zone=zone),
        static("*.wild.example.org.", "A", ONE, zone=zone),
        static("*.wild.example.org.", "TXT", b"\4wild", zone=zone),
        static("host.sub.wild.example.org.", "A", TWO, zone=zone),
        static("x.a.ent.example.org.", "A", ONE, zone=zone),
        static("sub.example.org.", "NS", name_to_wire("ns.sub.example.org"), name_to_wire("ns.net"), zone=zone),
        static("ns.sub.example.org.", "A", TWO, zone=zone),
        static("deep.sub.example.org.", "NS", name_to_wire("ns.net"), zone=zone),
        static("into.example.org.", "CNAME", name_to_wire("www.sub.example.org"), zone=zone),
    ]


# --- positive -------------------------------------------------------------------------------------


def test_addresses() -> None:
    reply = ask(responder_of(task(0), task(1)), "web.marathon.mesos")
    assert answers(reply) == ["9.0.0.1", "9.0.0.2"]
    assert reply.rcode() == 0
    assert has_flag(reply, AA)
    assert has_flag(reply, RD)
    assert not has_flag(reply, TC)
    assert reply.answer[0].ttl == 60
    assert reply.authority == []
    assert reply.additional == []


def test_the_question_comes_back_byte_for_byte() -> None:
    responder = responder_of(task())
    for spelling in ("WeB.mArAtHoN.MESOS", "web.marathon.mesos", "WEB.MARATHON.MESOS"):
        query = packet(spelling)
        reply = ask_raw(responder, query)
        assert reply[:2] == query[:2]
        assert reply[12 : len(query)] == query[12:]
        assert dns.message.from_wire(reply).answer[0].name == dns.name.from_text(spelling + ".")
    assert responder.counters.compiled == 1


def test_recursion_desired_is_copied() -> None:
    responder = responder_of(task())
    query = bytearray(packet("web.marathon.mesos"))
    query[2] &= ~1
    assert not ask_raw(responder, bytes(query))[2] & 1
    assert ask_raw(responder, packet("web.marathon.mesos"))[2] & 1


def test_services_come_with_their_targets_addresses() -> None:
    six = Network("six", ("fd00::1",))
    responder = responder_of(
        task(0, discovery_name="web", ports=(Port(80, "http", "tcp"),), networks=(Network("a", ("9.0.0.1",)), six)),
        task(1, discovery_name="web", ports=(Port(81, "http", "tcp"),)),
    )
    reply = ask(responder, "_http._web._tcp.marathon.mesos", "SRV", payload=1232)
    assert answers(reply) == sorted(f"0 1 {80 + n} web{unique(n)}.marathon.mesos." for n in (0, 1))
    assert extras(reply) == sorted(
        [
            f"web{unique(0)}.marathon.mesos. 9.0.0.1",
            f"web{unique(0)}.marathon.mesos. fd00::1",
            f"web{unique(1)}.marathon.mesos. 9.0.0.2",
        ]
    )


def test_a_target_is_never_compressed() -> None:
    # RFC 2782: "name compression is not to be used for this field".
    target = name_to_wire(f"web{unique()}.marathon.slave.mesos")
    reply = ask_raw(responder_of(task(host_ports=(31000,))), packet("_web._tcp.marathon.mesos", "SRV"))
    assert (31000).to_bytes(2, "big") + target in reply


def test_a_service_port_is_the_low_16_bits_of_what_was_written() -> None:
    ports = (Port(70000, "", "tcp"), Port(4464, "", "tcp"), Port(65536, "", "tcp"))
    reply = ask(responder_of(task(discovery_name="web", ports=ports)), "_web._tcp.marathon.mesos", "SRV")
    assert answers(reply) == [f"0 1 {port} web{unique()}.marathon.mesos." for port in (0, 4464)]


def test_records_that_differ_in_case_alone_are_one() -> None:
    # A discovery name is published as written and as a label; DNS sees one name (RFC 4343).
    reply = ask(
        responder_of(task(discovery_name="Web", ports=(Port(80, "", "tcp"),))), "_web._tcp.marathon.mesos", "SRV"
    )
    assert answers(reply) == [f"0 1 80 web{unique()}.marathon.mesos."]


def test_a_discovery_name_in_upper_case_is_reachable() -> None:
    responder = responder_of(task(discovery_name="Renamed_Svc"))
    assert answers(ask(responder, "renamed_svc.marathon.mesos")) == ["9.0.0.1"]
    assert answers(ask(responder, "Renamed_Svc.marathon.mesos")) == ["9.0.0.1"]
    assert answers(ask(responder, "renamed-svc.marathon.mesos")) == ["9.0.0.1"]


def test_the_copy_of_the_domain() -> None:
    responder = responder_of(task(host_ports=(31000,)), srv_weight=9)
    reply = ask(responder, "_web._tcp.marathon.mesos.thisdcos.directory", "SRV")
    assert answers(reply) == [f"1 1 31000 web{unique()}.marathon.slave.mesos.thisdcos.directory."]
    assert reply.answer[0].ttl == 5
    assert extras(reply) == [f"web{unique()}.marathon.slave.mesos.thisdcos.directory. 10.1.0.1"]
    assert answers(ask(responder, "_web._tcp.marathon.mesos", "SRV")) == [
        f"0 9 31000 web{unique()}.marathon.slave.mesos."
    ]


def test_the_directory_has_a_short_ttl() -> None:
    reply = ask(responder_of(task()), "web.marathon.containerip.dcos.thisdcos.directory")
    assert answers(reply) == ["9.0.0.1"]
    assert reply.answer[0].ttl == 5


# --- apex and negative ----------------------------------------------------------------------------


def test_the_apex() -> None:
    responder = responder_of()
    reply = ask(responder, "mesos", "SOA")
    (soa_text,) = answers(reply)
    assert soa_text.split() == ["ns1.mesos.", "root.ns1.mesos.", str(responder.view.serial), "60", "600", "86400", "60"]
    reply = ask(responder, "mesos", "NS")
    assert answers(reply) == ["ns1.mesos."]
    assert extras(reply) == ["ns1.mesos. 127.0.0.1"]
    assert answers(ask(responder, "ns1.mesos")) == ["127.0.0.1"]


NEGATIVE = [
    ("mesos", "A", "NOERROR"),
    ("marathon.slave.mesos", "A", "NOERROR"),  # an empty non-terminal (RFC 8020)
    ("_tcp.marathon.mesos", "SRV", "NOERROR"),
    ("web.marathon.mesos", "AAAA", "NOERROR"),
    ("web.marathon.mesos", "TXT", "NOERROR"),
    ("web.marathon.mesos", "HTTPS", "NOERROR"),
    ("web.marathon.mesos", "DS", "NOERROR"),
    ("web.marathon.mesos", "TYPE65399", "NOERROR"),
    ("web.marathon.mesos", "SOA", "NOERROR"),
    ("web.marathon.mesos", "NS", "NOERROR"),
    ("nope.marathon.mesos", "A", "NXDOMAIN"),
    ("nope.marathon.mesos", "SRV", "NXDOMAIN"),
    ("nope.marathon.mesos", "SOA", "NXDOMAIN"),
    ("nope.marathon.mesos", "ANY", "NXDOMAIN"),
    ("lea.*der.mesos", "A", "NXDOMAIN"),  # mesos-dns drops ".*"
    ("*.mesos", "A", "NXDOMAIN"),
    ("a\\.b.mesos", "A", "NXDOMAIN"),
    ("x.web.marathon.mesos", "A", "NXDOMAIN"),
]


@pytest.mark.parametrize(("name", "rtype", "rcode"), NEGATIVE)
def test_negative_answers(name: str, rtype: str, rcode: str) -> None:
    # RFC 2308: the SOA of the zone (not of the name) with the lower of its TTL and its minimum.
    responder = responder_of(task(host_ports=(1,)), Leadership(Endpoint("10.0.0.11")), soa_minttl=9)
    reply = ask(responder, name, rtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.answer == []
    assert has_flag(reply, AA)
    (authority,) = reply.authority
    assert (authority.name.to_text(), authority.rdtype, authority.ttl) == ("mesos.", 6, 9)


def test_negative_answers_show_the_serial_of_now() -> None:
    responder = responder_of()
    for _ in range(2):
        (authority,) = ask(responder, "nope.mesos").authority
        assert authority[0].serial == responder.view.serial
        responder.view.serial += 1


@pytest.mark.parametrize("name", ["web.marathon.mesos", "a.b.marathon.mesos", f"a.b{unique()}.marathon.mesos"])
def test_dotted_names_and_what_is_above_them(name: str) -> None:
    responder = responder_of(task(name="web", discovery_name="a.b" if name.startswith("a.b") else ""))
    assert answers(ask(responder, name)) == ["9.0.0.1"]
    parent = name.partition(".")[2]
    reply = ask(responder, parent, "TXT")
    assert (reply.rcode(), reply.answer) == (0, [])


def test_before_anybody_said_what_runs_no_name_is_absent() -> None:
    # A negative answer would be kept by clients after the first snapshot; SERVFAIL is not (RFC 2308 §7.1).
    view = view_of(*plain_zone())
    view.known = lambda: False
    responder = Responder(view, view.config)
    for name, rtype in (("web.marathon.mesos", "A"), ("nope.mesos", "A"), ("slave.mesos", "AAAA")):
        reply = ask(responder, name, rtype)
        assert (reply.rcode(), reply.answer, reply.authority) == (dns.rcode.SERVFAIL, [], [])
        assert not has_flag(reply, AA)
    assert answers(ask(responder, "slave.mesos")) == ["10.1.0.1"]
    assert answers(ask(responder, "www.example.org")) == ["10.7.0.1", "10.7.0.2"]
    assert ask(responder, "nope.example.org").rcode() == 3  # files say all there is
    view.known = lambda: True
    assert ask(responder, "nope.mesos").rcode() == 3


# --- ANY ------------------------------------------------------------------------------------------


def test_any_is_answered_with_one_record_set() -> None:
    # RFC 8482 §4.1.
    dual = task(networks=(Network("a", ("9.0.0.1", "fd00::1")),), host_ports=(31000,))
    responder = responder_of(dual, *plain_zone())
    assert answers(ask(responder, "web.marathon.mesos", "ANY")) == ["9.0.0.1"]
    assert answers(ask(responder, "_web._tcp.marathon.mesos", "ANY"))[0].startswith("0 1 31000")
    assert answers(ask(responder, "mesos", "ANY")) == ["ns1.mesos."]
    assert answers(ask(responder, "www.example.org", "ANY")) == ["10.7.0.1", "10.7.0.2"]
    assert answers(ask(responder, "alias.example.org", "ANY")) == ["second.example.org."]


# --- plain zones ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def org() -> Responder:
    return responder_of(task(), *plain_zone())


def test_a_plain_zone_answers_with_its_own_soa_and_ttls(org: Responder) -> None:
    reply = ask(org, "www.example.org")
    assert answers(reply) == ["10.7.0.1", "10.7.0.2"]
    assert reply.answer[0].ttl == 7
    assert answers(ask(org, "example.org", "SOA")) == ["ns.example.org. admin.example.org. 7 3600 600 86400 30"]
    (authority,) = ask(org, "nope.example.org").authority
    assert (authority.name.to_text(), authority.ttl, authority[0].serial) == ("example.org.", 30, 7)


def test_a_chain_of_cnames(org: Responder) -> None:
    reply = ask(org, "Alias.example.org")
    assert [rrset.name.to_text() for rrset in reply.answer] == [
        "Alias.example.org.",
        "second.example.org.",
        "www.example.org.",
    ]
    assert [rrset.ttl for rrset in reply.answer] == [3, 300, 7]
    assert answers(ask(org, "alias.example.org", "CNAME")) == ["second.example.org."]


@pytest.mark.parametrize(
    ("name", "last", "rcode"),
    [
        ("cluster.example.org", "9.0.0.1", 0),  # into the cluster's domain
        ("out.example.org", "www.example.net.", 0),  # out of our zones: the client goes on
        ("nowhere.example.org", "missing.a.ent.example.org.", 3),  # RFC 6604: the last name's rcode
    ],
)
def test_where_a_chain_ends(org: Responder, name: str, last: str, rcode: int) -> None:
    reply = ask(org, name)
    assert reply.answer[-1][0].to_text() == last
    assert reply.rcode() == rcode
    assert bool(reply.authority) == (rcode == 3)
    assert has_flag(reply, AA)


def test_a_chain_ends_with_no_data(org: Responder) -> None:
    reply = ask(org, "alias.example.org", "AAAA")
    assert len(reply.answer) == 2
    assert reply.rcode() == 0
    assert reply.authority[0].name.to_text() == "example.org."


def test_a_loop_of_cnames_ends(org: Responder) -> None:
    reply = ask(org, "loop.example.org")
    assert reply.rcode() == 0
    assert len(reply.answer) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.wild.example.org", ["10.7.0.1"]),
        ("y.x.wild.example.org", ["10.7.0.1"]),
        ("host.sub.wild.example.org", ["10.7.0.2"]),
        ("sub.wild.example.org", []),  # exists as an empty non-terminal: no wildcard (RFC 4592 §2.2.2)
        ("other.sub.wild.example.org", None),  # the closest encloser is sub.wild
        ("*.wild.example.org", ["10.7.0.1"]),
        ("wild.example.org", []),
    ],
)
def test_wildcards(org: Responder, name: str, expected: list[str] | None) -> None:
    reply = ask(org, name)
    assert reply.rcode() == (3 if expected is None else 0)
    assert answers(reply) == (expected or [])
    if expected:
        assert reply.answer[0].name.to_text() == name + "."


def test_a_wildcard_without_the_type(org: Responder) -> None:
    reply = ask(org, "x.wild.example.org", "AAAA")
    assert (reply.rcode(), reply.answer) == (0, [])


def test_a_wildcard_in_the_domain_comes_from_files_only() -> None:
    # A task called "*" would else answer for every other name of its framework.
    responder = responder_of(task(discovery_name="*"), static("*.apps.mesos.", "A", ONE))
    assert answers(ask(responder, "shop.apps.mesos")) == ["10.7.0.1"]
    assert ask(responder, "nope.marathon.mesos").rcode() == 3
    assert answers(ask(responder, "*.marathon.mesos")) == ["9.0.0.1"]


@pytest.mark.parametrize(
    "name", ["sub.example.org", "www.sub.example.org", "ns.sub.example.org", "x.deep.sub.example.org"]
)
@pytest.mark.parametrize("rtype", ["A", "NS", "SRV", "ANY"])
def test_a_delegation_is_referred(org: Responder, name: str, rtype: str) -> None:
    reply = ask(org, name, rtype)
    assert (reply.rcode(), reply.answer) == (0, [])
    assert not has_flag(reply, AA)
    (authority,) = reply.authority
    assert authority.name.to_text() == "sub.example.org."
    assert sorted(rdata.to_text() for rdata in authority) == ["ns.net.", "ns.sub.example.org."]
    assert extras(reply) == ["ns.sub.example.org. 10.7.0.2"]


def test_the_ds_of_a_delegation_belongs_to_the_parent(org: Responder) -> None:
    reply = ask(org, "sub.example.org", "DS")
    assert has_flag(reply, AA)
    assert reply.authority[0].rdtype == 6
    assert not has_flag(ask(org, "x.sub.example.org", "DS"), AA)


def test_a_chain_into_a_delegation_keeps_what_it_has(org: Responder) -> None:
    reply = ask(org, "into.example.org")
    assert answers(reply) == ["www.sub.example.org."]
    assert has_flag(reply, AA)
    assert reply.authority[0].name.to_text() == "sub.example.org."
    assert extras(reply) == ["ns.sub.example.org. 10.7.0.2"]


def test_a_referral_whose_addresses_do_not_fit_is_truncated() -> None:
    # RFC 9471: in-domain glue is not optional.
    addresses = [bytes([10, 8, 0, number]) for number in range(40)]
    org = responder_of(*plain_zone(), static("ns.sub.example.org.", "A", *addresses, zone="example.org."))
    reply = ask(org, "www.sub.example.org")
    assert has_flag(reply, TC)
    whole = ask(org, "www.sub.example.org", transport="tcp")
    assert not has_flag(whole, TC)
    assert len(extras(whole)) == 40


# --- reverse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("1.0.0.9.in-addr.arpa", f"web{unique()}.marathon.mesos."),
        ("1.0.1.10.IN-addr.arpa", "slave.mesos."),
        (".".join("1" + "0" * 27 + "00df") + ".ip6.arpa", f"web{unique()}.marathon.mesos."),
    ],
)
def test_pointers(name: str, target: str) -> None:
    responder = responder_of(task(networks=(Network("a", ("9.0.0.1", "fd00::1")),)))
    reply = ask(responder, name, "PTR")
    assert answers(reply) == [target]
    assert has_flag(reply, AA)
    assert reply.answer[0].ttl == 60
    assert answers(ask(responder, name, "ANY")) == [target]
    (forward,) = {rdata.address for rdata in ask(responder, target, "AAAA" if "ip6" in name else "A").answer[0]}
    assert dns.message.make_query(name, "PTR").question[0].name == __import__(
        "dns.reversename"
    ).reversename.from_address(forward)


def test_other_types_of_a_reverse_name() -> None:
    responder = responder_of(task())
    reply = ask(responder, "1.0.0.9.in-addr.arpa", "TXT")
    assert (reply.rcode(), reply.answer) == (0, [])
    assert reply.authority[0].rdtype == 6
    assert answers(ask(responder, "1.0.0.9.in-addr.arpa", "NS")) == ["ns1.mesos."]


@pytest.mark.parametrize("name", ["2.0.0.9.in-addr.arpa", "0.0.9.in-addr.arpa", "x.in-addr.arpa", "e164.arpa", "arpa"])
def test_reverse_names_that_we_do_not_know_are_not_ours(name: str) -> None:
    assert ask(responder_of(task()), name, "PTR").rcode() == dns.rcode.REFUSED


# --- rotation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize(
    "between",
    [[], [("web.marathon.mesos", "AAAA")], [("web.marathon.mesos", "AAAA"), ("slave.mesos", "A"), ("mesos", "NS")]],
)
def test_rotation_is_even_whatever_is_asked_between(count: int, between: list[tuple[str, str]]) -> None:
    # Clients ask A and AAAA in turn: a common count of answers gave them always the same order.
    responder = responder_of(*(task(number) for number in range(count)))
    found: Counter[bytes] = Counter()
    for _ in range(100 * count):
        reply = ask_raw(responder, packet("web.marathon.mesos"))
        found[reply[-16 * count :][12:16]] += 1
        for other, rtype in between:
            ask_raw(responder, packet(other, rtype))
    assert len(found) == count
    assert min(found.values()) > 90
    assert max(found.values()) < 110


def test_a_chain_is_not_rotated(org: Responder) -> None:
    for _ in range(4):
        assert ask(org, "alias.example.org").answer[0].name.to_text() == "alias.example.org."


# --- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [29, 30, 31, 100])
def test_truncation_only_when_answers_do_not_fit(count: int) -> None:
    responder = responder_of(*(task(number, "w") for number in range(count)))
    query = packet("w.marathon.mesos")
    fits = (512 - len(query)) // 16
    reply = ask_raw(responder, query)
    message = dns.message.from_wire(reply, ignore_trailing=False)
    assert has_flag(message, TC) == (count > fits)
    assert len(answers(message)) == min(count, fits)
    assert len(reply) <= 512
    assert len(answers(ask(responder, "w.marathon.mesos", transport="tcp"))) == count


def test_truncated_answers_differ() -> None:
    responder = responder_of(*(task(number) for number in range(100)))
    seen = {address for _ in range(40) for address in answers(ask(responder, "web.marathon.mesos"))}
    assert len(seen) == 100


@pytest.mark.parametrize("payload", [None, 0, 512, 700, 1232, 1400, 4096, 65535])
def test_udp_answers_keep_to_both_limits(payload: int | None) -> None:
    responder = responder_of(*(task(number, host_ports=(31000,)) for number in range(60)), max_udp_payload=1400)
    limit = min(max(payload or 0, 512), 1400)
    for name, rtype in (("web.marathon.mesos", "A"), ("_web._tcp.marathon.mesos", "SRV")):
        reply = ask_raw(responder, packet(name, rtype, payload=payload))
        assert len(reply) <= limit
        message = dns.message.from_wire(reply, ignore_trailing=False)
        assert (message.edns == 0) == (payload is not None)
        if payload is not None:
            assert message.payload == 1400


def services(count: int, addresses: int = 1) -> Responder:
    """`count` tasks of a named port, each with several addresses."""
    return responder_of(
        *(
            task(
                number,
                discovery_name="web",
                ports=(Port(80, "", "tcp"),),
                networks=(Network("a", tuple(f"9.{number}.0.{n + 1}" for n in range(addresses))),),
            )
            for number in range(count)
        )
    )


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("addresses", [1, 3])
def test_glue_is_dropped_before_answers(count: int, addresses: int) -> None:
    responder = services(count, addresses)
    for transport in ("udp", "tcp"):
        for _ in range(8):
            reply = ask(responder, "_web._tcp.marathon.mesos", "SRV", transport)
            assert not has_flag(reply, TC)
            assert len(answers(reply)) == count
            assert {len(rrset) for rrset in reply.additional} <= {addresses}  # whole sets (RFC 2181 §9)
            for rrset in reply.additional:
                (number,) = {rdata.address.split(".")[1] for rdata in rrset}
                assert rrset.name.to_text() == f"web{unique(int(number))}.marathon.mesos."
            if transport == "tcp":
                assert len(reply.additional) == count


def test_compact_glue_reads_right_at_every_rotation() -> None:
    responder = services(6)
    compact, targets = 0, set()
    for _ in range(100):
        reply = ask_raw(responder, packet("_web._tcp.marathon.mesos", "SRV"))
        message = dns.message.from_wire(reply, ignore_trailing=False)
        assert len(answers(message)) == 6
        compact += reply.count(f"web{unique(0)}".encode()) == 1 and len(message.additional) > 0
        for rrset in message.additional:
            targets.add(rrset.name.to_text())
            assert rrset[0].address == f"9.{[unique(n) for n in range(6)].index(rrset.name.to_text()[3:12])}.0.1"
    assert compact > 50
    assert len(targets) == 6


def test_a_service_of_many_instances_over_tcp() -> None:
    responder = services(200)
    reply = ask(responder, "_web._tcp.marathon.mesos", "SRV", "tcp")
    assert len(answers(reply)) == len(reply.additional) == 200
    assert not has_flag(reply, TC)


def test_glue_beyond_the_reach_of_pointers_is_left_out() -> None:
    # 1,400 answers leave little room in a TCP message; pointers reach its first 16 KiB only.
    answer = compile_answer(services(240).view, _query("_web._tcp.marathon.mesos", "SRV"))
    assert answer is not None
    for limit in range(len(answer.wire), len(answer.wire) + 8000, 97):
        reply = answer.encode(_query("_web._tcp.marathon.mesos", "SRV"), limit, 1 << 31, 0, b"")
        message = dns.message.from_wire(reply, ignore_trailing=False)
        assert len(reply) <= limit
        for rrset in message.additional:
            assert rrset.name.to_text().startswith("web-")


def test_more_than_a_tcp_message_holds() -> None:
    responder = responder_of(*(Node(f"agent-S{n}", "h", (f"10.{n >> 8}.{n & 255}.9",), 5051) for n in range(5000)))
    reply = ask_raw(responder, packet("slave.mesos"), "tcp")
    assert 65000 < len(reply) <= 65535
    message = dns.message.from_wire(reply, ignore_trailing=False)
    assert has_flag(message, TC)
    assert len(answers(message)) == (65535 - 12 - 17) // 16


def _query(name: str, rtype: str = "A") -> Query:
    query = read_query(packet(name, rtype))
    assert isinstance(query, Query)
    return query


def test_an_answer_by_hand() -> None:
    records = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + bytes([10, 0, 0, n]) for n in range(3)]
    answer = Answer(0, records, glue=[Glue(1, 12, b"\0", (b"rest",))])
    assert answer.offsets == (0, 16, 32, 48)
    for turn, first in ((0, 0), ((1 << 32) // 3 + 1, 1), ((1 << 32) - 1, 2)):
        reply = answer.encode(_query("a.b"), 512, turn, 0, b"")
        assert reply[21 + 15] == first
        assert reply.endswith(b"\0rest")


# --- names at their limits --------------------------------------------------------------------------


def test_names_at_their_limits_never_break_a_packet() -> None:
    lengths = range(50, 64)
    responder = responder_of(
        *(
            task(n, "w" * n, discovery_name="w" * n, ports=(Port(80, "p" * 63, "tcp"),), host_ports=(1,))
            for n in lengths
        )
    )
    for n in lengths:
        for name, rtype in (
            (f"{'w' * n}.marathon.mesos", "A"),
            (f"_{'w' * n}._tcp.marathon.mesos", "SRV"),
            (f"_{'p' * 63}._{'w' * n}._tcp.marathon.mesos", "SRV"),
        ):
            if any(len(label) > 63 for label in name.split(".")):
                continue
            reply = ask(responder, name, rtype)
            target_fits = n + len(unique(n)) <= 63
            assert bool(reply.answer) == (rtype == "A" or target_fits)


def test_a_target_that_fits_the_domain_but_not_its_copy() -> None:
    # In the copy the owner has 254 octets, its target 257.
    name = ".".join(["d" * 60, "e" * 60, "f" * 60, "w" * 23])
    responder = responder_of(task(discovery_name=name, host_ports=(1,)))
    owner = f"_{name}._tcp.marathon.slave.mesos"
    assert answers(ask(responder, owner, "SRV")) == [f"0 1 1 {name}{unique()}.marathon.slave.mesos."]
    reply = ask(responder, f"{owner}.thisdcos.directory", "SRV")
    assert (reply.rcode(), reply.answer) == (0, [])


@pytest.mark.parametrize(
    ("name", "rtype", "zone", "cluster", "bucket"),
    [
        ("web.marathon.mesos", "A", "mesos", True, b""),
        ("web.marathon.mesos", "TXT", "mesos", True, b"\3\5mesos\0"),
        ("nope.mesos", "A", "mesos", True, b"\2\5mesos\0"),
        ("1.0.0.9.in-addr.arpa", "PTR", "mesos", True, b""),
        ("1.0.0.9.in-addr.arpa", "A", "mesos", True, b""),
        ("www.example.org", "A", "example.org", False, b""),
        ("x.wild.example.org", "A", "example.org", False, b"\1\7example\3org\0"),
        ("x.sub.example.org", "A", "example.org", False, b"\4\7example\3org\0"),
        ("cluster.example.org", "A", "example.org", True, b""),
        ("nowhere.example.org", "A", "example.org", False, b"\2\7example\3org\0"),
    ],
)
def test_where_an_answer_is_from(name: str, rtype: str, zone: str, cluster: bool, bucket: bytes) -> None:
    answer = compile_answer(view_of(task(), *plain_zone()), _query(name, rtype))
    assert answer is not None
    assert answer.zone is not None
    assert (answer.zone.origin.rstrip("."), answer.cluster, answer.bucket) == (zone, cluster, bucket)
    assert answer.extended_error is None


def test_before_anything_is_known() -> None:
    view = view_of(task())
    view.known = lambda: False
    answer = compile_answer(view, _query("nope.mesos"))
    assert answer is not None
    assert (answer.rcode, answer.cluster, answer.bucket, answer.extended_error) == (2, False, b"\5\2", 14)


def test_what_an_answer_depends_on() -> None:
    view = view_of(task(host_ports=(1,)), *plain_zone())

    def depends(name: str, rtype: str = "A") -> set[tuple[str, str]]:
        answer = compile_answer(view, _query(name, rtype))
        assert answer is not None
        return set(answer.depends)

    assert depends("web.marathon.mesos") == {("domain", "web.marathon")}
    assert depends("_web._tcp.marathon.mesos", "SRV") == {
        ("domain", "_web._tcp.marathon"),
        ("domain", f"web{unique()}.marathon.slave"),
    }
    assert depends("cluster.example.org") == {("static:example.org", "cluster"), ("domain", "web.marathon")}
    # Below a plain zone's apex, a delegation may come at every name above.
    assert depends("x.a.ent.example.org") == {("static:example.org", n) for n in ("x.a.ent", "a.ent", "ent")}
    for never_kept in ("nope.mesos", "x.wild.example.org", "www.sub.example.org", "nowhere.example.org"):
        assert depends(never_kept) == set()


def test_a_name_that_is_its_own_service() -> None:
    view = ZoneView(
        DnsConfig(),
        extra=Extra(
            ("web.marathon", A, b"\x0b\0\0\7"),
            ("web.marathon", AAAA, b"\xfd\1\0\x0c" + bytes(11) + b"\7"),
            ("web.marathon", SRV, (80, "web.marathon")),
            ("web.marathon", SRV, (443, "web.marathon")),
        ),
    )
    view.fill_extra()
    responder = Responder(view, view.config)
    name = "web.marathon.l4lb.thisdcos.directory"
    reply = ask(responder, name, "SRV")
    assert answers(reply) == [f"0 1 443 {name}.", f"0 1 80 {name}."]
    assert extras(reply) == [f"{name}. 11.0.0.7", f"{name}. fd01:c::7"]


def test_reverse_names_of_virtual_addresses_are_of_their_zone() -> None:
    view = ZoneView(DnsConfig(), extra=Extra(("web.marathon", A, b"\x0b\0\0\7")))
    view.fill_extra()
    responder = Responder(view, view.config)
    name = dns.reversename.from_address("11.0.0.7").to_text()
    reply = ask(responder, name, "PTR")
    assert answers(reply) == ["web.marathon.l4lb.thisdcos.directory."]
    assert reply.answer[0].ttl == view.config.directory_ttl
    assert ask(responder, name, "A").authority[0].ttl == view.config.directory_ttl
    assert ask(responder, name, "SOA").answer[0][0].serial == view.serial
    assert ask(responder, "8.0.0.11.in-addr.arpa", "PTR").rcode() == dns.rcode.REFUSED
