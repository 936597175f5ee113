"""lb4.drain: how destinations leave."""

from __future__ import annotations

from math import inf

import pytest

from lb4.drain import POLLS, Drains
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings

TCP = ServiceKey("tcp", "11.0.0.1", 80)
UDP = ServiceKey("udp", "11.0.0.1", 53)
A, B = BackendKey("10.0.0.1", 8080), BackendKey("10.0.0.2", 8080)
ONE, ZERO = Destination(1), Destination(0)


def service(**destinations: Destination) -> Service:
    return Service(Settings(), {{"a": A, "b": B}[name]: d for name, d in destinations.items()})


@pytest.fixture
def drains() -> Drains:
    return Drains(timeout=60.0)


def test_what_has_a_weight_stays_as_it_is(drains: Drains) -> None:
    target = service(a=ONE, b=Destination(3, 10, 5))
    assert drains.settle(TCP, target, None, None, 0.0) is target
    assert drains.settle(TCP, target, service(a=ZERO), None, 0.0) is target
    assert len(drains) == 0


def test_what_has_no_weight_and_is_not_there_is_left_out(drains: Drains) -> None:
    for key in (TCP, UDP):
        assert drains.settle(key, service(a=ONE, b=ZERO), None, None, 0.0) == service(a=ONE)
        assert drains.settle(key, service(a=ZERO), None, None, 0.0) == service()
    assert drains.next == inf


def test_udp_leaves_at_once(drains: Drains) -> None:
    there = service(a=ONE, b=ONE)
    assert drains.settle(UDP, service(a=ONE, b=ZERO), there, None, 0.0) == service(a=ONE)
    assert drains.settle(UDP, service(a=ONE), there, None, 0.0) == service(a=ONE)
    assert drains.settle(UDP, None, there, None, 0.0) is None
    assert len(drains) == 0


@pytest.mark.parametrize("target", [service(a=ONE, b=ZERO), service(a=ONE)], ids=["weight 0", "gone"])
def test_tcp_stays_without_weight_until_its_connections_are_gone(drains: Drains, target: Service) -> None:
    drained = service(a=ONE, b=ZERO)
    assert drains.settle(TCP, target, service(a=ONE, b=ONE), None, 100.0) == drained
    assert drains.due(101.9) == []
    assert drains.next == 102.0
    assert drains.due(102.0) == [TCP]
    assert drains.settle(TCP, target, drained, {A: 5, B: 1}, 102.0) == drained
    assert drains.next == 103.0
    assert drains.settle(TCP, target, drained, {A: 5, B: 0}, 103.0) == service(a=ONE)
    assert drains.due(1000.0) == []
    assert drains.settle(TCP, target, service(a=ONE), None, 104.0) == service(a=ONE)
    assert len(drains) == 0


def test_no_connections_count_only_after_the_minimum(drains: Drains) -> None:
    target, drained = service(a=ONE), service(a=ONE, b=ZERO)
    drains.settle(TCP, target, service(a=ONE, b=ONE), None, 0.0)
    assert drains.settle(TCP, target, drained, {B: 0}, 1.9) == drained
    assert drains.settle(TCP, target, drained, {B: 0}, 2.0) == target


def test_no_connections_count_only_once_the_weight_is_gone(drains: Drains) -> None:
    target, there = service(a=ONE), service(a=ONE, b=ONE)
    drains.settle(TCP, target, there, None, 0.0)
    assert drains.settle(TCP, target, there, {B: 0}, 10.0) == service(a=ONE, b=ZERO)
    assert drains.settle(TCP, target, there, {B: 0}, 60.0) == target


def test_the_timeout_ends_it(drains: Drains) -> None:
    target, drained = service(a=ONE), service(a=ONE, b=ZERO)
    drains.settle(TCP, target, drained, None, 0.0)
    assert drains.settle(TCP, target, drained, {B: 7}, 59.5) == drained
    assert drains.next == 60.0
    assert drains.ended(59.9) == []
    assert drains.ended(60.0) == [TCP]
    assert drains.settle(TCP, target, drained, None, 60.0) == target
    assert drains.ended(1000.0) == []
    # It could not be dropped, and is still there: it does not begin anew.
    assert drains.settle(TCP, target, drained, None, 61.0) == target
    assert drains.next == inf


def test_connections_that_are_not_known_wait_for_the_timeout(drains: Drains) -> None:
    target, drained = service(a=ONE), service(a=ONE, b=ZERO)
    drains.settle(TCP, target, drained, None, 0.0)
    for now in (2.0, 30.0, 59.0):
        assert drains.settle(TCP, target, drained, {}, now) == drained
        assert drains.due(now) == []
    assert drains.settle(TCP, target, drained, {}, 60.0) == target


