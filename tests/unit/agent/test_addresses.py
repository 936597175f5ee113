"""agent.addresses: what the kernel says of the machine's devices."""

from __future__ import annotations

import ipaddress
import json
import subprocess

import pytest

from agent.addresses import device_addresses, interface_addresses, name_server_addresses

DEVICES = ["10.0.0.7", "127.0.0.1", "169.254.1.1", "fd00::7", "fe80::1", "::1"]


def read() -> list[str]:
    """A machine with one interface beside loopback."""
    return DEVICES


def test_loopback_and_link_local_are_left_out() -> None:
    assert interface_addresses(read) == ["10.0.0.7", "fd00::7"]


def test_a_machine_that_does_not_tell_has_none() -> None:
    def refuse() -> list[str]:
        raise OSError("no netlink here")

    assert interface_addresses(refuse) == []


def test_the_kernel_says_what_ip_says() -> None:
    done = subprocess.run(["ip", "-json", "address"], stdout=subprocess.PIPE, check=True)
    shown = {entry["local"] for link in json.loads(done.stdout) for entry in link.get("addr_info", ()) if entry}
    found = device_addresses()
    assert set(found) == {str(ipaddress.ip_address(address)) for address in shown}
    assert sorted(found, key=lambda address: ":" in address) == found


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
def test_the_name_server_has_the_addresses_that_it_listens_on(listen: tuple[str, ...], expected: list[str]) -> None:
    assert name_server_addresses(listen, read) == expected
