"""What goes out to one client: cookies, the rate limit, extended errors, and the order of options."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from mesos_dns.cookies import reply_cookie
from mesos_dns.model import Entity
from mesos_dns.respond import Forward, Responder
from mesos_dns.wire import name_to_wire
from tests.fakes.questions import answers, has_flag, packet, soa, static, task, view_of

SECRET = bytes(range(16))
NOW = 1_700_000_000
PUBLIC, OTHER = bytes((198, 51, 100, 7)), bytes((203, 0, 113, 7))
COOKIE = b"12345678"
AA, TC = dns.flags.AA, dns.flags.TC
WEB = "web.marathon.mesos"


def responder_of(*entities: Entity, **config: Any) -> Responder:
    """A responder with a known secret and a clock that stands still."""
    view = view_of(*(entities or (task(host_ports=(31000,)),)), **config)
    responder = Responder(view, view.config, secrets=[SECRET])
    responder.replies.clock = lambda: NOW * 1000
    return responder


def good(client: bytes = PUBLIC, now: int = NOW) -> bytes:
    """A cookie as a client has it from an earlier answer."""
    return reply_cookie(COOKIE, client, now, [SECRET])[0]


def option(code: int, data: bytes = b"") -> dns.edns.GenericOption:
    return dns.edns.GenericOption(dns.edns.OptionType.make(code), data)


def question(
    name: str = WEB, rtype: str = "A", *, cookie: bytes = b"", more: tuple[int, ...] = (), **edns: Any
) -> bytes:
    """A query with EDNS and these options."""
    options = [option(10, cookie)] if cookie else []
    return packet(name, rtype, payload=1232, options=[*options, *map(option, more)], **edns)


def ask(
    responder: Responder, query: bytes, transport: str = "udp", client: bytes = PUBLIC
) -> dns.message.Message | None:
    reply = responder.respond(query, transport, client)
    assert reply is None or isinstance(reply, bytes)
    return None if reply is None else dns.message.from_wire(reply, ignore_trailing=False)


def sent(responder: Responder) -> Counter[tuple[str, int]]:
    """(transport, code) of the replies that were counted."""
    found: Counter[tuple[str, int]] = Counter()
    for (transport, _, _, rcode, _), count in responder.counters.responses.items():
        found[transport, rcode] += count
    return found


def told(message: dns.message.Message | None) -> list[tuple[int, bytes]]:
    """(code, data) of the options, in their order."""
    assert message is not None
    return [(int(each.otype), each.to_wire() or b"") for each in message.options]


# --- cookies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize(
    ("name", "rtype", "rcode"),
    [
        (WEB, "A", "NOERROR"),
        (WEB, "TXT", "NOERROR"),
        ("nope.mesos", "A", "NXDOMAIN"),
        ("www.example.net", "A", "REFUSED"),
        ("mesos", "IXFR", "REFUSED"),
    ],
)
def test_every_answer_has_the_cookie(transport: str, name: str, rtype: str, rcode: str) -> None:
    reply = ask(responder_of(), question(name, rtype, cookie=COOKIE), transport)
    assert reply is not None
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert told(reply)[0] == (10, good())


def test_what_a_cookie_is_worth_is_counted() -> None:
    responder = responder_of()
    old = good(now=NOW - 3000)
    for cookie in (COOKIE, good(), old, good(OTHER), COOKIE + bytes(32), good(now=NOW - 3601)):
        reply = ask(responder, question(cookie=cookie))
        assert told(reply) == [(10, good())]
        assert answers(reply)  # type: ignore[arg-type]  # told has looked
    ask(responder, question())
    assert responder.counters.cookies == {"new": 1, "valid": 2, "invalid": 3}


def test_a_good_cookie_comes_back_as_it_is() -> None:
    cookie = good(now=NOW - 1800)
    assert told(ask(responder_of(), question(cookie=cookie))) == [(10, cookie)]


@pytest.mark.parametrize("client", [PUBLIC, b""])
def test_no_cookie_without_a_client_or_with_cookies_off(client: bytes) -> None:
    responder = responder_of(cookies=bool(not client))
    assert told(ask(responder, question(cookie=COOKIE), client=client)) == []
    assert not responder.counters.cookies


def test_no_cookie_without_edns() -> None:
    reply = ask(responder_of(), packet(WEB))
    assert reply is not None
    assert reply.edns == -1


@pytest.mark.parametrize(
    ("cookie", "rcode", "counted"), [(COOKIE, 0, "new"), (good(), 0, "valid"), (good(OTHER), 23, "invalid")]
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_cookie_without_a_question(cookie: bytes, rcode: int, counted: str, transport: str) -> None:
    # RFC 7873 §5.4
    responder = responder_of()
    query = dns.message.Message(0x1234)
    query.use_edns(0, options=[option(10, cookie)])
    reply = ask(responder, query.to_wire(), transport)
    assert reply is not None
    assert (reply.rcode(), reply.question, told(reply)) == (rcode, [], [(10, good())])
    assert responder.counters.cookies == {counted: 1}
    assert sent(responder) == {(transport, rcode): 1}


def test_a_cookie_without_a_question_where_there_are_no_cookies() -> None:
    query = dns.message.Message(0x1234)
    query.use_edns(0, options=[option(10, COOKIE)])
    reply = ask(responder_of(cookies=False), query.to_wire())
    assert reply is not None
    assert (reply.rcode(), reply.edns) == (dns.rcode.FORMERR, -1)


def test_a_broken_cookie() -> None:
    reply = ask(responder_of(), question(cookie=b"1234567"))
    assert reply is not None
    assert (reply.rcode(), reply.edns, told(reply)) == (dns.rcode.FORMERR, 0, [])
    assert reply.question


# --- the rate limit -------------------------------------------------------------------------------


def outcomes(responder: Responder, query: bytes, count: int, **more: Any) -> Counter[str]:
    """How often an answer was whole, cut, refused for its cookie, or not there."""
    found: Counter[str] = Counter()
    for _ in range(count):
        reply = ask(responder, query, **more)
        if reply is None:
            found["none"] += 1
        elif reply.rcode() == 23:
            found["badcookie"] += 1
        else:
            found["cut" if has_flag(reply, TC) else "whole"] += 1
    return found


def test_over_the_limit_every_second_answer_says_come_by_tcp() -> None:
    responder = responder_of(rate_limit=10)
    assert outcomes(responder, question(), 30) == {"whole": 10, "none": 10, "cut": 10}
    assert responder.counters.limited == {"dropped": 10, "slipped": 10}
    assert sent(responder) == {("udp", 0): 20}
    assert not responder.counters.truncated
    assert outcomes(responder, question(), 30, transport="tcp") == {"whole": 30}


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "authoritative"),
    [
        (WEB, "A", "NOERROR", True),
        (WEB, "TXT", "NOERROR", True),
        ("nope.mesos", "A", "NXDOMAIN", True),
        ("www.example.net", "A", "REFUSED", False),
        ("1.0.0.9.in-addr.arpa", "PTR", "NOERROR", True),
    ],
)
@pytest.mark.parametrize("edns", [False, True])
def test_what_slips_is_the_answer_without_its_records(
    name: str, rtype: str, rcode: str, authoritative: bool, edns: bool
) -> None:
    responder = responder_of(rate_limit=1, rate_limit_slip=1)
    query = question(name.upper(), rtype) if edns else packet(name.upper(), rtype)
    ask(responder, query)
    reply = ask(responder, query)
    assert reply is not None
    assert has_flag(reply, TC)
    assert has_flag(reply, AA) is authoritative
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert (reply.answer, reply.authority, reply.additional) == ([], [], [])
    assert reply.question == dns.message.from_wire(query).question
    assert (reply.edns, reply.options) == (0 if edns else -1, ())
    wire = responder.respond(query, "udp", PUBLIC)
    assert isinstance(wire, bytes)
    assert wire.startswith(query[12:20], 12)  # in the client's spelling


@pytest.mark.parametrize(
    "query",
    [
        b"\x12\x34\x28\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\6\0\1",
        b"\x12\x34\1\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2,
        question(version=1),
        question(cookie=b"123"),
    ],
)
def test_errors_are_limited(query: bytes) -> None:
    responder = responder_of(rate_limit=3)
    replies = [responder.respond(query, "udp", PUBLIC) for _ in range(9)]
    assert [reply is None for reply in replies] == [False] * 3 + [True, False] * 3
    whole, cut = replies[0], replies[4]
    assert isinstance(whole, bytes)
    assert cut == whole[:2] + bytes((whole[2] | 2,)) + whole[3:]
    assert responder.counters.limited == {"dropped": 3, "slipped": 3}


def test_names_that_are_not_there_count_together() -> None:
    responder = responder_of(task(), static("*.apps.mesos.", "A", b"\x0a\0\0\1"), rate_limit=10)
    for pattern, rtype in (("x{}.mesos", "A"), ("x{}.apps.mesos", "A"), (WEB, "TYPE{}"), ("x{}.example.net", "A")):
        found: Counter[str] = Counter()
        for number in range(1000, 1030):
            found += outcomes(responder, question(pattern.format(number), rtype.format(number)), 1)
        assert found == {"whole": 10, "none": 10, "cut": 10}, pattern
    assert outcomes(responder, question(), 10) == {"whole": 10}
    assert outcomes(responder, question(WEB.upper()), 2) == {"none": 1, "cut": 1}
    assert outcomes(responder, question(), 2, client=OTHER) == {"whole": 2}


def test_referrals_are_limited_by_their_zone() -> None:
    zone = "example.org."
    responder = responder_of(
        static(zone, "SOA", soa(), zone=zone), static("sub.example.org.", "NS", name_to_wire("ns.net"), zone=zone),
        rate_limit=2, rate_limit_slip=0,
    )  # fmt: skip
    found = [outcomes(responder, question(f"x{number}.sub.example.org"), 1) for number in range(4)]
    assert found == [{"whole": 1}] * 2 + [{"none": 1}] * 2


def test_forwarded_questions_are_limited_before_they_are_asked() -> None:
    responder = responder_of(rate_limit=2, forward=("192.0.2.53",))
    query = question("www.example.net", cookie=COOKIE)
    replies = [responder.respond(query, "udp", PUBLIC) for _ in range(4)]
    assert [type(reply) for reply in replies] == [Forward, Forward, type(None), bytes]
    assert isinstance(replies[0], Forward)
    assert replies[0].client == PUBLIC
    assert responder.counters.forwarded["sent"] == 2
    assert responder.counters.limited == {"dropped": 1, "badcookie": 1}
    assert isinstance(responder.respond(question("www.example.net", cookie=good()), "udp", PUBLIC), Forward)


@pytest.mark.parametrize("cookie", [COOKIE, good(OTHER), COOKIE + bytes(16)])
@pytest.mark.parametrize("flags", [0, dns.flags.DO])
def test_who_has_cookies_learns_ours_and_is_let_in(cookie: bytes, flags: int) -> None:
    responder = responder_of(rate_limit=1)
    query = question(cookie=cookie, ednsflags=flags)
    assert outcomes(responder, query, 4) == {"whole": 1, "none": 2, "badcookie": 1}
    reply = ask(responder, query)
    ask(responder, query)
    assert reply is not None
    assert told(reply) == [(10, good())]
    assert reply.question
    assert reply.ednsflags & 0x8000 == flags
    assert not has_flag(reply, TC)
    assert responder.counters.limited == {"dropped": 3, "badcookie": 2}
    cookie = bytes(told(reply)[0][1])
    assert outcomes(responder, question(cookie=cookie), 100) == {"whole": 100}


def test_cookies_alone_are_limited() -> None:
    responder = responder_of(rate_limit=1, rate_limit_slip=1)
    query = dns.message.Message(0x1234)
    query.use_edns(0, options=[option(10, COOKIE)])
    assert outcomes(responder, query.to_wire(), 3) == {"whole": 1, "badcookie": 2}


def test_without_cookies_a_cookie_changes_nothing() -> None:
    responder = responder_of(rate_limit=1, cookies=False)
    assert outcomes(responder, question(cookie=good()), 5) == {"whole": 1, "none": 2, "cut": 2}


@pytest.mark.parametrize("client", [bytes((10, 0, 0, 1)), bytes((127, 0, 0, 1)), bytes(15) + b"\1", b""])
def test_private_clients_are_limited_where_that_is_wanted(client: bytes) -> None:
    assert outcomes(responder_of(rate_limit=1), question(), 9, client=client) == {"whole": 9}
    limited = outcomes(responder_of(rate_limit=1, rate_limit_private=True), question(), 9, client=client)
    assert limited["whole"] == (1 if client else 9)


def test_no_limit() -> None:
    assert outcomes(responder_of(rate_limit=0), question(), 500) == {"whole": 500}


# --- extended errors ------------------------------------------------------------------------------


def extended(message: dns.message.Message | None) -> int | None:
    """The code of the one extended error; none has a text."""
    found = [data for code, data in told(message) if code == 15]
    assert len(found) <= 1
    return int.from_bytes(found[0], "big") if found else None


def zones() -> list[Entity]:
    zone = "example.org."
    return [
        task(),
        static(zone, "SOA", soa(), zone=zone),
        static("www.example.org.", "A", b"\x0a\7\0\1", zone=zone),
        static("alias.example.org.", "CNAME", name_to_wire(WEB), zone=zone),
        static("*.apps.mesos.", "A", b"\x0a\0\0\1"),
    ]


@pytest.mark.parametrize(
    ("name", "rtype", "fresh", "stale"),
    [
        (WEB, "A", None, 3),
        (WEB, "TXT", None, 3),
        ("x.apps.mesos", "A", None, 3),
        ("1.0.0.9.in-addr.arpa", "PTR", None, 3),
        ("1.0.0.9.in-addr.arpa", "A", None, 3),
        ("1.0.0.9.in-addr.arpa", "SOA", None, 3),
        ("nope.mesos", "A", None, 19),
        ("nope.mesos.thisdcos.directory", "A", None, 19),
        ("alias.example.org", "A", None, 3),
        ("www.example.org", "A", None, None),
        ("www.example.org", "TXT", None, None),
        ("nope.example.org", "A", None, None),
        ("www.example.net", "A", 20, 20),
        ("mesos", "AXFR", 18, 18),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_extended_errors(name: str, rtype: str, fresh: int | None, stale: int | None, transport: str) -> None:
    responder = responder_of(*zones())
    assert extended(ask(responder, question(name, rtype), transport)) == fresh
    responder.stale = True
    assert extended(ask(responder, question(name, rtype), transport)) == stale
    plain = ask(responder, packet(name, rtype), transport)
    assert plain is not None
    assert plain.edns == -1
    responder.stale = False
    assert extended(ask(responder, question(name, rtype), transport)) == fresh


def test_other_classes_are_not_ours() -> None:
    assert extended(ask(responder_of(), question(rclass="CH"))) == 20


def test_not_ready() -> None:
    responder = responder_of()
    responder.view.known = lambda: False
    responder.stale = True
    reply = ask(responder, question("nope.mesos"))
    assert reply is not None
    assert (dns.rcode.to_text(reply.rcode()), extended(reply)) == ("SERVFAIL", 14)
    assert extended(ask(responder, question())) == 3


# --- keepalive, padding, order --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "expected"), [("udp", [10, 15]), ("tcp", [10, 15, 11]), ("tls", [10, 15, 11, 12])]
)
def test_the_order_of_options(transport: str, expected: list[int]) -> None:
    responder = responder_of()
    responder.stale = True
    reply = responder.respond(question(cookie=COOKIE, more=(12, 11)), transport, PUBLIC)
    assert isinstance(reply, bytes)
    found = told(dns.message.from_wire(reply, ignore_trailing=False))
    assert [code for code, _ in found] == expected
    if transport != "udp":
        assert found[2] == (11, (100).to_bytes(2, "big"))
    assert (len(reply) % 468 == 0) == (transport == "tls")


def test_options_count_for_the_size_of_an_answer() -> None:
    responder = responder_of(*(task(number) for number in range(60)))
    responder.stale = True
    for cookie in (b"", COOKIE):
        options = [option(10, cookie)] if cookie else []
        for payload in range(512, 560):
            reply = responder.respond(packet(WEB, payload=payload, options=options), "udp", PUBLIC)
            assert isinstance(reply, bytes)
            assert payload - 16 < len(reply) <= payload
            assert dns.message.from_wire(reply, ignore_trailing=False).flags & TC


def test_a_failure_and_a_fault() -> None:
    responder = responder_of(forward=("192.0.2.53",))
    decision = responder.respond(question("www.example.net", cookie=COOKIE), "udp", PUBLIC)
    assert isinstance(decision, Forward)
    reply = responder.failure(decision.query, 2, "udp", decision.client)
    assert told(dns.message.from_wire(reply)) == [(10, good())]
    assert told(dns.message.from_wire(responder.failure(decision.query, 2, "udp"))) == []
    fault = responder.fault(question(cookie=COOKIE))
    assert fault is not None
    assert told(dns.message.from_wire(fault)) == []
    assert responder.counters.faults == 1
