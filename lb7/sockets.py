"""Sockets that the edge listens on: what an address of the configuration or a label means, and how it is bound.

Every worker has a socket of its own at an address (SO_REUSEPORT), among which the kernel spreads connections. They are
bound here and listen only once a worker serves them: until then clients are refused, not kept waiting.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
from typing import Any, NamedTuple

from mesos_dns.config import host_port, host_port_text

UNSENT = 262144
"""Octets that the kernel takes for a client beyond what is on its way (TCP_NOTSENT_LOWAT): its own limit grows to
megabytes, and a client that reads nothing would cost us those."""
BACKLOG = 4096
"""Connections that wait to be accepted, of one worker's socket; the kernel's somaxconn may allow less."""

_REASONS = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "the address is not one of this host",
    errno.EACCES: "binding this port needs CAP_NET_BIND_SERVICE or root",
    errno.EMFILE: "this process has no more open files (ulimit -n)",
    errno.EAFNOSUPPORT: "the system has no such protocol",
}


class Place(NamedTuple):
    """What can be bound: `dual`: IPv4 and IPv6 by one socket."""

    host: str
    port: int
    dual: bool = False

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its sockets."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        return f"*:{self.port}" if self.dual else host_port_text(self.host, self.port)


def place_of(address: str) -> Place:
    """Read HOST:PORT. "*" or no host means every IPv4 and IPv6 address, "0.0.0.0" and "[::]" those of one family; names
    are not looked up, "localhost" excepted. Raises ValueError that says what is wrong."""
    host, port = host_port(address)
    if not address.rpartition(":")[1] or address.endswith((":", "]")):
        raise ValueError(f"expected a port at the end of {address!r}")
    if address.startswith((":", "*:")):
        return Place("::", port, True)
    host = {"localhost": "127.0.0.1"}.get(host, host)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        text = f"expected an IP address in {address!r}, such as 10.0.0.1:80, [2001:db8::1]:80 or *:80"
        raise ValueError(text) from None
    return Place(host, port)


def bind(place: Place, *, shared: bool = False) -> socket.socket:
    """A socket bound to a place, for one worker; `shared`: we have others there already. Raises OSError with a text."""
    try:
        if not shared and place.port:
            _look_for_others(place)
        return _bound(place, reuse=True)
    except OSError as error:
        if place.dual and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
            return bind(Place("0.0.0.0", place.port), shared=shared)  # noqa: S104 - it is what "*" asks for
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise OSError(error.errno, f"can't listen on {place}: {reason}") from error


def _look_for_others(place: Place) -> None:
    """Another program of the same user may share its port by SO_REUSEPORT, too, and half of all connections would then
    be its: without that option the kernel tells of it."""
    _bound(place, reuse=False).close()


def _bound(place: Place, *, reuse: bool) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may still be in TIME_WAIT
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if place.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not place.dual))
        # Accepted sockets inherit these.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.bind(_numeric(place))
    except BaseException:
        sock.close()
        raise
    return sock


def _numeric(place: Place) -> tuple[Any, ...]:
    """The address as the kernel takes it, an IPv6 zone ("fe80::1%eth0") as its number."""
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return found[0][4]


def bound_place(sock: socket.socket, place: Place) -> Place:
    """Where a socket of a place is bound indeed: port 0 has become a real one."""
    return place._replace(port=sock.getsockname()[1])


def open_many_files() -> int:
    """Let this process have as many open files as the system allows it; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def is_waited_for(sock: socket.socket) -> bool:
    """Whether clients wait to be accepted on a listening socket."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