def test_a_weight_ends_the_drain_and_another_begins_anew(drains: Drains) -> None:
    both, drained = service(a=ONE, b=ONE), service(a=ONE, b=ZERO)
    drains.settle(TCP, drained, both, None, 0.0)
    assert drains.settle(TCP, both, drained, None, 50.0) == both
    assert drains.due(1000.0) == []
    assert drains.settle(TCP, drained, both, None, 50.0) == drained
    assert drains.of(TCP) == {B: 50.0}
    assert drains.settle(TCP, drained, drained, {B: 1}, 109.0) == drained


def test_other_changes_do_not_put_the_look_off(drains: Drains) -> None:
    drained = service(a=ONE, b=ZERO)
    drains.settle(TCP, service(a=ONE), service(a=ONE, b=ONE), None, 0.0)
    for tenth in range(1, 30):
        drains.settle(TCP, service(a=Destination(tenth)), drained, None, tenth / 10)
    assert drains.due(2.9) == [TCP]


def test_a_service_that_is_wanted_no_more_stays_while_it_drains(drains: Drains) -> None:
    settings = Settings("sh", 300, 32)
    there = Service(settings, {A: Destination(2, 100, 50), B: ZERO})
    left = drains.settle(TCP, None, there, None, 0.0)
    assert left == Service(settings, {A: Destination(0, 100, 50), B: ZERO})
    left = drains.settle(TCP, None, left, {A: 1, B: 0}, 2.0)
    assert left == Service(settings, {A: Destination(0, 100, 50)})
    assert drains.settle(TCP, None, left, {A: 0}, 3.0) is None
    assert drains.settle(TCP, None, None, None, 4.0) is None
    assert len(drains) == 0
    assert drains.next == inf


def test_settings_and_thresholds_are_the_targets(drains: Drains) -> None:
    target = Service(Settings("rr"), {A: Destination(0, 10, 5)})
    assert drains.settle(TCP, target, service(a=ONE), None, 0.0) == target


def test_what_is_gone_from_the_data_plane_is_forgotten(drains: Drains) -> None:
    drains.settle(TCP, service(a=ONE), service(a=ONE, b=ONE), None, 0.0)
    drains.settle(TCP, service(a=ONE), None, None, 1.0)
    assert (len(drains), drains.next) == (0, inf)


def test_what_has_left_is_forgotten(drains: Drains) -> None:
    drains.settle(TCP, service(), service(a=ONE, b=ONE), None, 0.0)
    drains.forget(UDP, None)
    drains.forget(TCP, service(a=ZERO))
    assert drains.of(TCP) == {A: 0.0}
    drains.forget(TCP, None)
    assert (len(drains), drains.next) == (0, inf)


def test_a_timeout_shorter_than_the_minimum() -> None:
    drains = Drains(timeout=0.5)
    drains.settle(TCP, None, service(a=ONE), None, 0.0)
    assert drains.ended(0.5) == [TCP]
    assert drains.settle(TCP, None, service(a=ZERO), {A: 3}, 0.5) is None
    assert Drains(timeout=0.0).settle(TCP, None, service(a=ONE), None, 0.0) is None


def test_looks_come_further_apart(drains: Drains) -> None:
    target, drained = service(a=ONE), service(a=ONE, b=ZERO)
    drains.settle(TCP, target, service(a=ONE, b=ONE), None, 0.0)
    looks = []
    while drains.next < 30.0:
        looks.append(now := drains.next)
        assert drains.due(now) == [TCP]
        drains.settle(TCP, target, drained, {B: 1}, now)
    assert looks == [2.0, 3.0, 5.0, 9.0, 14.0, 19.0, 24.0, 29.0]
    # Another one begins: looks are as close as at first.
    drains.settle(TCP, service(), service(a=ONE, b=ZERO), None, 30.0)
    assert drains.next == 31.0


def test_not_too_many_are_looked_at_in_a_second(drains: Drains) -> None:
    keys = [TCP._replace(port=port) for port in range(1, 2 * POLLS + 51)]
    for key in keys:
        drains.settle(key, None, service(a=ZERO), None, 0.0)
    seen: list[ServiceKey] = []
    times = []
    while len(seen) < len(keys):
        now = drains.next
        times.append(now)
        due = drains.due(now)
        assert 0 < len(due) <= POLLS
        assert drains.due(now) == due
        for key in due:
            drains.settle(key, None, service(a=ZERO), {A: 1}, now)
        assert [key for key in drains.due(now) if key not in due] == []
        seen += [key for key in due if key not in seen]
    assert times == [2.0, 3.0, 4.0]
    assert set(seen) == set(keys)
    # What has no time left goes without a look.
    assert len(drains.ended(60.0)) == len(keys)


@pytest.mark.parametrize("began", [0.1, 0.7, 1000.1, 12345.6])
def test_what_is_due_is_done_whatever_the_clock_says(drains: Drains, began: float) -> None:
    """A time and a difference of times may round in two ways."""
    drains.settle(TCP, None, service(a=ONE), None, began)
    assert drains.ended(drains._ends.next) == [TCP]
    assert drains.settle(TCP, None, service(a=ZERO), None, drains._ends.next) is None
