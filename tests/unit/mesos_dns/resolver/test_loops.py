"""Loop detection: probes that come back to us, and those that do not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import pytest

from mesos_dns.resolver import loops as loops_module
from mesos_dns.resolver.loops import Loops
from mesos_dns.resolver.upstream import Upstream
from mesos_dns.wire import name_to_wire
from tests.fakes.upstreams import Step, UpstreamServer, failing, silent, until, upstream

pytestmark = pytest.mark.asyncio


def name_of(question: bytes) -> bytes:
    return name_to_wire(dns.message.from_wire(question).question[0].name.to_text().lower())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops_module, "_TICK", 0.005)
    monkeypatch.setattr(loops_module, "_GRACE", 0.02)
    monkeypatch.setattr(loops_module, "AGAIN", 0.05)


class Mirror:
    """An upstream that asks us everything it is asked, while `loops`; then it answers NXDOMAIN."""

    def __init__(self) -> None:
        self.loops = True
        self.ask_us: Callable[[bytes], bool] = lambda _: False
        self.caught: list[bool] = []

    def answering(self, question: bytes, _: str) -> Sequence[Step]:
        if self.loops:
            self.caught.append(self.ask_us(name_of(question)))
        return failing(dns.rcode.NXDOMAIN)(question, _)


@asynccontextmanager
async def probing(zone: str = ".") -> AsyncIterator[tuple[Mirror, UpstreamServer, Upstream, Loops]]:
    mirror = Mirror()
    async with upstream(mirror.answering) as server:
        one = Upstream(server.address(), zone, None)
        loops = Loops(lambda: [one])
        mirror.ask_us = loops.is_probe
        running = asyncio.create_task(loops.run())
        try:
            yield mirror, server, one, loops
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_who_sends_a_probe_back_is_looping_until_one_stays_away(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mesos_dns.resolver.loops"):
        async with probing() as (mirror, server, one, _):
            await until(lambda: one.looping)
            await until(lambda: len(mirror.caught) >= 3)
            assert all(mirror.caught)
            assert len(set(server.names)) == len(server.names)
            assert all(name.endswith(".pharos-loop.example.") and len(name) == 53 for name in server.names)
            mirror.loops = False
            await until(lambda: not one.looping)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_who_answers_is_probed_once() -> None:
    async with probing() as (mirror, server, one, _):
        mirror.loops = False
        await until(lambda: server.seen)
        await asyncio.sleep(0.2)
        assert (len(server.seen), one.looping) == (1, False)


async def test_who_fails_is_probed_again() -> None:
    async with probing() as (mirror, server, one, _):
        mirror.loops = False
        await until(lambda: server.seen)
        mirror.loops, one.unanswered = True, loops_module.SUSPECT
        await until(lambda: one.looping)


async def test_a_zone_is_probed_with_a_name_of_its_own() -> None:
    async with probing("corp.example") as (_, server, one, _):
        await until(lambda: one.looping)
        assert server.names[0].endswith(".pharos-loop.corp.example.")


async def test_a_zone_with_a_name_too_long_is_not_probed() -> None:
    zone = ".".join(["a" * 50] * 5)[:240]
    async with probing(zone) as (_, server, _, _):
        await asyncio.sleep(0.1)
        assert not server.seen


async def test_silence_does_not_end_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops_module, "_SECONDS", 0.02)
    async with probing() as (_, server, one, _):
        await until(lambda: one.looping)
        server.answering = silent
        asked = len(server.seen)
        await until(lambda: len(server.seen) > asked + 1)
        assert one.looping


async def test_other_names_are_no_probes_of_ours() -> None:
    async with probing() as (_, server, one, loops):
        await until(lambda: one.looping)
        for name in ("", "www.example", "a" * 32 + ".pharos-loop.example", "pharos-loop.example", "x." * 20 + "y"):
            assert not loops.is_probe(name_to_wire(name))
    assert not loops.is_probe(name_of(server.seen[0][1]))  # one that is over


async def test_own_and_removed_upstreams_are_not_probed() -> None:
    async with upstream(silent) as server:
        own = Upstream(server.address(), ".", None, own=True)
        present: list[Upstream] = [own]
        loops = Loops(lambda: present)
        running = asyncio.create_task(loops.run())
        await asyncio.sleep(0.1)
        assert not server.seen
        present[:] = [Upstream(server.address(), ".", None)]
        await until(lambda: server.seen)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
