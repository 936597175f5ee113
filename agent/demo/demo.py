"""`pharos demo`: a simulated cluster, Pharos in front of it, what to try, and every change as it happens.

Everything runs in this one process, on loopback, on free ports, without privileges: a simulated
Mesos master with agents at 127.0.1.x, a Marathon whose tasks are real HTTP servers, a second Marathon
and a Chronos, and the service as `pharos run` would start it. An app is scaled up and down all the
time; for each change the demo asks DNS until it tells the truth and says how long that took, and then connects to the
app's virtual IP, which a proxy carries at an address of 127.64.0.0/10, and asks the edge for its host name. Another app
is scaled by Pharos: the demo's requests for it come and go, and so do its instances.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import dnslib
import uvloop

from agent import log
from agent.config import load_text
from agent.demo.marathon_api import MarathonApi
from agent.demo.marathon_deployments import DeployingMarathon
from agent.demo.scaling_show import APP as LOADED
from agent.demo.scaling_show import DEFINITION, SECTION, show_scaling
from agent.demo.scaling_show import VHOST as LOADED_VHOST
from agent.demo.simulation import SimulatedCluster
from agent.demo.spec import PortSpec, TaskSpec
from agent.demo.task_servers import TaskServers
from agent.service import Service
from agent.serving import serve
from lb4.vip import VipKey
from mesos_dns.catalog import Delta
from mesos_dns.model import Task

AGENTS = tuple(f"127.0.1.{number}" for number in range(1, 5))
SCALED = "/web"
SIZES = (4, 2, 5, 3)
PAUSE = 4.0
"""Seconds between two scalings."""
RANGE = "127.64.0.0/10"
"""Addresses of virtual IPs: any program may listen there."""
CONNECTIONS = 24
"""To the virtual IP and to the edge, after each scaling."""
VHOST = "web.example.test"

APPS = (
    {"id": SCALED, "instances": 3, "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": VHOST}},
    {"id": "/shop/cart", "instances": 2},
    {"id": "/shop/db", "instances": 1},
    DEFINITION,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pharos demo`."""
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long (default: at Ctrl-C)")


def run(seconds: float | None) -> int:
    """Run the demo until Ctrl-C or for so many seconds; 0 at its end."""
    log.setup("warning")
    return uvloop.run(_demo(seconds))


async def _demo(seconds: float | None) -> int:
    with tempfile.TemporaryDirectory(prefix="pharos-demo-") as folder:
        vip_port = _free_port()
        async with _cluster(vip_port) as (sim, marathon):
            config = load_text(
                f'state_dir = "{folder}"\ndrain_timeout = "1s"\n'
                f'[mesos]\nmasters = ["{sim.urls[0]}"]\n'
                f'[dns]\nlisten = ["127.0.0.1:0"]\n'
                f'[api]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = ["127.0.0.1:0"]\n'
                f'[l4]\ndataplane = "proxy"\nrange = "{RANGE}"\n'
                f'[marathon]\nurls = ["{marathon.framework.webui_url}"]\n'
                f'[l7]\nhttp = ["127.0.0.1:0"]\nhttps = []\napp_id = []\nservice_ports = false\nworkers = 1\n'
                f"{SECTION}",
                str(Path(folder) / "pharos.toml"),
            )

            async def show(service: Service) -> None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await _show(service, marathon, vip_port)

            code = await serve(config, started=show)
    _say("The end: everything that was started is stopped.")
    return code


