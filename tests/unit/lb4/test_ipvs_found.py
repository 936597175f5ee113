"""What a kernel told of its IPVS is read as it is, whatever others have made; anything else is an error."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb4.ipvs_found import (
    FOREIGN,
    Info,
    read_destination,
    read_family,
    read_info,
    read_service,
    read_timeouts,
)
from lb4.ipvs_wire import Timeouts, change
from lb4.netlink import each_attr, pack_attr
from lb4.services import (
    BackendKey,
    BackendStats,
    Destination,
    Kind,
    Operation,
    ServiceKey,
    ServiceStats,
    Settings,
)
from tests.fakes.ipvs_kernel import (
    RECORDED_DESTINATION,
    RECORDED_ENGINE,
    RECORDED_INFO,
    RECORDED_MARK,
    RECORDED_NETWORK,
    RECORDED_ROUTE6,
    RECORDED_SCTP,
    RECORDED_SERVICE,
    RECORDED_SERVICE6,
    RECORDED_TIMEOUTS,
    stats,
)

RECORDED = (
    RECORDED_SERVICE,
    RECORDED_SERVICE6,
    RECORDED_NETWORK,
    RECORDED_ENGINE,
    RECORDED_SCTP,
    RECORDED_MARK,
    RECORDED_DESTINATION,
    RECORDED_ROUTE6,
    RECORDED_INFO,
    RECORDED_TIMEOUTS,
)
READERS: tuple[Callable[[bytes], object], ...] = (read_service, read_destination, read_info, read_timeouts, read_family)


def with_attrs(recorded: bytes, **replaced: bytes | None) -> bytes:
    """A service or destination with other attributes (`a7=...`), or without (None); new ones at the end."""
    ((outer, inside),) = each_attr(recorded[4:])
    wanted = {int(name[1:]): value for name, value in replaced.items()}
    kept = [(kind, wanted.pop(kind) if kind in wanted else value) for kind, value in each_attr(inside)]
    parts = [pack_attr(kind, value) for kind, value in [*kept, *wanted.items()] if value is not None]
    return recorded[:4] + pack_attr(outer, b"".join(parts))


@pytest.mark.parametrize(
    ("recorded", "key", "settings"),
    [
        (RECORDED_SERVICE, ServiceKey("tcp", "11.0.0.1", 80), Settings("wlc")),
        (RECORDED_SERVICE6, ServiceKey("udp", "fd01:c::1", 53), Settings("mh+0x10", 600, 64)),
        (RECORDED_NETWORK, ServiceKey("udp", "11.0.0.9", 53), Settings("rr", 60, 24)),
        (RECORDED_ENGINE, ServiceKey("udp", "11.0.0.9", 5060), Settings("rr+sip", 60, 32)),
    ],
)
def test_services(recorded: bytes, key: ServiceKey, settings: Settings) -> None:
    found = read_service(recorded)
    assert found is not None
    assert (found.key, found.settings, found.stats) == (key, settings, ServiceStats())


@pytest.mark.parametrize("recorded", [RECORDED_MARK, RECORDED_SCTP])
def test_services_that_no_vip_can_be(recorded: bytes) -> None:
    assert read_service(recorded) is None


def test_a_persistence_by_a_mask_that_is_no_network() -> None:
    for mask in (b"\xff\0\xff\0", bytes(4)):
        found = read_service(with_attrs(RECORDED_NETWORK, a9=mask))
        assert found is not None
        assert found.settings == Settings("rr", 60, FOREIGN)


def test_destinations() -> None:
    assert read_destination(RECORDED_DESTINATION) == (
        BackendKey("10.0.0.2", 8080),
        Destination(3, 100, 50),
        BackendStats(),
    )
    assert read_destination(RECORDED_ROUTE6) == (BackendKey("fd00::8", 53), Destination(FOREIGN), BackendStats())


@pytest.mark.parametrize("method", [1, 2, 3, 4])
def test_only_a_masqueraded_destination_has_its_weight(method: int) -> None:
    told = with_attrs(RECORDED_DESTINATION, a3=struct.pack("=I", method))
    assert read_destination(told).destination == Destination(FOREIGN, 100, 50)


def test_counts_of_64_bits_and_of_32() -> None:
    numbers = (5 << 32, 6 << 32, 7 << 32, 8 << 40, 9 << 40)
    wide = stats(numbers, True)[4:]
    narrow = stats((5, 6, 7, 8 << 40, 9 << 40), False)[4:]
    active = {"a7": struct.pack("=I", 11), "a8": struct.pack("=I", 12)}
    service = read_service(with_attrs(RECORDED_SERVICE, a12=wide, a10=narrow))
    assert service is not None
    assert service.stats == ServiceStats(*numbers)
    uncounted = read_service(with_attrs(RECORDED_SERVICE, a12=wide, a10=narrow), counted=False)
    assert uncounted == service._replace(stats=ServiceStats())
    old = read_service(with_attrs(RECORDED_SERVICE, a12=None, a10=narrow))
    assert old is not None
    assert old.stats == ServiceStats(5, 6, 7, 8 << 40, 9 << 40)
    told = read_destination(with_attrs(RECORDED_DESTINATION, a12=wide, **active))
    assert told.stats == BackendStats(11, 12, 5 << 32)
    assert read_destination(with_attrs(RECORDED_DESTINATION, a12=None, a10=narrow)).stats == BackendStats(0, 0, 5)


@pytest.mark.parametrize("recorded", [RECORDED_DESTINATION, RECORDED_ROUTE6])
def test_a_destination_in_another_form_is_read_the_same(recorded: bytes) -> None:
    ((outer, inside),) = each_attr(recorded[4:])
    expected = read_destination(recorded)
    turned = b"".join(pack_attr(kind, value) for kind, value in reversed(list(each_attr(inside))))
    assert read_destination(recorded[:4] + pack_attr(outer, turned)) == expected
    assert read_destination(with_attrs(recorded, a77=b"new")) == expected
    assert read_destination(with_attrs(recorded, a13=None, a14=None, a15=None)) == expected
    assert read_destination(with_attrs(recorded, a11=None)) == expected  # before Linux 3.18


def test_addresses_are_canonical() -> None:
    mapped = bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert read_destination(with_attrs(RECORDED_ROUTE6, a1=mapped)).key.address == "::ffff:a00:1"


def test_what_was_said_is_read_back() -> None:
    for settings in (Settings("sh"), Settings("wrr", 7, 32), Settings("rr", 7, 1)):
        operation = Operation(Kind.ADD_SERVICE, ServiceKey("tcp", "11.0.0.1", 65535), settings)
        found = read_service(_told(change(operation)))
        assert found is not None
        assert (found.key, found.settings) == (operation.service, settings)


def _told(said: bytes) -> bytes:
    """What the kernel tells of a service that it was given: it adds a flag of its own, and counts."""
    ((outer, inside),) = each_attr(said[4:])
    flags, mask = struct.unpack("=II", dict(each_attr(inside))[7])
    counted = inside + stats((), False) + stats((), True)
    return with_attrs(said[:4] + pack_attr(outer, counted), a7=struct.pack("=II", flags | 2, mask))


def test_info_time_outs_and_the_family() -> None:
    assert read_info(RECORDED_INFO) == Info("1.2.1", 4096)
    assert read_timeouts(RECORDED_TIMEOUTS) == Timeouts(901, 121, 301)
    assert read_family(b"\x01\x02\0\0" + pack_attr(2, b"IPVS\0") + pack_attr(1, struct.pack("=H", 33))) == 33


@pytest.mark.parametrize("recorded", [RECORDED_SERVICE, RECORDED_DESTINATION, RECORDED_INFO, RECORDED_TIMEOUTS])
def test_what_is_cut_off_is_an_error(recorded: bytes) -> None:
    readers: dict[int, Callable[[bytes], object]] = {
        1: read_service,
        5: read_destination,
        14: read_info,
        12: read_timeouts,
    }
    for length in range(len(recorded)):
        with pytest.raises(ValueError):
            readers[recorded[0]](recorded[:length])


@pytest.mark.parametrize(
    "replaced",
    [
        {"a1": None},
        {"a1": b"\x03\0"},
        {"a2": None},
        {"a3": bytes(3)},
        {"a4": b"\0"},
        {"a7": bytes(4)},
        {"a10": b"\xff"},
    ],
)
def test_a_service_that_lacks_what_it_must_have(replaced: dict[str, bytes | None]) -> None:
    with pytest.raises(ValueError):
        read_service(with_attrs(RECORDED_SERVICE, a12=None, **replaced))


@given(st.sampled_from(RECORDED), st.integers(0, 400), st.binary(max_size=8))
def test_any_octets_are_read_or_an_error(recorded: bytes, place: int, octets: bytes) -> None:
    place %= len(recorded)
    for reader in READERS:
        try:
            reader(recorded[:place] + octets + recorded[place + len(octets) :])
        except ValueError:
            pass
