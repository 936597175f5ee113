"""The edge's processes: what is applied is served, whatever becomes of a worker; listeners come and go; it all ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme

from lb7 import worker_process
from lb7.certificate_files import CertificateFiles
from lb7.listening import Listening
from lb7.table import Cluster, HostKey, HostRules, Listener, TableDelta
from lb7.wire import Fault
from lb7.workers import Workers
from tests.fakes.edge_workers import (
    HTTP,
    PATIENCE,
    Client,
    backend,
    cluster_at,
    connect,
    get,
    l7_config,
    opened,
    port_of,
    refused,
    route,
    settled,
    table,
    until,
)
from tests.ports import free_ports


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(workers: Workers) -> list[int]:
    return [worker["pid"] for worker in workers.status()["workers"]]


async def refusing(port: int) -> None:
    async with asyncio.timeout(60):
        while not await refused(port):
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_nothing_is_ready_before_its_table() -> None:
    async with backend() as port, opened(http=("127.0.0.1:0",)) as workers:
        await until(lambda: all(pids(workers)))
        await asyncio.sleep(0.2)
        assert not workers.ready
        assert await refused(port_of(workers))
        workers.apply(table(port))
        await settled(workers)
        assert workers.ready
        assert not workers.problems
        assert await get(port_of(workers)) == (200, "hello")
        assert await get(port_of(workers), "b.example") != (200, "hello")


@pytest.mark.asyncio
async def test_every_worker_gets_connections_and_every_change() -> None:
    async with backend("one") as one, backend("two") as two, opened(ready=table(one)) as workers:
        for text, port in (("two", two), ("one", one)):
            workers.apply(TableDelta(clusters={"/a:1": cluster_at(port)}))
            await settled(workers)
            assert {await get(port_of(workers)) for _ in range(30)} == {(200, text)}
        await until(lambda: workers.totals().number("requests") == 60)
        assert all(workers.totals().workers[number].get("requests") for number in (0, 1))


@pytest.mark.asyncio
async def test_what_is_gone_is_served_no_more() -> None:
    async with backend() as port, opened(ready=table(port)) as workers:
        workers.apply(TableDelta(hosts={("http", "a.example"): None}, clusters={"/a:1": None}))
        await settled(workers)
        assert (await get(port_of(workers)))[0] == 503
        workers.apply(table(port))
        await settled(workers)
        assert await get(port_of(workers)) == (200, "hello")


@pytest.mark.asyncio
async def test_counters_are_totals_of_all_workers() -> None:
    async with backend() as port, opened(ready=table(port)) as workers:
        for _ in range(20):
            await get(port_of(workers))
        totals = workers.totals()
        await until(lambda: "/a:1" in totals.clusters and totals.clusters["/a:1"].counts_dict()["requests"] == 20)
        assert totals.listeners["http"]["requests"] == totals.number("requests") == 20
        assert totals.clusters["/a:1"].counts_dict()["status"] == [0, 0, 20, 0, 0, 0]
        servers = await workers.servers(["/a:1", "/unknown:1"])
        assert [(server["id"], server["requests"]) for server in servers["/a:1"]] == [(f"127.0.0.1:{port}", 20)]
        assert set(servers) == {"/a:1"}
        assert servers["/a:1"][0]["whole"] == 1


@pytest.mark.asyncio
async def test_it_is_told_where_one_does_not_say_what_its_servers_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb7.workers.ANSWERS", 0.3)
    async with backend() as port, opened(ready=table(port)) as workers:
        before = pids(workers)
        os.kill(before[0], signal.SIGSTOP)
        try:
            servers = await workers.servers(["/a:1"])
        finally:
            os.kill(before[0], signal.SIGCONT)
        assert [server["whole"] for server in servers["/a:1"]] == [0]
        await until(lambda: workers.ready)
        assert (await workers.servers(["/a:1"]))["/a:1"][0]["whole"] == 1


@pytest.mark.asyncio
async def test_that_requests_are_held_is_known_at_once() -> None:
    holds: list[tuple[str, int | float | list[int | float]]] = []

    def held(name: str) -> None:
        holds.append((name, workers.totals().clusters_now[name]["held"]))
        raise LookupError("of whoever hears it")

    asleep = table()
    asleep.clusters["/a:1"] = cluster_at(hold=True)
    async with backend() as port, opened(ready=asleep, workers=1, held=held) as workers:
        client = await connect(port_of(workers))
        asking = asyncio.create_task(client.get())
        await until(lambda: holds)
        assert holds == [("/a:1", 1)]
        workers.apply(TableDelta(clusters={"/a:1": cluster_at(port, hold=True)}))
        assert await asking == (200, "hello")
        totals = workers.totals()
        await until(lambda: not totals.clusters_now)
        assert totals.clusters["/a:1"].counts_dict()["held"] == 1
        client.close()


@pytest.mark.asyncio
async def test_the_access_log_comes_up() -> None:
    async with backend() as port, opened(ready=table(port), access_log=1.0) as workers:
        records: list[dict[str, Any]] = workers.records  # type: ignore[attr-defined]
        for number in range(10):
            await get(port_of(workers), path=f"/{number}")
        await until(lambda: len(records) == 10)
        assert {record["status"] for record in records} == {200}


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_worker_that_ends_is_replaced_and_nobody_who_waits_is_lost(number: signal.Signals) -> None:
    """Connections that wait in its socket are served by another one."""
    async with backend() as port, opened(ready=table(port)) as workers:
        before = pids(workers)
        os.kill(before[0], signal.SIGSTOP)
        waiting = [await connect(port_of(workers)) for _ in range(40)]
        answers = [asyncio.create_task(client.get()) for client in waiting]
        await until(lambda: sum(answer.done() for answer in answers) > 5)
        os.kill(before[0], number)
        os.kill(before[0], signal.SIGCONT)
        results = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 60)
        # What it had accepted before it was stopped is lost with it: nothing, for it was idle.
        assert [result for result in results if result != (200, "hello")] == []
        for client in waiting:
            client.close()
        await until(lambda: workers.replaced == 1 and 0 not in pids(workers))
        await settled(workers)
        assert pids(workers)[1] == before[1]
        assert {await get(port_of(workers)) for _ in range(20)} == {(200, "hello")}


@pytest.mark.asyncio
async def test_totals_never_go_down_when_workers_end() -> None:
    async with backend() as port, opened(ready=table(port)) as workers:
        for done in (20, 40):
            for _ in range(20):
                await get(port_of(workers))
            await until(lambda: workers.totals().number("requests") == done)  # noqa: B023
            before = pids(workers)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not set(before) & {0, *pids(workers)})  # noqa: B023
            await settled(workers)
            assert workers.totals().number("requests") == done
        assert workers.totals().clusters["/a:1"].counts_dict()["requests"] == 40


@pytest.mark.asyncio
async def test_one_that_hangs_is_stood_in_for_and_then_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "TICK", 0.25)
    monkeypatch.setattr(worker_process, "QUIET", 8)
    monkeypatch.setattr(worker_process, "SILENT", 20)
    async with backend() as port, opened(ready=table(port)) as workers:
        before = pids(workers)
        os.kill(before[1], signal.SIGSTOP)
        answers = [asyncio.create_task(get(port_of(workers))) for _ in range(30)]
        assert set(await asyncio.gather(*answers)) == {(200, "hello")}
        await until(lambda: workers.replaced and before[1] not in pids(workers) and 0 not in pids(workers))
        await until(lambda: not alive(before[1]))
        await settled(workers)


@pytest.mark.asyncio
async def test_a_single_worker_that_ends_leaves_clients_waiting_not_refused() -> None:
    async with backend() as port, opened(ready=table(port), workers=1) as workers:
        for _ in range(3):
            (before,) = pids(workers)
            os.kill(before, signal.SIGKILL)
            assert await get(port_of(workers)) == (200, "hello")
            await until(lambda: pids(workers)[0] not in (0, before))  # noqa: B023


@pytest.mark.asyncio
async def test_no_request_fails_through_many_changes() -> None:
    """Servers, rules and service ports change all the time."""
    async with backend() as one, backend() as two, opened(ready=table(one, two)) as workers:
        port, failed, done, going = port_of(workers), [], 0, True

        async def load() -> None:
            nonlocal done
            client: Client | None = None
            while going:
                client = client or await connect(port)
                answer = await client.get()
                done += 1
                if answer != (200, "hello"):
                    failed.append(answer)
                if done % 7 == 0:
                    client.close()
                    client = None
            if client is not None:
                client.close()

        loads = [asyncio.create_task(load()) for _ in range(4)]
        for number in range(100):
            name, other = f"port:{number % 10}", ("http", f"b{number % 10}.example")
            servers = ((one, two), (one,), (two,))[number % 3]
            listener = Listener(name, name, ("127.0.0.1:0",), by="none")
            workers.apply(
                TableDelta(
                    {name: listener if number % 3 else None},
                    {("http", "a.example"): route(), other: route() if number % 2 else None},
                    {"/a:1": cluster_at(*servers)},
                )
            )
            await asyncio.sleep(0.01)
        await settled(workers)
        going = False
        await asyncio.wait_for(asyncio.gather(*loads), 60)
        assert done
        assert not failed


@pytest.mark.asyncio
async def test_listeners_come_change_and_go() -> None:
    async with backend("one") as one, backend("two") as two, opened(ready=table(one)) as workers:
        changed = Listener("port:1", "port:1", ("127.0.0.1:0", "[::1]:0"), by="none")
        rules: dict[HostKey, HostRules | None] = {("port:1", ""): route("/b:1")}
        workers.apply(TableDelta({"port:1": changed}, rules, {"/b:1": cluster_at(two, name="/b:1")}))
        await settled(workers)
        v4, v6 = port_of(workers, "port:1"), port_of(workers, "port:1", 1)
        assert await get(v4) == (200, "two")
        assert await get(v6, address="::1") == (200, "two") if socket.has_ipv6 else True
        # By another mode at the same place: whoever is connected stays.
        client = await connect(v4)
        assert await client.get() == (200, "two")
        tcp = Listener("port:1", "port:1", ("127.0.0.1:0",), mode="tcp", cluster="/a:1")
        workers.apply(TableDelta({"port:1": tcp}))
        await settled(workers)
        assert port_of(workers, "port:1") == v4
        assert await client.get() == (200, "two")
        assert await get(v4) == (200, "one")
        await refusing(v6)
        workers.apply(TableDelta({"port:1": None}))
        await settled(workers)
        await refusing(v4)
        assert await client.get() == (200, "two")
        assert set(workers.addresses) == {"http"}
        client.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("names", [("port:1", "port:1"), ("port:1", "port:1#2")])
async def test_a_port_that_passes_to_another_refuses_nobody(names: tuple[str, str]) -> None:
    """From HTTP to TCP and back, by the same listener or another one."""
    async with backend() as server, opened(ready=table(server)) as workers:
        (port,) = free_ports(1)
        answers: list[object] = []
        going = True

        async def load() -> None:
            while going:
                try:
                    answers.append(await get(port))
                except OSError as error:
                    answers.append(error)

        rules: dict[HostKey, HostRules | None] = {("port:1", ""): route()}
        loads: list[asyncio.Task[None]] = []
        for number in range(50):
            name = names[number % 2]
            mode: Literal["http", "tcp"] = "tcp" if number % 2 else "http"
            one = Listener(name, "port:1", (f"127.0.0.1:{port}",), mode=mode, by="none", cluster="/a:1")
            workers.apply(TableDelta({names[0]: None, names[1]: None} | {name: one}, rules))
            if loads and number % 3:
                await asyncio.sleep(0.01)
            else:
                await settled(workers)
                loads = loads or [asyncio.create_task(load()) for _ in range(3)]
            assert not workers.problems
        before = len(answers)
        await until(lambda: len(answers) > before + 10)
        going = False
        await asyncio.wait_for(asyncio.gather(*loads), 60)
        assert set(answers) == {(200, "hello")}


@pytest.mark.asyncio
async def test_a_port_that_comes_back_is_bound_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although a worker that is slow holds it still."""
    monkeypatch.setattr("lb7.workers.SOON", 1000)  # not by trying again
    monkeypatch.setattr("lb7.workers.RETRY", 1000)
    async with backend() as server, opened(ready=table(server)) as workers:
        (port,) = free_ports(1)
        listener = Listener("port:1", "port:1", (f"127.0.0.1:{port}",), mode="tcp", cluster="/a:1")
        for _ in range(3):
            workers.apply(TableDelta({"port:1": listener}))
            await settled(workers)
            assert await get(port) == (200, "hello")
            slow = pids(workers)[1]
            os.kill(slow, signal.SIGSTOP)
            workers.apply(TableDelta({"port:1": None}))
            await until(lambda: "port:1" not in workers.addresses)
            workers.apply(TableDelta({"port:1": listener}))
            await until(lambda: "port:1" in workers.addresses or workers.problems)
            assert not workers.problems
            os.kill(slow, signal.SIGCONT)
            await settled(workers)
            assert await get(port) == (200, "hello")


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_a_problem_of_its_listener_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lb7.workers.RETRY", 0.1)  # seconds at most: it is tried more often at first
    async with backend() as port:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            both = table(port)
            both.listeners["port:1"] = Listener("port:1", "http", (address, "127.0.0.1:0"))
            async with opened(ready=both) as workers:
                assert set(workers.problems) == {"port:1"}
                assert address in workers.problems["port:1"]
                assert "another program" in workers.problems["port:1"]
                assert await get(port_of(workers)) == (200, "hello")
                assert await get(port_of(workers, "port:1")) == (200, "hello")
                taken.close()
                await until(lambda: not workers.problems)
                await settled(workers)
                assert await get(int(address.partition(":")[2])) == (200, "hello")


