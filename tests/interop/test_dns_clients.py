"""Real clients against a running server: BIND's dig, and dnspython's resolver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.resolver
import pytest

from mesos_dns.config import DnsConfig
from mesos_dns.model import Endpoint, Leadership, Network, Port
from mesos_dns.wire import name_to_wire
from tests.fakes.dns_serving import on_a_thread
from tests.fakes.questions import responder_of, soa, static, task

Address = tuple[str, int]


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    """A server on a thread of its own; (host, port)."""
    zone = "example.org."
    responder = responder_of(
        *(
            task(
                number,
                discovery_name="web",
                ports=(Port(80, "http", "tcp"),),
                networks=(Network("a", (f"9.0.0.{number + 1}", f"fd00::{number + 1:x}")),),
            )
            for number in range(60)
        ),
        task(100, "db", host_ports=(31000,)),
        Leadership(Endpoint("10.0.0.11", 5050), (Endpoint("10.0.0.11", 5050),)),
        static("example.org.", "SOA", soa(), zone=zone),
        static("example.org.", "NS", name_to_wire("ns.example.org"), zone=zone),
        static("ns.example.org.", "A", b"\x0a\7\0\1", zone=zone),
        static("www.example.org.", "CNAME", name_to_wire("db.marathon.mesos"), zone=zone),
        static("text.example.org.", "TXT", b"\5hello\5world", zone=zone),
    )
    with on_a_thread(DnsConfig(listen=("127.0.0.1:0",)), responder) as dns_server:
        yield dns_server.addresses[0]


@pytest.fixture(scope="module")
def dig() -> str:
    """dig's path; ./dev test installs it."""
    path = shutil.which("dig")
    if path is None:
        pytest.skip("needs dig (Debian: bind9-dnsutils)")
    return path


def digged(dig: str, server: Address, *words: str) -> str:
    host, port = server
    command = [dig, f"@{host}", "-p", str(port), "+tries=1", "+time=30", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = done.stdout.replace(";; WARNING: recursion requested but not available", "")
    assert "WARNING" not in told + done.stderr, done.stdout
    assert "malformed" not in told.lower()
    return told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("db.marathon.mesos", "A"), ["9.0.0.101"]),
        (("leader.mesos", "A"), ["10.0.0.11"]),
        (("+tcp", "db.marathon.mesos", "A"), ["9.0.0.101"]),
        (("-x", "9.0.0.1"), ["web-"]),
        (("www.example.org",), ["db.marathon.mesos.", "9.0.0.101"]),
        (("text.example.org", "TXT"), ['"hello" "world"']),
        (("mesos", "NS"), ["ns1.mesos."]),
        (("mesos", "SOA"), ["ns1.mesos. root.ns1.mesos."]),
        (("_leader._tcp.mesos", "SRV"), ["0 1 5050 leader.mesos."]),
    ],
)
def test_dig_reads_the_answer(dig: str, server: Address, words: tuple[str, ...], expected: list[str]) -> None:
    lines = digged(dig, server, "+short", *words).splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


@pytest.mark.parametrize("rtype", ["AAAA", "SRV"])
def test_dig_follows_truncation_to_tcp(dig: str, server: Address, rtype: str) -> None:
    name = "_web._tcp.marathon.mesos" if rtype == "SRV" else "web.marathon.mesos"
    assert "flags: qr aa tc rd" in digged(dig, server, "+ignore", "+bufsize=512", name, rtype)
    output = digged(dig, server, name, rtype)
    assert "Truncated, retrying in TCP mode" in output
    assert "ANSWER: 60" in output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nope.mesos",), "NXDOMAIN"),
        (("+noedns", "nope.mesos"), "NXDOMAIN"),
        (("marathon.slave.mesos",), "NOERROR"),
        (("example.net",), "REFUSED"),
        (("version.bind", "CH", "TXT"), "REFUSED"),
        (("+opcode=STATUS", "+noedns", "db.marathon.mesos"), "NOTIMP"),
        (("+edns=1", "+noednsneg", "db.marathon.mesos"), "BADVERS"),
        (("+edns=0", "+ednsopt=65001:abcd", "+nsid", "+subnet=192.0.2.0/24", "db.marathon.mesos"), "NOERROR"),
        (("+dnssec", "+ednsflags=0x4000", "db.marathon.mesos"), "NOERROR"),
        (("db.marathon.mesos", "TYPE65400"), "NOERROR"),
        (("db.marathon.mesos", "ANY"), "NOERROR"),
    ],
)
def test_dig_reads_the_status(dig: str, server: Address, words: tuple[str, ...], expected: str) -> None:
    assert f"status: {expected}," in digged(dig, server, *words)


def test_dig_is_refused_a_zone_transfer(dig: str, server: Address) -> None:
    assert "Transfer failed" in digged(dig, server, "mesos", "AXFR")


def test_dig_keeps_a_tcp_connection(dig: str, server: Address) -> None:
    names = [word for _ in range(20) for word in ("db.marathon.mesos", "A")]
    assert digged(dig, server, "+tcp", "+keepopen", "+short", *names).split() == ["9.0.0.101"] * 20


def test_the_resolver_of_dnspython(server: Address) -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [server[0]], server[1]
    assert sorted(rdata.address for rdata in resolver.resolve("web.marathon.mesos", "A"))[:2] == ["9.0.0.1", "9.0.0.10"]
    assert len(resolver.resolve("_http._web._tcp.marathon.mesos", "SRV")) == 60
    assert resolver.resolve("www.example.org", "A").canonical_name.to_text() == "db.marathon.mesos."
    assert resolver.resolve_address("9.0.0.101")[0].to_text().startswith("db-")
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("db.marathon.mesos", "TXT")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("nope.mesos", "A")
    with pytest.raises(dns.resolver.NoNameservers, match="REFUSED"):
        resolver.resolve("example.net", "A")


def test_udp_and_tcp_of_dnspython_agree(server: Address) -> None:
    for name, rtype in (("db.marathon.mesos", "A"), ("_db._tcp.marathon.mesos", "SRV"), ("nope.mesos", "A")):
        query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        by_udp = dns.query.udp(query, server[0], port=server[1], timeout=30)
        by_tcp = dns.query.tcp(query, server[0], port=server[1], timeout=30)
        assert by_udp.sections == by_tcp.sections
        assert by_udp.flags & dns.flags.AA
