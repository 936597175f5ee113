"""Virtual IPs of one real process over the proxy data plane, with a simulated Marathon whose tasks really serve."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import pytest

from agent.demo.marathon_deployments import DeployingMarathon
from tests.ports import free_ports
from tests.system.resolver_lab import Program, told, until
from tests.system.simulated import Simulated, simulated

AGENTS = ("127.0.3.1", "127.0.3.2")
RANGE = "127.64.0.0/10"
ZONE = "l4lb.thisdcos.directory"
L4 = f'[l4]\ndataplane = "proxy"\nrange = "{RANGE}"\nreconcile = "1s"\n'


class Site:
    """A cluster with a Marathon, and `pharos run` in front of it."""

    def __init__(self, folder: Path, cluster: Simulated, marathon: DeployingMarathon) -> None:
        self.cluster, self.marathon = cluster, marathon
        self.folder = folder
        self.dns, self.api, self.port = free_ports(3)
        self.config = folder / "pharos.toml"
        self.configure(L4)
        command = [sys.executable, "-m", "agent", "run", "-c", str(self.config)]
        self.pharos = Program(command, folder / "pharos.log")

    def configure(self, l4: str) -> None:
        """Write the configuration with this text as `[l4]`."""
        self.config.write_text(
            f'state_dir = "{self.folder}/state"\ndrain_timeout = "1s"\n[mesos]\nmasters = ["{self.cluster.url}"]\n'
            f'[dns]\nlisten = ["127.0.0.1:{self.dns}"]\n[api]\nlisten = ["127.0.0.1:{self.api}"]\n{l4}'
        )

    # --- apps -------------------------------------------------------------------------------------

    def run(self, work: Callable[[], Any]) -> None:
        """Begin a deployment, and wait for its end."""
        deployment = self.cluster.call(work)
        until(deployment.done.is_set, "deployed")

    def create(self, name: str, label: str, marathon: DeployingMarathon | None = None, **more: Any) -> None:
        """An app `/NAME` of 3 instances with a VIP's label, where nothing else is said."""
        made = marathon or self.marathon
        ports = [{"name": "http", "labels": {"VIP_0": label}}]
        app = {"id": f"/{name}", "instances": 3, "cmd": "serve", "cpus": 0.1, "mem": 32, "portDefinitions": ports}
        self.run(lambda: made.create({**app, **more}))

    def scale(self, name: str, instances: int) -> None:
        """Another number of instances."""
        self.run(lambda: self.marathon.update(self.marathon.apps[f"/{name}"], {"instances": instances}))

    def tasks(self, name: str, marathon: DeployingMarathon | None = None) -> set[str]:
        """The tasks of an app."""
        return set((marathon or self.marathon).apps[f"/{name}"].instances)

    # --- what Pharos tells ------------------------------------------------------------------------

    def ask(self, name: str, rtype: str = "A") -> list[str]:
        """What its DNS tells; nothing while there is none."""
        with contextlib.suppress(OSError, dns.exception.DNSException):
            query = dns.message.make_query(f"{name}.{ZONE}", rtype)
            return told(dns.query.udp(query, "127.0.0.1", 2, port=self.dns))
        return []

    def address(self, name: str) -> str:
        """A VIP's address, when its name answers."""
        until(lambda: self.ask(name) not in ([], ["NXDOMAIN"]), f"{name} answers", self.pharos.text)
        (address,) = self.ask(name)
        return address

    def get(self, path: str) -> bytes:
        """A document of its API."""
        return http_get(("127.0.0.1", self.api), path)

    def vips(self) -> dict[str, Any]:
        """Its virtual IPs by name."""
        return {row["vip"].replace(f".{ZONE}:{self.port}", ""): row for row in json.loads(self.get("/v1/vips"))}

    def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels."""
        lines = [line for line in self.get("/metrics").decode().splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def until_ready(self) -> None:
        """Wait until it says that it is."""

        def ready() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(self.get("/readyz"))
            return False

        until(lambda: self.pharos.running.poll() is not None or ready(), "ready", self.pharos.text)
        assert self.pharos.running.poll() is None, self.pharos.text()

    def reload(self, l4: str) -> None:
        """Have it take another `[l4]`; returns when it has."""
        before = self.pharos.text().count("configuration reloaded")
        self.configure(l4)
        self.pharos.running.send_signal(signal.SIGHUP)
        until(lambda: self.pharos.text().count("configuration reloaded") > before, "reloaded", self.pharos.text)

    # --- connections ------------------------------------------------------------------------------

    def task_at(self, address: str) -> str:
        """The task that answers a new connection to a VIP."""
        return str(json.loads(http_get((address, self.port), "/"))["task"])

    def until_reached(self, name: str, wanted: Callable[[], set[str]]) -> None:
        """Wait until connections to a VIP reach exactly these tasks."""
        address = self.address(name)

        def reached() -> set[str]:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return {self.task_at(address) for _ in range(20)}
            return set()

        until(lambda: reached() == wanted(), f"connections to {name} reach {wanted()}", self.pharos.text)

    def is_refused(self, address: str) -> bool:
        """Whether nobody listens at a VIP."""
        with socket.socket() as sock:
            return sock.connect_ex((address, self.port)) != 0


def http_get(place: tuple[str, int], path: str) -> bytes:
    """A document by a connection of its own. Raises OSError, HTTPException, also for what is no success."""
    connection = http.client.HTTPConnection(*place, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        with connection.getresponse() as response:
            data = response.read()
            if response.status != 200:
                raise http.client.HTTPException(f"{path}: {response.status}")
            return data
    finally:
        connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with simulated() as cluster:
        for address in AGENTS:
            cluster.call(lambda a=address: cluster.cluster.add_agent(a))  # type: ignore[misc]
        with cluster.marathon() as marathon:
            made = Site(tmp_path_factory.mktemp("vips"), cluster, marathon)
            try:
                made.until_ready()
                yield made
            finally:
                made.pharos.end()


@pytest.fixture
def web(site: Site) -> Iterator[str]:
    """The name of a VIP of three checked instances, each of which is reached."""
    check = [{"protocol": "MESOS_HTTP", "path": "/health"}]
    site.create("web", f"/web:{site.port}", healthChecks=check)
    site.until_reached("web.marathon", lambda: site.tasks("web"))
    yield "web.marathon"
    site.run(lambda: site.marathon.remove(site.marathon.apps["/web"]))
    until(lambda: site.ask("web.marathon") == ["NXDOMAIN"], "its name is gone")


def test_connections_follow_the_app(site: Site, web: str) -> None:
    assert len(site.tasks("web")) == 3
    address = site.address(web)
    assert site.ask(f"_{site.port}._tcp.{web}", "SRV") == [f"0 1 {site.port} {web}.{ZONE}."]
    for instances in (5, 1):
        site.scale("web", instances)
        assert len(site.tasks("web")) == instances
        site.until_reached(web, lambda: site.tasks("web"))
    site.scale("web", 0)
    until(lambda: site.ask(web) == ["NXDOMAIN"], "a VIP without tasks has no name")
    until(lambda: site.is_refused(address), "and nobody listens")
    site.scale("web", 2)
    site.until_reached(web, lambda: site.tasks("web"))
    assert site.address(web) == address


def test_killed_tasks_are_replaced_and_unhealthy_ones_avoided(site: Site, web: str) -> None:
    app = site.marathon.apps["/web"]
    first, *others = app.instances.values()
    site.cluster.wait(site.marathon.kill(first.task))
    until(lambda: len(site.tasks("web")) == 3 and first.task.id not in site.tasks("web"), "replaced")
    site.until_reached(web, lambda: site.tasks("web"))

    sick = others[0]
    site.cluster.call(lambda: site.marathon.set_health(sick, False))
    site.until_reached(web, lambda: site.tasks("web") - {sick.task.id})
    states = {each["task"]: (each["weight"], each["state"]) for each in site.vips()[web]["backend"]}
    assert states[sick.task.id] == (0, "unhealthy")
    assert sorted(states.values()) == [(0, "unhealthy"), (1, "active"), (1, "active")]
    for instance in app.instances.values():
        site.cluster.call(lambda i=instance: site.marathon.set_health(i, False))  # type: ignore[misc]
    until(lambda: {each["state"] for each in site.vips()[web]["backend"]} == {"fail-open"}, "none is better")
    site.until_reached(web, lambda: site.tasks("web"))
    for instance in app.instances.values():
        site.cluster.call(lambda i=instance: site.marathon.set_health(i, True))  # type: ignore[misc]
    until(lambda: {each["state"] for each in site.vips()[web]["backend"]} == {"active"}, "all are healthy again")


def test_vip_file(site: Site, web: str) -> None:
    path = site.folder / "vips.toml"
    with fixed_server() as server:
        path.write_text(
            f'[[vip]]\nname = "fixed.file"\nport = {site.port}\n'
            f'servers = [{{ address = "127.0.0.1", port = {server} }}]\n'
            f'[[vip]]\nname = "chosen.file"\nport = {site.port}\nbackends = {{ app = "/web", port = "http" }}\n'
        )
        site.reload(f'{L4}vip_file = "{path}"\n')
        site.until_reached("fixed.file", lambda: {"fixed"})
        site.until_reached("chosen.file", lambda: site.tasks("web"))
        shared = {name: row["shared"] for name, row in site.vips().items()}
        assert shared["chosen.file"] == [f"{web}.{ZONE}:{site.port}"]

        path.write_text("[[vip]]\nname = 5\n")
        until(lambda: "vips.toml" in _warnings(site), "the log says what is wrong with the file")
        site.until_reached("fixed.file", lambda: {"fixed"})
        path.write_text(f'[[vip]]\nname = "chosen.file"\nport = {site.port}\nbackends = {{ app = "/web" }}\n')
        until(lambda: site.ask("fixed.file") == ["NXDOMAIN"], "what is no longer in the file is gone")
        site.until_reached("chosen.file", lambda: site.tasks("web"))
    site.reload(L4)
    until(lambda: site.ask("chosen.file") == ["NXDOMAIN"], "without a file there are none of it")
    site.until_reached(web, lambda: site.tasks("web"))


def test_own_checks_of_a_vip_of_the_file(site: Site) -> None:
    path = site.folder / "checked.toml"
    (dead,) = free_ports(1)
    with fixed_server() as server:
        path.write_text(
            f'[[vip]]\nname = "checked.file"\nport = {site.port}\n'
            f'servers = [{{ address = "127.0.0.1", port = {server} }}, {{ address = "127.0.0.1", port = {dead} }}]\n'
            f'check = {{ type = "tcp", interval = "200ms", timeout = "100ms", fall = 2, rise = 1 }}\n'
        )
        site.reload(f'{L4}vip_file = "{path}"\n')
        site.until_reached("checked.file", lambda: {"fixed"})

        def states() -> dict[int, tuple[str, int]]:
            return {each["port"]: (each["state"], each["weight"]) for each in site.vips()["checked.file"]["backend"]}

        until(lambda: states() == {server: ("active", 1), dead: ("unhealthy", 0)}, "the dead one is found out")
        with ThreadingHTTPServer(("127.0.0.1", dead), BaseHTTPRequestHandler):
            until(lambda: states() == {server: ("active", 1), dead: ("active", 1)}, "it is back")
    until(lambda: {state for state, _ in states().values()} == {"fail-open"}, "none is better")
    site.reload(L4)


def _warnings(site: Site) -> str:
    rows = [json.loads(line) for line in site.pharos.text().splitlines()]
    return "\n".join(row["event"] for row in rows if row["level"] in ("warning", "error"))


@contextlib.contextmanager
def fixed_server() -> Iterator[int]:
    """An HTTP server that is no task: its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"task": "fixed"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


