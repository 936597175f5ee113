"""The text of a resolv.conf: what it says, and what it says while Pharos keeps it.

Nothing here touches a file. The watchdog loads this module without any package, so it needs the standard
library alone. Texts come from bytes by `decode`, which loses nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST = 3
"""Servers that the C library asks (MAXNS of resolv.h); it skips the others."""

_MARK = "# Managed by Pharos"
_KEPT = ("search", "domain", "sortlist")
_OPTIONS = ("timeout:1", "attempts:3")
_DROPPED = re.compile(r"timeout:.*|attempts:.*|rotate")
_IPV4 = re.compile(r"[0-9.]+")
_NO_PORT = -1


def decode(content: bytes) -> str:
    """A file's text; octets that are no UTF-8 survive the way back by `encode`."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The way back."""
    return text.encode("utf-8", "surrogateescape")


def nameservers(text: str) -> list[str]:
    """The servers of a resolv.conf as the C library reads them, all of them, in their order and each once.

    A keyword begins its line, "#" and ";" end one, an IPv6 address may have a zone ("fe80::1%eth0"), an IPv4
    address may be short ("127.1"). What is no address is skipped.
    """
    found = []
    for line in text.split("\n"):
        keyword, value = _words(line)
        if keyword == "nameserver" and value:
            found.append(_address(value[0]))
    return list(dict.fromkeys(address for address in found if address))


def is_ours(text: str) -> bool:
    """Whether Pharos wrote it."""
    return text.startswith(_MARK)


def ours(original: str, addresses: Sequence[str], saved: Path | None = None) -> str:
    """The text that makes programs ask `addresses` (three at most) and otherwise keeps what `original` says.

    The options are the original's, but for three: `timeout:1 attempts:3`, because a resolver on the machine itself
    answers at once or not at all; and no `rotate`, because all the servers are one resolver and the first
    address is the one whose answers are watched.
    """
    kept, options = [], []
    for line in original.split("\n"):
        keyword, value = _words(line)
        if keyword in _KEPT and value:
            kept.append(line.rstrip())
        elif keyword == "options":
            options += [word for word in value if not _DROPPED.fullmatch(word)]
    place = f" in {saved}" if saved else ""
    return "\n".join(
        [
            f"{_MARK}: the programs of this machine ask its resolver. Changes are lost.",
            f"# The original is kept{place} and comes back when Pharos ends,",
            "# or by hand: pharos resolv-conf restore -c FILE",
            *kept,
            *(f"nameserver {address}" for address in addresses[:MOST]),
            " ".join(["options", *dict.fromkeys(options), *_OPTIONS]),
            "",
        ]
    )


def upstream_text(original: str, servers: Sequence[str]) -> str:
    """The text for a machine whose resolver does not answer and whose original names no other server."""
    kept = [line.rstrip() for line in original.split("\n") if _words(line)[0] in (*_KEPT, "options")]
    head = f"{_MARK}, whose resolver does not answer: these are the upstreams of its configuration."
    return "\n".join([head, *kept, *(f"nameserver {server}" for server in servers[:MOST]), ""])


def listen_addresses(listen: Iterable[str]) -> list[str]:
    """The addresses of `[resolver] listen` as a resolv.conf can have them: those on port 53, three at most.

    Raises ValueError, whose text is for an operator, when there is none.
    """
    found: list[str] = []
    for host, port in _hosts_and_ports(listen):
        if port == 53:
            address = ipaddress.ip_address(host or "0.0.0.0")  # noqa: S104 - ":53"
            loopback = "::1" if address.version == 6 else "127.0.0.1"
            found.append(loopback if address.is_unspecified else str(address))
    if not found:
        raise ValueError("expected an address with port 53 in listen: resolv.conf has no place for a port")
    return list(dict.fromkeys(found))[:MOST]


def plain_servers(upstreams: Iterable[str]) -> list[str]:
    """Those of `[resolver] upstreams` that a resolv.conf can have: by UDP or TCP on port 53, three at most."""
    plain = [text.removeprefix("tcp://") for text in upstreams if not text.startswith("tls://")]
    found = [_address(host) for host, port in _hosts_and_ports(plain) if port in (53, _NO_PORT)]
    return list(dict.fromkeys(address for address in found if address))[:MOST]


def _hosts_and_ports(texts: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Each HOST[:PORT] in its parts; what is none is skipped, and said by check-config."""
    from mesos_dns.config import host_port  # not for the watchdog

    for text in texts:
        try:
            yield host_port(text, _NO_PORT)
        except ValueError:
            continue


def _words(line: str) -> tuple[str, list[str]]:
    """The keyword and the words behind it; a keyword is followed by a blank and never preceded by one."""
    if not line or line[0] in " \t#;":
        return "", []
    words = re.split(r"[#;]", line.rstrip("\r"), maxsplit=1)[0].split()
    return (words[0], words[1:]) if words else ("", [])


def _address(text: str) -> str:
    """An address in its usual form, "" for what is none."""
    try:
        if _IPV4.fullmatch(text):
            return socket.inet_ntoa(socket.inet_aton(text))
        host, percent, zone = text.partition("%")
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host)) + percent + zone
    except (OSError, ValueError):
        return ""
