"""Host names: literal addresses, last known answers, retries in the background."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from mesos_dns import hosts as hosts_module
from mesos_dns.hosts import Hosts, Remembered, system_resolve


class Names:
    """A resolver that a test changes."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host == "slow":
            await asyncio.sleep(60)
        if host not in self.known:
            raise OSError(host)
        return self.known[host]


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_addresses_are_themselves() -> None:
    names = Names()
    hosts = Hosts(resolve=names)
    assert hosts.lookup("10.0.0.1") == ("10.0.0.1",)
    assert hosts.lookup("FD00::0:1") == ("fd00::1",)
    assert hosts.lookup("::ffff:10.0.0.1") == ("10.0.0.1",)
    for host in ("", "a b", "x" * 64, "a..b", "-a", "a/b", ".", "ü" * 300):
        assert hosts.lookup(host) == (), host
    assert names.asked == []


@pytest.mark.asyncio
async def test_a_name_is_resolved_once_and_told() -> None:
    changed: list[str] = []
    names = Names(host=("10.0.0.1", "fd00::1"))
    hosts = Hosts(changed.append, names)
    assert hosts.lookup("host") is None
    assert hosts.lookup("host") is None
    await hosts.settle(["host", "10.0.0.9"], 5)
    assert hosts.lookup("host") == ("10.0.0.1", "fd00::1")
    assert changed == ["host"]
    assert names.asked == ["host"]
    await hosts.close()


@pytest.mark.asyncio
async def test_the_last_known_addresses_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "REFRESH", 0.001)
    monkeypatch.setattr(hosts_module, "RETRY_MIN", 0.001)
    changed: list[str] = []
    names = Names(host=("10.0.0.1", "10.0.0.2"))
    hosts = Hosts(changed.append, names)
    hosts.lookup("host")
    await until(lambda: len(names.asked) > 2)
    names.known["host"] = ("10.0.0.2", "10.0.0.1")
    await until(lambda: len(names.asked) > 6)
    assert hosts.lookup("host") == ("10.0.0.1", "10.0.0.2"), "another order is no change"
    del names.known["host"]
    asked = len(names.asked)
    await until(lambda: len(names.asked) > asked + 2)
    assert hosts.lookup("host") == ("10.0.0.1", "10.0.0.2")
    assert changed == ["host"]
    names.known["host"] = ("10.0.0.7",)
    await until(lambda: hosts.lookup("host") == ("10.0.0.7",))
    assert changed == ["host", "host"]
    await hosts.close()


@pytest.mark.asyncio
async def test_remembered_addresses_hold_and_are_soon_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "RETRY_MIN", 0.001)
    changed: list[str] = []
    names = Names(host=Remembered(("10.0.0.1",)))
    hosts = Hosts(changed.append, names)
    await hosts.settle(["host"], 5)
    hosts.lookup("host")
    await until(lambda: len(names.asked) > 3)
    assert hosts.lookup("host") == ("10.0.0.1",)
    assert type(hosts.lookup("host")) is tuple
    names.known["host"] = ("10.0.0.2",)
    await until(lambda: hosts.lookup("host") == ("10.0.0.2",))
    assert changed == ["host", "host"]
    asked = len(names.asked)
    await asyncio.sleep(0.05)
    assert len(names.asked) == asked, "a fresh answer is good for REFRESH"
    await hosts.close()


@pytest.mark.asyncio
async def test_an_unknown_name_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "RETRY_MIN", 0.001)
    names = Names()
    hosts = Hosts(resolve=names)
    hosts.lookup("host")
    await hosts.settle(["host"], 5)
    assert hosts.lookup("host") == ()
    names.known["host"] = ("10.0.0.1",)
    await until(lambda: hosts.lookup("host"))
    await hosts.close()


@pytest.mark.asyncio
async def test_a_slow_name_holds_nobody_up() -> None:
    hosts = Hosts(resolve=Names(host=("10.0.0.1",)), limit=0.05)
    hosts.lookup("slow")
    hosts.lookup("host")
    await hosts.settle(["slow", "host"], 0.001)
    await hosts.settle(["host"], 5)
    assert hosts.lookup("host") == ("10.0.0.1",)
    await hosts.settle(["slow"], 5)
    assert hosts.lookup("slow") == ()
    await hosts.close()


@pytest.mark.asyncio
async def test_a_forgotten_name_is_no_longer_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "REFRESH", 0.001)
    names = Names(host=("10.0.0.1",))
    hosts = Hosts(resolve=names)
    hosts.lookup("host")
    await hosts.settle(["host"], 5)
    hosts.forget("host")
    await asyncio.sleep(0)
    asked = len(names.asked)
    await asyncio.sleep(0.02)
    assert len(names.asked) == asked
    await hosts.close()


@pytest.mark.asyncio
async def test_the_systems_resolver_knows_localhost() -> None:
    assert set(await system_resolve("localhost")) & {"127.0.0.1", "::1"}


@pytest.mark.asyncio
async def test_a_name_that_the_system_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="unknown"):
        await system_resolve("nowhere.example")


def test_name_servers_that_are_silent_hold_up_neither_the_end_nor_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, under_way = threading.Event(), threading.Semaphore(0)
    guard = threading.Timer(20, ended.set)
    guard.start()

    def silent(*_: object, **__: object) -> list[object]:
        under_way.release()
        ended.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    async def give_up() -> None:
        asked = [asyncio.create_task(system_resolve(f"host{number}")) for number in range(hosts_module.MAX_THREADS)]
        for _ in asked:
            await asyncio.to_thread(under_way.acquire)
        with pytest.raises(OSError, match="under way"):
            await system_resolve("one-too-many")
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    try:
        asyncio.run(give_up())
        assert not ended.is_set()
    finally:
        ended.set()
        guard.cancel()
    for thread in threading.enumerate():
        if thread.name.startswith("resolve "):
            thread.join(20)


@pytest.mark.asyncio
async def test_a_name_where_nobody_answers_is_looked_up_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "RETRY_MIN", 0.001)
    changed: list[str] = []
    names = Names(host=("10.0.0.1",))
    hosts = Hosts(changed.append, names)
    hosts.lookup("host")
    await hosts.settle(["host"], 5)
    await asyncio.sleep(0.01)
    assert names.asked == ["host"]
    names.known["host"] = ("10.0.0.2",)
    hosts.again("nobody")
    hosts.again("host")
    assert hosts.lookup("host") == ("10.0.0.1",)
    await until(lambda: hosts.lookup("host") == ("10.0.0.2",))
    assert (changed, names.asked) == (["host", "host"], ["host", "host"])
    await hosts.close()
