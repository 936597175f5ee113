"""Which hosts the configuration names, and which of their names nobody could resolve at a start from cold."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from agent.sections import Config
from mesos_dns.boot_names import circular_zone, own_zones
from mesos_dns.config import DnsConfig, host_port
from mesos_dns.zookeeper_target import parse_hosts, parse_zk_url


def configured_hosts(config: Config) -> Iterator[tuple[str, str]]:
    """(key path, host) of every host that the configuration itself names; not those that files name.

    What is no HOST:PORT or URL is passed over: the checks tell of it.
    """
    masters = config.mesos.masters if config.mesos is not None else ()
    servers = config.relay.servers if config.relay is not None else ()
    for section, urls in (("mesos.masters", masters), ("relay.servers", servers)):
        for index, text in enumerate(urls):
            for host in _url_host(text):
                yield f"{section}[{index}]", host
    for index, text in enumerate(config.zookeeper.hosts if config.zookeeper is not None else ()):
        for host in _hosts((text,)):
            yield f"zookeeper.hosts[{index}]", host
    for path, url in (
        ("mesos.zk", config.mesos.zk if config.mesos is not None else ""),
        ("serversets.zk", config.serversets.zk if config.serversets is not None else ""),
    ):
        for host in _zk_hosts(url):
            yield path, host


def circular_names(config: Config) -> list[tuple[str, str, str]]:
    """(key path, host, zone) of hosts whose names lie in a zone that `[resolver]` answers from what they tell.

    Such a name has no address at a start from cold unless one is remembered. Empty without `[resolver]`.
    """
    if config.resolver is None:
        return []
    own = own_zones(config.dns or DnsConfig(), config.resolver.cluster_key)
    forwarded = tuple(config.resolver.zones)
    found = [(path, host, circular_zone(host, own, forwarded)) for path, host in configured_hosts(config)]
    return [each for each in found if each[2]]


def _url_host(text: str) -> tuple[str, ...]:
    try:
        host = urlsplit(text).hostname if "://" in text else host_port(text)[0]
    except ValueError:
        return ()
    return (host,) if host else ()


def _hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(host for host, _ in parse_hosts(texts))
    except ValueError:
        return ()


def _zk_hosts(url: str) -> tuple[str, ...]:
    try:
        return tuple(host for host, _ in parse_zk_url(url).hosts)
    except ValueError:
        return ()
