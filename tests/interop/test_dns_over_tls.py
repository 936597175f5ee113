"""Real clients of DNS over TLS: Knot's kdig, and dnspython; with padding and keepalive where they ask for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest
import trustme

from mesos_dns.config import DnsConfig, Duration
from tests.fakes.dns_serving import certificate, on_a_thread, trusting
from tests.fakes.questions import answers, responder_of, task


class Served(NamedTuple):
    """A server by TCP and TLS, and what its clients have to know."""

    tcp: tuple[str, int]
    tls: tuple[str, int]
    authority: trustme.CA
    ca_file: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`db.marathon.mesos` at 9.0.0.101 and 60 addresses of `web.marathon.mesos`; an idle time of 7.5 s."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    config = DnsConfig(
        listen=("127.0.0.1:0",),
        tls_listen=("127.0.0.1:0",),
        tcp_idle=Duration(7.5),
        **certificate(authority, folder),  # type: ignore[arg-type]
    )
    entities = [task(number) for number in range(60)] + [task(100, "db")]
    with on_a_thread(config, responder_of(*entities, tcp_idle=Duration(7.5))) as server:
        yield Served(server.addresses[0], server.tls_addresses[0], authority, str(folder / "ca.pem"))


@pytest.fixture(scope="module")
def kdig() -> str:
    """kdig's path; ./dev test installs it."""
    path = shutil.which("kdig")
    if path is None:
        pytest.skip("needs kdig (Debian: knot-dnsutils)")
    return path


def digged(kdig: str, address: tuple[str, int], *words: str) -> str:
    command = [kdig, f"@{address[0]}", "-p", str(address[1]), "+retry=0", "+timeout=30", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout


def test_kdig_over_tls_in_strict_mode(kdig: str, served: Served) -> None:
    words = ("+tls", f"+tls-ca={served.ca_file}", "+tls-hostname=dns.test")
    output = digged(kdig, served.tls, *words, "db.marathon.mesos", "A")
    assert "TLS session (TLS1." in output
    assert "status: NOERROR" in output
    assert re.search(r"^db\.marathon\.mesos\.\s+60\s+IN\s+A\s+9\.0\.0\.101$", output, re.MULTILINE)
    assert len(re.findall(r"^web", digged(kdig, served.tls, *words, "web.marathon.mesos", "A"), re.MULTILINE)) == 60


def test_kdig_does_not_take_another_name_for_ours(kdig: str, served: Served) -> None:
    command = [kdig, f"@{served.tls[0]}", "-p", str(served.tls[1]), "+retry=0", "+timeout=30"]
    command += ["+tls", f"+tls-ca={served.ca_file}", "+tls-hostname=other.test", "db.marathon.mesos"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "9.0.0.101" not in done.stdout


def test_kdig_keeps_a_connection(kdig: str, served: Served) -> None:
    words = ["+tls", f"+tls-ca={served.ca_file}", "+tls-hostname=dns.test", "+keepopen", "+short"]
    words += [word for _ in range(20) for word in ("db.marathon.mesos", "A")]
    assert digged(kdig, served.tls, *words).split() == ["9.0.0.101"] * 20


def test_dnspython_over_tls(served: Served) -> None:
    query = dns.message.make_query("web.marathon.mesos", "A", use_edns=0, payload=1232)
    host, port = served.tls
    reply = dns.query.tls(
        query, host, port=port, timeout=30, ssl_context=trusting(served.authority), server_hostname="dns.test"
    )
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(answers(reply)) == 60
    by_tcp = dns.query.tcp(query, *served.tcp[:1], port=served.tcp[1], timeout=30)
    assert answers(reply) == answers(by_tcp)


def options(served: Served, transport: str, *asked: int) -> tuple[dict[int, bytes], int]:
    """The options of an answer when these are in the question, and how many octets the answer has."""
    sent: list[dns.edns.Option] = [dns.edns.GenericOption(dns.edns.OptionType.make(code), b"") for code in asked]
    query = dns.message.make_query("db.marathon.mesos", "A", use_edns=0, payload=1232, options=sent)
    if transport == "tls":
        context = trusting(served.authority)
        reply = dns.query.tls(
            query, served.tls[0], port=served.tls[1], timeout=30, ssl_context=context, server_hostname="dns.test"
        )
    else:
        ask = dns.query.tcp if transport == "tcp" else dns.query.udp
        reply = ask(query, served.tcp[0], port=served.tcp[1], timeout=30)
    assert answers(reply) == ["9.0.0.101"]
    assert reply.wire is not None
    return {int(option.otype): option.to_wire() or b"" for option in reply.options}, len(reply.wire)


def test_padding_is_for_who_asks_by_tls(served: Served) -> None:
    found, size = options(served, "tls", 12)
    assert size % 468 == 0
    assert set(found[12]) == {0}
    for transport, asked in (("tls", ()), ("tcp", (12,)), ("udp", (12,))):
        found, size = options(served, transport, *asked)
        assert 12 not in found
        assert size < 100


def test_the_idle_time_is_told_to_who_asks(served: Served) -> None:
    for transport in ("tcp", "tls"):
        assert options(served, transport, 11)[0] == {11: (75).to_bytes(2, "big")}
        assert options(served, transport)[0] == {}
    assert options(served, "udp", 11)[0] == {}
    found, size = options(served, "tls", 11, 12)
    assert set(found) == {11, 12}
    assert size % 468 == 0
