"""DNS beside Knot and NSD: the same zone of 100,000 tasks, the same questions, one run.

    ./dev bench dns [--tasks N] [--agents N] [--rounds N] [--seconds S] [--paced-seconds S]
                    [--rate N] [--sample N] [--host ADDRESS]

A simulated Mesos master has the tasks; `pharos run` follows it in a process of its own; Knot and NSD
load what Pharos says its zone is. Servers run on the first core, the load generator and the master
on the last, both before all other processes when root starts this. What is reported:

    same_answers  whether all servers give the same records for a sample of the questions
    udp, tcp      bursts in interleaved rounds (dns_rounds.py): CPU µs for one answer (`worker_cpu_us`: of
                  Pharos' processes below the first), ratios within each round to Knot, NSD and the bare
                  echo; `hit` has existing names only, `plain` and `edns_0x20` also NODATA and NXDOMAIN
    fill          all answers made for the first time: seconds, CPU, memory
    update        CPU for one changed task at 100 a second
    latency       a steady rate of questions with nothing else to do, and while tasks change and
                  Pharos reads all of them again; the others with nothing else to do (the echo's are the machine's)
    two_workers   how two workers share one burst

Before the rounds each server is asked every question once. The echo's answers are a third as long as
the others', so it is a little below what any server could reach. Traffic stays on loopback. What is not
installed is named on standard error and under `missing`, and the rest is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import dns_change, dns_queries, dns_rounds, dns_servers
from tests.bench.dns_load import Load
from tests.bench.dns_processes import scheduling, stolen_seconds
from tests.bench.dns_servers import Server

QUESTIONS = 200_000
"""Questions in each mix, at most."""
IDLE = 10.0
"""Per cent of a core; a server that uses more without a question spoils the others' rows."""


class Size(msgspec.Struct, frozen=True):
    """How much is measured; the names are those of the options."""

    tasks: int = 100_000
    agents: int = 10_000
    rounds: int = 5
    seconds: float = 1.5
    paced_seconds: float = 20
    rate: int = 20_000
    sample: int = 500
    host: str = "127.0.0.1"


WHOLE = Size()


