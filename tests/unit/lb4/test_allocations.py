"""The stored form, what is refused of it, and the book: by name, by address, after races."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from lb4.addresses import address_range, network_range, parsed
from lb4.allocations import (
    MAX_ENTRIES,
    MAX_NAME,
    SHARDS,
    Book,
    Damaged,
    Entry,
    Shard,
    decode,
    encode,
    is_name,
    read_shard,
    shard_key,
    unread,
)
from mesos_dns.coordinate import ABSENT, MAX_VALUE

V4 = network_range("11.0.0.0/8", 4)
V6 = network_range("fd01:c::/64", 6)
RANGES = {4: V4, 6: V6}


def entry(address: str, name: str, used: int = 1_700_000_000) -> Entry:
    version, number = parsed(address)
    return Entry(address, name, used, version, number)


def shard(*entries: Entry) -> Shard:
    return Shard(encode(entries), 0, {entry.address: entry for entry in entries})


def put(book: Book, *entries: Entry) -> set[str]:
    """Put entries of one shard into a book."""
    return book.replace(entries[0].shard, shard(*entries))


def stored(**more: Any) -> bytes:
    return json.dumps({"format": 1, "addresses": [["11.0.0.1", "web.marathon", 5]], **more}).encode()


def test_the_form_is_this() -> None:
    entries = [entry("fd01:c::41", "db.marathon", 7), entry("11.0.1.1", "web.marathon"), entry("11.0.0.1", "a", 0)]
    text = (
        b'{"format":1,"addresses":[["11.0.0.1","a",0],["11.0.1.1","web.marathon",1700000000],'
        b'["fd01:c::41","db.marathon",7]]}'
    )
    assert encode(entries) == encode(entries[::-1]) == text
    assert decode(text, 1) == {entry.address: entry for entry in entries}
    assert decode(encode([]), 5) == {}
    assert [shard_key(number) for number in (0, 10, 63)] == ["vips/00", "vips/0a", "vips/3f"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `format`"),
        (stored(format=2), "format 2, expected 1"),
        (stored(extra=1), "unknown field `extra`"),
        (stored(format="1"), "Expected `int`"),
        (stored() + b"x", "malformed"),
        (stored(addresses=[["11.0.0.2", "a", 1]]), "belongs into another shard"),
        (stored(addresses=[["11.0.0.01", "a", 1]]), "11.0.0.01"),
        (stored(addresses=[["web", "a", 1]]), "web"),
        (stored(addresses=[["11.0.0.1", "a", 1], ["11.0.0.1", "b", 1]]), "out of order"),
        (stored(addresses=[["11.0.0.65", "a", 1], ["11.0.0.1", "b", 1]]), "out of order"),
        (stored(addresses=[["11.0.0.1", "A", 1]]), "no name"),
        (stored(addresses=[["11.0.0.1", "", 1]]), "no name"),
        (stored(addresses=[["11.0.0.1", "a", -1]]), "no time"),
        (stored(addresses=[["11.0.0.1", "a", 1 << 50]]), "no time"),
        (stored(addresses=[["11.0.0.1", "a", 1.5]]), "Expected `int`"),
        (stored(addresses=[["11.0.0.1", "a"]]), "array"),
        (stored(addresses=[["11.0.0.1", "a", 1, 2]]), "array"),
    ],
)
def test_what_is_damaged(value: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=f"(?i){reason}"):
        decode(value, 1)


def test_names() -> None:
    for name in ("web.marathon", "a", "0-0", "x" * 63 + ".m", "api.hello-world.marathon"):
        assert is_name(name)
    for name in ("", ".", "a.", ".a", "a..b", "A", "a_b", "a b", "é", "x" * 64, ".".join(["x" * 50] * 5) + ".y", "a\n"):
        assert not is_name(name)


def test_a_full_shard_is_a_value_that_is_taken() -> None:
    longest = ".".join(["x" * 63] * 3 + ["x" * 61])
    assert len(longest) == MAX_NAME
    assert is_name(longest)
    base = parsed("fd01:cccc:cccc:cccc:cccc:cccc:cccc:0")[1]
    last = (1 << 40) - 1
    numbers = (number for number in range(base, base + (1 << 19), SHARDS) if len(V6.text(number)) == 39)
    entries = [Entry(V6.text(n), longest, last, 6, n) for n in itertools.islice(numbers, MAX_ENTRIES)]
    assert len(entries) == MAX_ENTRIES
    value = encode(entries)
    assert len(value) <= MAX_VALUE
    assert len(decode(value, 0)) == MAX_ENTRIES


def test_what_was_known_of_a_shard_that_is_gone_or_damaged_stays() -> None:
    known = shard(entry("11.0.0.1", "web.marathon"))
    gone = read_shard(known, 1, None, ABSENT)
    assert (gone.value, gone.version, gone.entries, gone.damage) == (None, ABSENT, known.entries, "")
    damaged = read_shard(known, 1, b"?", 7)
    assert (damaged.value, damaged.version, damaged.entries) == (b"?", 7, known.entries)
    assert damaged.damage
    again = read_shard(damaged, 1, b"?", 8)
    assert (again.damage, again.version) == (damaged.damage, 8)
    assert read_shard(damaged, 1, known.value, 9) == Shard(known.value, 9, known.entries)
    assert unread(known).version is None


def test_a_book_by_name_and_address() -> None:
    book = Book(RANGES)
    web, web6, db = entry("11.0.0.1", "web.m"), entry("fd01:c::1", "web.m"), entry("11.0.0.2", "db.m")
    assert put(book, web, web6) == {"web.m"}
    assert put(book, db) == {"db.m"}
    assert (book.entry("web.m", 4), book.entry("web.m", 6), book.entry("db.m", 6)) == (web, web6, None)
    assert (book.owner("11.0.0.1"), book.owner("11.0.0.3"), book.owner("nonsense")) == ("web.m", "", "")
    assert len(book) == 3
    assert sorted(book.names()) == ["db.m", "web.m"]
    assert set(book) == {web, web6, db}
    assert (web.number in book.taken[4], web6.number in book.taken[6]) == (True, True)


def test_a_replaced_shard_says_whose_addresses_changed() -> None:
    book = Book(RANGES)
    put(book, entry("11.0.0.1", "a", 1), entry("11.0.0.65", "b", 1), entry("11.0.0.129", "c", 1))
    later = [entry("11.0.0.1", "a", 1), entry("11.0.0.65", "b", 2), entry("11.0.0.129", "d", 1)]
    assert put(book, *later) == {"b", "c", "d"}
    assert book.entry("c", 4) is None
    assert book.entry("d", 4) == later[2]
    assert sorted(book.names()) == ["a", "b", "d"]
    assert book.replace(1, shard()) == {"a", "b", "d"}
    assert len(book.taken[4]) == 0
    assert list(book.names()) == []


def test_of_two_addresses_the_one_that_is_tried_first_counts() -> None:
    small = address_range("11.0.0.0", "11.0.0.16")
    start = small.start("web.m")
    size = small.size
    for order in ([3, 9, 16], [16, 9, 3], [9, 3, 16]):
        book = Book({4: small})
        for more in order:
            text = small.text(small.first + (start - small.first + more) % size)
            put(book, entry(text, "web.m"))
        found = book.entry("web.m", 4)
        assert found is not None
        assert (found.number - start) % size == 3
        assert len(book.entries("web.m", 4)) == 3


def test_addresses_outside_the_ranges_count_for_nothing() -> None:
    book = Book({4: V4})
    put(book, entry("12.0.0.1", "web.m"), entry("fd01:c::1", "web.m"))
    assert (book.entry("web.m", 4), book.entry("web.m", 6)) == (None, None)
    assert len(book.taken[4]) == 0
    assert book.owner("12.0.0.1") == "web.m"
    put(book, entry("12.0.0.1", "web.m"), entry("11.0.0.1", "web.m"))
    assert book.entry("web.m", 4) == entry("11.0.0.1", "web.m")


def test_who_may_have_an_address() -> None:
    book = Book(RANGES)
    put(book, entry("11.0.0.1", "web.m"))
    assert book.may_have("web.m", "11.0.0.1")
    assert book.may_have("db.m", "11.0.0.2")
    assert not book.may_have("db.m", "11.0.0.1")
    assert not book.may_have("db.m", "12.0.0.1")
    assert not book.may_have("db.m", "x")


def test_the_set_of_taken_ones_follows_many_changes() -> None:
    chance = random.Random(7)
    small = network_range("11.0.0.0/24", 4)
    book = Book({4: small})
    for _ in range(300):
        at = chance.randrange(SHARDS)
        some = [n for n in range(small.first, small.last + 1) if n % SHARDS == at and chance.random() < 0.6]
        new = [Entry(small.text(n), chance.choice("abcd"), 1, 4, n) for n in some]
        book.replace(at, shard(*new))
    numbers = {found.number for found in book}
    assert numbers == {n for n in range(small.first, small.last + 1) if n in book.taken[4]}
    assert {found for name in "abcd" for found in book.entries(name, 4)} == set(book)
