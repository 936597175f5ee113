"""VIPs of the VIP file as keys and fixed backends."""

from __future__ import annotations

import pytest

from lb4.definitions import MAX_WEIGHT, key_of, servers_of
from lb4.labels import BadLabel
from lb4.vip import Backend, State, VipKey
from mesos_dns.model import Health, Vip, VipServer


def test_keys() -> None:
    assert key_of(Vip("DB.marathon", 5432)) == VipKey("tcp", "db.marathon", 5432)
    assert key_of(Vip("::FFFF:11.1.2.3", 53, "udp")) == VipKey("udp", "11.1.2.3", 53)


@pytest.mark.parametrize(
    ("vip", "reason"),
    [
        (Vip("db", 0), "port"),
        (Vip("db", 65536), "port"),
        (Vip("db", 80, "sctp"), "protocol"),
        (Vip("d b", 80), "name"),
        (Vip("127.0.0.1", 80), "address"),
    ],
)
def test_bad_definitions(vip: Vip, reason: str) -> None:
    with pytest.raises(BadLabel) as raised:
        key_of(vip)
    assert raised.value.reason == reason


def test_servers() -> None:
    good = (VipServer("::ffff:10.0.0.4", 5432, 2), VipServer("fd00::4", 5432), VipServer("10.0.0.5", 1, 0))
    bad = (
        VipServer("host", 5432),
        VipServer("10.0.0.6", 0),
        VipServer("10.0.0.6", 65536),
        VipServer("10.0.0.6", 1, -1),
        VipServer("10.0.0.6", 1, MAX_WEIGHT + 1),
    )
    vip = Vip("db", 80, servers=good + bad)
    backends, refused = servers_of(vip, key_of(vip))
    assert backends == (
        Backend("10.0.0.4", 5432, 2, 2, Health.NONE, State.ACTIVE),
        Backend("fd00::4", 5432),
        Backend("10.0.0.5", 1, 0, 0),
    )
    assert [refusal.reason for refusal in refused] == ["server"] * len(bad)
    assert refused[0].label == "host 5432"


def test_servers_are_of_the_family_of_the_vips_address() -> None:
    vip = Vip("11.0.0.1", 80, servers=(VipServer("10.0.0.4", 1), VipServer("fd00::4", 1)))
    backends, refused = servers_of(vip, key_of(vip))
    assert [backend.address for backend in backends] == ["10.0.0.4"]
    assert ["family" in refusal.text for refusal in refused] == [True]