@contextlib.asynccontextmanager
async def _cluster(vip_port: int) -> AsyncIterator[tuple[SimulatedCluster, DeployingMarathon]]:
    """A master, four agents, two Marathons and a Chronos; the first Marathon's tasks really serve, SCALED's also at a
    virtual IP."""
    async with AsyncExitStack() as stack:
        sim = SimulatedCluster(heartbeat=5.0)
        cluster = sim.cluster
        for address in AGENTS:
            cluster.add_agent(address)
        framework = cluster.add_framework("marathon", principal="marathon", hostname="127.0.0.1")
        marathon = DeployingMarathon(cluster, framework, servers=TaskServers(), pace=0.2)
        api = MarathonApi(marathon)
        await api.start()
        stack.push_async_callback(api.stop)
        framework.webui_url = api.url
        for app in APPS:
            labels = {"VIP_0": f"{SCALED}:{vip_port}"} if app["id"] == SCALED else {}
            ports = [{"name": "http", "labels": labels}]
            marathon.create({**app, "cmd": "serve", "cpus": 0.1, "mem": 32, "portDefinitions": ports})
        agents = list(cluster.agents.values())
        chronos = cluster.add_framework("chronos")
        cluster.start(chronos, TaskSpec("report", task_prefix="ct:1:report"), agents[0])
        other = cluster.add_framework("marathon-user", principal="marathon-user")
        cluster.start(other, TaskSpec("blog", ports=(PortSpec("http"),)), agents[1])
        await stack.enter_async_context(sim)
        yield sim, marathon


async def _show(service: Service, marathon: DeployingMarathon, vip_port: int) -> None:
    key = VipKey("tcp", "web.marathon", vip_port)
    balancer = service.balancing.balancer
    await _until(lambda: not service.catalog.sources["mesos"].stale and not marathon.deployments)
    await _until(lambda: balancer is not None and balancer.is_served(key))
    await _until(lambda: service.edging.ready)
    dns, api, admin, edge = _bound_ports(service)
    allocated = service.balancing.table.address_of(key.name)
    vip = (allocated.address if allocated is not None else "", vip_port)
    _say(
        "Pharos follows a simulated Mesos cluster: 4 agents, two Marathons and a Chronos. Try, in another terminal:\n",
        f"  dig @127.0.0.1 -p {dns} web.marathon.mesos",
        f"  dig @127.0.0.1 -p {dns} _web._tcp.marathon.mesos SRV",
        f"  dig @127.0.0.1 -p {dns} -x {AGENTS[0]}",
        f"  curl http://127.0.0.1:{api}/v1/hosts/cart.shop.marathon.mesos",
        f"  curl http://127.0.0.1:{api}/v1/services/_cart.shop._tcp.marathon.mesos",
        f"  curl {_first_url(marathon)}     # a task itself",
        f"  dig @127.0.0.1 -p {dns} web.marathon.l4lb.thisdcos.directory",
        f"  curl http://{vip[0]}:{vip[1]}/     # the virtual IP: another task each time",
        f"  curl -H 'Host: {VHOST}' http://127.0.0.1:{edge}/     # the edge: by host name",
        f"  {_program()} routes {VHOST} / --api http://127.0.0.1:{api}",
        f"  {_program()} vips --api http://127.0.0.1:{api}",
        f"  {_program()} tasks web --api http://127.0.0.1:{api}",
        f"  {_program()} status --admin http://127.0.0.1:{admin}",
        f"  {_program()} scale {LOADED} explain --admin http://127.0.0.1:{admin}",
        f"  curl -H 'Host: {LOADED_VHOST}' http://127.0.0.1:{edge}/     # while it sleeps this wakes it",
        f"  curl -X PUT -d '{{\"instances\": 6}}' {marathon.framework.webui_url}/v2/apps/shop/cart",
        f"\nMarathon's app {SCALED} is scaled by the demo; this is what Pharos hears, and when DNS tells it.",
        f"{LOADED} is scaled by Pharos, as the demo's requests for it come and go.",
        "Ctrl-C ends it all.\n",
    )
    service.catalog.listen(_print_tasks, replay=False)
    async with asyncio.TaskGroup() as shown:
        shown.create_task(show_scaling(marathon, edge, lambda text: _say(f"{_clock()} {text}")))
        for size in itertools.cycle(SIZES):
            await _scale(marathon, size, dns)
            await _connect(vip)
            await _connect(("127.0.0.1", edge), VHOST)
            await asyncio.sleep(PAUSE)


