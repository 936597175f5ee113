"""Every recorded mesos-dns case through `import mesos-dns` and a real `pharos run`, unchanged.

A case is a master's state, mesos-dns' configuration, and what the real mesos-dns answered. Each runs
in a network namespace of its own that has the recorded addresses, so the imported configuration is
used as it is. The rule for every recorded question:

- answered with records: the same record set and TTL, and addresses for every SRV target;
- anything else: what the standards say, with existence taken from the recorded zone (/v1/axfr).

Everything is asked twice: the first time answers are made, the second time native workers have them ready.

The deliberate differences are named in `deviation`; mesos_dns/README.md gives their reasons.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.system.namespace import Namespace, namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

HOSTS = """127.0.0.1 localhost
10.0.0.51 sched.example.internal
10.1.0.8 agent7.example.internal
192.0.2.99 google.com
"""
# A framework called leader or slave gave its own scheduler's address to these names.
TAKEN_OVER = {"leader.mesos.": {"10.0.0.91"}, "slave.mesos.": {"10.0.0.90"}}


def _own_cases() -> list[Path]:
    return sorted(path.parent for path in (REPOSITORY / "tests/data/mesos-dns").glob("*/config.json"))


def _truth_cases() -> list[Path]:
    truth = REPOSITORY.parent / "shared" / "truth"
    found = [*truth.glob("mesos-dns/*/config.json"), *truth.glob("upstream/mesos-dns/*/config.json")]
    return sorted(path.parent for path in found)


class Case:
    """A recorded case, and Pharos' answers to its questions in the same order: `rounds` has those of two rounds,
    `fast` how many UDP answers of the second one came out of the workers' table, `by_workers` how many questions
    workers did not hand on."""

    def __init__(self, folder: Path, space: Namespace, work: Path) -> None:
        self.name = folder.name
        config = json.loads((folder / "config.json").read_text())
        self.domain = config["Domain"].lower()
        self.tells_truncation = config.get("SetTruncateBit", True)
        self.forwards = config.get("ExternalOn", True)
        self.rows = [json.loads(line) for line in _read(folder, "queries.jsonl").splitlines()]
        if "m3s" in folder.name:
            folder, self.rows = _where_forks_agree(folder, self.rows)
        axfr = _read(folder, "axfr.json") or _read(folder.parent / "fake-default", "axfr.json")
        self.records: dict[str, dict[str, list[str]]] = json.loads(axfr)["Records"]
        self.names = {name.lower() for kind in self.records.values() for name in kind}
        self.inner = {".".join(name.split(".")[n:]) for name in self.names for n in range(1, name.count("."))}
        api = self._start(folder, space, work, config)
        queries = work / "queries.jsonl"
        queries.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        asked = [str(REPOSITORY / "tests/system/ask.py"), str(queries), config["Listener"], str(config["Port"])]
        self.rounds, counts = [], [(0, 0)]
        for _ in range(2):
            printed = space.run([sys.executable, *asked], timeout=240)
            self.rounds.append([json.loads(line) for line in printed.splitlines()])
            counts.append(_counts(space, api))
        self.fast, self.by_workers = (after - before for before, after in zip(*counts[1:], strict=True))

    def _start(self, folder: Path, space: Namespace, work: Path, config: dict[str, Any]) -> str:
        """Run Pharos beside a master and upstream servers; its API when it is ready."""
        state = work / "state.json"
        state.write_text(_read(folder, "state.json"))
        master = space.popen(
            [sys.executable, str(REPOSITORY / "tests/fakes/state_master.py"), str(state), *config["Masters"]],
            stdout=subprocess.PIPE,
        )
        upstream = space.popen(
            [sys.executable, str(REPOSITORY / "tests/fakes/upstream_dns.py"), "10053", "10054"], stdout=subprocess.PIPE
        )
        for process in (master, upstream):
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
        imported = space.run([sys.executable, "-m", "agent", "import", "mesos-dns", str(folder / "config.json")])
        toml = work / "pharos.toml"
        toml.write_text(f'state_dir = "{work}/state"\n' + re.sub(r"(?m)^state_dir.*\n", "", imported))
        space.popen([sys.executable, "-m", "agent", "run", "-c", str(toml)])
        api = f"http://{config['HTTPListener']}:{config['HttpPort']}"
        _until_ready(space, api)
        return api

    def exists(self, name: str) -> bool:
        """True when the recorded zone has the name or one below it (RFC 8020)."""
        name = name.lower()
        return name in self.names or name in self.inner or name == f"{self.domain}."


def _where_forks_agree(folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    """A fork's recording counts only where the original, on the same state, said the same."""
    original = folder.parent / folder.name.partition("-m3s")[0]

    def key(row: dict[str, Any]) -> str:
        return json.dumps(
            [row["qname"], row["qtype"], row["qclass"], row["proto"], row.get("edns"), row.get("raw_hex")]
        )

    said = {key(row): row for row in map(json.loads, _read(original, "queries.jsonl").splitlines())}
    told = ("rcode", "answers", "tc")
    agreed = [row for row in rows if (other := said.get(key(row))) and all(row.get(k) == other.get(k) for k in told)]
    assert len(agreed) > len(rows) / 2
    return original, agreed


