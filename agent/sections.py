"""The whole configuration as one value: agent's own sections beside those of the packages below.

A section that is absent from the file is None here: a role that is off. `SECTIONS` is the one list
of sections; `PLANNED` are names that the design has and this version does not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lb4.config import L4Config
from lb7.autoscale.config import AutoscaleConfig
from lb7.config import L7Config
from mesos_dns.config import (
    ApiConfig,
    DnsConfig,
    Duration,
    FileConfig,
    Listen,
    MarathonConfig,
    MesosConfig,
    RelayConfig,
    ServersetsConfig,
    StateConfig,
    ZooKeeperConfig,
)
from mesos_dns.resolver.config import ResolverConfig

PLANNED = (
    "kubernetes",
    "swarm",
)
"""Sections that a later version will have; naming one is an error that says so."""


class AdminConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[admin]`: what operators ask and tell this process; kept apart from the lookup API."""

    listen: Annotated[tuple[Listen, ...], Meta(min_length=1, description="addresses")] = ("127.0.0.1:8124",)
    cert_file: Annotated[str, Meta(description="PEM file of the certificate; empty: plain HTTP")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the certificate's key")] = ""
    token_file: Annotated[
        str,
        Meta(description="file with a bearer token that every request must carry, those for health excepted"),
    ] = ""


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`: what is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least important lines that are written")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"], Meta(description="auto: text on a terminal, otherwise one JSON object a line")
    ] = "auto"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys that belong to no section, and the sections."""

    state_dir: Annotated[
        str, Meta(min_length=1, description="folder for the saved catalog and for what must survive a restart")
    ] = "/var/lib/pharos"
    drain_timeout: Annotated[Duration, Meta(description="after SIGTERM: time for open requests to end")] = Duration(10)
    mesos: MesosConfig | None = None
    marathon: MarathonConfig | None = None
    serversets: ServersetsConfig | None = None
    file: FileConfig | None = None
    relay: RelayConfig | None = None
    zookeeper: ZooKeeperConfig | None = None
    dns: DnsConfig | None = None
    resolver: ResolverConfig | None = None
    l4: L4Config | None = None
    l7: L7Config | None = None
    autoscale: AutoscaleConfig | None = None
    api: ApiConfig | None = None
    admin: AdminConfig | None = None
    state: StateConfig = StateConfig()
    log: LogConfig = LogConfig()


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "mesos": MesosConfig,
    "marathon": MarathonConfig,
    "serversets": ServersetsConfig,
    "file": FileConfig,
    "relay": RelayConfig,
    "zookeeper": ZooKeeperConfig,
    "dns": DnsConfig,
    "resolver": ResolverConfig,
    "l4": L4Config,
    "l7": L7Config,
    "autoscale": AutoscaleConfig,
    "api": ApiConfig,
    "admin": AdminConfig,
    "state": StateConfig,
    "log": LogConfig,
}
"""Section name → its struct, in the order in which people read them."""

ROLES = (
    "mesos",
    "marathon",
    "serversets",
    "file",
    "relay",
    "zookeeper",
    "dns",
    "resolver",
    "l4",
    "l7",
    "autoscale",
    "api",
    "admin",
)
"""Sections that are roles: absent from the file means off, and a change replaces a part of the running process."""

SECRETS = frozenset({"secret"})
"""Keys whose values are never shown, whatever section they are in."""

QUERIES = frozenset({"url"})
"""Keys whose values are URLs whose queries may hold what is secret, of which nothing is shown."""

LOGINS = frozenset({"zk"})
"""Keys whose values are URLs that may hold a login, of which nothing is shown."""
