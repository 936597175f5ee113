"""lb7.allowed: networks and the addresses in them."""

from __future__ import annotations

import ipaddress
import random

import pytest

from lb7.allowed import Allowed, allowed, network_fault

LIST = Allowed(("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120", "203.0.113.9/24", "nonsense"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("198.51.100.200", True),
        ("203.0.113.1", True),
        ("2001:db8:1::1", True),
        ("2001:db8:1::1%eth0", True),
        ("2001:db9::1", False),
        ("", False),
        ("nonsense", False),
        ("10.0.0", False),
    ],
)
def test_contains(address: str, expected: bool) -> None:
    assert LIST.contains(address) is expected
    assert LIST.contains(address) is expected  # remembered


def test_what_is_no_network_lets_nobody_in() -> None:
    assert not Allowed(("nonsense", "10.0.0.0/40")).contains("10.0.0.1")
    assert not Allowed(()).contains("10.0.0.1")


def test_all_of_one_family() -> None:
    assert Allowed(("0.0.0.0/0",)).contains("::ffff:1.2.3.4")
    assert not Allowed(("0.0.0.0/0",)).contains("2001:db8::1")
    assert Allowed(("::/0",)).contains("2001:db8::1")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.2.3/8", " 192.0.2.1 ", "2001:db8::", "::/0"])
def test_networks(text: str) -> None:
    assert network_fault(text) == ""


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/33", "example.com", "10.0.0.0/8,11.0.0.0/8"])
def test_fault_names_the_entry(text: str) -> None:
    assert repr(text) in network_fault(text)


def test_hundreds_of_networks_against_each_in_turn() -> None:
    chance = random.Random(7)
    networks = [
        ipaddress.ip_network((chance.getrandbits(32), chance.randrange(6, 33)), strict=False) for _ in range(500)
    ]
    made = Allowed(map(str, networks))
    for _ in range(2000):
        address = ipaddress.IPv4Address(chance.getrandbits(32))
        assert made.contains(str(address)) == any(address in network for network in networks)


def test_memory_has_a_bound() -> None:
    made = Allowed(("10.0.0.0/8",))
    for number in range(20_000):
        assert made.contains(str(ipaddress.IPv4Address(number))) is False
    assert len(made._memo) <= 4096
    assert made.contains("10.0.0.1")


def test_same_networks_same_object() -> None:
    one = allowed(("10.0.0.0/8",))
    assert allowed(("10.0.0.0/8",)) is one
    assert allowed(("10.0.0.0/9",)) is not one
