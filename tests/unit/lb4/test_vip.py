"""VIPs as values: keys, and where a backend is."""

from __future__ import annotations

from lb4.services import BackendKey
from lb4.vip import Backend, State, VipKey, VipState


def test_a_backend_is_where_other_nodes_reach_it() -> None:
    backend = Backend("10.0.0.1", 31000, local=BackendKey("9.0.0.1", 80))
    assert backend.key == BackendKey("10.0.0.1", 31000)
    assert (backend.weight, backend.state) == (1, State.ACTIVE)


def test_keys_sort_by_protocol_name_and_port() -> None:
    keys = [VipKey("udp", "a", 1), VipKey("tcp", "b", 2), VipKey("tcp", "b", 1)]
    assert sorted(keys) == [VipKey("tcp", "b", 1), VipKey("tcp", "b", 2), VipKey("udp", "a", 1)]


def test_equal_vips_are_equal() -> None:
    key = VipKey("tcp", "web.marathon", 80)
    assert VipState(key, (Backend("10.0.0.1", 80),)) == VipState(key, (Backend("10.0.0.1", 80),))
    assert VipState(key) != VipState(key, scheduler="rr")