def _read(folder: Path, name: str) -> str:
    if (folder / name).exists():
        return (folder / name).read_text()
    if (folder / f"{name}.gz").exists():
        return gzip.decompress((folder / f"{name}.gz").read_bytes()).decode()
    return ""


def _until_ready(space: Namespace, api: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = (
            space.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{api}/readyz", "--retry", "0"])
            if _up(space, api)
            else ""
        )
        if done == "200":
            return
        time.sleep(0.1)
    pytest.fail("pharos did not become ready in 30 s")


def _counts(space: Namespace, api: str) -> tuple[int, int]:
    """(UDP answers out of the table, questions that workers read and did not hand on), so far."""
    text = space.run(["curl", "-s", f"{api}/metrics"])

    def total(name: str, *labels: str) -> int:
        lines = re.findall(rf"^pharos_dns_{name}_total(\S*) (\S+)$", text, re.MULTILINE)
        assert lines, name
        return sum(int(float(count)) for told, count in lines if all(label in told for label in labels))

    fast = total("responses", 'path="fast"', 'transport="udp"')
    return fast, total("worker_queries") - total("worker_passed")


def _up(space: Namespace, api: str) -> bool:
    try:
        space.run(["curl", "-s", "-o", "/dev/null", f"{api}/livez"])
    except subprocess.CalledProcessError:
        return False
    return True


@pytest.fixture(
    scope="module", params=[*_own_cases(), *_truth_cases()], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A case that was run."""
    folder: Path = request.param
    config = json.loads((folder / "config.json").read_text())
    addresses = sorted({master.rsplit(":", 1)[0] for master in config["Masters"]})
    with namespace(f"pharos-{abs(hash(folder)) % 100000}", addresses, HOSTS) as space:
        yield Case(folder, space, tmp_path_factory.mktemp(folder.name))


@pytest.fixture(params=["made", "ready"])
def answers(case: Case, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The answers of one round."""
    return case.rounds[request.param == "ready"]


def deviation(row: dict[str, Any]) -> str | None:
    """The rcode that we give on purpose where mesos-dns answered with records (see the module)."""
    if row["qclass"] in ("CH", "HS", "NONE"):
        return "REFUSED"  # RFC 1035 §3.2.4: another class is another tree
    if row.get("opcode"):
        return "NOTIMP"  # RFC 1035 §4.1.1, RFC 8906 §3.1.4
    if row.get("edns") and row["edns"]["version"]:
        return "BADVERS"  # RFC 6891 §6.1.3
    if row.get("case", "").startswith("qdcount=2"):
        return "FORMERR"  # RFC 9619
    if ".*" in row["qname"]:
        return "NXDOMAIN"  # mesos-dns deletes ".*" from names before it looks them up
    return None


def _rdata(texts: list[str]) -> set[str]:
    return {text.split(" ", 3)[3].lower() for text in texts}


def test_recorded_records_are_served(case: Case, answers: list[dict[str, Any]]) -> None:
    """The same record set and TTL wherever mesos-dns answered with records."""
    wrong: list[tuple[Any, ...]] = []
    for row, got in zip(case.rows, answers, strict=True):
        if row["rcode"] != "NOERROR" or not row["answers"]:
            continue
        if (expected := deviation(row)) is not None:
            if got["rcode"] != expected:
                wrong.append((row["qname"], row["qtype"], expected, got["rcode"]))
            continue
        recorded = {text.lower() for text in row["answers"]} - TAKEN_OVER.get(row["qname"].lower(), set())
        whole = got.get("full", got)
        served = _rdata(whole["answer"])
        ttls = {text.split(" ")[1] for text in whole["answer"]}
        if row["qtype"] == "ANY":  # RFC 8482: a part is given
            fits = bool(served & recorded)
        elif row["tc"] or not case.tells_truncation:  # a part was recorded
            fits = bool(recorded) and recorded <= served
        else:
            fits = served == recorded
        if not fits or (_is_ours(case, row["qname"]) and ttls != {"60"}):
            wrong.append((row["qname"], row["qtype"], sorted(recorded)[:4], sorted(served)[:4]))
    assert wrong == []


def test_srv_answers_carry_the_targets_addresses(case: Case, answers: list[dict[str, Any]]) -> None:
    """Glue holds every address of each target that mesos-dns gave glue for, and nothing else."""
    wrong = []
    for row, got in zip(case.rows, answers, strict=True):
        if row["rcode"] != "NOERROR" or row["qtype"] != "SRV" or not row["answers"] or deviation(row):
            continue
        whole = got.get("full", got)
        targets = {text.rsplit(" ", 1)[1].lower() for text in whole["answer"]}
        known = {
            f"{target} {address}"
            for target in targets
            for kind in ("As", "AAAAs")
            for name, values in case.records[kind].items()
            if name.lower() == target
            for address in values
            if address not in TAKEN_OVER.get(target, set())
        }
        served = {f"{text.split(' ')[0].lower()} {text.split(' ', 3)[3]}" for text in whole["additional"]}
        limit = 65535 if "full" in got or row["proto"] == "tcp" else max(512, (row.get("edns") or {}).get("payload", 0))
        if served != known and not _left_out_for_room(known - served, served, limit - whole["size"]):
            wrong.append((row["qname"], sorted(known)[:3], sorted(served)[:3]))
    assert wrong == []


def _left_out_for_room(missing: set[str], served: set[str], room: int) -> bool:
    """True when only whole record sets are missing, and the first of them did not fit (RFC 2181 §9)."""

    def sets(texts: set[str]) -> dict[tuple[str, bool], int]:
        """Bytes by (owner, is IPv6); an owner is a pointer where room is short."""
        sizes: dict[tuple[str, bool], int] = {}
        for owner, address in (text.split(" ") for text in texts):
            sizes[owner, ":" in address] = sizes.get((owner, ":" in address), 0) + (28 if ":" in address else 16)
        return sizes

    gone = sets(missing)
    return not gone.keys() & sets(served).keys() and max(gone.values()) > room


def _is_ours(case: Case, name: str) -> bool:
    return f".{name.lower()}".endswith(f".{case.domain}.")


def _standard(case: Case, row: dict[str, Any]) -> str | None:
    """The rcode that the standards ask for, where mesos-dns gave no records; None: not decided here."""
    if (
        row.get("raw_hex")
        or row.get("opcode")
        or row["rcode"] in ("UNQUERYABLE", "UNPARSEABLE")
        or ".*" in row["qname"]
    ):
        return None
    if row.get("edns") and row["edns"]["version"]:
        return "BADVERS"
    if not _is_ours(case, row["qname"]):
        return None if case.forwards or "arpa" in row["qname"] else "REFUSED"
    if row["qclass"] not in ("IN", "ANY") or row["qtype"] in ("AXFR", "IXFR"):
        return "REFUSED"
    return "NOERROR" if case.exists(row["qname"]) else "NXDOMAIN"


def test_everything_else_follows_the_standards(case: Case, answers: list[dict[str, Any]]) -> None:
    """NODATA and NXDOMAIN with the apex's SOA, SOA and NS at the apex, REFUSED outside (RFC 1034, 2308, 8020)."""
    wrong: list[tuple[Any, ...]] = []
    for row, got in zip(case.rows, answers, strict=True):
        if row["rcode"] == "NOERROR" and row["answers"]:
            continue
        expected = _standard(case, row)
        if expected is None:
            continue
        negative = got["rcode"] == "NXDOMAIN" or (got["rcode"] == "NOERROR" and not got["answer"])
        soa = [
            text for text in got.get("authority", []) if text.lower().startswith(f"{case.domain}. ") and " SOA " in text
        ]
        if got["rcode"] != expected and not _raw_name(case, row, got):
            wrong.append((row["qname"], row["qtype"], expected, got["rcode"]))
        elif negative and not soa:
            wrong.append((row["qname"], row["qtype"], "no SOA", got.get("authority")))
        elif row["qname"].lower() == f"{case.domain}." and row["qtype"] in ("SOA", "NS") and not got["answer"]:
            wrong.append((row["qname"], row["qtype"], "no answer", got["rcode"]))
    assert wrong == []


def _raw_name(case: Case, row: dict[str, Any], got: dict[str, Any]) -> bool:
    """A name that mesos-dns lists and can't be asked for, because it compares case (RFC 4343 does not),
    or a record that can't stand on the wire and so is no record."""
    listed = case.names & {row["qname"].lower()}
    return bool(listed) and got["rcode"] in ("NOERROR", "NXDOMAIN")


def test_odd_packets_do_no_harm(case: Case, answers: list[dict[str, Any]]) -> None:
    """Responses and stubs are dropped, malformed ones get FORMERR, and nothing is left unanswered."""
    for row, got in zip(case.rows, answers, strict=True):
        if row.get("case") in ("qr=1", "11 bytes"):
            assert got["rcode"] == "TIMEOUT", row["case"]
        elif row["rcode"] != "UNQUERYABLE":
            assert got["rcode"] != "TIMEOUT", (row["qname"], row["qtype"], row.get("case"))


def test_forwarded_questions(case: Case, answers: list[dict[str, Any]]) -> None:
    """Where forwarding is on, the upstream's word is passed on as mesos-dns did."""
    if not case.forwards:
        assert all(not got.get("ra") for got in answers)
        return
    for row, got in zip(case.rows, answers, strict=True):
        if row.get("case", "").startswith("forward") and not row["qname"].startswith("big."):
            assert got["rcode"] == row["rcode"], row["qname"]
            assert _rdata(got["answer"]) == {text.lower() for text in row["answers"]}, row["qname"]


def test_ready_answers_are_those_that_were_made(case: Case) -> None:
    """The second round says what the first one said; where not all fits, rotation decides what is left out."""
    parts = ("rcode", "aa", "ra", "tc", "edns", "authority")
    for row, made, ready in zip(case.rows, *case.rounds, strict=True):
        told = [{part: got.get(part) for part in parts} for got in (made, ready)]
        assert told[0] == told[1], row["qname"]
        if not made.get("tc"):
            assert made.get("answer") == ready.get("answer"), row["qname"]
        if "full" in made:
            assert made["full"] == ready["full"], row["qname"]


def test_workers_give_every_answer_that_can_be_ready(case: Case) -> None:
    ready = [row["qname"] for row, got in zip(case.rows, case.rounds[1], strict=True) if _can_be_ready(case, row, got)]
    assert len(ready) > len(case.rows) / 4
    assert min(case.fast, case.by_workers) >= len(ready)


def _can_be_ready(case: Case, row: dict[str, Any], got: dict[str, Any]) -> bool:
    """An ordinary question by UDP for records, for one of the common types that a name lacks, or for a name that
    is absent and not like a task's canonical one. A "*" in the zone leaves absence to Python."""
    name = row["qname"].lower()
    odd = row.get("raw_hex") or row.get("opcode") or (row.get("edns") or {}).get("version")
    if odd or row["proto"] != "udp" or row["qclass"] != "IN" or not _is_ours(case, name):
        return False
    if row["qtype"] not in ("A", "AAAA", "SRV", "TXT", "ANY", "PTR", "MX", "NS", "CNAME"):
        return False
    if got["rcode"] == "NXDOMAIN":
        return "-" not in name and not any("*" in owner for owner in case.names)
    return got["rcode"] == "NOERROR" and (bool(got["answer"]) or name in case.names)
