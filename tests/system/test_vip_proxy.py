"""The proxy as an ordinary user: no capability, any 127.x address, TCP and UDP, more clients than it may have files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb4.services import BackendKey
from tests.fakes.proxied import ask, backends, connected, named_udp, spread, udp_client, vip, who

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534

# Its argument: services with their backends. A line on its input: print what was counted. End of input: end.
PROGRAM = """
import asyncio, json, os, resource, sys
import uvloop
import lb4.proxy_pair, lb4.proxy_udp  # before root's files are out of reach
from lb4.proxy import Proxy
from lb4.services import BackendKey, Destination, Kind, Operation, ServiceKey, Settings

user, files, spare, services = json.loads(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

async def main():
    proxy = Proxy()
    await proxy.open()
    operations = []
    for key, backends in services:
        key = ServiceKey(*key)
        operations += [Operation(Kind.ADD_ADDRESS, key), Operation(Kind.ADD_SERVICE, key, Settings("rr"))]
        for backend in backends:
            operations.append(Operation(Kind.ADD_DESTINATION, key, None, BackendKey(*backend), Destination()))
    failures = [[each.operation.service[1], each.errno, each.reason] for each in await proxy.apply(operations)]
    capabilities = [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if spare:
        now = max(int(number) for number in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (now + spare, now + spare))
    print(json.dumps({"uid": os.geteuid(), "capabilities": int(capabilities, 16), "failures": failures}), flush=True)
    while await reader.readline():
        counters = proxy.tcp.counters
        print(json.dumps({"open": proxy.tcp.open, "held": counters.held, "scarce": counters.scarce}), flush=True)
    await proxy.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}

uvloop.run(main())
"""


class Running:
    """The program, with what it said first."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.said = self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    async def counted(self) -> dict[str, Any]:
        """What it has counted by now."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return await asyncio.to_thread(self._line)


@contextlib.contextmanager
def ordinary_user(services: list[tuple[Any, list[BackendKey]]], files: int = 1024, spare: int = 0) -> Iterator[Running]:
    """The program as nobody (as who we are, if that is not root); it has to end well.

    It may have so many `files`; once it runs only so many more than it has, if `spare` says so.
    """
    argument = json.dumps([NOBODY, files, spare, services])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    ) as process:
        try:
            yield Running(process)
            process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0


@pytest.mark.asyncio
@pytest.mark.may_block("it starts a program and reads its first line")
async def test_any_loopback_address_without_privileges() -> None:
    tcp, udp = vip("tcp", "127.64.0.1"), vip("udp", "127.100.7.9")
    far = tcp._replace(address="192.0.2.77")
    async with backends(3) as servers, named_udp(2) as udp_servers:
        services = [
            (tcp, [server.key for server in servers]),
            (udp, [server.key for server in udp_servers]),
            (far, [servers[0].key]),
        ]
        with ordinary_user(services) as running:
            assert running.said["uid"] == (NOBODY if os.geteuid() == 0 else os.geteuid())
            assert running.said["capabilities"] == 0 or os.geteuid() != 0
            assert {failure[0] for failure in running.said["failures"]} == {far.address}
            assert [far.address, 99, "the address is not local here"] in running.said["failures"]
            assert await spread(tcp, 30) == {server.key.port: 10 for server in servers}
            async with udp_client(udp) as one, udp_client(udp) as two:
                assert {await ask(one), await ask(two)} == {server.key.port for server in udp_servers}
        with pytest.raises(ConnectionRefusedError):
            await who(tcp)


@pytest.mark.asyncio
@pytest.mark.may_block("it starts a program and reads its first line")
async def test_more_clients_than_files() -> None:
    """With room for some dozens, 200 clients all get their turn: nobody is refused, and nothing spins."""
    needed = 1000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < needed:
        pytest.skip(f"needs {needed} open files for its own clients")
    tcp = vip("tcp", "127.64.0.2")
    async with backends(2) as servers:
        with ordinary_user([(tcp, [server.key for server in servers])], files=400) as running:

            async def client() -> int:
                async with connected(tcp) as (reader, writer):
                    port = int(await reader.readline())
                    writer.write_eof()
                    await reader.read()
                    return port

            async with asyncio.timeout(60):
                ports = Counter(await asyncio.gather(*(client() for _ in range(200))))
            assert ports.total() == 200
            found = await running.counted()
            assert found["held"] > 0
            assert found["held"] < 200
            assert found["scarce"] == 0


@pytest.mark.asyncio
@pytest.mark.may_block("it starts a program and reads its first line")
async def test_when_files_run_out_all_the_same_it_goes_on() -> None:
    """The limits leave room for the rest of the process; here something else has taken that, too."""
    tcp = vip("tcp", "127.64.0.3")
    async with backends(1) as (server,):
        with ordinary_user([(tcp, [server.key])], spare=7) as running:
            with contextlib.ExitStack() as stack:
                for _ in range(20):
                    sock = stack.enter_context(socket.socket())
                    sock.setblocking(False)
                    sock.connect_ex(tcp[1:])
                while (await running.counted())["scarce"] == 0:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                while True:
                    with contextlib.suppress(ConnectionError, ValueError):
                        assert await who(tcp) == server.key.port
                        break
                    await asyncio.sleep(0.05)
