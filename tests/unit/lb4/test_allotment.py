"""Who gets which address: in order, again the same, none that is reserved, and the longest unused given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lb4.addresses import AddressRange, address_range, network_range, parsed
from lb4.allocations import MAX_ENTRIES, SHARDS, Book, Entry, Shard, encode
from lb4.allotment import DAY, REFRESH, TOUCH, Allotment, Change, applied, tidy

NOW = 1_700_000_000
SMALL = address_range("11.0.0.0", "11.0.0.3")
LARGE = network_range("11.0.0.0/8", 4)
SIX = network_range("fd01:c::/64", 6)
V4 = frozenset({4})
BOTH = frozenset({4, 6})


def entry(address: str, name: str, used: int = NOW) -> Entry:
    version, number = parsed(address)
    return Entry(address, name, used, version, number)


def put(book: Book, *entries: Entry, damage: str = "") -> None:
    """Add entries to what is stored."""
    for new in entries:
        old = book.shards[new.shard]
        book.replace(new.shard, shard_of({**old.entries, new.address: new}, damage))


def shard_of(entries: Mapping[str, Entry], damage: str = "") -> Shard:
    return Shard(encode(entries.values()), 0, entries, damage)


def book_of(*ranges: AddressRange) -> Book:
    return Book({addresses.version: addresses for addresses in ranges})


def allot(book: Book, names: Iterable[str], now: int = NOW, versions: frozenset[int] = V4, **more: Any) -> Allotment:
    """Place names in order and store what comes of it."""
    names = list(names)
    wanted = more.pop("wanted", dict.fromkeys(names, versions))
    allotment = Allotment(book, wanted, now, **more)
    for name in names:
        allotment.place(name)
    for number, changes in allotment.finish().items():
        entries, skipped = applied(book.shards[number], changes, wanted, now)
        assert skipped == 0
        book.replace(number, shard_of(entries))
    for version, addresses in book.ranges.items():  # nothing else counts as taken any more
        assert len(book.taken[version]) == sum(found.version == version and found.number in addresses for found in book)
    return allotment


def given(book: Book) -> dict[str, str]:
    return {found.name: found.address for found in book if found.version == 4}


def test_names_get_what_dcos_net_gave_them() -> None:
    book = book_of(LARGE, SIX)
    allot(book, ["foo.bar", "web.marathon", "dual.marathon"], versions=BOTH)
    assert given(book)["web.marathon"] == "11.225.36.193"
    assert given(book)["foo.bar"] == "11.138.58.156"
    six = book.entry("dual.marathon", 6)
    assert six is not None
    assert (six.address, six.used) == ("fd01:c::f6b1:fccc:4a29:5338", NOW)


def test_only_what_is_wanted_and_lacking_is_given() -> None:
    book = book_of(LARGE, SIX)
    put(book, entry("11.9.9.9", "web.m", 5))
    allotment = allot(book, ["web.m", "db.m"], wanted={"web.m": V4, "db.m": frozenset({6})})
    assert allotment.given == 1
    assert given(book) == {"web.m": "11.9.9.9"}
    assert book.entry("db.m", 6) is not None


def test_all_for_one_shard_is_one_change_of_it() -> None:
    book = book_of(LARGE)
    names = [f"svc-{number}.m" for number in range(1000)]
    allotment = Allotment(book, dict.fromkeys(names, V4), NOW)
    for name in names:
        allotment.place(name)
    changes = allotment.finish()
    assert len(changes) == SHARDS
    assert sum(map(len, changes.values())) == 1000
    assert all(parsed(address)[1] % SHARDS == at for at, found in changes.items() for address in found)


def test_when_none_is_left_the_others_get_theirs() -> None:
    book = book_of(SMALL)
    allotment = allot(book, ["a", "b", "c", "d", "e", "f"])
    assert allotment.without == ["e", "f"]
    assert sorted(given(book)) == ["a", "b", "c", "d"]
    assert len(set(given(book).values())) == 4


def test_the_longest_unused_is_given_up_first_and_one_in_use_never() -> None:
    book = book_of(SMALL)
    times = {"old": 10, "older": 5, "young": 90}
    for at, (name, used) in enumerate(times.items()):
        put(book, entry(f"11.0.0.{at}", name, used))
    put(book, entry("11.0.0.3", "used", 1))
    wanted = dict.fromkeys(["used", "n1", "n2", "n3", "n4"], V4)
    allotment = allot(book, ["n1", "n2", "n3", "n4"], wanted=wanted)
    assert given(book) == {"n1": "11.0.0.1", "n2": "11.0.0.0", "n3": "11.0.0.2", "used": "11.0.0.3"}
    assert (allotment.given_up, allotment.without) == (3, ["n4"])


def test_what_is_known_better_than_stored_decides_what_is_given_up() -> None:
    book = book_of(address_range("11.0.0.0", "11.0.0.1"))
    put(book, entry("11.0.0.0", "a", 5), entry("11.0.0.1", "b", 6))
    allot(book, ["n"], left={"a": NOW - 1})
    assert given(book) == {"a": "11.0.0.0", "n": "11.0.0.1"}


def test_a_clock_that_was_wrong_makes_no_name_newer_than_now() -> None:
    book = book_of(address_range("11.0.0.0", "11.0.0.1"))
    put(book, entry("11.0.0.0", "a", NOW + 1_000_000), entry("11.0.0.1", "b", NOW))
    allot(book, ["n"])
    assert given(book) == {"n": "11.0.0.0", "b": "11.0.0.1"}


def test_nothing_is_given_up_while_more_may_be_in_use() -> None:
    book = book_of(address_range("11.0.0.0", "11.0.0.0"))
    put(book, entry("11.0.0.0", "a", 5))
    assert allot(book, ["n"], give_up=False).without == ["n"]
    assert given(book) == {"a": "11.0.0.0"}


def test_reserved_addresses_are_passed_over() -> None:
    book = book_of(SMALL)
    start = SMALL.text(SMALL.start("web.m"))
    allotment = allot(book, ["web.m"], reserved={start, "12.0.0.1", "fd01:c::1", "nonsense"})
    assert given(book)["web.m"] != start
    assert allotment.clashes == []
    assert allot(book, ["web.m", "b", "c", "d"], reserved={start}).without == ["d"]


def test_an_address_in_use_that_is_reserved_stays_and_is_told() -> None:
    book = book_of(SMALL)
    put(book, entry("11.0.0.1", "web.m", 5), entry("11.0.0.2", "gone.m", 5))
    allotment = allot(book, [], reserved={"11.0.0.1", "11.0.0.2"}, wanted={"web.m": V4})
    assert allotment.clashes == [("11.0.0.1", "web.m")]
    assert given(book) == {"web.m": "11.0.0.1", "gone.m": "11.0.0.2"}


def test_a_name_that_comes_back_late_gets_another_when_its_own_was_reserved() -> None:
    for used, expected in ((NOW - DAY - 1, False), (NOW - DAY, True)):
        book = book_of(LARGE)
        put(book, entry("11.0.0.1", "web.m", used))
        allot(book, ["web.m"], reserved={"11.0.0.1"})
        assert (given(book)["web.m"] == "11.0.0.1") is expected
        assert len(book) == 1
    book = book_of(SMALL)
    put(book, entry("11.0.0.1", "web.m", 5))
    allot(book, ["web.m"], reserved={"11.0.0.1"}, left={"web.m": NOW - 5})
    assert given(book)["web.m"] == "11.0.0.1"


def test_what_a_name_was_told_to_have_it_gets_again() -> None:
    told = {("web.m", 4): "11.0.0.9", ("db.m", 4): "11.0.0.9", ("x.m", 4): "12.0.0.1", ("y.m", 4): "fd01:c::1"}
    book = book_of(LARGE, SIX)
    allot(book, ["web.m", "db.m", "x.m", "y.m"], told=lambda name, version: told.get((name, version), ""))
    assert given(book)["web.m"] == "11.0.0.9"
    assert given(book)["db.m"] == LARGE.text(LARGE.start("db.m"))
    assert given(book)["x.m"] == LARGE.text(LARGE.start("x.m"))
    assert given(book)["y.m"] == LARGE.text(LARGE.start("y.m"))


def test_a_damaged_shard_is_not_written_and_its_addresses_are_not_given() -> None:
    book = book_of(LARGE)
    start = LARGE.start("web.m")
    for more in range(2):
        at = (start + more) % SHARDS
        book.replace(at, Shard(b"?", 3, {}, "damaged"))
    allot(book, ["web.m"])
    assert given(book)["web.m"] == LARGE.text(start + 2)


def test_what_was_told_of_a_damaged_shard_is_believed() -> None:
    book = book_of(LARGE)
    book.replace(9, Shard(b"?", 3, {}, "damaged"))
    allotment = allot(book, ["web.m"], told=lambda name, version: "11.0.0.9")
    assert (allotment.changes, allotment.without) == ({}, [])


def test_what_is_unused_in_a_damaged_shard_is_not_given_up() -> None:
    book = book_of(address_range("11.0.0.0", "11.0.0.0"))
    put(book, entry("11.0.0.0", "a", 5), damage="damaged")
    assert allot(book, ["n"]).without == ["n"]
    assert allot(book, ["a"], reserved={"11.0.0.0"}).changes == {}


def test_a_full_shard_gets_no_more() -> None:
    book = book_of(LARGE)
    at = LARGE.start("web.m") % SHARDS
    numbers = range(LARGE.first + at, LARGE.last, SHARDS)
    full = [Entry(LARGE.text(n), f"n{n}", 5, 4, n) for n, _ in zip(numbers, range(MAX_ENTRIES - 1), strict=False)]
    book.replace(at, shard_of({found.address: found for found in full}))
    names = [f"svc-{number}.m" for number in range(2000)]
    same = [name for name in names if LARGE.start(name) % SHARDS == at][:3]
    allotment = Allotment(book, dict.fromkeys(same, V4), NOW)
    for name in same:
        allotment.place(name)
    assert sorted(len(found) for found in allotment.finish().values()) == [1, 2]


def test_what_is_no_name_is_refused() -> None:
    book = book_of(SMALL)
    allotment = allot(book, ["Web_1", "", "x" * 300, "é", "ok"])
    assert allotment.refused == ["Web_1", "", "x" * 300, "é"]
    assert list(given(book)) == ["ok"]
    assert allotment.without == []


def test_a_version_without_a_range_is_lacking() -> None:
    book = book_of(SMALL)
    assert allot(book, ["web.m"], versions=BOTH).without == ["web.m"]
    assert list(given(book)) == ["web.m"]


def test_uses_are_noted_when_they_are_old() -> None:
    book = book_of(SMALL)
    put(book, entry("11.0.0.0", "a", NOW - TOUCH), entry("11.0.0.1", "b", NOW - TOUCH + 1))
    put(book, entry("11.0.0.2", "c", 1), entry("11.0.0.3", "d", NOW + TOUCH))
    wanted = dict.fromkeys("abd", V4)
    found = [tidy(book, at, wanted, NOW) for at in range(4)]
    assert [list(changes) for changes in found] == [["11.0.0.0"], [], [], ["11.0.0.3"]]
    assert found[0]["11.0.0.0"] == Change(entry("11.0.0.0", "a", NOW - TOUCH), entry("11.0.0.0", "a", NOW))
    assert tidy(book, 0, {"a": frozenset({6})}, NOW) == {}


def test_of_two_addresses_of_a_name_one_goes() -> None:
    book = book_of(SMALL)
    first = SMALL.start("web.m")
    other = SMALL.first + (first - SMALL.first + 2) % 4
    put(book, entry(SMALL.text(first), "web.m"), entry(SMALL.text(other), "web.m"))
    assert tidy(book, first % SHARDS, {}, NOW) == {}
    (change,) = tidy(book, other % SHARDS, {"web.m": V4}, NOW).values()
    assert change.after is None


def test_addresses_outside_the_ranges_go_after_a_day() -> None:
    book = book_of(SMALL)
    put(book, entry("12.0.0.1", "a", NOW - DAY), entry("12.0.0.65", "b", NOW - DAY - 1), entry("fd01:c::1", "c", 5))
    assert sorted(tidy(book, 1, dict.fromkeys("abc", BOTH), NOW)) == ["12.0.0.65", "fd01:c::1"]
    book.replace(1, Shard(b"?", 1, book.shards[1].entries, "damaged"))
    assert tidy(book, 1, {}, NOW) == {}


def test_a_change_that_stands_on_something_else_is_left_out() -> None:
    a, b, c = (entry(f"11.0.0.{64 * n}", name, NOW) for n, name in enumerate("abc"))
    shard = shard_of({a.address: a, b.address: b})
    new = entry(a.address, "new")
    entries, skipped = applied(
        shard, {a.address: Change(None, new), b.address: Change(b, None), c.address: Change(None, c)}, {}, NOW
    )
    assert (entries, skipped) == ({a.address: a, c.address: c}, 1)
    assert applied(shard, {b.address: Change(None, None)}, {}, NOW)[1] == 1


def test_a_shard_that_is_written_anyway_has_its_uses_noted() -> None:
    old, young = entry("11.0.0.0", "a", NOW - REFRESH), entry("11.0.0.64", "b", NOW - REFRESH + 1)
    unused = entry("11.0.0.128", "c", 5)
    shard = shard_of({found.address: found for found in (old, young, unused)})
    entries, _ = applied(shard, {}, dict.fromkeys("ab", V4), NOW)
    assert [found.used for found in entries.values()] == [NOW, NOW - REFRESH + 1, 5]
