"""One VIP: what all that is offered to it makes."""

from __future__ import annotations

import pytest

from lb4 import record as record_module
from lb4.record import BOTH, NO_FAMILY, ONLY_4, ONLY_6, VipRecord, families_of
from lb4.vip import Backend, State, VipKey, VipState
from mesos_dns.model import Key, Vip, VipCheck

KEY = VipKey("tcp", "web.marathon", 80)


def never(key: Key) -> bool:
    return False


def record(*backends: Backend, name: str = KEY.name) -> VipRecord:
    made = VipRecord(VipKey("tcp", name, 80))
    for number, backend in enumerate(backends):
        made.offers["task", str(number)] = (backend,)
    return made


def addresses(made: VipState | None) -> list[tuple[str, int]]:
    assert made is not None
    return [(backend.address, backend.port) for backend in made.backends]


def test_nothing_makes_no_vip() -> None:
    assert record().made((), never) is None
    only_defined = record()
    only_defined.definitions["vip", "1"] = Vip("web.marathon", 80)
    assert only_defined.made((), never) is None


def test_backends_are_sorted_by_family_address_and_port() -> None:
    places = [("10.0.0.10", 1), ("fd00::1", 1), ("9.0.0.1", 2), ("10.0.0.9", 3), ("10.0.0.9", 20), ("::2", 1)]
    expected = [("9.0.0.1", 2), ("10.0.0.9", 3), ("10.0.0.9", 20), ("10.0.0.10", 1), ("::2", 1), ("fd00::1", 1)]
    assert addresses(record(*[Backend(*place) for place in places]).made((), never)) == expected


def test_a_vip_of_an_address_takes_its_own_family() -> None:
    both = (Backend("10.0.0.1", 1), Backend("fd00::1", 1))
    assert addresses(record(*both, name="11.0.0.1").made((), never)) == [("10.0.0.1", 1)]
    assert addresses(record(*both, name="fd01:c::1").made((), never)) == [("fd00::1", 1)]
    assert record(both[1], name="11.0.0.1").made((), never) is None


def test_of_several_backends_at_one_place_the_best_weight_wins() -> None:
    draining = Backend("10.0.0.1", 1, weight=0, state=State.DRAINING, task=("task", "a"))
    active = Backend("10.0.0.1", 1, task=("task", "b"))
    for backends in ((draining, active), (active, draining)):
        made = record(*backends).made((), never)
        assert made is not None
        assert made.backends == (active,)


def test_weights_are_made_before_the_best_is_chosen() -> None:
    sick = Backend("10.0.0.1", 1, weight=0, state=State.UNHEALTHY, task=("task", "z"))
    pending = Backend("10.0.0.1", 1, weight=0, state=State.PENDING, task=("task", "a"))
    made = record(sick, pending).made((), lambda key: key == ("task", "z"))
    assert made is not None
    assert [(backend.weight, backend.state) for backend in made.backends] == [(1, State.FAIL_OPEN)]


def test_drained_tasks_bear_on_tcp_alone() -> None:
    backends = (Backend("10.0.0.1", 1, task=("task", "a")), Backend("10.0.0.2", 1, task=("task", "b")))
    for protocol, weights in (("tcp", [0, 1]), ("udp", [1, 1])):
        made = VipRecord(VipKey(protocol, "web.marathon", 80))
        made.offers = {backend.task: (backend,) for backend in backends}
        state = made.made((), never, {("task", "a")})
        assert state is not None
        assert [backend.weight for backend in state.backends] == weights


def test_settings_are_those_of_the_first_definition() -> None:
    made = record(Backend("10.0.0.1", 1))
    check = VipCheck("http", "/health")
    made.definitions["vip", "b"] = Vip("web.marathon", 80, scheduler="rr")
    made.definitions["vip", "a"] = Vip(
        "web.marathon", 80, "tcp", "mh", 60, upper_threshold=9, lower_threshold=3, check=check
    )
    assert made.made((), never) == VipState(KEY, (Backend("10.0.0.1", 1),), "mh", 60, 9, 3, check)


def test_too_many_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "MAX_BACKENDS", 3)
    idle = [Backend(f"10.0.0.{number}", 1, weight=0, state=State.PENDING) for number in (1, 2)]
    active = [Backend(f"10.0.0.{number}", 1) for number in (6, 5, 4)]
    made = record(*idle, *active[:2])
    assert addresses(made.made((), never)) == [("10.0.0.1", 1), ("10.0.0.5", 1), ("10.0.0.6", 1)]
    assert set(made.faults) == {"too-many-backends"}
    made = record(*active)
    assert len(addresses(made.made((), never))) == 3
    assert not made.faults


def test_families() -> None:
    four, six = Backend("10.0.0.1", 1), Backend("fd00::1", 1)
    assert families_of(None) == families_of(VipState(KEY)) == NO_FAMILY == frozenset()
    assert families_of(VipState(KEY, (four,))) == ONLY_4 == {4}
    assert families_of(VipState(KEY, (six,))) == ONLY_6 == {6}
    assert families_of(VipState(KEY, (four, six))) == BOTH == {4, 6}


def test_backends_of_the_other_family_only_are_a_fault() -> None:
    four, six = Backend("10.0.0.1", 80), Backend("fd00::1", 80)
    made = record(four, name="fd11::1")
    assert made.made((), never) is None
    assert made.faults == {"family": "an IPv6 address with backends of the other family only"}
    made.offers["task", "new"] = (six,)
    assert addresses(made.made((), never)) == [("fd00::1", 80)]
    assert not made.faults
    made.offers.clear()
    assert made.made((), never) is None
    assert not made.faults
