"""What one port of an app asks for, read from its labels: plain values, apart from tasks and other apps."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lb7.config import Balance
from lb7.table import AuthRule, Paths, Problem, ServerCheck

HSTS = "max-age=15768000"
"""What HAPROXY_n_USE_HSTS sends, as marathon-lb does."""
STICKY = "mesosphere_server_id"
"""The cookie of HAPROXY_n_STICKY, marathon-lb's: clients stay with their servers when Pharos takes over."""

Rank: TypeAlias = tuple[bool, float, str, str, str]
"""Who serves what two apps ask for: the lesser. Whether it is suspended, when its configuration changed, and who it
is (app id, framework id, cluster)."""


class UnitKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """Whatever is routed as one app: an app, or all apps of a deployment group."""

    cluster: str
    framework_id: str
    app: str
    group: bool = False


class PortKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """A port of one of these, by its index."""

    unit: UnitKey
    number: int


class PortSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """See the module.

    `indexes` are the places of the port in tasks' lists (several where a service port is listed twice); `listed` is
    the service port of the definition and `port` the one that is listened on (0: none yet). `hosts` are lower-cased,
    `paths` of () means any. `subdomains`: names below `hosts` are meant too. `open`: its service port is listened
    on, at `address` ("": any). `order` is marathon-lb's order of rules. `check_index`: the port that is
    checked, by its place in tasks' lists (-1: its own), unless `check_port` is a number. `root_redirect_hosts`: the
    servers' side redirects "/" of these (compat), not the rules of hosts.
    """

    key: PortKey
    app: str
    rank: Rank
    indexes: tuple[int, ...]
    listed: int
    port: int
    mode: Literal["http", "tcp"] = "http"
    hosts: tuple[str, ...] = ()
    paths: Paths = ()
    subdomains: bool = False
    auth: AuthRule | None = None
    redirect: bool = False
    root_redirect: str = ""
    open: bool = True
    address: str = ""
    certificate: str = ""
    balance: Balance = "roundrobin"
    sticky: str = ""
    allow: tuple[str, ...] = ()
    hsts: str = ""
    strip_path: str = ""
    host: str = ""
    location: str = ""
    weight: int = 1
    max_requests: int = 0
    order: int = 0
    check: ServerCheck | None = None
    check_index: int = -1
    check_port: int = 0
    root_redirect_hosts: tuple[str, ...] = ()


class AppSpec(msgspec.Struct, frozen=True, gc=False):
    """The ports of an app that are routed, and what of its labels is not carried out."""

    ports: tuple[PortSpec, ...] = ()
    problems: tuple[Problem, ...] = ()
