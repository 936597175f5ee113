"""Who may be connected: limits, who gives way, who was silent for too long; on a clock of the test's own."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesos_dns.config import DnsConfig, Duration
from mesos_dns.connections import RESERVED_FILES, Connections, files_for_connections
from mesos_dns.respond import DnsCounters


class Clock:
    """What is used of an event loop; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.looks = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        self.due.append((self.now + delay, call))
        return call

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and self.due[0][0] <= end:  # there is one timer at a time
            at, call = self.due.pop(0)
            self.now = max(self.now, at)
            self.looks += 1
            call()
        self.now = end


class Client:
    """A connection that is gone as soon as it is ended."""

    def __init__(self, table: Connections, client: bytes = b"\x7f\0\0\1", carrier: str = "tcp") -> None:
        self.client, self.carrier, self.last, self.busy = client, carrier, 0.0, False
        self.ended = ""
        self._table = table

    def end(self, reason: str) -> None:
        assert not self.ended
        self.ended = reason
        self._table.ending(self)
        self._table.lost(self)


def table(**config: Any) -> tuple[Connections, Clock, DnsCounters]:
    clock, counters = Clock(), DnsCounters()
    settings_ = DnsConfig(**{"tcp_idle": Duration(10), **config})
    return Connections(settings_, counters, cast(asyncio.AbstractEventLoop, clock)), clock, counters


def test_a_client_over_its_limit_is_refused_and_others_are_not() -> None:
    connections, _, counters = table(tcp_clients_per_address=2)
    mine = [Client(connections) for _ in range(3)]
    assert [connections.joined(one) for one in mine] == [True, True, False]
    assert connections.joined(Client(connections, b"\x7f\0\0\2"))
    assert connections.joined(Client(connections, bytes(15) + b"\1", "tls"))
    assert counters.tcp_refused == {"client": 1}
    assert counters.tcp_connections == {"tcp": 3, "tls": 1}
    connections.lost(mine[0])
    connections.lost(mine[0])
    assert counters.tcp_open == {"tcp": 2, "tls": 1}
    assert connections.joined(Client(connections))


def test_the_one_that_is_idle_longest_gives_way() -> None:
    connections, clock, counters = table(tcp_clients=3)
    one, two, three, four, five = (Client(connections) for _ in range(5))
    for client in (one, two, three):
        assert connections.joined(client)
        clock.advance(0.5)
    connections.asked(one)
    assert connections.joined(four)
    assert (one.ended, two.ended, three.ended) == ("", "displaced", "")
    assert connections.joined(five)
    assert three.ended
    assert not counters.tcp_refused


def test_one_that_waits_for_its_answer_does_not_give_way() -> None:
    connections, _, counters = table(tcp_clients=2)
    one, two, three = (Client(connections) for _ in range(3))
    assert connections.joined(one)
    assert connections.joined(two)
    one.busy = True
    assert connections.joined(three)
    assert (one.ended, two.ended) == ("", "displaced")
    three.busy = True
    assert not connections.joined(Client(connections))
    assert counters.tcp_refused == {"full": 1}


def test_an_idle_connection_is_ended_and_a_busy_one_is_not() -> None:
    connections, clock, counters = table()
    idle, asking, busy = (Client(connections) for _ in range(3))
    for client in (idle, asking, busy):
        connections.joined(client)
    busy.busy = True
    for _ in range(4):
        clock.advance(4)
        connections.asked(asking)
    assert (idle.ended, asking.ended, busy.ended) == ("idle", "", "")
    busy.busy = False
    clock.advance(30)
    assert asking.ended == busy.ended == "idle"
    assert len(connections) == 0
    assert clock.due == []  # nobody is looked at when nobody is there
    assert not +counters.tcp_open


def test_the_idle_time_shrinks_when_places_get_few() -> None:
    connections, clock, _ = table(tcp_clients=4)
    clients = [Client(connections) for _ in range(3)]
    connections.joined(clients[0])
    connections.joined(clients[1])
    assert connections.idle == 10
    clock.advance(5)
    assert not clients[0].ended
    connections.joined(clients[2])
    assert connections.idle == 2.5
    clock.advance(1)
    assert [client.ended for client in clients] == ["idle", "", ""]  # half are free again: the others have time


