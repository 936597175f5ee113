"""Makes virtual addresses local to a network namespace, by a route for each: nothing answers for them on a wire.

    routes = VipRoutes("pharos0", sources=["10.0.0.7"])
    routes.open()
    routes.change(add=["11.0.0.1", "fd01:c::1"], drop=[])

The route's source is the node's address, and programs here send from it: every node has the virtual addresses, so
replies to one of those would stay with whoever sends them. Ours are all routes of the table `local` with our protocol
number, on any device; a route of others to the same address stands beside ours (routes_wire.py).

The device is a dummy one, made here unless it is there; `lo` where the kernel has none. Who deletes it takes the
routes with it: then `read` makes it anew and does not find them, so that they are added again. `read` also puts right
what still is there: a route on another device or with a source that is no longer the node's.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lb4 import routes_wire as wire
from lb4.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, NetlinkSocket
from lb4.services import NotUsable
from mesos_dns.device import ALIAS, LOOPBACK
from mesos_dns.seldom import Seldom

log = logging.getLogger(__name__)

T = TypeVar("T")

MINUTEMAN = "minuteman"
"""The device of dcos-net's virtual addresses."""
SAY_EVERY = 600.0
"""Seconds between two lines of the log about the same thing."""

_BEYOND: dict[int, str] = {
    socket.AF_INET: "192.0.2.1",
    socket.AF_INET6: "2001:db8::1",
}  # on nobody's network (RFC 5737, RFC 3849)
_FORBIDDEN = (errno.EPERM, errno.EACCES)
_LOOK_AGAIN = (errno.ENODEV, errno.ENETDOWN, errno.EINVAL)
_NOT_THERE = (errno.ESRCH, errno.ENOENT)


