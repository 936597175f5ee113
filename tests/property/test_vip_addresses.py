"""Addresses of named VIPs under random histories: one name each, stable while in use, the same in any order."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from lb4.addresses import AddressRange, Taken, network_range, probe
from lb4.allocations import SHARDS, Book, Damaged, Entry, Shard, decode, encode
from lb4.allotment import Allotment, Wanted, applied, tidy

NOW = 1_700_000_000
V4 = frozenset({4})
BOTH = frozenset({4, 6})

names = st.text("abc.-", min_size=1, max_size=3).filter(lambda name: ".." not in name and name.strip(".") == name)
SMALL = network_range("11.0.0.0/29", 4)
SMALL6 = network_range("fd01:c::/125", 6)
ranges = st.sampled_from(["11.0.0.0/32", "11.0.0.0/31", "11.0.0.0/28", "11.0.0.0/24", "11.0.0.0/8"]).map(
    lambda text: network_range(text, 4)
)


def pass_over(
    book: Book, wanted: Wanted, now: int, reserved: Iterable[str] = (), left: dict[str, int] | None = None
) -> Allotment:
    """What the leader does, all of it stored; each shard goes through its stored form."""
    allotment = Allotment(book, wanted, now, reserved=frozenset(reserved), left=left)
    for name in sorted(wanted):
        allotment.place(name)
    changes = allotment.finish()
    for number in range(SHARDS):
        if found := tidy(book, number, wanted, now) | changes.get(number, {}):
            entries, skipped = applied(book.shards[number], found, wanted, now)
            assert skipped == 0
            value = encode(entries.values())
            assert decode(value, number) == entries
            book.replace(number, Shard(value, 0, entries))
    return allotment


def addresses(book: Book, wanted: Wanted) -> dict[tuple[str, int], str]:
    return {
        (name, version): found.address
        for name, versions in wanted.items()
        for version in versions
        if (found := book.entry(name, version)) is not None
    }


steps = st.lists(
    st.tuples(
        st.dictionaries(names, st.sampled_from([V4, BOTH, frozenset({6})]), max_size=12),
        st.frozensets(st.integers(0, 7).map(lambda n: SMALL.text(SMALL.first + n)), max_size=3),
        st.integers(0, 40_000),
    ),
    max_size=12,
)


@given(steps)
def test_one_name_each_and_stable_while_in_use(
    history: list[tuple[dict[str, frozenset[int]], frozenset[str], int]],
) -> None:
    book = Book({4: SMALL, 6: SMALL6})
    before: dict[tuple[str, int], str] = {}
    left: dict[str, int] = {}
    now = NOW
    last: Wanted = {}
    for wanted, reserved, seconds in history:
        left |= dict.fromkeys(last.keys() - wanted.keys(), now)
        now += seconds
        kept = {key: address for key, address in before.items() if key[1] in wanted.get(key[0], ())}
        was = {entry.address for entry in book}
        allotment = pass_over(book, wanted, now, reserved, left)
        found = addresses(book, wanted)
        assert len(set(found.values())) == len(found)
        assert kept.items() <= found.items()
        assert {name for name, versions in wanted.items() if any((name, v) not in found for v in versions)} == set(
            allotment.without
        )
        assert not {a for key, a in found.items() if key not in before and a not in was} & reserved
        if allotment.without and not reserved:  # then all of a range are in use
            assert any(sum(v in versions for versions in wanted.values()) > 8 for v in (4, 6))
        before, last = found, wanted


@given(ranges, st.lists(st.lists(names, max_size=6), max_size=5))
def test_the_order_of_arrival_matters_only_where_names_collide(range4: AddressRange, batches: list[list[str]]) -> None:
    everything = sorted({name for batch in batches for name in batch})
    starts = [range4.start(name) for name in everything]
    book, other = Book({4: range4}), Book({4: range4})
    wanted: dict[str, frozenset[int]] = {}
    for batch in batches:
        wanted |= dict.fromkeys(batch, V4)
        pass_over(book, wanted, NOW)
    pass_over(other, dict.fromkeys(everything, V4), NOW)
    found, again = addresses(book, wanted), addresses(other, wanted)
    assert len(found) == len(again) == min(len(everything), range4.size)
    assert set(found.values()) == set(again.values())  # linear probing: the same addresses, whoever has them
    if len(set(starts)) == len(starts):
        assert found == again == {(name, 4): range4.text(range4.start(name)) for name in everything}


@given(ranges.filter(lambda found: found.size <= 256), st.data())
def test_the_next_free_one_is_found_as_by_trying(addresses: AddressRange, data: st.DataObject) -> None:
    numbers = st.integers(addresses.first, addresses.last)
    members = set(data.draw(st.lists(numbers, max_size=300)))
    taken = Taken(members)
    for add, number in data.draw(st.lists(st.tuples(st.booleans(), numbers), max_size=60)):
        if add:
            assert taken.add(number) == (number not in members)
            members.add(number)
        else:
            taken.discard(number)
            members.discard(number)
    assert len(taken) == len(members)
    start = data.draw(numbers)
    tried = [*range(start, addresses.last + 1), *range(addresses.first, start)]
    assert probe(addresses, start, taken) == next((number for number in tried if number not in members), None)
    assert [addresses.probes(start, number) for number in tried] == list(range(addresses.size))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.integers(0, SHARDS - 1))
def test_any_bytes_are_entries_or_damaged(value: bytes, number: int) -> None:
    try:
        decode(value, number)
    except Damaged:
        pass


@given(st.lists(st.tuples(names, st.integers(0, 7)), max_size=12))
def test_of_many_addresses_all_see_the_same_one(pairs: list[tuple[str, int]]) -> None:
    """Whatever two leaders left behind, and in whichever order it is seen."""
    entries = {
        SMALL.first + at: Entry(SMALL.text(SMALL.first + at), name, NOW, 4, SMALL.first + at) for name, at in pairs
    }
    seen = []
    for order in (list(entries.values()), list(entries.values())[::-1]):
        book = Book({4: SMALL})
        for entry in order:
            book.replace(entry.shard, Shard(None, 0, {**book.shards[entry.shard].entries, entry.address: entry}))
        wanted = dict.fromkeys([name for name, _ in pairs], V4)
        first = addresses(book, wanted)
        pass_over(book, wanted, NOW)
        assert first.items() <= addresses(book, wanted).items()
        assert len({entry.name for entry in book}) == len(book)
        seen.append(addresses(book, wanted))
    assert seen[0] == seen[1]
