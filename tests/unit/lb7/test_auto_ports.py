"""Service ports for apps without one."""

from __future__ import annotations

import hashlib

from lb7.auto_ports import AutoPorts, Wanted
from lb7.port_spec import PortKey, UnitKey


def key(app: str, number: int = 0) -> PortKey:
    return PortKey(UnitKey("mesos", "m", app), number)


def hashed(app: str, port: int, again: int = 0) -> int:
    digest = hashlib.sha1(f"{app}-{port}-{again}".encode(), usedforsecurity=False).hexdigest()
    return 10050 + int(digest[:8], 16) % 51


def test_the_port_follows_from_app_and_port() -> None:
    ports = AutoPorts(10050, 10101)
    ports.ask(key("/a"), Wanted(0.0, "/a", 8080))
    assert ports.changed
    assert ports.is_fresh(key("/a"))
    assert ports.get(key("/a")) == 0
    assert ports.assign() == {key("/a")}
    assert ports.get(key("/a")) == hashed("/a", 8080)
    assert not ports.changed
    ports.ask(key("/a"), Wanted(0.0, "/a", 8080))
    assert not ports.changed


def test_each_has_its_own_and_the_order_of_apps_decides() -> None:
    names = [f"/app-{number}" for number in range(51)]
    ports, other_way = AutoPorts(10050, 10101), AutoPorts(10050, 10101)
    for name in names:
        ports.ask(key(name), Wanted(0.0, name, 80))
    for name in reversed(names):
        other_way.ask(key(name), Wanted(0.0, name, 80))
        other_way.assign()
    ports.assign()
    given = [ports.get(key(name)) for name in names]
    assert sorted(given) == list(range(10050, 10101))
    assert given == [other_way.get(key(name)) for name in names]
    assert ports.get(key(min(names))) == hashed(min(names), 80)


def test_when_none_is_left_the_last_get_none() -> None:
    ports = AutoPorts(1, 3)
    for name in ("/a", "/b", "/c"):
        ports.ask(key(name), Wanted(0.0, name, 80))
    assert ports.assign() == {key("/a"), key("/b"), key("/c")}
    assert [bool(ports.get(key(name))) for name in ("/a", "/b", "/c")] == [True, True, False]
    ports.ask(key("/a"), None)
    assert key("/c") in ports.assign()
    assert ports.get(key("/c"))
    assert ports.get(key("/a")) == 0


def test_one_app_of_two_marathons_wants_one_port() -> None:
    ports = AutoPorts(10050, 10101)
    other = PortKey(UnitKey("mesos", "n", "/a"), 0)
    for asking in (key("/a"), other):
        ports.ask(asking, Wanted(0.0, "/a", 80))
    ports.assign()
    assert ports.get(key("/a")) == ports.get(other)


def test_no_range() -> None:
    ports = AutoPorts(5, 5)
    ports.ask(key("/a"), Wanted(0.0, "/a", 80))
    assert ports.assign() == {key("/a")}
    assert ports.get(key("/a")) == 0


def test_who_wants_a_port_longer_comes_first() -> None:
    ports = AutoPorts(1, 2)
    ports.ask(key("/z"), Wanted(1.0, "/z", 80))
    ports.ask(key("/a"), Wanted(2.0, "/a", 80))
    ports.assign()
    assert (ports.get(key("/z")), ports.get(key("/a"))) == (1, 0)


def test_what_was_given_holds_until_all_is_given_anew() -> None:
    before = AutoPorts(1, 9)
    for name in ("/a", "/b"):
        before.ask(key(name), Wanted(0.0, name, 80))
    before.assign()
    given = before.get(key("/a"))
    before.ask(key("/a"), Wanted(5.0, "/a", 80))
    assert (before.is_fresh(key("/a")), before.get(key("/a"))) == (True, given)
    after = AutoPorts(1, 9, before=before)
    after.ask(key("/a"), Wanted(0.0, "/a", 80))
    assert (after.is_fresh(key("/a")), after.get(key("/a"))) == (True, given)
    assert after.assign() == {key("/a"), key("/b")}
    assert after.get(key("/b")) == 0
    assert AutoPorts(20, 30, before=before).get(key("/a")) == 0
