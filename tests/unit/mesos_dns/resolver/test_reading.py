"""What is taken from an upstream's reply, and what is not."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest

from mesos_dns.resolver.reading import (
    FAILURE,
    NODATA,
    NXNAME,
    POSITIVE,
    Lifetimes,
    Malformed,
    Read,
    joined,
    read_reply,
)
from mesos_dns.wire import name_to_wire
from tests.fakes.resolving import SOA, lines, record, reply_of, shown

NAME = "www.example.com"
WIRE = name_to_wire(NAME)
A, NS, CNAME, SOA_TYPE, MX, AAAA, SRV, DNAME, ANY = 1, 2, 5, 6, 15, 28, 33, 39, 255


def read(packet: bytes, name: str = NAME, qtype: int = A, whole: bool = False, **limits: int) -> Read:
    return read_reply(packet, name_to_wire(name), qtype, whole=whole, limits=Lifetimes(**limits))


def reason(packet: bytes, name: str = NAME, qtype: int = A, whole: bool = False) -> str:
    with pytest.raises(Malformed) as caught:
        read(packet, name, qtype, whole)
    assert len(str(caught.value)) < 60
    return str(caught.value)


# --- positive answers -----------------------------------------------------------------------------


def test_the_records_asked_for() -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. 300 A 192.0.2.1", f"{NAME}. 200 A 192.0.2.2"]))
    assert (found.rcode, found.kind, found.lifetime) == (0, POSITIVE, 200)
    assert not found.answer.aa
    assert found.answer.rotate
    assert lines(shown(found.answer, NAME).answer) == [f"{NAME}. 300 A 192.0.2.1", f"{NAME}. 200 A 192.0.2.2"]


def test_owners_become_pointers_to_the_question() -> None:
    found = read(reply_of(NAME, answers=["WWW.Example.COM. 300 A 192.0.2.1"]))
    assert found.answer.wire[:2] == b"\xc0\x0c"
    assert "wWw.EXAMPLE.com." in shown(found.answer, "wWw.EXAMPLE.com").to_text().split()


def test_records_are_there_once() -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. 300 A 192.0.2.1", f"{NAME}. 60 A 192.0.2.1"]))
    assert len(shown(found.answer, NAME).answer) == 1


def test_what_nobody_asked_for_is_dropped() -> None:
    packet = reply_of(
        NAME,
        answers=[
            "bank.example. 300 A 203.0.113.66",
            f"{NAME}. 300 A 192.0.2.1",
            f"{NAME}. 300 TXT evil",
            "bank.example. 300 CNAME www.example.com.",
        ],
        authorities=["example. 300 NS ns.evil.example.", SOA],
        additionals=["ns.evil.example. 300 A 203.0.113.66", f"{NAME}. 300 A 203.0.113.66"],
    )
    message = shown(read(packet).answer, NAME)
    assert lines(message.answer) == [f"{NAME}. 300 A 192.0.2.1"]
    assert not message.authority
    assert not message.additional


def test_a_chain_is_put_in_order() -> None:
    packet = reply_of(
        NAME,
        answers=[
            "C.cdn.example.net. 20 A 192.0.2.1",
            "evil.example.com. 5 CNAME c.cdn.example.net.",
            "b.cdn.example.net. 60 CNAME C.cdn.example.net.",
            "c.cdn.example.net. 20 A 192.0.2.2",
            f"{NAME}. 300 CNAME b.cdn.example.net.",
        ],
    )
    found = read(packet)
    assert (found.kind, found.lifetime) == (POSITIVE, 20)
    assert not found.answer.rotate
    assert lines(shown(found.answer, NAME).answer) == [
        f"{NAME}. 300 CNAME b.cdn.example.net.",
        "b.cdn.example.net. 60 CNAME C.cdn.example.net.",
        "C.cdn.example.net. 20 A 192.0.2.1",
        "C.cdn.example.net. 20 A 192.0.2.2",
    ]
    assert found.answer.wire.count(b"\3cdn") == 1
    assert len(found.answer.wire) < len(packet) - 40


def test_an_alias_made_from_dname() -> None:
    packet = reply_of(
        NAME,
        answers=[
            "example.com. 100 DNAME example.net.",
            f"{NAME}. 0 CNAME www.example.net.",
            "www.example.net. 20 A 192.0.2.1",
        ],
    )
    assert lines(shown(read(packet).answer, NAME).answer) == [
        "example.com. 100 DNAME example.net.",
        f"{NAME}. 0 CNAME www.example.net.",
        "www.example.net. 20 A 192.0.2.1",
    ]


def test_the_alias_itself() -> None:
    packet = reply_of(NAME, "CNAME", [f"{NAME}. 300 CNAME a.example.net.", "a.example.net. 300 CNAME b.example.net."])
    assert lines(shown(read(packet, qtype=CNAME).answer, NAME, "CNAME").answer) == [f"{NAME}. 300 CNAME a.example.net."]


def test_any_is_what_is_at_the_name() -> None:
    packet = reply_of(
        NAME, "ANY", [f"{NAME}. 300 A 192.0.2.1", "x.example.com. 300 A 192.0.2.9", f"{NAME}. 300 TXT text"]
    )
    message = shown(read(packet, qtype=ANY).answer, NAME, "ANY")
    assert lines(message.answer) == [f"{NAME}. 300 A 192.0.2.1", f'{NAME}. 300 TXT "text"']


@pytest.mark.parametrize(
    ("rtype", "rdata"),
    [
        ("MX", "10 mail.www.example.com."),
        ("NS", "ns.www.example.com."),
        ("PTR", "host.www.example.com."),
        ("SOA", "ns.www.example.com. admin.www.example.com. 1 2 3 4 5"),
        ("SRV", "1 2 3 target.www.example.com."),
        ("NAPTR", '1 2 "s" "sip" "" target.www.example.com.'),
        ("RP", "a.www.example.com. b.www.example.com."),
        ("KX", "1 kx.www.example.com."),
        ("HTTPS", '1 svc.www.example.com. alpn="h2"'),
        ("TXT", '"a" "b"'),
        ("AAAA", "2001:db8::1"),
        ("TYPE65280", "\\# 4 c00c0001"),
    ],
)
def test_names_in_data(rtype: str, rdata: str) -> None:
    # Compressed by the sender wherever dnspython does so, against its own packet.
    query = dns.message.make_query(NAME, rtype)
    message = dns.message.make_response(query)
    message.answer.append(dns.rrset.from_text(f"{NAME}.", 300, "IN", rtype, rdata))
    found = read(message.to_wire(), qtype=int(query.question[0].rdtype))
    assert lines(shown(found.answer, NAME, rtype).answer) == [f"{NAME}. 300 {rtype} {rdata}"]


def pointing(rtype: int, before: bytes) -> bytes:
    """A record of NAME whose data ends with a pointer to "example.com" in the question."""
    data = before + b"\xc0\x10"
    return b"\xc0\x0c" + rtype.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(
    ("rtype", "number", "before", "expected"),
    [
        ("SRV", SRV, b"\0\1\0\2\0\3\1x", "1 2 3 x.example.com."),
        ("DNAME", DNAME, b"\1x", "x.example.com."),
        ("NAPTR", 35, b"\0\1\0\2\1s\3sip\0\1x", '1 2 "s" "sip" "" x.example.com.'),
    ],
)
def test_data_that_must_not_be_compressed_is_not(rtype: str, number: int, before: bytes, expected: str) -> None:
    # RFC 3597 §4: what old servers send is understood, but goes out in full.
    found = read(reply_of(NAME, rtype, [pointing(number, before)]), qtype=number)
    assert found.answer.wire.endswith(b"\1x\7example\3com\0")
    assert lines(shown(found.answer, NAME, rtype).answer) == [f"{NAME}. 60 {rtype} {expected}"]


def test_records_that_rotate_point_to_the_question_only() -> None:
    answers = [f"{NAME}. 300 MX 10 mx.example.net.", f"{NAME}. 300 MX 20 mx2.example.net."]
    found = read(reply_of(NAME, "MX", answers), qtype=MX)
    assert found.answer.rotate
    assert found.answer.wire.count(b"\7example\3net\0") == 2


def test_the_spelling_that_we_sent_is_in_no_answer() -> None:
    packet = bytearray(reply_of(NAME, "MX", [pointing(MX, b"\0\x0a\2mx")]))
    packet[12 : 12 + len(WIRE)] = WIRE.upper().replace(b"\3WWW", b"\3wWw")
    message = shown(read(bytes(packet), qtype=MX).answer, NAME, "MX")
    assert lines(message.answer) == [f"{NAME}. 60 MX 10 mx.example.com."]


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "expected"), [(0, 0), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, 0), (0xFFFFFFFF, 0)])
def test_a_ttl_with_its_top_bit_is_zero(ttl: int, expected: int) -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. {ttl} A 192.0.2.1"]))
    assert found.lifetime == expected
    assert shown(found.answer, NAME).answer[0].ttl == expected


@pytest.mark.parametrize(("ttl", "expected"), [(5, 30), (60, 60), (4000, 100)])
def test_limits_hold_for_lifetime_and_ttl(ttl: int, expected: int) -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. {ttl} A 192.0.2.1"]), shortest=30, longest=100)
    assert found.lifetime == expected
    assert shown(found.answer, NAME).answer[0].ttl == expected


# --- negative answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(("rcode", "kind"), [(3, NXNAME), (0, NODATA)])
@pytest.mark.parametrize(
    ("ttl", "minimum", "limit", "expected"), [(600, 60, 3600, 60), (50, 60, 3600, 50), (600, 600, 30, 30)]
)
def test_absence(rcode: int, kind: str, ttl: int, minimum: int, limit: int, expected: int) -> None:
    # RFC 2308 §5; what is said to the client is the time that it is kept.
    soa = f"example.com. {ttl} SOA ns.example.com. admin.example.com. 7 3600 600 86400 {minimum}"
    found = read(reply_of(NAME, authorities=["example.net" + soa[11:], soa], rcode=rcode), negative=limit, shortest=90)
    assert (found.rcode, found.kind, found.lifetime) == (rcode, kind, expected)
    message = shown(found.answer, NAME)
    assert not message.answer
    assert lines(message.authority) == [soa.replace(f" {ttl} SOA", f" {expected} SOA")]
    assert found.answer.authority[:2] == b"\xc0\x10"


def test_absence_without_soa_is_not_kept() -> None:
    for rcode, kind in ((3, NXNAME), (0, NODATA)):
        found = read(reply_of(NAME, rcode=rcode, authorities=["other.example. 60 SOA a. b. 1 2 3 4 60"]))
        assert (found.kind, found.lifetime, found.answer.authority) == (kind, 0, b"")


@pytest.mark.parametrize("owner", ["sub.www.example.com.", "ww.example.com.", "xexample.com.", "com.example."])
def test_soa_of_another_place(owner: str) -> None:
    assert read(reply_of(NAME, rcode=3, authorities=[owner + SOA.removeprefix("example.com.")])).lifetime == 0


@pytest.mark.parametrize("owner", ["www.example.com.", "EXAMPLE.com.", "com.", "."])
def test_soa_at_or_above_the_name(owner: str) -> None:
    assert read(reply_of(NAME, rcode=3, authorities=[owner + SOA.removeprefix("example.com.")])).lifetime == 60


def test_an_alias_of_what_is_not_there() -> None:
    packet = reply_of(
        NAME,
        answers=[f"{NAME}. 40 CNAME gone.example.net."],
        authorities=[SOA, SOA.replace("example.com", "example.net")],
        rcode=3,
    )
    found = read(packet)
    assert (found.rcode, found.kind, found.lifetime) == (3, NXNAME, 40)
    message = shown(found.answer, NAME)
    assert lines(message.answer) == [f"{NAME}. 40 CNAME gone.example.net."]
    assert lines(message.authority) == [SOA.replace("example.com", "example.net").replace("600 SOA", "60 SOA")]


def test_a_chain_without_an_end_tells_where_it_leads() -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. 300 CNAME B.example.net."], authorities=["example.com. 9 NS a."]))
    assert (found.kind, found.lifetime, found.rcode) == (POSITIVE, 300, 0)
    assert found.answer.beyond == name_to_wire("b.example.net")
    assert len(shown(found.answer, NAME).answer) == 1


def test_a_chain_that_is_known_to_end_in_nothing_leads_nowhere() -> None:
    alias = [f"{NAME}. 300 CNAME b.example.net."]
    found = read(reply_of(NAME, answers=alias, authorities=["example.net. 60 SOA a. b. 1 2 3 4 30"]))
    assert (found.kind, found.lifetime, found.answer.beyond) == (NODATA, 30, b"")


@pytest.mark.parametrize("whole", [False, True])
def test_a_chain_stops_where_others_tell(whole: bool) -> None:
    ours = name_to_wire("web.marathon.mesos")
    told = [
        f"{NAME}. 300 CNAME a.example.net.",
        "a.example.net. 200 CNAME web.marathon.mesos.",
        "web.marathon.mesos. 100 A 6.6.6.6",
    ]
    packet = reply_of(NAME, answers=told)
    assert read(packet, whole=whole).answer.beyond == b""
    found = read_reply(packet, name_to_wire(NAME), A, whole=whole, stops=lambda name: name == ours)
    assert (found.kind, found.lifetime, found.rcode, found.answer.beyond) == (POSITIVE, 200, 0, ours)
    assert lines(shown(found.answer, NAME).answer) == [
        f"{NAME}. 300 CNAME a.example.net.",
        "a.example.net. 200 CNAME web.marathon.mesos.",
    ]


def test_two_replies_as_one() -> None:
    first = reply_of(NAME, answers=[f"{NAME}. 300 CNAME b.example.net."])
    target = name_to_wire("b.example.net")
    second = reply_of(
        "b.example.net", answers=["b.example.net. 60 CNAME c.example.net.", "c.example.net. 50 A 1.2.3.4"]
    )
    answer = joined(first, second, name_to_wire(NAME), target, A)
    assert lines(shown(answer, NAME).answer) == [
        f"{NAME}. 300 CNAME b.example.net.",
        "b.example.net. 60 CNAME c.example.net.",
        "c.example.net. 50 A 1.2.3.4",
    ]
    missing = reply_of("b.example.net", authorities=["example.net. 60 SOA a. b. 1 2 3 4 30"], rcode=3)
    answer = joined(first, missing, name_to_wire(NAME), target, A)
    assert (answer.rcode, answer.authority_count, len(shown(answer, NAME).answer)) == (3, 1, 1)


def test_a_referral_is_no_answer() -> None:
    assert reason(reply_of(NAME, authorities=["com. 300 NS a.gtld.example."])) == "a referral"


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 9])
def test_other_codes_are_failures(rcode: int) -> None:
    found = read(reply_of(NAME, answers=[f"{NAME}. 300 A 192.0.2.1"], rcode=rcode))
    assert (found.rcode, found.kind, found.lifetime, found.answer.wire) == (rcode, FAILURE, 0, b"")


def test_the_whole_code_counts() -> None:
    opt = b"\0\0\x29\x04\xd0\1\0\0\0\0\0"
    found = read(reply_of(NAME, answers=[f"{NAME}. 300 A 192.0.2.1"], additionals=[opt]))
    assert (found.rcode, found.kind) == (16, FAILURE)


LOOPED = (f"{NAME}. 9 CNAME a.example.com.", "a.example.com. 9 CNAME b.example.com.", f"b.example.com. 9 CNAME {NAME}.")
LONG = [f"{NAME}. 9 CNAME c0.example.com.", *(f"c{n}.example.com. 9 CNAME c{n + 1}.example.com." for n in range(20))]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (b"", "too short"),
        (reply_of(NAME)[:20], "too short"),
        (reply_of(NAME, flags=0x0180), "no reply to one question"),
        (reply_of(NAME, flags=0xA180), "no reply to one question"),
        (reply_of("example.net"), "too short"),
        (reply_of("www.example.net"), "a reply to another question"),
        (reply_of(NAME, "AAAA"), "a reply to another question"),
        (reply_of(NAME, flags=0x8380), "cut short by its sender"),
        (reply_of(NAME) + b"\0", "octets behind the last record"),
        (reply_of(NAME, answers=[f"{NAME}. 9 A 192.0.2.1"])[:-1], "a record that is cut short"),
        (reply_of(NAME, answers=[b"\xc0\x0c\0\1"]), "a record that is cut short"),
        (reply_of(NAME, answers=[b"\xc0\x0c\0\1\0\1\0\0\0\x09\0\3\1\2\3"]), "an address of another size"),
        (reply_of(NAME, answers=[b"\xc0\x0c\0\1\0\1\0\0\0\x09\0\0"]), "an address of another size"),
        (reply_of(NAME, answers=list(LOOPED)), "aliases in a circle"),
        (reply_of(NAME, answers=[f"{NAME}. 9 CNAME WWW.example.com."]), "aliases in a circle"),
        (reply_of(NAME, answers=LONG), "too many aliases"),
        (reply_of(NAME, answers=[f"{NAME}. 9 A 192.0.2.1"], rcode=3), "records of a name that does not exist"),
        (reply_of(NAME, additionals=[b"\0\0\x29\4\xd0\0\0\0\0\0\0"] * 2), "two OPT records"),
        (reply_of(NAME, answers=[record(f"{NAME}. 9 A 192.0.2.1")] * 4001), "too many records"),
        (reply_of(NAME, answers=[b"\x40abc"]), "a label of an unknown kind"),
        (reply_of(NAME, answers=[b"\5abc"]), "a name that is cut short"),
        (reply_of(NAME, answers=[b"\xc0"]), "a name that is cut short"),
        (reply_of(NAME, answers=[b"\xc0\x00" + record(". 9 A 192.0.2.1")]), "a pointer that does not lead back"),
        (reply_of(NAME, answers=[b"\xc0\x21" + record(". 9 A 192.0.2.1")]), "a pointer that does not lead back"),
        (reply_of(NAME, answers=[b"\1a\xc0\x21" + record(". 9 A 192.0.2.1")]), "a pointer that does not lead back"),
    ],
)
def test_malformed(packet: bytes, text: str) -> None:
    assert reason(packet) == text


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (CNAME, b"\1a\0\0"),
        (CNAME, b"\1a"),
        (CNAME, b""),
        (MX, b"\0"),
        (MX, b"\0\1"),
        (SOA_TYPE, b"\0\0" + bytes(19)),
        (SOA_TYPE, b"\0\0" + bytes(21)),
        (SRV, b"\0\0\0\0\0\0\1a"),
        (35, b"\0\1\0\1\5a\0\0\0"),
        (35, b"\0\1\0\1"),
        (46, bytes(17)),
    ],
)
def test_data_that_is_not_as_its_type_says(number: int, data: bytes) -> None:
    rr = b"\xc0\x0c" + number.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    packet = reply_of(NAME, f"TYPE{number}", [rr])
    with pytest.raises(Malformed):
        read(packet, qtype=number)


def test_a_name_that_becomes_too_long() -> None:
    long = ".".join(["a" * 49] * 5)
    rr = name_to_wire(f"{'b' * 40}.x")[:-3] + b"\xc0\x0c" + record(". 9 A 192.0.2.1")[1:]
    assert reason(reply_of(long, answers=[rr]), long) == "a name that is too long"


def test_pointers_to_pointers_are_followed_to_an_end() -> None:
    # 900 records, each with a pointer to the pointer before: bounded work, and no exhausted stack.
    start = 16 + len(WIRE)
    rows = [b"\xc0\x0c" + bytes((0, 16, 0, 1, 0, 0, 0, 60, 0, 2)) + b"\1x"]
    for number in range(1, 900):
        rows.append((0xC000 | start + 14 * (number - 1)).to_bytes(2, "big") + rows[0][2:])
    found = read(reply_of(NAME, "TXT", rows), qtype=16)
    assert len(shown(found.answer, NAME, "TXT").answer) == 1


def test_no_pointer_leads_forwards() -> None:
    later = record("later.example.net. 9 TXT x")
    owner = (0xC000 | 16 + len(WIRE) + 16).to_bytes(2, "big")
    packet = reply_of(NAME, answers=[owner + record(". 9 A 192.0.2.1")[1:], later])
    assert packet[owner[1] :].startswith(b"\5later")
    assert reason(packet) == "a pointer that does not lead back"


def test_an_alias_with_other_records_beside_it() -> None:
    answers = [f"{NAME}. 9 TXT x", f"{NAME}. 9 CNAME a.example.net.", "a.example.net. 9 A 192.0.2.1"]
    assert lines(shown(read(reply_of(NAME, answers=answers)).answer, NAME).answer) == answers[1:]


def test_old_types_go_out_as_nobody_may_misread_them() -> None:
    found = read(reply_of(NAME, "MB", [pointing(7, b"\1x")]), qtype=7)
    assert found.answer.wire.endswith(b"\1x\7example\3com\0")


@pytest.mark.parametrize(("pointers", "bounded"), [(100, False), (130, True), (3000, True)])
def test_chains_of_pointers_are_bounded(pointers: int, bounded: bool) -> None:
    start = 16 + len(WIRE) + 12  # of the data of a type that nobody knows
    targets = [12, *range(start, start + 2 * pointers, 2)]
    data = b"".join((0xC000 | target).to_bytes(2, "big") for target in targets[:-1])
    opaque = b"\xc0\x0c\xff\0\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    last = (0xC000 | targets[-1]).to_bytes(2, "big") + record(". 9 A 192.0.2.1")[1:]
    packet = reply_of(NAME, answers=[opaque, last])
    if bounded:
        assert reason(packet) == "a pointer that does not lead back"
    else:
        assert lines(shown(read(packet).answer, NAME).answer) == [f"{NAME}. 9 A 192.0.2.1"]


# --- for clients that ask for signatures ----------------------------------------------------------

SIGNED = "A 8 3 300 20300101000000 20200101000000 1 example.com. AAAA"


def test_signatures_are_passed_on() -> None:
    answers = [f"{NAME}. 300 A 192.0.2.1", f"{NAME}. 200 RRSIG {SIGNED}"]
    authorities = ["example.com. 100 NS ns.example.com.", "a.example.com. 90 NSEC z.example.com. A RRSIG"]
    packet = reply_of(NAME, answers=answers, authorities=authorities, additionals=["ns.example.com. 9 A 192.0.2.9"])
    plain, whole = read(packet), read(packet, whole=True)
    assert lines(shown(plain.answer, NAME).answer) == answers[:1]
    message = shown(whole.answer, NAME)
    assert [line.split(" ")[:3] for line in lines(message.answer)] == [line.split(" ")[:3] for line in answers]
    assert lines(message.authority) == authorities
    assert not message.additional
    assert (whole.kind, whole.lifetime) == (POSITIVE, 90)
    assert not whole.answer.rotate


def test_absence_with_proof() -> None:
    proof = "example.com. 300 NSEC z.example.com. NS SOA"
    found = read(reply_of(NAME, rcode=3, authorities=[proof, SOA]), whole=True, negative=30)
    assert (found.kind, found.lifetime) == (NXNAME, 30)
    assert lines(shown(found.answer, NAME).authority) == [proof, SOA.replace("600 SOA", "30 SOA")]


def test_whole_answers_are_bounded_and_checked() -> None:
    rows = [record(f"{'x' * 60}{n}.{'y' * 60}{n}. 9 RRSIG {SIGNED}") for n in range(10)]
    assert reason(reply_of(NAME, answers=list(LOOPED)), whole=True) == "aliases in a circle"
    assert len(shown(read(reply_of(NAME, answers=rows), whole=True).answer, NAME).answer) == 10
    many = [b"\xc0\x0c\0\x2e\0\1\0\0\0\x09\0\x19" + n.to_bytes(18, "big") + b"\xc0\x0c" + bytes(5) for n in range(2000)]
    assert reason(reply_of(NAME, answers=many), whole=True) == "more records than fit in a packet"
