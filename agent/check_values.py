"""Values that several sections have, checked: addresses, servers, names, pairs of files."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from agent.sections import AdminConfig
from lb7.autoscale.config import AutoscaleConfig
from mesos_dns.config import (
    ApiConfig,
    DnsConfig,
    MarathonConfig,
    MesosConfig,
    RelayConfig,
    ZooKeeperConfig,
    host_port,
)
from mesos_dns.toml_tables import Problem, shown

Keyed = (
    MesosConfig | MarathonConfig | RelayConfig | ZooKeeperConfig | DnsConfig | AutoscaleConfig | ApiConfig | AdminConfig
)
"""Sections with a certificate and its key."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_MAX_NAME = 253  # characters without the trailing dot: 255 octets on the wire (RFC 1035 §2.3.4)
NO_PORT = -1


def listen_problems(path: str, listen: Sequence[str]) -> Iterator[Problem]:
    """Addresses to listen on: IP and port."""
    for index, text in enumerate(listen):
        try:
            host, port = host_port(text, NO_PORT)
            ipaddress.ip_address(host)
        except ValueError:
            port = NO_PORT
        if port == NO_PORT:
            yield Problem(f"{path}[{index}]", f"expected IP:PORT, [IPv6]:PORT or :PORT, got {text!r}")


def server_problems(path: str, servers: Sequence[str]) -> Iterator[Problem]:
    """Addresses of DNS servers, each named once."""
    seen: set[tuple[str, int]] = set()
    for index, text in enumerate(servers):
        try:
            host, port = host_port(text, 53)
            known = (str(ipaddress.ip_address(host)), port)
            legal = port > 0 and (text.startswith("::") or not text.startswith(":"))
        except ValueError:
            known, legal = (text, 0), False
        if not legal:
            yield Problem(f"{path}[{index}]", f"expected IP or IP:PORT, got {text!r}")
        elif known in seen:
            yield Problem(f"{path}[{index}]", f"{text!r} is listed twice")
        seen.add(known)


def pair_problems(section: str, part: Keyed) -> Iterator[Problem]:
    """A certificate and its key go together."""
    if bool(part.cert_file) != bool(part.key_file):
        missing, given = ("key_file", "cert_file") if part.cert_file else ("cert_file", "key_file")
        yield Problem(f"{section}.{missing}", f"{given} is set: cert_file and key_file go together")


def name_problems(path: str, name: str) -> Iterator[Problem]:
    """A DNS name without trailing dot."""
    if len(name) > _MAX_NAME or not all(map(_LABEL.fullmatch, name.split("."))):
        hint = "; leave out the trailing dot" if name.endswith(".") and len(name) > 1 else ""
        yield Problem(path, f"expected a DNS name (labels of 1 to 63 letters, digits, '-' and '_'), got {name!r}{hint}")


def url_fault(text: str, expected: str, credentials: str, *, bare: bool = False, query: bool = False) -> str:
    """Why a text is no http(s) URL of a server, "" when it is one. Nothing before an "@" is told: it may be a secret.

    `expected` says what is, `credentials` where those belong; `bare`: no path may follow, `query`: a query may.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return expected if "@" in text else f"{expected}, got {shown(text)}"
    if "@" in text.partition("?")[0] if query else "@" in text:
        return f"credentials don't belong here: {credentials}"
    plain = parts.scheme in ("http", "https") and not parts.fragment and port != 0
    plain = plain and (query or not parts.query) and not (bare and parts.path.strip("/"))
    if not plain or not parts.hostname or not is_host(parts.hostname) or not text.isascii() or not text.isprintable():
        return f"{expected}, got {shown(text)}"
    return ""


def url_problem(
    path: str, text: str, expected: str, credentials: str, *, bare: bool = False, query: bool = False
) -> Iterator[Problem]:
    """The URL of a key, as `url_fault` has it."""
    if fault := url_fault(text, expected, credentials, bare=bare, query=query):
        yield Problem(path, fault)


def is_inside(name: str, zone: str) -> bool:
    """True for a zone itself and every name below it."""
    return f".{name}".lower().endswith(f".{zone}".lower())


def is_host(host: str) -> bool:
    """An IP address, or a host name that is no broken IPv4 address ("10.0.0.300")."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return all(map(_LABEL.fullmatch, _labels(host))) and not host.replace(".", "").isdigit()
    return True


def _labels(host: str) -> Iterable[str]:
    return host.removesuffix(".").split(".")


def is_own(server: str, listen: Sequence[str]) -> bool:
    """True when a DNS server's address is one that we listen on, by itself or as a wildcard's 127.0.0.1 or ::1.

    Beside a wildcard other loopback addresses may well be another server's: 127.0.0.11 is the engine's in containers,
    127.0.0.53 systemd-resolved's.
    """
    try:
        host, port = host_port(server, 53)
        address = ipaddress.ip_address(host)
        own = [(ipaddress.ip_address(name), number) for name, number in (host_port(text, 53) for text in listen)]
    except ValueError:  # said elsewhere
        return False
    if server.startswith(":") and not server.startswith("::"):  # no address at all: said elsewhere
        return False
    return any(
        number == port
        and (
            name == address
            or (name.is_unspecified and name.version == address.version and str(address) in {"127.0.0.1", "::1"})
        )
        for name, number in own
    )


def is_loopback(text: str) -> bool:
    """True for HOST:PORT of this machine alone."""
    try:
        return ipaddress.ip_address(host_port(text)[0]).is_loopback
    except ValueError:
        return False


def unreadable(name: str) -> str:
    """Why a file can't be read, "" when it can."""
    try:
        with open(name, "rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""
