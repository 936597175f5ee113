"""VIP labels: what they ask for, and why one is refused."""

from __future__ import annotations

import pytest

from lb4.labels import (
    MAX_LABEL,
    BadLabel,
    TaskLabel,
    address_family,
    may_ask,
    protocol_of,
    target_name,
    task_label,
    task_labels,
    vip_key,
    vip_labels,
)
from lb4.vip import VipKey


@pytest.mark.parametrize("key", ["VIP", "vip", "VIP_0", "vip_0", "VIP-0", "VIPER", "vip_port0", "VIP_PORT0"])
def test_a_port_asks_by_a_key_that_begins_with_vip(key: str) -> None:
    assert vip_labels((("a", "b"), (key, "/x:80"), (key, "/y:80"))) == ["/x:80", "/y:80"]


@pytest.mark.parametrize("key", ["Vip_0", "vIP", "VI", "", "xVIP", "network-scope"])
def test_other_keys_ask_for_nothing(key: str) -> None:
    assert vip_labels(((key, "/x:80"),)) == []


@pytest.mark.parametrize(
    ("value", "name", "port"),
    [
        ("/abc:80", "abc.marathon", 80),
        ("abc:80", "abc.marathon", 80),
        ("ABC:80", "abc.marathon", 80),
        ("/a_b:65535", "a-b.marathon", 65535),
        ("/group/sub/app:1", "groupsubapp.marathon", 1),
        ("a..b:080", "a.b.marathon", 80),
        ("/abc:80,/def:81", "abc80def.marathon", 81),
        (f"{'x' * 70}:80", f"{'x' * 63}.marathon", 80),
        ("[abc]:80", "abc.marathon", 80),
        ("10.1.2.3:5000", "10.1.2.3", 5000),
        ("[10.1.2.3]:5000", "10.1.2.3", 5000),
        ("010.1.2.3:80", "010.1.2.3.marathon", 80),
        ("fd01:c::5:80", "fd01:c::5", 80),
        ("[FD01:C::0005]:80", "fd01:c::5", 80),
        ("::ffff:10.1.2.3:80", "10.1.2.3", 80),
    ],
)
def test_labels(value: str, name: str, port: int) -> None:
    assert vip_key(value, "marathon", "tcp") == VipKey("tcp", name, port)
    assert vip_key(value, "marathon", "UDP") == VipKey("udp", name, port)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "no-port"),
        ("/abc", "no-port"),
        ("/abc:", "port"),
        ("/abc:0", "port"),
        ("/abc:65536", "port"),
        ("/abc:-1", "port"),
        ("/abc:+80", "port"),
        ("/abc: 80", "port"),
        ("/abc:8_0", "port"),
        ("/abc:٨٠", "port"),
        ("/abc:http", "port"),
        ("/abc:" + "9" * 900, "port"),
        (":80", "name"),
        ("/:80", "name"),
        ("///..:80", "name"),
        (".".join(["x" * 60] * 4) + ":80", "name"),
        ("x" * MAX_LABEL + ":80", "too-long"),
        ("0.0.0.0:80", "address"),
        ("0.1.2.3:80", "address"),
        ("127.0.0.1:80", "address"),
        ("224.0.0.1:80", "address"),
        ("169.254.169.254:80", "address"),
        ("255.255.255.255:80", "address"),
        (":::80", "address"),
        ("::1:80", "address"),
        ("[fe80::1]:80", "address"),
        ("ff02::1:80", "address"),
        ("::ffff:127.0.0.1:80", "address"),
    ],
)
def test_bad_labels(value: str, reason: str) -> None:
    with pytest.raises(BadLabel) as raised:
        vip_key(value, "marathon", "tcp")
    assert raised.value.reason == reason
    assert 0 < len(str(raised.value)) < 400


def test_the_longest_name_leaves_room_for_the_zone() -> None:
    """255 octets on the wire, with the lengths and the root's: 24 are those of the zone and the root."""
    longest = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * (255 - 25 - 3 * 64 - 3)])
    assert len(vip_key(f"{longest}:80", "m", "tcp").name) == 255 - 25 - 1
    with pytest.raises(BadLabel, match="too long"):
        vip_key(f"{longest}x:80", "m", "tcp")


def test_names_are_in_the_scope_of_their_framework() -> None:
    assert vip_key("x:80", "Dev/Cassandra_1", "tcp").name == "x.devcassandra-1"
    with pytest.raises(BadLabel) as raised:
        vip_key("x:80", "///", "tcp")
    assert raised.value.reason == "framework"


def test_no_framework_takes_an_address_by_its_name() -> None:
    with pytest.raises(BadLabel, match="would read as an address"):
        vip_key("/10.0.0:80", "1", "tcp")


def test_protocols() -> None:
    assert [protocol_of(text) for text in ("tcp", "udp", "TCP", "Udp")] == ["tcp", "udp", "tcp", "udp"]
    for text in ("", "udp,tcp", "sctp", "tcp "):
        with pytest.raises(BadLabel) as raised:
            vip_key("/x:80", "marathon", text)
        assert raised.value.reason == "protocol"


@pytest.mark.parametrize("key", ["vip_port0", "VIP_PORT0", "Vip_Port12", "vIp_pORT00003"])
def test_a_task_asks_by_vip_port_in_any_case(key: str) -> None:
    labels = (("a", "b"), (key, "tcp://foo:80"))
    assert may_ask(labels)
    assert task_labels(labels) == ((key, "tcp://foo:80"),)
    assert task_label(key, "tcp://foo:80") == TaskLabel(int(key[8:]), "tcp", "foo:80")


def test_other_labels_of_a_task() -> None:
    assert not may_ask((("VIP", "/x:80"), ("", ""), ("vip", "x"), ("VIPER_0", "/x:80"), ("VIP_0", "/x:80")))
    assert task_labels((("vip_port", "a"), ("vip_portx", "a"), ("vip_port0x", "a"), ("vip_port٣", "a"))) == ()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("vip_port123456", "tcp://foo:80", "index"),
        ("other", "tcp://foo:80", "index"),
        ("vip_port0", "foo:80", "form"),
        ("vip_port0", "tcp:/foo:80", "form"),
        ("vip_port0", "http://foo:80", "protocol"),
        ("vip_port0", "://foo:80", "protocol"),
    ],
)
def test_bad_labels_of_a_task(key: str, value: str, reason: str) -> None:
    with pytest.raises(BadLabel) as raised:
        task_label(key, value)
    assert raised.value.reason == reason


def test_configured_targets() -> None:
    assert target_name("DB.marathon") == "db.marathon"
    assert target_name("::FFFF:11.0.0.1") == "11.0.0.1"
    assert target_name("FD01:C::1") == "fd01:c::1"
    assert target_name("169.254.20.10") == "169.254.20.10"
    for bad in (
        "",
        ".",
        "a b",
        "a_b",
        "-a",
        "a-",
        "a..b",
        "x" * 64,
        "127.0.0.1",
        "fe80::1",
        "[fd01::1]",
        "été",
        "x" * 9000,
    ):
        with pytest.raises(BadLabel):
            target_name(bad)


def test_families_of_names() -> None:
    names = ("web.marathon", "010.1.2.3.marathon", "11.0.0.1", "fd01:c::1")
    assert [address_family(name) for name in names] == [0, 0, 4, 6]