async def _scale(marathon: DeployingMarathon, size: int, dns: int) -> None:
    """Scale the app and say when DNS had the last of the changes."""
    last = 0.0
    told = asyncio.Event()

    def note(task: object, status: object) -> None:
        nonlocal last
        last = time.monotonic()
        told.set()

    marathon.cluster.schedulers.append(note)
    try:
        app = marathon.apps[SCALED]
        deployment = marathon.update(app, {"instances": size}, force=True)
        await deployment.done.wait()
    finally:
        marathon.cluster.schedulers.remove(note)
    wanted = {address for task in marathon.apps[SCALED].instances.values() for address, _ in task.task.endpoints}
    for _ in range(4000):
        if await _ask(dns, "web.marathon.mesos") == wanted:
            break
        await asyncio.sleep(0.0005)
    if told.is_set():
        late = (time.monotonic() - last) * 1000
        _say(f"{_clock()}   {SCALED} has {size} instances; DNS said so {late:.1f} ms after the last change")


async def _connect(to: tuple[str, int], host: str = "") -> None:
    """Ask at a virtual IP, or for a host at the edge, again and again, and say who answered."""
    tasks: set[str] = set()
    failed = 0
    began = time.monotonic()
    for _ in range(CONNECTIONS):
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection(*to)
                writer.write(f"GET / HTTP/1.0\r\nHost: {host or to[0]}\r\n\r\n".encode())
                answer = await reader.read(4096)
            writer.close()
            tasks.add(json.loads(answer.partition(b"\r\n\r\n")[2])["task"])
        except (OSError, ValueError, KeyError, TimeoutError):
            failed += 1
    milliseconds = (time.monotonic() - began) * 1000 / CONNECTIONS
    what = f"requests for {host} to the edge" if host else f"connections to http://{to[0]}:{to[1]}/"
    _say(f"{_clock()}   {CONNECTIONS} {what} reached {len(tasks)} tasks, {failed} failed, {milliseconds:.1f} ms each")


async def _ask(port: int, name: str) -> set[str]:
    """The addresses of a name, asked over UDP as any client would."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        await loop.sock_sendall(sock, dnslib.DNSRecord.question(name, "A").pack())
        async with asyncio.timeout(2.0):
            reply = dnslib.DNSRecord.parse(await loop.sock_recv(sock, 4096))
    return {str(record.rdata) for record in reply.rr}


def _print_tasks(delta: Delta) -> None:
    for before, after in delta.changes.values():
        task = after or before
        if isinstance(task, Task):
            state = after.state.removeprefix("TASK_").lower() if isinstance(after, Task) else "gone"
            sign = "-" if after is None else "+" if before is None else " "
            addresses = ",".join(address for network in task.networks for address in network.addresses)
            _say(f"{_clock()} {sign} {task.discovery_name or task.name:<12} {state:<10} {addresses:<12} {task.id}")


def _program() -> str:
    """How another terminal calls `pharos`, where it may well not be in PATH: as this process was."""
    started = Path(sys.argv[0]).absolute()
    return shlex.quote(str(started)) if started.name == "pharos" else f"{shlex.quote(sys.executable)} -m agent"


def _first_url(marathon: DeployingMarathon) -> str:
    for instance in marathon.apps[SCALED].instances.values():
        for address, port in instance.task.endpoints:
            return f"http://{address}:{port}/"
    return ""


async def _until(condition: Callable[[], bool]) -> None:
    """Wait, looking every 20 ms, until it holds; a demo that can't start says so after 20 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise RuntimeError("the simulated cluster did not come up in 20 s")


def _free_port() -> int:
    """One for the virtual IP's addresses, which nobody else has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _bound_ports(service: Service) -> tuple[int, int, int, int]:
    """Where DNS, the API, the admin API and the edge listen."""
    edge = service.edging.status()
    assert service.http is not None
    assert edge is not None
    http = service.http.part_addresses()
    at = service.naming.addresses("dns")[0][1], http["api"][0][1], http["admin"][0][1]
    return (*at, int(edge["listeners"]["http"][0].rpartition(":")[2]))


def _clock() -> str:
    now = time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d}"


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stdout, flush=True)
