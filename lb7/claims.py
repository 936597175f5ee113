"""What ports of apps ask for in common: a host's paths, an app's id, a service port; and what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Container
from typing import NamedTuple

import msgspec

from lb7.port_spec import PortSpec
from lb7.table import HostKey, HostRules, Listener, Problem

HTTP, HTTPS, APP_ID = "http", "https", "app_id"
"""Tables whose rules come from several apps."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A port, and the name of its cluster."""

    spec: PortSpec
    cluster: str


class Listened(NamedTuple):
    """Which of the common tables somebody listens for."""

    http: bool = True
    https: bool = True
    app_id: bool = True


class HostResult(NamedTuple):
    """The rules of a host, None when it has none; what is not carried out."""

    rules: HostRules | None = None
    problems: tuple[Problem, ...] = ()


class PortResult(NamedTuple):
    """What is listened on at a service port, and the rules of its tables."""

    listeners: dict[str, Listener]
    hosts: dict[HostKey, HostRules]
    problems: tuple[Problem, ...] = ()


def host_and_port(address: str, port: int) -> str:
    """An address to listen on."""
    return f"{address}:{port}"


def port_name(port: int, address: str, there: Container[str] = ()) -> str:
    """What a service port's listener and table are called: by the address, so that it stays the same whatever other
    apps listen on that port; with a number where `there` are some at the very same address ("port:10000",
    "port:10000@10.0.0.1", "port:10000@10.0.0.1#2")."""
    name = f"port:{port}@{address}" if address else f"port:{port}"
    names = itertools.chain([name], (f"{name}#{number}" for number in itertools.count(2)))
    return next(free for free in names if free not in there)


def names_above(host: str) -> list[str]:
    """The wildcards that a host is below, the most specific first; "" is above all but itself."""
    found = []
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        found.append(f"*.{rest}")
    return [*found, ""] if host else []
