"""Answers of others in the table: TTLs fall with age, then Python is asked; who is answered at all."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from mesos_dns._native import PREFIXES
from mesos_dns.answer import Answer, Glue, ttl_places
from mesos_dns.edns import PROHIBITED, STALE, STALE_NXDOMAIN
from mesos_dns.fastpath import CACHE_ZONE, Network
from mesos_dns.wire import name_to_wire
from mesos_dns.zone import EVERYTHING
from tests.fakes.aged_answers import BEGAN, QUESTION, Cached, address, others, record, soa_of
from tests.fakes.fast_answers import PRIVATE, PUBLIC
from tests.fakes.native_table import key_of
from tests.fakes.questions import packet, put, soa, static, task

NAME = "www.example.net"
KEY, ASKED = key_of(NAME), packet(NAME)
WITH_EDNS = packet(NAME, payload=1232)
MAPPED = bytes(10) + b"\xff\xff"


def ttls(reply: bytes | None) -> list[int]:
    assert reply is not None
    message = dns.message.from_wire(reply, ignore_trailing=False)
    return [rrset.ttl for rrset in message.answer + message.authority]


def told(reply: bytes | None) -> list[int]:
    """The extended errors of a reply."""
    assert reply is not None
    return [option.code for option in dns.message.from_wire(reply).options if isinstance(option, dns.edns.EDEOption)]


def kept(answer: Answer, lifetime: int = 300, stale: bool = False, key: bytes = KEY, **config: object) -> Cached:
    cached = Cached(**config)  # type: ignore[arg-type]
    assert cached.path.keep_aged(key, answer, lifetime, stale=stale)
    return cached


# --- age ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_ttls_fall_with_age_and_never_below_zero(transport: str) -> None:
    answer = others(address(1, 300), record(QUESTION, 28, 30, bytes(16)), rcode=0)
    cached = kept(answer)
    for age, expected in ((0, [300, 30]), (1, [299, 29]), (30, [270, 0]), (299, [1, 0])):
        cached.now = BEGAN + age
        reply = cached.ready(ASKED, transport)
        assert ttls(reply) == expected
        assert reply == cached.said(answer, ASKED, transport)
        assert not dns.message.from_wire(reply or b"").flags & dns.flags.AA


def test_what_is_too_old_is_left_to_python() -> None:
    cached = kept(others(address(1, 3600)), 10)
    cached.now += 9
    assert ttls(cached.ready(ASKED)) == [3591]
    cached.now += 1
    assert cached.ready(ASKED) is None
    assert cached.path.figures()["answers"] == 1


def test_a_clock_that_is_behind_makes_nothing_older() -> None:
    cached = kept(others(address(1, 300)), 10)
    cached.now -= 3
    assert ttls(cached.ready(ASKED)) == [300]


def test_a_clock_that_begins_again_makes_nothing_older() -> None:
    cached = Cached()
    cached.now = (1 << 32) - 2
    assert cached.path.keep_aged(KEY, others(address(1, 300)), 300)
    cached.now += 5
    assert ttls(cached.ready(ASKED)) == [295]


@pytest.mark.parametrize("lifetime", [1, 0x7FFFFFFF, 0x80000000, 1 << 40])
def test_lifetimes_at_their_limits(lifetime: int) -> None:
    cached = kept(others(address(1, 0xFFFFFFFF)), lifetime)
    assert ttls(cached.ready(ASKED)) == [0]  # as dnspython reads a TTL beyond 31 bits (RFC 2181 §8)
    cached.now += 1
    assert (cached.ready(ASKED) is None) == (lifetime == 1)


@pytest.mark.parametrize("edns", [{}, {"payload": 1232}])
def test_only_who_wants_recursion_and_no_dnssec_is_answered(edns: dict[str, int]) -> None:
    cached = kept(others(address(1)))
    asked = bytearray(packet(NAME, **edns))  # type: ignore[arg-type]
    assert cached.ready(bytes(asked)) is not None
    for place, bit, answered in ((2, 1, False), (3, 0x10, False), (3, 0x20, True)):
        changed = bytearray(asked)
        changed[place] ^= bit
        assert (cached.ready(bytes(changed)) is not None) == answered, (place, bit)
    assert cached.ready(packet(NAME, payload=1232, ednsflags=0x8000)) is None


@pytest.mark.parametrize(("rcode", "code"), [(0, STALE), (3, STALE_NXDOMAIN), (2, STALE)])
def test_what_is_past_its_time_says_so(rcode: int, code: int) -> None:
    answer = others(*([address(1, 30)] if not rcode else []), rcode=rcode)
    cached = kept(answer, 30, stale=True)
    assert told(cached.ready(WITH_EDNS)) == [code]
    assert cached.ready(WITH_EDNS) == cached.said(answer, WITH_EDNS, stale=True)
    assert told(cached.ready(ASKED)) == []
    assert cached.path.totals().counts["stale"] == 3
    cached.responder.stale = True  # what is said of the cluster may be out of date, which is another matter
    assert kept(answer, 30).ready(WITH_EDNS) == cached.said(answer, WITH_EDNS)


def test_an_extended_error_goes_out_with_its_answer() -> None:
    answer = others(rcode=2, extended_error=22)
    cached = kept(answer, 5)
    assert told(cached.ready(WITH_EDNS)) == [22]
    assert cached.ready(WITH_EDNS) == cached.said(answer, WITH_EDNS)
    assert cached.ready(ASKED) == cached.said(answer, ASKED)


@pytest.mark.parametrize("rcode", [0, 3])
def test_absence_carries_its_soa(rcode: int) -> None:
    answer = others(rcode=rcode, authority=[soa_of("example.net", 600)])
    cached = kept(answer, 600)
    cached.now += 100
    reply = cached.ready(ASKED)
    assert ttls(reply) == [500]
    assert dns.message.from_wire(reply or b"").rcode() == rcode
    assert reply == cached.said(answer, ASKED)


def chain(ttl: int = 300) -> list[bytes]:
    """www -> edge.cdn.example -> an address, with pointers to the question and into the first record."""
    at = 12 + len(KEY) + 12  # where the first record's data begin
    first = record(QUESTION, 5, ttl, b"\4edge\3cdn\7example\0")
    second = record((0xC000 | at).to_bytes(2, "big"), 5, ttl + 1, b"\1x" + (0xC000 | (at + 5)).to_bytes(2, "big"))
    third = (0xC000 | (12 + len(KEY) + len(first) + 12)).to_bytes(2, "big")
    return [first, second, address(7, ttl + 2, third)]


def test_a_chain_with_pointers() -> None:
    answer = others(
        *chain(), authority=[record(b"\xc0\x10", 6, 99, soa_of("example.net")[len(name_to_wire("example.net")) + 10 :])]
    )
    cached = kept(answer)
    cached.now += 50
    for asked in (ASKED, WITH_EDNS, packet(NAME.swapcase())):
        reply = cached.ready(asked)
        assert reply == cached.said(answer, asked)
        message = dns.message.from_wire(reply)
        assert [rrset.to_text().lower() for rrset in message.answer] == [
            "www.example.net. 250 in cname edge.cdn.example.",
            "edge.cdn.example. 251 in cname x.cdn.example.",
            "x.cdn.example. 252 in a 0.0.0.7",
        ]


@pytest.mark.parametrize("payload", [None, 512, 700, 1232])
def test_truncated_answers_have_the_right_ttls(payload: int | None) -> None:
    answer = others(*[address(n, 100 + n) for n in range(100)], authority=[soa_of("example.net")])
    cached = kept(answer, 1000)
    cached.now += 120
    asked = packet(NAME, payload=payload)
    reply = cached.ready(asked)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert message.flags & dns.flags.TC
    assert reply == cached.said(answer, asked)
    places = ttl_places(reply[12 + len(KEY) : len(reply) - (11 if payload else 0)])
    found = [int.from_bytes(reply[12 + len(KEY) + at :][:4], "big") for at in places]
    assert found == [max(0, 100 + n - 120) for n in range(len(found))]
    assert len(found) > 25


def test_records_are_rotated_where_the_answer_may_be() -> None:
    records = [address(n, 100) for n in range(4)]
    for rotate, config in ((True, True), (True, False), (False, True)):
        answer = others(*records, rotate=rotate)
        cached = kept(answer, rotate=config)
        cached.now += 1
        orders = set()
        for _ in range(8):
            turn = cached.responder.replies.next_turn()
            reply = cached.ready(ASKED, turn=turn)
            assert reply == cached.said(answer, ASKED, turn=turn)
            orders.add(reply)
        assert len(orders) == (4 if rotate and config else 1)


# --- what is kept ---------------------------------------------------------------------------------


def test_exactly_what_is_forgotten_is_gone() -> None:
    cached = kept(others(address(1)))
    other = key_of(NAME, 28)
    assert cached.path.keep_aged(other, others(rcode=3, authority=[soa_of("net")]), 300)
    assert cached.path.forget_aged(KEY)
    assert not cached.path.forget_aged(KEY)
    assert cached.ready(ASKED) is None
    assert cached.ready(packet(NAME, "AAAA")) is not None
    assert cached.path.figures()["answers"] == 1


def test_the_newest_answer_is_given() -> None:
    cached = kept(others(address(1, 300)))
    memory = cached.path.figures()["memory"]
    for turn in range(200):
        cached.now += 1
        assert cached.path.keep_aged(KEY, others(address(turn, 300)), 300)
        assert ttls(cached.ready(ASKED)) == [300]
    cached.path.table.reclaim()
    assert cached.path.figures()["answers"] == 1
    assert cached.path.figures()["memory"] == memory
    assert cached.path.keep_aged(KEY, others(address(2)), 300, stale=True)
    assert cached.path.keep_aged(KEY, others(address(2)), 300)
    assert told(cached.ready(WITH_EDNS)) == []


def test_all_memory_comes_back() -> None:
    cached = Cached()
    cached.path.table.clear()
    empty = cached.path.figures()["memory"]
    keys = [key_of(f"{n}.example.net") for n in range(3000)]
    for n, key in enumerate(keys):
        assert cached.path.keep_aged(key, others(*[address(m) for m in range(n % 9)]), 300)
    assert cached.path.figures()["answers"] == 3000
    for key in keys:
        assert cached.path.forget_aged(key)
    cached.path.table.reclaim()
    assert cached.path.figures()["answers"] == 0
    cached.path.drop(EVERYTHING, "")
    assert cached.path.figures()["memory"] == empty


@pytest.mark.parametrize(
    "answer",
    [
        others(address(1) + address(2)),
        others(address(1)[:-1]),
        others(address(1) + b"\0"),
        others(b"\x40" + address(1)[2:]),
        others(b"\xc0"),
        others(authority=[soa_of("net")[:-1]]),
        others(address(1), needed=[address(1)]),
        others(address(1), glue=[Glue(0, 0, b"\0", (address(1)[2:],))]),
        others(rcode=2, extended_error=49152),
    ],
)
def test_what_is_not_made_of_whole_records_is_not_kept(answer: Answer) -> None:
    cached = Cached()
    assert not cached.path.keep_aged(KEY, answer, 300)
    assert cached.path.figures()["answers"] == 0


@pytest.mark.parametrize("lifetime", [0, -1])
def test_what_has_no_time_left_is_not_kept(lifetime: int) -> None:
    assert not Cached().path.keep_aged(KEY, others(address(1)), lifetime)


def test_a_table_that_serves_no_more_keeps_nothing() -> None:
    cached = kept(others(address(1)))
    cached.path.retire()
    assert cached.ready(ASKED) is None
    assert not cached.path.keep_aged(KEY, others(address(1)), 300)


# --- our own zones --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rtype", "is_kept"),
    [
        ("web.marathon.mesos", 1, False),
        ("nope.mesos", 1, False),
        ("mesos", 6, False),
        ("xmesos", 1, True),
        ("db.consul.mesos", 1, True),
        ("consul.mesos", 1, True),
        ("xconsul.mesos", 1, False),
        ("1.0.0.9.in-addr.arpa", 12, False),
        ("1.0.0.9.in-addr.arpa", 255, False),
        ("1.0.0.9.in-addr.arpa", 16, True),
        ("2.0.0.9.in-addr.arpa", 12, True),
        ("x.0.9.in-addr.arpa", 12, True),
        ("", 2, True),
    ],
)
def test_names_of_our_own_are_not_kept(name: str, rtype: int, is_kept: bool) -> None:
    cached = Cached(task(), zones={"consul.mesos": ("192.0.2.1",)})
    assert cached.path.keep_aged(key_of(name, rtype), others(rcode=3), 300) == is_kept


def test_a_forward_zone_takes_the_place_of_our_own_and_of_what_we_know_of_addresses() -> None:
    cached = Cached(task(), zones={"mesos": ("192.0.2.1",), "9.in-addr.arpa": ("192.0.2.1",)})
    for key in (key_of("web.marathon.mesos"), key_of("mesos"), key_of("1.0.0.9.in-addr.arpa", 12)):
        assert cached.path.keep_aged(key, others(rcode=3), 300)


def test_a_zone_that_appears_wins() -> None:
    cached = kept(others(address(1)))
    assert cached.ready(ASKED) is not None
    zone = "example.net."
    cached.view.apply(put(static(zone, "SOA", soa(), zone=zone), static(f"{NAME}.", "A", b"\x0a\0\0\1", zone=zone)))
    assert cached.ready(ASKED) is None
    assert not cached.path.keep_aged(KEY, others(address(1)), 300)  # one that was on its way
    reply = cached.responder.respond(ASKED, "tcp", PUBLIC)
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).answer[0][0].to_text() == "10.0.0.1"


def test_an_address_that_a_task_gets_is_ours() -> None:
    name = "1.0.0.9.in-addr.arpa"
    cached = kept(others(rcode=3, authority=[soa_of("arpa")]), key=key_of(name, 12))
    asked = packet(name, "PTR")
    assert cached.ready(asked) is not None
    cached.view.apply(put(task()))
    assert cached.ready(asked) is None


def test_an_answer_of_our_own_takes_the_place_of_others() -> None:
    cached = kept(others(address(1)))
    cached.path.keep(KEY, Answer(0, [address(2)], depends=(("x", "y"),)))
    reply = cached.ready(ASKED)
    assert reply is not None
    assert dns.message.from_wire(reply).flags & dns.flags.AA
    assert not cached.path.forget_aged(KEY)
    assert cached.ready(ASKED) == reply


# --- renewing, counting ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "age", "due"), [(10, 8, False), (10, 9, True), (9, 8, False), (300, 269, False), (300, 270, True)]
)
def test_what_is_asked_for_in_the_last_tenth_of_its_time_is_told_once(lifetime: int, age: int, due: bool) -> None:
    cached = kept(others(address(1)), lifetime, prefetch=True)
    asked: list[bytes] = []
    cached.path.due = asked.append
    cached.now += age
    for _ in range(3):
        assert cached.ready(ASKED) is not None
    assert asked == [ASKED] * due
    assert cached.path.totals().counts["refresh"] == due
    assert cached.path.keep_aged(KEY, others(address(1)), lifetime)
    cached.now += age
    cached.ready(ASKED)
    assert len(asked) == 2 * due


def test_nothing_is_told_where_nobody_wants_to_renew() -> None:
    cached = kept(others(address(1)), 10)
    cached.now += 9
    cached.path.due = lambda packet: pytest.fail("told")
    assert cached.ready(ASKED) is not None


def test_answers_of_others_are_counted_under_a_zone_of_their_own() -> None:
    cached = kept(others(address(1)))
    found = cached.path.answer(ASKED, PUBLIC, False, 0, 0)
    assert found is not None
    assert found[1:] == (CACHE_ZONE, "A", 0, "")


# --- who is answered ------------------------------------------------------------------------------

ALLOW: list[Network] = [
    IPv4Network("10.0.0.0/8"),
    IPv4Network("192.0.2.16/29"),
    IPv4Network("203.0.113.5/32"),
    IPv6Network("2001:db8:40::/42"),
    IPv6Network("fd00::1/128"),
]


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("9.255.255.255", False),
        ("192.0.2.15", False),
        ("192.0.2.16", True),
        ("192.0.2.23", True),
        ("192.0.2.24", False),
        ("203.0.113.5", True),
        ("203.0.113.4", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("::10.1.2.3", False),
        ("2001:db8:7f:ffff::1", True),
        ("2001:db8:80::1", False),
        ("fd00::1", True),
        ("fd00::2", False),
        ("a00::", False),
    ],
)
def test_only_clients_of_the_networks_are_answered(client: str, allowed: bool) -> None:
    cached = Cached(task(), allow=ALLOW)
    packed = ip_address(client).packed
    assert cached.path.keep_aged(KEY, others(address(1)), 300)
    for name in (NAME, "nope.mesos"):
        for asked in (packet(name), packet(name, payload=1232), packet(name, payload=512, ednsflags=0x8000)):
            reply = cached.ready(asked, client=packed)
            if allowed:
                assert reply is None or dns.message.from_wire(reply).rcode() != dns.rcode.REFUSED
                continue
            assert reply == cached.responder.respond(asked, "udp", packed)
            assert dns.message.from_wire(reply or b"").rcode() == dns.rcode.REFUSED
            assert told(reply) == ([PROHIBITED] if asked[11] else [])
    malformed = ASKED + b"\0"
    assert cached.ready(malformed, client=packed) is None


def test_an_empty_list_answers_nobody_and_none_everybody() -> None:
    nobody, everybody = Cached(allow=[]), Cached()
    for client in (PRIVATE, PUBLIC, bytes(16)):
        assert dns.message.from_wire(nobody.ready(ASKED, client=client) or b"").rcode() == dns.rcode.REFUSED
        assert everybody.ready(ASKED, client=client) is None


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_whole_families(network: str) -> None:
    cached = Cached(allow=[ip_network(network)])
    for client, family in ((PUBLIC, 4), (MAPPED + PUBLIC, 4), (bytes(16), 6)):
        refused = cached.ready(ASKED, client=client) is not None
        assert refused != (family == ip_network(network).version)


def test_this_process_is_answered() -> None:
    """Its address is not known."""
    assert Cached(allow=[]).ready(ASKED, client=b"") is None


def test_as_many_networks_as_there_is_room_for() -> None:
    many: list[Network] = [IPv4Network((n << 16, 24)) for n in range(PREFIXES)]
    assert Cached(allow=many).ready(ASKED, client=bytes((0, PREFIXES - 1, 0, 9))) is None
    with pytest.raises(ValueError, match="too many"):
        Cached(allow=[*many, IPv4Network("10.0.0.0/8")])


@pytest.mark.parametrize("prefix", [(b"", 0), (bytes(5), 8), (bytes(4), 33), (bytes(16), 129), (bytes(4), -1)])
def test_odd_prefixes(prefix: tuple[bytes, int]) -> None:
    cached = Cached()
    with pytest.raises(ValueError, match="no prefix"):
        cached.path.table.configure(cached.path._plain(True), [], [], [prefix])


# --- TTLs in Python -------------------------------------------------------------------------------


def test_python_finds_the_same_ttls() -> None:
    section = b"".join(chain(10))
    assert [int.from_bytes(section[at : at + 4], "big") for at in ttl_places(section)] == [10, 11, 12]
    assert ttl_places(b"") == []
    assert ttl_places(record(name_to_wire("a.b"), 1, 1, b"")) == [9]


def test_no_part_of_a_record_is_taken_for_one() -> None:
    section = b"".join(chain())
    whole = {len(section[:end]) for end in (0, len(chain()[0]), len(chain()[0] + chain()[1]), len(section))}
    for end in range(len(section) + 1):
        if end in whole:
            ttl_places(section[:end])
        else:
            with pytest.raises(ValueError, match="record"):
                ttl_places(section[:end])
