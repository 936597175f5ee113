"""Coordination in a storm: an ensemble under load whose servers and clients are killed, stopped, cut off and wiped.

Worker processes stand for one role and act while they lead, allocate keys, count, and register
themselves. Faults hit them and the servers, in an order given by a seed. Whatever happens:

- no two workers lead at the same time, not even one that was stopped for longer than its session;
- every acknowledged change is there at the end, and made once;
- after the storm somebody leads and all are registered again.

PHAROS_SOAK makes it long; PHAROS_SEED chooses another storm.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.ensemble import Ensemble, Server, ensemble
from tests.system.network import Network, network
from tests.system.zookeeper_records import (
    Stop,
    Tenure,
    acknowledged,
    gaps,
    last_act,
    overlaps,
    tenures,
    wrong_changes,
)

REPOSITORY = Path(__file__).resolve().parents[2]
WORKERS = ("w1", "w2", "w3")
SERVERS = ("zk1", "zk2", "zk3")
SOAK = bool(os.environ.get("PHAROS_SOAK"))
SEED = int(os.environ.get("PHAROS_SEED") or (random.randrange(1 << 32) if SOAK else 7))
ROUNDS = 100
"""Faults of a soak."""

SESSION = 2.0
"""Seconds of the workers' sessions: ten ticks."""

LONG = 60.0 if SOAK else 2.5 * SESSION
"""Seconds for which a worker is stopped: longer than its session and the lease of its claim."""

FAULT_OF_OURS = re.compile(r"^.* (?:ERROR|CRITICAL) .*$", re.MULTILINE)


