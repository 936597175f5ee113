"""The journal of changes: its bounds, and what is behind a place."""

from __future__ import annotations

from mesos_dns.watch_journal import JOINED, Journal
from mesos_dns.watch_wire import SLICE_OCTETS


def test_a_journal_keeps_the_newest_within_its_bounds() -> None:
    journal = Journal(octets=100, messages=5)
    assert journal.follows(0)
    assert not journal.follows(1)
    for number in range(1, 11):
        journal.append(b"x" * 10)
        assert journal.head == number
    assert len(journal) == 5
    assert journal.octets == 50
    assert [journal.get(n) is not None for n in range(1, 12)] == [False] * 5 + [True] * 5 + [False]
    assert [journal.follows(n) for n in range(3, 13)] == [False, False, *[True] * 6, False, False]
    journal.append(b"y" * 90)
    assert (len(journal), journal.octets) == (2, 100)
    journal.append(b"z" * 101)  # larger than all room: whoever needs it compares digests
    assert (len(journal), journal.octets, journal.head) == (0, 0, 12)
    assert journal.follows(12)
    assert not journal.follows(11)
    journal.append(b"w")
    assert journal.get(13) == b"w"


def test_what_is_behind_a_place_is_joined_up_to_a_frame() -> None:
    journal = Journal()
    assert journal.behind(0) is None
    for text in (b"one", b"two", b"three"):
        journal.append(text)
    assert journal.behind(0) == (b"one\ntwo\nthree", 3)
    assert journal.behind(2) == (b"three", 3)
    assert journal.behind(3) is None
    assert journal.behind(0) is journal.behind(0)  # for all followers that are there
    journal.append(b"four")
    assert journal.behind(0) == (b"one\ntwo\nthree\nfour", 4)
    journal.append(b"x" * (SLICE_OCTETS - 10))
    assert journal.behind(0) == (b"one\ntwo\nthree\nfour", 4)
    journal.append(b"y" * SLICE_OCTETS * 2)
    assert journal.behind(5) == (b"y" * SLICE_OCTETS * 2, 6)  # a large one goes alone
    for number in range(100):
        journal.append(b"%d" % number)
    for number in range(100):
        journal.behind(number)
    assert len(journal._joined) <= JOINED
    small = Journal(messages=2)
    for _ in range(4):
        small.append(b"x")
    assert small.behind(1) is None
