"""The VIP file: TOML text in, the VIPs it holds out, or everything that is wrong with it at once.

    [[vip]]
    name = "db.marathon"        # its addresses are allocated; or address = "11.1.2.3"
    port = 5432
    protocol = "tcp"
    scheduler = "wlc"
    persistence = "5m"
    backends = { app = "/prod/db", port = "pg" }
    servers = [{ address = "10.0.0.4", port = 5432, weight = 2 }]
    check = { type = "tcp", interval = "2s", fall = 3, rise = 2 }

A VIP without backends and servers only says how the VIP of that key that labels of tasks make is balanced. The file
counts as a whole or not at all. Pure functions; vip_file_source.py watches the file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from lb4.config import SCHEDULERS
from mesos_dns.checked import check_faults
from mesos_dns.config import Duration
from mesos_dns.model import DEFAULT_CLUSTER, Vip, VipCheck, VipSelector, VipServer, canonical_address
from mesos_dns.names import domain_fragment
from mesos_dns.toml_tables import UNKNOWN, Problem, TableReader, TomlError, decode, parse, shown

MAX_VIPS = 10_000
MAX_SERVERS = 1000
"""Servers of one VIP."""
LONGEST_PERSISTENCE = 31 * 86400
"""Seconds; ipvsadm's limit, below which the kernel's timers hold for every HZ."""
LONGEST_NAME = 229
"""Characters of a name, so that it fits with ".l4lb.thisdcos.directory" behind it (RFC 1035 §2.3.4: 253)."""

_Port = Annotated[int, Meta(ge=1, le=65535)]
_Threshold = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
_CHECK = VipCheck()
_NO_PORT = "expected a port from 1 to 65535, got none"


class _Backends(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which tasks: all that is given must fit."""

    app: Annotated[str, Meta(min_length=1)] = ""
    framework: Annotated[str, Meta(min_length=1)] = ""
    labels: dict[str, str] = {}
    port: _Port | str = ""


