"""Services into the kernel's IPVS beside `ipvsadm --restore`: the same kernel, in turns.

    ./dev bench ipvs [--services N] [--rounds N]

Where this machine's kernel has IPVS and root starts this, it is measured in a network namespace of its own; else in a
VM. There an emulated CPU slows Python down more than ipvsadm and the kernel, so that ratios are worse for Pharos than
on a real one; and all seconds grow with what else this machine does. What is reported (seconds, medians of the rounds;
CPU is of the process itself, the kernel's work for its messages is in `system`):

    add     all services with three destinations each into an empty table
    read    all of it read back: `Ipvs.read` beside `ipvsadm --save`
    cpu     Pharos' CPU as a part of ipvsadm's
    one_changed_weight   messages to IPVS that the kernel itself saw (nlmon) for one destination's new weight
    here    on this machine's CPU, without a kernel: µs for encoding a destination, and for decoding one
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lb4 import ipvs_found, ipvs_wire
from lb4.ipvs import Ipvs
from lb4.netlink import NETLINK_GENERIC, NLM_F_REQUEST, each_message
from lb4.plan import plan
from lb4.services import Actual, BackendKey, Destination, Kind, Operation, Service, ServiceKey
from tests.fakes.ipvs_kernel import RECORDED_DESTINATION, Addresses
from tests.vm.machines import NO_VM, VMRUN

SERVICES, ROUNDS, BACKENDS = 10_000, 1, 3
VM_TIMEOUT = 1200
ALL_PROTOCOLS = 0x0003
MONITOR = "nlmon0"
ENCODINGS = 20_000


def options(words: Sequence[str]) -> dict[str, Any]:
    """The arguments of `measure` from the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench ipvs", description="IPVS beside ipvsadm")
    parser.add_argument("--services", type=int, default=SERVICES, help="services of three destinations (10000)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="interleaved rounds (1)")
    return vars(parser.parse_args(list(words)))


def measure(services: int = SERVICES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure where there is IPVS. Raises RuntimeError when that fails."""
    native = Path("/proc/net/ip_vs").exists() and os.geteuid() == 0
    before = ["unshare", "--net"] if native else [sys.executable, str(VMRUN), "--timeout", str(VM_TIMEOUT), "--"]
    command = [*before, sys.executable, "-m", "tests.bench.ipvs", str(services), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NO_VM:
        return {"measurement": "ipvs", "missing": "a kernel with IPVS, or a VM", "here": _without_kernel()}
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"measurement": "ipvs", "where": "this kernel" if native else "a VM", **found, "here": _without_kernel()}


def desired(services: int) -> dict[ServiceKey, Service]:
    """So many services."""
    used = Destination(1)
    found = {}
    for number in range(services):
        key = ServiceKey("tcp", f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", 80)
        places = range(number * BACKENDS, (number + 1) * BACKENDS)
        found[key] = Service(destinations={BackendKey(_node(place), 31000 + number % 1000): used for place in places})
    return found


def _node(number: int) -> str:
    """One of a thousand addresses."""
    return f"10.0.{number % 1000 >> 8}.{number % 1000 & 255}"


def restored(services: Mapping[ServiceKey, Service]) -> str:
    """The same for `ipvsadm --restore`."""
    lines = []
    for key, service in services.items():
        lines.append(f"-A -t {key.address}:{key.port} -s {service.settings.scheduler}")
        lines += [
            f"-a -t {key.address}:{key.port} -r {backend.address}:{backend.port} -m -w {destination.weight}"
            for backend, destination in service.destinations.items()
        ]
    return "\n".join(lines) + "\n"


# --- where there is IPVS --------------------------------------------------------------------------


def run(services: int, rounds: int) -> dict[str, Any]:
    """All figures. Changes the services of this network namespace."""
    wanted = desired(services)
    text = restored(wanted)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # without any address destinations are refused
    operations = [each for each in plan(wanted, Actual(), lambda _: False) if each.kind is not Kind.ADD_ADDRESS]
    figures: dict[str, list[dict[str, float]]] = {}
    messages: list[int | None] = []
    for number in range(rounds):
        for ours_now in (number % 2 == 0, number % 2 == 1):
            _ipvsadm("-C")
            if ours_now:
                asyncio.run(_ours(operations, wanted, figures, messages))
            else:
                _theirs(text, figures)
    add, read, restore, save = (_medians(figures[name]) for name in ("add", "read", "restore", "save"))
    return {
        "services": services,
        "operations": len(operations),
        "rounds": rounds,
        "add": {"pharos": add, "ipvsadm": restore, **_ratios(add, restore)},
        "read": {"pharos": read, "ipvsadm": save, **_ratios(read, save)},
        "one_changed_weight": messages[-1],
    }


def _theirs(text: str, figures: dict[str, list[dict[str, float]]]) -> None:
    for name, word, lines in (("restore", "-R", text), ("save", "-Sn", "")):
        with _Clock(resource.RUSAGE_CHILDREN) as clock:
            _ipvsadm(word, lines)
        figures.setdefault(name, []).append(clock.seconds)


async def _ours(
    operations: Sequence[Operation],
    wanted: Mapping[ServiceKey, Service],
    figures: dict[str, list[dict[str, float]]],
    messages: list[int | None],
) -> None:
    plane = Ipvs(Addresses())
    await plane.open()
    with _Clock(resource.RUSAGE_SELF) as clock:
        failures = await plane.apply(operations)
    assert failures == [], failures[:3]
    figures.setdefault("add", []).append(clock.seconds)
    with _Clock(resource.RUSAGE_SELF) as clock:
        actual = await plane.read()
    assert actual.services == wanted
    figures.setdefault("read", []).append(clock.seconds)
    key = next(iter(wanted))
    backend, _ = next(iter(wanted[key].destinations.items()))
    heavier = Service(wanted[key].settings, {**wanted[key].destinations, backend: Destination(7)})
    addressed = Actual(actual.services, frozenset(each.address for each in wanted))
    with _monitored() as sent:
        assert await plane.apply(plan({**wanted, key: heavier}, addressed, bool)) == []
        messages.append(sent())
    await plane.close()


class _Clock:
    """Seconds of wall clock, and of CPU as user and system."""

    def __init__(self, who: int) -> None:
        self.who = who
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> _Clock:
        self._began, self._before = time.perf_counter(), resource.getrusage(self.who)
        return self

    def __exit__(self, *_: object) -> None:
        wall, after = time.perf_counter() - self._began, resource.getrusage(self.who)
        self.seconds = {
            "wall": wall,
            "user": after.ru_utime - self._before.ru_utime,
            "system": after.ru_stime - self._before.ru_stime,
        }


def _ipvsadm(word: str, text: str = "") -> None:
    subprocess.run(["ipvsadm", word], input=text, stdout=subprocess.DEVNULL, text=True, check=True)


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}


def _ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    cpu = (ours["user"] + ours["system"]) / (theirs["user"] + theirs["system"])
    return {"cpu": round(cpu, 3), "wall": round(ours["wall"] / theirs["wall"], 3)}


@contextlib.contextmanager
def _monitored() -> Iterator[Callable[[], int | None]]:
    """Counts requests that IPVS gets from now on; None where the kernel can't tell."""
    made = subprocess.run(["ip", "link", "add", MONITOR, "type", "nlmon"], capture_output=True, check=False)
    if made.returncode != 0:
        yield lambda: None
        return
    try:
        subprocess.run(["ip", "link", "set", MONITOR, "up"], check=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as listening:
            listening.bind((MONITOR, ALL_PROTOCOLS))
            yield lambda: _counted(listening)
    finally:
        subprocess.run(["ip", "link", "delete", MONITOR], check=True)


def _counted(listening: socket.socket) -> int:
    count = 0
    while True:
        try:
            frame, (_, protocol, *_) = listening.recvfrom(1 << 17, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
        if protocol == NETLINK_GENERIC:
            requests = [each for each in each_message(frame) if each.flags & NLM_F_REQUEST]
            count += sum(each.type > ipvs_wire.CONTROLLER for each in requests)


def _without_kernel() -> dict[str, float]:
    operation = Operation(
        Kind.ADD_DESTINATION, ServiceKey("tcp", "11.0.0.1", 80), None, BackendKey("10.0.0.1", 80), Destination()
    )
    found = {}
    for name, call in (
        ("encode_us", lambda: ipvs_wire.change(operation)),
        ("decode_us", lambda: ipvs_found.read_destination(RECORDED_DESTINATION)),
    ):
        spent = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(ENCODINGS):
                call()
            spent.append(time.process_time() - began)
        found[name] = round(min(spent) / ENCODINGS * 1e6, 2)
    return found


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]))))
