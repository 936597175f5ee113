"""What `lb4/ipvs.py` does in a kernel that has IPVS, as ipvsadm sees it: `python -m tests.vm.ipvs_checks`, in a VM.

It changes the services of the network that it runs in, and loads and unloads modules. Prints each check.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from lb4.config import SCHEDULERS
from lb4.ipvs import Ipvs
from lb4.ipvs_found import FOREIGN
from lb4.ipvs_wire import Timeouts
from lb4.plan import plan
from lb4.services import (
    Actual,
    BackendKey,
    Destination,
    Kind,
    NotUsable,
    Operation,
    Service,
    ServiceKey,
    ServiceStats,
    Settings,
)
from tests.fakes.ipvs_kernel import Addresses
from tests.vm.ipvsadm import ipvsadm, saved, shown

WEB, WEB6 = ServiceKey("tcp", "11.0.0.1", 80), ServiceKey("tcp", "fd01:c::1", 80)
DNS, DNS6 = ServiceKey("udp", "11.0.0.1", 53), ServiceKey("udp", "fd01:c::1", 53)
A, B = BackendKey("10.0.0.2", 8080), BackendKey("10.0.0.3", 31000)
A6, B6 = BackendKey("fd00::2", 8080), BackendKey("fd00::3", 31000)
OWNED = ("11.", "fd01:c:")
NOBODY = 65534

CHANGES, CHECKPOINTS, TOGETHER = 1_000, 20, 5
SEED = 4


@contextlib.asynccontextmanager
async def opened(netns: str = "", timeouts: tuple[float, float, float] = (0, 0, 0)) -> AsyncIterator[Ipvs]:
    """A data plane; all services are gone afterwards."""
    plane = Ipvs(Addresses(), netns, timeouts)
    await plane.open()
    try:
        yield plane
    finally:
        await plane.close()
        ipvsadm("-C")


async def do(plane: Ipvs, *operations: Operation) -> None:
    """Without a failure."""
    failures = await plane.apply(operations)
    assert failures == [], failures


def put(key: ServiceKey, service: Service) -> list[Operation]:
    """What adds a service."""
    return plan({key: service}, Actual(), lambda address: False)[:-1]


async def same_everywhere(plane: Ipvs, services: dict[ServiceKey, Service]) -> Actual:
    """The kernel has these, as ipvsadm shows it and as the data plane reads it; the latter."""
    assert shown() == services
    actual = await plane.read()
    assert actual.services == services
    return actual


def has_scheduler(name: str) -> bool:
    """Whether this kernel has its module."""
    folder = Path("/lib/modules", os.uname().release, "kernel/net/netfilter/ipvs")
    return any(folder.glob(f"ip_vs_{name}.ko*"))


# --- what is said and read ------------------------------------------------------------------------


async def check_every_kind_of_service() -> None:
    wanted: dict[ServiceKey, Service] = {}
    for number, (scheduler, key) in enumerate(itertools.product(SCHEDULERS, (WEB, WEB6, DNS, DNS6))):
        is_v6 = ":" in key.address
        lengths = (128, 64, 1) if is_v6 else (32, 24, 1)
        settings = Settings(scheduler, 60 + number, lengths[number // 4 % 3]) if number % 3 else Settings(scheduler)
        backends = (A6, B6) if is_v6 else (A, B)
        destinations = {backends[0]: Destination(number, 1000 + number, 1000), backends[1]: Destination(65535)}
        wanted[key._replace(port=1000 + number)] = Service(settings, destinations)
    async with opened() as plane:
        operations = [operation for key, service in wanted.items() for operation in put(key, service)]
        failures = await plane.apply(operations)
        there = {name for name in SCHEDULERS if has_scheduler(name)}
        assert len(there) >= 12, there
        refused = {failure.operation.settings.scheduler for failure in failures if failure.operation.settings}
        assert refused == set(SCHEDULERS) - there, failures
        assert {failure.errno for failure in failures} <= {errno.ENOENT, errno.ESRCH}
        await same_everywhere(
            plane, {key: service for key, service in wanted.items() if service.settings.scheduler in there}
        )


async def check_a_change_deletes_nothing() -> None:
    async with opened() as plane:
        await do(plane, *put(WEB, Service(Settings("wlc", 60, 24), {A: Destination(1), B: Destination(2, 9, 3)})))
        await do(plane, *put(DNS6, Service(Settings("rr"), {A6: Destination(1)})))
        await do(
            plane,
            Operation(Kind.SET_SERVICE, WEB, Settings("mh")),
            Operation(Kind.SET_SERVICE, DNS6, Settings("sh", 5, 128)),
            Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(0, 7, 7)),
        )
        await same_everywhere(
            plane,
            {
                WEB: Service(Settings("mh"), {A: Destination(0, 7, 7), B: Destination(2, 9, 3)}),
                DNS6: Service(Settings("sh", 5, 128), {A6: Destination(1)}),
            },
        )


async def check_one_changed_weight_is_one_message() -> None:
    async with opened() as plane:
        before = Service(Settings(), {A: Destination(1), B: Destination(1)})
        await do(plane, *put(WEB, before), *put(DNS, before))
        actual = await plane.read()
        after = Service(Settings(), {A: Destination(1), B: Destination(0)})
        sent = plane.sent
        addressed = msgspec.structs.replace(actual, addresses=frozenset({WEB.address}))
        await do(plane, *plan({WEB: after, DNS: before}, addressed, lambda address: True))
        assert plane.sent == sent + 1
        await same_everywhere(plane, {WEB: after, DNS: before})


# --- others ---------------------------------------------------------------------------------------


async def check_what_others_do_meanwhile() -> None:
    async with opened() as plane:
        ipvsadm("-A", "-t", "11.0.0.1:80", "-s", "rr", "-p", "77", "-b", "flag-1,flag-2")
        ipvsadm("-a", "-t", "11.0.0.1:80", "-r", "10.0.0.2:80", "-g", "-w", "5")
        ipvsadm("-a", "-t", "11.0.0.1:80", "-r", "10.0.0.9:9", "-m")
        direct = BackendKey("10.0.0.2", 80)
        service = Service(Settings("wrr"), {direct: Destination(2, 3, 1), B: Destination(4)})
        await do(plane, *put(WEB, service))
        left = {**service.destinations, BackendKey("10.0.0.9", 9): Destination()}
        await same_everywhere(plane, {WEB: Service(service.settings, left)})
        ipvsadm("-C")
        await do(
            plane,
            Operation(Kind.DROP_SERVICE, DNS),
            Operation(Kind.SET_SERVICE, WEB, Settings("lc")),
            Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(3)),
            Operation(Kind.ADD_DESTINATION, WEB, None, B, Destination(4)),
            Operation(Kind.DROP_DESTINATION, WEB, None, BackendKey("10.0.0.9", 9)),
        )
        await same_everywhere(plane, {WEB: Service(Settings("lc"), {A: Destination(3), B: Destination(4)})})


async def check_the_rest_is_done() -> None:
    async with opened() as plane:
        family = Operation(Kind.ADD_DESTINATION, WEB, None, A6, Destination())
        limits = Operation(Kind.ADD_DESTINATION, WEB, None, B, Destination(1, 3, 5))
        nowhere = Operation(Kind.ADD_DESTINATION, DNS, None, A, Destination())
        scheduler = Operation(Kind.ADD_SERVICE, WEB6, Settings("nonesuch"))
        bad = (family, limits, nowhere, scheduler)
        web = put(WEB, Service(Settings(), {A: Destination()}))
        failures = await plane.apply([web[0], *bad, web[1], *put(DNS6, Service())])
        assert [(failure.operation, failure.errno) for failure in failures] == [
            (family, errno.EINVAL),
            (limits, errno.ERANGE),
            (nowhere, errno.ESRCH),
            (scheduler, errno.ENOENT),
        ]
        assert all(failure.reason for failure in failures)
        await same_everywhere(plane, {WEB: Service(Settings(), {A: Destination()}), DNS6: Service()})


async def check_services_of_others_stay() -> None:
    async with opened() as plane:
        ipvsadm(
            "-R",
            text="-A -f 7 -s rr\n-a -f 7 -r 10.0.0.3 -i\n-A --sctp-service 192.0.2.1:99 -s rr\n"
            "-A -t 192.0.2.1:80 -s mh -b mh-port -p 60\n-a -t 192.0.2.1:80 -r 10.0.0.2:80 -g -w 7\n"
            "-A -u [2001:db8::1]:0 -s rr -p 60 --pe sip\n-a -u [2001:db8::1]:0 -r [fd00::2]:0 -m\n",
        )
        theirs = saved()
        found = await plane.read()
        assert found.services == {
            ServiceKey("tcp", "192.0.2.1", 80): Service(
                Settings("mh+0x10", 60, 32), {BackendKey("10.0.0.2", 80): Destination(FOREIGN)}
            ),
            ServiceKey("udp", "2001:db8::1", 0): Service(
                Settings("rr+sip", 60, 128), {BackendKey("fd00::2", 0): Destination(1)}
            ),
        }
        desired = {WEB: Service(Settings(), {A: Destination()})}
        await do(plane, *plan(desired, found, lambda address: address.startswith(OWNED)))
        found = await plane.read()
        assert set(theirs) < set(saved())
        await do(plane, *plan({}, found, lambda address: address.startswith(OWNED)))
        assert saved() == theirs


# --- the machine ----------------------------------------------------------------------------------


async def check_time_outs() -> None:
    async with opened(timeouts=(8100, 0, 0)) as plane:
        assert await plane.timeouts() == Timeouts(8100, 120, 300)
        assert "8100 120 300" in ipvsadm("-L", "--timeout")
    async with opened(timeouts=(900, 121, 29.6)) as plane:
        assert await plane.timeouts() == Timeouts(900, 121, 30)
        assert "900 121 30" in ipvsadm("-L", "--timeout")


async def check_a_namespace_has_services_of_its_own() -> None:
    ip("netns", "add", "other")
    ip("-n", "other", "link", "set", "lo", "up")  # without any address all destinations are refused
    try:
        async with opened() as here, opened("/run/netns/other") as there:
            await do(there, *put(WEB, Service(Settings(), {A: Destination()})))
            await do(here, *put(DNS6, Service()))
            assert set((await there.read()).services) == {WEB}
            await same_everywhere(here, {DNS6: Service()})
    finally:
        ip("netns", "del", "other")


async def check_the_module_is_loaded_on_demand() -> None:
    async with opened() as plane:
        await do(plane, *put(WEB, Service()))
        ipvsadm("-C")
        unload()
        try:
            await plane.read()
        except FileNotFoundError:
            pass  # a kernel that does not load it for a question
        await plane.open()
        await do(plane, *put(WEB, Service()))
        await same_everywhere(plane, {WEB: Service()})


def unload() -> None:
    """Without IPVS' modules."""
    words = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    for name in [*(word[0] for word in words if word[0].startswith("ip_vs_")), "xt_ipvs", "ip_vs"]:
        subprocess.run(["rmmod", name], capture_output=True, check=False)
    assert "\nip_vs " not in Path("/proc/modules").read_text()


