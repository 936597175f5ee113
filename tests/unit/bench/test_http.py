"""The measurement of the edge: what is made of wrk's words and the kernel's counters, whatever the machine's speed."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench import http, http_servers
from tests.bench.http_servers import Proxy, Routed
from tests.native.build import need

REQUESTS = 1000
SAID = f"""Running 2s test @ http://127.0.0.1:8080/s
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    88.99us  340.69us   5.35ms   97.90%
    Req/Sec    59.87k     6.38k   66.84k    63.64%
  {REQUESTS} requests in 2.10s, 8.24MB read
Requests/sec:    500.00
Transfer/sec:      7.49MB
"""
ERRORS = """  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
"""


@dataclass(frozen=True)
class Counted(Proxy):
    """A proxy that ran for so many µs for each request, burst by burst; the first burst is to warm it."""

    readings: Iterator[int]

    def cpu_ns(self) -> int:
        return next(self.readings)


def proxy(name: str, *used: float) -> Counted:
    """See Counted; when there are more bursts, the last figure stays."""

    def readings() -> Iterator[int]:
        total = 0
        for place in range(1000):
            yield total
            total += round(used[min(place, len(used) - 1)] * REQUESTS * 1000)
            yield total

    return Counted(name, os.getpid(), 8080 + len(name), readings())


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The words of each run of wrk, a line each; what it says is in `said` beside that."""
    need("taskset")
    (tmp_path / "said").write_text(SAID)
    program = tmp_path / "wrk"
    program.write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/asked"\ncat "{tmp_path}/said"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


def measured(
    monkeypatch: pytest.MonkeyPatch, pharos: Proxy, peers: Sequence[Proxy] = (), **how: Any
) -> tuple[dict[str, Any], list[Routed]]:
    """What `measure` finds of these proxies, and what they were to route, each time."""
    routed: list[Routed] = []

    @contextlib.contextmanager
    def ours(folder: Path, backend: int, hosts: Routed) -> Iterator[Proxy]:
        routed.append(hosts)
        yield pharos

    @contextlib.contextmanager
    def theirs(name: str, folder: Path, backend: int, hosts: Routed) -> Iterator[Proxy]:
        for each in peers:
            if each.name == name:
                yield each
                return
        raise FileNotFoundError(name)

    monkeypatch.setattr(http_servers, "backend", lambda folder: contextlib.nullcontext(4711))
    monkeypatch.setattr(http_servers, "pharos", ours)
    monkeypatch.setattr(http_servers, "peer", theirs)
    return http.measure(**{"rounds": 3, "seconds": 2.0, "idle": 0, "routes": 0, "loads": ("small",), **how}), routed


def test_options() -> None:
    assert http.options([]) == {
        "rounds": http.ROUNDS,
        "seconds": http.SECONDS,
        "idle": http.IDLE,
        "routes": http.MANY_ROUTES,
        "apps": http.MANY_APPS,
        "loads": list(http.LOADS),
    }
    found = http.options(
        ["--rounds", "1", "--seconds", "0.5", "--idle", "0", "--routes", "0", "--apps", "7", "--loads", "megabyte"]
    )
    assert found == {"rounds": 1, "seconds": 0.5, "idle": 0, "routes": 0, "apps": 7, "loads": ["megabyte"]}
    with pytest.raises(SystemExit):
        http.options(["--loads", "gigabyte"])


def test_without_wrk_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert http.measure() == {"measurement": "http", "skipped": "wrk is not installed (Debian package wrk)"}


