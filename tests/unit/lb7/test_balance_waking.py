"""lb7._balance: requests that are held while no server is known to take connections, and who tries one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from lb7._balance import Cluster, Server
from lb7.settings import Settings
from lb7.table import Server as ServerSpec
from tests.balanced import NOW, number_of, numbered, pick, server, spec, states

PAUSE = 0.5
"""Seconds from one try of a cold server to the next."""
WINDOW = 8
"""Requests that are let go at first when there is a server again."""
WIDEN = 0.5
"""Seconds until they may be more."""
LASTS = 0.1
"""Seconds that a connection to a cold server is to last."""


class Request:
    """What the proxy does with a request of a cluster whose requests are held."""

    def __init__(self, made: Cluster, name: str, log: list[str]) -> None:
        self.made, self.name, self.log = made, name, log
        self.server: Server | None = None
        self.now = NOW
        self.refused = ""
        self.tried = False

    def room(self) -> None:
        made = self.made
        self.server = made.pick(self.now, 0, None, None)
        if self.server is None and not made.has_servers(self.now):
            if not made.hold:
                self.refused = "no server"
                return
            self.server = made.probe(self.now)
        if self.server is not None:
            made.begin(self.server, self.now)
            self.log.append(f"{self.name}{number_of(self.server)}")
        elif not made.wait(self, self.tried):
            self.refused = "full"

    def fails(self, now: float) -> None:
        """No connection could be made."""
        assert self.server is not None
        self.made.connect_failed(self.server, now)
        self.made.end(self.server)
        self.tried, self.now = True, now
        self.room()

    def answered(self, now: float, status: int = 200) -> None:
        assert self.server is not None
        self.made.answered(self.server, now, 0.01, status)


def sleeping(*servers: ServerSpec, told: list[str] | None = None, **settings: Any) -> Cluster:
    """A cluster that had no server at first."""
    tell = None if told is None else told.append
    made = Cluster(spec(hold=True), Settings(**settings), NOW, tell)
    if servers:
        made.change(spec(*servers, hold=True), NOW)
    return made


def come(made: Cluster, names: str, log: list[str]) -> list[Request]:
    requests = [Request(made, name, log) for name in names]
    for request in requests:
        request.room()
    return requests


async def quiet() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_they_wait_until_somebody_has_reached_the_server_that_comes() -> None:
    told: list[str] = []
    made, log = sleeping(told=told), list[str]()
    a, *_ = come(made, "abcd", log)
    assert (log, made.waiting, made.held, told) == ([], 4, 4, ["/app:10000"])
    made.change(spec(server(1), hold=True), NOW)
    await quiet()
    assert (log, made.held) == (["a1"], 3), "one tries it"
    assert not made.has_servers(NOW)
    a.answered(NOW)
    await quiet()
    assert (log, made.waiting, made.held) == (["a1", "b1", "c1", "d1"], 0, 0)
    assert pick(made) == 1
    assert made.counts_dict()["waited"] == 0


@pytest.mark.asyncio
async def test_who_has_tried_comes_first_and_a_pause_is_between_two_tries() -> None:
    made, log = sleeping(server(1)), list[str]()
    a, _ = come(made, "ab", log)
    a.fails(NOW)
    await quiet()
    assert (log, made.held) == (["a1"], 2)
    assert not made.has_servers(NOW + PAUSE - 0.01)
    await quiet()
    assert log == ["a1"]
    assert not made.has_servers(NOW + PAUSE)
    a.now = NOW + PAUSE
    await quiet()
    assert log == ["a1", "a1"]
    a.answered(NOW + PAUSE, 500)
    await quiet()
    assert log == ["a1", "a1", "b1"], "whatever it answers, it is there"
    assert made.counts_dict()["connect_failures"] == 1
    assert made.counts_dict()["ejections"] == 0


@pytest.mark.asyncio
async def test_a_connection_that_lasts_is_enough() -> None:
    made, log = sleeping(server(1)), list[str]()
    a, *_ = come(made, "abc", log)
    assert a.server is not None
    made.reached(a.server, NOW)
    made.reached(a.server, NOW + 0.05)
    assert not made.has_servers(NOW + 0.09)
    assert made.has_servers(NOW + LASTS)
    await quiet()
    assert log == ["a1", "b1", "c1"]


@pytest.mark.asyncio
async def test_a_connection_that_ends_at_once_is_not() -> None:
    made, log = sleeping(server(1)), list[str]()
    a, _ = come(made, "ab", log)
    assert a.server is not None
    made.reached(a.server, NOW)
    made.was_reset(a.server, NOW + 0.01)
    made.end(a.server)
    assert not made.has_servers(NOW + LASTS)
    assert (log, made.counts_dict()["resets"], made.servers[0].failures) == (["a1"], 1, 1)
    assert a.server.cold


@pytest.mark.asyncio
async def test_each_of_several_is_tried_by_one() -> None:
    made, log = sleeping(), list[str]()
    a, b, *_ = come(made, "abcdef", log)
    made.change(spec(server(1), server(2), hold=True), NOW)
    await quiet()
    assert log == ["a1", "b2"]
    a.fails(NOW)
    b.answered(NOW)
    await quiet()
    assert log == ["a1", "b2", "a2", "c2", "d2", "e2", "f2"], "nobody needs the one that refused"
    assert {pick(made, NOW + PAUSE) for _ in range(2)} == {1, 2}, "it is as any when its pause is over"
    assert not numbered(made, 1).cold


@pytest.mark.asyncio
async def test_a_try_that_hears_nothing_is_followed_by_others() -> None:
    made, log = sleeping(server(1)), list[str]()
    a, b, _ = come(made, "abc", log)
    b.now = NOW + PAUSE
    assert not made.has_servers(NOW + PAUSE)
    await quiet()
    assert log == ["a1", "b1"]
    assert a.server is b.server


@pytest.mark.asyncio
async def test_the_last_one_that_fails_is_no_server_any_more() -> None:
    told: list[str] = []
    made = Cluster(spec(server(1), server(2), hold=True), Settings(), NOW, told.append)
    log: list[str] = []
    a, b, c, d = come(made, "abcd", log)
    first, second = log[0][1], log[1][1]
    assert log[2:] == [f"c{first}", f"d{second}"], "at first nothing speaks against any"
    a.fails(NOW)
    assert log[4] in ("a1", "a2")
    if log[4] == f"a{first}":  # it does not remember what it tried
        a.fails(NOW)
    for request in (b, c, d):
        request.fails(NOW)
    assert (made.held, told) == (3, ["/app:10000"])
    a.answered(NOW)
    await quiet()
    assert [said[0] for said in log[-3:]] == ["b", "c", "d"], "as they came back"


@pytest.mark.asyncio
async def test_ejection_goes_on_where_another_server_is_known_to_be_better() -> None:
    made = Cluster(spec(server(1), server(2), hold=True), Settings(eject_after=2), NOW)
    for _ in range(2):
        made.connect_failed(numbered(made, 1), NOW)
    assert states(made) == {1: "ejected", 2: "up"}
    made.connect_failed(numbered(made, 2), NOW)
    assert not made.has_servers(NOW)
    assert made.probe(NOW + PAUSE) is numbered(made, 2)


@pytest.mark.asyncio
async def test_one_that_answers_errors_is_there() -> None:
    made = Cluster(spec(server(1), server(2), hold=True), Settings(), NOW)
    made.answered(numbered(made, 2), NOW, 0.1, 500)
    made.connect_failed(numbered(made, 1), NOW)
    assert made.has_servers(NOW)
    assert states(made) == {1: "up", 2: "up"}
    made.connect_failed(numbered(made, 2), NOW)
    assert not made.has_servers(NOW)
    assert states(made) == {1: "waking", 2: "waking"}


@pytest.mark.asyncio
async def test_as_many_as_may_be_held_and_those_who_come_back() -> None:
    told: list[str] = []
    made, log = sleeping(server(1), told=told, max_held=2, max_waiting=0), list[str]()
    a, b, c, d = come(made, "abcd", log)
    assert (log, b.refused, c.refused, d.refused) == (["a1"], "", "", "full")
    assert made.counts_dict()["overflow"] == 1
    a.fails(NOW)
    assert (a.refused, made.held) == ("", 3)
    assert told == ["/app:10000"]


@pytest.mark.asyncio
async def test_the_timer_lets_the_next_try() -> None:
    made, log = sleeping(server(1)), list[str]()
    (a,) = come(made, "a", log)
    a.fails(NOW)
    a.now = NOW + PAUSE
    async with asyncio.timeout(30):
        while len(log) < 2:
            await asyncio.sleep(0.01)
    assert log == ["a1", "a1"]


@pytest.mark.asyncio
async def test_an_earlier_time_replaces_a_later_one() -> None:
    """Somebody waits for a server that is ejected for long, and then one comes that may be tried soon."""
    made = Cluster(spec(server(1), hold=True), Settings(), NOW)
    log: list[str] = []
    (a,) = come(made, "a", log)
    made.change(spec(server(1, draining=True), server(2), hold=True), NOW)
    a.fails(NOW)
    assert log == ["a1", "a2"]
    a.fails(NOW)
    a.now = NOW + PAUSE
    async with asyncio.timeout(30):
        while len(log) < 3:
            await asyncio.sleep(0.01)
    assert log[2] == "a2"


@pytest.mark.asyncio
async def test_servers_that_drain_or_fail_checks_are_none_and_are_warm_when_they_are_back() -> None:
    made = Cluster(spec(server(1), server(2), hold=True), Settings(), NOW)
    log: list[str] = []
    made.change(spec(server(1, draining=True), server(2, down=True), hold=True), NOW)
    come(made, "abc", log)
    assert (log, made.held) == ([], 3)
    made.change(spec(server(1), server(2, down=True), hold=True), NOW)
    await quiet()
    assert (log, made.held) == (["a1", "b1", "c1"], 0)


@pytest.mark.asyncio
async def test_a_limit_of_requests_holds_for_those_who_were_held() -> None:
    made, log = sleeping(max_requests_per_server=2, max_waiting=1), list[str]()
    a, b, *_ = come(made, "abcde", log)
    made.change(spec(server(1), hold=True), NOW)
    await quiet()
    a.answered(NOW)
    await quiet()
    assert (log, made.waiting, made.held) == (["a1", "b1"], 3, 0), "more than may begin to wait for room"
    assert b.server is not None
    made.end(b.server)
    await quiet()
    assert log == ["a1", "b1", "c1"]


def at_servers(made: Cluster) -> int:
    return sum(one.active for one in made.servers)


@pytest.mark.asyncio
async def test_those_who_were_held_are_let_go_some_at_a_time() -> None:
    made, log = sleeping(max_waiting=1), list[str]()
    requests = come(made, "abcdefghijklmnopqrst", log)
    made.change(spec(server(1), hold=True), NOW)
    await quiet()
    requests[0].answered(NOW)
    await quiet()
    assert (at_servers(made), made.waiting, made.held) == (1 + WINDOW, 11, 0)
    late = come(made, "uv", log)
    assert (at_servers(made), [request.refused for request in late]) == (1 + WINDOW, ["", ""]), "they are behind these"
    assert requests[1].server is not None
    made.end(requests[1].server)
    await quiet()
    assert (at_servers(made), log[-1]) == (1 + WINDOW, "j1")
    grown = []
    for number in (1, 2, 3, 4):
        assert made.has_servers(NOW + number * WIDEN)
        await quiet()
        grown.append(at_servers(made) - 1)
    assert grown == [WINDOW, 2 * WINDOW, 2 * WINDOW, 20], "it grows when they became fewer too slowly"
    assert (made.waiting, "".join(said[0] for said in log)) == (0, "abcdefghijklmnopqrstuv")
    come(made, "wxyz", log)
    assert at_servers(made) == 25, "nobody waits any more"


@pytest.mark.asyncio
async def test_the_last_few_are_let_go_too_however_long_the_others_take() -> None:
    made, log = sleeping(), list[str]()
    requests = come(made, "abcdefghijk", log)
    made.change(spec(server(1), hold=True), NOW)
    await quiet()
    requests[0].answered(NOW)
    await quiet()
    assert made.waiting == 2
    async with asyncio.timeout(30):
        while made.waiting:
            await asyncio.sleep(0.01)
    assert log[-1] == "k1"


@pytest.mark.asyncio
async def test_they_are_let_go_as_few_at_first_whenever_there_was_no_server() -> None:
    made, log = sleeping(), list[str]()
    requests = come(made, "abcdefghijklmnopqrst", log)
    made.change(spec(server(1), hold=True), NOW)
    await quiet()
    requests[0].answered(NOW)
    await quiet()
    made.change(spec(server(1, draining=True), hold=True), NOW)
    assert made.held == 11
    made.change(spec(server(1, draining=True), server(2), hold=True), NOW)
    await quiet()
    made.answered(numbered(made, 2), NOW, 0.01, 200)
    await quiet()
    assert numbered(made, 2).active == 1 + WINDOW
    made.change(spec(server(1, draining=True), server(2)), NOW)
    for number in (1, 2):
        assert made.has_servers(NOW + number * WIDEN)
        await quiet()
    assert made.waiting == 0, "also when none is to be held any more"


@pytest.mark.asyncio
async def test_those_who_waited_for_room_are_held_when_there_is_no_server() -> None:
    told: list[str] = []
    made = Cluster(spec(server(1), hold=True, max_requests_per_server=1), Settings(), NOW, told.append)
    log: list[str] = []
    come(made, "abc", log)
    assert (made.waiting, made.held, told) == (2, 0, [])
    made.change(spec(server(1, draining=True), hold=True, max_requests_per_server=1), NOW)
    assert (made.waiting, made.held, told) == (2, 2, ["/app:10000"])
    made.change(spec(server(1), hold=True, max_requests_per_server=1), NOW)
    assert (made.waiting, made.held) == (2, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("gone", [False, True])
async def test_an_app_that_sleeps_no_more(gone: bool) -> None:
    made, log = sleeping(server(1, draining=True)), list[str]()
    a, b = come(made, "ab", log)
    made.stop_waiting(a)
    assert (made.waiting, made.held) == (1, 1)
    if gone:
        made.close()
    else:
        made.change(spec(server(1, draining=True)), NOW)
    await quiet()
    assert (b.refused, made.waiting, made.held, made.hold) == ("no server", 0, 0, False)


@pytest.mark.asyncio
async def test_a_server_that_was_cold_serves_as_any_when_nothing_is_held_any_more() -> None:
    made, log = sleeping(server(1)), list[str]()
    a, *_ = come(made, "abc", log)
    assert (log, made.held) == (["a1"], 2)
    made.change(spec(server(1), max_requests_per_server=1), NOW)
    await quiet()
    assert (log, made.waiting, made.held) == (["a1"], 2, 0), "they wait for room"
    assert a.server is not None
    made.end(a.server)
    await quiet()
    assert log == ["a1", "b1"]


@pytest.mark.asyncio
async def test_one_whose_pause_began_when_nobody_waited_is_tried_when_it_is_over() -> None:
    made, log = sleeping(server(1)), list[str]()
    made.connect_failed(made.servers[0], NOW)
    made.change(spec(server(1, draining=True), hold=True), NOW)
    (a,) = come(made, "a", log)
    a.now = NOW + PAUSE
    assert (log, made.held) == ([], 1)
    made.change(spec(server(1), hold=True), NOW)
    async with asyncio.timeout(30):
        while not log:
            await asyncio.sleep(0.01)
    assert log == ["a1"]


@pytest.mark.asyncio
async def test_a_cold_server_is_not_a_sticky_clients_either() -> None:
    made = sleeping(server(1))
    made.change(spec(server(1), hold=True, sticky="s"), NOW)
    assert pick(made, cookie="c1") == 0
    made.answered(numbered(made, 1), NOW, 0.1, 200)
    assert pick(made, cookie="c1") == 1


@pytest.mark.asyncio
async def test_without_hold_all_is_as_ever() -> None:
    made = Cluster(spec(), Settings(), NOW)
    made.change(spec(server(1)), NOW)
    assert not made.servers[0].cold
    made.connect_failed(made.servers[0], NOW)
    assert pick(made) == 1
    assert made.probe(NOW) is None
    hold = msgspec.structs.replace(spec(server(1)), hold=True)
    made.change(hold, NOW)
    assert pick(made) == 1
    made.connect_failed(made.servers[0], NOW)
    assert pick(made) == 0
    made.change(spec(server(1)), NOW)
    assert pick(made) == 1
