"""The data plane in the kernel: IPVS by generic netlink.

    plane = Ipvs(addresses, timeouts=(8100, 120, 30))
    await plane.open()                      # NotUsable: the text says what to do
    failures = await plane.apply(plan(desired, await plane.read()))

Everything that waits for the kernel runs in a thread. Changes have a socket of their own, so that they never wait for
what is read; reads and counts share another one, by turns. Nothing is ever flushed: services of others are read, and
left as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from lb4 import ipvs_found, ipvs_wire
from lb4.ipvs_changes import carry_out
from lb4.ipvs_found import FoundDestination, FoundService
from lb4.ipvs_line import Line
from lb4.ipvs_wire import Timeouts
from lb4.netlink import NETLINK_GENERIC, Message, NetlinkSocket
from lb4.services import (
    Actual,
    Failure,
    LocalAddresses,
    NotUsable,
    Operation,
    Service,
    ServiceKey,
    ServiceStats,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")

MODPROBE_TIMEOUT = 10.0
"""Seconds for `modprobe ip_vs`."""
SLICE = 100
"""Services whose destinations are read in one turn."""
_PROGRAMS = "/usr/sbin:/sbin:/usr/bin:/bin"


class Ipvs:
    """The DataPlane of a network namespace (a path; "": this process'). `addresses` makes VIPs local there.

    `timeouts` (TCP, TCP that is being closed, UDP, in seconds) are set when it is opened; 0 leaves one as it is.
    """

    name = "ipvs"

    def __init__(
        self, addresses: LocalAddresses, netns: str = "", timeouts: tuple[float, float, float] = (0, 0, 0)
    ) -> None:
        self._addresses = addresses
        self._netns = netns
        # Less than a second is not "as it is set".
        self._timeouts = Timeouts(*(max(1, round(seconds)) if seconds > 0 else 0 for seconds in timeouts))
        self._changes, self._questions = Line(), Line()
        self._family = 0

    @property
    def sent(self) -> int:
        """Messages sent to the kernel since it was opened."""
        return self._changes.sent + self._questions.sent

    async def open(self) -> None:
        """See DataPlane."""
        await asyncio.to_thread(self._open)

    async def read(self) -> Actual:
        """See DataPlane. Services by a firewall mark or of another protocol than TCP and UDP are left out.

        It begins when what is being applied is done. What is changed while it reads, by an `apply` or by others, may
        be in it or not, also in part (a service, and not yet its destinations); all else is as it is.
        """
        return await asyncio.to_thread(self._read)

    async def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """See DataPlane. A run of operations on services and destinations is one batch."""
        return await asyncio.to_thread(self._apply, operations)

    async def stats(self, services: Sequence[ServiceKey] | None = None) -> Mapping[ServiceKey, ServiceStats]:
        """See DataPlane. The kernel sums up its counts every 2 s."""
        return await asyncio.to_thread(self._stats, services)

    async def timeouts(self) -> Timeouts:
        """Those in force. Raises OSError."""
        return await asyncio.to_thread(self._read_timeouts)

    async def close(self) -> None:
        """See DataPlane."""
        await asyncio.to_thread(self._close)

    # --- in a thread ------------------------------------------------------------------------------

    def _open(self) -> None:
        with self._changes.alone(), self._questions.alone(), contextlib.ExitStack() as opened:
            self._close_sockets()
            try:
                # Both now: the path may be another namespace's one day.
                kernel, other = (opened.enter_context(NetlinkSocket(NETLINK_GENERIC, self._netns)) for _ in range(2))
            except OSError as error:
                raise NotUsable(_why_not_opened(error, self._netns)) from error
            try:
                self._family = self._found_or_loaded(kernel)
                info = ipvs_found.read_info(_one(kernel.request(self._family, ipvs_wire.command(ipvs_wire.GET_INFO))))
                self._set_timeouts(kernel)
                self._addresses.open()
            except NotUsable:
                raise
            except (OSError, ValueError) as error:
                raise NotUsable(self._why_not_usable(error)) from error
            opened.pop_all()
            self._changes.put(kernel)
            self._questions.put(other)
        log.info("ipvs is there version=%s connection_table=%d%s", *info, _place(self._netns))

    def _found_or_loaded(self, kernel: NetlinkSocket) -> int:
        """The number of IPVS' family. Asking for it makes newer kernels load the module; else modprobe is tried."""
        try:
            return _family(kernel)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        _load_module()
        try:
            return _family(kernel)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            raise NotUsable("the kernel has no IPVS: load its module on this machine by `modprobe ip_vs`") from error

    def _set_timeouts(self, kernel: NetlinkSocket) -> None:
        if not any(self._timeouts):
            return
        try:
            kernel.request(self._family, ipvs_wire.timeouts_change(self._timeouts))
        except (OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise
            # Connections end a little later then; that is no reason to have none.
            log.warning("ipvs time-outs not set wanted=%s reason=%s", tuple(self._timeouts), error)

    def _why_not_usable(self, error: Exception) -> str:
        if isinstance(error, PermissionError):
            return f"IPVS can't be changed without the capability CAP_NET_ADMIN{_place(self._netns)}"
        return f"IPVS does not work{_place(self._netns)}: {error}"

    def _read(self) -> Actual:
        with _understood():
            with self._changes.turn():  # the addresses' sockets are for one thread at a time
                addresses = self._addresses.read()
            with self._questions.turn() as kernel:
                # After `rmmod ip_vs` and its return the number is another one.
                self._family = _family(kernel)
            found = self._services(counted=False)
            return Actual(dict(self._in_slices(found, self._with_destinations)), addresses)

    def _apply(self, operations: Sequence[Operation]) -> list[Failure]:
        with _understood(), self._changes.turn() as kernel:
            family = self._family
            return carry_out(
                operations,
                lambda payloads: kernel.batch([Message(family, 0, payload) for payload in payloads]),
                self._addresses,
            )

    def _stats(self, keys: Sequence[ServiceKey] | None) -> dict[ServiceKey, ServiceStats]:
        with _understood():
            if keys is None:
                return dict(self._in_slices(self._services(), self._with_counts))
            found = self._in_slices(keys, self._service)
            return dict(self._in_slices([each for each in found if each is not None], self._with_counts))

    def _read_timeouts(self) -> Timeouts:
        with _understood(), self._questions.turn() as kernel:
            answer = kernel.request(self._family, ipvs_wire.command(ipvs_wire.GET_CONFIG))
            return ipvs_found.read_timeouts(_one(answer))

    def _close(self) -> None:
        with self._changes.alone(), self._questions.alone():
            self._close_sockets()
            self._addresses.close()

    def _close_sockets(self) -> None:
        self._changes.put(None)
        self._questions.put(None)

    # --- questions --------------------------------------------------------------------------------

    def _in_slices(self, items: Sequence[Item], ask: Callable[[NetlinkSocket, Item], T]) -> list[T]:
        """The answers, with a turn for others after every SLICE of them."""
        answers: list[T] = []
        for start in range(0, len(items), SLICE):
            with self._questions.turn() as kernel:
                answers += [ask(kernel, item) for item in items[start : start + SLICE]]
        return answers

    def _services(self, counted: bool = True) -> list[FoundService]:
        with self._questions.turn() as kernel:
            payloads = kernel.dump(self._family, ipvs_wire.command(ipvs_wire.GET_SERVICE))
        return [found for payload in payloads if (found := ipvs_found.read_service(payload, counted)) is not None]

    def _service(self, kernel: NetlinkSocket, key: ServiceKey) -> FoundService | None:
        """None where there is none."""
        try:
            answer = kernel.request(self._family, ipvs_wire.service_question(key))
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            return None
        return ipvs_found.read_service(_one(answer))

    def _with_destinations(self, kernel: NetlinkSocket, found: FoundService) -> tuple[ServiceKey, Service]:
        backends = self._backends(kernel, found.key)
        return found.key, Service(found.settings, {backend.key: backend.destination for backend in backends})

    def _with_counts(self, kernel: NetlinkSocket, found: FoundService) -> tuple[ServiceKey, ServiceStats]:
        return found.key, _with_backends(found.stats, self._backends(kernel, found.key))

    def _backends(self, kernel: NetlinkSocket, key: ServiceKey) -> list[FoundDestination]:
        """None where the service has just gone."""
        payloads = kernel.dump(self._family, ipvs_wire.destinations_question(key))
        return [ipvs_found.read_destination(payload) for payload in payloads]


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Raises OSError: EBADMSG for an answer that is none."""
    try:
        yield
    except ValueError as error:
        raise OSError(errno.EBADMSG, str(error)) from error


def _family(kernel: NetlinkSocket) -> int:
    return ipvs_found.read_family(_one(kernel.request(ipvs_wire.CONTROLLER, ipvs_wire.family_question())))


def _one(payloads: Sequence[bytes]) -> bytes:
    if len(payloads) != 1:
        raise ValueError(f"{len(payloads)} answers to one question")
    return payloads[0]


def _with_backends(stats: ServiceStats, backends: Sequence[FoundDestination]) -> ServiceStats:
    return ServiceStats(
        connections=stats.connections,
        in_packets=stats.in_packets,
        out_packets=stats.out_packets,
        in_bytes=stats.in_bytes,
        out_bytes=stats.out_bytes,
        backends={backend.key: backend.stats for backend in backends},
    )


def _load_module() -> None:
    """Try `modprobe ip_vs`; the question that follows shows what came of it."""
    program = shutil.which("modprobe", path=_PROGRAMS)
    if program is None or os.geteuid() != 0:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([program, "ip_vs"], capture_output=True, timeout=MODPROBE_TIMEOUT, check=False)


def _why_not_opened(error: OSError, netns: str) -> str:
    if not netns:
        return f"no netlink socket: {error}"
    remedy = " (that needs the capability CAP_SYS_ADMIN)" if isinstance(error, PermissionError) else ""
    return f"can't enter the network namespace {netns}: {error.strerror}{remedy}"


def _place(netns: str) -> str:
    return f" in the network namespace {netns}" if netns else ""