def ip(*words: str) -> None:
    """`ip` with these words."""
    subprocess.run(["ip", *words], check=True)


# --- traffic --------------------------------------------------------------------------------------


async def check_stats_of_traffic() -> None:
    ip("link", "set", "lo", "up")
    for address in ("11.0.0.1/32", "10.0.0.2/32"):
        ip("address", "add", address, "dev", "lo")
    service = Service(Settings("rr"), {A: Destination()})
    async with opened() as plane:
        await do(plane, *put(WEB, service), *put(DNS, service))
        with served(A) as kept, socket.create_connection(WEB[1:], timeout=30):
            for _ in range(4):
                with socket.create_connection(WEB[1:], timeout=30) as client:
                    client.sendall(b"x" * 1000)
                    assert client.recv(1) == b"!"
            # The kernel sums up every 2 s.
            found = await until(plane, WEB, 5)
            assert kept.count == 5
            assert (found.backends[A].active, found.backends[A].connections) == (1, 5), found
            assert found.in_packets > 9
            assert found.out_packets > 9
            assert found.in_bytes > 4_000 > 5 * 40 < found.out_bytes
            # A change keeps what was counted, and the connections.
            await do(
                plane,
                Operation(Kind.SET_SERVICE, WEB, Settings("wlc")),
                Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(0)),
            )
            after = (await plane.stats([WEB]))[WEB]
            assert after.connections == 5
            assert after.backends[A].active == 1
            assert (await plane.stats())[DNS].connections == 0
            assert set(await plane.stats([DNS, WEB6])) == {DNS}


