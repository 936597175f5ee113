"""The resolver beside unbound and dnsmasq: one upstream, the same questions, one run.

    ./dev bench resolver [--names N] [--rounds N] [--seconds S] [--paced-seconds S] [--rate N] [--sample N]

Knot has a generated zone; `pharos run` with only a resolver, unbound and dnsmasq forward all questions to
it and keep the answers. Caches run on the first core, the load generator and Knot on the last, before all
other processes when root starts this. What is reported:

    same_answers  whether all caches give the same records for a sample of the questions
    warm          each question asked once, a few at a time, and again until Knot is asked no more: CPU µs for
                  an answer in the first pass, passes, and what Knot was asked in the last one
    udp, tcp      bursts of questions whose answers are kept, in interleaved rounds (dns_rounds.py): CPU µs for
                  one answer (`worker_cpu_us`: of Pharos' processes below the first) and ratios within each
                  round, also of what lies beyond the bare echo's CPU; `hit` has existing names only, `plain`
                  and `edns_0x20` also NODATA and NXDOMAIN; `asked_upstream` is what Knot was asked meanwhile
                  (0: all were hits)
    latency       a steady rate of hits
    memory_mib    with all answers kept
    miss          names that nobody has asked for before, with room for them: CPU of the cache alone, and Knot's
                  questions for an answer

By TCP dnsmasq is left out: it ends a connection after 100 questions. Traffic stays on loopback. What is not
installed is named on standard error and under `missing`, and the rest is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import dns_change, dns_queries, dns_rounds, dns_servers, resolver_servers
from tests.bench.dns import IDLE, say
from tests.bench.dns_load import Load
from tests.bench.dns_processes import scheduling, stolen_seconds
from tests.bench.dns_servers import Server
from tests.bench.resolver_questions import Names, never_asked
from tests.bench.resolver_servers import HOST, PEERS, PROGRAMS, UPSTREAM, Upstream

QUESTIONS = 200_000
"""Questions in each mix, at most."""
MISSES = 5_000
"""New names in a burst, at most."""
ALL_MISSES = 25_000
"""In all rounds: beside the answers that are kept already there is room for so many (dnsmasq takes milliseconds
for an answer once its cache is full)."""
PASSES = 6
"""Times that each question is asked at most until all answers are kept."""
GENTLY: dict[str, Any] = {"passes": 1, "sockets": 4, "window": 32, "timeout": 5}
"""A few questions in flight: none is lost, however slow the cache is."""
MISS_WINDOW = 128
"""Questions in flight: below what each cache allows one client."""


class Size(msgspec.Struct, frozen=True):
    """How much is measured; the names are those of the options."""

    names: int = 20_000
    rounds: int = 5
    seconds: float = 1.5
    paced_seconds: float = 15
    rate: int = 20_000
    sample: int = 500


WHOLE = Size()


def options(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `measure` from the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench resolver", description="the resolver beside unbound and dnsmasq")
    parser.add_argument("--names", type=int, default=WHOLE.names, help="names with addresses (20000)")
    parser.add_argument("--rounds", type=int, default=WHOLE.rounds, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=float, default=WHOLE.seconds, help="length of a burst (1.5)")
    parser.add_argument(
        "--paced-seconds", type=float, default=WHOLE.paced_seconds, help="length of the runs at a steady rate (15)"
    )
    parser.add_argument("--rate", type=int, default=WHOLE.rate, help="questions a second at the steady rate (20000)")
    parser.add_argument("--sample", type=int, default=WHOLE.sample, help="questions whose answers are compared (500)")
    return {"size": Size(**vars(parser.parse_args(words)))}


def measure(size: Size = WHOLE) -> dict[str, Any]:
    """Everything of the module's description."""
    missing = dns_servers.missing(PROGRAMS)
    for line in missing:
        say(f"measured without {line}")
    found = {
        "measurement": "resolver",
        **msgspec.structs.asdict(size),
        "missing": missing,
        "versions": dns_servers.versions(PROGRAMS),
        "scheduling": scheduling(),
        "cpus": os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    if UPSTREAM not in found["versions"]:
        return found
    stolen = stolen_seconds()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pharos-bench-resolver-")))
        names = Names(size.names)
        upstream = stack.enter_context(resolver_servers.upstream(folder, names.write_zone(folder / "zone")))
        caches = [stack.enter_context(resolver_servers.pharos(folder, upstream.port))]
        caches += [
            stack.enter_context(resolver_servers.peer(program, folder, upstream.port))
            for program in PEERS
            if program in found["versions"]
        ]
        bare = stack.enter_context(dns_servers.echo(folder, HOST))
        asking = Asking(folder, size, names, upstream, caches)
        found |= asking.checked()
        found |= asking.hits(bare)
        found["latency"] = asking.latency(bare)
        found["memory_mib"] = {server.name: server.memory() for server in caches}
        found["miss"] = asking.misses()
    return {**found, "stolen_cpu_s": round(stolen_seconds() - stolen, 2)}


class Asking:
    """The questions, and what is measured with them. `checked` comes first, `misses` last: they take others' room."""

    def __init__(self, folder: Path, size: Size, names: Names, upstream: Upstream, caches: Sequence[Server]) -> None:
        self._folder = folder
        self._load = Load(folder)
        self._size = size
        self._upstream = upstream
        self._caches = caches
        self._every = names.every_question()
        count = min(QUESTIONS, 4 * len(self._every))
        mixed = names.mixed(count)
        self._hit = self._written("hit", dns_queries.plain(names.hits(count)))
        self._mixes = {
            "hit": self._hit,
            "plain": self._written("plain", dns_queries.plain(mixed)),
            "edns_0x20": self._written("edns_0x20", dns_queries.edns_0x20(mixed)),
        }

    def checked(self) -> dict[str, Any]:
        """All answers are kept, they are the same, and nobody takes the core unasked."""
        every = self._written("every", dns_queries.plain(self._every))
        warm = {server.name: self._warmed(server, every) for server in self._caches}
        same = dns_rounds.differences(self._caches, self._every, self._size.sample, of_a_cache=True)
        say(f"{same['different']} of {same['questions']} answers differ")
        idle = dns_change.idle(self._caches)
        for name, percent in idle.items():
            if percent > IDLE:
                say(f"{name} uses {percent} % of the caches' core while nobody asks: all figures suffer")
        return {"questions": len(self._every), "warm": warm, "same_answers": same, "idle_cpu_percent": idle}

    def hits(self, bare: Server) -> dict[str, Any]:
        """`udp` and `tcp`."""
        size, connections = self._size, dns_rounds.TCP_CONNECTIONS
        before = self._upstream.asked()
        udp = dns_rounds.rounds(self._load, [*self._caches, bare], self._mixes, size.rounds, size.seconds, say)
        after = self._upstream.asked()
        by_tcp = [server for server in self._caches if server.name != "dnsmasq"]
        plain = {"plain": self._mixes["plain"]}
        how: dict[str, Any] = {"tcp": True, "sockets": connections, "timeout": 2}
        tcp = dns_rounds.rounds(self._load, by_tcp, plain, size.rounds, size.seconds, say, **how)
        return {
            "udp": {"asked_upstream": after - before, **udp},
            "tcp": {"connections": connections, "asked_upstream": self._upstream.asked() - after, **tcp},
        }

    def latency(self, bare: Server) -> dict[str, Any]:
        """A steady rate; the echo's are the machine's."""
        found = {}
        for server in (*self._caches, bare):
            found[server.name] = dns_change.latency(
                self._load, server, self._hit, self._size.rate, self._size.paced_seconds
            )
            say(f"{server.name} at {self._size.rate} a second: p99 {found[server.name]['p99_us']} µs")
        return found

    def misses(self) -> dict[str, Any]:
        """Bursts of new names, the same for each cache of a round."""
        count = max(1, min(MISSES, ALL_MISSES // self._size.rounds))
        rows: dict[str, list[dns_rounds.Row]] = {server.name: [] for server in self._caches}
        for number in range(self._size.rounds):
            queries = self._written("new", dns_queries.plain(never_asked(number, count)))
            turn = number % len(self._caches)
            for server in (*self._caches[turn:], *self._caches[:turn]):
                before = self._upstream.asked()
                row = dns_rounds.burst(self._load, server, queries, 60, passes=1, window=MISS_WINDOW, timeout=2)
                row["asked_upstream"] = (self._upstream.asked() - before) / max(1, row["answers"])
                rows[server.name].append(row)
                say(f"round {number + 1} miss {server.name}: {row['cpu_us']:.2f} µs, {row['qps']:.0f} a second")
        return dns_rounds.summary(rows)

    def _warmed(self, server: Server, every: Path) -> dict[str, Any]:
        """Each question asked until the upstream is asked nothing more."""
        found: dict[str, Any] = {}
        for number in range(PASSES):
            before, used = self._upstream.asked(), sum(server.cpu())
            asked = self._load.run(server.address, every, seconds=300, **GENTLY)
            used, after = sum(server.cpu()) - used, self._upstream.asked()
            if not number:
                found["cpu_us"] = round(used / 1e3 / max(1, asked["answers"]), 3)
                found["seconds"] = round(asked["seconds"], 3)
                found["rcodes"] = asked["rcodes"]
            found |= {"passes": number + 1, "lost": asked["lost"], "asked_upstream": after - before}
            if after == before and not asked["lost"]:
                break
        say(f"{server.name}: {found['passes']} passes, {found['asked_upstream']} asked in the last")
        return found

    def _written(self, name: str, messages: Sequence[bytes]) -> Path:
        return dns_queries.write_queries(messages, self._folder / f"{name}.queries")
