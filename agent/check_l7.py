"""What the types of `[l7]` can't say, and what of it is seldom meant."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import NamedTuple

from agent.check_values import is_loopback, listen_problems
from agent.sections import Config
from lb7.config import L7Config
from mesos_dns.config import host_port
from mesos_dns.connections import files_for_connections
from mesos_dns.toml_tables import Problem, shown

_LISTS = ("http", "https", "app_id")
_PORTS = 65536
_FILES_OF_A_CONNECTION = 2
"""The client's socket and, while it has a request, a server's."""


class _Listen(NamedTuple):
    """Where something listens by TCP. `dual`: at IPv6 addresses, too, though the host is one of IPv4."""

    path: str
    text: str
    host: str
    port: int
    dual: bool = False


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values, without looking at the machine."""
    l7 = config.l7
    if l7 is None:
        return
    if config.marathon is None and config.relay is None:
        yield Problem("l7", "there is nothing to learn apps from: add a section [marathon], or [relay]")
    for key in _LISTS:
        yield from listen_problems(f"l7.{key}", getattr(l7, key))
    yield from _values(l7)
    if not l7.compat:
        for key in ("haproxy_map", "group_https_by_vhost"):
            if getattr(l7, key):
                yield Problem(f"l7.{key}", 'has a meaning only with compat = "marathon-lb"')
    yield from _clashes(config, l7)


def file_problems(config: Config) -> Iterator[Problem]:
    """A folder of certificates that can't be one. That it is not there yet is no problem: it is watched."""
    l7 = config.l7
    if l7 is None or not l7.cert_dir or not os.path.lexists(l7.cert_dir):
        return
    try:
        with os.scandir(l7.cert_dir):
            pass
    except OSError as error:
        yield Problem("l7.cert_dir", f"can't read {l7.cert_dir!r}: {error.strerror or error}")


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    l7 = config.l7
    if l7 is None:
        return
    if l7.https and not l7.cert_dir:
        yield Problem("l7.cert_dir", "is empty: without certificates nothing is listened on for https")
    elif l7.cert_dir and not os.path.isdir(l7.cert_dir):
        yield Problem("l7.cert_dir", f"there is no folder {l7.cert_dir!r}: nothing is listened on for https until then")
    for index, text in enumerate(l7.app_id):
        if not is_loopback(text):
            said = "other machines can reach every routed app by its id"
            gap = ", past HAPROXY_n_AUTH as with marathon-lb" if l7.compat else ""
            yield Problem(f"l7.app_id[{index}]", said + gap)
    for index, text in enumerate(l7.trusted_proxies):
        if not ipaddress.ip_network(text, strict=False).prefixlen:
            yield Problem(f"l7.trusted_proxies[{index}]", f"{text!r} lets every client say who it is")
    workers = l7.workers or len(os.sched_getaffinity(0))
    room = files_for_connections(hard=True) // _FILES_OF_A_CONNECTION * workers
    if l7.max_connections > room:
        text = f"is more than the open files of {workers} workers are enough for; {room} (ulimit -Hn, LimitNOFILE=)"
        yield Problem("l7.max_connections", text)
    yield from _near_service_ports(config, l7)


def _values(l7: L7Config) -> Iterator[Problem]:
    for index, group in enumerate(l7.groups):
        if not group or group != group.strip() or "," in group:
            yield Problem(f"l7.groups[{index}]", f"expected the name of one group, or '*', got {shown(group)}")
    if l7.service_address != "*" and not _is_address(l7.service_address):
        yield Problem("l7.service_address", f"expected an IP address or '*', got {shown(l7.service_address)}")
    for index, text in enumerate(l7.trusted_proxies):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Problem(f"l7.trusted_proxies[{index}]", f"expected an IP address or network, got {shown(text)}")
    first, after = l7.auto_ports
    if (first, after) != (0, 0) and not 0 < first < after <= _PORTS:
        text = "expected two ports, the first and the one after the last, or [0, 0] for none"
        yield Problem("l7.auto_ports", f"{text}, got {[first, after]}")
    if l7.own_app and (not l7.own_app.startswith("/") or l7.own_app != l7.own_app.strip()):
        yield Problem("l7.own_app", f"expected an app's id such as '/marathon-lb', got {shown(l7.own_app)}")
    if l7.cert_dir and not l7.cert_dir.startswith("/"):
        yield Problem("l7.cert_dir", f"expected an absolute path, got {shown(l7.cert_dir)}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _clashes(config: Config, l7: L7Config) -> Iterator[Problem]:
    """Addresses that something else of this process has; one of every address takes the port from all others."""
    taken = list(_listens(config))
    for key in _LISTS:
        for one in _parsed(f"l7.{key}", getattr(l7, key)):
            other = next((each for each in taken if _clash(one, each)), None)
            if other is not None:
                yield Problem(one.path, f"{one.text!r} is already taken by {other.path}, {other.text!r}")
            taken.append(one)


def _listens(config: Config) -> Iterator[_Listen]:
    """All that listens by TCP besides `[l7]`."""
    for section, keys in (
        ("api", ("listen",)),
        ("admin", ("listen",)),
        ("dns", ("listen", "tls_listen")),
        ("resolver", ("listen",)),
    ):
        part = getattr(config, section)
        for key in keys if part is not None else ():
            yield from _parsed(f"{section}.{key}", getattr(part, key))


def _parsed(path: str, listen: tuple[str, ...]) -> Iterator[_Listen]:
    for index, text in enumerate(listen):
        try:
            host, port = host_port(text)
            # Without a host the edge takes both families (lb7/sockets.py), all others that of IPv4.
            dual = path.startswith("l7.") and text.startswith(":")
            yield _Listen(f"{path}[{index}]", text, str(ipaddress.ip_address(host)), port, dual)
        except ValueError:  # said elsewhere
            continue


def _clash(one: _Listen, other: _Listen) -> bool:
    if not one.port or one.port != other.port:
        return False
    return one.host == other.host or _covers(one, other) or _covers(other, one)


def _covers(one: _Listen, other: _Listen) -> bool:
    """Whether every address that the other could have is one's."""
    every, host = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
    return every.is_unspecified and (one.dual or every.version == host.version)


def _near_service_ports(config: Config, l7: L7Config) -> Iterator[Problem]:
    """Ports of ours that an app without service port may be given."""
    first, after = l7.auto_ports
    if not l7.service_ports:
        return
    own = [each for key in _LISTS for each in _parsed(f"l7.{key}", getattr(l7, key))]
    for each in (*_listens(config), *own):
        if first <= each.port < after:
            yield Problem("l7.auto_ports", f"holds port {each.port} of {each.path}: that app's own is not listened on")
