"""agent.addresses: what the machine's /proc says of its interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.addresses import interface_addresses, name_server_addresses

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
        |-- 127.0.0.1
           /32 host LOCAL
Local:
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 169.254.1.1
           /32 host LOCAL
"""
IF_INET6 = """fe800000000000000000000000000001 02 40 20 80 eth0
fd000000000000000000000000000007 02 40 00 80 eth0
00000000000000000000000000000001 01 80 10 80 lo
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc/net with one interface beside loopback."""
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    return tmp_path


def test_loopback_link_local_and_broadcast_are_left_out(proc: Path) -> None:
    assert interface_addresses(proc) == ["10.0.0.7", "fd00::7"]


def test_a_machine_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert interface_addresses(tmp_path) == []


def test_lines_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "if_inet6").write_text("nonsense\n")
    assert interface_addresses(tmp_path) == []


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (("127.0.0.1:53",), ["127.0.0.1"]),
        (("0.0.0.0:53",), ["10.0.0.7"]),
        (("[::]:53",), ["fd00::7"]),
        (("0.0.0.0:53", "[::]:53", "10.0.0.7:5353"), ["10.0.0.7", "fd00::7"]),
        ((), []),
    ],
)
def test_the_name_server_has_the_addresses_that_it_listens_on(
    proc: Path, listen: tuple[str, ...], expected: list[str]
) -> None:
    assert name_server_addresses(listen, proc) == expected
