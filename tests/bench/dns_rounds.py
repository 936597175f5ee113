"""Servers side by side: the same questions to each in turn, round after round, and the ratios within each round.

A burst is bounded by the load generator's window, so the server's core is always busy. CPU per
question is what all processes of the server ran for during the burst, over the answers: the kernel
charges a sender for the delivery on loopback too, so this is most of what the machine does for an
answer. It is the figure to compare; questions a second are bounded by the generator's own core.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rdataclass
import dns.rdatatype

from tests.bench.cluster import median
from tests.bench.dns_load import Load
from tests.bench.dns_queries import Question
from tests.bench.dns_servers import Server

Row = dict[str, Any]

TCP_CONNECTIONS = 8
_NOTHING = 0.05
"""µs for an answer: less is what a process uses that has nothing to do with it."""


def burst(load: Load, server: Server, queries: Path, seconds: float, **how: Any) -> Row:
    """One burst. `cpu_us` and `worker_cpu_us` (of the processes below the first) are for one answer."""
    first, below = server.cpu()
    found = load.run(server.address, queries, seconds=seconds, **how)
    first_after, below_after = server.cpu()
    worker = max(0, below_after - below)
    used = max(0, first_after - first) + worker
    answers = max(1, found["answers"])
    return {
        "qps": found["qps"],
        "cpu_us": used / answers / 1e3,
        "worker_cpu_us": worker / answers / 1e3,
        "busy": used / 1e9 / max(found["seconds"], 1e-9),
        "octets": found["octets"] / answers,
        **{name: found[name] for name in ("p50_us", "p99_us", "p999_us")},
        **{name: found[name] for name in ("answers", "lost", "wrong", "unexpected", "truncated")},
    }


def rounds(
    load: Load,
    servers: Sequence[Server],
    mixes: dict[str, Path],
    count: int,
    seconds: float,
    say: Callable[[str], None],
    **how: Any,
) -> dict[str, Any]:
    """By mix: by server, medians of all rounds, and of Pharos the median of its ratios to each other server."""
    rows: dict[str, dict[str, list[Row]]] = {mix: {server.name: [] for server in servers} for mix in mixes}
    for number in range(count):
        # Whoever comes after a busy server finds other caches: everybody does in turn.
        order = [*servers[number % len(servers) :], *servers[: number % len(servers)]]
        for mix, queries in mixes.items():
            for server in order:
                row = burst(load, server, queries, seconds, **how)
                rows[mix][server.name].append(row)
                say(f"round {number + 1} {mix} {server.name}: {row['cpu_us']:.2f} µs, {row['qps']:.0f} a second")
    return {mix: summary(found) for mix, found in rows.items()}


def summary(rows: dict[str, list[Row]]) -> dict[str, Any]:
    """Medians by server (counts of what went wrong: sums), and Pharos' ratios of CPU per answer.

    There is no ratio of workers' CPU where Pharos' workers had no part in the answers. Where the bare echo
    was asked, too, there are ratios of what lies beyond its CPU: what the kernel alone takes is in both sides
    of the others.
    """
    sums = ("lost", "wrong", "unexpected", "truncated")
    found: dict[str, Any] = {
        name: {
            key: sum(row[key] for row in of_server) if key in sums else median([row[key] for row in of_server])
            for key in of_server[0]
        }
        for name, of_server in rows.items()
    }
    ours = rows.get("pharos", [])
    for key, figure in (("ratio_of_cpu_to", "cpu_us"), ("ratio_of_worker_cpu_to", "worker_cpu_us")):
        found[key] = {
            name: median([a[figure] / b["cpu_us"] for a, b in zip(ours, theirs, strict=True)])
            for name, theirs in rows.items()
            if name != "pharos" and any(row[figure] > _NOTHING for row in ours) and all(row["cpu_us"] for row in theirs)
        }
    if ours and "echo" in rows:
        found["ratio_of_cpu_beyond_echo_to"] = _beyond_echo(rows)
    return found


def _beyond_echo(rows: dict[str, list[Row]]) -> dict[str, float]:
    """Medians of Pharos' ratios to the servers that take more than the echo in every round."""
    echo = [row["cpu_us"] for row in rows["echo"]]
    beyond = {
        name: [row["cpu_us"] - bare for row, bare in zip(of_server, echo, strict=True)]
        for name, of_server in rows.items()
    }
    return {
        name: median([ours / theirs for ours, theirs in zip(beyond["pharos"], other, strict=True)])
        for name, other in beyond.items()
        if name not in ("pharos", "echo") and min(other) > 0
    }


def differences(
    servers: Sequence[Server], questions: Sequence[Question], sample: int, of_a_cache: bool = False
) -> dict[str, Any]:
    """Whether all servers say the same to a sample of the questions: rcode, AA and the set of answer records.

    `of_a_cache`: rcode and records without TTL, as what is kept ages, and AA is that of who was asked.
    """
    asked = random.Random(4).sample(questions, min(sample, len(questions)))
    different = []
    for name, rtype in asked:
        said: dict[str, Any] = {server.name: said_by(server, name, rtype) for server in servers}
        if of_a_cache:
            said = {who: (rcode, _without_ttl(records)) for who, (rcode, _, records) in said.items()}
        if any(each != next(iter(said.values())) for each in said.values()):
            different.append({"name": name, "type": rtype, **{who: str(what) for who, what in said.items()}})
    return {
        "servers": [server.name for server in servers],
        "questions": len(asked),
        "different": len(different),
        "examples": different[:3],
    }


def said_by(server: Server, name: str, rtype: str) -> tuple[int, bool, list[str]]:
    """(rcode, AA, answer records in order of their text), over TCP where UDP has no room."""
    question = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
    host, port = server.address
    answer, _ = dns.query.udp_with_fallback(question, host, 10, port)
    records: Iterable[str] = (
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in answer.answer
        for rdata in rrset
    )
    return int(answer.rcode()), bool(answer.flags & dns.flags.AA), sorted(record.lower() for record in records)


def _without_ttl(records: Sequence[str]) -> list[str]:
    return sorted(" ".join([owner, rest]) for owner, _, rest in (record.split(" ", 2) for record in records))