def options(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `measure` from the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench dns", description="DNS beside Knot and NSD")
    parser.add_argument("--tasks", type=int, default=WHOLE.tasks, help="tasks of the cluster (100000)")
    parser.add_argument("--agents", type=int, help="agents of the cluster (a tenth of the tasks)")
    parser.add_argument("--rounds", type=int, default=WHOLE.rounds, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=float, default=WHOLE.seconds, help="length of a burst (1.5)")
    parser.add_argument(
        "--paced-seconds", type=float, default=WHOLE.paced_seconds, help="length of the runs at a steady rate (20)"
    )
    parser.add_argument("--rate", type=int, default=WHOLE.rate, help="questions a second at the steady rate (20000)")
    parser.add_argument("--sample", type=int, default=WHOLE.sample, help="questions whose answers are compared (500)")
    parser.add_argument("--host", default=WHOLE.host, help="address of all servers: 127.0.0.1 or ::1")
    chosen = parser.parse_args(words)
    chosen.agents = chosen.agents or max(10, chosen.tasks // 10)
    return {"size": Size(**vars(chosen))}


def measure(size: Size = WHOLE) -> dict[str, Any]:
    """Everything of the module's description."""
    for line in dns_servers.missing():
        say(f"measured without {line}")
    machine, stolen = _machine(), stolen_seconds()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharos-bench-dns-")))
        asking = Asking(folder, Load(folder), size)
        master = stack.enter_context(dns_servers.mesos(folder, size.agents, size.tasks))
        say(f"simulated {size.tasks} tasks on {size.agents} agents")
        with dns_servers.pharos(folder, master, size.host, workers=2) as exporter:
            zone_file = asking.take_zone(exporter)
            two_workers = asking.two_workers(exporter)
        pharos = stack.enter_context(dns_servers.pharos(folder, master, size.host))
        fill = asking.fill(pharos)
        peers = [
            stack.enter_context(dns_servers.peer(program, folder, zone_file, "mesos", size.host))
            for program in dns_servers.versions()
        ]
        bare = stack.enter_context(dns_servers.echo(folder, size.host))
        return {
            "measurement": "dns",
            **msgspec.structs.asdict(size),
            "record_sets": asking.zone.record_sets,
            "records": asking.zone.records,
            **machine,
            **asking.checked([pharos, *peers], bare),
            "fill": fill,
            **asking.side_by_side([pharos, *peers], bare),
            "memory_mib": {server.name: server.memory() for server in (pharos, *peers)},
            **asking.changing([pharos, *peers], bare, master),
            "two_workers": two_workers,
            "stolen_cpu_s": round(stolen_seconds() - stolen, 2),
        }


def _machine() -> dict[str, Any]:
    return {
        "missing": dns_servers.missing(),
        "versions": dns_servers.versions(),
        "scheduling": scheduling(),
        "cpus": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


class Asking:
    """The questions, and what is measured with them. `take_zone` comes first."""

    def __init__(self, folder: Path, load: Load, size: Size) -> None:
        self.zone = dns_queries.Zone("", [], [], [], [], 0, 0)
        self.files: dict[str, Path] = {}
        self._mixed: list[dns_queries.Question] = []
        self._every = 0
        self._folder = folder
        self._load = load
        self._size = size

    def take_zone(self, server: Server) -> Path:
        """Make the files of questions from what a server says its zone is; the zone as a master file."""
        axfr = server.axfr()
        zone_file = self._folder / "mesos.zone"
        dns_queries.write_master_file(axfr, zone_file)
        self.zone = zone = dns_queries.read_zone(axfr)
        every = dns_queries.every_question(zone)
        count = min(QUESTIONS, 2 * len(every))
        self._mixed = dns_queries.mixed(zone, count)
        self._every = len(every)
        messages = {
            "every": dns_queries.plain(every),
            "hit": dns_queries.plain(dns_queries.hits(zone, count)),
            "plain": dns_queries.plain(self._mixed),
            "edns_0x20": dns_queries.edns_0x20(self._mixed),
        }
        for name, found in messages.items():
            self.files[name] = dns_queries.write_queries(found, self._folder / f"{name}.queries")
        say(f"the zone has {zone.records} records; {len(every)} questions about what is there")
        return zone_file

    def two_workers(self, server: Server) -> dict[str, Any]:
        """How a burst is shared."""
        return dns_change.shared_by_workers(self._load, server, self.files["plain"], self._size.seconds)

    def checked(self, servers: Sequence[Server], bare: Server) -> dict[str, Any]:
        """Whether the figures can be compared: the answers are the same, and nobody takes the core unasked."""
        same = dns_rounds.differences(servers, self._mixed, self._size.sample)
        say(f"{same['different']} of {same['questions']} answers differ")
        idle = dns_change.idle([*servers, bare])
        for name, percent in idle.items():
            if percent > IDLE:
                say(f"{name} uses {percent} % of the servers' core while nobody asks: all figures suffer")
        return {"same_answers": same, "idle_cpu_percent": idle}

    def fill(self, server: Server) -> dict[str, Any]:
        """Pharos' answers made for the first time."""
        found = dns_change.fill(self._load, server, self.files["every"], self._every)
        say(f"{found['questions']} answers made in {found['first']['seconds']} s")
        return found

    def side_by_side(self, servers: Sequence[Server], bare: Server) -> dict[str, Any]:
        """`udp` and `tcp`."""
        mixes = {name: self.files[name] for name in ("hit", "plain", "edns_0x20")}
        for server in servers:
            for queries in mixes.values():
                self._load.run(server.address, queries, seconds=120, passes=1, window=128, timeout=2)
        connections = dns_rounds.TCP_CONNECTIONS
        udp = dns_rounds.rounds(self._load, [*servers, bare], mixes, self._size.rounds, self._size.seconds, say)
        plain = {"plain": mixes["plain"]}
        tcp = dns_rounds.rounds(
            self._load,
            servers,
            plain,
            self._size.rounds,
            self._size.seconds,
            say,
            tcp=True,
            sockets=connections,
            timeout=2,
        )
        return {"udp": udp, "tcp": {"connections": connections, **tcp}}

    def changing(self, servers: Sequence[Server], bare: Server, master: str) -> dict[str, Any]:
        """`latency` and `update`."""
        queries, rate, seconds = self.files["hit"], self._size.rate, self._size.paced_seconds
        found: dict[str, Any] = {}
        for server in (*servers, bare):
            found[server.name] = dns_change.latency(self._load, server, queries, rate, seconds)
            say(f"{server.name} at {rate} a second: p99 {found[server.name]['p99_us']} µs")
        update = dns_change.update(servers[0], master, seconds / 2)
        say(f"one changed task: {update['cpu_us_per_change']} µs")
        changing = dns_change.latency(self._load, servers[0], queries, rate, seconds, master)
        say(f"pharos at {rate} a second while all is read again: longest gap {changing['longest_gap_ms']} ms")
        return {"latency": {**found, "pharos_while_changing": changing}, "update": update}


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)
