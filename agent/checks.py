"""What the types of the configuration can't say: addresses, names, keys that need each other, files.

`problems` and `file_problems` make a configuration unusable; `advice` is what an operator should
know and may want so.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator

import msgspec

from agent import check_autoscale, check_l4, check_l7, check_marathon, check_resolver, edge_registration
from agent.check_values import (
    NO_PORT,
    is_host,
    is_inside,
    is_loopback,
    is_own,
    listen_problems,
    name_problems,
    pair_problems,
    server_problems,
    unreadable,
)
from agent.sections import Config
from mesos_dns.config import (
    DnsConfig,
    Duration,
    MesosConfig,
    ServersetsConfig,
    ZooKeeperConfig,
    host_port,
)
from mesos_dns.connections import files_for_connections
from mesos_dns.cookies import read_secrets
from mesos_dns.fastpath import MOST_WORKERS
from mesos_dns.toml_tables import Problem
from mesos_dns.zookeeper_target import check_path, parse_hosts, parse_zk_url

_LONGEST = 10 * 365 * 86400.0
_MAY_BE_ZERO = frozenset(
    {
        "autoscale.drain_timeout",
        "drain_timeout",
        "l4.drain_timeout",
        "l4.tcp_fin_timeout",
        "l4.tcp_timeout",
        "l4.udp_timeout",
        "l7.slow_start",
        "mesos.resync",
        "mesos.reregister_timeout",
        "serversets.hold",
        "state.interval",
        "state.max_age",
    }
)


def problems(config: Config) -> Iterator[Problem]:
    """Everything wrong with the values, without looking at the machine."""
    if config.mesos is not None:
        yield from _mesos(config.mesos)
    if config.zookeeper is not None:
        yield from _zookeeper(config.zookeeper)
    if config.serversets is not None:
        yield from _serversets(config.serversets, config.zookeeper is not None)
    if config.dns is not None:
        yield from _dns(config.dns)
    yield from check_resolver.problems(config)
    yield from check_l4.problems(config)
    yield from check_marathon.problems(config)
    yield from check_l7.problems(config)
    yield from check_autoscale.problems(config)
    for section, part in (("api", config.api), ("admin", config.admin)):
        if part is not None:
            yield from listen_problems(f"{section}.listen", part.listen)
            yield from pair_problems(section, part)
    if config.api is not None and config.api.client_ca_file and not config.api.cert_file:
        yield Problem("api.client_ca_file", "client certificates need TLS: set cert_file and key_file too")
    yield from edge_registration.problems(config)
    yield from _clashes(config)
    yield from _durations("", config)


def file_problems(config: Config) -> Iterator[Problem]:
    """Files that are named and can't be read."""
    for section, keys in (
        ("mesos", ("ca_file", "cert_file", "key_file", "secret_file", "iam_config_file")),
        ("marathon", ("ca_file", "cert_file", "key_file", "secret_file", "iam_config_file")),
        ("zookeeper", ("ca_file", "cert_file", "key_file", "secret_file")),
        ("dns", ("cert_file", "key_file")),
        ("resolver", ("upstream_ca_file",)),
        ("relay", ("ca_file", "cert_file", "key_file", "token_file")),
        ("api", ("cert_file", "key_file", "client_ca_file", "token_file")),
        ("admin", ("cert_file", "key_file", "token_file")),
    ):
        part = getattr(config, section)
        for key in keys if part is not None else ():
            name = getattr(part, key)
            if name and (fault := unreadable(name)):
                yield Problem(f"{section}.{key}", f"can't read {name!r}: {fault}")
    if config.dns is not None and config.dns.cookie_secret_file:
        yield from _cookie_secrets(config.dns.cookie_secret_file)
    yield from check_l7.file_problems(config)
    yield from check_autoscale.file_problems(config)


def advice(config: Config) -> Iterator[Problem]:
    """What works, and is seldom meant."""
    sources = (config.mesos, config.marathon, config.serversets, config.file, config.relay)
    if all(source is None for source in sources):
        text = "neither [mesos], [marathon], [serversets], [file] nor [relay]: there is nothing to learn names from"
        yield Problem("", text)
    if config.dns is None and config.resolver is None and config.api is None and config.l7 is None:
        yield Problem("", "neither [dns], [resolver] nor [api]: nobody can ask for names")
    yield from check_resolver.advice(config)
    yield from check_l4.advice(config)
    yield from check_marathon.advice(config)
    yield from check_l7.advice(config)
    yield from check_autoscale.advice(config)
    yield from edge_registration.advice(config)
    if config.file is not None and not config.file.paths:
        yield Problem("file.paths", "is empty: [file] has no effect")
    if config.mesos is not None:
        if "@" in config.mesos.zk:
            yield Problem("mesos.zk", "holds a password: move the URL to a file of mode 0600 and set file:///PATH")
        if not config.mesos.tls_verify:
            yield Problem("mesos.tls_verify", "is off: whoever can answer in a master's place decides every name")
    if config.admin is not None and not config.admin.token_file and not all(map(is_loopback, config.admin.listen)):
        yield Problem("admin.listen", "other machines can reach it and no token_file is set")
    if config.dns is not None and config.dns.tcp_clients > (room := files_for_connections(hard=True)):
        text = f"is more than the open files of this process are enough for; {room} are used (ulimit -Hn, LimitNOFILE=)"
        yield Problem("dns.tcp_clients", text)
    if config.dns is not None:
        yield from _secondaries(config.dns)


