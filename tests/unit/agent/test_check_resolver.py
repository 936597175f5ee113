"""`[resolver]` and `[relay]`: what their types can't say."""

from __future__ import annotations

import pytest

from agent import checks
from agent.config import ConfigError, load_text

RESOLVER = "[resolver]\nlisten = ['10.0.0.1:53']\n"
RELAY = "[relay]\nservers = ['https://s1.example:8123']\n"
DOMAIN = "lies in domain 'mesos', which is answered here"
SERVER = "relay.servers[0]: expected http(s)://HOST[:PORT], got "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[resolver]\nlisten = ['xy']", "resolver.listen[0]: expected IP:PORT, [IPv6]:PORT or :PORT, got 'xy'"),
        (RESOLVER + "workers = 64\n[api]", ""),
        (
            "[resolver]\nlisten = ['10.0.0.1:53', '10.0.0.2:53']\nworkers = 33",
            "resolver.workers: for each of 2 addresses is more than 64 processes in all",
        ),
        (RESOLVER + "upstreams = ['10.0.0.2', 'tls://9.9.9.9#dns.example', 'tcp://[::1]:53']", ""),
        (RESOLVER + "upstreams = ['10.0.0.2', '10.0.0.2:53']", "resolver.upstreams[1]: '10.0.0.2:53' is listed twice"),
        (
            RESOLVER + "upstreams = ['10.0.0.1']",
            "resolver.upstreams[0]: '10.0.0.1' is listened on here: questions would go round in a circle",
        ),
        (RESOLVER + "zones = { 'corp.mesos' = ['10.0.0.2'] }", f'resolver.zones."corp.mesos": {DOMAIN}'),
        (RESOLVER + "zones = { 'corp.example' = [] }", 'resolver.zones."corp.example": expected at least one server'),
        (RESOLVER + "allow = ['10.0.0.0/33']", "expected an IP address or network, got '10.0.0.0/33'"),
        (RESOLVER + "min_ttl = 9\nmax_ttl = 3", "resolver.min_ttl: expected at most max_ttl, 3"),
        (RESOLVER + "resolv_conf = 'resolv.conf'", "resolver.resolv_conf: expected an absolute path"),
        (
            "[resolver]\nlisten = ['10.0.0.1:5353']\nresolv_conf = '/etc/resolv.conf'",
            "resolver.listen: expected an address with port 53 in listen: resolv.conf has no place for a port",
        ),
        (
            RESOLVER + "[dns]\nlisten = ['0.0.0.0:53']",
            "dns.listen[0]: '0.0.0.0:53' takes '10.0.0.1:53' of resolver.listen: name the addresses",
        ),
        (RESOLVER + "[dns]\nlisten = ['10.0.0.1:53']", "resolver.listen[0]: '10.0.0.1:53' is already taken by dns.l"),
        (RESOLVER + "[dns]\nlisten = ['0.0.0.0:5353', '[::]:53']", ""),
        ("[relay]", "relay.servers: expected at least one server, http(s)://HOST[:PORT]"),
        ("[relay]\nservers = ['s1:8123']", SERVER + "'s1:8123'"),
        ("[relay]\nservers = ['http://s1/path']", SERVER + "'http://s1/path'"),
        ("[relay]\nservers = ['http://bob:s3cret@s1']", "relay.servers[0]: credentials don't belong here"),
        ("[relay]\nservers = ['http://s1', 'http://S1/']", "relay.servers[1]: 'http://S1/' is listed twice"),
        (RELAY + "[mesos]\nmasters = ['m:5050']", "relay: follows servers instead of orchestrators: leave [mesos] or"),
        (RELAY + "key_file = 'x'", "relay.cert_file: key_file is set: cert_file and key_file go together"),
    ],
)
def test_problems(text: str, expected: str) -> None:
    found = ""
    try:
        load_text(text, "pharos.toml")
    except ConfigError as error:
        found = str(error)
    assert expected in found if expected else not found
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[resolver]\nallow = ['0.0.0.0/0']\n" + RELAY, "resolver.allow[0]: '0.0.0.0/0' makes this an open resolver"),
        (RELAY + "tls_verify = false\n[api]", "relay.tls_verify: is off: whoever can answer in a server's place"),
        (
            "[relay]\nservers = ['http://s1']\ntoken_file = '/x'\n[api]",
            "relay.servers[0]: the token is sent without encryption: use https://",
        ),
    ],
)
def test_advice(text: str, expected: str) -> None:
    assert any(expected in str(each) for each in checks.advice(load_text(text, "pharos.toml")))
