"""Parts of an answer from several who tell."""

from __future__ import annotations

from mesos_dns.answer import Answer
from mesos_dns.message import NXDOMAIN, SERVFAIL, Query
from mesos_dns.resolver.aliases import behind, with_end
from mesos_dns.resolver.reading import MOST_OCTETS
from mesos_dns.wire import name_to_wire
from tests.fakes.resolving import lines, record, shown

NAME, TARGET = "www.example.com", "CDN.example.net"
QUESTION = name_to_wire("wWw.Example.com") + b"\0\1\0\1"
ASKED = Query(7, 0x0100, QUESTION, name_to_wire(NAME), 1, 1, False, 512)
ALIAS = Answer(0, [record(f"{NAME}. 60 CNAME {TARGET}.")], aa=False, beyond=name_to_wire(TARGET))


def test_the_question_for_the_end() -> None:
    asked = behind(ASKED, ALIAS.beyond)
    assert (asked.question, asked.name) == (name_to_wire(TARGET) + b"\0\1\0\1", name_to_wire(TARGET.lower()))
    assert (asked.id, asked.flags, asked.qtype) == (7, 0x0100, 1)


def test_both_parts_are_one_answer_in_their_order() -> None:
    end = Answer(0, [b"\xc0\x0c" + record(f"x. 9 A 192.0.2.{n}")[3:] for n in (1, 2)])
    answer = with_end(ASKED, ALIAS, end)
    assert lines(shown(answer, NAME).answer) == [
        f"{NAME}. 60 CNAME {TARGET}.",
        f"{TARGET}. 9 A 192.0.2.1",
        f"{TARGET}. 9 A 192.0.2.2",
    ]
    assert (answer.aa, answer.rotate, answer.rcode) == (False, False, 0)


def test_code_and_error_are_those_of_the_end() -> None:
    soa = record("example.net. 60 SOA a. b. 1 2 3 4 5")
    answer = with_end(ASKED, ALIAS, Answer(NXDOMAIN, [], authority=[soa], extended_error=19))
    assert (answer.rcode, answer.authority_count, answer.extended_error) == (NXDOMAIN, 1, 19)


def test_what_is_too_large_together_is_an_error() -> None:
    text = record('x. 9 TXT "' + "a" * 200 + '"')[3:]
    each = [b"\xc0\x0c" + text.replace(b"a" * 200, b"%0200d" % number) for number in range(MOST_OCTETS // len(text))]
    end = Answer(0, each)
    asked = Query(7, 0x0100, QUESTION[:-4] + b"\0\x10\0\1", name_to_wire(NAME), 16, 1, False, 512)
    assert with_end(asked, ALIAS, end).rcode == SERVFAIL