@pytest.mark.asyncio
async def test_an_address_of_the_configuration_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        workers = Workers(l7_config(http=(address,)), log=print)
        with pytest.raises(OSError, match=f"listener http: can't listen on {address}: another program"):
            await workers.open()
        await workers.close()
        async with opened(http=("127.0.0.1:0",)) as workers:
            with pytest.raises(OSError, match=address):
                await workers.change(l7_config(http=(address,), workers=1))
            assert len(pids(workers)) == 2


@pytest.mark.asyncio
async def test_two_listeners_may_have_one_address() -> None:
    async with backend("one") as one, backend("two") as two, opened(ready=table(one)) as workers:
        address = workers.addresses["http"][0]
        second = Listener("http#2", "second", (address,), by="none")
        workers.apply(
            TableDelta({"http#2": second}, {("second", ""): route("/b:1")}, {"/b:1": cluster_at(two, name="/b:1")})
        )
        await settled(workers)
        assert not workers.problems
        assert {await get(port_of(workers)) for _ in range(60)} == {(200, "one"), (200, "two")}


@pytest.mark.asyncio
async def test_an_app_that_workers_can_not_be_told_of_is_nobody_elses_fault() -> None:
    async with backend() as port, opened(ready=table(port), workers=1) as workers:
        odd = cluster_at(port, name="/odd:1", hsts="\ud800")
        workers.apply(TableDelta({}, {("http", "odd.example"): route("/odd:1")}, {"/odd:1": odd}))
        await settled(workers)
        assert await get(port_of(workers)) == (200, "hello")
        assert (await get(port_of(workers), "odd.example"))[0] == 503
        assert list(workers.status()["left_out"]) == ["cluster /odd:1"]
        workers.apply(TableDelta({}, {}, {"/odd:1": cluster_at(port, name="/odd:1")}))
        await settled(workers)
        assert await get(port_of(workers), "odd.example") == (200, "hello")
        assert not workers.status()["left_out"]
        assert workers.replaced == 0