class _Server(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A fixed backend."""

    address: str = ""
    port: _Port = 0
    weight: Annotated[int, Meta(ge=0, le=65535)] = 1


class _Check(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How backends are checked. `path` is for http alone."""

    type: Literal["tcp", "http"] = "tcp"
    path: str | None = None
    interval: Duration = Duration(_CHECK.interval)
    timeout: Duration = Duration(_CHECK.timeout)
    fall: int = _CHECK.fall
    rise: int = _CHECK.rise


class _Vip(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One table of the file, before it is looked at as a whole."""

    address: str | None = None
    name: str | None = None
    port: _Port = 0
    protocol: Literal["tcp", "udp"] = "tcp"
    scheduler: str = ""
    persistence: Duration = Duration(0)
    upper_threshold: _Threshold = 0
    lower_threshold: _Threshold = 0
    backends: _Backends | None = None
    servers: tuple[_Server, ...] = ()
    check: _Check | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    vip: tuple[_Vip, ...] = ()


def read_vips(raw: bytes, name: str, cluster: str = DEFAULT_CLUSTER) -> tuple[Vip, ...]:
    """The VIPs in a file's bytes, in its order; `name` stands for the file in errors.

    Raises TomlError with all problems of keys, types and values that can be found at once.
    """
    document = parse(decode(raw, name), name)
    found = list(_shape(document.get("vip")))
    if found:
        raise TomlError(name, found)
    tables = TableReader(found).struct(_File, document).vip
    # A value that was refused, or left out as its key is misspelt, brings no second problem.
    said = {problem.path for problem in found}
    said |= {problem.path.rpartition(".")[0] + "." for problem in found if problem.text.startswith(UNKNOWN)}
    vips: list[Vip] = []
    first: dict[tuple[str, str, int], int] = {}
    for index, table in enumerate(tables):
        path = f"vip[{index}]"
        target, faults = _target(table)
        faults += _faults(table, target)
        vip = _vip(table, target, cluster)
        key = (vip.protocol, vip.target, vip.port)
        if target and vip.port and first.setdefault(key, index) != index:
            faults.append(_Fault("", f"{vip.protocol} {target} port {vip.port} is in vip[{first[key]}] already"))
        for fault in faults:
            here = path + fault.key
            if here not in said and not any(path + key in said for key in fault.unless):
                found.append(Problem(here, fault.text))
        vips.append(vip)
    if found:
        raise TomlError(name, found)
    return tuple(vips)


class _Fault(NamedTuple):
    """What is wrong with a VIP: the key's path within it with its dot, "" for the VIP itself, and a text. It is not
    said after a problem with one of the keys `unless`; a table's path and a dot mean any unknown key in it."""

    key: str
    text: str
    unless: tuple[str, ...] = ()


def _shape(tables: Any) -> Iterator[Problem]:
    if isinstance(tables, dict):
        yield Problem("vip", "expected a list of tables: write [[vip]] instead of [vip]")
    elif isinstance(tables, list) and len(tables) > MAX_VIPS:
        yield Problem("vip", f"expected at most {MAX_VIPS} VIPs, got {len(tables)}")


def _target(table: _Vip) -> tuple[str, list[_Fault]]:
    """What a VIP is known by, "" when there is none, and what is wrong with that."""
    if (table.address is None) == (table.name is None):
        if table.name is not None:
            return "", [_Fault("", "expected one of address and name, got both")]
        return "", [_Fault("", "expected one of address and name, got neither", (".address", ".name", "."))]
    if table.address is not None:
        fault = address_fault(table.address)
        if not fault and ipaddress.ip_address(canonical_address(table.address)).is_loopback:
            fault = f"expected an address that all nodes can share, got the loopback address {shown(table.address)}"
        return ("", [_Fault(".address", fault)]) if fault else (canonical_address(table.address), [])
    name = table.name or ""
    fault = name_fault(name)
    return ("", [_Fault(".name", fault)]) if fault else (name.lower(), [])


def address_fault(text: str) -> str:
    """Why no VIP, server or node can have this address, "" when one can."""
    canonical = canonical_address(text)
    if not canonical:
        return f"expected an IP address, got {shown(text)}"
    address = ipaddress.ip_address(canonical)
    for kind, wrong in (
        ("unspecified", address.is_unspecified or (address.version == 4 and address.packed[0] == 0)),
        ("multicast", address.is_multicast),
        ("broadcast", canonical == "255.255.255.255"),
        ("link-local", address.version == 6 and address.is_link_local),
    ):
        if wrong:
            return f"expected an address that one machine can have, got the {kind} address {shown(text)}"
    return ""


def name_fault(name: str) -> str:
    """Why a VIP can't have this name, "" when it can: it must be what its DNS name begins with."""
    if canonical_address(name):
        return f"{shown(name)} is an address: set address instead"
    made = domain_fragment(name[: LONGEST_NAME + 1])
    labels = made.split(".")
    if made == name.lower() and len(name) <= LONGEST_NAME and len(labels) > 1 and not labels[-1].isdigit():
        return ""
    text = "expected LABEL.FRAMEWORK, such as db.marathon, of labels of 1 to 63 letters, digits and '-', "
    text += f"at most {LONGEST_NAME} characters in all, got {shown(name)}"
    near = made != name.lower() and len(labels) > 1 and len(name) <= LONGEST_NAME and not labels[-1].isdigit()
    return f"{text}; did you mean {made!r}?" if near else text


def _faults(table: _Vip, target: str) -> list[_Fault]:
    """What is wrong with the keys of a VIP besides its target."""
    found = []
    if not table.port:
        found.append(_Fault(".port", _NO_PORT, (".",)))
    if table.scheduler and table.scheduler not in SCHEDULERS:
        text = f"expected one of {', '.join(SCHEDULERS)}, got {shown(table.scheduler)}"
        found.append(_Fault(".scheduler", text))
    if table.persistence % 1 or table.persistence > LONGEST_PERSISTENCE:
        most = Duration(LONGEST_PERSISTENCE)
        found.append(_Fault(".persistence", f"expected whole seconds, at most {most}, got {table.persistence}"))
    if table.lower_threshold > table.upper_threshold:
        text = f"expected at most upper_threshold, {table.upper_threshold}, got {table.lower_threshold}"
        found.append(_Fault(".lower_threshold", text, (".upper_threshold",)))
    if table.backends is not None:
        found += _backends_faults(table.backends)
    found += _servers_faults(table, target)
    if table.check is not None:
        found += _check_faults(table.check, table.protocol)
    return found


def _backends_faults(backends: _Backends) -> Iterator[_Fault]:
    if not backends.app and not backends.framework and not backends.labels:
        text = "expected at least one of app, framework and labels: without them every task would be a backend"
        keys = (".backends.app", ".backends.framework", ".backends.labels", ".backends.")
        yield _Fault(".backends", text, keys)
    port = backends.port
    if isinstance(port, str) and port.isascii() and port.isdigit() and not (len(port) < 6 and 1 <= int(port) <= 65535):
        yield _Fault(".backends.port", f"expected a port's name or a number from 1 to 65535, got {shown(port)}")


def _servers_faults(table: _Vip, target: str) -> Iterator[_Fault]:
    if len(table.servers) > MAX_SERVERS:
        yield _Fault(".servers", f"expected at most {MAX_SERVERS} servers, got {len(table.servers)}")
        return
    family = _family(target) if table.address is not None and target else ""
    seen: dict[tuple[str, int], int] = {}
    for index, server in enumerate(table.servers):
        path, address = f".servers[{index}]", canonical_address(server.address)
        missing = (f"{path}.",) if not server.address else ()
        if fault := address_fault(server.address):
            yield _Fault(f"{path}.address", fault, missing)
        elif family and family != _family(address):
            text = f"expected an {family} address, as the VIP's own is one, got {server.address!r}"
            yield _Fault(f"{path}.address", text)
        if not server.port:
            yield _Fault(f"{path}.port", _NO_PORT, (f"{path}.",))
        elif address and (address, server.port) == (target, table.port):
            yield _Fault(path, "is the VIP itself: connections would go round in a circle")
        elif address and seen.setdefault((address, server.port), index) != index:
            first = seen[address, server.port]
            yield _Fault(path, f"{address} port {server.port} is in servers[{first}] already")


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _check_faults(check: _Check, protocol: str) -> Iterator[_Fault]:
    if check.type == "http" and protocol != "tcp":
        yield _Fault(".check.type", f"expected tcp: the VIP's protocol is {protocol}, which has no HTTP")
    if check.type != "http" and check.path is not None:
        yield _Fault(".check.path", 'is for type = "http"', (".check.type",))
        check = msgspec.structs.replace(check, path=None)
    for key, text in check_faults(_made_check(check)):
        yield _Fault(f".check.{key}", text)


def _made_check(check: _Check) -> VipCheck:
    path = _CHECK.path if check.path is None else check.path
    return VipCheck(check.type, path, float(check.interval), float(check.timeout), check.fall, check.rise)


def _vip(table: _Vip, target: str, cluster: str) -> Vip:
    selector = None
    if table.backends is not None:
        backends = table.backends
        labels = tuple(sorted(backends.labels.items()))
        selector = VipSelector(backends.app, backends.framework, labels, str(backends.port))
    servers = [VipServer(canonical_address(server.address), server.port, server.weight) for server in table.servers]
    return Vip(
        target,
        table.port,
        table.protocol,
        table.scheduler,
        int(table.persistence),
        table.upper_threshold,
        table.lower_threshold,
        selector,
        tuple(servers),
        None if table.check is None else _made_check(table.check),
        cluster,
    )
