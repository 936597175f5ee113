"""The odd queries of RFC 8906 §8 and their proper answers, from dnspython, dig and kdig to a running server."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from mesos_dns.config import DnsConfig
from tests.fakes.dns_serving import on_a_thread
from tests.fakes.questions import responder_of, task

Address = tuple[str, int]
ZONE = "mesos"
AA, AD, CD, DO, TC = dns.flags.AA, dns.flags.AD, dns.flags.CD, dns.flags.DO, dns.flags.TC
Z = 0x0040
UNKNOWN = dns.edns.GenericOption(dns.edns.OptionType.make(100), b"")


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    """A server on a thread of its own; (host, port)."""
    responder = responder_of(*(task(number) for number in range(60)))
    with on_a_thread(DnsConfig(listen=("127.0.0.1:0",)), responder) as running:
        yield running.addresses[0]


class Case(NamedTuple):
    """A query to the zone's apex and its answer. `edns`: None for none, else the version; `want`: "soa" for
    the SOA record in the answer, "nodata" for it in AUTHORITY, "" for no record."""

    name: str
    rtype: str = "SOA"
    rclass: str = "IN"
    flags: int = 0
    opcode: int = 0
    edns: int | None = None
    ednsflags: int = 0
    options: tuple[dns.edns.Option, ...] = ()
    rcode: str = "NOERROR"
    want: str = "soa"
    question: bool = True


CASES = (
    Case("plain"),  # §8.1.1
    Case("unknown type", rtype="TYPE1000", want="nodata"),  # §8.1.2
    Case("CD", flags=CD),  # §8.1.3
    Case("AD", flags=AD),
    Case("Z", flags=Z),
    Case("all flags of answers", flags=AA | TC | dns.flags.RA),
    *(
        Case(f"opcode {opcode}", opcode=opcode, rcode="NOTIMP", want="", question=False)  # §8.1.4
        for opcode in (1, 2, 3, 6, 15)
    ),
    Case("no question", rcode="FORMERR", want="", question=False),
    Case("unknown class", rclass="CLASS1000", rcode="REFUSED", want=""),
    Case("CHAOS", rtype="TXT", rclass="CH", rcode="REFUSED", want=""),
    Case("ANY", rtype="ANY"),
    Case("EDNS", edns=0),  # §8.2.1
    Case("EDNS version 1", edns=1, rcode="BADVERS", want=""),  # §8.2.2
    Case("EDNS version 255", edns=255, rcode="BADVERS", want=""),
    Case("unknown option", edns=0, options=(UNKNOWN,)),  # §8.2.3
    Case("unknown flags", edns=0, ednsflags=0x0040),  # §8.2.4
    Case("version 1, unknown flags", edns=1, ednsflags=0x7FFF, rcode="BADVERS", want=""),  # §8.2.5
    Case("version 1, unknown option", edns=1, options=(UNKNOWN,), rcode="BADVERS", want=""),  # §8.2.6
    Case("DO", edns=0, ednsflags=DO),  # §8.2.8
    Case("DO, unknown type", rtype="TYPE1000", edns=0, ednsflags=DO, want="nodata"),
    Case(  # §8.2.9
        "several options",
        edns=0,
        options=(
            dns.edns.GenericOption(dns.edns.OptionType.NSID, b""),
            dns.edns.ECSOption("192.0.2.0", 24),
            dns.edns.GenericOption(dns.edns.OptionType.make(9), b""),
            UNKNOWN,
        ),
    ),
    Case("EDNS, unknown class", rclass="CLASS1000", edns=0, rcode="REFUSED", want=""),
)


def query_of(case: Case) -> dns.message.Message:
    query = dns.message.make_query(ZONE, case.rtype, case.rclass)
    query.flags = dns.flags.Flag(case.flags)
    query.set_opcode(dns.opcode.Opcode(case.opcode))
    if not case.question:
        query.question = []
    if case.edns is not None:
        query.use_edns(case.edns, case.ednsflags, 1232, options=list(case.options))
    return query


def exchange(server: Address, packet: bytes, transport: str) -> bytes:
    """One packet and its answer, as octets."""
    if transport == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(60)
            sock.connect(server)
            sock.send(packet)
            return sock.recv(65535)
    with socket.create_connection(server, 10) as stream, stream.makefile("rb") as file:
        stream.sendall(len(packet).to_bytes(2, "big") + packet)
        return file.read(int.from_bytes(file.read(2), "big"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_odd_query_is_answered(server: Address, case: Case, transport: str) -> None:
    query = query_of(case)
    wire = exchange(server, query.to_wire(), transport)
    assert wire[2] >> 3 & 15 == case.opcode
    assert wire[3] & 0x70 == 0, "neither AD nor CD nor Z is set"
    if case.opcode:  # dnspython reads some opcodes by their own rules
        assert (wire[3] & 15, wire[4:]) == (dns.rcode.NOTIMP, bytes(8))
        return
    reply = dns.message.from_wire(wire, ignore_trailing=False)
    assert (reply.id, reply.question) == (query.id, query.question)
    assert dns.rcode.to_text(reply.rcode()) == case.rcode
    assert bool(reply.flags & AA) == (case.want != "")
    assert not reply.flags & TC
    records = [[int(rrset.rdtype) for rrset in section] for section in (reply.answer, reply.authority)]
    if case.rtype == "ANY":  # one record set (RFC 8482)
        assert [len(section) for section in records] == [1, 0]
    else:
        assert records == {"soa": [[6], []], "nodata": [[], [6]], "": [[], []]}[case.want]
    assert reply.edns == (-1 if case.edns is None else 0)
    if case.edns == 0:
        assert reply.ednsflags == case.ednsflags & DO
    assert {int(option.otype) for option in reply.options} <= {15}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_truncated_answer_has_edns(server: Address, transport: str) -> None:  # §8.2.7
    query = dns.message.make_query("web.marathon.mesos", "A", use_edns=0, payload=512)
    reply = dns.message.from_wire(exchange(server, query.to_wire(), transport))
    assert bool(reply.flags & TC) == (transport == "udp")
    assert reply.edns == 0


def test_an_answer_is_never_answered(server: Address) -> None:
    query = dns.message.make_query(ZONE, "SOA").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        sock.connect(server)
        sock.send(b"\0\1" + bytes((query[2] | 0x80,)) + query[3:])
        sock.send(query)
        assert sock.recv(65535)[:2] == query[:2]


# --- dig and kdig ---------------------------------------------------------------------------------


def run(program: str, server: Address, *words: str) -> str:
    """What dig or kdig prints; a test is skipped without it."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program}")
    host, port = server
    command = [path, f"@{host}", "-p", str(port), "+tries=1" if program == "dig" else "+retry=0", "+time=30", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "malformed" not in done.stdout.lower()
    return done.stdout


@pytest.mark.parametrize(
    ("words", "status", "edns"),
    [
        (("+noedns", "+noad", "+norec", "soa"), "NOERROR", None),
        (("+noedns", "+noad", "+norec", "type1000"), "NOERROR", None),
        (("+noedns", "+noad", "+norec", "+cd", "soa"), "NOERROR", None),
        (("+noedns", "+ad", "+norec", "soa"), "NOERROR", None),
        (("+noedns", "+noad", "+norec", "+zflag", "soa"), "NOERROR", None),
        (("+noedns", "+noad", "+opcode=15", "+norec", "+header-only"), "NOTIMP", None),
        (("+noedns", "+noad", "+norec", "+tcp", "soa"), "NOERROR", None),
        (("+edns=0", "+nocookie", "+noad", "+norec", "soa"), "NOERROR", ""),
        (("+edns=1", "+noednsneg", "+nocookie", "+noad", "+norec", "soa"), "BADVERS", ""),
        (("+edns=0", "+nocookie", "+noad", "+norec", "+ednsopt=100", "soa"), "NOERROR", ""),
        (("+edns=0", "+nocookie", "+noad", "+norec", "+ednsflags=0x40", "soa"), "NOERROR", ""),
        (("+edns=1", "+noednsneg", "+nocookie", "+norec", "+ednsflags=0x40", "soa"), "BADVERS", ""),
        (("+edns=1", "+noednsneg", "+nocookie", "+norec", "+ednsopt=100", "soa"), "BADVERS", ""),
        (("+edns=0", "+nocookie", "+noad", "+norec", "+dnssec", "soa"), "NOERROR", " do"),
        (("+edns=0", "+cookie", "+nsid", "+expire", "+subnet=0.0.0.0/0", "+noad", "+norec", "soa"), "NOERROR", ""),
        (("+edns=0", "+header-only", "+cookie"), "NOERROR", ""),
        (("+edns=0", "+header-only", "+nocookie"), "FORMERR", None),
        (("+ednsopt=10:0011", "+nocookie", "soa"), "FORMERR", ""),
    ],
)
def test_dig(server: Address, words: tuple[str, ...], status: str, edns: str | None) -> None:
    told = run("dig", server, ZONE, *words)
    assert f"status: {status}," in told
    if edns is None:
        assert "OPT PSEUDOSECTION" not in told
    else:
        assert f"; EDNS: version: 0, flags:{edns}; udp: 1232" in told
        assert "MBZ" not in told
    assert ("COOKIE" in told) == ("+cookie" in words)


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("name", [ZONE, "nope.mesos", "www.example.net"])
def test_dig_finds_its_cookie_good(server: Address, transport: str, name: str) -> None:
    told = run("dig", server, transport, "+cookie", name)
    (cookie,) = re.findall(r"; COOKIE: ([0-9a-f]{48}) \(good\)", told)
    again = run("dig", server, transport, f"+cookie={cookie}", name)
    assert f"; COOKIE: {cookie} (good)" in again


def test_dig_reads_extended_errors(server: Address) -> None:
    assert "; EDE: 20 (Not Authoritative)" in run("dig", server, "www.example.net")


def test_kdig_finds_its_cookie_good(server: Address) -> None:
    told = run("kdig", server, ZONE, "SOA", "+cookie=0011223344556677")
    (cookie,) = re.findall(";; COOKIE: (001122334455667701000000[0-9A-F]{24})", told)
    again = run("kdig", server, ZONE, "SOA", f"+cookie={cookie}", "+badcookie")
    assert f";; COOKIE: {cookie}" in again
    assert "status: NOERROR" in again