@pytest.mark.asyncio
async def test_a_part_that_fails_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a look at certificates may meet, there is a next one."""
    monkeypatch.setattr("lb7.workers.INTERVAL", 0.01)
    monkeypatch.setattr("lb7.workers.RETRY", 0.01)
    looks = 0

    async def look(self: CertificateFiles, *, settled: bool = False) -> bool:
        nonlocal looks
        looks += 1
        if not settled:
            raise RuntimeError("odd")
        return False

    monkeypatch.setattr(CertificateFiles, "look", look)
    async with opened(workers=1):
        await until(lambda: looks > 3)
    assert any("part=cert" in record.getMessage() for record in caplog.records)


@pytest.mark.asyncio
async def test_faults_of_workers_are_kept_and_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(l7_config(), log=print)
    for number in range(1000):
        workers.failed(0, Fault("loop OSError", f"text {number}"))
        workers.failed(1, Fault(f"key {number}", "text"))
    faults = workers.status()["faults"]
    assert len(faults) == 200
    assert faults["loop OSError"] == "text 999"
    assert len([record for record in caplog.records if "loop OSError" in record.message]) == 1


@pytest.mark.asyncio
async def test_settings_change_under_open_connections() -> None:
    async with backend() as port, opened(ready=table(port)) as workers:
        clients = [await connect(port_of(workers)) for _ in range(6)]
        assert {await client.get() for client in clients} == {(200, "hello")}
        await workers.change(l7_config(max_head=1024))
        await settled(workers)
        assert (await get(port_of(workers), path="/" + "a" * 2000))[0] in (414, 431)
        assert {await client.get(path="/" + "a" * 2000) for client in clients} == {(200, "hello")}
        for client in clients:
            client.close()
        # What the old ones counted stays.
        await until(lambda: workers.totals().number("requests") >= 13)
        await until(lambda: workers.totals().now.get("connections") == 0)


@pytest.mark.asyncio
async def test_many_changes_of_settings_lose_no_request_and_leave_nothing_behind() -> None:
    async with backend() as one, backend() as two, opened(ready=table(one, two)) as workers:
        answers: list[object] = []
        going = True

        async def load(each: int) -> None:
            """Requests on connections that live through several changes, or through none."""
            while going:
                client = await connect(port_of(workers))
                for _ in range(each):
                    answers.append(await client.get())
                client.close()

        loads = [asyncio.create_task(load(each)) for each in (1, 5, 200, 200)]
        for number in range(20):
            await workers.change(l7_config(max_head=4096 + number))
            if number % 3:
                await asyncio.sleep(0.02)
            else:
                await settled(workers)
        await settled(workers)
        going = False
        await asyncio.wait_for(asyncio.gather(*loads), 60)
        assert set(answers) == {(200, "hello")}
        # Connections to servers that former settings made are closed: those of now are one a client and server at most.
        await until(lambda: workers.totals().now.get("connections") == 0)
        of_worker = workers.totals().now_of
        await until(lambda: sum(of_worker(number).get("pooled", 0) for number in (0, 1)) <= 4 * len(loads))
        await until(lambda: workers.totals().number("requests") == len(answers))
        assert not workers.status()["faults"]


@pytest.mark.asyncio
async def test_more_and_fewer_workers() -> None:
    async with backend() as port, opened(ready=table(port), workers=1) as workers:
        client = await connect(port_of(workers))
        assert await client.get() == (200, "hello")
        await workers.change(l7_config(workers=3))
        await until(lambda: len(pids(workers)) == 3 and all(pids(workers)))
        await settled(workers)
        assert await client.get() == (200, "hello")
        before = pids(workers)
        await workers.change(l7_config(workers=1))
        # The sockets of those that go are served on.
        assert {await get(port_of(workers)) for _ in range(40)} == {(200, "hello")}
        await until(lambda: not alive(before[1]) and not alive(before[2]))
        assert pids(workers) == before[:1]
        assert {await get(port_of(workers)) for _ in range(40)} == {(200, "hello")}
        assert await client.get() == (200, "hello")
        client.close()


@pytest.mark.asyncio
async def test_workers_that_are_to_end_hear_of_the_servers_that_their_requests_wait_for() -> None:
    asleep = table()
    asleep.clusters["/a:1"] = cluster_at(hold=True)
    async with backend() as port, opened(ready=asleep, workers=3) as workers:
        clients = [await connect(port_of(workers)) for _ in range(30)]
        answers = [asyncio.create_task(client.get()) for client in clients]
        await until(lambda: workers.totals().clusters_now.get("/a:1", {}).get("held") == 30)
        before = pids(workers)
        await workers.change(l7_config(workers=1))
        workers.apply(TableDelta(clusters={"/a:1": cluster_at(port, hold=True)}))
        assert set(await asyncio.gather(*answers)) == {(200, "hello")}
        for client in clients:
            client.close()
        await until(lambda: not alive(before[1]) and not alive(before[2]))


@pytest.mark.asyncio
async def test_those_who_are_held_get_an_answer_before_the_workers_end() -> None:
    asleep = table()
    asleep.clusters["/a:1"] = cluster_at(hold=True)
    async with opened(ready=asleep) as workers:
        clients = [await connect(port_of(workers)) for _ in range(10)]
        answers = [asyncio.create_task(client.get()) for client in clients]
        await until(lambda: workers.totals().clusters_now.get("/a:1", {}).get("held") == 10)
        await workers.drain(6)
        assert {status for status, _ in await asyncio.gather(*answers)} == {503}
        for client in clients:
            client.close()


@pytest.mark.asyncio
async def test_draining_lets_requests_end() -> None:
    gate = asyncio.Event()
    async with backend(gate=gate) as port, opened(ready=table(port)) as workers:
        clients = [await connect(port_of(workers)) for _ in range(10)]
        idle = await connect(port_of(workers))
        answers = [asyncio.create_task(client.get()) for client in clients]
        await until(lambda: workers.totals().now.get("requests_open") == 10)
        before, at = pids(workers), port_of(workers)
        draining = asyncio.create_task(workers.drain(60))
        assert await idle.at_end()
        gate.set()
        await draining
        assert set(await asyncio.gather(*answers)) == {(200, "hello")}
        assert all([await client.at_end() for client in (*clients, idle)])
        assert await refused(at)
        assert not any(map(alive, before))
        assert workers.totals().number("requests") == 10
        for client in (*clients, idle):
            client.close()


@pytest.mark.asyncio
async def test_with_few_files_the_sockets_of_workers_that_go_are_served_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And labels can't take files that all else needs."""
    monkeypatch.setattr("lb7.workers.open_many_files", lambda: 16)
    async with backend() as port, opened(ready=table(port)) as workers:
        workers.apply(TableDelta({name: Listener(name, "http", ("127.0.0.1:0",)) for name in ("port:1", "port:2")}))
        await until(lambda: workers.problems)
        await settled(workers)
        assert set(workers.problems) == {"port:2"}
        assert "more than 4, which is a quarter of the open files" in workers.problems["port:2"]
        await workers.change(l7_config(workers=1))
        await until(lambda: not workers.status()["draining"])
        await settled(workers)
        assert workers.status()["slots_without_worker"] == []
        for name in ("http", "port:1"):
            assert {await get(port_of(workers, name)) for _ in range(20)} == {(200, "hello")}
        workers.apply(TableDelta({"port:1": None}))
        await until(lambda: not workers.problems)
        await settled(workers)
        assert await get(port_of(workers, "port:2")) == (200, "hello")


