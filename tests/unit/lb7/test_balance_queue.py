"""lb7._balance: requests that wait for a server with room."""

from __future__ import annotations

import asyncio

import pytest

from lb7._balance import Cluster, Server
from tests.balanced import NOW, cluster, fail, numbered, server, spec


class Request:
    """Goes to a server as soon as there is one, and waits until then."""

    def __init__(self, made: Cluster, name: str, log: list[str]) -> None:
        self.made, self.name, self.log = made, name, log
        self.server: Server | None = None
        self.refused = ""
        self.now = NOW

    def room(self) -> None:
        self.server = self.made.pick(self.now, 0, None, None)
        if self.server is not None:
            self.made.begin(self.server, self.now)
            self.log.append(self.name)
        elif not self.made.has_servers(self.now):
            self.refused = "no server"
        elif not self.made.wait(self):
            self.refused = "queue"

    def end(self) -> None:
        assert self.server is not None
        self.made.end(self.server)


async def quiet() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def come(made: Cluster, names: str, log: list[str]) -> list[Request]:
    requests = [Request(made, name, log) for name in names]
    for request in requests:
        request.room()
    return requests


@pytest.mark.asyncio
async def test_requests_are_served_in_their_order_also_beside_newcomers() -> None:
    made = cluster(server(1), server(2), max_requests_per_server=1)
    log: list[str] = []
    a, b, *_ = come(made, "abcd", log)
    assert (log, made.waiting) == (["a", "b"], 2)
    a.end()
    come(made, "e", log)  # before c, who is woken, has had its turn
    assert (log, made.waiting) == (["a", "b"], 3)
    await quiet()
    assert (log, made.waiting) == (["a", "b", "c"], 2)
    b.end()
    await quiet()
    assert log == ["a", "b", "c", "d"]
    assert made.counts_dict()["waited"] == 3


@pytest.mark.asyncio
async def test_the_queue_is_bounded() -> None:
    made = cluster(server(1), max_requests_per_server=1, max_waiting=2)
    requests = come(made, "abcd", [])
    assert [request.refused for request in requests] == ["", "", "", "queue"]
    assert made.counts_dict()["overflow"] == 1
    made.stop_waiting(requests[1])
    made.stop_waiting(requests[1])
    assert made.waiting == 1


@pytest.mark.asyncio
async def test_new_and_returning_servers_and_a_higher_limit_are_used() -> None:
    made = cluster(server(1), server(2, down=True), max_requests_per_server=1)
    log: list[str] = []
    come(made, "abcdefg", log)
    made.change(spec(server(1), server(2, down=True), server(3)), NOW)
    await quiet()
    assert log == ["a", "b"]
    made.change(spec(server(1), server(2), server(3)), NOW)
    await quiet()
    assert log == ["a", "b", "c"]
    made.change(spec(server(1), server(2), server(3), max_requests_per_server=2), NOW)
    await quiet()
    assert log == list("abcdef")
    assert made.waiting == 1


@pytest.mark.asyncio
async def test_without_a_limit_nobody_waits() -> None:
    made = cluster(server(1), max_requests_per_server=1)
    log: list[str] = []
    requests = come(made, "abc", log)
    made.change(spec(server(1), max_requests_per_server=100), NOW)
    await quiet()
    assert log == ["a", "b", "c"]
    assert made.waiting == 0
    for request in requests:
        request.end()
    assert made.servers[0].active == 0


@pytest.mark.asyncio
async def test_those_who_wait_go_on_waiting_while_no_server_is_there() -> None:
    made = cluster(server(1), max_requests_per_server=1)
    log: list[str] = []
    a, b = come(made, "ab", log)
    made.change(spec(), NOW)
    a.end()
    await quiet()
    assert made.waiting == 1
    (c,) = come(made, "c", log)
    assert c.refused == "no server"
    made.change(spec(server(2)), NOW)
    await quiet()
    assert (log, b.refused) == (["a", "b"], "")


@pytest.mark.asyncio
async def test_a_closed_cluster_sends_them_away() -> None:
    made = cluster(server(1), max_requests_per_server=1)
    requests = come(made, "abc", [])
    made.close()
    await quiet()
    assert [request.refused for request in requests] == ["", "no server", "no server"]
    assert made.waiting == 0


@pytest.mark.asyncio
async def test_an_ejected_server_that_is_back_is_noticed_without_new_requests() -> None:
    made = cluster(server(1), server(2), max_requests_per_server=1, eject_time=0.02)
    log: list[str] = []
    fail(made, 2, 5)
    a, b = come(made, "ab", log)
    b.now = NOW + 1
    assert a.server is numbered(made, 1)
    for _ in range(2000):
        if b.server is not None:
            break
        await asyncio.sleep(0.01)
    assert b.server is numbered(made, 2)
    assert made.waiting == 0
