"""Where names' addresses begin, the next free one, and ranges as small and as large as they come."""

from __future__ import annotations

import ipaddress

import pytest

from lb4.addresses import AddressRange, Taken, address_range, network_range, parsed, probe

DCOS = address_range("11.0.0.0", "11.255.255.255")
NARROW = address_range("11.0.0.0", "11.0.0.254")
SIX = network_range("fd01:c::/64", 6)


def first_free(addresses: AddressRange, name: str, taken: Taken) -> str:
    number = probe(addresses, addresses.start(name), taken)
    if number is None:
        return ""
    taken.add(number)
    return addresses.text(number)


# Addresses that dcos-net gave to these names.
@pytest.mark.parametrize(
    ("addresses", "name", "expected"),
    [
        (NARROW, "foo.bar", "11.0.0.37"),
        (NARROW, "baz.qux", "11.0.0.39"),
        (DCOS, "foo.bar", "11.138.58.156"),
        (DCOS, "baz.qux", "11.95.65.17"),
        (DCOS, "l4lbtest.marathon", "11.128.73.162"),
        (DCOS, "web.marathon", "11.225.36.193"),
        (DCOS, "broker.kafka", "11.175.100.139"),
        (SIX, "qux.ipv6", "fd01:c::6d6d:9c64:fd19:f251"),
        (SIX, "dual.marathon", "fd01:c::f6b1:fccc:4a29:5338"),
    ],
)
def test_where_a_name_begins(addresses: AddressRange, name: str, expected: str) -> None:
    assert addresses.text(addresses.start(name)) == expected


def test_a_network_is_from_its_first_to_its_last_address() -> None:
    assert network_range("11.0.0.0/8", 4) == DCOS
    assert DCOS.size == 1 << 24
    assert SIX.size == 1 << 64
    assert str(NARROW) == "11.0.0.0-11.0.0.254"
    assert DCOS.first in DCOS
    assert DCOS.last in DCOS
    assert DCOS.last + 1 not in DCOS


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("11.0.0.1/8", 4),
        ("11.0.0.0/33", 4),
        ("fd01:c::/64", 4),
        ("11.0.0.0/8", 6),
        ("", 4),
        ("::ffff:0:0/100", 6),
        ("::/0", 6),
        ("web", 6),
    ],
)
def test_what_is_no_range(text: str, version: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        network_range(text, version)


def test_a_range_is_of_one_family_and_goes_up() -> None:
    for first, last in (("11.0.0.0", "::1"), ("11.0.0.2", "11.0.0.1")):
        with pytest.raises(ValueError, match="of one family"):
            address_range(first, last)


def test_collisions_go_on_and_wrap() -> None:
    # In this order dcos-net gave these.
    small = address_range("11.0.0.0", "11.0.0.16")
    taken = Taken()
    found = [first_free(small, f"svc{number}.marathon", taken) for number in range(12)]
    assert found == [f"11.0.0.{last}" for last in (7, 12, 13, 5, 14, 15, 2, 6, 0, 3, 9, 16)]
    tiny = address_range("11.0.0.0", "11.0.0.2")
    taken = Taken()
    assert [first_free(tiny, f"svc{n}.m", taken) for n in range(4)] == ["11.0.0.1", "11.0.0.0", "11.0.0.2", ""]


@pytest.mark.parametrize(("text", "version"), [("11.1.2.3/32", 4), ("fd01:c::5/128", 6)])
def test_a_range_of_one_address(text: str, version: int) -> None:
    one, taken = network_range(text, version), Taken()
    assert [first_free(one, name, taken) for name in ("a", "b")] == [text.partition("/")[0], ""]


def test_a_large_full_range_is_searched_at_once() -> None:
    large = network_range("11.0.0.0/15", 4)
    taken = Taken(range(large.first, large.last + 1))
    assert probe(large, large.last, taken) is None
    taken.discard(large.first + 70_000)
    for start in (large.first, large.first + 70_000, large.first + 70_001, large.last):
        assert probe(large, start, taken) == large.first + 70_000


def test_what_is_not_allowed_is_passed_over() -> None:
    small = address_range("11.0.0.0", "11.0.0.7")
    taken = Taken([small.first + 5])
    assert probe(small, small.first + 5, taken, lambda number: number % 2 == 1) == small.first + 7
    assert probe(small, small.first + 5, taken, lambda number: False) is None
    asked: list[int] = []

    def refuse(number: int) -> bool:
        asked.append(number)
        return False

    assert probe(small, small.first + 5, taken, refuse) is None
    assert asked == [small.first + number for number in (6, 7, 0, 1, 2, 3, 4)]


def test_how_many_are_tried_before_an_address() -> None:
    small = address_range("11.0.0.0", "11.0.0.7")
    assert [small.probes(small.first + 6, small.first + n) for n in (6, 7, 0, 5)] == [0, 1, 2, 7]


def test_parsed_takes_canonical_texts_only() -> None:
    assert parsed("11.0.0.1") == (4, int(ipaddress.ip_address("11.0.0.1")))
    assert parsed("fd01:c::1") == (6, int(ipaddress.ip_address("fd01:c::1")))
    for text in ("", "web", "11.0.0.01", "FD01:c::1", "fd01:c:0::1", "fe80::1%eth0", "11.0.0.1 ", "1"):
        with pytest.raises(ValueError, match=r"."):
            parsed(text)


def test_a_name_is_ascii() -> None:
    for addresses in (DCOS, SIX):
        with pytest.raises(UnicodeEncodeError):
            addresses.start("wéb")


def test_a_set_of_addresses_says_what_is_in_it() -> None:
    taken = Taken([3, 4, 9])
    assert (len(taken), 4 in taken, 5 in taken) == (3, True, False)
    assert not taken.add(4)
    assert taken.add(5)
    taken.discard(4)
    taken.discard(100)
    assert [taken.next_free(number) for number in (2, 3, 4, 5, 9)] == [2, 4, 4, 6, 10]
