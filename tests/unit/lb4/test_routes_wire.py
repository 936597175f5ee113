"""rtnetlink's messages: what is asked, octet by octet, and what is read of answers, also of broken ones."""

from __future__ import annotations

import socket
import struct

import pytest

from lb4 import routes_wire as wire
from lb4.netlink import pack_attr, pack_nested, unpack_attrs

ROUTE = struct.Struct("=BBBBBBBBI")
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
FOUR, SIX = socket.inet_aton("11.0.0.1"), socket.inet_pton(socket.AF_INET6, "fd11::1")


def number(value: int) -> bytes:
    """A 32-bit attribute's value."""
    return struct.pack("=I", value)


@pytest.mark.parametrize(
    ("address", "packed", "head"),
    [
        ("11.0.0.1", FOUR, (socket.AF_INET, 32, 0, 0, 255, 80, 254, 2, 0)),
        ("fd11::1", SIX, (socket.AF_INET6, 128, 0, 0, 255, 80, 0, 2, 0)),
    ],
)
def test_a_virtual_address_is_a_local_route_with_our_protocol_and_metric(
    address: str, packed: bytes, head: tuple[int, ...]
) -> None:
    payload = wire.add_route(address, 7)
    assert ROUTE.unpack_from(payload) == head
    assert unpack_attrs(payload[12:]) == {1: packed, 4: number(7), 6: number(80)}


def test_its_source_is_said_where_there_is_one() -> None:
    payload = wire.add_route("11.0.0.1", 7, "10.0.0.7")
    assert unpack_attrs(payload[12:])[7] == socket.inet_aton("10.0.0.7")
    assert wire.parse_route(payload) == wire.Route("11.0.0.1", 32, 255, 80, 2, (7,), "10.0.0.7")
    assert wire.is_ours(payload)


def test_a_drop_names_protocol_metric_and_type_but_no_device() -> None:
    payload = wire.drop_route("11.0.0.1")
    assert ROUTE.unpack_from(payload) == (socket.AF_INET, 32, 0, 0, 255, 80, 255, 2, 0)
    assert unpack_attrs(payload[12:]) == {1: FOUR, 6: number(80)}


@pytest.mark.parametrize(
    "head",
    [
        (2, 32, 0, 0, 254, 80, 254, 2, 0),  # another table
        (2, 32, 0, 0, 255, 2, 254, 2, 0),  # the kernel's
        (2, 32, 0, 0, 255, 80, 254, 3, 0),  # broadcast
    ],
)
def test_other_routes_are_not_ours(head: tuple[int, ...]) -> None:
    assert not wire.is_ours(ROUTE.pack(*head))


def test_a_default_route_has_the_devices_of_all_its_ways_that_are_not_dead() -> None:
    hops = struct.pack("=HBBi", 8, 0, 0, 3) + struct.pack("=HBBi", 16, 1, 0, 4) + bytes(8)
    hops += struct.pack("=HBBi", 16, 0, 0, 5) + pack_attr(5, socket.inet_aton("10.0.0.1"))
    payload = ROUTE.pack(2, 0, 0, 0, 254, 3, 0, 1, 0) + pack_attr(9, hops)
    assert wire.is_default(payload)
    assert wire.parse_route(payload).devices == (3, 5)
    assert not wire.is_default(ROUTE.pack(2, 8, 0, 0, 254, 3, 0, 1, 0))
    assert not wire.is_default(ROUTE.pack(2, 0, 0, 0, 254, 3, 0, 7, 0))
    assert not wire.is_default(ROUTE.pack(2, 0, 0, 0, 255, 3, 0, 1, 0))


def test_a_route_of_a_numbered_table_without_more() -> None:
    payload = ROUTE.pack(2, 0, 0, 0, 252, 3, 0, 1, 0) + pack_attr(15, number(1000))
    assert wire.parse_route(payload) == wire.Route("", 0, 1000, 3, 1)


