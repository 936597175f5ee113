"""Packets in, decisions out: errors, limits, what is kept, and whom other names go to."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import msgspec
import pytest

from mesos_dns.message import SERVFAIL
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import (
    AGENT,
    answers,
    ask,
    ask_raw,
    drop,
    extras,
    has_flag,
    packet,
    put,
    responder_of,
    soa,
    static,
    task,
    view_of,
)

RA, AA = dns.flags.RA, dns.flags.AA
UPSTREAM = ("192.0.2.53", 53)


def rcode(responder: Responder, query: bytes) -> str:
    return dns.rcode.to_text(dns.message.from_wire(ask_raw(responder, query), ignore_trailing=False).rcode())


# --- errors ---------------------------------------------------------------------------------------


def test_an_unknown_edns_version() -> None:
    # RFC 6891 §6.1.3: BADVERS, with an OPT record of the version that we know.
    responder = responder_of(task())
    query = dns.message.make_query("web.marathon.mesos", "A")
    query.use_edns(1, payload=1232)
    reply = dns.message.from_wire(ask_raw(responder, query.to_wire()), ignore_trailing=False)
    assert dns.rcode.to_text(reply.rcode()) == "BADVERS"
    assert (reply.edns, reply.payload) == (0, 1232)
    assert reply.answer == []
    assert reply.question == query.question


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"\x12\x34\x01\0\0\0\0\0\0\0\0\0", "FORMERR"),
        (b"\x12\x34\x01\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2, "FORMERR"),
        (b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + b"\1a", "FORMERR"),
        (b"\x12\x34\x28\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\6\0\1", "NOTIMP"),  # UPDATE
        (b"\x12\x34\x10\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\1\0\1", "NOTIMP"),  # STATUS
        (b"\x12\x34\x20\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\6\0\1", "NOTIMP"),  # NOTIFY
    ],
)
def test_errors_for_what_cannot_be_read(query: bytes, expected: str) -> None:
    responder = responder_of()
    reply = ask_raw(responder, query)
    assert reply[:2] == query[:2]
    assert reply[2] & 0xF8 == 0x80 | query[2] & 0x78
    assert dns.rcode.to_text(dns.rcode.Rcode(reply[3] & 15)) == expected
    assert not reply[2] & 4
    assert responder.counters.queries["udp", "bad"] == 1


@pytest.mark.parametrize("query", [b"", b"\0" * 11, b"\x12\x34\x81\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"])
def test_what_is_dropped(query: bytes) -> None:
    responder = responder_of()
    assert responder.respond(query, "udp") is None
    assert responder.counters.dropped == 1


@pytest.mark.parametrize("name", ["web.marathon.mesos", "www.example.net", "version.bind", "1.0.0.9.in-addr.arpa"])
@pytest.mark.parametrize("rclass", ["CH", "HS", "NONE"])
def test_other_classes_are_refused_and_not_forwarded(name: str, rclass: str) -> None:
    query = dns.message.make_query(name, "TXT", rclass)
    assert rcode(responder_of(task(), forward=("192.0.2.53",)), query.to_wire()) == "REFUSED"


def test_class_any_is_class_in() -> None:
    query = dns.message.make_query("web.marathon.mesos", "A", "ANY")
    assert answers(dns.message.from_wire(ask_raw(responder_of(task()), query.to_wire())))


@pytest.mark.parametrize("name", ["mesos", "web.marathon.mesos", "www.example.net"])
@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_zone_transfers_are_refused(name: str, rtype: str, transport: str) -> None:
    responder = responder_of(task(), forward=("192.0.2.53",))
    reply = ask_raw(responder, packet(name, rtype), transport)
    assert reply[3] & 15 == dns.rcode.REFUSED


def test_a_refusal_has_edns_too() -> None:
    reply = ask(responder_of(), "www.example.net", payload=1232)
    assert (reply.rcode(), reply.edns) == (dns.rcode.REFUSED, 0)
    assert not has_flag(reply, AA)


@pytest.mark.parametrize("flags", [0, 0x8000])
def test_dnssec_ok_comes_back(flags: int) -> None:
    # RFC 3225 §3; the rest of the extended flags does not.
    reply = ask(responder_of(task()), "web.marathon.mesos", payload=1232, ednsflags=flags | 0x7FFF)
    assert reply.ednsflags == flags


# --- kept answers ---------------------------------------------------------------------------------


def test_an_answer_is_compiled_once() -> None:
    responder = responder_of(task(host_ports=(1,)))
    for _ in range(3):
        ask(responder, "web.marathon.mesos")
        ask(responder, "_web._tcp.marathon.mesos", "SRV")
    assert responder.counters.compiled == 2
    assert responder.counters.reused == 4


def test_a_change_drops_what_it_touches_and_nothing_else() -> None:
    responder = responder_of(task(0, host_ports=(1,)), task(1, "db"))
    names = [("web.marathon.mesos", "A"), ("_web._tcp.marathon.mesos", "SRV"), ("db.marathon.mesos", "A")]
    for name, rtype in names:
        ask(responder, name, rtype)
    responder.view.apply(put(task(0, host_ports=(2,))))
    for name, rtype in names:
        ask(responder, name, rtype)
    assert responder.counters.compiled == 5
    assert answers(ask(responder, "_web._tcp.marathon.mesos", "SRV"))[0].startswith("0 1 2 ")


def test_glue_follows_its_agent() -> None:
    responder = responder_of(task(host_ports=(1,)))
    assert extras(ask(responder, "_web._tcp.marathon.mesos", "SRV"))[0].endswith("10.1.0.1")
    responder.view.apply(put(msgspec.structs.replace(AGENT, addresses=("10.1.0.9",))))
    assert extras(ask(responder, "_web._tcp.marathon.mesos", "SRV"))[0].endswith("10.1.0.9")


def test_a_wildcard_that_changes() -> None:
    # Its answers did not depend on it, so the old one was served for ever.
    responder = responder_of(static("*.apps.mesos.", "A", b"\x0a\0\0\1"))
    assert answers(ask(responder, "x.apps.mesos")) == ["10.0.0.1"]
    responder.view.apply(put(static("*.apps.mesos.", "A", b"\x0a\0\0\2")))
    assert answers(ask(responder, "x.apps.mesos")) == ["10.0.0.2"]
    responder.view.apply(put(static("y.x.apps.mesos.", "A", b"\x0a\0\0\3")))
    assert answers(ask(responder, "x.apps.mesos")) == []
    responder.view.apply(drop(static("y.x.apps.mesos.", "A").key, static("*.apps.mesos.", "A").key))
    assert ask(responder, "x.apps.mesos").rcode() == 3


def test_a_delegation_that_comes_above_a_kept_answer() -> None:
    zone = "example.org."
    responder = responder_of(
        static(zone, "SOA", soa(), zone=zone), static("www.sub.example.org.", "A", b"\x0a\0\0\1", zone=zone)
    )
    assert answers(ask(responder, "www.sub.example.org")) == ["10.0.0.1"]
    cut = static("sub.example.org.", "NS", name_to_wire("ns.net"), zone=zone)
    responder.view.apply(put(cut))
    assert answers(ask(responder, "www.sub.example.org")) == []
    responder.view.apply(drop(cut.key))
    assert answers(ask(responder, "www.sub.example.org")) == ["10.0.0.1"]


def test_a_zone_that_comes_and_goes_above_a_kept_answer() -> None:
    responder = responder_of(task(discovery_name="www.sub"))
    assert answers(ask(responder, "www.sub.marathon.mesos")) == ["9.0.0.1"]
    apex = static("marathon.mesos.", "SOA", soa(), zone="marathon.mesos.")
    responder.view.apply(put(apex))
    assert ask(responder, "www.sub.marathon.mesos").rcode() == 3
    responder.view.apply(drop(apex.key))
    assert answers(ask(responder, "www.sub.marathon.mesos")) == ["9.0.0.1"]


# --- other names ----------------------------------------------------------------------------------

FORWARD = {
    "forward": ("192.0.2.53",),
    "zones": {
        "corp.example": ("192.0.2.1", "192.0.2.2:5353"),
        "deep.Corp.example": ("[2001:db8::1]:53",),
        "consul.mesos": ("192.0.2.3",),
        "10.in-addr.arpa": ("192.0.2.4",),
    },
}


@pytest.mark.parametrize(
    ("name", "upstreams"),
    [
        ("www.example.net", (UPSTREAM,)),
        ("corp.example", (("192.0.2.1", 53), ("192.0.2.2", 5353))),
        ("A.b.CORP.example", (("192.0.2.1", 53), ("192.0.2.2", 5353))),
        ("x.deep.corp.example", (("2001:db8::1", 53),)),
        ("xcorp.example", (UPSTREAM,)),
        ("db.consul.mesos", (("192.0.2.3", 53),)),
        ("3.2.1.10.in-addr.arpa", (("192.0.2.4", 53),)),
        ("3.2.1.11.in-addr.arpa", (UPSTREAM,)),
        ("com", (UPSTREAM,)),
        (".", (UPSTREAM,)),
    ],
)
def test_where_other_names_go(name: str, upstreams: tuple[tuple[str, int], ...]) -> None:
    responder = responder_of(task(), **FORWARD)
    decision = responder.respond(packet(name), "udp")
    assert isinstance(decision, Forward)
    assert decision.upstreams == upstreams
    assert responder.counters.forwarded["sent"] == 1


def test_our_own_names_are_not_forwarded() -> None:
    responder = responder_of(task(), zones={"mesos": ("192.0.2.1",)}, forward=("192.0.2.53",))
    assert answers(ask(responder, "web.marathon.mesos")) == ["9.0.0.1"]
    assert ask(responder, "nope.mesos").rcode() == 3
    assert answers(ask(responder, "1.0.0.9.in-addr.arpa", "PTR"))


def test_a_forward_zone_for_the_root() -> None:
    responder = responder_of(zones={".": ("192.0.2.1",)})
    decision = responder.respond(packet("www.example.net"), "udp")
    assert isinstance(decision, Forward)
    assert decision.upstreams == (("192.0.2.1", 53),)


def test_a_forward_zone_over_a_name_that_we_would_point_back() -> None:
    responder = responder_of(task(), zones={"9.in-addr.arpa": ("192.0.2.1",)})
    assert isinstance(responder.respond(packet("1.0.0.9.in-addr.arpa", "PTR"), "udp"), Forward)


def test_what_we_do_not_know_of_a_reverse_name_is_forwarded() -> None:
    responder = responder_of(task(), forward=("192.0.2.53",))
    assert isinstance(responder.respond(packet("1.0.0.9.in-addr.arpa", "TXT"), "udp"), Forward)
    assert answers(ask(responder, "1.0.0.9.in-addr.arpa", "PTR"))


@pytest.mark.parametrize(
    ("config", "available"),
    [
        ({}, False),
        ({"forward": ("192.0.2.53",)}, True),
        ({"zones": {"corp.example": ("192.0.2.1",)}}, True),
        ({"forward": ("192.0.2.53",), "recursion": False}, False),
    ],
)
def test_recursion_available(config: dict[str, object], available: bool) -> None:
    responder = responder_of(task(), **config)
    for name in ("web.marathon.mesos", "nope.mesos"):
        assert has_flag(ask(responder, name), RA) is available
    notimp = ask_raw(responder, b"\x12\x34\x10\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1")
    assert bool(notimp[3] & 0x80) is available


def test_refused_when_forwarding_is_off() -> None:
    reply = ask(responder_of(), "www.example.net")
    assert reply.rcode() == dns.rcode.REFUSED
    assert not has_flag(reply, AA)
    assert reply.authority == []


def test_a_failure_of_a_forwarded_question() -> None:
    responder = responder_of(**FORWARD)
    decision = responder.respond(packet("www.example.net", payload=1232), "udp")
    assert isinstance(decision, Forward)
    reply = dns.message.from_wire(responder.failure(decision.query, SERVFAIL, "udp"), ignore_trailing=False)
    assert dns.rcode.to_text(reply.rcode()) == "SERVFAIL"
    assert has_flag(reply, RA)
    assert not has_flag(reply, AA)
    assert reply.edns == 0


def test_counters() -> None:
    responder = responder_of(*(task(number) for number in range(60)))
    ask(responder, "web.marathon.mesos")
    ask(responder, "web.marathon.mesos", transport="tcp")
    ask(responder, "nope.mesos", "TYPE4711")
    counters = responder.counters
    assert counters.queries == {("udp", "A"): 1, ("tcp", "A"): 1, ("udp", "other"): 1}
    assert counters.responses == {
        ("udp", "mesos", "A", 0, "slow"): 1,
        ("tcp", "mesos", "A", 0, "slow"): 1,
        ("udp", "mesos", "other", 3, "slow"): 1,
    }
    assert counters.truncated == 1


def test_a_responder_shares_counters_that_it_is_given() -> None:
    view = view_of(task())
    first = Responder(view, view.config)
    second = Responder(view, view.config, first.counters)
    ask(second, "web.marathon.mesos")
    assert first.counters.compiled == 1
