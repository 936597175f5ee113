"""`pharos resolve` against a DNS server that answers what the test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from agent import cli
from agent.commands_resolve import question


class Zone(BaseResolver):  # type: ignore[misc]
    """web.mesos has an address, big.mesos only over TCP, odd.mesos is answered with another question's answer."""

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        name = str(request.q.qname)
        if name == "big.mesos." and handler.protocol == "udp":
            reply.header.tc = 1
        elif name in ("web.mesos.", "big.mesos.") and request.q.qtype == QTYPE.A:
            reply.add_answer(RR(name, QTYPE.A, ttl=60, rdata=A("10.0.0.1")))
        elif name == "out.example.":
            reply.header.aa = 0
            reply.add_answer(RR(name, QTYPE.A, ttl=60, rdata=A("192.0.2.1")))
        elif name == "refused.example.":
            reply.header.rcode, reply.header.aa = RCODE.REFUSED, 0
        elif name == "unknown.mesos.":
            reply.header.rcode, reply.header.aa = RCODE.SERVFAIL, 0
        elif name != "web.mesos.":
            reply.header.rcode = RCODE.NXDOMAIN
        return reply


@pytest.fixture
def dns(free_port: int) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        for tcp in (False, True):
            server = DNSServer(
                Zone(), address="127.0.0.1", port=free_port, tcp=tcp, logger=DNSLogger("-request,-reply")
            )
            thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(server.server.server_close)
            stack.callback(thread.join)
            stack.callback(server.server.shutdown)
        yield f"127.0.0.1:{free_port}"


def resolve(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = cli.main(["resolve", *words])
    return code, capsys.readouterr().out


def test_answer_and_where_it_comes_from(dns: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = resolve(capsys, "web.mesos", "--server", dns)
    assert code == 0
    head, row, how = out.splitlines()
    assert head.split() == ["NAME", "TTL", "TYPE", "DATA"]
    assert row.split() == ["web.mesos.", "60", "A", "10.0.0.1"]
    assert how.startswith(f"NOERROR for web.mesos. A: its own names, from {dns} over UDP in ")


@pytest.mark.parametrize(
    ("name", "code", "start"),
    [
        ("out.example", 0, "NOERROR for out.example. A: forwarded, from"),
        ("none.mesos", 1, "NXDOMAIN for none.mesos. A: its own names, from"),
        ("unknown.mesos", 1, "SERVFAIL for unknown.mesos. A: not known now, from"),
        ("refused.example", 1, "REFUSED for refused.example. A: not served, from"),
    ],
)
def test_codes(dns: str, capsys: pytest.CaptureFixture[str], name: str, code: int, start: str) -> None:
    got, out = resolve(capsys, name, "--server", dns)
    assert got == code
    assert out.splitlines()[-1].startswith(start)


def test_no_data_of_that_type(dns: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = resolve(capsys, "web.mesos", "aaaa", "--server", dns)
    assert code == 0
    assert out.startswith("NODATA for web.mesos. AAAA")


def test_a_cut_answer_is_asked_for_by_tcp(dns: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = resolve(capsys, "big.mesos", "--server", dns, "--json")
    value = json.loads(out)
    assert code == 0
    assert value.pop("milliseconds") >= 0
    assert value == {
        "name": "big.mesos.",
        "type": "A",
        "rcode": "NOERROR",
        "authoritative": True,
        "origin": "its own names",
        "answers": [{"name": "big.mesos.", "ttl": 60, "type": "A", "data": "10.0.0.1"}],
        "authority": [],
        "additional": [],
        "server": dns,
        "transport": "tcp",
    }


def test_the_server_is_found_by_status(dns: str, answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    port = dns.rpartition(":")[2]
    answers.paths["/status"] = (200, {"dns": {"addresses": [f"0.0.0.0:{port}"]}})
    assert resolve(capsys, "web.mesos", "--admin", answers.url)[0] == 0


@pytest.mark.parametrize("status", [{}, {"dns": {"addresses": []}}, {"dns": None}, []])
def test_no_dns_address(answers: Any, capsys: pytest.CaptureFixture[str], status: Any) -> None:
    answers.paths["/status"] = (200, status)
    assert cli.main(["resolve", "x", "--admin", answers.url, "--api", answers.url]) == 1
    err = capsys.readouterr().err
    assert "names no DNS address" in err
    assert "--server ADDR:PORT" in err


def test_nobody_there(free_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resolve", "x", "--server", f"127.0.0.1:{free_port}"]) == 1
    assert f"no answer from 127.0.0.1:{free_port} over UDP: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x", "NOSUCH"], "unknown record type 'NOSUCH'"),
        (["x", "TYPE99999"], "unknown record type"),
        (["a" * 64], "is no DNS name"),
        (["a..b"], "is no DNS name"),
        (["x", "--server", "1.2.3.4:x"], "expected a port"),
    ],
)
def test_questions_that_can_not_be_put(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resolve", *words, *([] if "--server" in words else ["--server", "127.0.0.1:1"])]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.mesos", None, ("web.mesos.", QTYPE.A)),
        ("web.mesos.", "srv", ("web.mesos.", QTYPE.SRV)),
        ("10.0.0.1", None, ("1.0.0.10.in-addr.arpa.", QTYPE.PTR)),
        ("web.mesos", "TYPE65280", ("web.mesos.", 65280)),
        (".", "NS", (".", QTYPE.NS)),
    ],
)
def test_question(name: str, kind: str | None, expected: tuple[str, int]) -> None:
    query = question(name, kind)
    assert (str(query.q.qname), query.q.qtype) == expected
    assert query.header.rd == 1
