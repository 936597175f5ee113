"""Which ZooKeeper sessions the configuration asks for, and one session for all who want the same.

`[zookeeper]` describes an ensemble with its login and TLS. `[mesos] zk` and `[serversets] zk` name
theirs by a URL; where that names the very servers of `[zookeeper]` and no login of its own, the
section's login, TLS and session are used, else a plain connection with the URL's login.
"""

from __future__ import annotations

from pathlib import Path

from agent.sections import Config
from mesos_dns.config import ZooKeeperConfig, first_line
from mesos_dns.hosts import Resolve, system_resolve
from mesos_dns.tls import Tls
from mesos_dns.zookeeper import Session
from mesos_dns.zookeeper_target import Target, ZkUrl, parse_hosts, parse_zk_url

FILE = "file://"


def read_url(text: str) -> ZkUrl:
    """A zk:// URL, or the one in the first line of a file named by file:///PATH. Raises OSError, ValueError."""
    if text.startswith(FILE):
        with Path(text[len(FILE) :]).open(encoding="utf-8") as file:
            text = file.readline(1 << 16).strip()
    return parse_zk_url(text)


def section_target(section: ZooKeeperConfig) -> Target:
    """The ensemble of `[zookeeper]`. Reads the file of its secret; raises OSError, ValueError."""
    secret = section.secret
    if section.secret_file:
        secret = first_line(section.secret_file)
    tls = Tls(section.ca_file, section.cert_file, section.key_file, section.tls_verify) if section.tls else None
    hosts = parse_hosts(section.hosts)
    return Target(hosts, section.auth, section.principal, secret, tls, float(section.session_timeout))


def url_target(url: ZkUrl, section: ZooKeeperConfig | None) -> Target:
    """The ensemble of a URL; see the module. Raises OSError, ValueError."""
    if section is not None and not url.principal and set(url.hosts) == set(parse_hosts(section.hosts)):
        return section_target(section)
    seconds = float(section.session_timeout) if section is not None else 10.0
    if url.principal:
        return Target(url.hosts, "digest", url.principal, url.secret, session_timeout=seconds)
    return Target(url.hosts, session_timeout=seconds)


def mesos_target(config: Config) -> tuple[Target, str] | None:
    """The ensemble and path of the masters' election; None when it is not asked for."""
    if config.mesos is None or not config.mesos.zk:
        return None
    url = read_url(config.mesos.zk)
    return url_target(url, config.zookeeper), url.path


def serversets_target(config: Config) -> Target | None:
    """The ensemble in which services register; None when it is not asked for."""
    if config.serversets is None:
        return None
    if config.serversets.zk:
        return url_target(read_url(config.serversets.zk), config.zookeeper)
    return section_target(config.zookeeper) if config.zookeeper is not None else None


def ensemble_target(config: Config) -> Target | None:
    """The ensemble that the cluster's DNS names tell: `[zookeeper]`'s, else the masters'."""
    if config.zookeeper is not None:
        return section_target(config.zookeeper)
    found = mesos_target(config)
    return found[0] if found is not None else None


class Sessions:
    """Open sessions by target. They stay open until `keep` is told that nobody wants them.

    `resolve` is how the servers' host names become addresses; kazoo is given nothing but addresses.
    """

    def __init__(self, resolve: Resolve = system_resolve) -> None:
        self._resolve = resolve
        self._open: dict[Target, Session] = {}

    def __repr__(self) -> str:
        return f"<Sessions {list(self._open)}>"

    def all(self) -> list[Session]:
        """The open sessions."""
        return list(self._open.values())

    def get(self, target: Target) -> Session:
        """The session for a target, started if it is new."""
        if target not in self._open:
            self._open[target] = session = Session(target, resolve=self._resolve)
            session.start()
        return self._open[target]

    async def keep(self, wanted: set[Target]) -> None:
        """Close the sessions that are not wanted any more."""
        for target in [target for target in self._open if target not in wanted]:
            await self._open.pop(target).close()