def test_many_that_are_idle_at_once_do_not_hold_up_the_loop() -> None:
    connections, clock, _ = table(tcp_clients=10_000, tcp_clients_per_address=10_000)
    clients = [Client(connections) for _ in range(2000)]
    for client in clients:
        connections.joined(client)
    clock.advance(9)
    assert clock.looks <= 10
    assert len(connections) == 2000
    left = []
    for _ in range(20):
        clock.advance(0.25)
        left.append(len(connections))
    assert left[-1] == 0
    assert len({2000, *left}) > 2  # not all in one go


def test_lowered_limits_hold_for_those_who_are_there() -> None:
    connections, clock, _ = table()
    clients = [Client(connections) for _ in range(10)]
    for client in clients:
        connections.joined(client)
        clock.advance(0.1)
    connections.limit(DnsConfig(tcp_clients=4, tcp_idle=Duration(100)))
    clock.advance(1)
    assert [client.ended for client in clients] == ["displaced"] * 6 + [""] * 4
    connections.limit(DnsConfig(tcp_idle=Duration(0.5)))
    clock.advance(1)
    assert all(client.ended for client in clients)


def test_places_are_no_more_than_the_open_files_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (RESERVED_FILES + 2, 4096))
    connections, _, _ = table()
    clients = [Client(connections) for _ in range(3)]
    assert all(connections.joined(client) for client in clients)
    assert clients[0].ended == "displaced"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert files_for_connections() > 1 << 30
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))
    assert files_for_connections() == 1


@pytest.mark.asyncio
async def test_close_waits_until_all_are_gone() -> None:
    connections = Connections(DnsConfig(), DnsCounters())

    class Slow(Client):
        def end(self, reason: str) -> None:
            self.ended = reason
            connections.ending(self)
            asyncio.get_running_loop().call_later(0.01, connections.lost, self)

    clients = [Slow(connections) for _ in range(3)]
    connections.joined(clients[0])
    connections.joined(clients[1])
    connections.ending(clients[2])  # a refused one
    await connections.close()
    assert [client.ended for client in clients] == ["stopped"] * 3
    assert connections.joined(Client(connections))  # a server may start again
    await connections.close()


class Story(RuleBasedStateMachine):
    """Any course of events against the plain statement of the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.clock, self.counters = table(tcp_clients=5, tcp_clients_per_address=3)
        self.clients: list[Client] = []

    def open(self) -> list[Client]:
        return [client for client in self.clients if not client.ended]

    @rule(address=st.integers(0, 3), carrier=st.sampled_from(["tcp", "tls"]), busy=st.booleans())
    def join(self, address: int, carrier: str, busy: bool) -> None:
        before = self.open()
        client = Client(self.table, bytes([127, 0, 0, address]), carrier)
        client.busy = busy
        mine = sum(other.client == client.client for other in before)
        joined = self.table.joined(client)
        assert joined == (mine < 3 and (len(before) < 5 or not all(other.busy for other in before)))
        if joined:
            given_way = [other for other in before if other.ended]
            assert len(given_way) == (len(before) == 5)
            assert not any(other.busy for other in given_way)
            self.clients = [*self.open(), client]

    @rule(number=st.integers(0, 4), busy=st.booleans())
    def ask(self, number: int, busy: bool) -> None:
        for client in self.open()[number : number + 1]:
            client.busy = busy
            self.table.asked(client)

    @rule(number=st.integers(0, 4))
    def leave(self, number: int) -> None:
        for client in self.open()[number : number + 1]:
            self.table.lost(client)
            self.clients.remove(client)

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        before = self.open()
        self.clock.advance(seconds)
        for client in before:
            silent = self.clock.now - client.last
            assert not client.ended or (client.ended == "idle" and not client.busy and silent >= 2.5)
            assert client.ended or silent <= 11

    @invariant()
    def counts_are_true(self) -> None:
        open_ = self.open()
        assert len(self.table) == len(open_) <= 5
        assert +self.counters.tcp_open == Counter(client.carrier for client in open_)
        assert all(count <= 3 for count in Counter(client.client for client in open_).values())


Story.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStory = Story.TestCase
