"""Addresses of upstreams, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.resolver.address import UpstreamAddress, canonical_host, parse_upstream


@pytest.mark.parametrize(
    ("text", "expected", "label"),
    [
        ("10.0.0.2", UpstreamAddress("udp", "10.0.0.2", 53), "10.0.0.2:53"),
        ("10.0.0.2:5353", UpstreamAddress("udp", "10.0.0.2", 5353), "10.0.0.2:5353"),
        ("udp://10.0.0.2", UpstreamAddress("udp", "10.0.0.2", 53), "10.0.0.2:53"),
        ("[2001:db8::1]:53", UpstreamAddress("udp", "2001:db8::1", 53), "[2001:db8::1]:53"),
        ("[2001:db8::1]", UpstreamAddress("udp", "2001:db8::1", 53), "[2001:db8::1]:53"),
        ("2001:DB8:0::1", UpstreamAddress("udp", "2001:db8::1", 53), "[2001:db8::1]:53"),
        ("fe80::1%eth0", UpstreamAddress("udp", "fe80::1%eth0", 53), "[fe80::1%eth0]:53"),
        ("::ffff:10.0.0.2", UpstreamAddress("udp", "10.0.0.2", 53), "10.0.0.2:53"),
        ("tcp://10.0.0.2", UpstreamAddress("tcp", "10.0.0.2", 53), "tcp://10.0.0.2:53"),
        ("TCP://[::1]:5353", UpstreamAddress("tcp", "::1", 5353), "tcp://[::1]:5353"),
        ("tls://9.9.9.9", UpstreamAddress("tls", "9.9.9.9", 853), "tls://9.9.9.9:853"),
        (
            "tls://9.9.9.9:853#dns.Quad9.net",
            UpstreamAddress("tls", "9.9.9.9", 853, "dns.quad9.net"),
            "tls://9.9.9.9:853#dns.quad9.net",
        ),
        ("tls://[2620:fe::fe]#dns.quad9.net", UpstreamAddress("tls", "2620:fe::fe", 853, "dns.quad9.net"), None),
    ],
)
def test_what_people_write(text: str, expected: UpstreamAddress, label: str | None) -> None:
    assert parse_upstream(text) == expected
    assert label is None or expected.label == label
    assert parse_upstream(expected.label) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "an IP address expected"),
        ("dns.example", "an IP address expected"),
        ("tls://dns.quad9.net", "an IP address expected"),
        ("10.0.0.256", "an IP address expected"),
        ("2001:db8::1:53000", "an IP address expected"),
        ("[10.0.0.2", "an IP address expected"),
        ("[::1]5", "an IP address expected"),
        ("10.0.0.2:53:53", "an IP address expected"),
        ("0.0.0.0", "of one server"),  # noqa: S104
        ("::", "of one server"),
        ("224.0.0.1", "of one server"),
        ("ff02::1", "of one server"),
        ("255.255.255.255", "of one server"),
        ("10.0.0.2:", "a port from 1 to 65535"),
        ("10.0.0.2:0", "a port from 1 to 65535"),
        ("10.0.0.2:65536", "a port from 1 to 65535"),
        ("10.0.0.2:+53", "a port from 1 to 65535"),
        ("10.0.0.2:5٣", "a port from 1 to 65535"),
        ("https://9.9.9.9", "udp://, tcp:// or tls://"),
        ("10.0.0.2#name", "only tls://"),
        ("tls://9.9.9.9#", "a host name expected"),
        ("tls://9.9.9.9#a b", "a host name expected"),
        ("fe80::1%a b", "a network device"),
    ],
)
def test_what_was_expected_is_said(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_upstream(text)
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_upstream(text)
    except ValueError:
        return
    assert parse_upstream(address.label) == address


def test_one_spelling() -> None:
    assert canonical_host("0:0::1") == "::1"
    with pytest.raises(ValueError):
        canonical_host("localhost")
