"""Names and addresses in wire form."""

from __future__ import annotations

import pytest

from mesos_dns.wire import IllegalName, name_from_wire, name_to_wire, reverse_address, soa_rdata, split_labels


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("", b"\0"),
        (".", b"\0"),
        ("mesos", b"\5mesos\0"),
        ("Web.mesos.", b"\3Web\5mesos\0"),
        ("é", b"\2\xc3\xa9\0"),
        ("a" * 63, b"\x3f" + b"a" * 63 + b"\0"),
    ],
)
def test_name_to_wire(name: str, wire: bytes) -> None:
    assert name_to_wire(name) == wire


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "é" * 32, ".".join(["a" * 63] * 4)])
def test_name_that_cannot_stand_on_the_wire(name: str) -> None:
    with pytest.raises(IllegalName, match="octets"):
        name_to_wire(name)


def test_the_longest_name() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(name_to_wire(name)) == 255
    with pytest.raises(IllegalName):
        name_to_wire(name + "b")


def test_name_from_wire() -> None:
    assert name_from_wire(b"\0") == ""
    assert name_from_wire(b"\3web\5mesos\0") == "web.mesos"
    assert name_from_wire(b"\2\xc3\xa9\0") == "é"
    assert name_from_wire(b"\2\xff\xfe\0") == "\udcff\udcfe"


def test_a_dot_in_a_label_reads_like_no_published_name() -> None:
    # The label "a.b" was once written "a\.b", which is also how the labels "a\" and "b" read.
    assert name_from_wire(b"\3a.b\0") not in ("a.b", "a\\.b")
    assert name_from_wire(b"\2a\\\1b\0") == "a\\.b"


def test_split_labels() -> None:
    assert split_labels(b"\3web\5mesos\0") == [b"web", b"mesos"]
    assert split_labels(b"\0") == []


def test_soa_rdata() -> None:
    wire = soa_rdata("ns1.mesos", "root.ns1.mesos", (1, 2, 3, 4, 5))
    assert wire == b"\3ns1\5mesos\0\4root\3ns1\5mesos\0" + b"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("4.3.2.10.in-addr.arpa", b"\x0a\2\3\4"),
        ("255.0.0.0.in-addr.arpa", b"\0\0\0\xff"),
        ("256.0.0.0.in-addr.arpa", None),
        ("04.3.2.10.in-addr.arpa", None),
        ("3.2.10.in-addr.arpa", None),
        ("5.4.3.2.10.in-addr.arpa", None),
        ("a.3.2.10.in-addr.arpa", None),
        ("²22.3.2.10.in-addr.arpa", None),
        ("4.3.2.10.ip6.arpa", None),
        (".".join("1" + "0" * 27 + "00df") + ".ip6.arpa", bytes.fromhex("fd00" + "0" * 27 + "1")),
        (".".join("g" + "0" * 31) + ".ip6.arpa", None),
        ("10." + ".".join("0" * 31) + ".ip6.arpa", None),
        (".".join("0" * 31) + ".ip6.arpa", None),
        ("in-addr.arpa", None),
    ],
)
def test_reverse_address(name: str, address: bytes | None) -> None:
    assert reverse_address(split_labels(name_to_wire(name))) == address