class Worker:
    """A worker process, started again after it was killed."""

    def __init__(self, name: str, folder: Path, hosts: str, prefix: Sequence[str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._command = [*prefix, sys.executable, "-m", "tests.system.zookeeper_worker"]
        self._arguments = ["work", hosts, name, str(folder), str(SESSION)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *self._arguments], stdout=log, stderr=log, cwd=REPOSITORY
            )  # fmt: skip

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, in whatever state it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    def finish(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(30)

    def log(self) -> str:
        """What it said."""
        return self._log.read_text(errors="replace")


class Storm:
    """Servers, workers, and what can be done to them. Each fault is over when its method returns."""

    def __init__(self, folder: Path, servers: Ensemble, net: Network | None) -> None:
        self.folder = folder
        self.servers = servers
        self.net = net
        self.dice = random.Random(SEED)
        self.faults: list[str] = []
        self.stops: list[Stop] = []
        prefixes = {name: net.inside(name) if net is not None else [] for name in WORKERS}
        self.workers = {name: Worker(name, folder, servers.connect, prefixes[name]) for name in WORKERS}

    # --- what is true now --------------------------------------------------------------------------

    def leading_worker(self) -> str:
        """Who acted last; somebody acts."""
        self.until_somebody_acts()
        return max(WORKERS, key=lambda name: last_act(self.folder, name))

    def until_somebody_acts(self, limit: float = 60) -> None:
        """Until an act was begun after now."""
        now = time.monotonic_ns()
        _until(lambda: any(last_act(self.folder, name) > now for name in WORKERS), "somebody acts", limit)

    def until_in_sync(self) -> None:
        """Until all servers serve and have what was acknowledged: then one may lose its data."""
        self.servers.wait()
        _until(lambda: "zk_synced_followers\t2" in self.servers.leader().word("mntr"), "both followers are in sync")

    def keys(self) -> dict[str, str]:
        """All keys with their values."""
        prefix = self.net.inside(WORKERS[0]) if self.net is not None else []
        command = [*prefix, sys.executable, "-m", "tests.system.zookeeper_worker", "dump", self.servers.connect]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def follower(self) -> Server:
        """One of the followers."""
        leader = self.servers.leader()
        return self.dice.choice([server for server in self.servers.servers if server is not leader])

    # --- faults ------------------------------------------------------------------------------------

    def kill_leader(self) -> None:
        """kill -9 of the leading server."""
        self._kill([self.servers.leader()])

    def kill_follower(self) -> None:
        """kill -9 of a follower."""
        self._kill([self.follower()])

    def kill_two(self) -> None:
        """kill -9 of two servers: no quorum."""
        self._kill(self.dice.sample(self.servers.servers, 2))

    def wipe_one(self) -> None:
        """kill -9 of a server, which comes back without its data; the others are in sync and stay up."""
        self._kill([self.dice.choice(self.servers.servers)], wipe=True)

    def stop_leader(self) -> None:
        """SIGSTOP of the leading server for longer than the others wait."""
        self._stop_server(self.servers.leader(), self.dice.uniform(2.2, 3.5))

    def stop_leader_briefly(self) -> None:
        """SIGSTOP of the leading server for about a session's time: it may stay the leader, late with everything."""
        self._stop_server(self.servers.leader(), self.dice.uniform(1.6, 2.1))

    def stop_follower(self) -> None:
        """SIGSTOP of a follower."""
        self._stop_server(self.follower(), LONG if SOAK and self.dice.random() < 0.1 else self.dice.uniform(1.5, 3.5))

    def stop_worker(self) -> None:
        """SIGSTOP of the leading worker for longer than its session: it must not act on when it goes on."""
        name = self.leading_worker()
        begin = time.monotonic_ns()
        self.workers[name].signal(signal.SIGSTOP)
        time.sleep(LONG)
        self.workers[name].signal(signal.SIGCONT)
        self.stops.append(Stop(name, begin, time.monotonic_ns()))

    def stop_worker_briefly(self) -> None:
        """SIGSTOP of the leading worker for about the length of its lease."""
        name = self.leading_worker()
        begin = time.monotonic_ns()
        self.workers[name].signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.3, 1.0) * SESSION)
        self.workers[name].signal(signal.SIGCONT)
        self.stops.append(Stop(name, begin, time.monotonic_ns()))

    def kill_worker(self) -> None:
        """kill -9 of the leading worker, which is started again."""
        name = self.leading_worker()
        self.workers[name].kill()
        time.sleep(self.dice.uniform(0.0, 1.0))
        self.workers[name].start()

    def cut_follower(self) -> None:
        """A follower that nobody reaches."""
        self._cut([self._machine(self.follower())])

    def cut_leader(self) -> None:
        """The leading server with the leading worker, parted from all others."""
        self._cut([self._machine(self.servers.leader()), self.leading_worker()])

    def cut_worker(self) -> None:
        """The leading worker, parted from all servers: it goes on running and is told nothing."""
        self._cut([self.leading_worker()])

    def _machine(self, server: Server) -> str:
        return SERVERS[server.number - 1]

    def _kill(self, servers: Sequence[Server], *, wipe: bool = False) -> None:
        for server in servers:
            server.kill()
        time.sleep(self.dice.uniform(0.0, 1.5))
        for server in servers:
            if wipe:
                server.wipe()
            server.start()

    def _stop_server(self, server: Server, seconds: float) -> None:
        server.pause()
        try:
            time.sleep(seconds)
        finally:
            server.resume()

    def _cut(self, machines: Sequence[str]) -> None:
        assert self.net is not None
        self.net.cut(machines)
        try:
            time.sleep(self.dice.uniform(3.3, 4.3) * (5 if SOAK and self.dice.random() < 0.2 else 1))
        finally:
            self.net.join()

    # --- the storm ---------------------------------------------------------------------------------

    def blow(self, faults: Sequence[Callable[[], None]]) -> None:
        """One fault after the other; before each, the servers have recovered from the last."""
        for fault in faults:
            self.until_in_sync()
            self.until_somebody_acts()
            began = time.monotonic()
            fault()
            self.faults.append(f"{fault.__name__} {time.monotonic() - began:.1f} s")
        self.until_in_sync()

    def verify(self) -> None:
        """What must be true after all."""
        self.until_somebody_acts()
        time.sleep(2 * SESSION)  # registrations of sessions that the last fault has cost end with these, and come anew
        _until(lambda: {f"edges/{name}" for name in WORKERS} <= self.keys().keys(), "all are registered again")
        codes = {name: worker.finish() for name, worker in self.workers.items()}
        assert set(codes.values()) == {0}, f"exit codes {codes}"
        keys, led = self.keys(), tenures(self.folder, WORKERS, self.stops)
        print(self.summary(led))
        assert not overlaps(led), "\n".join(overlaps(led))
        assert not (wrong := wrong_changes(self.folder, WORKERS, keys)), "\n".join(wrong)
        assert not [key for key in keys if key.startswith("edges/")], "who leaves in good order is gone at once"
        for worker in self.workers.values():
            assert not FAULT_OF_OURS.findall(worker.log())
            assert "Traceback" not in worker.log()

    def summary(self, led: Sequence[Tenure]) -> str:
        """What happened, in numbers."""
        between = sorted(gaps(led)) or [0.0]
        return (
            f"seed {SEED}: {len(self.faults)} faults ({', '.join(self.faults)}); "
            f"{sum(tenure.acts for tenure in led)} acts in {len(led)} tenures; "
            f"{acknowledged(self.folder, WORKERS)} acknowledged changes; {len(gaps(led))} changes of leader, "
            f"without one for {between[0]:.2f} to {between[-1]:.2f} s, median {between[len(between) // 2]:.2f} s"
        )


