"""Values that several sections have: what is taken, and what is said of the rest."""

from __future__ import annotations

import pytest

from agent import check_values


@pytest.mark.parametrize("text", ["10.0.0.1:53", "[::1]:53", ":53", "0.0.0.0:0"])
def test_addresses_to_listen_on(text: str) -> None:
    assert not list(check_values.listen_problems("dns.listen", [text]))


@pytest.mark.parametrize("text", ["10.0.0.1", "host:53", "10.0.0.1:x", "::1"])
def test_what_is_no_address_to_listen_on(text: str) -> None:
    (problem,) = check_values.listen_problems("dns.listen", ["10.0.0.1:53", text])
    assert str(problem) == f"dns.listen[1]: expected IP:PORT, [IPv6]:PORT or :PORT, got {text!r}"


def test_a_server_is_named_once() -> None:
    found = [str(each) for each in check_values.server_problems("a", ["10.0.0.1", "10.0.0.1:53", ":53", "x"])]
    assert found == [
        "a[1]: '10.0.0.1:53' is listed twice",
        "a[2]: expected IP or IP:PORT, got ':53'",
        "a[3]: expected IP or IP:PORT, got 'x'",
    ]


@pytest.mark.parametrize(
    ("name", "good"),
    [("mesos", True), ("a_b.example", True), ("a" * 63, True), ("a" * 64, False), ("a..b", False), ("mesos.", False)],
)
def test_names(name: str, good: bool) -> None:
    assert bool(list(check_values.name_problems("x", name))) != good


@pytest.mark.parametrize(
    ("host", "good"), [("10.0.0.1", True), ("m1.example", True), ("10.0.0.300", False), ("a b", False), ("", False)]
)
def test_hosts(host: str, good: bool) -> None:
    assert check_values.is_host(host) == good


@pytest.mark.parametrize(
    ("name", "inside"), [("mesos", True), ("a.MESOS", True), ("amesos", False), ("mesos.example", False)]
)
def test_zones(name: str, inside: bool) -> None:
    assert check_values.is_inside(name, "mesos") == inside


@pytest.mark.parametrize(
    ("text", "bare", "query", "fault"),
    [
        ("http://h:80/", True, False, ""),
        ("http://h/x", True, False, "expected it, got 'http://h/x'"),
        ("https://[::1]/x", False, False, ""),
        ("http://h/x?y=a@b", False, True, ""),
        ("http://h/x?y", False, False, "expected it, got 'http://h/x?y'"),
        ("http://u:p@h/?y", False, True, "credentials don't belong here: to a file"),
        ("http://u@[h", False, False, "expected it"),
        ("ftp://h", False, False, "expected it, got 'ftp://h'"),
    ],
)
def test_urls(text: str, bare: bool, query: bool, fault: str) -> None:
    assert check_values.url_fault(text, "expected it", "to a file", bare=bare, query=query) == fault
    found = list(check_values.url_problem("a.b", text, "expected it", "to a file", bare=bare, query=query))
    assert [str(problem) for problem in found] == ([f"a.b: {fault}"] if fault else [])