@pytest.mark.asyncio
async def test_slots_that_nobody_serves_are_told() -> None:
    async with backend() as port, opened(ready=table(port), workers=1) as workers:
        (pid,) = pids(workers)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: workers.status()["slots_without_worker"] == [0])
        await until(lambda: workers.status()["slots_without_worker"] == [])


@pytest.mark.asyncio
async def test_an_odd_listener_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Listening.put

    def odd(self: Listening, name: str, addresses: tuple[str, ...]) -> None:
        if name == "port:1":
            raise RuntimeError("odd")
        put(self, name, addresses)

    monkeypatch.setattr(Listening, "put", odd)
    async with backend() as port, opened() as workers:
        listeners = {name: Listener(name, "http", ("127.0.0.1:0",)) for name in ("port:1", "port:2")}
        workers.apply(TableDelta({**listeners}, {("http", "a.example"): route()}, {"/a:1": cluster_at(port)}))
        await settled(workers)
        assert workers.problems == {"port:1": "listener port:1: RuntimeError: odd"}
        assert await get(port_of(workers, "port:2")) == (200, "hello")


async def busy(workers: Workers, count: int = 16) -> list[Client]:
    """Clients whose requests are with both workers; the backend answers none."""
    clients: list[Client] = []
    while not all(workers.totals().now_of(number).get("requests_open") for number in (0, 1)):
        for _ in range(count):
            clients.append(await connect(port_of(workers)))
            clients[-1].writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        await until(lambda: workers.totals().now.get("requests_open") == len(clients))
    return clients