def _until(condition: Callable[[], object], what: str, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit:g} s: {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def storm(folder: Path, net: Network | None = None) -> Iterator[Storm]:
    """Three servers and three workers until the end of the context; what they said when it fails."""
    with ensemble(
        folder / "servers",
        len(SERVERS),
        addresses=[net.address(name) for name in SERVERS] if net is not None else (),
        prefix=lambda number: net.inside(SERVERS[number - 1]) if net is not None else (),
    ) as servers:
        blowing = Storm(folder, servers, net)
        try:
            for worker in blowing.workers.values():
                worker.start()
            yield blowing
        except BaseException:
            print(f"seed {SEED}, faults so far: {', '.join(blowing.faults)}")
            for worker in blowing.workers.values():
                print(f"--- {worker.name}\n{worker.log()[-6000:]}")
            raise
        finally:
            for worker in blowing.workers.values():
                worker.kill()


def chosen(blowing: Storm, short: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
    """The short storm's faults in an order of the seed; in a soak, many more of them."""
    if SOAK:
        return blowing.dice.choices(short, k=ROUNDS)
    return blowing.dice.sample(short, len(short))


@pytest.mark.soak
def test_a_storm_of_killed_stopped_and_wiped_processes(tmp_path: Path) -> None:
    with storm(tmp_path) as blowing:
        faults = [blowing.kill_leader, blowing.wipe_one, blowing.stop_worker, blowing.kill_worker, blowing.stop_leader]
        if SOAK:
            faults += [blowing.kill_follower, blowing.stop_follower, blowing.stop_worker_briefly]
            faults += [blowing.kill_two, blowing.stop_leader_briefly]
        blowing.blow(chosen(blowing, faults))
        blowing.verify()


@pytest.mark.soak
@pytest.mark.root
def test_a_storm_with_machines_that_are_cut_off(tmp_path: Path) -> None:
    with network([*SERVERS, *WORKERS]) as net, storm(tmp_path, net) as blowing:
        faults = [blowing.cut_follower, blowing.cut_leader, blowing.cut_worker, blowing.kill_two]
        if SOAK:
            faults += [blowing.wipe_one, blowing.stop_worker, blowing.stop_leader_briefly, blowing.kill_worker]
            faults += [blowing.stop_follower]
        blowing.blow(chosen(blowing, faults))
        blowing.verify()


def test_a_leader_too_many_and_changes_that_are_lost_are_seen(tmp_path: Path) -> None:
    (tmp_path / "w1.acts").write_text("1-1 10 11\n1-1 20 21\n1-2 50 51\n1-2 60 90\n")
    (tmp_path / "w2.acts").write_text("2-1 30 31\n2-1 40 41\n")
    stops = [Stop("w1", 65, 88)]
    led = tenures(tmp_path, WORKERS, stops)
    assert [(t.worker, t.begin, t.end, t.acts) for t in led] == [
        ("w1", 10, 21, 2),
        ("w2", 30, 41, 2),
        ("w1", 50, 65, 2),
    ]
    assert overlaps(led) == []
    assert [round(gap * 1e9) for gap in gaps(led)] == [9, 9]
    assert last_act(tmp_path, "w1") == 90
    with (tmp_path / "w1.acts").open("a") as file:
        file.write("1-1 35 36\n")  # went on after it had been stopped
    (wrong,) = overlaps(tenures(tmp_path, WORKERS, stops))
    assert wrong.startswith("w1 (1-1) and w2 (2-1) led together")

    (tmp_path / "w1.kept").write_text("alloc/1 w1\ncount 1\nalloc/2 w1\n")
    (tmp_path / "w1.tried").write_text("alloc/1 w1\ncount 1\nalloc/2 w1\nalloc/3 w1\n")
    (tmp_path / "w2.tried").write_text("alloc/3 w2\ncount 2\n")  # and whether they were made, it never knew
    fine = {"alloc/1": "w1", "alloc/2": "w1", "alloc/3": "w2", "count": "2"}
    assert wrong_changes(tmp_path, WORKERS, fine) == []
    assert acknowledged(tmp_path, WORKERS) == 3
    for key, value in (("alloc/1", "w2"), ("alloc/4", "w1"), ("count", "0"), ("count", "3")):
        assert wrong_changes(tmp_path, WORKERS, {**fine, key: value})
    del fine["alloc/2"]
    assert wrong_changes(tmp_path, WORKERS, fine)
    (tmp_path / "w2.kept").write_text("count 1\n")
    assert "('count', '1') was acknowledged 2 times" in wrong_changes(tmp_path, WORKERS, fine)
