"""Which ZooKeeper to talk to and as whom: Mesos' zk:// URLs, and the target of a session."""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import unquote

import msgspec

from mesos_dns.config import host_port, host_port_text
from mesos_dns.tls import Tls

DEFAULT_PORT = 2181
MAX_PATH = 1024

Auth: TypeAlias = Literal["none", "digest", "sasl"]
Host: TypeAlias = tuple[str, int]


class Target(msgspec.Struct, frozen=True):
    """An ensemble and how to log in to it. Equal targets can share a session. Its repr has no secret."""

    hosts: tuple[Host, ...]
    auth: Auth = "none"
    principal: str = ""
    secret: str = ""
    tls: Tls | None = None
    session_timeout: float = 10.0

    def __repr__(self) -> str:
        login = f" {self.auth}={self.principal}" if self.auth != "none" else ""
        return f"<Target {hosts_text(self.hosts)}{login}{' tls' if self.tls is not None else ''}>"


class ZkUrl(msgspec.Struct, frozen=True):
    """A zk:// URL taken apart; `path` begins with "/" and has no "/" at the end ("" for the root)."""

    hosts: tuple[Host, ...]
    path: str = ""
    principal: str = ""
    secret: str = ""


def hosts_text(hosts: tuple[Host, ...]) -> str:
    """HOST:PORT,HOST:PORT with IPv6 in brackets."""
    return ",".join(host_port_text(host, port) for host, port in hosts)


def parse_hosts(texts: list[str] | tuple[str, ...]) -> tuple[Host, ...]:
    """Hosts from HOST[:PORT] texts. Raises ValueError that names the first bad one."""
    hosts = []
    for text in texts:
        host, port = host_port(text.strip(), DEFAULT_PORT)
        if not port or text.strip().startswith(":") or not host:
            raise ValueError(f"expected HOST or HOST:PORT, got {text!r}")
        hosts.append((host, port))
    return tuple(hosts)


def parse_zk_url(text: str) -> ZkUrl:
    """Take zk://[user:password@]host[:port],…/path apart, as Mesos writes it. Raises ValueError.

    No message shows what stands before an "@": it is a secret.
    """
    scheme, separator, rest = text.partition("://")
    if scheme.lower() != "zk" or not separator:
        raise ValueError("expected zk://HOST:PORT,…/PATH")
    authority, slash, path = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    principal, colon, secret = login.partition(":")
    if at and not (principal and colon):
        raise ValueError("expected zk://USER:PASSWORD@HOST:PORT,…/PATH")
    if not hosts:
        raise ValueError("expected at least one HOST:PORT behind zk://")
    return ZkUrl(parse_hosts(hosts.split(",")), check_path(slash + path), unquote(principal), unquote(secret))


def check_path(path: str) -> str:
    """A znode path without "/" at its end ("" for the root). Raises ValueError when it can't be one."""
    plain = path.rstrip("/")
    parts = plain.split("/")
    if not plain:
        return ""
    if parts[0] or len(plain) > MAX_PATH or any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError(f"expected a path such as /mesos, got {path!r}")
    if not plain.isprintable():
        raise ValueError(f"expected printable characters in a path, got {path!r}")
    return plain
