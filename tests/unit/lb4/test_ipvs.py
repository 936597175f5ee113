"""The IPVS data plane on a kernel that a test made up, and what it says where there is none.

Regressions against pyroute2 0.9.7 are among these: a change must not delete, IPv6 must work, destinations are
masqueraded, and thresholds, flags and schedulers are read as they are.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from lb4 import ipvs, netlink
from lb4.ipvs import Ipvs
from lb4.ipvs_found import FOREIGN
from lb4.ipvs_wire import GET_DEST, GET_SERVICE, Timeouts
from lb4.netlink import Answer
from lb4.services import (
    Actual,
    BackendKey,
    BackendStats,
    DataPlane,
    Destination,
    Kind,
    NotUsable,
    Operation,
    Service,
    ServiceKey,
    ServiceStats,
    Settings,
)
from tests.fakes.ipvs_kernel import (
    CONTROLLER,
    RECORDED_ENGINE,
    RECORDED_MARK,
    RECORDED_SCTP,
    Addresses,
    IpvsKernel,
)
from tests.fakes.netlink import Reply
from tests.fakes.turns import Waiting

WEB = ServiceKey("tcp", "11.0.0.1", 80)
DNS = ServiceKey("udp", "fd01:c::1", 53)
A, B, A6 = BackendKey("10.0.0.1", 8080), BackendKey("10.0.0.2", 8081), BackendKey("fd00::1", 5353)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> IpvsKernel:
    """What every netlink socket reaches; modprobe does nothing."""
    made = IpvsKernel()
    monkeypatch.setattr(netlink, "_opened", made.opened)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    return made


@pytest_asyncio.fixture
async def plane(kernel: IpvsKernel) -> AsyncIterator[Ipvs]:
    """An open one."""
    opened = Ipvs(Addresses())
    await opened.open()
    yield opened
    await opened.close()


def added(key: ServiceKey, settings: Settings, **destinations: Destination) -> list[Operation]:
    """A service with destinations A, B, A6."""
    backends = {"A": A, "B": B, "A6": A6}
    return [
        Operation(Kind.ADD_SERVICE, key, settings),
        *(Operation(Kind.ADD_DESTINATION, key, None, backends[name], used) for name, used in destinations.items()),
    ]


def test_it_is_a_data_plane() -> None:
    plane: DataPlane = Ipvs(Addresses())
    assert plane.name == "ipvs"


@pytest.mark.asyncio
async def test_what_is_added_is_read(plane: Ipvs) -> None:
    operations = added(WEB, Settings("wlc"), A=Destination(3, 100, 50), B=Destination(0))
    operations += added(DNS, Settings("mh", 60, 64), A6=Destination(65535))
    operations += [Operation(Kind.ADD_ADDRESS, WEB), Operation(Kind.ADD_ADDRESS, DNS)]
    assert await plane.apply(operations) == []
    assert await plane.read() == Actual(
        {
            WEB: Service(Settings("wlc"), {A: Destination(3, 100, 50), B: Destination(0)}),
            DNS: Service(Settings("mh", 60, 64), {A6: Destination(65535)}),
        },
        frozenset({"11.0.0.1", "fd01:c::1"}),
    )


@pytest.mark.asyncio
async def test_a_change_deletes_nothing(plane: Ipvs, kernel: IpvsKernel) -> None:
    await plane.apply(added(WEB, Settings("wlc", 60), A=Destination(), B=Destination()))
    changes = [
        Operation(Kind.SET_SERVICE, WEB, Settings("sh")),
        Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(7, 9, 8)),
    ]
    assert await plane.apply(changes) == []
    assert (await plane.read()).services == {WEB: Service(Settings("sh"), {A: Destination(7, 9, 8), B: Destination()})}
    assert not {3, 7, 17} & set(kernel.commands)  # DEL_SERVICE, DEL_DEST, FLUSH


@pytest.mark.asyncio
async def test_only_what_changes_is_sent(plane: Ipvs, kernel: IpvsKernel) -> None:
    await plane.apply(added(WEB, Settings(), A=Destination(), B=Destination()))
    kernel.commands.clear()
    before = plane.sent
    await plane.apply([Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(5))])
    assert kernel.commands == [6]
    assert plane.sent == before + 1


@pytest.mark.asyncio
async def test_drops(plane: Ipvs) -> None:
    await plane.apply(added(WEB, Settings(), A=Destination(), B=Destination()) + added(DNS, Settings()))
    drops = [Operation(Kind.DROP_DESTINATION, WEB, None, A), Operation(Kind.DROP_SERVICE, DNS)]
    assert await plane.apply(drops) == []
    assert (await plane.read()).services == {WEB: Service(Settings(), {B: Destination()})}
    assert await plane.apply(drops) == []  # gone already, as is wanted


@pytest.mark.asyncio
async def test_what_others_do_at_the_same_time_is_no_failure(plane: Ipvs) -> None:
    twice = added(WEB, Settings("rr"), A=Destination(1))
    assert await plane.apply(twice) == []
    assert await plane.apply(added(WEB, Settings("wlc"), A=Destination(2))) == []
    assert await plane.apply([Operation(Kind.SET_DESTINATION, WEB, None, B, Destination(3))]) == []
    assert await plane.apply([Operation(Kind.SET_SERVICE, DNS, Settings("rr"))]) == []
    assert (await plane.read()).services == {
        WEB: Service(Settings("wlc"), {A: Destination(2), B: Destination(3)}),
        DNS: Service(Settings("rr")),
    }


@pytest.mark.asyncio
async def test_a_failure_has_errno_and_operation_and_the_rest_is_done(plane: Ipvs) -> None:
    mixed = Operation(Kind.ADD_DESTINATION, WEB, None, A6, Destination())
    unknown = Operation(Kind.ADD_SERVICE, DNS, Settings("best"))
    operations = [*added(WEB, Settings()), mixed, unknown, Operation(Kind.ADD_DESTINATION, WEB, None, A, Destination())]
    failures = await plane.apply(operations)
    assert [(failure.operation, failure.errno) for failure in failures] == [
        (mixed, errno.EINVAL),
        (unknown, errno.ENOENT),
    ]
    assert (await plane.read()).services == {WEB: Service(Settings(), {A: Destination()})}


@pytest.mark.asyncio
async def test_services_of_others_are_read_and_none_of_a_mark(plane: Ipvs, kernel: IpvsKernel) -> None:
    kernel.foreign = [RECORDED_ENGINE, RECORDED_MARK, RECORDED_SCTP]
    assert await plane.apply(added(WEB, Settings(), A=Destination(4))) == []
    _, destinations = next(iter(kernel.services.values()))
    next(iter(destinations.values()))[3] = b"\x03\0\0\0"  # direct routing
    assert (await plane.read()).services == {
        WEB: Service(Settings(), {A: Destination(FOREIGN)}),
        ServiceKey("udp", "11.0.0.9", 5060): Service(Settings("rr+sip", 60, 32)),
    }
    assert await plane.apply([Operation(Kind.SET_DESTINATION, WEB, None, A, Destination(4))]) == []
    assert (await plane.read()).services[WEB] == Service(Settings(), {A: Destination(4)})


@pytest.mark.asyncio
async def test_stats(plane: Ipvs, kernel: IpvsKernel) -> None:
    await plane.apply(added(WEB, Settings(), A=Destination(), B=Destination()) + added(DNS, Settings()))
    kernel.counts = {80: (5 << 32, 4, 3, 2, 1), 8080: (7, 8, 9)}
    web = ServiceStats(5 << 32, 4, 3, 2, 1, {A: BackendStats(7, 8, 9), B: BackendStats()})
    assert await plane.stats() == {WEB: web, DNS: ServiceStats()}
    assert await plane.stats([WEB, ServiceKey("tcp", "11.0.0.7", 7)]) == {WEB: web}
    assert await plane.stats([]) == {}


@pytest.mark.asyncio
async def test_time_outs_are_set(kernel: IpvsKernel) -> None:
    plane = Ipvs(Addresses(), timeouts=(8100, 0, 0.25))
    await plane.open()
    assert await plane.timeouts() == Timeouts(8100, 120, 1)
    await plane.close()
    kernel.commands.clear()
    await plane.open()
    other = Ipvs(Addresses())
    await other.open()
    assert kernel.commands == [15, 12, 15]
    await plane.close()
    await other.close()


@pytest.mark.asyncio
async def test_time_outs_that_can_not_be_set_are_told(kernel: IpvsKernel, caplog: pytest.LogCaptureFixture) -> None:
    plane = Ipvs(Addresses(), timeouts=(1 << 40, 0, 0))
    await plane.open()
    assert [record.levelno for record in caplog.records if "time-outs" in record.message] == [logging.WARNING]
    assert await plane.apply(added(WEB, Settings())) == []
    await plane.close()


@pytest.mark.asyncio
async def test_the_module_comes_back_with_another_number(plane: Ipvs, kernel: IpvsKernel) -> None:
    kernel.present = False
    with pytest.raises(FileNotFoundError):
        await plane.read()
    kernel.present, kernel.family = True, 44
    assert await plane.read() == Actual()
    assert await plane.apply(added(WEB, Settings())) == []


# --- where it can't be used -----------------------------------------------------------------------


@pytest.mark.asyncio
async def test_no_module(kernel: IpvsKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.present = False
    asked: list[Any] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/sbin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda words, **_: asked.append(words))
    with pytest.raises(NotUsable, match="modprobe ip_vs"):
        await Ipvs(Addresses()).open()
    assert asked == [["/sbin/modprobe", "ip_vs"]]
    assert all(each.closed for each in kernel.sockets)

    def load(words: list[str], **_: Any) -> None:
        kernel.present = True

    monkeypatch.setattr(subprocess, "run", load)
    plane = Ipvs(Addresses())
    await plane.open()
    await plane.close()


@pytest.mark.asyncio
async def test_modprobe_is_for_root(kernel: IpvsKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.present = False
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("not root"))
    with pytest.raises(NotUsable):
        await Ipvs(Addresses()).open()


@pytest.mark.asyncio
async def test_no_capability(kernel: IpvsKernel) -> None:
    kernel.allowed = False
    with pytest.raises(NotUsable, match="without the capability CAP_NET_ADMIN"):
        await Ipvs(Addresses(), timeouts=(1, 1, 1)).open()
    assert all(each.closed for each in kernel.sockets)


@pytest.mark.asyncio
async def test_no_such_namespace() -> None:
    with pytest.raises(NotUsable, match="network namespace /run/nowhere: No such file"):
        await Ipvs(Addresses(), "/run/nowhere").open()


@pytest.mark.asyncio
async def test_no_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(protocol: int) -> None:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(netlink, "_opened", refused)
    with pytest.raises(NotUsable, match="netlink socket"):
        await Ipvs(Addresses()).open()


@pytest.mark.asyncio
async def test_addresses_that_can_not_be_used(kernel: IpvsKernel) -> None:
    class Useless(Addresses):
        def open(self) -> None:
            raise NotUsable("no device")

    with pytest.raises(NotUsable, match="no device"):
        await Ipvs(Useless()).open()
    assert all(each.closed for each in kernel.sockets)


@pytest.mark.asyncio
async def test_answers_that_are_no_answers(plane: Ipvs, kernel: IpvsKernel) -> None:
    answer = kernel.reply

    def odd(request: Answer) -> Reply:
        return [b"\x01\x01\0\0"] if request.payload[0] == 4 else answer(request)

    kernel.reply = odd
    for asked in (plane.read(), plane.stats(), plane.stats([WEB])):
        with pytest.raises(OSError) as caught:
            await asked
        assert caught.value.errno == errno.EBADMSG


@pytest.mark.asyncio
async def test_closed(plane: Ipvs) -> None:
    await plane.close()
    assert plane.sent == 0
    with pytest.raises(OSError, match="not open"):
        await plane.read()
    await plane.open()
    assert await plane.read() == Actual()


@pytest.mark.asyncio
async def test_one_thing_at_a_time_also_after_a_cancellation(plane: Ipvs, kernel: IpvsKernel) -> None:
    asked, go_on = threading.Event(), threading.Event()
    answer = kernel.reply
    inside: list[int] = []

    def slow(request: Answer) -> Reply:
        inside.append(1)
        asked.set()
        go_on.wait(60)
        assert len(inside) == 1
        inside.pop()
        return answer(request)

    kernel.reply = slow
    first = asyncio.create_task(plane.apply(added(WEB, Settings())))
    await asyncio.to_thread(asked.wait, 60)
    first.cancel()
    second = asyncio.create_task(plane.read())
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    assert set((await second).services) == {WEB}


class Held:
    """Holds the first command of a kind that a kernel is asked until it may go on."""

    def __init__(self, kernel: IpvsKernel, command: int) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self._command = command
        self._answer = kernel.reply
        kernel.reply = self._reply

    def _reply(self, request: Answer) -> Reply:
        if request.payload[0] == self._command and request.type != CONTROLLER and not self.asked.is_set():
            self.asked.set()
            assert self.go_on.wait(60)
        return self._answer(request)


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["read", "stats"])
async def test_changes_do_not_wait_for_what_is_read(plane: Ipvs, kernel: IpvsKernel, what: str) -> None:
    await plane.apply(added(WEB, Settings(), A=Destination()))
    held = Held(kernel, GET_DEST)
    reading = asyncio.create_task(plane.read() if what == "read" else plane.stats())
    await asyncio.to_thread(held.asked.wait, 60)
    async with asyncio.timeout(60):
        assert await plane.apply(added(DNS, Settings())) == []
    assert not reading.done()
    held.go_on.set()
    await reading
    assert set((await plane.read()).services) == {WEB, DNS}


@pytest.mark.asyncio
async def test_counts_of_a_few_wait_for_a_slice_of_all(
    plane: Ipvs, kernel: IpvsKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipvs, "SLICE", 2)
    keys = [ServiceKey("tcp", "11.0.0.1", port) for port in range(1, 6)]
    await plane.apply([each for key in keys for each in added(key, Settings())])
    held = Held(kernel, GET_DEST)
    every = asyncio.create_task(plane.stats())
    await asyncio.to_thread(held.asked.wait, 60)
    waits: Any = Waiting(1)
    plane._questions._next = waits
    few = asyncio.create_task(plane.stats([WEB]))  # there is none such
    await asyncio.to_thread(waits.taken.wait, 60)
    kernel.commands.clear()
    held.go_on.set()
    assert await few == {}
    assert set(await every) == set(keys)
    assert kernel.commands == [GET_DEST, GET_DEST, GET_SERVICE, GET_DEST, GET_DEST, GET_DEST]


@pytest.mark.asyncio
async def test_a_close_ends_what_is_read_after_its_slice(
    plane: Ipvs, kernel: IpvsKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipvs, "SLICE", 1)
    await plane.apply(added(WEB, Settings()) + added(DNS, Settings()))
    held = Held(kernel, GET_DEST)
    every = asyncio.create_task(plane.stats())
    await asyncio.to_thread(held.asked.wait, 60)
    waits: Any = Waiting(1)
    plane._questions._next = waits
    closing = asyncio.create_task(plane.close())
    await asyncio.to_thread(waits.taken.wait, 60)
    held.go_on.set()
    with pytest.raises(OSError, match="not open"):
        await every
    await closing
    assert all(each.closed for each in kernel.sockets)
