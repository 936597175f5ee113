"""The data plane without privileges: services are sockets of this process, which carries their connections itself.

A service can be bound where its address is local: all of 127.0.0.0/8 is, always; others are where `LocalAddresses`
may make them so. What the kernel's IPVS does otherwise is in proxy_tcp and proxy_udp. Services end with the process.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import socket
from collections.abc import Iterable, Mapping, Sequence

from lb4.pick import User
from lb4.proxy_limits import Limits
from lb4.proxy_poll import Poller
from lb4.proxy_tcp import Listener, Tcp
from lb4.proxy_udp import Udp, UdpService
from lb4.services import Actual, Failure, Kind, LocalAddresses, Operation, ServiceKey, ServiceStats

_SLICE = 128
"""Operations done, or connections ended, before the rest of the process has its turn."""

_REASONS = {
    errno.EADDRNOTAVAIL: "the address is not local here",
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "binding this port needs CAP_NET_BIND_SERVICE",
    errno.EMFILE: "this process has no more open files (ulimit -n)",
    errno.ESRCH: "the service is not there",
    errno.ENOENT: "the service has no such destination",
    errno.EPROTONOSUPPORT: "only tcp and udp can be carried",
}


class Proxy:
    """See the module; it is a `DataPlane`. `tcp.counters` and `udp.counters` tell what happened."""

    name = "proxy"
    tcp: Tcp
    udp: Udp

    def __init__(self, addresses: LocalAddresses | None = None, limits: Limits | None = None) -> None:
        self._local = addresses
        self._limits = limits or Limits()
        self._services: dict[ServiceKey, Listener | UdpService] = {}
        self._addresses: set[str] = set()
        self._poller: Poller | None = None

    async def open(self) -> None:
        """Get ready. Raises NotUsable where addresses are to be made local and can't be."""
        if self._poller is not None:
            return
        if self._local is not None:
            await asyncio.to_thread(self._local.open)
        self._poller = Poller()
        freebind = self._local is not None
        self.tcp = Tcp(self._poller, self._limits, freebind=freebind)
        self.udp = Udp(self._poller, self._limits, freebind=freebind)

    async def read(self) -> Actual:
        """What there is: at first no services. Raises OSError when addresses can't be read."""
        if self._local is not None:
            addresses = await asyncio.to_thread(self._local.read)
        else:
            addresses = frozenset(self._addresses)
        return Actual({key: service.balance.service for key, service in self._services.items()}, addresses)

    async def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Do all of them in order. A service that is added again keeps its connections, and its settings are set."""
        failures: list[Failure] = []
        for run in _runs(operations):
            if run[0].kind in (Kind.ADD_ADDRESS, Kind.DROP_ADDRESS):
                failures += await self._change_addresses(run)
                continue
            for operation in run:
                try:
                    await self._do(operation)
                except OSError as error:
                    failures.append(_failure(operation, error))
            await asyncio.sleep(0)
        return failures

    async def stats(self, services: Sequence[ServiceKey] | None = None) -> Mapping[ServiceKey, ServiceStats]:
        """Totals since a service was added; packets are reads and datagrams."""
        wanted = list(self._services) if services is None else services
        found: dict[ServiceKey, ServiceStats] = {}
        for number, key in enumerate(wanted, 1):
            if (service := self._services.get(key)) is not None:
                found[key] = service.stats
            if not number % _SLICE:
                await asyncio.sleep(0)
        return found

    async def close(self) -> None:
        """End all services and their connections. Addresses that were made local stay."""
        if self._poller is None:
            return
        for key in list(self._services):
            await self._drop(key)
        self.tcp.close()
        self.udp.close()
        self._poller.end()
        self._poller = None
        if self._local is not None:
            await asyncio.to_thread(self._local.close)

    async def _do(self, operation: Operation) -> None:
        key, kind = operation.service, operation.kind
        if kind == Kind.ADD_SERVICE and key not in self._services:
            self._add(operation)
            return
        service = self._services.get(key)
        if service is None:
            raise _error(errno.ESRCH)
        balance, backend, settings = service.balance, operation.backend, operation.settings
        if kind == Kind.DROP_SERVICE:
            await self._drop(key)
        elif kind in (Kind.ADD_SERVICE, Kind.SET_SERVICE):
            if settings is not None:
                balance.set(settings)
        elif backend is None or (kind != Kind.ADD_DESTINATION and backend not in balance.targets):
            raise _error(errno.ENOENT)
        elif kind == Kind.DROP_DESTINATION:
            target = balance.drop(backend)
            service.changed()
            await _end(target.users, forsaken=True)
        elif operation.destination is not None:
            before = balance.service.destinations.get(backend)
            balance.put(backend, operation.destination)
            try:
                service.changed()
            except OSError:  # not done, so that it is tried again
                balance.drop(backend) if before is None else balance.put(backend, before)
                raise

    def _add(self, operation: Operation) -> None:
        key, settings, start = operation.service, operation.settings, random.randrange(1 << 16)
        if settings is None or self._poller is None:
            raise _error(errno.EINVAL)
        if key.protocol == "tcp":
            self._services[key] = Listener(self.tcp, key, settings, start)
        elif key.protocol == "udp":
            self._services[key] = UdpService(self.udp, key, settings, start)
        else:
            raise _error(errno.EPROTONOSUPPORT)

    async def _drop(self, key: ServiceKey) -> None:
        service = self._services.pop(key)
        service.close()
        targets = list(service.balance.targets.values())
        for target in targets:
            target.weight = 0
        for target in targets:
            await _end(target.users, forsaken=False)

    async def _change_addresses(self, run: Sequence[Operation]) -> list[Failure]:
        """Change addresses at once that are each named once."""
        add = [operation.service.address for operation in run if operation.kind == Kind.ADD_ADDRESS]
        drop = [operation.service.address for operation in run if operation.kind == Kind.DROP_ADDRESS]
        failed: Mapping[str, OSError]
        if self._local is None:
            failed = {address: error for address in add if (error := _not_local(address)) is not None}
            self._addresses.update(address for address in add if address not in failed)
            self._addresses.difference_update(drop)
        else:
            try:
                failed = await asyncio.to_thread(self._local.change, add, drop)
            except OSError as error:
                failed = dict.fromkeys((*add, *drop), error)
        return [
            _failure(operation, failed[operation.service.address])
            for operation in run
            if operation.service.address in failed
        ]


def _runs(operations: Sequence[Operation]) -> Iterable[list[Operation]]:
    """The operations in order, cut where those of addresses begin or end, or name one again; none is very long."""
    run: list[Operation] = []
    seen: set[str] = set()
    for operation in operations:
        of_address = operation.kind in (Kind.ADD_ADDRESS, Kind.DROP_ADDRESS)
        if run and (of_address != bool(seen) or operation.service.address in seen or (not seen and len(run) >= _SLICE)):
            yield run
            run, seen = [], set()
        run.append(operation)
        if of_address:
            seen.add(operation.service.address)
    if run:
        yield run


async def _end(users: set[User], *, forsaken: bool) -> None:
    """End connections and flows, some at a time. None is added meanwhile: their backend gets no new ones."""
    while users:
        for user in list(itertools.islice(users, _SLICE)):
            users.discard(user)
            if forsaken:
                user.forsake()
            else:
                user.abort()
        await asyncio.sleep(0)


def _not_local(address: str) -> OSError | None:
    """Why nothing can be bound to an address; None: it is local."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError as error:
        return error
    return None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _failure(operation: Operation, error: OSError) -> Failure:
    """A failure with a text that says what to do, where the kernel's own says too little."""
    number = error.errno or 0
    return Failure(operation, number, _REASONS.get(number, error.strerror or str(error)))