def test_a_device_is_made_by_name_then_raised_with_its_alias() -> None:
    made = unpack_attrs(wire.add_dummy("pharos0")[16:])
    assert made[3] == b"pharos0\0"
    assert unpack_attrs(made[18]) == {1: b"dummy"}
    raised = wire.raise_link(7, "made by us")
    assert LINK.unpack_from(raised) == (0, 0, 7, 1, 1)
    assert unpack_attrs(raised[16:]) == {20: b"made by us"}
    assert wire.raise_link(7)[16:] == b""
    assert LINK.unpack_from(wire.one_link(7)) == (0, 0, 7, 0, 0)


def test_devices_are_read() -> None:
    payload = LINK.pack(0, 1, 7, 0x1 | 0x80, 0) + pack_attr(3, b"pharos0\0") + pack_attr(20, b"made by us\0")
    payload += pack_nested(18, pack_attr(1, b"dummy\0"))
    assert wire.parse_link(payload) == wire.Link(7, "pharos0", True, "dummy", "made by us")
    assert wire.parse_link(LINK.pack(0, 1, 2, 0, 0) + pack_attr(3, b"eth0\0")) == wire.Link(2, "eth0", False)


@pytest.mark.parametrize(
    ("prefix", "flags", "scope", "attributes", "expected"),
    [
        (24, 0, 0, {1: "10.0.0.7", 2: "10.0.0.7"}, ("10.0.0.7", "10.0.0.0/24", True)),
        (32, 0, 0, {1: "10.9.9.9", 2: "10.0.0.7"}, ("10.0.0.7", "", True)),  # point to point
        (32, 0, 254, {2: "10.0.0.7"}, ("10.0.0.7", "", False)),
        (8, 0, 0, {2: "127.0.0.1"}, ("127.0.0.1", "127.0.0.0/8", False)),
        (64, 0, 0, {1: "fd10::7"}, ("fd10::7", "fd10::/64", True)),
        (64, 0x40, 0, {1: "fd10::7"}, ("fd10::7", "fd10::/64", False)),
        (64, 0x20, 0, {1: "fd10::7"}, ("fd10::7", "fd10::/64", False)),
        (64, 0, 0, {1: "fe80::7"}, ("fe80::7", "fe80::/64", False)),
    ],
)
def test_addresses_and_whether_others_reach_the_node_by_them(
    prefix: int, flags: int, scope: int, attributes: dict[int, str], expected: tuple[str, str, bool]
) -> None:
    payload = ADDRESS.pack(0, prefix, flags, scope, 3)
    for kind, text in attributes.items():
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        payload += pack_attr(kind, socket.inet_pton(family, text))
    held = wire.parse_address(payload)
    assert (held.address, held.network, held.is_usable) == expected
    assert held.device == 3


def test_flags_that_do_not_fit_in_the_head_are_an_attribute() -> None:
    payload = ADDRESS.pack(10, 64, 0, 0, 3) + pack_attr(1, SIX) + pack_attr(8, number(0x20))
    assert not wire.parse_address(payload).is_usable


@pytest.mark.parametrize(
    "parse", [wire.parse_route, wire.parse_link, wire.parse_address, wire.is_ours, wire.is_default]
)
def test_what_is_cut_off_is_an_error(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match="cut off"):
        parse(b"\0\0\0")


@pytest.mark.parametrize(
    "payload",
    [
        ROUTE.pack(2, 32, 0, 0, 255, 80, 0, 2, 0) + pack_attr(1, b"123"),
        ROUTE.pack(2, 32, 0, 0, 255, 80, 0, 2, 0) + pack_attr(4, b"1"),
        ROUTE.pack(2, 0, 0, 0, 254, 80, 0, 1, 0) + pack_attr(9, b"1234"),
        ROUTE.pack(2, 0, 0, 0, 254, 80, 0, 1, 0) + pack_attr(9, struct.pack("=HBBi", 0, 0, 0, 1)),
    ],
)
def test_attributes_of_a_wrong_size_are_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError):
        wire.parse_route(payload)


@pytest.mark.parametrize("text", ["", "11.0.0", "11.0.0.1/32", "x"])
def test_a_route_to_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        wire.add_route(text, 1)
    with pytest.raises(ValueError):
        wire.drop_route(text)
