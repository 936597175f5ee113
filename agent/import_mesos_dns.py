"""mesos-dns' JSON configuration as Pharos' TOML: `pharos import mesos-dns CONFIG.json`.

What the file means to mesos-dns is carried exactly, defaults included: they are written out where
Pharos' own may differ. What has no equivalent becomes a comment and a warning.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.config import ConfigError
from agent.config import read as read_file
from agent.mesos_dns_json import DEFAULTS, read
from agent.toml_lines import Imported, TomlLines
from mesos_dns.config import host_port_text
from mesos_dns.toml_tables import Problem

_PAIRED = {"mesos.cert_file": "CertFile", "mesos.key_file": "KeyFile", "mesos.iam_config_file": "IAMConfigFile"}
"""Keys that other keys ask for when they are not there."""


def import_file(path: Path) -> Imported:
    """Convert a file. Raises ConfigError naming file and key."""
    return convert(read_file(path), str(path))


def convert(raw: bytes, name: str, nameservers: Callable[[], Sequence[str]] | None = None) -> Imported:
    """Convert JSON text. `nameservers` are this machine's, for an empty `Resolvers`.

    The result loads with `agent.config.load_text`.
    Raises ConfigError with the JSON key of whatever mesos-dns, or Pharos, would refuse.
    """
    warnings: list[Problem] = []
    given = read(raw, name, warnings)
    writer = _Writer(name, {**DEFAULTS, **given}, frozenset(given), warnings)
    if not writer.value["Masters"] and not writer.value["Zk"]:
        raise ConfigError(name, [Problem("Masters", "expected Masters or Zk; mesos-dns starts with neither as little")])
    if not writer.value["DnsOn"] and not writer.value["HttpOn"]:
        raise ConfigError(name, [Problem("DnsOn", "expected DnsOn or HttpOn to be on, as mesos-dns does")])
    writer.head()
    _mesos(writer)
    _dns(writer, nameservers or system_nameservers)
    _api(writer)
    return writer.imported(name)


def system_nameservers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The name servers of this machine without its own addresses, as mesos-dns takes them."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    found = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver" and "%" not in word[1]]
    return [address for address in dict.fromkeys(found) if not _is_own(address)]


def _is_own(address: str) -> bool:
    """Whether an interface has this address: then one can bind to it.

    Of 127.0.0.0/8 interfaces have only 127.0.0.1; a stub resolver on another one is no loop.
    """
    if address.startswith("127."):
        return address == "127.0.0.1"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class _Writer(TomlLines):
    """Lines of TOML from the values of a JSON configuration."""

    def __init__(self, name: str, value: dict[str, Any], given: frozenset[str], warnings: list[Problem]) -> None:
        super().__init__(warnings)
        self.name = name
        self.value = value
        self.given = given
        self.origins |= _PAIRED

    def head(self) -> None:
        self.comment(f"From mesos-dns' {Path(self.name).name}; the key it came from stands behind each value.")


def _mesos(out: _Writer) -> None:
    value = out.value
    out.section("mesos")
    scheme = "https://" if value["MesosHTTPSOn"] else ""
    if value["Masters"]:
        out.put("masters", [scheme + master for master in value["Masters"]], "Masters")
    if value["Zk"]:
        out.put("zk", value["Zk"], "Zk")
        if value["MesosHTTPSOn"]:
            out.put("scheme", "https", "MesosHTTPSOn")
    if "ZkDetectionTimeout" in out.given:
        out.warn("ZkDetectionTimeout", "has no equivalent: Pharos keeps serving what it knows and never exits for that")
    if value["RefreshSeconds"] < 1:
        raise ConfigError(out.name, [Problem("RefreshSeconds", "expected at least 1 (mesos-dns crashes on less)")])
    out.put("poll", f"{value['RefreshSeconds']}s", "RefreshSeconds", "only on masters that can't push their changes")
    if value["StateTimeoutSeconds"] > 0:
        out.put("timeout", f"{value['StateTimeoutSeconds']}s", "StateTimeoutSeconds")
    else:
        out.warn("StateTimeoutSeconds", "no limit is not possible; Pharos' default of 300 s holds")
    _mesos_tls(out)
    _mesos_login(out)


def _mesos_tls(out: _Writer) -> None:
    value = out.value
    if value["MesosHTTPSOn"] and not value["CACertFile"]:
        out.warn("CACertFile", "mesos-dns verifies nothing without it, Pharos does: set ca_file, or tls_verify = false")
        out.put("tls_verify", True, "", "false: do as mesos-dns did")
    for key, origin in (("ca_file", "CACertFile"), ("cert_file", "CertFile"), ("key_file", "KeyFile")):
        if value[origin]:
            out.put(key, value[origin], origin)


def _mesos_login(out: _Writer) -> None:
    value = out.value
    method, credentials = value["MesosAuthentication"], value["MesosCredentials"]
    if method:
        out.put("auth", method, "MesosAuthentication")
    if method == "basic":
        out.put("principal", credentials["Principal"], "MesosCredentials")
        out.put("secret", credentials["Secret"], "MesosCredentials")
        out.warn("MesosCredentials", "move it to a file of mode 0600 (secret_file), or give this file that mode")
    elif credentials["Principal"] or credentials["Secret"]:
        out.warn("MesosCredentials", 'is not used unless MesosAuthentication is "basic"; not carried over')
    if value["IAMConfigFile"]:
        out.put("iam_config_file", value["IAMConfigFile"], "IAMConfigFile")


def _dns(out: _Writer, nameservers: Callable[[], Sequence[str]]) -> None:
    value = out.value
    out.section("dns")
    if value["DnsOn"]:
        out.put("listen", [host_port_text(value["Listener"], value["Port"])], "Listener, Port")
    else:
        out.put("listen", [], "DnsOn", "no DNS is served; the rest shapes what the lookup API says")
    out.put("domain", value["Domain"].lower(), "Domain")
    out.put("ttl", value["TTL"], "TTL")
    out.put("srv_weight", value["SRVRecordDefaultWeight"], "SRVRecordDefaultWeight")
    out.put("ip_sources", value["IPSources"], "IPSources")
    out.put("enforce_rfc952", value["EnforceRFC952"], "EnforceRFC952")
    out.put("health", "ignore", "", "mesos-dns does not look at health")
    out.put("directory", "", "", "mesos-dns does not serve DC/OS' own zones; remove this line to serve them")
    _forwarding(out, nameservers)
    _soa(out)
    if not value["SetTruncateBit"]:
        out.warn("SetTruncateBit", "has no equivalent: a cut answer always says so (TC, RFC 2181 section 9)")
    if "ReverseDnsOn" in out.given and not value["ReverseDnsOn"]:
        out.warn("ReverseDnsOn", "has no equivalent: reverse names of the cluster's addresses are always answered")
    if value["ResolvSubnetFirst"]:
        out.warn("ResolvSubnetFirst", "has no equivalent: answers are not ordered by the client's network")


def _forwarding(out: _Writer, nameservers: Callable[[], Sequence[str]]) -> None:
    value = out.value
    if not value["ExternalOn"]:
        out.put("forward", [], "ExternalOn", "other names are refused")
    elif value["Resolvers"]:
        out.put("forward", value["Resolvers"], "Resolvers")
    else:
        found = nameservers()
        out.put("forward", list(found), "Resolvers", "empty, so those of this machine's /etc/resolv.conf")
        if not found:
            out.warn("Resolvers", "is empty and /etc/resolv.conf names no other server: other names are refused")
    zones = {zone.strip(".").lower(): servers for zone, servers in value["ZoneResolvers"].items()}
    out.put("zones", zones, "ZoneResolvers")
    if len(zones) < len(value["ZoneResolvers"]):
        out.warn("ZoneResolvers", "has one zone in several spellings; the last one counts here")
    out.put("forward_timeout", f"{value['Timeout']}s" if value["Timeout"] > 0 else "5s", "Timeout")
    out.put("recursion", value["RecurseOn"], "RecurseOn")


def _soa(out: _Writer) -> None:
    value = out.value
    out.put("soa_mname", value["SOAMname"].rstrip("."), "SOAMname")
    out.put("soa_rname", value["SOARname"].replace("@", ".").rstrip("."), "SOARname")
    for key in ("Refresh", "Retry", "Expire"):
        out.put(f"soa_{key.lower()}", value[f"SOA{key}"], f"SOA{key}")
    if value["SOAMinttl"] != value["TTL"]:
        out.comment(f"SOAMinttl: mesos-dns announces TTL instead; soa_minttl = {value['SOAMinttl']} would announce it")
    if "SOASerial" in out.given:
        out.comment("SOASerial: the serial follows the changes, as in mesos-dns, which sets it itself")


def _api(out: _Writer) -> None:
    value = out.value
    if value["HttpOn"]:
        out.section("api")
        out.put("listen", [host_port_text(value["HTTPListener"], value["HttpPort"])], "HTTPListener, HttpPort")
        out.put("enumeration", value["EnumerationOn"], "EnumerationOn")
    else:
        out.blank()
        out.comment("HttpOn is false: no [api] section, so no lookups over HTTP.")
    out.blank()
    out.comment("What mesos-dns has nothing like: the state of this process, on loopback.")
    out.comment("[admin]")
    out.comment('listen = ["127.0.0.1:8124"]')
