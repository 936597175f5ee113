"""Keeps addresses on a device of this network namespace, and takes away what it brought.

    addresses = Addresses("pharos-dns", ["198.51.100.1", "fd01:d::1"])
    await addresses.start()      # the device is there and has them
    ... addresses.run() ...      # puts back what others take away, until cancelled
    await addresses.close()

The device is a dummy one; where the kernel has none, the loopback device takes the addresses. What is
made here carries a mark that outlives the process: the device an alias, an address its protocol number
(IFA_PROTO, Linux 5.18). So after a crash the next process takes its predecessor's device and addresses for
its own, and removes them at its end; a device or an address that somebody else made stays. On an older
kernel an address that a crash left on somebody else's device stays, too.

One process at a time keeps a device (device_claim.py); another one changes nothing and uses what is there, until the
first has ended. A successor in the same process shares the claim: neither takes away what the other one wants.

Netlink's messages are only a hint to look; each look compares what is there with what is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import random
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mesos_dns.device_claim import Claim
from mesos_dns.seldom import Seldom

if TYPE_CHECKING:
    from pyroute2 import IPRoute

log = logging.getLogger(__name__)

LOOPBACK = "lo"
ALIAS = "made by pharos"
"""The alias of a device that was made here."""
MARK = 80
"""The protocol number of addresses that were added here."""
LOOK_EVERY = 30.0
"""Seconds between two looks, give or take a fifth, when no message comes."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next look, after so many in which something had to be put back."""
CALM = 60.0
"""Seconds without loss after which the pauses are short again."""
SAY_EVERY = 30.0
"""Seconds between two lines of the log about the same thing."""

_IFF_UP, _NODAD, _HOST_SCOPE, _FOREVER = 0x1, 0x2, 254, 0xFFFFFFFF
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_ROUNDS = 3
_BATCH = 64


class Present(NamedTuple):
    """What the kernel has: `number` 0 where there is no such device; addresses as canonical texts."""

    number: int
    up: bool = False
    made_here: bool = False
    on_it: frozenset[str] = frozenset()
    marked: frozenset[str] = frozenset()
    anywhere: frozenset[str] = frozenset()


class Operation(NamedTuple):
    """One change: make or raise the device, add an address to it or drop one."""

    what: Literal["make", "up", "add", "drop"]
    address: str = ""


def plan(wanted: Sequence[str], present: Present, others: frozenset[str] = frozenset()) -> list[Operation]:
    """What is to be done so that every address of `wanted` is somewhere on this machine.

    A marked address that neither we nor `others` want is one of a predecessor's with another configuration.
    """
    missing = [address for address in wanted if address not in present.anywhere]
    operations = [Operation("drop", address) for address in sorted(present.marked.difference(wanted, others))]
    if missing and not present.number:
        operations.append(Operation("make"))
    if not present.up and (missing or present.on_it.intersection(wanted)):
        operations.append(Operation("up"))
    return operations + [Operation("add", address) for address in missing]


