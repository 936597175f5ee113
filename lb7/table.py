"""The route table as plain values: what the edge listens on, which request goes where, and who serves it.

These are what the route view makes of the catalog, what goes to the worker processes, and what `/v1/routes` shows.

A *table* is the rules that one kind of listener follows: "http", "https", "app_id", and "port:10000" for a service
port ("port:10000@10.0.0.1" where an app listens at one address of it). In a table, rules belong to a *host*: what the
listener's `by` reads from the request (the Host header, the TLS server name, X-Marathon-App-Id), lower-cased;
"*.example.com" stands for every name below, "" for all others. In marathon-lb's order of rules (`compat`) a port and a
last dot belong to the name, "sni" is compared in the case that it came in, and "NAME:" stands for what no other host
of the table fits, in any case and with any port (its --haproxy-map).

A request is decided in three steps, each the first rule of its list whose path matches (none: nothing):
`auth` (who may pass; a rule may say: everybody), `redirects`, `routes`. No host or no route: 503.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec


class PathPrefix(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Matches the path (without query) by its beginning. `whole`: only up to a border of segments, so that /api is
    not the beginning of /apix."""

    prefix: str
    ignore_case: bool = False
    whole: bool = True


Paths: TypeAlias = tuple[PathPrefix, ...]
"""Any of them; () matches every path."""


class AuthRule(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """HTTP basic authentication: a realm, and user → crypt(3) hash. Without users everybody may pass."""

    paths: Paths = ()
    realm: str = ""
    users: tuple[tuple[str, str], ...] = ()


class RedirectRule(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Sends the client elsewhere: `https`, the same URL by that scheme; else `location` as it is. With `only_path` the
    rule matches that path alone. A redirect with neither says: serve it."""

    paths: Paths = ()
    status: int = 301
    https: bool = False
    location: str = ""
    only_path: str = ""


class RouteRule(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Sends the request to a cluster, by the name of the cluster, which must be in the table."""

    paths: Paths = ()
    cluster: str = ""


class HostRules(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The rules of one host in one table."""

    auth: tuple[AuthRule, ...] = ()
    redirects: tuple[RedirectRule, ...] = ()
    routes: tuple[RouteRule, ...] = ()


class Server(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One task's port. `id` is "ADDRESS:PORT" and unique in its cluster; `cookie` is what a sticky client sends back.

    `weight` is the share (0: only clients that stick to it); `down`: checks from here fail; `draining`: it gets
    nothing new, what it has goes on.
    """

    id: str
    address: str
    port: int
    weight: int = 1
    draining: bool = False
    down: bool = False
    cookie: str = ""
    task: str = ""
    check_port: int = 0


class ServerCheck(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How servers are checked from here: so many failures or successes in a row; seconds."""

    type: Literal["tcp", "http"] = "tcp"
    path: str = "/"
    interval: float = 2.0
    timeout: float = 2.0
    fall: int = 3
    rise: int = 2


class Cluster(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An app's port: its servers, how one is picked, and what is done with each request to it and its answer.

    `name` is "APP_ID:SERVICE_PORT" ("/p/root:10000"). `sticky` is the cookie's name. `allow` are networks ((): all);
    others get 403, or a reset on TCP. `hsts` is the whole header value. `strip_path` is taken from the path's
    beginning, `host` replaces the Host header, `location` the whole value of an answer's Location. `root_redirect`:
    the path "/" alone is sent there with 301, if the Host header, in lower case, is one of `root_redirect_hosts`
    ((): any), once `allow` has let the client in. Limits of 0 mean those of `[l7]`. `hold`: requests wait when no
    server can be had, for the app sleeps or wakes.
    """

    name: str
    app: str
    service_port: int
    servers: tuple[Server, ...] = ()
    mode: Literal["http", "tcp"] = "http"
    balance: Literal["roundrobin", "leastconn", "p2c", "source", "random", "first"] = "roundrobin"
    sticky: str = ""
    allow: tuple[str, ...] = ()
    hsts: str = ""
    strip_path: str = ""
    host: str = ""
    location: str = ""
    root_redirect: str = ""
    check: ServerCheck | None = None
    max_requests_per_server: int = 0
    root_redirect_hosts: tuple[str, ...] = ()
    hold: bool = False


class Listener(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Something that is listened on. `name` is unique: "http", "https", "app_id", "port:10000", or
    "port:10000@10.0.0.1" for one address; with a number behind a further one at the same ("port:10000#2").

    `addresses` are HOST:PORT. `mode` "tcp" sends every connection to `cluster` and has no rules. `by` is what rules are
    found by; "none": the rules of host "" alone. `tls`: connections are encrypted; `cert` names one PEM file for all,
    else they are picked by server name; `known_names`: refuse the handshake of a name that no rule has.
    """

    name: str
    table: str
    addresses: tuple[str, ...]
    mode: Literal["http", "tcp"] = "http"
    by: Literal["host", "host_port", "sni", "app_id", "none"] = "host"
    cluster: str = ""
    tls: bool = False
    cert: str = ""
    known_names: bool = False


HostKey: TypeAlias = tuple[str, str]
"""A table's name and a host in it."""


class RouteTable(msgspec.Struct, frozen=True):
    """Everything at one moment."""

    listeners: dict[str, Listener] = {}
    hosts: dict[HostKey, HostRules] = {}
    clusters: dict[str, Cluster] = {}


class TableDelta(msgspec.Struct, frozen=True):
    """What changed; None: it is gone. Applied as one, so that no request sees half of it."""

    listeners: dict[str, Listener | None] = {}
    hosts: dict[HostKey, HostRules | None] = {}
    clusters: dict[str, Cluster | None] = {}

    def __bool__(self) -> bool:
        return bool(self.listeners or self.hosts or self.clusters)


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Something of an app that is not carried out: a stable word for counters, and a text with key and value."""

    app: str
    reason: str
    text: str
