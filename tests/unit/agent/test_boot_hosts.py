"""Which hosts a configuration names, and which of them can't be resolved from cold."""

from __future__ import annotations

import msgspec

from agent.boot_hosts import circular_names, configured_hosts
from agent.sections import Config
from mesos_dns.config import DnsConfig, MesosConfig, RelayConfig, ServersetsConfig, ZooKeeperConfig
from mesos_dns.resolver.config import ResolverConfig

CONFIG = Config(
    mesos=MesosConfig(
        masters=("leader.mesos:5050", "https://m1.example", "[::1]:5050", "http://[", "a:b:c"),
        zk="zk://bob:s3cret@zk-1.zk:2181,b/mesos",
    ),
    relay=RelayConfig(servers=("https://pharos.dcos.thisdcos.directory:8123/x", "http://s1.example:8123")),
    zookeeper=ZooKeeperConfig(hosts=("zk-2.zk", "c:2181", ":1")),
    serversets=ServersetsConfig(zk="file:///etc/zk"),
)


def test_configured_hosts() -> None:
    assert list(configured_hosts(CONFIG)) == [
        ("mesos.masters[0]", "leader.mesos"),
        ("mesos.masters[1]", "m1.example"),
        ("mesos.masters[2]", "::1"),
        ("mesos.masters[4]", "a:b:c"),
        ("relay.servers[0]", "pharos.dcos.thisdcos.directory"),
        ("relay.servers[1]", "s1.example"),
        ("zookeeper.hosts[0]", "zk-2.zk"),
        ("zookeeper.hosts[1]", "c"),
        ("mesos.zk", "zk-1.zk"),
        ("mesos.zk", "b"),
    ]
    assert list(configured_hosts(Config())) == []


def test_circular_names() -> None:
    assert circular_names(CONFIG) == []
    own = msgspec.structs.replace(CONFIG, resolver=ResolverConfig())
    assert circular_names(own) == [
        ("mesos.masters[0]", "leader.mesos", "mesos"),
        ("relay.servers[0]", "pharos.dcos.thisdcos.directory", "thisdcos.directory"),
        ("zookeeper.hosts[0]", "zk-2.zk", "zk"),
        ("mesos.zk", "zk-1.zk", "zk"),
    ]
    other = msgspec.structs.replace(own, dns=DnsConfig(domain="cluster", directory=""))
    assert [host for _, host, _ in circular_names(other)] == ["zk-2.zk", "zk-1.zk"]
