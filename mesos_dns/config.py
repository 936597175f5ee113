"""The configuration sections of mesos_dns: what can be set, its unit, its default and its meaning.

The structs are decoded by msgspec with unknown keys refused; `agent.config` reads the file, finds
the key path and the nearest name for an error, and prints the reference from the descriptions here.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


class Duration(float):
    """Seconds, written in the file as text with a unit ("500ms", "15m") or as a number of seconds."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read a duration. Raises ValueError with what was expected."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
            return cls(value)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'expected a duration such as "500ms", "10s" or "15m", got {value!r}')
        return cls(float(match[1]) * _UNITS[match[2]])

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self and self % _UNITS[unit] == 0:
                return f"{int(self / _UNITS[unit])}{unit}"
        milliseconds = round(self * 1000)
        if milliseconds * _UNITS["ms"] == self:
            return f"{milliseconds}ms" if self else "0s"
        return f"{Decimal(repr(float(self))):f}s"


_SECONDS: dict[str, Any] = {"pattern": f"^{_DURATION.pattern}$", "minimum": 0}

Seconds: TypeAlias = Annotated[float, Meta(extra_json_schema=_SECONDS)]
"""A number of seconds, of structs that are made by programs too: in files it may be written as a Duration is."""


def is_seconds(kind: Any) -> bool:
    """Whether a type is Seconds, or that with a description."""
    return any(meta.extra_json_schema is _SECONDS for meta in getattr(kind, "__metadata__", ()))


def decode_hook(kind: type, value: object) -> object:
    """msgspec's dec_hook for the types of this module."""
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(f"no decoder for {kind}")


def schema_hook(kind: type) -> dict[str, Any]:
    """msgspec's schema_hook for the types of this module (JSON Schema 2020-12)."""
    if kind is Duration:
        return {
            "anyOf": [
                {"type": "string", "pattern": "^" + _DURATION.pattern + "$"},
                {"type": "number", "minimum": 0},
            ]
        }
    raise NotImplementedError(f"no schema for {kind}")


def host_port(text: str, default_port: int = 0) -> tuple[str, int]:
    """Split "10.0.0.1:53", "[::]:53", "::1" or "host" into (host, port). Raises ValueError."""
    host, port = text, ""
    if text.startswith("["):
        host, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise ValueError(f"expected [IPv6]:PORT, got {text!r}")
        port = port[1:]
    elif text.count(":") == 1:
        host, port = text.split(":")
    if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"expected a port from 0 to 65535 at the end of {text!r}")
    if not host and not port:
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return host or "0.0.0.0", int(port) if port else default_port  # noqa: S104 - ":53" means every address


def host_port_text(host: str, port: int) -> str:
    """HOST:PORT, an IPv6 address in brackets: what `host_port` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def first_line(name: str) -> str:
    """The first line of a file, where secrets are. Raises OSError, UnicodeDecodeError."""
    return Path(name).read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")


Text: TypeAlias = str
Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
Listen: TypeAlias = Annotated[str, Meta(min_length=2, description="HOST:PORT; IPv6 as [::]:PORT")]
IpSource: TypeAlias = Literal["netinfo", "docker", "mesos", "host"]


class MesosConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mesos]`: which cluster to follow, and how to speak to its masters."""

    masters: Annotated[
        tuple[str, ...],
        Meta(description="the masters, HOST:PORT or http(s)://HOST:PORT; their order numbers master0, master1, …"),
    ] = ()
    zk: Annotated[
        str,
        Meta(description="zk://[USER:PASSWORD@]HOST:PORT,…/PATH of the election, or file:///PATH that holds it"),
    ] = ""
    scheme: Annotated[
        Literal["http", "https"], Meta(description="how to speak to masters that `zk` names, or listed ones without it")
    ] = "http"
    name: Annotated[str, Meta(min_length=1, description="the cluster's name in the catalog")] = "mesos"
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the masters' certificates")] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate for the masters")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    tls_verify: Annotated[bool, Meta(description="verify the masters' certificates")] = True
    auth: Annotated[Literal["none", "basic", "iam"], Meta(description="how to authenticate to the masters")] = "none"
    principal: Annotated[str, Meta(description="user name for basic authentication")] = ""
    secret: Annotated[str, Meta(description="password for basic authentication (better: secret_file)")] = ""
    secret_file: Annotated[str, Meta(description="file whose first line is the password")] = ""
    iam_config_file: Annotated[
        str, Meta(description="DC/OS service account file (JSON with uid, private_key, login_endpoint)")
    ] = ""
    connect_timeout: Annotated[Duration, Meta(description="time to connect and to get a response's head")] = Duration(5)
    timeout: Annotated[Duration, Meta(description="time for one whole snapshot to arrive")] = Duration(300)
    resync: Annotated[Duration, Meta(description="full comparison with the master, jittered; 0 turns it off")] = (
        Duration(900)
    )
    poll: Annotated[Duration, Meta(description="pause between reads of /state on masters without the operator API")] = (
        Duration(10)
    )
    reregister_timeout: Annotated[
        Duration, Meta(description="how long tasks of agents that a new leader has not heard of yet stay")
    ] = Duration(600)


class MarathonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[marathon]`: whose apps are followed, and how to speak to it."""

    urls: Annotated[
        tuple[str, ...],
        Meta(
            description="http(s)://HOST:PORT of one Marathon's instances; empty: every Marathon that is a framework "
            "of the cluster"
        ),
    ] = ()
    cluster: Annotated[str, Meta(min_length=1, description="the Mesos cluster's name in the catalog")] = "mesos"
    frameworks: Annotated[
        tuple[str, ...], Meta(description="without `urls`: names of the frameworks that are Marathons")
    ] = ("marathon",)
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign Marathon's certificates")] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    tls_verify: Annotated[bool, Meta(description="verify Marathon's certificates")] = True
    auth: Annotated[
        Literal["none", "basic", "token", "iam"], Meta(description="how to authenticate; token: as a DC/OS ACS token")
    ] = "none"
    principal: Annotated[str, Meta(description="user name for basic authentication")] = ""
    secret: Annotated[str, Meta(description="password, or token (better: secret_file)")] = ""
    secret_file: Annotated[str, Meta(description="file whose first line is the password or token")] = ""
    iam_config_file: Annotated[
        str, Meta(description="DC/OS service account file (JSON with uid, private_key, login_endpoint)")
    ] = ""
    connect_timeout: Annotated[Duration, Meta(description="time to connect and to get a response's head")] = Duration(5)
    timeout: Annotated[Duration, Meta(description="time for one whole answer to arrive")] = Duration(120)
    silence: Annotated[
        Duration, Meta(description="how long the event stream may be silent before it is taken for dead")
    ] = Duration(60)
    resync: Annotated[Duration, Meta(description="full comparison with Marathon, jittered")] = Duration(300)


class ZooKeeperConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[zookeeper]`: the ensemble that Pharos coordinates itself through, and how to log in to it."""

    hosts: Annotated[tuple[str, ...], Meta(description="its servers, HOST[:PORT]")] = ()
    root: Annotated[str, Meta(description="path below which Pharos keeps what it shares")] = "/pharos"
    session_timeout: Annotated[
        Duration, Meta(description="how long a silent process keeps its session, in the servers' limits")
    ] = Duration(10)
    auth: Annotated[
        Literal["none", "digest", "sasl"],
        Meta(description="how to log in; with a login only this one may touch what Pharos makes. sasl: DIGEST-MD5"),
    ] = "none"
    principal: Annotated[str, Meta(description="user name of the login")] = ""
    secret: Annotated[str, Meta(description="password of the login (better: secret_file)")] = ""
    secret_file: Annotated[str, Meta(description="file whose first line is the password")] = ""
    tls: Annotated[bool, Meta(description="speak TLS to the servers")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the servers' certificates")] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    tls_verify: Annotated[bool, Meta(description="verify the servers' certificates")] = True


class ServersetsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[serversets]`: services that register in ZooKeeper (Aurora, Finagle, SmartStack) as tasks."""

    roots: Annotated[
        dict[str, str], Meta(description="path → the end of the names of what is registered below it")
    ] = {}
    zk: Annotated[
        str,
        Meta(description="zk://[USER:PASSWORD@]HOST:PORT,… or file:///PATH that holds it; empty: [zookeeper] hosts"),
    ] = ""
    name: Annotated[str, Meta(min_length=1, description="the cluster's name in the catalog")] = "serversets"
    hold: Annotated[
        Duration, Meta(description="how long members stay that vanish when our session or a whole root is lost")
    ] = Duration(120)
    max_members: Annotated[int, Meta(ge=1, description="znodes below each root that are followed at most")] = 100_000


class DnsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[dns]`: the authoritative server, its names and where other names are forwarded."""

    listen: Annotated[
        tuple[Listen, ...], Meta(description="addresses for UDP and TCP; empty: names for the lookup API only")
    ] = ("0.0.0.0:53",)
    domain: Annotated[str, Meta(min_length=1, description="the cluster's domain")] = "mesos"
    ttl: Annotated[int, Meta(ge=0, le=2147483647, description="seconds, of records in `domain`")] = 60
    srv_weight: Annotated[int, Meta(ge=0, le=65535, description="weight of SRV records (priority is 0)")] = 1
    forward: Annotated[
        tuple[str, ...], Meta(description="IP[:PORT] of servers for other names; empty: refuse them")
    ] = ()
    zones: Annotated[
        dict[str, tuple[str, ...]], Meta(description="zone → IP[:PORT] of its servers; the longest suffix wins")
    ] = {}
    forward_timeout: Annotated[Duration, Meta(description="time for one exchange with one upstream")] = Duration(5)
    recursion: Annotated[bool, Meta(description="announce recursion (RA) when forwarding is on")] = True
    ip_sources: Annotated[
        tuple[IpSource, ...],
        Meta(min_length=1, description="where a task's address comes from; the first that has one wins"),
    ] = ("netinfo", "mesos", "host")
    enforce_rfc952: Annotated[bool, Meta(description="labels of at most 24 characters that start with a letter")] = (
        False
    )
    health: Annotated[
        Literal["ignore", "exclude-unhealthy"],
        Meta(description="leave out unhealthy tasks (never to an empty answer), or ignore health"),
    ] = "exclude-unhealthy"
    directory: Annotated[str, Meta(description="parent of DC/OS' zones (dcos., mesos.); empty: do not serve them")] = (
        "thisdcos.directory"
    )
    directory_ttl: Annotated[int, Meta(ge=0, le=2147483647, description="seconds, of records in DC/OS' zones")] = 5
    soa_mname: Annotated[str, Meta(description="primary name server; empty: ns1.DOMAIN")] = ""
    soa_rname: Annotated[str, Meta(description="responsible mailbox as a name; empty: root.SOA_MNAME")] = ""
    soa_refresh: Annotated[int, Meta(ge=0, le=2147483647, description="seconds")] = 60
    soa_retry: Annotated[int, Meta(ge=0, le=2147483647, description="seconds")] = 600
    soa_expire: Annotated[int, Meta(ge=0, le=2147483647, description="seconds")] = 86400
    soa_minttl: Annotated[
        Annotated[int, Meta(ge=0, le=2147483647)] | None,
        Meta(description="seconds that a negative answer may be cached (RFC 2308); default: ttl"),
    ] = None
    max_udp_payload: Annotated[
        int, Meta(ge=512, le=4096, description="bytes, largest UDP answer with EDNS (RFC 6891; 1232 avoids fragments)")
    ] = 1232
    tcp_idle: Annotated[
        Duration,
        Meta(
            description="idle time after which a TCP or TLS connection is closed (RFC 7766); "
            "a quarter of it while more than half of `tcp_clients` are connected"
        ),
    ] = Duration(10)
    # An idle TCP connection costs 1.5 KB and no time, so only open files and TLS set a bound: ten thousand fit
    # into the open files of any service manager, and no resolver's clients run into a limit meant for the worst case.
    tcp_clients: Annotated[
        int,
        Meta(
            ge=1,
            description="TCP and TLS connections at most (2 KB, 50 KB each); "
            "when all are taken, the one that is idle longest gives way",
        ),
    ] = 10_000
    tcp_clients_per_address: Annotated[int, Meta(ge=1, description="TCP and TLS connections of one client")] = 100
    tls_listen: Annotated[tuple[Listen, ...], Meta(description="addresses for DNS over TLS (RFC 7858)")] = ()
    cert_file: Annotated[str, Meta(description="PEM file of the certificate for `tls_listen`")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the certificate's key")] = ""
    rotate: Annotated[bool, Meta(description="give the records of a set in another order each time")] = True
    workers: Annotated[
        int, Meta(ge=0, le=64, description="native processes that answer UDP; 0: answer in the process itself")
    ] = 1
    answer_memory: Annotated[int, Meta(ge=4, le=65536, description="MiB for answers that are ready, at most")] = 256
    cookies: Annotated[bool, Meta(description="DNS cookies (RFC 7873, 9018)")] = True
    cookie_secret_file: Annotated[
        str,
        Meta(description="32 hexadecimal digits a line: the secret in use, then older ones; empty: a random one"),
    ] = ""
    rate_limit: Annotated[
        int,
        Meta(
            ge=0, le=1_000_000, description="equal UDP answers a second for one client network (/24, /56); 0: no limit"
        ),
    ] = 200
    rate_limit_slip: Annotated[
        int, Meta(ge=0, le=100, description="every n-th answer over the limit is sent, truncated; 0: none")
    ] = 2
    rate_limit_private: Annotated[bool, Meta(description="limit loopback and private clients too")] = False
    transfer: Annotated[
        tuple[str, ...], Meta(description="addresses and networks of secondaries that may ask for a zone (AXFR, IXFR)")
    ] = ()
    notify: Annotated[
        tuple[str, ...], Meta(description="IP[:PORT] of secondaries that are told of changes (RFC 1996)")
    ] = ()
    notify_interval: Annotated[Duration, Meta(description="shortest time between two NOTIFYs of one zone")] = Duration(
        5
    )
    stale_after: Annotated[
        Duration, Meta(description="a source lost for longer makes answers say that they are stale (RFC 8914)")
    ] = Duration(30)
    query_log: Annotated[int, Meta(ge=0, le=1_000_000_000, description="log one question in so many; 0: none")] = 0
    forward_clients: Annotated[int, Meta(ge=1, description="forwarded questions in flight at most")] = 1024


class RelayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[relay]`: follow other Pharos servers instead of the orchestrators."""

    servers: Annotated[
        tuple[str, ...], Meta(description="the `[api]` of servers, http(s)://HOST[:PORT]; each node picks one of them")
    ] = ()
    token_file: Annotated[str, Meta(description="file with the bearer token of the servers' `[api]`")] = ""
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the servers' certificates")] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate for the servers")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    tls_verify: Annotated[bool, Meta(description="verify the servers' certificates")] = True
    connect_timeout: Annotated[Duration, Meta(description="time to connect and to get the first word")] = Duration(5)


class FileConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[file]`: static records, from files in the master-file format (RFC 1035 §5)."""

    paths: Annotated[
        tuple[str, ...], Meta(description="zone files; one with a SOA record is served as a zone of its own")
    ] = ()
    interval: Annotated[Duration, Meta(description="how often the files are looked at for changes")] = Duration(2)


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[api]`: the lookup API (read only)."""

    listen: Annotated[tuple[Listen, ...], Meta(min_length=1, description="addresses")] = ("127.0.0.1:8123",)
    cert_file: Annotated[str, Meta(description="PEM file of the certificate; empty: plain HTTP")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the certificate's key")] = ""
    client_ca_file: Annotated[
        str, Meta(description="PEM file of authorities; clients must then show a certificate")
    ] = ""
    token_file: Annotated[
        str,
        Meta(description="file with a bearer token that every request except /livez, /healthz and /readyz must carry"),
    ] = ""
    enumeration: Annotated[bool, Meta(description="serve /v1/axfr, /v1/enumerate and /v1/records")] = True
    advertise: Annotated[
        str,
        Meta(
            description="http(s)://HOST[:PORT] by which other machines reach it; empty: the first address of `listen` "
            "that they can reach, or this machine's name"
        ),
    ] = ""


class StateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[state]`: the catalog that is saved in state_dir and served, stale, after a restart."""

    max_age: Annotated[Duration, Meta(description="a saved catalog older than this is not served")] = Duration(86400)
    interval: Annotated[Duration, Meta(description="the shortest time between two saves")] = Duration(5)
