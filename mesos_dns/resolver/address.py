"""The address of an upstream name server: as people write it, and as metrics and logs name it."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, TypeAlias, cast

import msgspec

Transport: TypeAlias = Literal["udp", "tcp", "tls"]
_PORTS: dict[Transport, int] = {"udp": 53, "tcp": 53, "tls": 853}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BRACKETS = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where an upstream is. `host`: canonical IP address; `name`: what its certificate must be for ("": `host`)."""

    transport: Transport
    host: str
    port: int
    name: str = ""

    @property
    def label(self) -> str:
        """As metrics and logs name it: 10.0.0.2:53, tcp://[2001:db8::1]:53, tls://9.9.9.9:853#dns.quad9.net."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "" if self.transport == "udp" else f"{self.transport}://"
        return f"{scheme}{host}:{self.port}" + (f"#{self.name}" if self.name else "")


def parse_upstream(text: str) -> UpstreamAddress:
    """Read IP[:PORT], tcp://IP[:PORT] or tls://IP[:PORT][#NAME]; an IPv6 address with a port stands in brackets.

    Raises ValueError that says what was expected.
    """
    transport: Transport = "udp"
    rest, name = text, ""
    if scheme := _SCHEME.fullmatch(text):
        if scheme[1].lower() not in _PORTS:
            raise ValueError(f"{text!r}: udp://, tcp:// or tls:// expected")
        transport, rest = cast(Transport, scheme[1].lower()), scheme[2]
    if transport == "tls" and "#" in rest:
        rest, _, name = rest.partition("#")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{text!r}: a host name expected after #, the name in the server's certificate")
    elif "#" in rest:
        raise ValueError(f"{text!r}: only tls:// has a #NAME")
    host, port = _split(rest)
    return UpstreamAddress(transport, _address(host, text), _port(port, _PORTS[transport], text), name.lower())


def canonical_host(text: str) -> str:
    """An IP address in its one spelling; an IPv4 address that is mapped into IPv6 as IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _split(rest: str) -> tuple[str, str | None]:
    """(host, port, None where none is said)."""
    if brackets := _BRACKETS.fullmatch(rest):
        return brackets[1], brackets[2]
    if rest.count(":") == 1:
        host, _, port = rest.partition(":")
        return host, port
    return rest, None


def _address(host: str, text: str) -> str:
    try:
        canonical = canonical_host(host)
    except ValueError:
        raise ValueError(f"{text!r}: an IP address expected, [:PORT] after it (IPv6 in brackets then)") from None
    address = ipaddress.ip_address(canonical)
    if address.is_unspecified or address.is_multicast or canonical == "255.255.255.255":
        raise ValueError(f"{text!r}: an IP address of one server expected")
    if "%" in canonical and not _SCOPE.fullmatch(canonical.partition("%")[2]):
        raise ValueError(f"{text!r}: the name of a network device expected after %")
    return canonical


def _port(port: str | None, default: int, text: str) -> int:
    if port is None:
        return default
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r}: a port from 1 to 65535 expected")
    return int(port)