@pytest.mark.asyncio
@pytest.mark.parametrize("closing", [False, True])
async def test_the_end_does_not_wait_for_workers_that_were_to_go_before(closing: bool) -> None:
    async with backend(gate=asyncio.Event()) as port, opened(ready=table(port)) as workers:
        clients = await busy(workers)
        before = pids(workers)
        await workers.change(l7_config(workers=1))
        assert workers.status()["draining"] == 1
        async with asyncio.timeout(PATIENCE):
            await (workers.close() if closing else workers.drain(0.2))
        assert not any(map(alive, before))
        for client in clients:
            client.close()


@pytest.mark.asyncio
async def test_one_that_drains_still_counts_beside_the_one_in_its_place() -> None:
    gate = asyncio.Event()
    async with backend(gate=gate) as port, opened(ready=table(port)) as workers:
        clients = await busy(workers)
        totals, before = workers.totals(), pids(workers)
        await workers.change(l7_config(workers=1))
        await workers.change(l7_config(workers=2))
        await settled(workers)
        blocks = totals.blocks
        await until(lambda: totals.blocks > blocks + 12)  # all have told how it is now
        assert workers.status()["draining"] == 1
        assert totals.now["requests_open"] == totals.clusters_now["/a:1"]["active"] == len(clients)
        idle = [await connect(port_of(workers)) for _ in range(40)]
        assert {(await client.get("b.example"))[0] for client in idle} == {503}
        await until(lambda: workers.status()["workers"][1]["connections"] > 0)
        gate.set()
        await until(lambda: not workers.status()["draining"] and not alive(before[1]))
        await until(lambda: not totals.clusters_now)
        # The end of the former one takes nothing from the one of now.
        assert len(totals.workers) == 2
        assert workers.status()["workers"][1]["connections"] > 0
        for client in (*clients, *idle):
            client.close()