class VipRoutes:
    """Implements `LocalAddresses` in the network namespace of the path `netns` ("": this one).

    `sources`: the node's addresses, of which the first of each family is used; where none of a family is given, or
    what is given is no address of this namespace, the one that the default route uses, or else the first. `made`
    counts devices that were made, `repaired` routes that `read` put right.
    """

    def __init__(
        self, device: str = "pharos0", sources: Sequence[str] = (), netns: str = "", take_over: bool = False
    ) -> None:
        self.device = device
        self.made = 0
        self.repaired = 0
        self._given = tuple(sources)
        self._netns = netns
        self._take_over = take_over
        self._old_is_here = False
        self._socket: NetlinkSocket | None = None
        self._index = 0
        self._sources: dict[int, str] = {}
        self._warn = Seldom(log, SAY_EVERY)

    @property
    def sent(self) -> int:
        """Messages sent to the kernel since it was opened."""
        return self._socket.sent if self._socket is not None else 0

    def open(self) -> None:
        """Find the node's addresses and have the device. Raises NotUsable."""
        self.close()
        try:
            self._socket = NetlinkSocket(NETLINK_ROUTE, self._netns)
            self._old_is_here = self._link(MINUTEMAN) is not None
            if self._old_is_here and not self._take_over:
                raise NotUsable(
                    f"dcos-net's device {MINUTEMAN} is here; stop dcos-net on this node and set take_over = true"
                )
            self._prepare()
        except OSError as error:
            self.close()
            if isinstance(error, NotUsable):
                raise
            reason = "needs CAP_NET_ADMIN" if error.errno in _FORBIDDEN else str(error)
            raise NotUsable(error.errno, f"virtual addresses can't be made local: {reason}") from error

    def read(self) -> frozenset[str]:
        """The virtual addresses that have a route; see the module for what it puts right. Raises OSError."""
        self._prepare()
        found = self._ours()
        wrong = [
            address
            for address, route in found.items()
            if route.devices != (self._index,) or route.source != self._source(address)
        ]
        if wrong:
            failures = self._add(wrong)
            self.repaired += len(wrong) - len(failures)
            log.info("routes put right count=%d failed=%d device=%s", len(wrong), len(failures), self.device)
        return frozenset(found)

    def change(self, add: Sequence[str], drop: Sequence[str]) -> dict[str, OSError]:
        """See LocalAddresses. After the first change without failures dcos-net's device goes, if there is one."""
        failures: dict[str, OSError] = {}
        good = {address for address in (*drop, *add) if _is_address(address)}
        for address in {*drop, *add} - good:
            failures[address] = OSError(errno.EINVAL, f"not an address: {address!r}")
        failures.update(self._drop([address for address in drop if address in good]))
        failures.update(self._add([address for address in add if address in good]))
        if good and len(failures) == len(good) and all(e.errno in _FORBIDDEN for e in failures.values()):
            raise next(iter(failures.values()))
        if self._old_is_here and not failures:
            self._remove_old()
        return failures

    def remove_all(self) -> None:
        """Drop all our routes, and the device if it was made here. Raises OSError."""
        failures = self._drop(list(self._ours()))
        link = self._link(self.device)
        if link is not None and link.kind == "dummy" and link.alias == ALIAS:
            (code,) = self._kernel.batch([Message(wire.RTM_DELLINK, 0, wire.one_link(link.number))])
            if code and code != errno.ENODEV:
                raise _error(code)
        if failures:
            raise next(iter(failures.values()))

    def close(self) -> None:
        """Close the socket; routes and device stay."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- routes -----------------------------------------------------------------------------------

    def _ours(self) -> dict[str, wire.Route]:
        found = {}
        for family in wire.FAMILIES:
            for payload in self._dump(wire.RTM_GETROUTE, wire.ask_routes(family)):
                try:
                    if wire.is_ours(payload):
                        route = wire.parse_route(payload)
                        found[route.address] = route
                except ValueError as error:
                    self._warn("route not understood reason=%s", error)
        return found

    def _add(self, addresses: Sequence[str]) -> dict[str, OSError]:
        """Make routes or put them right; where device or source are gone, once more with new ones, and without."""
        errors = self._set(addresses)
        again = [address for address, code in errors.items() if code in _LOOK_AGAIN]
        if again:
            self._prepare()
            for address in again:
                del errors[address]
            errors.update(self._set(again))
        sourceless = [a for a, code in errors.items() if code == errno.EINVAL and self._source(a)]
        if sourceless:
            self._warn(
                "the node's address is refused as a source, there is none source=%s", self._source(sourceless[0])
            )
            for address in sourceless:
                del errors[address]
            errors.update(self._set(sourceless, with_source=False))
        return {address: _error(code) for address, code in errors.items()}

    def _set(self, addresses: Sequence[str], with_source: bool = True) -> dict[str, int]:
        """The numbers of those that failed."""
        messages = [
            Message(
                wire.RTM_NEWROUTE,
                NLM_F_CREATE | NLM_F_REPLACE,
                wire.add_route(address, self._index, self._source(address) if with_source else ""),
            )
            for address in addresses
        ]
        return {address: code for address, code in zip(addresses, self._kernel.batch(messages), strict=True) if code}

    def _drop(self, addresses: Sequence[str]) -> dict[str, OSError]:
        codes = self._kernel.batch([Message(wire.RTM_DELROUTE, 0, wire.drop_route(each)) for each in addresses])
        failed = zip(addresses, codes, strict=True)
        return {address: _error(code) for address, code in failed if code and code not in _NOT_THERE}

    # --- device and source ------------------------------------------------------------------------

    def _prepare(self) -> None:
        """The device is there and up, the sources are those of now. Raises OSError."""
        link = self._link(self.device)
        if link is None:
            link = self._make()
        elif not link.up:
            log.info("device set up device=%s", self.device)
            self._raise(link)
        self._index = link.number
        sources: dict[int, str] = {family: self._find_source(family) for family in wire.FAMILIES}
        if sources != self._sources:
            said = ",".join(filter(None, sources.values())) or "none"
            log.info("programs here reach virtual addresses from source=%s device=%s", said, self.device)
            self._sources = sources

    def _make(self) -> wire.Link:
        """The new device, or `lo` where the kernel has no dummy ones. Raises OSError."""
        message = Message(wire.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, wire.add_dummy(self.device))
        (code,) = self._kernel.batch([message])
        if code == errno.EOPNOTSUPP and self.device != LOOPBACK:
            log.info("the kernel has no dummy devices, virtual addresses are on the loopback device")
            self.device = LOOPBACK
        elif code:
            raise _error(code)
        link = self._link(self.device)
        if link is None:
            raise _error(errno.ENODEV)
        if not code:
            self.made += 1
            log.info("device made device=%s", self.device)
            self._raise(link, ALIAS)
        return link

    def _raise(self, link: wire.Link, alias: str = "") -> None:
        (code,) = self._kernel.batch([Message(wire.RTM_NEWLINK, 0, wire.raise_link(link.number, alias))])
        if code:
            raise _error(code)

    def _remove_old(self) -> None:
        """What is reached by our routes now no longer needs dcos-net's device."""
        link = self._link(MINUTEMAN)
        if link is not None:
            (code,) = self._kernel.batch([Message(wire.RTM_DELLINK, 0, wire.one_link(link.number))])
            if code and code != errno.ENODEV:
                self._warn("dcos-net's device not removed device=%s reason=%s", MINUTEMAN, _error(code))
                return
        log.warning("dcos-net's device removed, its place is taken device=%s", MINUTEMAN)
        self._old_is_here = False

    def _source(self, address: str) -> str:
        return self._sources.get(socket.AF_INET6 if ":" in address else socket.AF_INET, "")

    def _find_source(self, family: int) -> str:
        """The address that programs here are to send from; "": none was found."""
        for address in self._given:
            if (":" in address) == (family == socket.AF_INET6):
                if self._is_local(address):
                    return address
                self._warn("the node's address is none of this network, another is taken address=%s", address)
                break
        route = self._way(_BEYOND[family])
        if route is not None and route.source and not _is_for_this_machine_only(route.source):
            return route.source
        held = [_parsed(wire.parse_address, each) for each in self._dump(wire.RTM_GETADDR, wire.ask_addresses(family))]
        loopback = self._link(LOOPBACK)
        number = loopback.number if loopback is not None else 0
        # A kernel without IPv6 gives the addresses of IPv4 instead.
        is_six = family == socket.AF_INET6
        usable = [each for each in held if each.is_usable and (":" in each.address) == is_six]
        # A single address is more often a service's than the node's.
        usable.sort(key=lambda each: (each.device == number, each.prefix in (32, 128)))
        return usable[0].address if usable else ""

    def _is_local(self, address: str) -> bool:
        route = self._way(address)
        return route is not None and route.type == wire.TYPE_LOCAL

    def _way(self, address: str) -> wire.Route | None:
        """The way to an address; None: there is none."""
        try:
            payloads = self._kernel.request(wire.RTM_GETROUTE, wire.ask_route(address))
            return _parsed(wire.parse_route, payloads[0]) if payloads else None
        except OSError:
            return None

    def _link(self, name: str) -> wire.Link | None:
        """A device; None: there is none of this name. Raises OSError."""
        try:
            payloads = self._kernel.request(wire.RTM_GETLINK, wire.ask_link(name))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parsed(wire.parse_link, payloads[0]) if payloads else None

    def _dump(self, kind: int, payload: bytes) -> Iterable[bytes]:
        """All of a kind; nothing where the kernel does not have this family."""
        try:
            return self._kernel.dump(kind, payload)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return ()
            raise

    @property
    def _kernel(self) -> NetlinkSocket:
        if self._socket is None:
            raise OSError(errno.EBADF, "not open")
        return self._socket


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_for_this_machine_only(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip.is_loopback or ip.is_link_local


def _parsed(parse: Callable[[bytes], T], payload: bytes) -> T:
    """What the kernel says; OSError where it is not understood."""
    try:
        return parse(payload)
    except ValueError as error:
        raise OSError(errno.EBADMSG, str(error)) from error


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
