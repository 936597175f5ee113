"""Changes and questions for IPVS, compared with what the kernel itself says of the same services."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from lb4.ipvs_wire import Timeouts, change, destinations_question, family_question, service_question, timeouts_change
from lb4.netlink import unpack_attrs
from lb4.services import BackendKey, Destination, Kind, Operation, ServiceKey, Settings
from tests.fakes.ipvs_kernel import (
    RECORDED_DESTINATION,
    RECORDED_NETWORK,
    RECORDED_SERVICE,
    RECORDED_SERVICE6,
)

V4 = ServiceKey("tcp", "11.0.0.1", 80)
V6 = ServiceKey("udp", "fd01:c::1", 53)
BACKEND = BackendKey("10.0.0.2", 8080)


def inner(payload: bytes, kind: int = 1) -> dict[int, bytes]:
    """The attributes of the service (1) or the destination (2)."""
    return unpack_attrs(unpack_attrs(payload[4:])[kind])


def command_of(payload: bytes) -> int:
    """The command's number; version 1 and nothing else before the attributes."""
    assert payload[1:4] == b"\x01\0\0"
    return payload[0]


def same(payload: bytes, recorded: bytes, kind: int, kinds: tuple[int, ...]) -> None:
    """Both have the same octets in these attributes."""
    ours, theirs = inner(payload, kind), inner(recorded, kind)
    assert {number: ours[number] for number in kinds} == {number: theirs[number] for number in kinds}


@pytest.mark.parametrize(
    ("key", "settings", "recorded"),
    [
        (V4, Settings("wlc"), RECORDED_SERVICE),
        (V6, Settings("mh", 600, 64), RECORDED_SERVICE6),
        (ServiceKey("udp", "11.0.0.9", 53), Settings("rr", 60, 24), RECORDED_NETWORK),
    ],
)
def test_a_service_is_said_as_the_kernel_tells_it(key: ServiceKey, settings: Settings, recorded: bytes) -> None:
    payload = change(Operation(Kind.ADD_SERVICE, key, settings))
    assert command_of(payload) == 1
    same(payload, recorded, 1, (1, 2, 3, 4, 6, 8, 9))
    flags, mask = struct.unpack("=II", inner(payload)[7])
    assert flags == (1 if settings.persistence else 0)
    assert mask == 0xFFFFFFFF  # flags that others have set go


def test_a_destination_is_said_as_the_kernel_tells_it_and_masqueraded() -> None:
    payload = change(Operation(Kind.ADD_DESTINATION, V4, None, BACKEND, Destination(3, 100, 50)))
    assert command_of(payload) == 5
    same(payload, RECORDED_DESTINATION, 2, (1, 2, 3, 4, 5, 6, 11))
    same(payload, RECORDED_SERVICE, 1, (1, 2, 3, 4))
    assert set(inner(payload)) == {1, 2, 3, 4}
    assert inner(payload, 2)[3] == bytes(4)
    assert inner(payload, 2)[2] == struct.pack("!H", 8080)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (Kind.ADD_SERVICE, 1),
        (Kind.SET_SERVICE, 2),  # pyroute2 0.9.7 sends 3 here, which deletes
        (Kind.DROP_SERVICE, 3),
        (Kind.ADD_DESTINATION, 5),
        (Kind.SET_DESTINATION, 6),  # and 7 here
        (Kind.DROP_DESTINATION, 7),
    ],
)
def test_each_operation_has_its_command(kind: Kind, number: int) -> None:
    assert command_of(change(Operation(kind, V4, Settings(), BACKEND, Destination()))) == number


def test_a_drop_names_only_what_it_drops() -> None:
    assert set(inner(change(Operation(Kind.DROP_SERVICE, V4)))) == {1, 2, 3, 4}
    assert set(inner(change(Operation(Kind.DROP_DESTINATION, V4, None, BACKEND)), 2)) == {1, 2, 11}


def test_without_a_prefix_each_address_is_a_client() -> None:
    masks = [
        inner(change(Operation(Kind.SET_SERVICE, key, Settings("rr", persistence, prefix))))[9]
        for key in (V4, V6)
        for persistence, prefix in ((60, 0), (0, 0), (0, 24))
    ]
    assert masks == [b"\xff\xff\xff\xff"] * 3 + [struct.pack("=I", 128)] * 3


def test_questions() -> None:
    assert family_question() == bytes.fromhex("03010000 09000200 4950565300 000000")
    assert command_of(service_question(V6)) == 4
    assert command_of(destinations_question(V6)) == 8
    assert inner(destinations_question(V6)) == inner(change(Operation(Kind.DROP_SERVICE, V6)))


def test_only_time_outs_that_are_wanted_are_set() -> None:
    payload = timeouts_change(Timeouts(900, 0, 30))
    assert command_of(payload) == 12
    assert unpack_attrs(payload[4:]) == {4: struct.pack("=I", 900), 6: struct.pack("=I", 30)}


@pytest.mark.parametrize(
    "changed",
    [
        {"service": ServiceKey("sctp", "11.0.0.1", 80)},
        {"service": ServiceKey("tcp", "11.0.0.300", 80)},
        {"service": ServiceKey("tcp", "fe80::1%lo", 80)},
        {"service": ServiceKey("tcp", "web.example", 80)},
        {"service": ServiceKey("tcp", "\udcff", 80)},
        {"service": ServiceKey("tcp", "11.0.0.1", 65536)},
        {"service": ServiceKey("tcp", "11.0.0.1", -1)},
        {"backend": None},
        {"backend": BackendKey("10.0.0.2", 70000)},
        {"backend": BackendKey("", 70)},
        {"destination": None},
        {"destination": Destination(-1)},
        {"destination": Destination(1 << 31)},
        {"destination": Destination(1, 1 << 32)},
        {"destination": Destination(1, 0, -1)},
        {"kind": Kind.ADD_ADDRESS},
        {"kind": Kind.ADD_SERVICE, "settings": None},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("")},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("r\0r")},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("répartir")},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("a" * 16)},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("rr", -1)},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("rr", 60, 33)},
        {"kind": Kind.ADD_SERVICE, "settings": Settings("rr", 60, -1)},
    ],
)
def test_what_can_not_be_said(changed: dict[str, Any]) -> None:
    good = Operation(Kind.ADD_DESTINATION, V4, Settings(), BACKEND, Destination())
    change(good)
    with pytest.raises(ValueError):
        change(good._replace(**changed))


def test_a_time_out_that_can_not_be_said() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        timeouts_change(Timeouts(1 << 32))
