"""Where a host's addresses come from, in which order, and what is left when nobody answers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from mesos_dns import boot_names, hosts
from mesos_dns.boot_names import BootNames, circular_zone, own_zones
from mesos_dns.config import DnsConfig
from mesos_dns.hosts import Hosts, Remembered
from mesos_dns.hosts_file import HostsFile
from mesos_dns.resolver.host_lookup import HostLookup
from tests.fakes.host_upstream import HostUpstream, forbid_system_lookups


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that the system's resolver was asked for: none must be."""
    return forbid_system_lookups(monkeypatch)


def names(folder: Path, hosts_text: str = "", **remembered: list[str]) -> BootNames:
    """Boot names with a hosts file and last known addresses of their own."""
    (folder / "hosts").write_text(hosts_text)
    now = time.time()
    known = {name.replace("_", "."): {"addresses": found, "seen": now} for name, found in remembered.items()}
    (folder / "hosts.json").write_text(json.dumps({"format": 1, "hosts": known}))
    return BootNames(folder / "hosts.json", HostsFile(folder / "hosts"))


@pytest.mark.asyncio
async def test_the_order(tmp_path: Path, system: list[str]) -> None:
    boot = names(
        tmp_path, "10.1.0.1 a.example\n", a_example=["10.9.0.1"], b_example=["10.9.0.2"], c_example=["10.9.0.3"]
    )
    await boot.remembered.restore()
    async with HostUpstream(a_example=[("A", "10.2.0.1")], b_example=[("A", "10.2.0.2")]) as upstream:
        boot.use_upstreams(HostLookup(upstream.ask))
        assert await boot.resolve("10.0.0.1") == ("10.0.0.1",)
        assert await boot.resolve("FD00::0:1") == ("fd00::1",)
        assert await boot.resolve("A.example.") == ("10.1.0.1",)
        assert upstream.asked == []
        assert await boot.resolve("B.Example.") == ("10.2.0.2",)
        last = await boot.resolve("c.example")
        assert (last, isinstance(last, Remembered)) == (("10.9.0.3",), True)
        with pytest.raises(OSError, match=r"d\.example: the name has no address"):
            await boot.resolve("d.example")
    assert boot.counters == {"hosts_file": 1, "upstreams": 1, "remembered": 1, "failed": 1}
    assert boot.remembered.get("b.example") == ("10.2.0.2",)
    assert boot.remembered.get("a.example") == ("10.9.0.1",), "what the hosts file says is on the disk already"
    assert system == []


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "x.localhost"])
async def test_localhost_is_asked_for_nowhere(name: str, tmp_path: Path, system: list[str]) -> None:
    async with HostUpstream(localhost=[("A", "10.0.0.1")]) as upstream:
        boot = names(tmp_path)
        boot.use_upstreams(HostLookup(upstream.ask))
        assert await boot.resolve(name) == ("127.0.0.1", "::1")
        assert upstream.asked == []


@pytest.mark.asyncio
async def test_a_start_from_cold_while_the_upstream_is_down(
    tmp_path: Path, system: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "RETRY_MIN", 0.01)
    monkeypatch.setattr(hosts, "RETRY_MAX", 0.05)
    async with HostUpstream(known_example=[("A", "10.0.0.2")], new_example=[("A", "10.0.0.3")]) as upstream:
        await upstream.down()
        boot = names(tmp_path, known_example=["10.0.0.1"])
        await boot.remembered.restore()
        boot.use_upstreams(HostLookup(upstream.ask))
        held = Hosts(resolve=boot.resolve)
        await held.settle(["known.example", "new.example"], 20)
        assert (held.lookup("known.example"), held.lookup("new.example")) == (("10.0.0.1",), ())
        while boot.counters["remembered"] < 3:
            await asyncio.sleep(0.005)
        about = [record for record in caplog.records if record.name == boot_names.__name__]
        assert len(about) == 2, "each name is told of once"
        await upstream.up()
        async with asyncio.timeout(20):
            while held.lookup("known.example") != ("10.0.0.2",) or held.lookup("new.example") != ("10.0.0.3",):
                await asyncio.sleep(0.005)
        await held.close()
        await boot.remembered.save()
    assert json.loads((tmp_path / "hosts.json").read_text())["hosts"]["known.example"]["addresses"] == ["10.0.0.2"]
    assert system == []


@pytest.mark.asyncio
async def test_without_upstreams_there_is_what_is_remembered(tmp_path: Path, system: list[str]) -> None:
    boot = names(tmp_path, a_example=["10.0.0.1"])
    await boot.remembered.restore()
    boot.use_upstreams(None)
    assert await boot.resolve("a.example") == ("10.0.0.1",)
    with pytest.raises(OSError, match="no upstream to ask"):
        await boot.resolve("b.example")
    assert system == []