@pytest.mark.asyncio
async def test_draining_ends_in_time() -> None:
    async with backend(gate=asyncio.Event()) as port, opened(ready=table(port)) as workers:
        client = await connect(port_of(workers))
        answer = asyncio.create_task(client.get())
        await until(lambda: workers.totals().now.get("requests_open") == 1)
        before = pids(workers)
        await workers.drain(0.2)
        assert not any(map(alive, before))
        await asyncio.gather(answer, return_exceptions=True)
        assert answer.exception()
        client.close()


# --- TLS ---


def certificate(authority: trustme.CA, folder: Path, name: str, *names: str) -> None:
    """A PEM file, put there at once."""
    made = authority.issue_cert(*names)
    (folder / f".{name}").write_bytes(made.private_key_and_cert_chain_pem.bytes())
    (folder / f".{name}").rename(folder / name)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.asyncio
async def test_tls_waits_for_a_certificate_and_follows_the_folder(tmp_path: Path) -> None:
    authority = trustme.CA()
    client = trusting(authority)
    listener = Listener("https", "http", ("127.0.0.1:0",), tls=True)
    async with backend() as port, opened(ready=table(port, listener=listener), cert_dir=str(tmp_path)) as workers:
        assert "no usable certificate" in workers.problems["https"]
        assert str(tmp_path) in workers.problems["https"]
        certificate(authority, tmp_path, "a.pem", "a.example")
        await until(lambda: not workers.problems)
        await settled(workers)
        at = port_of(workers, "https")
        assert await get(at, ssl=client, server_hostname="a.example") == (200, "hello")
        connected = await connect(at, ssl=client, server_hostname="a.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            await get(at, ssl=client, server_hostname="b.example")
        certificate(authority, tmp_path, "b.pem", "b.example")
        await until(lambda: "b.pem" in workers.status()["certificates"])
        await settled(workers)
        assert await get(at, ssl=client, server_hostname="b.example") == (200, "hello")
        assert await connected.get() == (200, "hello")
        (tmp_path / "b.pem").write_text("nonsense")
        await until(lambda: "b.pem" in workers.status()["bad_certificates"])
        assert await get(at, ssl=client, server_hostname="b.example") == (200, "hello")
        connected.close()


@pytest.mark.asyncio
async def test_names_without_rules_are_refused_where_they_are_to_be(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate(authority, tmp_path, "a.pem", "*.shop.example")
    listener = Listener("https", "http", ("127.0.0.1:0",), by="sni", tls=True, cert="/etc/ssl/a.pem", known_names=True)
    async with (
        backend() as port,
        opened(ready=table(port, host="a.shop.example", listener=listener), cert_dir=str(tmp_path)) as workers,
    ):
        at, context = port_of(workers, "https"), trusting(authority)
        assert await get(at, "other.example", ssl=context, server_hostname="a.shop.example") == (200, "hello")
        with pytest.raises(OSError):
            await get(at, "b.shop.example", ssl=context, server_hostname="b.shop.example")
        workers.apply(TableDelta(hosts={("http", "b.shop.example"): route()}))
        await settled(workers)
        assert await get(at, "b.shop.example", ssl=context, server_hostname="b.shop.example") == (200, "hello")


@pytest.mark.asyncio
async def test_a_large_table_is_there_after_a_worker_was_replaced() -> None:
    count = 5000
    async with backend() as port, opened(ready=table(port)) as workers:
        clusters: dict[str, Cluster | None] = {}
        hosts: dict[HostKey, HostRules | None] = {}
        for number in range(count):
            name = f"/c{number}:1"
            clusters[name] = cluster_at(port, port + 1, port + 2, name=name)
            hosts["http", f"c{number}.example"] = route(name)
        workers.apply(TableDelta({}, hosts, clusters))
        await settled(workers)
        for pid in pids(workers):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: workers.replaced == 2)
        await settled(workers)
        assert await get(port_of(workers), "c0.example") == (200, "hello")
        assert await get(port_of(workers), f"c{count - 1}.example") == (200, "hello")
        assert HTTP.name in workers.addresses