def _secondaries(dns: DnsConfig) -> Iterator[Problem]:
    networks = [ipaddress.ip_network(text, strict=False) for text in dns.transfer]
    for index, network in enumerate(networks):
        if not network.prefixlen:
            yield Problem(f"dns.transfer[{index}]", f"{dns.transfer[index]!r} lets everybody have whole zones")
    for index, text in enumerate(dns.notify):
        address = ipaddress.ip_address(host_port(text)[0])
        if not any(address in network for network in networks):
            yield Problem(f"dns.notify[{index}]", f"{text!r} is told of changes and may not have them: see transfer")


def _mesos(mesos: MesosConfig) -> Iterator[Problem]:
    if not mesos.masters and not mesos.zk:
        yield Problem("mesos.masters", "expected at least one master, HOST:PORT or http(s)://HOST:PORT, or zk")
    seen: set[tuple[str, int]] = set()
    for index, text in enumerate(mesos.masters):
        path = f"mesos.masters[{index}]"
        scheme, separator, rest = text.rpartition("://")
        try:
            host, port = host_port(rest.removesuffix("/"), NO_PORT)
        except ValueError:
            host, port = "", NO_PORT
        plain = not separator or scheme in ("http", "https")
        if "@" in rest:  # not shown: what stands before it is a secret
            yield Problem(path, "credentials don't belong here: set auth, principal and secret_file")
        elif not plain or not host or rest.startswith(":") or port < 1 or not is_host(host):
            yield Problem(path, f"expected HOST:PORT or http(s)://HOST:PORT, got {text!r}")
        elif (host.lower(), port) in seen:
            yield Problem(path, f"{text!r} is listed twice; the order of the masters numbers master0, master1, …")
        seen.add((host.lower(), port))
    yield from _zk_url("mesos.zk", mesos.zk)
    yield from _credentials("mesos", mesos, ("basic",))
    if mesos.auth == "iam" and not mesos.iam_config_file:
        yield Problem("mesos.iam_config_file", 'auth = "iam" needs the service account file')
    yield from pair_problems("mesos", mesos)


def _zk_url(path: str, text: str) -> Iterator[Problem]:
    """A zk:// URL; what a file holds is looked at with the other files. Nothing before an "@" is shown."""
    if not text or text.startswith("file:///"):
        return
    try:
        parse_zk_url(text)
    except ValueError as error:
        shown = "" if "@" in text else f", got {text!r}"
        yield Problem(path, f"{error}{shown if 'got' not in str(error) else ''}")


def _zookeeper(section: ZooKeeperConfig) -> Iterator[Problem]:
    if not section.hosts:
        yield Problem("zookeeper.hosts", "expected at least one HOST or HOST:PORT")
    for index, text in enumerate(section.hosts):
        try:
            ((host, _),) = parse_hosts([text])
            legal = is_host(host)
        except ValueError:
            legal = False
        if not legal:
            yield Problem(f"zookeeper.hosts[{index}]", f"expected HOST or HOST:PORT, got {text!r}")
    try:
        check_path(section.root)
    except ValueError as error:
        yield Problem("zookeeper.root", str(error))
    yield from _credentials("zookeeper", section, ("digest", "sasl"))
    yield from pair_problems("zookeeper", section)
    if not section.tls and (section.ca_file or section.cert_file):
        yield Problem("zookeeper.tls", "ca_file and cert_file are for TLS: set tls = true")


def _serversets(section: ServersetsConfig, has_zookeeper: bool) -> Iterator[Problem]:
    yield from _zk_url("serversets.zk", section.zk)
    if not section.roots:
        yield Problem("serversets.roots", 'expected at least one path and its names\' end, as { "/aurora" = "aurora" }')
    if not section.zk and not has_zookeeper:
        yield Problem("serversets.zk", "expected zk://HOST:PORT,…, or a section [zookeeper]")
    for root, suffix in section.roots.items():
        path = f"serversets.roots.{json.dumps(root, ensure_ascii=False)}"
        try:
            check_path(root)
        except ValueError as error:
            yield Problem(path, str(error))
        yield from name_problems(path, suffix)


