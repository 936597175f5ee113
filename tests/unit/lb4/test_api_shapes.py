"""The shapes keep what dcos-net's readers know, and tell each key."""

from __future__ import annotations

import msgspec

from lb4.api_shapes import NodeRow, VipBackendRow, VipRow


def test_dcos_nets_keys_are_there() -> None:
    row = msgspec.to_builtins(VipRow("a:80", "tcp", [VipBackendRow("10.0.0.1", 80, 1, "none")]))
    assert {"vip", "protocol", "backend"} <= set(row)
    assert {"ip", "port"} <= set(row["backend"][0])
    node = msgspec.to_builtins(NodeRow("agent0", "10.0.0.1", [], "2026-11-01T10:00:00.000Z"))
    assert {"hostname", "private_ip", "public_ips", "updated"} <= set(node)
