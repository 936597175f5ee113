"""`pharos run` with virtual IPs in the kernel's IPVS, under churn, killed, ended and reloaded: in a VM.

`python -m tests.vm.service_checks`: it changes the machine's network. The cluster is simulated, clients, backends and
the kernel are real (service_lab.py). Prints each check, and what was measured; ends with 1 at the first that fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agent.demo.spec import Check
from lb4.services import BackendKey, ServiceKey
from mesos_dns.catalog_file import CatalogFile
from mesos_dns.model import Task
from tests.system.simulated import simulated
from tests.system.vip_apps import App, Site, Slot
from tests.vm import ipvsadm
from tests.vm.service_churn import GRACE, Churn, figures, misled
from tests.vm.service_lab import (
    AGENTS,
    MASTER_PORT,
    Flow,
    Kernel,
    Pharos,
    address_of,
    answers,
    asked,
    build,
    connect,
    has_device,
    kernel,
    run,
    until,
    vip_routes,
    watched_routes,
)
from tests.vm.vip_traffic import Backends, Connections, Made, compiled

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
L4 = '[l4]\ndataplane = "ipvs"\nreconcile = "1s"\ndrain_timeout = "10s"\n'
CHANGES, PAUSE, RATE = 500, 0.05, 40
"""Changes in all, seconds between two, connections a second."""
FOREIGN = ServiceKey("tcp", "10.1.0.1", 9999)
FOREIGN_ROUTES = ("local 10.9.9.9 dev lo", "192.0.2.0/24 via 10.1.0.12 dev br0")


class Checks:
    """All of them, in order: each goes on with what the one before has left."""

    def __init__(self, folder: Path, program: Path, pharos: Pharos, site: Site) -> None:
        self.folder, self.program, self.pharos, self.site = folder, program, pharos, site
        self.web = App(site, 0, "web", 80, check=Check.HTTP)
        self.api = App(site, 1, "api", 8080)
        self.dns = App(site, 2, "names", 53, "udp", check=Check.HTTP)
        self.apps = [self.web, self.api, self.dns]
        self.flows: list[Flow] = []

    def wanted(self) -> Kernel:
        """The services that the kernel should have, by the cluster."""
        made = {app.service: app.wanted() for app in self.apps if any(slot.task for slot in app.slots)}
        return {**made, FOREIGN: {BackendKey("10.1.0.11", 1): 1}}

    def is_as_wanted(self) -> bool:
        """Whether it has them, and nothing else."""
        return kernel() == self.wanted()

    # --- names ------------------------------------------------------------------------------------

    def check_a_name_answers_once_the_kernel_has_it(self) -> None:
        assert asked("web.marathon") == ["NXDOMAIN"]
        for app in self.apps:
            app.change(app.slots[0], "start")
            until(lambda a=app: answers(a.dns) not in ([], ["NXDOMAIN"]), f"{app.dns} answers")  # type: ignore[misc]
            there = {(key.protocol, key.address, key.port) for key in kernel()}
            address = self.site.addresses[app.name] = address_of(app.dns)
            assert (app.protocol, address, app.port) in there
            assert address in vip_routes()
        for app in (self.web, self.dns):
            assert app.slots[0].state == "pending"
            assert kernel()[app.service] == {}
            app.change(app.slots[0], "healthy")
        until(self.is_as_wanted, "the first tasks are in the kernel")

    def check_records(self) -> None:
        address = self.site.addresses["web"]
        target = "web.marathon.l4lb.thisdcos.directory."
        assert asked("web.marathon", "SRV") == [f"0 1 80 {target}"], asked("web.marathon", "SRV")
        assert asked("_80._tcp.web.marathon", "SRV") == [f"0 1 80 {target}"]
        assert asked("_names._udp.marathon", "SRV") == ["0 1 53 names.marathon.l4lb.thisdcos.directory."]
        assert asked("web.marathon", "AAAA") == []
        backwards = ".".join(reversed(address.split(".")))
        assert asked(f"{backwards}.in-addr.arpa", "PTR", zone="") == [target]

    def check_the_kernel_has_exactly_what_the_cluster_says(self) -> None:
        for app in (self.web, self.dns):
            for slot, ways in zip(app.slots[1:], (("start", "healthy"), ("start",), ()), strict=False):
                for way in ways:
                    app.change(slot, way)
        self.api.change(self.api.slots[3], "start")
        until(self.is_as_wanted, "services, destinations and weights")
        shown = ipvsadm.shown()
        weights = {key: {b: d.weight for b, d in each.destinations.items()} for key, each in shown.items()}
        assert weights == self.wanted()
        ours = {key: each for key, each in shown.items() if key != FOREIGN}
        assert {each.settings.scheduler for each in ours.values()} == {"wlc"}
        assert vip_routes() == set(self.site.addresses.values())
        vips = self.pharos.vips()
        assert {name: row["state"] for name, row in vips.items()} == dict.fromkeys(
            ("web.marathon:80/tcp", "api.marathon:8080/tcp", "names.marathon:53/udp"), "serving"
        )
        told = {(each["ip"], each["port"]): each["state"] for each in vips["web.marathon:80/tcp"]["backend"]}
        assert list(told.values()) == ["active", "active", "pending"], told

    # --- churn ------------------------------------------------------------------------------------

    def check_no_connection_fails_under_churn_and_a_crash(self) -> None:
        for app in self.apps:
            for slot in app.slots[1:]:
                if slot.task is not None:
                    app.change(slot, "gone")
        until(self.is_as_wanted, "only the tasks that stay")
        self.flows = [Flow(*self._place(self.web), TCP), Flow(*self._place(self.dns), UDP)]
        assert [flow.backend for flow in self.flows] == [self.web.slots[0].number, self.dns.slots[0].number]
        for flow in self.flows:
            flow.start()
        churn = Churn(self.apps, seed=11)
        began = time.monotonic()
        with self._connections() as connections:
            ending = [(app, app.slots[-1]) for app in (self.web, self.api)]
            for app, slot in ending:
                for way in ("start", "healthy") if app is self.web else ("start",):
                    churn.change(app, slot, way)
            churn.go(CHANGES // 2, PAUSE)
            until(lambda: churn.look() and self._are_saved(ending), "what has begun is saved")
            for app, slot in ending:
                churn.change(app, slot, "gone")
            until(churn.look, "the kernel has it")
            # What was saved is older than what the kernel knows: it must not bring back what has ended.
            self.pharos.kill()
            killed, churn.measures = time.monotonic(), False
            churn.watch(2 * GRACE)
            self.pharos.start()
            while not self.pharos.is_ready():
                assert time.monotonic() < killed + 240, "Pharos is not back"
                churn.go(1, 4 * PAUSE)
            back = time.monotonic() - killed
            until(churn.look, "the kernel is up to date")
            churn.measures = True
            goal = max(CHANGES, sum(churn.counts.values()) + CHANGES // 4)
            while sum(churn.counts.values()) < goal:
                assert time.monotonic() < began + 400, "the kernel does not keep up"
                churn.go(10, PAUSE)
            churn.watch(2 * GRACE)
            made = connections.finish()
        took = time.monotonic() - began
        print(f"changes={sum(churn.counts.values())} {dict(churn.counts)} seconds={took:.1f}")
        print(f"killed at {killed:.1f}, ready {back:.1f} s later, short connections={len(made)}", flush=True)
        self._judge(made)
        print(f"failed=0 slowest={max(each.end - each.start for each in made) * 1000:.0f} ms")
        print(f"change at the master to the kernel under this load: {figures(churn.latencies)}")

    def check_the_kernel_equals_the_model_afterwards(self) -> None:
        took = until(self.is_as_wanted, f"what drained has left: {kernel()} wanted {self.wanted()}")
        assert vip_routes() == set(self.site.addresses.values())
        assert {name: row["state"] for name, row in self.pharos.vips().items()} == dict.fromkeys(
            ("web.marathon:80/tcp", "api.marathon:8080/tcp", "names.marathon:53/udp"), "serving"
        )
        print(f"quiet after {took:.1f} s")

    def check_vips_outlive_the_process_and_nothing_is_made_again(self) -> None:
        before = dict(self.site.addresses)
        counts = _connections_of_services()
        long = _lines_of_connections(self.flows[0].port)
        assert any("ESTABLISHED" in line for line in long), long
        with self._connections() as connections, watched_routes() as routes:
            self.pharos.stop()
            time.sleep(2)
            assert self.is_as_wanted()
            assert connect(*self._place(self.web)) in {slot.number for slot in self.web.slots if slot.good}
            self.pharos.start()
            self.pharos.until_ready()
            until(lambda: self.pharos.metric("pharos_l4_reconciles_total") >= 2, "it has looked at the kernel")
            assert self.pharos.metric("pharos_l4_operations_total") == 0, self.pharos.get("/metrics")
            assert self.is_as_wanted()
            for app in self.apps:
                self.site.addresses[app.name] = address_of(app.dns)
            assert self.site.addresses == before
            self._judge(connections.finish())
            assert routes() == []
        after = _connections_of_services()
        assert after.keys() == counts.keys()
        assert all(after[key] >= counts[key] for key in counts), (counts, after)
        assert any("ESTABLISHED" in line for line in _lines_of_connections(self.flows[0].port))

    def check_flows_have_lived_through_all_of_it(self) -> None:
        for flow in self.flows:
            flow.finish()
            assert flow.faults == []
            assert flow.answers > 50
        print(f"answers on the long connection={self.flows[0].answers}, on the UDP flow={self.flows[1].answers}")

    def check_latency_alone(self) -> None:
        churn = Churn(self.apps, seed=12)
        churn.go(40, 3 * PAUSE)
        print(f"change at the master to the kernel: {figures(churn.latencies)}")
        until(self.is_as_wanted, "quiet again")

    # --- drains -----------------------------------------------------------------------------------

    def check_drain(self) -> None:
        app = App(self.site, 3, "drain", 80, check=Check.HTTP)
        self.apps.append(app)
        first, second, third = app.slots[:3]
        for way in ("start", "healthy"):
            app.change(first, way)
        self.site.addresses[app.name] = address_of(app.dns)
        until(self.is_as_wanted, "the first is in the kernel")
        place = self._place(app)
        for leaving, way, others in ((first, "killing", (second,)), (second, "unhealthy", (third,))):
            flow = Flow(*place, TCP)
            assert flow.backend == leaving.number
            for other in others:
                app.change(other, "start")
                app.change(other, "healthy")
            until(self.is_as_wanted, "the other is in the kernel")
            app.change(leaving, way)
            until(lambda s=leaving: kernel()[app.service].get(s.key) == 0, "weight 0")  # type: ignore[misc]
            assert {connect(*place) for _ in range(6)} == {other.number for other in others}
            time.sleep(4)  # longer than one without connections stays
            assert kernel()[app.service][leaving.key] == 0
            assert flow.ask() == leaving.number
            flow.finish()
            print(f"{way}: left the kernel {until(self.is_as_wanted, 'it left'):.1f} s after its connection's end")

    def check_all_unhealthy_and_all_killed(self) -> None:
        app = self.apps[-1]
        place = self._place(app)
        first, second, third = app.slots[:3]
        app.change(first, "gone")
        app.change(third, "unhealthy")  # as the second is
        fail_open = {second.key: 1, third.key: 1}
        until(lambda: kernel()[app.service] == fail_open, "those that were healthy once are used when none is")
        assert connect(*place) in (second.number, third.number)
        for slot in (second, third):
            app.change(slot, "killing")
        until(lambda: kernel()[app.service] == {}, "no destinations")
        assert connect(*place) == "ConnectionRefusedError"
        assert asked(app.dns) == [place[0]]
        for slot in (second, third):
            app.change(slot, "gone")
        until(lambda: app.service not in kernel() and place[0] not in vip_routes(), "service and route are gone")
        until(lambda: asked(app.dns) == ["NXDOMAIN"], "its name is gone")
        self.apps.remove(app)

    # --- others -----------------------------------------------------------------------------------

    def check_what_others_take_away_is_put_back(self) -> None:
        self._see_foreign()
        run("ipvsadm", "-C")
        alone = {key: each for key, each in self.wanted().items() if key != FOREIGN}
        took = until(lambda: kernel() == alone, "services are back")
        make_foreign()
        run("ip", "link", "del", "pharos0")
        again = until(lambda: has_device() and vip_routes() == set(self._now()), "device and routes are back")
        until(lambda: connect(*self._place(self.web)) == self.web.slots[0].number, "connections to web")
        self._see_foreign()
        drift = self.pharos.metric("pharos_l4_drift_total")
        assert drift > 0
        print(f"services were back after {took:.1f} s, device and routes after {again:.1f} s; drift={drift:.0f}")

    def check_without_l4_everything_of_ours_is_gone(self) -> None:
        # Without the section a server gives no addresses, and so there are no names; with "off" it carries nothing.
        for without, answer in (("", "NXDOMAIN"), ('[l4]\ndataplane = "off"\n', self.site.addresses["web"])):
            self.pharos.reload(without)
            until(lambda: list(kernel()) == [FOREIGN], "our services are gone")
            assert not has_device()
            assert not [line for line in run("ip", "route", "show", "table", "local").splitlines() if " 11." in line]
            for table in ("nat", "mangle", "filter"):
                rules = run("iptables-save", "-t", table).lower()
                assert "pharos" not in rules, rules
            self._see_foreign()
            assert asked("web.marathon") == [answer]
            self.pharos.reload(L4)
            until(self.is_as_wanted, "all is back")
            until(lambda: vip_routes() == set(self._now()), "routes are back")
            assert connect(*self._place(self.web)) in {slot.number for slot in self.web.slots if slot.good}

    # --- parts ------------------------------------------------------------------------------------

    def _place(self, app: App) -> tuple[str, int]:
        return self.site.addresses[app.name], app.port

    def _now(self) -> list[str]:
        return [self.site.addresses[app.name] for app in self.apps]

    @contextlib.contextmanager
    def _connections(self) -> Iterator[Connections]:
        """Short connections from the client to the VIPs by TCP meanwhile."""
        places = [self._place(self.web), self._place(self.api)]
        connections = Connections(self.program, "client", RATE, self.folder / "connections", places)
        try:
            yield connections
        finally:
            connections.stop()

    def _are_saved(self, places: list[tuple[App, Slot]]) -> bool:
        """Whether tasks would be known after a crash."""
        saved = CatalogFile(self.folder / "state" / "catalog", 3600).load()
        entities = saved.sources["mesos"].entities if saved is not None else ()
        known = {each.id for each in entities if isinstance(each, Task)}
        return all(slot.task is not None and slot.task.id in known for _, slot in places)

    def _judge(self, made: list[Made]) -> None:
        """No connection has failed, or gone to a backend that gets none."""
        wrong = misled(made, (self.web, self.api))
        lines = "\n".join(wrong[:5] + wrong[-20:])
        assert not wrong, f"{len(wrong)} of {len(made)} connections:\n{lines}"
        assert len(made) > 100

    def _see_foreign(self) -> None:
        assert kernel()[FOREIGN] == {BackendKey("10.1.0.11", 1): 1}
        shown = run("ip", "route", "show", "table", "all")
        for route in FOREIGN_ROUTES:
            assert any(" ".join(line.split()).startswith(route) for line in shown.splitlines()), shown


def make_foreign() -> None:
    """A service of somebody else."""
    place = f"{FOREIGN.address}:{FOREIGN.port}"
    run("ipvsadm", "-A", "-t", place, "-s", "rr")
    run("ipvsadm", "-a", "-t", place, "-r", "10.1.0.11:1", "-m")


def _connections_of_services() -> dict[str, int]:
    """Connections of each service of ours since it was made, by ipvsadm."""
    lines = ipvsadm.ipvsadm("-Ln", "--stats", "--exact").splitlines()
    found = {}
    for words in (line.split() for line in lines if line.startswith(("TCP", "UDP"))):
        if not words[1].startswith(FOREIGN.address):
            found[f"{words[0]} {words[1]}"] = int(words[2])
    return found


def _lines_of_connections(port: int) -> list[str]:
    return [line for line in ipvsadm.ipvsadm("-Lcn").splitlines() if f":{port} " in line]


def main() -> None:
    """All checks in one boot."""
    began = time.monotonic()
    build()
    make_foreign()
    run("ip", "route", "add", "local", "10.9.9.9/32", "dev", "lo")
    run("ip", "route", "add", "192.0.2.0/24", "via", "10.1.0.12")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pharos = Pharos(folder)
        pharos.configure(L4)
        pharos.start()
        stack.callback(pharos.end)
        backends = Backends(program := compiled(folder))
        stack.callback(backends.end)
        cluster = stack.enter_context(simulated(port=MASTER_PORT))
        site = Site(cluster, backends, AGENTS)
        pharos.until_ready()
        print(f"ready after {time.monotonic() - began:.1f} s")
        checks = Checks(folder, program, pharos, site)
        try:
            for name in [name for name in vars(Checks) if name.startswith("check_")]:
                at = time.monotonic()
                getattr(checks, name)()
                print(f"{name}: ok ({time.monotonic() - at:.1f} s)", flush=True)
        except BaseException:
            print(pharos.text()[-6000:], json.dumps({str(k): str(v) for k, v in kernel().items()}), file=sys.stderr)
            raise
    print(f"all of it took {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    if "VMRUN" not in os.environ:
        sys.exit("only in a VM: it changes the network's devices")
    main()