def test_one_label_in_two_frameworks_makes_two_vips(site: Site, web: str) -> None:
    with site.cluster.marathon("marathon-user") as other:
        site.create("web", f"/web:{site.port}", other, instances=2)
        site.until_reached("web.marathon-user", lambda: site.tasks("web", other))
        site.until_reached(web, lambda: site.tasks("web"))
        assert site.address(web) != site.address("web.marathon-user")
        site.run(lambda: other.remove(other.apps["/web"]))


def test_a_bad_label_is_said_once_and_costs_only_itself(site: Site, web: str) -> None:
    site.create("broken", "/broken:no-port")
    site.create("good", f"/good:{site.port}", instances=1)
    site.until_reached("good.marathon", lambda: site.tasks("good"))
    said = [line for line in _warnings(site).splitlines() if "broken:no-port" in line]
    assert len(said) == 1, said
    bad = {key: value for key, value in site.metrics().items() if key.startswith("pharos_l4_bad_labels")}
    assert sum(bad.values()) >= 1, bad
    for name in ("broken", "good"):
        site.run(lambda n=name: site.marathon.remove(site.marathon.apps[f"/{n}"]))  # type: ignore[misc]


def test_what_the_command_and_the_metrics_tell(site: Site, web: str) -> None:
    command = [sys.executable, "-m", "agent", "vips", "--api", f"http://127.0.0.1:{site.api}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith(f"{web}.{ZONE}:{site.port}")]
    assert line.split()[1:] == ["tcp", site.address(web), "serving", "3/3", "-"], shown
    one = subprocess.run([*command, web], capture_output=True, text=True, check=True).stdout
    assert all(task in one for task in site.tasks("web")), one
    missing = subprocess.run([*command, "nobody"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stdout.strip()) == (1, "")

    address = site.address(web)
    labels = f'{{port="{site.port}",protocol="tcp",vip="{web}"}}'
    counted = f"pharos_l4_vip_connections_total{labels}"
    before = site.metrics()[counted]
    for _ in range(5):
        site.task_at(address)
    until(lambda: site.metrics()[counted] >= before + 5, "connections are counted")
    wanted = {"served_vips": 1, "services": 1, "destinations": 3, "failed_services": 0}

    def as_wanted() -> bool:
        metrics = site.metrics()
        return {name: metrics[f"pharos_l4_{name}"] for name in wanted} == wanted

    until(as_wanted, "all that others had is gone")


def test_l4_is_taken_out_and_put_back(site: Site, web: str) -> None:
    address = site.address(web)
    off = L4.replace('"proxy"', '"off"')
    # Without the section a server gives no addresses, and so there are no names; with "off" only nothing is carried.
    for without, answer in (("", "NXDOMAIN"), (off, address)):
        site.reload(without)
        until(lambda: site.is_refused(address), "nobody listens")
        until(lambda expected=answer: site.ask(web) == [expected], "its name")  # type: ignore[misc]
        site.reload(L4)
        site.until_reached(web, lambda: site.tasks("web"))
        assert site.address(web) == address


def test_addresses_outlive_the_process(site: Site, web: str) -> None:
    small = L4.replace(RANGE, "127.64.7.0/28")
    site.reload(small)
    names = [f"app-{number}" for number in range(6)]
    try:
        for name in names:
            site.create(name, f"/{name}:{site.port}", instances=1)
            site.address(f"{name}.marathon")
        vips = [web, *(f"{name}.marathon" for name in names)]
        given = {name: site.address(name) for name in vips}
        assert len(set(given.values())) == len(vips)  # hashes alone would give some address twice
        for end in (site.pharos.stop, site.pharos.kill):
            end()
            site.pharos.start()
            site.until_ready()
            assert {name: site.address(name) for name in vips} == given
            for name in names:
                site.until_reached(f"{name}.marathon", lambda n=name: site.tasks(n))  # type: ignore[misc]
    finally:
        for name in names:
            if f"/{name}" in site.marathon.apps:
                site.run(lambda n=name: site.marathon.remove(site.marathon.apps[f"/{n}"]))  # type: ignore[misc]
        site.reload(L4)
