"""Addresses that no virtual IP may have: what this machine and its configuration live by.

A label that names one would make every node send what is meant for that machine to a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.boot_hosts import configured_hosts
from agent.sections import Config
from mesos_dns.config import host_port
from mesos_dns.model import canonical_address
from mesos_dns.resolver.address import parse_upstream


def protected(config: Config, own: Iterable[str]) -> frozenset[str]:
    """Canonical addresses: of this machine's devices (`own`), of what it listens on, of upstreams, masters, servers and
    ZooKeeper as far as the configuration names them by address. A wildcard is none."""
    texts = [*own, *_listened(config), *(host for _, host in configured_hosts(config)), *_upstreams(config)]
    found = {canonical_address(text) for text in texts}
    return frozenset(found - {"", "0.0.0.0", "::"})  # noqa: S104 - to leave it out


def _listened(config: Config) -> Iterator[str]:
    listens: list[tuple[str, ...]] = []
    if config.dns is not None:
        listens += [config.dns.listen, config.dns.tls_listen]
    if config.resolver is not None:
        listens.append(config.resolver.listen)
    for section in (config.api, config.admin):
        if section is not None:
            listens.append(section.listen)
    for listen in listens:
        for text in listen:
            yield host_port(text, 0)[0]


def _upstreams(config: Config) -> Iterator[str]:
    resolver = config.resolver
    if resolver is None:
        return
    for texts in (resolver.upstreams, *resolver.zones.values()):
        for text in texts:
            yield parse_upstream(text).host
