"""The texts of labels, each kind of value by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lb7 import label_values as values
from lb7.table import AuthRule, PathPrefix


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("T", True), ("Yes", True), (" y ", True), ("false", False), ("", False)]
)
def test_yes_and_no(text: str, value: bool) -> None:
    assert values.read_boolean(text) is value


@pytest.mark.parametrize("text", ["1", "on", "tru"])
def test_neither_yes_nor_no(text: str) -> None:
    with pytest.raises(ValueError, match="expected true or false"):
        values.read_boolean(text)


@pytest.mark.parametrize("text", ["", "x", "70000", "1.5", "9" * 5000, "0x10"])
def test_numbers_out_of_range(text: str) -> None:
    assert values.read_number("-1", -5, 5) == -1
    with pytest.raises(ValueError, match="expected a number from 1 to 65535"):
        values.read_number(text, 1, 65535)


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\0", " a", "ä", "x" * 5000, ""])
def test_what_can_not_stand_in_a_header(text: str) -> None:
    assert values.read_field("max-age=1; includeSubDomains") == "max-age=1; includeSubDomains"
    with pytest.raises(ValueError, match="expected visible ASCII"):
        values.read_field(text)
    with pytest.raises(ValueError, match="without blanks"):
        values.read_uri_path("/a b")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Web.Example.com", "web.example.com"),
        (" a.b ", "a.b"),
        ("a.b:8080", "a.b"),
        ("a.b.", "a.b"),
        ("*.A.b", "*.a.b"),
        ("*", ""),
        ("[fd00::1]", "[fd00::1]"),
        ("[fd00::1]:80", "[fd00::1]"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert values.read_host(text) == host


@pytest.mark.parametrize("text", ["a b", "a/b", "*a.b", "a.*.b", ".a", "a..", "ä.de", "x" * 300, "-i"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="expected a host's name"):
        values.read_host(text)


def test_paths_by_plain_beginnings() -> None:
    assert values.literal_prefixes("/a /b") == (PathPrefix("/a", False, False), PathPrefix("/b", False, False))
    assert values.literal_prefixes("-i -- /A -x") == (PathPrefix("/A", True, False), PathPrefix("-x", True, False))
    assert values.literal_prefixes(r"/a\ b # /c") == (PathPrefix("/a b", False, False),)
    assert values.literal_prefixes("-i") == ()


@pytest.mark.parametrize("text", ["-m reg ^/x", "-f /etc/passwd", "/a 'b"])
def test_paths_in_another_language(text: str) -> None:
    with pytest.raises(ValueError):
        values.literal_prefixes(text)


def test_paths_by_segments() -> None:
    assert values.segment_prefix("/a/b/", True) == PathPrefix("/a/b", True)
    assert values.segment_prefix("/", False) == PathPrefix("")
    for text in ("a", "/a?b", "/a\n", ""):
        with pytest.raises(ValueError, match="begins with '/'"):
            values.segment_prefix(text, False)


def test_passwords() -> None:
    assert values.read_auth("My Realm:bob:$5$x$y") == AuthRule((), "My Realm", (("bob", "$5$x$y"),))
    assert values.read_auth(":bob:h").realm == "Restricted"
    for text in ("realm:bob", "r:b:c:d", "r::h", "r:b:", "r\n:b:h", ""):
        with pytest.raises(ValueError, match="realm:user:hash"):
            values.read_auth(text)


def test_a_bad_password_is_not_told() -> None:
    with pytest.raises(ValueError) as error:
        values.read_auth("realm:user:hash:secret")
    assert "secret" not in str(error.value)


def test_networks() -> None:
    assert values.read_network("10.1.40.7/24") == "10.1.40.0/24"
    assert values.read_network("fd00::1") == "fd00::1/128"
    with pytest.raises(ValueError, match="a network"):
        values.read_network("example.com")


@pytest.mark.parametrize(
    ("text", "balance"),
    [("roundrobin", "roundrobin"), ("static-rr", "roundrobin"), (" LeastConn", "leastconn"), ("random(2)", "random")],
)
def test_algorithms(text: str, balance: str) -> None:
    assert values.read_balance(text) == balance


@pytest.mark.parametrize("text", ["uri", "hdr(host)", "url_param id", ""])
def test_algorithms_that_are_not_ours(text: str) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        values.read_balance(text)


def test_addresses_to_listen_on() -> None:
    found = [values.read_bind_address(text) for text in ("*", "10.0.0.1", "ipv4@10.0.0.1", "fd00::1", "[::]")]
    assert found == ["", "10.0.0.1", "10.0.0.1", "[fd00::1]", "[::]"]
    assert values.read_bind_address("::ffff:127.0.0.1") == "127.0.0.1"
    for text in ("eth0", "10.0.0.1:80,10.0.0.2", "abns@x"):
        with pytest.raises(ValueError, match="expected an address"):
            values.read_bind_address(text)


@pytest.mark.parametrize("read", [values.words_of, values.read_field, values.read_auth, values.literal_prefixes])
def test_long_texts_are_refused_and_shortened(read: Callable[[str], object]) -> None:
    with pytest.raises(ValueError) as error:
        read("/x" * 5000)
    assert len(str(error.value)) < 400