class Addresses:
    """Keeps `addresses` (IP texts; IPv4 as /32, IPv6 as /128) on `device`; see the module.

    Unspecified, loopback and link-local addresses are left out: they are there, or on a device of their own.
    An address that another device has already is left there. Two of these that may share a device (the
    loopback one, in need) have a `mark` each. `before` is one of this process with the same device and mark that
    this one follows. `restored` counts what was put back, `errors` what failed.
    """

    def __init__(
        self, device: str, addresses: Sequence[str], *, mark: int = MARK, before: Addresses | None = None
    ) -> None:
        self.device = device
        self.addresses = tuple(
            dict.fromkeys(str(ip) for ip in map(ipaddress.ip_address, addresses) if _needs_device(ip))
        )
        self.restored = 0
        self.errors = 0
        self._mark = mark
        self._present = Present(0)
        self._claim: Claim = before._claim if before is not None else Claim(mark)
        self._is_keeper = True
        self._closed = False
        self._warn = Seldom(log, SAY_EVERY)

    @property
    def status(self) -> dict[str, object]:
        """The device, which addresses the last look found and missed, and how many were put back."""
        there = self._present.anywhere
        return {
            "device": self.device,
            "present": [address for address in self.addresses if address in there],
            "missing": [address for address in self.addresses if address not in there],
            "restored": self.restored,
        }

    async def start(self) -> str:
        """Put the addresses there; the name of the device that is used. Where another process keeps that, nothing
        is changed.

        Raises OSError where nothing can be changed: EPERM without CAP_NET_ADMIN. An address that can't be
        added for another reason (IPv6 is off) is logged, is in `status`, and `run` tries it again.
        """
        _, error = await asyncio.to_thread(self._settle)
        if error is not None:
            if error.errno == errno.EPERM:
                raise error
            self._say("addresses not set device=%s reason=%s", str(error))
        return self.device

    async def run(self) -> None:
        """Keep them there until cancelled."""
        wake = asyncio.Event()
        with self._notified(wake):
            lost, last = 0, time.monotonic()
            while True:
                wake.clear()
                done, error = await asyncio.to_thread(self._settle)
                if error is not None:
                    self.errors += 1
                    self._say("addresses not put back device=%s reason=%s", str(error))
                if done or error:
                    lost, last = min(lost + 1, len(PAUSES) - 1), time.monotonic()
                elif time.monotonic() - last > CALM:
                    lost = 0
                if done:
                    self.restored += len(done)
                    self._say("put back what somebody else took away device=%s changes=%s", ",".join(done))
                await asyncio.sleep(PAUSES[lost])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.8, 1.2) * LOOK_EVERY):
                        await wake.wait()

    async def close(self) -> None:
        """Remove the device if it was made here, otherwise the addresses that were added; nothing else, and nothing
        that another one of this process wants, or where another process keeps the device.

        Errors are logged. Nothing is put back afterwards, even by a look that is under way.
        """
        self._closed = True
        error = await asyncio.to_thread(self._remove)
        if error is not None:
            log.warning("addresses not removed device=%s reason=%s", self.device, error)

    # --- in a thread ------------------------------------------------------------------------------

    def _settle(self) -> tuple[list[str], OSError | None]:
        """Look and change until nothing is to be done: what was done, and the last thing that failed."""
        done: list[str] = []
        failed: OSError | None = None
        with self._claim.lock:
            try:
                with _netlink() as ip:
                    for _ in range(_ROUNDS):
                        self._present = self._look(ip)
                        if self._closed or not self._may_change():
                            break
                        operations = plan(self.addresses, self._present, self._claim.others(self))
                        if not operations:
                            break
                        failed = self._apply(ip, operations, done)
                        if failed is not None and failed.errno == errno.EPERM:
                            self._claim.leave(self)  # for one that can
                            break
            except OSError as error:
                failed = error
        return done, failed

    def _may_change(self) -> bool:
        """Whether no other process keeps the device; the log says it when that has changed."""
        self._claim.join(self, frozenset(self.addresses))
        before, self._is_keeper = self._is_keeper, self._claim.has(self.device)
        if before and not self._is_keeper:
            log.warning("another process keeps the device, only what is there is used device=%s", self.device)
        elif self._is_keeper and not before:
            log.info("the other process has let the device go, it is kept from here device=%s", self.device)
        return self._is_keeper

    def _look(self, ip: IPRoute) -> Present:
        """What is there; on the loopback device, if that is what a predecessor had to use."""
        present = look(ip, self.device, self._mark)
        if not present.number and self.device != LOOPBACK:
            loopback = look(ip, LOOPBACK, self._mark)
            if loopback.marked:
                self.device = LOOPBACK
                return loopback
        return present

    def _apply(self, ip: IPRoute, operations: Iterable[Operation], done: list[str]) -> OSError | None:
        """Do them all, whichever fails; the last failure. What follows a new device waits for the next round."""
        failed = None
        for operation in operations:
            try:
                self._do(ip, operation)
                done.append(f"{operation.what} {operation.address}".strip())
            except OSError as error:
                if operation.what == "make" and error.errno == errno.EOPNOTSUPP and self.device != LOOPBACK:
                    log.info("the kernel has no dummy devices, the loopback device is used device=%s", self.device)
                    self.device = LOOPBACK
                    return None
                if error.errno == errno.EPERM:
                    return OSError(errno.EPERM, _forbidden(self.device))
                failed = error
            if operation.what == "make":
                return failed
        return failed

    def _do(self, ip: IPRoute, operation: Operation) -> None:
        index, address = self._present.number, operation.address
        if operation.what == "make":
            _call(ip.link, "add", ifname=self.device, kind="dummy")
            _call(ip.link, "set", index=look(ip, self.device, self._mark).number, ifalias=ALIAS, state="up")
        elif operation.what == "up":
            _call(ip.link, "set", index=index, state="up")
        elif operation.what == "drop":
            _drop(ip, index, address)
        else:
            _add(ip, index, address, self._mark)
            self._claim.added.add(address)

    def _remove(self) -> OSError | None:
        with self._claim.lock:
            try:
                if self._is_keeper and self._claim.is_in(self):
                    self._take_away()
            except OSError as error:
                return error
            finally:
                self._claim.leave(self)
        return None

    def _take_away(self) -> None:
        with _netlink() as ip:
            present = look(ip, self.device, self._mark)
            if present.made_here and not self._claim.is_shared(self):
                _call(ip.link, "del", index=present.number)
                return
            ours = present.on_it & (present.marked | self._claim.added)
            for address in sorted(ours - self._claim.others(self)):
                _drop(ip, present.number, address)

    # --- on the loop ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _notified(self, wake: asyncio.Event) -> Iterator[None]:
        """Set `wake` when the kernel says something of the device or the addresses."""
        signs = [ipaddress.ip_address(address).packed for address in self.addresses]
        signs.append(self.device.encode() + b"\0")
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        except OSError as error:
            log.warning("no messages of the kernel, only looks every %.0fs reason=%s", LOOK_EVERY, error)
            yield
            return
        loop = asyncio.get_running_loop()
        with sock:
            sock.bind((0, _GROUPS))
            loop.add_reader(sock.fileno(), _hear, sock, signs, wake)
            try:
                yield
            finally:
                loop.remove_reader(sock.fileno())

    def _say(self, text: str, what: str) -> None:
        self._warn(text, self.device, what)


