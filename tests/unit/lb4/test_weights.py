"""Which backends get connections: each by itself, on suspect nodes, after own checks, and when none is left."""

from __future__ import annotations

import pytest

from lb4.services import BackendKey
from lb4.vip import Backend, State
from lb4.weights import best_of, effective, with_checks, worse
from mesos_dns.model import Health, Key

NONE, PENDING, HEALTHY, UNHEALTHY = Health.NONE, Health.PENDING, Health.HEALTHY, Health.UNHEALTHY


def never(key: Key) -> bool:
    return False


def always(key: Key) -> bool:
    return True


def backend(number: int, state: State = State.ACTIVE, base: int = 1) -> Backend:
    health = {State.PENDING: PENDING, State.UNHEALTHY: UNHEALTHY}.get(state, HEALTHY)
    weight = base if state is State.ACTIVE else 0
    return Backend(f"10.0.0.{number}", 80, base, weight, health, state, f"10.0.0.{number}", ("task", str(number)))


ACTIVE, PENDED, SICK, DRAINED = (
    backend(1),
    backend(2, State.PENDING),
    backend(3, State.UNHEALTHY),
    backend(4, State.DRAINING),
)


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        (NONE, NONE, NONE),
        (NONE, HEALTHY, HEALTHY),
        (NONE, PENDING, PENDING),
        (HEALTHY, PENDING, PENDING),
        (PENDING, UNHEALTHY, UNHEALTHY),
        (HEALTHY, UNHEALTHY, UNHEALTHY),
        (HEALTHY, HEALTHY, HEALTHY),
    ],
)
def test_the_worse_of_two_opinions(one: Health, other: Health, result: Health) -> None:
    assert worse(one, other) is result
    assert worse(other, one) is result


def brief(backends: object) -> list[tuple[str, int, State]]:
    assert isinstance(backends, tuple | list)
    return [(each.address[-1], each.weight, each.state) for each in backends]


def test_while_one_has_a_weight_all_stay_as_they_are() -> None:
    backends = (ACTIVE, PENDED, SICK, DRAINED)
    assert list(effective(backends, (), always)) == list(backends)


def test_suspect_nodes() -> None:
    backends = (ACTIVE, backend(5), PENDED, SICK, DRAINED)
    suspects = {f"10.0.0.{number}" for number in (1, 2, 3, 4)}
    assert brief(effective(backends, suspects, always)) == [
        ("1", 0, State.SUSPECT),
        ("5", 1, State.ACTIVE),
        ("2", 0, State.PENDING),
        ("3", 0, State.UNHEALTHY),
        ("4", 0, State.DRAINING),
    ]


def test_fail_open_takes_those_that_were_healthy_once() -> None:
    backends = (backend(1, base=3), PENDED, SICK, backend(6, State.UNHEALTHY), DRAINED)
    found = effective(backends, {"10.0.0.1"}, lambda key: key == ("task", "3"))
    assert brief(found) == [
        ("1", 3, State.FAIL_OPEN),
        ("2", 0, State.PENDING),
        ("3", 1, State.FAIL_OPEN),
        ("6", 0, State.UNHEALTHY),
        ("4", 0, State.DRAINING),
    ]
    assert [each.health for each in found][2] is UNHEALTHY, "it is told as it is"


def test_pending_and_draining_ones_never_count() -> None:
    assert brief(effective((PENDED, DRAINED), {"10.0.0.2", "10.0.0.4"}, always)) == [
        ("2", 0, State.PENDING),
        ("4", 0, State.DRAINING),
    ]
    assert list(effective((), {"10.0.0.1"}, always)) == []


def test_drained_tasks_get_nothing_new_while_another_does() -> None:
    two = backend(2, base=3)
    assert brief(effective((ACTIVE, two, SICK), (), never, {("task", "1"), ("task", "3")})) == [
        ("1", 0, State.DRAINING),
        ("2", 3, State.ACTIVE),
        ("3", 0, State.UNHEALTHY),
    ]
    assert effective((ACTIVE, two), (), never, {("task", "9")}) == [ACTIVE, two]


def test_when_all_that_work_are_drained_they_go_on() -> None:
    two, keys = backend(2, base=3), {("task", "1"), ("task", "2")}
    assert brief(effective((ACTIVE, two), (), never, keys)) == [("1", 1, State.FAIL_OPEN), ("2", 3, State.FAIL_OPEN)]
    suspected = effective((ACTIVE, two, SICK, DRAINED), {"10.0.0.2"}, always, {*keys, ("task", "4")})
    assert brief(suspected) == [
        ("1", 1, State.FAIL_OPEN),
        ("2", 0, State.SUSPECT),
        ("3", 0, State.UNHEALTHY),
        ("4", 0, State.DRAINING),
    ], "one that is known to work is better than one that fails, and who is killed stays out of it"


def test_when_none_works_it_does_not_count_who_is_drained() -> None:
    assert brief(effective((SICK, PENDED, DRAINED), (), always, {("task", "3"), ("task", "2")})) == [
        ("3", 1, State.FAIL_OPEN),
        ("2", 0, State.PENDING),
        ("4", 0, State.DRAINING),
    ]


def test_a_base_of_0_is_never_opened() -> None:
    off = backend(1, base=0)
    assert list(effective((off,), {"10.0.0.1"}, always)) == [off]


def key(number: int) -> BackendKey:
    return BackendKey(f"10.0.0.{number}", 80)


def test_own_checks() -> None:
    two = backend(2)
    found = with_checks((ACTIVE, two, DRAINED), {key(1), key(4)})
    assert brief(found) == [("1", 0, State.UNHEALTHY), ("2", 1, State.ACTIVE), ("4", 0, State.DRAINING)]
    assert found[0].health is UNHEALTHY
    assert with_checks((ACTIVE, SICK), ()) == (ACTIVE, SICK)


def test_own_checks_fail_open() -> None:
    suspect = effective((backend(5), ACTIVE), {"10.0.0.5"}, never)[0]
    backends = (backend(1, base=7), suspect, PENDED, SICK, DRAINED)
    assert brief(with_checks(backends, {key(number) for number in range(6)})) == [
        ("1", 7, State.FAIL_OPEN),
        ("5", 1, State.FAIL_OPEN),
        ("2", 0, State.PENDING),
        ("3", 0, State.UNHEALTHY),
        ("4", 0, State.DRAINING),
    ]


def test_own_checks_open_nothing_that_was_shut_before() -> None:
    backends = (PENDED, SICK, DRAINED)
    assert with_checks(backends, ()) == backends
    assert with_checks(backends, {key(3)}) == backends
    opened = tuple(effective((SICK,), (), always))
    assert brief(with_checks(opened, {key(3)})) == [("3", 1, State.FAIL_OPEN)]


def test_of_several_with_one_address_the_best_counts() -> None:
    assert best_of((PENDED, ACTIVE)) is ACTIVE
    assert best_of((ACTIVE, backend(1, base=5))).weight == 5
    assert best_of((DRAINED, PENDED)) is PENDED
    late = backend(9, State.PENDING)
    assert best_of((DRAINED, late)) is late, "not the one with the lesser key"
    first, second = (Backend("10.0.0.1", 80, task=("task", name)) for name in "ab")
    assert best_of((second, first)) is best_of((first, second)) is first
