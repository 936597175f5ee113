"""The text of a resolv.conf: reading it as the C library does, ours instead of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import resolv_conf

LINES = st.sampled_from(
    ["nameserver 10.0.0.1", "nameserver\tfe80::1%eth0", "search a.b c", "options rotate edns0", "# nameserver 9.9.9.9"]
)
FILES = st.one_of(st.binary(max_size=300), st.lists(LINES, max_size=9).map(lambda lines: "\n".join(lines).encode()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.2\n", ["10.0.0.1", "10.0.0.2"]),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.1", ["10.0.0.1"]),
        ("nameserver   10.0.0.1  10.0.0.9 # first", ["10.0.0.1"]),
        ("nameserver 10.0.0.1;old", ["10.0.0.1"]),
        ("nameserver\tfe80::1%eth0\nnameserver FD00:0::1", ["fe80::1%eth0", "fd00::1"]),
        ("nameserver 127.1", ["127.0.0.1"]),
        (" nameserver 10.0.0.1\n#nameserver 10.0.0.2\n;nameserver 10.0.0.3", []),
        ("nameservers 10.0.0.1\nnameserver\nnameserver dns.example\nnameserver 10.0.0.300\nnameserver #", []),
        ("nameserver 10.0.0.1\r\nnameserver 10.0.0.2\r\n", ["10.0.0.1", "10.0.0.2"]),
        ("nameserver 1.1.1.1\n" * 2 + "nameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4", 4),
    ],
)
def test_nameservers(text: str, found: list[str] | int) -> None:
    servers = resolv_conf.nameservers(text)
    assert (len(servers) if isinstance(found, int) else servers) == found


def test_ours_keeps_what_is_not_a_server() -> None:
    original = (
        "# by dhcp\nsearch prod.example example\nnameserver 10.0.0.1\nsortlist 10.0.0.0/8\n"
        "options edns0 rotate ndots:2\noptions timeout:30 attempts:9 trust-ad edns0 # no\n"
    )
    text = resolv_conf.ours(original, ["198.51.100.1", "198.51.100.2", "::1", "10.9.9.9"], Path("/var/x.saved"))
    head, rest = text.split("search", 1)
    assert all(line.startswith("#") for line in head.splitlines())
    assert "/var/x.saved" in head
    assert "pharos resolv-conf restore" in head
    assert "search" + rest == (
        "search prod.example example\nsortlist 10.0.0.0/8\n"
        "nameserver 198.51.100.1\nnameserver 198.51.100.2\nnameserver ::1\n"
        "options edns0 ndots:2 trust-ad timeout:1 attempts:3\n"
    )
    assert resolv_conf.is_ours(text)
    assert not resolv_conf.is_ours(original)


def test_the_text_for_a_resolver_that_is_away() -> None:
    text = resolv_conf.upstream_text("search a\nnameserver 198.51.100.1\noptions edns0", ["192.0.2.1"])
    assert resolv_conf.is_ours(text)
    assert text.splitlines()[1:] == ["search a", "options edns0", "nameserver 192.0.2.1"]


@given(FILES)
def test_any_file_becomes_ours(content: bytes) -> None:
    text = resolv_conf.decode(content)
    assert resolv_conf.encode(text) == content
    mine = resolv_conf.ours(text, ["198.51.100.1"])
    assert resolv_conf.nameservers(mine) == ["198.51.100.1"]
    assert resolv_conf.is_ours(mine)
    assert resolv_conf.ours(mine, ["198.51.100.1"]) == mine
    resolv_conf.encode(mine)


def test_listen_addresses() -> None:
    listen = ["198.51.100.1:53", "198.51.100.9:5353", "[fd00::1]:53", "[::]:53", "0.0.0.0:53"]
    assert resolv_conf.listen_addresses(listen) == ["198.51.100.1", "fd00::1", "::1"]
    assert resolv_conf.listen_addresses([":53"]) == ["127.0.0.1"]
    with pytest.raises(ValueError, match="port 53 in listen"):
        resolv_conf.listen_addresses(["127.0.0.1:5353"])


def test_plain_servers() -> None:
    upstreams = ["192.0.2.1", "192.0.2.2:5353", "tls://192.0.2.3#dns", "tcp://[2001:db8::1]:53", "tcp://192.0.2.1"]
    assert resolv_conf.plain_servers(upstreams) == ["192.0.2.1", "2001:db8::1"]
    assert resolv_conf.plain_servers([f"192.0.2.{n}" for n in range(9)]) == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
