"""Addresses that no virtual IP may have."""

from __future__ import annotations

from agent.config import load_text
from agent.protected_addresses import protected


def test_what_a_node_lives_by() -> None:
    config = load_text(
        '[relay]\nservers = ["http://10.0.0.20:8123", "http://s2.example:8123"]\n'
        '[resolver]\nlisten = ["198.51.100.1:53", "[fd00::53]:53"]\nupstreams = ["192.0.2.53", "tls://192.0.2.54#x.y"]\n'
        'zones = { "corp.example" = ["10.1.0.2"] }\n'
        '[admin]\nlisten = ["127.0.0.1:8124"]\n',
        "t.toml",
    )
    assert protected(config, ["10.0.0.7", "fd00::7"]) == {
        *("10.0.0.7", "fd00::7", "10.0.0.20", "198.51.100.1", "fd00::53"),
        *("192.0.2.53", "192.0.2.54", "10.1.0.2", "127.0.0.1"),
    }


def test_what_a_server_lives_by() -> None:
    config = load_text(
        '[mesos]\nmasters = ["http://10.0.0.10:5050"]\n[zookeeper]\nhosts = ["10.0.0.11:2181"]\n'
        '[dns]\nlisten = ["0.0.0.0:53", "10.0.0.1:53"]\n[api]\nlisten = ["[::]:8123"]\n',
        "t.toml",
    )
    assert protected(config, []) == {"10.0.0.10", "10.0.0.11", "10.0.0.1"}
    assert protected(load_text("", "t.toml"), []) == frozenset()
