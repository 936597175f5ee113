"""Names above a host, and addresses to listen on."""

from __future__ import annotations

from lb7.claims import host_and_port, names_above, port_name


def test_names_above_a_host() -> None:
    assert names_above("a.b.example.com") == ["*.b.example.com", "*.example.com", "*.com", ""]
    assert names_above("*.b.example.com") == ["*.example.com", "*.com", ""]
    assert names_above("localhost") == [""]
    assert names_above("") == []


def test_addresses() -> None:
    assert [host_and_port(host, 80) for host in ("", "10.0.0.1", "[::1]")] == [":80", "10.0.0.1:80", "[::1]:80"]


def test_what_listens_at_an_address_is_called_by_it() -> None:
    assert port_name(80, "") == "port:80"
    assert port_name(80, "", {"port:80@10.0.0.1"}) == "port:80"
    assert port_name(80, "10.0.0.1", {"port:80"}) == "port:80@10.0.0.1"
    assert port_name(80, "[::1]", {"port:80@[::1]", "port:80@[::1]#2"}) == "port:80@[::1]#3"
