"""Clients inside and outside of the allowed networks."""

from __future__ import annotations

import ipaddress

import pytest

from mesos_dns.resolver.allow import Allowed
from mesos_dns.resolver.config import PRIVATE


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("127.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("8.8.8.8", False),
        ("198.51.100.1", True),
        ("198.51.100.2", False),
        ("::1", True),
        ("fd01:d::c633:6401", True),
        ("2001:db8::1", False),
        ("2001:db8::53", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("::10.0.0.1", False),
    ],
)
def test_clients(client: str, expected: bool) -> None:
    allowed = Allowed(PRIVATE, ("198.51.100.1:53", "[2001:db8::53]:53", "localhost:53"))
    for _ in range(2):
        assert (packed(client) in allowed) is expected


def test_this_process_is_answered() -> None:
    assert b"" in Allowed((), ())


def test_many_clients_are_told_apart() -> None:
    allowed = Allowed(("10.0.0.0/8",), ())
    for number in range(3000):
        assert bytes((10, number >> 8, number & 255, 1)) in allowed
        assert bytes((11, number >> 8, number & 255, 1)) not in allowed


def test_a_network_with_host_bits() -> None:
    assert packed("192.0.2.200") in Allowed(("192.0.2.7/24",), ())


def test_what_is_no_network_is_said() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Allowed(("10.0.0.0/99",), ())