async def until(plane: Ipvs, key: ServiceKey, connections: int) -> ServiceStats:
    """A service's stats when it had so many connections; a minute at most."""
    deadline = time.monotonic() + 60
    while (found := (await plane.stats([key]))[key]).connections < connections:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
    return found


class Kept:
    """How many connections there were."""

    count = 0


@contextlib.contextmanager
def served(place: BackendKey) -> Iterator[Kept]:
    """A server that answers what a client says once, and hangs up."""
    kept = Kept()

    def answer(connection: socket.socket) -> None:
        with connection:
            if connection.recv(1000):
                connection.sendall(b"!")

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                kept.count += 1
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(place) as listening:
        threading.Thread(target=run, daemon=True).start()
        try:
            yield kept
        finally:
            listening.shutdown(socket.SHUT_RDWR)


# --- many changes ---------------------------------------------------------------------------------


class Wishes:
    """Random desired states, each a small change of the one before."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)
        self.services: dict[ServiceKey, Service] = {}
        self.schedulers = [name for name in SCHEDULERS if has_scheduler(name)]
        self.keys = [
            ServiceKey(protocol, address, port)
            for protocol in ("tcp", "udp")
            for address in ("11.0.0.1", "11.0.0.2", "11.1.0.1", "fd01:c::1", "fd01:c::2")
            for port in (80, 65535)
        ]

    def change(self) -> ServiceKey:
        """Something else is desired of this service."""
        key = self.random.choice(self.keys)
        service = self.services.get(key)
        if service is None:
            destinations = dict(self._destination(key) for _ in range(self.random.randrange(4)))
            self.services[key] = Service(self._settings(key), destinations)
        elif self.random.random() < 0.15:
            del self.services[key]
        else:
            self.services[key] = self._changed(key, service)
        return key

    def _changed(self, key: ServiceKey, service: Service) -> Service:
        destinations = dict(service.destinations)
        settings = service.settings
        for _ in range(self.random.randrange(1, 4)):
            what = self.random.randrange(4)
            if what == 0:
                settings = self._settings(key)
            elif what == 1 and destinations:
                del destinations[self.random.choice(list(destinations))]
            else:
                backend, destination = self._destination(key)
                destinations[backend] = destination
        return Service(settings, destinations)

    def _settings(self, key: ServiceKey) -> Settings:
        scheduler = self.random.choice(self.schedulers)
        if self.random.random() < 0.7:
            return Settings(scheduler)
        return Settings(
            scheduler, self.random.choice((1, 300)), self.random.choice((24, 128 if ":" in key.address else 32))
        )

    def _destination(self, key: ServiceKey) -> tuple[BackendKey, Destination]:
        address = f"{'fd00::' if ':' in key.address else '10.0.0.'}{self.random.randrange(2, 8)}"
        upper = self.random.choice((0, 0, 100))
        destination = Destination(self.random.choice((0, 1, 1, 7)), upper, self.random.choice((0, upper)))
        return BackendKey(address, self.random.choice((80, 31000))), destination


async def check_a_thousand_changes() -> None:
    def owned(address: str) -> bool:
        return address.startswith(OWNED)

    wishes = Wishes()
    async with opened() as plane:
        actual = await plane.read()
        for checkpoint in range(CHECKPOINTS):
            for _ in range(CHANGES // CHECKPOINTS // TOGETHER):
                keys = {wishes.change() for _ in range(TOGETHER)}
                await do(plane, *plan(wishes.services, actual, owned, keys=keys))
                actual = Actual(dict(wishes.services), frozenset(key.address for key in wishes.services))
            found = await same_everywhere(plane, wishes.services)
            assert plan(wishes.services, found, owned) == [], checkpoint
            if checkpoint % 5 == 4:
                disturb(wishes.random)
                await do(plane, *plan(wishes.services, await plane.read(), owned))
                await same_everywhere(plane, wishes.services)


def disturb(chosen: random.Random) -> None:
    """What others may do: drop some services, change some destinations and add a service."""
    before = saved()
    for line in chosen.sample(before, 5):
        words = line.split()
        command = ["-D", *words[1:3]] if words[0] == "-A" else ["-e", *words[1:5], "-m", "-w", "9"]
        # One that went with its service can't be changed.
        subprocess.run(["ipvsadm", *command], check=False, capture_output=True)
    ipvsadm("-A", "-t", "11.9.9.9:99", "-s", "rr")
    assert saved() != before


def check_without_the_capability() -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(NOBODY)
            asyncio.run(Ipvs(Addresses()).open())
        except NotUsable as error:
            code = 0 if "CAP_NET_ADMIN" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def main() -> None:
    """All checks, one after the other."""
    for check in (
        check_every_kind_of_service,
        check_a_change_deletes_nothing,
        check_one_changed_weight_is_one_message,
        check_what_others_do_meanwhile,
        check_the_rest_is_done,
        check_services_of_others_stay,
        check_time_outs,
        check_a_namespace_has_services_of_its_own,
        check_the_module_is_loaded_on_demand,
        check_stats_of_traffic,
        check_a_thousand_changes,
    ):
        began = time.monotonic()
        await check()
        print(f"{check.__name__}: ok ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    if "VMRUN" not in os.environ:
        sys.exit("only in a VM: it changes the services of the network")
    asyncio.run(main())
    check_without_the_capability()  # last: all is imported, which nobody may not
    print("check_without_the_capability: ok", flush=True)
