"""Values that names can't be made of."""

from __future__ import annotations

import pytest

from mesos_dns.model import (
    App,
    AppCheck,
    AppPort,
    Draining,
    Entity,
    HealthOverlay,
    Node,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipCheck,
    VipServer,
)
from mesos_dns.watch_sound import fault_of, is_form_of

NUMBERS = b"\0" * 20


@pytest.mark.parametrize(
    ("rtype", "good", "bad"),
    [
        (1, b"\1\2\3\4", (b"", b"\1\2\3", b"\1\2\3\4\5")),
        (28, b"x" * 16, (b"x" * 15, b"")),
        (2, b"\3abc\0", (b"\3abc", b"\x3f", b"\xc0\x0c", b"\3abc\0\0", b"")),
        (5, b"\0", (b"\xff\xff", (b"\x3f" + b"x" * 63) * 4 + b"\0")),
        (6, b"\0\1a\0" + NUMBERS, (b"\1\2", b"\0\0" + NUMBERS + b"x", b"\0" + NUMBERS)),
        (12, b"\1a\0", (b"\1",)),
        (15, b"\0\1\1a\0", (b"\0", b"\0\1")),
        (33, b"\0" * 6 + b"\1a\0", (b"\0", b"\0" * 6)),
        (39, b"\1a\0", (b"\1a",)),
        (16, b"", ()),
        (65280, b"anything", ()),
    ],
)
def test_data_has_the_form_of_its_type(rtype: int, good: bytes, bad: tuple[bytes, ...]) -> None:
    assert is_form_of(rtype, good)
    assert fault_of(StaticRecords("a.x.", rtype, 5, (good,), "x.")) == ""
    for data in bad:
        assert not is_form_of(rtype, data)
        assert f"type {rtype}" in fault_of(StaticRecords("a.x.", rtype, 5, (good, data), "x."))


@pytest.mark.parametrize(
    "entity",
    [
        StaticRecords("a..b.", 16, 5, (), "b."),
        StaticRecords("a" * 64 + ".b.", 16, 5, (), "b."),
        StaticRecords("a." * 200, 16, 5, (), "b."),
        StaticRecords("e.x.", 16, 5, (), "a..b."),
        StaticRecords("e.x", 16, 5, (), ""),
        Node("S", "h", ("10.0.0.256",)),
        Node("S", "h", (), 65536),
        Task("F", "t", "t", "S", "TASK_RUNNING", start_time=float("inf")),
        Suspect("10.0.0.01"),
        Draining("F", "t", float("inf")),
        Draining("F", "t", float("nan")),
        App("/a", ports=(AppPort(service_port=65536),)),
        App("/a", ports=(AppPort(container_port=-1),)),
        App("/a", checks=(AppCheck(port=65536),)),
        App("/a", checks=(AppCheck(interval=float("nan")),)),
        App("/a", config_changed=float("inf")),
        HealthOverlay("F", "t", ports=(80, 65536)),
        HealthOverlay("F", "t", addresses=("10.0.0.01",)),
        HealthOverlay("F", "t", host_addresses=("agent7",)),
        HealthOverlay("F", "t", started=float("nan")),
        VipAddress("a", "11.0.0.256"),
        VipAddress("a", "", "fd01::C"),
        Vip("a.b", 0),
        Vip("a.b", 65536),
        Vip("a.b", 80, protocol="sctp"),
        Vip("a..b", 80),
        Vip("", 80),
        Vip("010.0.0.1", 80, servers=(VipServer("10.0.0.1", 80, -1),)),
        Vip("FD00::1", 80),
        Vip("a.b", 80, persistence=-1),
        Vip("a.b", 80, servers=(VipServer("a.b", 80),)),
        Vip("a.b", 80, check=VipCheck(interval=0)),
    ],
)
def test_what_has_a_fault(entity: Entity) -> None:
    assert fault_of(entity)


def test_what_has_none() -> None:
    for entity in (
        StaticRecords(".", 16, 5, (), "."),
        StaticRecords("\xfc.x.", 16, 5, (), "x."),
        Node("S", "h", ("10.0.0.1", "fd00::1"), 5051),
        Task("F", "t", "t", "S", "TASK_RUNNING"),
        Suspect("fd00::7"),
        Draining("F", "t", 1_800_000_000.5),
        VipAddress("a", "11.0.0.1", "fd01:c::1"),
        VipAddress("a"),
        Vip("web.marathon", 80, check=VipCheck(), servers=(VipServer("10.0.0.1", 80),)),
        Vip("fd01:c::1", 53, "udp"),
    ):
        assert fault_of(entity) == ""