def _credentials(name: str, section: MesosConfig | ZooKeeperConfig, methods: tuple[str, ...]) -> Iterator[Problem]:
    if section.auth in methods:
        if not section.principal:
            yield Problem(f"{name}.principal", f'auth = "{section.auth}" needs the user name')
        if not section.secret and not section.secret_file:
            yield Problem(f"{name}.secret", f'auth = "{section.auth}" needs secret_file (or secret)')
    if section.secret and section.secret_file:
        yield Problem(f"{name}.secret", "expected one of secret and secret_file, got both")


def _dns(dns: DnsConfig) -> Iterator[Problem]:
    yield from listen_problems("dns.listen", dns.listen)
    yield from listen_problems("dns.tls_listen", dns.tls_listen)
    yield from pair_problems("dns", dns)
    if dns.workers * len(dns.listen) > MOST_WORKERS:
        text = f"for each of {len(dns.listen)} addresses is more than {MOST_WORKERS} processes in all"
        yield Problem("dns.workers", text)
    if dns.tls_listen and not dns.cert_file and not dns.key_file:
        yield Problem("dns.cert_file", "tls_listen needs a certificate: set cert_file and key_file")
    for key, name in (("domain", dns.domain), ("soa_mname", dns.soa_mname), ("soa_rname", dns.soa_rname)):
        if name:
            yield from name_problems(f"dns.{key}", name)
    if dns.directory:
        yield from name_problems("dns.directory", dns.directory)
        for zone in (f"dcos.{dns.directory}", f"mesos.{dns.directory}"):
            if is_inside(dns.domain, zone) or is_inside(zone, dns.domain):
                yield Problem("dns.directory", f"its zone {zone!r} overlaps with domain {dns.domain!r}")
    yield from server_problems("dns.forward", dns.forward)
    yield from server_problems("dns.notify", dns.notify)
    for index, text in enumerate(dns.transfer):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Problem(f"dns.transfer[{index}]", f"expected an IP address or network, got {text!r}")
    for zone, servers in dns.zones.items():
        path = f"dns.zones.{json.dumps(zone, ensure_ascii=False)}"
        yield from name_problems(path, zone)
        if is_inside(zone, dns.domain):
            yield Problem(path, f"lies in domain {dns.domain!r}, which is answered here")
        if not servers:
            yield Problem(path, "expected at least one IP[:PORT]")
        yield from server_problems(path, servers)
    for path, server in [("dns.forward", server) for server in dns.forward] + [
        (f"dns.zones.{json.dumps(zone, ensure_ascii=False)}", server)
        for zone, list_ in dns.zones.items()
        for server in list_
    ]:
        if is_own(server, dns.listen):
            yield Problem(path, f"{server!r} is listened on here: questions would go round in a circle")
    if len(set(dns.ip_sources)) != len(dns.ip_sources):
        yield Problem("dns.ip_sources", f"a source is listed twice in {list(dns.ip_sources)}")


def _clashes(config: Config) -> Iterator[Problem]:
    """Two HTTP listeners, or two DNS listeners (also one of TCP and one of TLS), on the same address."""
    http = [("api.listen", config.api.listen if config.api else ())]
    http.append(("admin.listen", config.admin.listen if config.admin else ()))
    dns = [("dns.listen", config.dns.listen if config.dns else ())]
    dns.append(("dns.tls_listen", config.dns.tls_listen if config.dns else ()))
    dns.append(("resolver.listen", config.resolver.listen if config.resolver else ()))
    for group in (http, dns):
        taken: dict[tuple[str, int], str] = {}
        for path, listen in group:
            for index, text in enumerate(listen):
                try:
                    address = host_port(text)
                except ValueError:
                    continue
                here = f"{path}[{index}]"
                if address[1] and address in taken:
                    yield Problem(here, f"{text!r} is already taken by {taken[address]}")
                taken.setdefault(address, here)


def _durations(prefix: str, part: msgspec.Struct) -> Iterator[Problem]:
    """Durations of a section and of those below it: finite, and above zero where zero means nothing."""
    for key in part.__struct_fields__:
        value, path = getattr(part, key), prefix + key
        if isinstance(value, msgspec.Struct):
            yield from _durations(f"{path}.", value)
        elif isinstance(value, Duration) and not value <= _LONGEST:
            yield Problem(path, "expected at most ten years")
        elif isinstance(value, Duration) and not value and path not in _MAY_BE_ZERO:
            yield Problem(path, "expected more than zero")


def _cookie_secrets(name: str) -> Iterator[Problem]:
    """A file of secrets that can't be read or holds something else. Nothing in it is shown."""
    try:
        read_secrets(name)
    except OSError as error:
        yield Problem("dns.cookie_secret_file", f"can't read {name!r}: {error.strerror or error}")
    except ValueError as error:
        yield Problem("dns.cookie_secret_file", str(error))
