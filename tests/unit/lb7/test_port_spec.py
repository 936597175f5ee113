"""Who a port belongs to, and who serves what two ask for."""

from __future__ import annotations

from lb7.port_spec import PortKey, PortSpec, UnitKey


def test_ports_are_known_by_their_app_and_index() -> None:
    key = PortKey(UnitKey("mesos", "m", "/a"), 1)
    assert key == PortKey(UnitKey("mesos", "m", "/a"), 1)
    assert len({key, PortKey(UnitKey("mesos", "m", "/a"), 1), PortKey(UnitKey("mesos", "m", "/a", True), 1)}) == 2
    assert PortKey(UnitKey("mesos", "m", "/a"), 2) > key > PortKey(UnitKey("mesos", "l", "/b"), 5)


def test_a_spec_of_few_words_serves_any_path_at_its_port() -> None:
    key = PortKey(UnitKey("mesos", "m", "/a"), 0)
    spec = PortSpec(key=key, app="/a", rank=(False, 1.0, "/a", "m", "mesos"), indexes=(0,), listed=80, port=80)
    assert (spec.mode, spec.paths, spec.hosts, spec.open, spec.address) == ("http", (), (), True, "")


def test_the_lesser_rank_serves() -> None:
    ranks = [
        (True, 1.0, "/a", "m", "mesos"),
        (False, 2.0, "/a", "m", "mesos"),
        (False, 1.0, "/b", "m", "mesos"),
        (False, 1.0, "/a", "m", "mesos"),
    ]
    assert sorted(ranks) == list(reversed(ranks))
