"""The rate limit: credit, debt, what slips through, and a table that never grows."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest

from mesos_dns import ratelimit
from mesos_dns.ratelimit import DROP, PASS, SLIP, SLOTS, WAYS, RateLimiter, is_private, mix, network

NOW = 1_700_000_000_000
CLIENT = bytes((198, 51, 100, 1))
BUCKET = b"\0\3web\5mesos\0\0\1"


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def over(limiter: RateLimiter, count: int, now: int = NOW, bucket: bytes = BUCKET, client: bytes = CLIENT) -> list[int]:
    return [limiter.check(bucket, client, now) for _ in range(count)]


def test_one_second_of_answers_at_once_and_then_every_second_one_slips() -> None:
    limiter = RateLimiter(10, 2, 1)
    assert over(limiter, 10) == [PASS] * 10
    assert over(limiter, 6) == [DROP, SLIP] * 3


@pytest.mark.parametrize(
    ("slip", "expected"),
    [(0, [DROP] * 6), (1, [SLIP] * 6), (2, [DROP, SLIP] * 3), (3, [DROP, DROP, SLIP] * 2), (100, [DROP] * 6)],
)
def test_what_slips(slip: int, expected: list[int]) -> None:
    assert over(RateLimiter(1, slip, 1), 7) == [PASS, *expected]


def test_nothing_slips_however_long_where_nothing_is_to() -> None:
    assert set(over(RateLimiter(1, 0, 1), 1000)) == {PASS, DROP}
    assert Counter(over(RateLimiter(1, 100, 1), 1001)) == {PASS: 1, SLIP: 10, DROP: 990}


def test_credit_comes_back_by_the_millisecond() -> None:
    limiter = RateLimiter(10, 0, 1)
    assert over(limiter, 11) == [PASS] * 10 + [DROP]
    assert over(limiter, 1, NOW + 199) == [DROP]  # two are owed
    assert over(limiter, 1, NOW + 399) == [PASS]
    assert over(limiter, 2, NOW + 400) == [PASS, DROP]


def test_asking_on_gets_nothing_and_debt_ends() -> None:
    limiter = RateLimiter(10, 0, 1)
    now = NOW
    over(limiter, 10)
    for _ in range(3000):  # half a minute of ten times the rate
        now += 10
        assert over(limiter, 1, now) == [DROP]
    assert over(limiter, 1, now + 4900) == [DROP]
    assert over(limiter, 1, now + 10_000) == [PASS]


def test_the_rate_itself_is_never_over_it() -> None:
    limiter = RateLimiter(200, 2, 1)
    assert {limiter.check(BUCKET, CLIENT, NOW + 5 * number) for number in range(10_000)} == {PASS}


def test_a_long_pause_gives_one_second_of_answers_and_no_more() -> None:
    limiter = RateLimiter(3, 0, 1)
    over(limiter, 100)
    assert over(limiter, 5, NOW + 10**9) == [PASS] * 3 + [DROP] * 2


def test_a_clock_that_is_set_back_brings_nothing_and_holds_nothing_up() -> None:
    limiter = RateLimiter(2, 0, 1)
    assert over(limiter, 3) == [PASS, PASS, DROP]
    assert over(limiter, 1, NOW - 3_600_000) == [DROP]
    assert over(limiter, 1, NOW - 3_600_000 + 2000) == [PASS]


def test_buckets_are_apart_and_clients_of_one_network_are_not() -> None:
    limiter = RateLimiter(1, 0, 1)
    others = [
        (BUCKET, packed("198.51.101.1")),
        (BUCKET[:-1] + b"\x1c", CLIENT),
        (b"\2\5mesos\0", CLIENT),
        (b"\5\5", CLIENT),
        (BUCKET, packed("2001:db8:0:1::1")),
        (BUCKET, packed("2001:db8:0:100::1")),
    ]
    assert [limiter.check(bucket, client, NOW) for bucket, client in others] == [PASS] * len(others)
    assert over(limiter, 2) == [PASS, DROP]
    assert over(limiter, 1, client=packed("198.51.100.255")) == [DROP]
    assert over(limiter, 1, client=packed("2001:db8:0:ff:1:2:3:4")) == [DROP]


def test_networks() -> None:
    assert network(packed("198.51.100.7")) == 0xC63364
    assert network(packed("2001:db8:0:1ff::1")) == 1 << 63 | 0x20010DB8000001
    assert network(packed("::c633:6400")) == 1 << 63


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(
            (text, True)
            for text in (
                *("10.0.0.0", "10.255.255.255", "127.0.0.1", "172.16.0.0", "172.31.255.255", "192.168.0.1"),
                *("169.254.1.1", "100.64.0.0", "100.127.255.255"),
                *("::1", "fc00::1", "fdff::1", "fe80::1", "febf::1"),
            )
        ),
        *(
            (text, False)
            for text in (
                *("9.255.255.255", "11.0.0.0", "126.0.0.1", "128.0.0.1", "172.15.0.0", "172.32.0.0", "192.167.0.1"),
                *("192.169.0.1", "169.253.0.1", "169.255.0.1", "100.63.0.1", "100.128.0.1", "1.0.0.0", "8.8.8.8"),
                *("::", "::2", "fbff::1", "fe00::1", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1"),
            )
        ),
    ],
)
def test_private_addresses(address: str, expected: bool) -> None:
    assert is_private(packed(address)) is expected


def test_a_client_that_is_not_known_is_private() -> None:
    assert is_private(b"")


@pytest.mark.parametrize(
    ("seed", "bucket", "client"),
    [(0, b"", "1.2.3.4"), (1, b"\5\5", "198.51.100.1"), (0x0123456789ABCDEF, BUCKET, "2001:db8::1")],
)
def test_mix_in_small_steps(seed: int, bucket: bytes, client: str) -> None:
    mixed = (seed ^ len(bucket)) % (1 << 64)
    words = [bucket[at : at + 8].ljust(8, b"\0") for at in range(0, len(bucket), 8)]
    for word in [*(int.from_bytes(word, "little") for word in words), network(packed(client)), 0]:
        mixed = ((mixed ^ word) * 0x9E3779B97F4A7C15) % (1 << 64)
        mixed ^= mixed >> 32
    assert mix(seed, bucket, network(packed(client))) == mixed


def test_buckets_spread_over_the_table() -> None:
    places = Counter(
        mix(7, b"\0\3web\5mesos\0\0" + bytes((kind,)), network(bytes((a, b, c, 1)))) & (SLOTS - WAYS)
        for kind in (1, 28)
        for a in (1, 198)
        for b in range(16)
        for c in range(256)
    )
    assert len(places) > 6000  # 16,384 places, as many buckets: e of them stay empty
    assert max(places.values()) < 12


def test_the_place_used_least_recently_is_taken_over() -> None:
    limiter = RateLimiter(1, 0, 1)
    first = mix(1, BUCKET, network(CLIENT)) & (SLOTS - WAYS)
    same = [
        name
        for name in (b"\2" + number.to_bytes(4, "big") for number in range(400_000))
        if mix(1, name, network(CLIENT)) & (SLOTS - WAYS) == first
    ][: WAYS + 1]
    assert len(same) == WAYS + 1
    for at, name in enumerate(same[:WAYS]):
        assert over(limiter, 2, NOW + at, name) == [PASS, DROP]
    assert over(limiter, 1, NOW + 4, same[0]) == [DROP]
    assert over(limiter, 1, NOW + 5, same[WAYS]) == [PASS]  # takes the place of the second
    assert over(limiter, 1, NOW + 6, same[0]) == [DROP]
    assert over(limiter, 1, NOW + 7, same[1]) == [PASS]


def test_the_seed_is_chosen_at_random() -> None:
    assert RateLimiter(1, 0)._seed != RateLimiter(1, 0)._seed
    assert ratelimit.WINDOW == 5