def _needs_device(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_unspecified or address.is_loopback or address.is_link_local)


def look(ip: IPRoute, device: str, mark: int) -> Present:
    """What the kernel has of `device` and of addresses everywhere. Raises OSError."""
    index, up, made_here = 0, False, False
    try:
        for link in _call(ip.link, "get", ifname=device):
            index, up = link["index"], bool(link["flags"] & _IFF_UP)
            info = link.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info is not None else ""
            made_here = kind == "dummy" and link.get_attr("IFLA_IFALIAS") == ALIAS
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    on_it, marked, anywhere = set(), set(), set()
    for entry in _call(ip.get_addr):
        # Of a point-to-point device IFA_ADDRESS is the other end.
        address = str(ipaddress.ip_address(entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")))
        anywhere.add(address)
        if entry["index"] == index:
            on_it.add(address)
            if entry.get_attr("IFA_PROTO") == mark:
                marked.add(address)
    return Present(index, up, made_here, frozenset(on_it), frozenset(marked), frozenset(anywhere))


def _add(ip: IPRoute, index: int, address: str, mark: int) -> None:
    """Such that no program gets it as the source of what it sends to other machines."""
    if ":" in address:
        kind = {"prefixlen": 128, "flags": _NODAD, "preferred_lft": 0, "valid_lft": _FOREVER}
    else:
        kind = {"prefixlen": 32, "scope": _HOST_SCOPE}
    try:
        _call(ip.addr, "add", index=index, address=address, IFA_PROTO=mark, **kind)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def _drop(ip: IPRoute, index: int, address: str) -> None:
    try:
        _call(ip.addr, "del", index=index, address=address, prefixlen=128 if ":" in address else 32)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise


def _forbidden(device: str) -> str:
    return (
        f"addresses can't be put on the device {device!r} without CAP_NET_ADMIN: run as root or with that "
        'capability, or put them there by other means and set device = ""'
    )


def _call(request: Any, *words: Any, **values: Any) -> list[Any]:
    """A netlink request and its whole answer. Raises OSError."""
    from pyroute2 import NetlinkError

    try:
        return list(request(*words, **values) or ())
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[1] if len(error.args) > 1 else error)) from error


@contextlib.contextmanager
def _netlink() -> Iterator[IPRoute]:
    from pyroute2 import IPRoute  # only where it is used: it takes a tenth of a second

    with IPRoute() as ip:
        yield ip


def _hear(sock: socket.socket, signs: Sequence[bytes], wake: asyncio.Event) -> None:
    """Read what the kernel says; wake when a sign is in it, or when messages were lost."""
    for _ in range(_BATCH):
        try:
            message = sock.recv(65536, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # ENOBUFS: there were more than fit
            wake.set()
            return
        if any(sign in message for sign in signs):
            wake.set()