def test_ratios_are_of_the_same_round(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The third round was slow for all: the median of ratios is not the ratio of medians.
    ours, haproxy = proxy("pharos", 99, 2, 3, 8), proxy("haproxy", 99, 4, 4, 16)
    found, _ = measured(monkeypatch, ours, [haproxy, proxy("nginx", 99, 1, 1, 1)])
    small = found["loads"]["small"]
    assert small["ratio_of_cpu_to"] == {"haproxy": 0.5, "nginx": 3}
    assert small["pharos"] == {"cpu_us": 3, "rps": REQUESTS / 2, "errors": 0}
    assert small["haproxy"]["cpu_us"] == 4
    assert (found["rounds"], found["seconds"], list(found["loads"])) == (3, 2.0, ["small"])
    assert "idle_bytes_a_connection" not in found


def test_everybody_is_asked_first_in_turn(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [proxy("haproxy", 4), proxy("nginx", 5)]
    measured(monkeypatch, proxy("pharos", 3), peers)
    name_of = {8080 + len(name): name for name in ("pharos", "haproxy", "nginx")}
    order = [name_of[int(line.rpartition(":")[2].partition("/")[0])] for line in asked.read_text().splitlines()]
    assert [order[start : start + 3] for start in range(0, len(order), 3)] == [
        ["pharos", "haproxy", "nginx"],  # warm
        ["pharos", "haproxy", "nginx"],
        ["haproxy", "nginx", "pharos"],
        ["nginx", "pharos", "haproxy"],
    ]


def test_peers_that_are_not_there_are_named(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = measured(monkeypatch, proxy("pharos", 3), [proxy("nginx", 5)])
    assert found["missing"] == ["haproxy: not installed (Debian package haproxy)", "envoy: not installed"]
    assert list(found["loads"]["small"]["ratio_of_cpu_to"]) == ["nginx"]


def test_answers_that_are_none_are_counted_in_all_rounds(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.with_name("said").write_text(SAID.replace("Requests/sec", ERRORS + "Requests/sec"))
    found, _ = measured(monkeypatch, proxy("pharos", 3))
    assert found["loads"]["small"]["pharos"]["errors"] == 3 * 54321


def test_wrk_that_had_no_answer_divides_by_nothing(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.with_name("said").write_text(SAID.replace(f"{REQUESTS} requests", "0 requests"))
    found, _ = measured(monkeypatch, proxy("pharos", 3))
    assert found["loads"]["small"]["pharos"]["cpu_us"] == 3 * REQUESTS


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ("small", "-t1 -c64 "),
        ("small", "-H Host: host0.example.com"),
        ("kilobyte", "http://127.0.0.1:8086/k"),
        ("megabyte", "-c16 "),
        ("megabyte", "http://127.0.0.1:8086/m"),
        ("new_connection", "-H Connection: close"),
    ],
)
def test_what_wrk_is_told(load: str, words: str, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, proxy("pharos", 3), loads=(load,), rounds=1)
    lines = asked.read_text().splitlines()
    assert [line.split(" -d")[1].split()[0] for line in lines] == ["1s", "2s"]  # the first one warms
    assert all(words in line for line in lines)


def test_loads_of_random_hosts(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = asked.with_name("wrk")
    program.write_text(program.read_text() + 'while [ "$1" != -s ]; do shift; done; cp "$2" "$0.lua"\n')
    found, routed = measured(monkeypatch, proxy("pharos", 3), loads=(), routes=2000, apps=50, rounds=1)
    assert list(found["loads"]) == ["10_routes_to_10_apps", "50_routes_to_50_apps", "2000_routes_to_50_apps"]
    assert routed == [Routed(10, 10), Routed(10, 10), Routed(50, 50), Routed(2000, 50)]
    assert "ratio_of_cpu_to_10_routes_to_10_apps" not in found["loads"]["10_routes_to_10_apps"]
    script = asked.with_name("wrk.lua").read_text()
    assert "local count = 2000\n" in script
    assert http_servers.hosts(8)[7] == "host" + "7" + ".example.com"
    assert '"host" .. math.random(0, count - 1) .. ".example.com"' in script


def test_many_routes_are_compared_with_few_in_each_round(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In each round the one proxy is asked three times, for the three tables.
    ours = proxy("pharos", 9, 9, 9, 2, 3, 4, 4, 6, 10, 2, 5, 6)
    found, _ = measured(monkeypatch, ours, loads=(), routes=2000)
    few, many, all_hosts = found["loads"].values()
    assert [few["pharos"]["cpu_us"], many["pharos"]["cpu_us"], all_hosts["pharos"]["cpu_us"]] == [2, 5, 6]
    assert many["ratio_of_cpu_to_10_routes_to_10_apps"] == {"pharos": 1.5}
    assert all_hosts["ratio_of_cpu_to_10_routes_to_10_apps"] == {"pharos": 2.5}
    assert all_hosts["ratio_of_cpu_to_200_routes_to_200_apps"] == {"pharos": 1.333}


def test_memory_of_idle_connections(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("gcc")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    grown = iter([100.0, 400.0])

    @dataclass(frozen=True)
    class Grown(Proxy):
        def memory_kib(self) -> float:
            return next(grown)

    with http_servers.backend(asked.parent) as port:
        found, _ = measured(monkeypatch, Grown("pharos", os.getpid(), port), loads=(), idle=30)
    assert found["idle_bytes_a_connection"] == {"pharos": 300 * 1024 / 30}
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_idle_connections_that_get_no_answer(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((http_servers.HOST, 0)) as listener:
        silent = threading.Thread(target=lambda: listener.accept()[0].close())
        silent.start()
        pharos = Proxy("pharos", os.getpid(), listener.getsockname()[1])
        with pytest.raises((RuntimeError, ConnectionError)):
            measured(monkeypatch, pharos, loads=(), idle=30)
        silent.join()
