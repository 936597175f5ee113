"""Untrusted replies of upstreams: the kept corpus replayed, and mutations of it, through the resolver's reader.

Each file of corpus/upstream-replies is one reply in hexadecimal, `#` beginning a comment that says why it is kept.
A reply that ever broke something is added there. The question is the packet's own, so that mutations get past it.
What is accepted is held against dnspython, which reads both the reply and the answer made of it. PHAROS_SOAK makes
the second test long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest

from mesos_dns.message import Query, question_end
from mesos_dns.resolver.reading import FAILURE, NXNAME, POSITIVE, Malformed, Read, read_reply

CORPUS = sorted((Path(__file__).parent / "corpus" / "upstream-replies").glob("*.hex"))
ROUNDS = 100_000 if os.environ.get("PHAROS_SOAK") else 6_000
Rows = list[tuple[dns.name.Name, int, dns.rdata.Rdata]]


def load(path: Path) -> bytes:
    """A corpus file's packet."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))


def check(packet: bytes) -> Read | None:
    """Nothing but Malformed is raised; what is accepted says nothing that the reply does not say."""
    end = question_end(packet) if len(packet) > 12 else 0
    name = packet[12 : end - 4].lower() if end else b"\0"
    qtype = int.from_bytes(packet[end - 4 : end - 2], "big") if end else 1
    found = None
    for whole in (False, True):
        try:
            found = read_reply(packet, name, qtype, whole=whole)
        except Malformed:
            continue
        if found.kind == FAILURE:
            assert not found.answer.wire
            continue
        compare(packet, found, name, qtype, whole)
    return found


def compare(packet: bytes, found: Read, name: bytes, qtype: int, whole: bool) -> None:
    """Our answer's records are among the reply's (all of them, `whole`), once each, in one chain."""
    assert 0 <= found.lifetime <= 0x7FFFFFFF
    query = Query(0, 0, name + qtype.to_bytes(2, "big") + b"\0\1", name, qtype, 1, False, 512)
    ours = read(found.answer.encode(query, 65535, 0, 0, b""))
    theirs = read(packet)
    if ours is None or theirs is None:  # data of a type that we pass on as it is
        return
    answers = [row for row in rows(theirs.answer) if row[2].rdclass == 1 and row[2].rdtype not in META]
    authorities = [row for row in rows(theirs.authority) if row[2].rdclass == 1 and row[2].rdtype not in META]
    assert not ours.additional
    if whole:
        assert set(map(content, rows(ours.answer))) == set(map(content, answers))
        assert set(map(content, rows(ours.authority))) == set(map(content, authorities))
        return
    assert set(map(content, rows(ours.answer))) <= set(map(content, answers))
    assert set(map(content, rows(ours.authority))) <= set(map(content, authorities))
    at = dns.name.from_wire(name, 0)[0]
    for owner, rtype, data in rows(ours.answer):
        if rtype == dns.rdatatype.DNAME and qtype not in (rtype, 255):
            assert at.is_subdomain(owner)
            continue
        assert owner == at
        if rtype == dns.rdatatype.CNAME and qtype not in (rtype, 255):
            at = data.target  # type: ignore[attr-defined]  # a CNAME's
        else:
            assert qtype in (rtype, 255)
            assert found.kind == POSITIVE
    for owner, rtype, _ in rows(ours.authority):
        assert rtype == dns.rdatatype.SOA
        assert at.is_subdomain(owner)
        assert found.kind != POSITIVE
    assert (found.rcode == 3) is (found.kind == NXNAME)


META = {0, 41, *range(249, 256)}
OLD = {3, 4, 7, 8, 9, 14, 24, 30}
"""Types with names in their data that dnspython does not know: it can't undo their compression."""


def read(packet: bytes) -> dns.message.Message | None:
    """As dnspython reads it, record by record; None where it can't."""
    try:
        return dns.message.from_wire(packet, one_rr_per_rrset=True, ignore_trailing=False)
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return None


def rows(section: Sequence[dns.rrset.RRset]) -> Rows:
    """(owner, type, data) of each record."""
    return [(rrset.name, int(rrset.rdtype), rdata) for rrset in section for rdata in rrset]


def content(row: tuple[dns.name.Name, int, dns.rdata.Rdata]) -> tuple[object, int, bytes]:
    """What makes two records the same, names folded."""
    owner, rtype, rdata = row
    if rtype in OLD and isinstance(rdata, dns.rdata.GenericRdata):
        return owner, rtype, b""
    return owner, rtype, rdata.to_digestable(dns.name.root)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    check(load(path))


def test_mutations() -> None:
    seed = random.randrange(1 << 32) if os.environ.get("PHAROS_SOAK") else 7
    print(f"seed={seed}")
    chance = random.Random(seed)
    kept = [load(path) for path in CORPUS]
    accepted = sum(check(packet) is not None for packet in mutations(chance, kept))
    assert accepted > ROUNDS // 20, "the mutations are too wild to say anything"


def mutations(chance: random.Random, kept: Sequence[bytes]) -> Iterator[bytes]:
    """Packets with bytes flipped, cut, repeated, pointers bent, records spliced in and counted."""
    for _ in range(ROUNDS):
        packet = bytearray(chance.choice(kept))
        for _ in range(chance.randrange(4)):
            kind = chance.randrange(6)
            at = chance.randrange(12, max(len(packet), 12) + 1)
            if kind == 0 and at < len(packet):
                packet[at] = chance.randrange(256)
            elif kind == 1:
                del packet[at:]
            elif kind == 2:
                packet[at:at] = chance.randbytes(chance.randrange(8))
            elif kind == 3 and (pointers := [n for n in range(12, len(packet) - 1) if packet[n] >= 0xC0]):
                packet[chance.choice(pointers) + 1] = chance.randrange(256)
            elif kind == 4 and at + 1 < len(packet):
                packet[at : at + 2] = bytes((0xC0, chance.randrange(256)))
            elif len(packet) >= 12:
                extra = bytes((0xC0, 12, 0, chance.choice((1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 46, 47)), 0, 1))
                data = chance.randbytes(chance.choice((0, 1, 4, 16))) + chance.choice(
                    (b"", b"\xc0\x0c", b"\1x\xc0\x0c")
                )
                packet += extra + chance.randbytes(4) + len(data).to_bytes(2, "big") + data
                section = 6 if not packet[8:12].strip(b"\0") else 10
                packet[section + 1] = (packet[section + 1] + 1) & 255
        if chance.randrange(20) == 0:
            packet[2:12] = bytes((0x81, 0x80, 0, 1)) + bytes(chance.choice((0, 0, 0, 1, 2, 255)) for _ in range(6))
        yield bytes(packet)


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 10
    accepted = 0
    for path in CORPUS:
        assert path.read_text().startswith("# "), f"{path.name} does not say why it is kept"
        accepted += check(load(path)) is not None
    assert accepted >= 6
