"""The native cookies and rate limits: decision by decision those of Python."""

from __future__ import annotations

import random

import pytest

from mesos_dns._native import Table
from mesos_dns.cookies import reply_cookie
from mesos_dns.ratelimit import DROP, PASS, SLIP, RateLimiter
from tests.fakes.native_table import (
    CLIENT,
    CLIENT6,
    NOW,
    SECRETS,
    answer,
    key_of,
    query,
    table_of,
)


def cookie_told(table: Table, cookie: bytes, client: bytes, now: int) -> bytes:
    """The cookie that the table answers with; b"" for an answer without one."""
    options = b"\0\x0a" + len(cookie).to_bytes(2, "big") + cookie
    found = table.answer(query(key_of("web.mesos"), options), client, False, now & 0xFFFFFFFF, 0)
    assert found is not None
    opt = found[0][found[0].rindex(b"\0\0\x29\4\xd0") + 11 :]
    assert opt[:4] in (b"", b"\0\x0a\0\x18")
    return opt[4:]


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("now", [NOW, 2**32 - 1000, 1 << 31])
def test_cookies_are_those_of_python(client: bytes, count: int, now: int) -> None:
    table, chance = table_of(secrets=SECRETS[:count]), random.Random(now)
    table.put(key_of("web.mesos"), answer(1), ["web"], 0, 1, 0)
    cookies = [chance.randbytes(size) for size in (8, 16, 17, 24, 32, 40)]
    for age in (0, 1, 1800, 1801, 3600, 3601, -300, -301, 1 << 31):
        for secret in SECRETS:
            made, _ = reply_cookie(chance.randbytes(8), client, now - age, [secret])
            cookies += [made, made[:-1] + bytes((made[-1] ^ 1,)), made[:8] + b"\2" + made[9:], made + b"\0"]
            cookies.append(reply_cookie(made[:8], chance.randbytes(len(client)), now - age, [secret])[0])
    for cookie in cookies:
        expected, _ = reply_cookie(cookie, client, now, SECRETS[:count])
        assert cookie_told(table, cookie, client, now) == expected, cookie.hex()


def test_without_cookies_the_option_is_ignored() -> None:
    table = table_of(cookies=0, secrets=())
    table.put(key_of("web.mesos"), answer(1), ["web"], 0, 1, 0)
    assert cookie_told(table, bytes(8), CLIENT, NOW) == b""


def test_a_client_that_is_not_known_gets_no_cookie() -> None:
    table = table_of()
    table.put(key_of("web.mesos"), answer(1), ["web"], 0, 1, 0)
    assert cookie_told(table, bytes(8), b"", NOW) == b""


@pytest.mark.parametrize("slip", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("rate", [1, 7, 50])
def test_limits_are_those_of_python(rate: int, slip: int) -> None:
    table, other, chance = table_of(rate=rate, slip=slip), RateLimiter(rate, slip, 1), random.Random(rate * 100 + slip)
    buckets = [bytes((kind,)) + chance.randbytes(size) for kind, size in ((0, 9), (0, 16), (3, 255))]
    clients = [chance.randbytes(size) for size in (4, 16)]
    now, seen = NOW * 1000, set()
    for _ in range(5000):
        now += chance.choice((1, 3, 20, 20, -50, 900, 7000)) if chance.random() < 0.01 else 0
        bucket, client = chance.choice(buckets), chance.choice(clients)
        decision = table.limit(bucket, client, now)
        assert decision == other.check(bucket, client, now)
        seen.add(decision)
    assert seen == {PASS} | ({SLIP} if slip else set()) | ({DROP} if slip != 1 else set())


def test_a_limit_counts_networks_and_not_addresses() -> None:
    table = table_of(rate=1, slip=0)
    assert table.limit(b"\0bucket", bytes((198, 51, 100, 7)), NOW) == PASS
    assert table.limit(b"\0bucket", bytes((198, 51, 100, 200)), NOW) == DROP
    assert table.limit(b"\0bucket", bytes((198, 51, 101, 7)), NOW) == PASS
    assert table.limit(b"\0bucket", CLIENT6, NOW) == PASS
    assert table.limit(b"\0bucket", CLIENT6[:7] + bytes(9), NOW) == DROP