@pytest.mark.asyncio
async def test_names_of_the_clusters_own_zones_are_never_asked_for(
    tmp_path: Path, system: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    boot = names(tmp_path, "10.0.0.8 master.mesos\n", leader_mesos=["10.0.0.1"])
    await boot.remembered.restore()
    async with HostUpstream() as upstream:
        upstream.names = {name: [("A", "10.2.0.1")] for name in ("leader.mesos", "zk-1.zk", "m.far.mesos")}
        boot.use_upstreams(HostLookup(upstream.ask), own_zones(DnsConfig()), ("far.mesos",))
        for _ in range(3):
            assert await boot.resolve("Leader.mesos.") == ("10.0.0.1",)
            with pytest.raises(OSError, match="lies in zk"):
                await boot.resolve("zk-1.zk")
        assert await boot.resolve("master.mesos") == ("10.0.0.8",), "the hosts file is not of the cluster"
        assert upstream.asked == []
        assert await boot.resolve("m.far.mesos") == ("10.2.0.1",)
    first, second = caplog.records
    assert "last known addresses 10.0.0.1 host=leader.mesos reason=it lies in mesos" in first.getMessage()
    assert "configure its addresses" in second.getMessage()


@pytest.mark.asyncio
async def test_silent_upstreams_hold_up_only_what_is_not_remembered(
    tmp_path: Path, system: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_names, "LIMIT", 0.05)
    monkeypatch.setattr(boot_names, "SLOW", 0.04)
    monkeypatch.setattr(boot_names, "QUIET", 3600.0)
    known = {f"n{number}_example": ["10.0.0.1"] for number in range(100)}
    boot = names(tmp_path, "", **known)
    await boot.remembered.restore()
    async with HostUpstream(other_example=[("A", "10.0.0.9")]) as upstream:
        upstream.deaf = {"A", "AAAA"}
        boot.use_upstreams(HostLookup(upstream.ask))
        for number in range(100):
            assert await boot.resolve(f"n{number}.example") == ("10.0.0.1",)
        assert {line.split()[0] for line in upstream.asked} == {"n0.example"}
        upstream.deaf = set()
        monkeypatch.setattr(boot_names, "LIMIT", 20.0)
        assert await boot.resolve("other.example") == ("10.0.0.9",)
        boot.use_upstreams(HostLookup(upstream.ask))
        await boot.resolve("n1.example")
        assert "n1.example A" in upstream.asked, "other upstreams are asked at once"


@pytest.mark.asyncio
async def test_the_system_is_asked_without_a_resolver_and_what_it_says_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = names(tmp_path, "10.7.0.1 a.example\n")
    found: tuple[str, ...] | Exception = ("10.0.0.1",)

    async def system_resolve(name: str) -> tuple[str, ...]:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(boot_names, "system_resolve", system_resolve)
    assert await boot.resolve("a.example") == ("10.0.0.1",), "which reads the hosts file itself"
    await boot.remembered.save()
    again = BootNames(tmp_path / "hosts.json")
    await again.remembered.restore()
    for failure in (OSError("unknown"), UnicodeError("broken")):
        found = failure
        assert await again.resolve("a.example") == ("10.0.0.1",)
    again.use_upstreams(None)
    again.use_system()
    found = ("10.0.0.2",)
    assert await again.resolve("a.example") == ("10.0.0.2",)
    assert again.counters == {"remembered": 2, "system": 1}


@pytest.mark.parametrize(
    ("host", "zone"),
    [
        ("leader.mesos", "mesos"),
        ("LEADER.Mesos.", "mesos"),
        ("mesos", "mesos"),
        ("xmesos", ""),
        ("mesos.example", ""),
        ("10.0.0.1", ""),
        ("zk-1.zk", "zk"),
        ("master.dcos.thisdcos.directory", "thisdcos.directory"),
        ("a.KEY.dcos.directory", "key.dcos.directory"),
        ("a.dcos.directory", ""),
        ("m.far.mesos", ""),
        ("m.x.thisnode", "thisnode"),
    ],
)
def test_circular_zone(host: str, zone: str) -> None:
    own = own_zones(DnsConfig(), "key")
    assert circular_zone(host, own, ("far.mesos", "mesos", "x.example")) == zone


def test_own_zones_without_a_directory() -> None:
    zones = own_zones(DnsConfig(domain="Cluster", directory=""))
    assert "cluster" in zones
    assert not any("directory" in zone for zone in zones)
