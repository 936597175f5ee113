"""Untrusted packets: the kept corpus replayed, and mutations of it, through the responder and the forwarder's check.

Each file of corpus/dns-packets is one packet in hexadecimal, `#` beginning a comment that says why it is
kept. A packet that ever broke something is added there. PHAROS_SOAK makes the second test long.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import dns.exception
import dns.message
import pytest

from mesos_dns.forward import _matches
from mesos_dns.message import question_end
from mesos_dns.model import Entity
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import packet, responder_of, soa, static, task

CORPUS = sorted((Path(__file__).parent / "corpus" / "dns-packets").glob("*.hex"))
CLIENTS = (b"", bytes((198, 51, 100, 7)), bytes((0x20, 1, 0x0D, 0xB8)) + bytes(12))
TRANSPORTS = (("udp", 1232), ("tcp", 65535), ("tls", 65535))
ROUNDS = 200_000 if os.environ.get("PHAROS_SOAK") else 4_000


@pytest.fixture(scope="module")
def responders() -> list[Responder]:
    """One that refuses other names, one that forwards them, one that says that all is old."""
    zone = "example.org."
    entities: list[Entity] = [
        *(task(number, "w" * 63, host_ports=(1,)) for number in range(3)),
        *(task(number + 3, host_ports=(31000 + number,)) for number in range(40)),
        static("example.org.", "SOA", soa(), zone=zone),
        static("*.example.org.", "CNAME", name_to_wire("web.marathon.mesos"), zone=zone),
        static("sub.example.org.", "NS", name_to_wire("ns.sub.example.org"), zone=zone),
    ]
    stale = responder_of(*entities, cookies=False, rate_limit=0)
    stale.stale = True
    return [
        responder_of(*entities, rate_limit=0),
        responder_of(*entities, forward=("192.0.2.53",), rate_limit=0),
        stale,
    ]


def load(path: Path) -> bytes:
    """A corpus file's packet."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))


def check(responder: Responder, query: bytes, client: bytes = b"") -> None:
    """No exception; a reply is to this query, is no larger than allowed and can be read to its last byte."""
    for transport, limit in TRANSPORTS:
        reply = responder.respond(query, transport, client)
        if reply is None:
            assert len(query) < 12 or query[2] & 0x80
            continue
        if isinstance(reply, Forward):
            reply = responder.failure(reply.query, 2, transport, reply.client)
        assert isinstance(reply, bytes)
        assert reply[:2] == query[:2]
        assert reply[2] & 0x80
        assert len(reply) <= limit
        if not reply[2] & 0x78:
            dns.message.from_wire(reply, ignore_trailing=False)
    assert question_end(query) <= len(query)
    assert _matches(query, query) in (True, False)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
@pytest.mark.parametrize("client", CLIENTS, ids=["unknown", "IPv4", "IPv6"])
def test_corpus(responders: list[Responder], path: Path, client: bytes) -> None:
    for responder in responders:
        check(responder, load(path), client)


def test_mutations(responders: list[Responder]) -> None:
    seed = random.randrange(1 << 32) if os.environ.get("PHAROS_SOAK") else 5
    print(f"seed={seed}")
    chance = random.Random(seed)
    names = ("web.marathon.mesos", "_web._tcp.marathon.mesos", "x.example.org", "a.sub.example.org", "example.net")
    kept = [load(path) for path in CORPUS]
    kept += [packet(name, rtype, payload=1232) for name in names for rtype in ("A", "SRV", "ANY", "SOA")]
    for _ in range(ROUNDS):
        query = mutated(chance, kept)
        if chance.randrange(3) == 0:
            query = with_options(chance, query)
        check(chance.choice(responders), query, chance.choice(CLIENTS))


def mutated(chance: random.Random, kept: list[bytes]) -> bytes:
    """A packet with bytes flipped, cut, repeated, or spliced with another one."""
    query = bytearray(chance.choice(kept))
    for _ in range(chance.randrange(4)):
        kind = chance.randrange(5)
        at = chance.randrange(len(query) + 1)
        if kind == 0 and query:
            query[at % len(query)] = chance.randrange(256)
        elif kind == 1:
            del query[at:]
        elif kind == 2:
            query[at:at] = chance.randbytes(chance.randrange(8))
        elif kind == 3:
            other = chance.choice(kept)
            query[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            query[4:12] = bytes(chance.choice((0, 0, 0, 1, 1, 2, 255)) for _ in range(8))
    return bytes(query)


def with_options(chance: random.Random, query: bytes) -> bytes:
    """A packet whose only further record is OPT with a few options, whole ones and others."""
    options = bytearray()
    for _ in range(chance.randrange(5)):
        code = chance.choice((3, 8, 10, 10, 11, 12, 15, chance.randrange(65536)))
        data = chance.randbytes(chance.choice((0, 2, 8, 8, 16, 24, 40, chance.randrange(50))))
        options += code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
    cut = chance.randrange(len(options) + 1) if chance.randrange(4) == 0 else len(options)
    record = b"\0\0\x29" + chance.randbytes(2) + bytes((0, chance.choice((0, 0, 0, 1)))) + chance.randbytes(2)
    counts = bytes((0, chance.choice((1, 1, 1, 0)), 0, 0, 0, 0, 0, 1))
    question = query[12 : question_end(query)] if counts[1] else b""
    return query[:4].ljust(4, b"\0") + counts + question + record + cut.to_bytes(2, "big") + options[:cut]


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 10
    for path in CORPUS:
        assert path.read_text().startswith("# "), f"{path.name} does not say why it is kept"
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(b"")
