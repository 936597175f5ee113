"""DNS with native workers: they answer, Python answers what they can't, and one that fails is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import pytest

from mesos_dns import workers
from mesos_dns.config import DnsConfig
from mesos_dns.respond import Responder
from mesos_dns.server import DnsServer
from tests.fakes.dns_serving import Run, udp
from tests.fakes.questions import answers, drop, native_responder_of, packet, put, task

WEB = packet("web.marathon.mesos")


@asynccontextmanager
async def served(listen: str = "127.0.0.1:0", **config: Any) -> AsyncIterator[tuple[DnsServer, Responder]]:
    """A server whose workers are up, and known by their pids: one may be up before its start has returned."""
    responder = native_responder_of(task(), listen=(listen,), **config)
    server = DnsServer(DnsConfig(listen=(listen,), **config), responder)
    await server.start()
    try:
        await until(lambda: all(not listener._reading for listener in server._udp))
        await until(lambda: all(worker.pid for worker in server.workers))
        yield server, responder
    finally:
        await server.close()


async def until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def replaced(server: DnsServer, before: int) -> None:
    """Another process than `before` reads the first socket."""
    await until(lambda: server.workers[0].pid not in (0, before) and not server._udp[0]._reading)


def fast_answers(responder: Responder) -> int:
    return responder.counters.native_totals().counts["answered"]


async def right_once(server: DnsServer) -> bool:
    """Asks once: what is counted then is exact."""
    return answers(dns.message.from_wire(await udp(server.addresses[0], WEB))) == ["9.0.0.1"]


async def right(server: DnsServer) -> bool:
    """Asks once a second, as stub resolvers do: what a worker had read when it was killed is lost."""
    for _ in range(8):
        try:
            async with asyncio.timeout(1):
                reply = dns.message.from_wire(await udp(server.addresses[0], WEB))
        except TimeoutError:
            continue
        return answers(reply) == ["9.0.0.1"]
    return False


def test_the_second_question_is_answered_by_a_worker(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            for expected in (0, 1, 2):
                assert await right_once(server)
                assert fast_answers(responder) == expected

    run(story())


def test_an_idle_worker_waits(run: Run) -> None:
    """Its socket is shared with this process, whose event loop wants it never to wait."""

    async def story() -> None:
        async with served() as (server, responder):
            assert await right(server)
            assert os.get_blocking(server._udp[0].socket.fileno())
            assert responder.fast is not None
            loop = asyncio.get_running_loop()
            before, began = responder.fast.table.heartbeat(0), loop.time()
            await asyncio.sleep(0.5)
            assert responder.fast.table.heartbeat(0) - before <= 2 + (loop.time() - began) / workers.TICK

    run(story())


def test_a_change_is_seen_by_the_next_question(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            for number in range(1, 50):
                responder.view.apply(drop(task(number - 1).key))
                responder.view.apply(put(task(number)))
                for _ in range(2):
                    reply = dns.message.from_wire(await udp(server.addresses[0], WEB))
                    assert answers(reply) == [f"9.0.0.{number + 1}"]
            assert fast_answers(responder) > 40

    run(story())


def test_an_answer_that_clients_ask_for_is_made_anew_before_they_ask(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            for _ in range(2):
                await udp(server.addresses[0], WEB)
            compiled = responder.counters.compiled
            responder.view.apply(put(task(1)))
            await until(lambda: responder.counters.compiled == compiled + 1)
            # Only the first question was handed over; a worker counts that after it has done so.
            await until(lambda: responder.counters.native_totals().counts["passed"] == 1)
            reply = dns.message.from_wire(await udp(server.addresses[0], WEB))
            assert answers(reply) == ["9.0.0.1", "9.0.0.2"]
            assert responder.counters.native_totals().counts["passed"] == 1
            responder.view.apply(drop(task(1).key))
            await until(lambda: responder.counters.compiled == compiled + 2)
            # Nobody has read that one: it is not made again for the next change.
            responder.view.apply(put(task(2)))
            await asyncio.sleep(0.05)
            assert responder.counters.compiled == compiled + 2

    run(story())


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1"), ("[::1]:0", "::1"), ("[0:0:0:0:0:0:0:0]:0", "::1")],
)
def test_answers_leave_from_the_address_that_was_asked(run: Run, listen: str, asked: str) -> None:
    """Both those of the worker and those of Python; a connected socket hears no other address."""

    async def story() -> None:
        async with served(listen) as (server, responder):
            address = (asked, server.addresses[0][1])
            for _ in range(3):
                assert answers(dns.message.from_wire(await udp(address, WEB))) == ["9.0.0.1"]
            assert fast_answers(responder) == 2

    run(story())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_(run: Run, number: signal.Signals) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            assert await right(server)
            for _ in range(2):
                before = server.workers[0].pid
                os.kill(before, number)
                for _ in range(20):
                    assert await right(server)
                await replaced(server, before)
                answered = fast_answers(responder)
                assert await right_once(server)
                assert fast_answers(responder) == answered + 1
            assert responder.counters.restarts == 2

    run(story())


def test_a_worker_that_hangs_is_replaced(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            before = server.workers[0].pid
            os.kill(before, signal.SIGSTOP)
            assert await right(server)  # asked of the stopped one's socket, answered all the same
            await replaced(server, before)
            assert responder.counters.restarts == 1

    run(story())


def test_a_worker_that_is_slow_to_start_is_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        f"import runpy, time\ntime.sleep({4 * workers.TICK * workers.MISSED / 2})\n"
        f"runpy.run_path({str(workers.PROGRAM)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(workers, "PROGRAM", slow)

    async def story() -> None:
        async with served() as (server, responder):
            assert await right(server)
            assert responder.counters.restarts == 0

    run(story())


def test_python_answers_while_no_worker_can_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        monkeypatch.setattr(workers, "PROGRAM", workers.PROGRAM.with_name("not-there.py"))
        responder = native_responder_of(task())
        server = DnsServer(DnsConfig(listen=("127.0.0.1:0",)), responder)
        await server.start()
        try:
            await until(lambda: responder.counters.restarts >= 4)
            said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
            assert said == ["a DNS worker ended worker=0 code=2"]  # once, however often
            for _ in range(5):
                assert await right(server)
        finally:
            await server.close()

    run(story())


def test_two_workers_share_the_load(run: Run) -> None:
    async def story() -> None:
        async with served(workers=2) as (server, responder):
            assert len({worker.pid for worker in server.workers}) == 2
            assert len(server.addresses) == 1
            for _ in range(100):  # each from a port of its own
                assert await right_once(server)
            shares = responder.counters.native_totals().queries
            assert sorted(shares) == [0, 1]
            assert all(shares[number] >= 20 for number in (0, 1))
            assert sum(shares.values()) == 100

    run(story())


def test_one_of_two_workers_ends_and_the_other_goes_on(run: Run) -> None:
    async def story() -> None:
        async with served(workers=2) as (server, _):
            os.kill(server.workers[0].pid, signal.SIGKILL)
            for _ in range(50):
                assert await right(server)

    run(story())


def test_what_the_table_can_not_answer_comes_from_python(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            reply = await udp(server.addresses[0], b"\x12\x34\x28\0\0\1\0\0\0\0\0\0" + WEB[12:])
            assert reply[3] & 15 == 4  # NOTIMP
            await until(lambda: responder.counters.native_totals().counts["passed"] == 1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(WEB[:2] + b"\x81" + WEB[3:], server.addresses[0])  # a response
            assert await right(server)
            await until(lambda: responder.counters.native_totals().counts["dropped"] == 1)

    run(story())


def test_another_configuration_is_served_at_once(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            assert await right(server)
            assert await right(server)
            before = server.workers[0].pid
            other = native_responder_of(task(4), counters=responder.counters)
            server.swap(DnsConfig(), other)
            for _ in range(20):
                reply = dns.message.from_wire(await udp(server.addresses[0], WEB))
                assert answers(reply) == ["9.0.0.5"]
            await replaced(server, before)
            assert answers(dns.message.from_wire(await udp(server.addresses[0], WEB))) == ["9.0.0.5"]
            assert fast_answers(responder) >= 2  # what the old table's workers counted stays
            server.swap(DnsConfig(), native_responder_of(task(5), counters=responder.counters, workers=0))
            assert answers(dns.message.from_wire(await udp(server.addresses[0], WEB))) == ["9.0.0.6"]
            assert server.workers == []

    run(story())


def test_a_table_that_is_served_no_more_gives_its_memory_back(run: Run) -> None:
    """At once, although a view and what listens to it hold each other until the garbage is looked through."""

    async def story() -> None:
        gc.disable()
        try:
            before = tables()
            async with served() as (server, responder):
                for number in range(3):
                    server.swap(DnsConfig(), native_responder_of(task(number), counters=responder.counters))
                    await until(lambda: tables() == before + 1)
            server.forget()
            assert tables() == before
        finally:
            gc.enable()

    run(story())


def test_a_server_that_can_not_bind_makes_nothing_count_twice(run: Run) -> None:
    async def story() -> None:
        async with served() as (server, responder):
            for _ in range(3):
                assert await right_once(server)
            host, port = server.addresses[0]
            taken = (f"{host}:{port}",)
            other = native_responder_of(task(), counters=responder.counters, listen=taken)
            with pytest.raises(OSError, match="can't bind"):
                await DnsServer(DnsConfig(listen=taken), other).start()
            responder.counters.serve(responder.fast)  # as a reload does that goes back
            assert fast_answers(responder) == 2

    run(story())


def tables() -> int:
    """Tables that this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += "pharos-table" in os.readlink(f"/proc/self/fd/{fd}")
    return found


def test_a_sample_of_questions_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with served(query_log=2) as (server, _):
            for _ in range(7):
                assert await right(server)
            await until(lambda: len(caplog.records) >= 3)

    caplog.set_level("INFO", "mesos_dns.query_log")
    run(story())
    assert set(caplog.messages) == {"query client=127.0.0.1 transport=udp name='web.marathon.mesos' type=A rcode=0"}


def test_closing_leaves_no_process(run: Run) -> None:
    async def story() -> None:
        async with served(workers=2) as (server, _):
            pids = [worker.pid for worker in server.workers]
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    run(story())
