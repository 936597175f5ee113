"""The name rules against tables, and against zones recorded from the real mesos-dns."""

from __future__ import annotations

import gzip
import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesos_dns import names
from mesos_dns.model import (
    Endpoint,
    Framework,
    Health,
    Leadership,
    Network,
    Node,
    NodeState,
    Port,
    PortMapping,
    Task,
    canonical_address,
)
from mesos_dns.names import AAAA, SRV, A, Record, Rules, TaskPlace, label
from mesos_dns.sources import mesos_state, mesos_wire

RECORDED = Path(__file__).resolve().parents[2] / "data" / "mesos-dns"
HOSTS = {
    "localhost": "127.0.0.1",
    "sched.example.internal": "10.0.0.51",
    "agent7.example.internal": "10.1.0.8",
    "google.com": "192.0.2.99",
}
RULES = Rules()
RFC952 = Rules(enforce_rfc952=True)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("-", ""),
        ("...", ""),
        ("1", "1"),
        ("4abc123", "4abc123"),
        ("-4abc123", "4abc123"),
        ("a/b/c", "abc"),
        ("UPPER", "upper"),
        ("A_b.C", "a-b-c"),
        ("_leading", "leading"),
        ("trailing_", "trailing"),
        ("x..y", "x--y"),
        ("0-0", "0-0"),
        ("hello world", "helloworld"),
        ("été", "t"),
        ("İ", ""),
        ("a" * 64, "a" * 63),
        ("a" * 62 + "--", "a" * 62),
        ("a" * 62 + "-b", "a" * 62 + "b"),  # what a cut at a hyphen leaves free is refilled
        ("a" * 60 + "---" + "--bcde", "a" * 60 + "bcd"),
        ("a" * 63 + "-b", "a" * 63),
    ],
)
def test_label(text: str, expected: str) -> None:
    assert label(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4abc123", "abc123"),
        ("0-0", ""),
        ("89-fdgsf---gs7-fgs--d7fddg-123", "fdgsf---gs7-fgs--d7fddg1"),
        ("a" * 23 + "-bc", "a" * 23 + "b"),
        ("9web", "web"),
    ],
)
def test_label_of_rfc_952(text: str, expected: str) -> None:
    assert RFC952.label(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", "a.b"),
        ("a..b", "a.b"),
        (".a.", "a"),
        ("/group/app", "groupapp"),
        ("a_b.c_d", "a-b.c-d"),
        ("A.B.C", "a.b.c"),
        ("x" * 64 + ".y", "x" * 63 + ".y"),
        ("", ""),
        ("..", ""),
        ("dev/cassandra", "devcassandra"),
        ("a.-b-.c", "a.b.c"),
    ],
)
def test_domain_fragment(text: str, expected: str) -> None:
    assert names.domain_fragment(text) == expected


def test_labels_as_dcos_net_makes_them(truth: Path) -> None:
    recorded = json.loads((truth / "dcos-net/dns_label_mangling.json").read_text())
    assert [label(text) for text, _ in recorded["label"]] == [expected for _, expected in recorded["label"]]
    fragments = recorded["domain_frag"]
    assert [names.domain_fragment(text) for text, _ in fragments] == [expected for _, expected in fragments]


def test_id5_is_zbase32_of_sha1() -> None:
    # sha1("") = da39a3ee…: 11011 01000 11100 11010 00111
    assert names.id5("") == "".join("ybndrfg8ejkmcpqxot1uwisza345h769"[n] for n in (27, 8, 28, 26, 7))


# --- one task -------------------------------------------------------------------------------------


def place(framework: str = "marathon", addresses: tuple[str, ...] = ("10.1.0.1",), **fields: Any) -> TaskPlace:
    values: dict[str, Any] = {"name": "web", "node_id": "20-S3", "state": names.RUNNING}
    return TaskPlace(Task("f", "t1", **(values | fields)), framework, addresses)


def told(records: list[Record]) -> dict[tuple[str, int], set[str]]:
    """(owner, type) → rdata as text."""
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for owner, rtype, rdata in records:
        text = f"{rdata[1]}:{rdata[0]}" if isinstance(rdata, tuple) else str(ipaddress.ip_address(rdata))
        found[owner, rtype].add(text)
    return dict(found)


CANONICAL = f"web-{names.id5('t1')}-s3"


def test_a_task_without_discovery_info() -> None:
    networks = (Network("a", ("9.0.0.1", "fd00::9")),)
    assert told(names.task_records(place(networks=networks, host_ports=(31000, 31001)), RULES)) == {
        ("web.marathon", A): {"9.0.0.1"},
        ("web.marathon", AAAA): {"fd00::9"},
        (f"{CANONICAL}.marathon", A): {"9.0.0.1"},
        (f"{CANONICAL}.marathon", AAAA): {"fd00::9"},
        ("web.marathon.slave", A): {"10.1.0.1"},
        (f"{CANONICAL}.marathon.slave", A): {"10.1.0.1"},
        **{
            (f"_web._{protocol}.marathon{slave}", SRV): {
                f"{CANONICAL}.marathon.slave:{port}" for port in (31000, 31001)
            }
            for protocol in ("tcp", "udp")
            for slave in ("", ".slave")
        },
    }


def test_a_discovery_name_is_published_as_written_and_as_a_label() -> None:
    found = told(names.task_records(place(discovery_name="Web.Shop", host_ports=(31000,)), RULES))
    unique = f"-{names.id5('t1')}-s3"
    for name in ("Web.Shop", "web-shop"):
        assert found[f"{name}.marathon", A] == {"10.1.0.1"}
        assert found[f"{name}{unique}.marathon.slave", A] == {"10.1.0.1"}
        assert found[f"_{name}._tcp.marathon.slave", SRV] == {f"{name}{unique}.marathon.slave:31000"}
    # Ports of resources are published below .slave only, once there is a discovery name.
    assert ("_web-shop._tcp.marathon", SRV) not in found
    assert not any(owner.startswith("web.") for owner, _ in found)


PORTS: list[tuple[Port, dict[str, str]]] = [
    (Port(80, "http", "tcp"), {"_web._tcp": "80", "_http._web._tcp": "80"}),
    (Port(53, "dns", "udp"), {"_web._udp": "53", "_dns._web._udp": "53"}),
    (Port(1, "", "tcp"), {"_web._tcp": "1"}),
    (Port(2, "both"), {f"{named}_web._{protocol}": "2" for named in ("", "_both.") for protocol in ("tcp", "udp")}),
    (Port(3, "x", "tcp,udp"), {"_web._tcpudp": "3", "_x._web._tcpudp": "3"}),
    (Port(4, "Odd_Name/1", "TCP"), {"_web._tcp": "4", "_odd-name1._web._tcp": "4"}),
    (Port(5, "///", "-"), {"_web._tcp": "5", "_web._udp": "5"}),
    (Port(70000, "high", "tcp"), {"_web._tcp": "70000", "_high._web._tcp": "70000"}),
    (Port(0, "", "tcp"), {"_web._tcp": "0"}),
]


@pytest.mark.parametrize(("port", "owners"), PORTS, ids=str)
def test_discovery_ports(port: Port, owners: dict[str, str]) -> None:
    found = told(names.task_records(place(discovery_name="web", ports=(port,)), RULES))
    services = {owner: rdata for (owner, rtype), rdata in found.items() if rtype == SRV}
    assert services == {f"{owner}.marathon": {f"{CANONICAL}.marathon:{number}"} for owner, number in owners.items()}


def test_discovery_ports_together() -> None:
    ports = tuple(port for port, _ in PORTS)
    found = told(names.task_records(place(discovery_name="web", ports=ports), RULES))
    expected: dict[str, set[str]] = defaultdict(set)
    for _, owners in PORTS:
        for owner, number in owners.items():
            expected[f"{owner}.marathon"].add(f"{CANONICAL}.marathon:{number}")
    assert {owner: rdata for (owner, rtype), rdata in found.items() if rtype == SRV} == expected


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("netinfo", "mesos", "host"), ("9.0.0.1", "9.0.0.2")),
        (("host", "netinfo"), ("10.1.0.1",)),
        (("docker",), ("172.17.0.2",)),
        (("mesos", "docker"), ("9.9.9.9",)),
        (("mesos",), ("9.9.9.9",)),
    ],
)
def test_ip_sources(sources: tuple[str, ...], expected: tuple[str, ...]) -> None:
    networks = (Network("a", ("9.0.0.1",)), Network("b"), Network("c", ("9.0.0.2",)))
    labels = (("docker", "172.17.0.2"), ("mesos", "9.9.9.9"))
    where = place(networks=networks, label_addresses=labels)
    assert names.task_addresses(where, Rules(ip_sources=sources)) == expected


def test_the_first_ip_source_that_has_any_wins() -> None:
    assert names.task_addresses(place(), RULES) == ("10.1.0.1",)
    assert names.task_addresses(place(networks=(Network("a"),)), RULES) == ("10.1.0.1",)
    assert names.task_addresses(place(), Rules(ip_sources=("docker",))) == ()
    assert not [r for r in names.task_records(place(), Rules(ip_sources=("docker",))) if r[0] == "web.marathon"]


def test_rfc_952_shortens_every_part() -> None:
    where = place("9frame." + "x" * 30, name="1" + "w" * 30)
    owners = {owner for owner, _, _ in names.task_records(where, RFC952)}
    assert f"{'w' * 24}.frame.{'x' * 24}" in owners


def test_a_framework_without_a_usable_name_gives_no_records() -> None:
    assert names.task_records(place("///"), RULES) == []
    assert names.framework_records(Framework("f", "...", addresses=("10.0.0.1",), port=1), RULES) == []


@pytest.mark.parametrize(
    ("node_id", "end"),
    [("20150101-S3", "s3"), ("S3", "s3"), ("a-b-", ""), ("ip-10-0-0-1.ec2.internal", "1.ec2.internal")],
)
def test_unique_suffix(node_id: str, end: str) -> None:
    assert names.unique_suffix(Task("f", "t1", "web", node_id, names.RUNNING)) == f"-{names.id5('t1')}-{end}"


# --- directory ------------------------------------------------------------------------------------

MODES = {
    "docker-on-bridge": ("172.17.0.4", "172.17.0.4", "172.18.0.2"),
    "docker-on-dcos": ("172.17.0.4", "9.0.2.130", "9.0.2.130"),
    "docker-on-host": ("172.17.0.4", "172.17.0.4", "172.17.0.4"),
}


@pytest.mark.parametrize("mode", MODES)
def test_network_modes(mode: str) -> None:
    agent, auto, container = MODES[mode]
    mappings = (PortMapping(20560, 8080),) if mode.endswith("bridge") else ()
    networks = (Network("", (container,)),) if container != agent else (Network("", (agent,)),)
    where = place(addresses=(agent,), name=mode, networks=networks, port_mappings=mappings)
    unique = names.unique_suffix(where.task)
    found = {
        slot.tail.rpartition(".")[2]: names.slot_rdata(slot, where, RULES, unique)
        for slot in names.shape(where, RULES).directory
    }
    assert found == {
        "agentip": [names.packed(agent)],
        "autoip": [names.packed(auto)],
        "containerip": [names.packed(container)],
    }


def test_a_container_without_an_address_has_its_agents() -> None:
    where = place(port_mappings=(PortMapping(0, 8080),))
    kinds = {slot.tail: names.slot_rdata(slot, where, RULES, "") for slot in names.shape(where, RULES).directory}
    assert set(map(tuple, kinds.values())) == {(names.packed("10.1.0.1"),)}


def test_directory_names_are_labels() -> None:
    where = place("Team.Marathon", discovery_name="a.B_c")
    owners = {slot.owner("") for slot in names.shape(where, RULES).directory}
    assert owners == {f"a-b-c.team.marathon.{kind}" for kind in ("agentip", "autoip", "containerip")}


# --- cluster --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["leader", "slave", "master", "master0", "master17", "ns1", "LEADER", "-master_", "my.leader"]
)
def test_reserved_names_get_no_address_from_a_framework(name: str) -> None:
    records = names.framework_records(Framework("f", name, addresses=("10.0.0.9",), port=8080), RULES)
    assert [rtype for _, rtype, _ in records] == ([A, SRV] if name == "my.leader" else [SRV])


def test_the_configured_name_server_is_reserved() -> None:
    framework = Framework("f", "dns-a", addresses=("10.0.0.9",))
    assert names.framework_records(framework, Rules(name_server="dns-a")) == []
    assert len(names.framework_records(framework, RULES)) == 1


def test_a_framework() -> None:
    framework = Framework("f", "Team.Marathon_1", addresses=("10.0.0.9", "fd00::9"), port=8080)
    assert told(names.framework_records(framework, RULES)) == {
        ("team.marathon-1", A): {"10.0.0.9"},
        ("team.marathon-1", AAAA): {"fd00::9"},
        ("_framework._tcp.team.marathon-1", SRV): {"team.marathon-1:8080"},
    }
    assert len(names.framework_records(Framework("f", "m", addresses=("10.0.0.9",)), RULES)) == 1
    assert names.framework_records(Framework("f", "m", port=8080), RULES) == []


@pytest.mark.parametrize(
    ("state", "known"),
    [
        (NodeState.ACTIVE, True),
        (NodeState.DRAINING, True),
        (NodeState.UNREACHABLE, False),
        (NodeState.GONE, False),
    ],
)
def test_an_agent(state: NodeState, known: bool) -> None:
    node = Node("a-S0", "host", ("10.1.0.1",), 5051, state)
    expected = {("slave", A): {"10.1.0.1"}, ("_slave._tcp", SRV): {"slave:5051"}} if known else {}
    assert told(names.node_records(node)) == expected
    assert names.node_records(Node("a-S0", "unresolvable")) == []


M = [Endpoint(f"10.0.0.1{n}", 5050) for n in range(4)]


@pytest.mark.parametrize(
    ("leader", "masters", "numbered"),
    [
        (M[1], (M[1], M[0], M[2]), ["10.0.0.11", "10.0.0.10", "10.0.0.12"]),
        (M[2], (M[0], M[1], M[2]), ["10.0.0.10", "10.0.0.11", "10.0.0.12"]),
        (M[3], (M[0], M[1]), ["10.0.0.10", "10.0.0.11", "10.0.0.13"]),  # a leader that is not listed: the last number
        (M[0], (M[0], M[0], M[1], M[1]), ["10.0.0.10", "10.0.0.11"]),
        (M[0], (), ["10.0.0.10"]),
        (None, (M[0], M[1], M[0]), ["10.0.0.10", "10.0.0.11"]),
        (None, (), []),
    ],
)
def test_masters_are_numbered(leader: Endpoint | None, masters: tuple[Endpoint, ...], numbered: list[str]) -> None:
    found = told(names.leadership_records(Leadership(leader, masters)))
    assert [found.pop((f"master{number}", A)) for number in range(len(numbered))] == [{text} for text in numbered]
    if leader is not None:
        assert found.pop(("leader", A)) == {leader.address}
        assert found.pop(("_leader._tcp", SRV)) == found.pop(("_leader._udp", SRV)) == {"leader:5050"}
    if numbered:
        assert found.pop(("master", A)) == set(numbered)
    assert not found


def test_the_directory_has_leader_and_masters() -> None:
    found = told(names.directory_leadership_records(Leadership(M[3], (M[0], M[1], M[0]))))
    assert found == {("leader", A): {"10.0.0.13"}, ("master", A): {"10.0.0.10", "10.0.0.11", "10.0.0.13"}}
    assert names.directory_leadership_records(Leadership(None, ())) == []


# --- what changes nothing ---------------------------------------------------------------------------


def test_same_records() -> None:
    before = place(discovery_name="web", ports=(Port(80, "http", "tcp"),), networks=(Network("a", ("9.0.0.1",)),))

    def after(**fields: Any) -> TaskPlace:
        return TaskPlace(msgspec.structs.replace(before.task, **fields), before.framework, before.node_addresses)

    quiet: list[dict[str, Any]] = [
        {"labels": (("a", "b"),)},
        {"start_time": 7.0},
        {"health": Health.HEALTHY},
        {"name": "other"},
        {"networks": (Network("b", ("9.0.0.1",)),)},
        {"ports": (Port(80, "http", "tcp", (("VIP_0", "/a:80"),)),)},
    ]
    for fields in quiet:
        assert names.same_records(before, after(**fields), RULES)
        assert names.task_records(before, RULES) == names.task_records(after(**fields), RULES)
    loud: list[dict[str, Any]] = [
        {"discovery_name": "other"},
        {"node_id": "20-S4"},
        {"networks": (Network("a", ("9.0.0.2",)),)},
        {"ports": (Port(81, "http", "tcp"),)},
        {"ports": (Port(80, "http", "udp"),)},
        {"host_ports": (1,)},
    ]
    for fields in loud:
        assert not names.same_records(before, after(**fields), RULES)


# --- recorded zones -------------------------------------------------------------------------------


def addresses_of(host: str) -> tuple[str, ...]:
    address = canonical_address(HOSTS.get(host, host))
    return (address,) if address else ()


def entities(state: dict[str, Any]) -> Iterator[Framework | Node | Task]:
    """What a /state document says, decoded as the source does, hosts resolved from a table."""
    for framework in state["frameworks"]:
        pid = mesos_wire.pid_address(framework.get("pid") or "")
        host, port = pid or (framework.get("hostname", ""), 0)
        yield Framework(framework["id"], framework["name"], addresses=addresses_of(host), port=port)
        for number, task in enumerate(framework["tasks"]):
            wired = mesos_state.task_decoder.decode(json.dumps({**task, "framework_id": framework["id"]}).encode())
            yield msgspec.structs.replace(mesos_state.task(wired), duplicate=number)
    for agent in state["slaves"]:
        host, port = mesos_wire.pid_address(agent["pid"]) or ("", 0)
        yield Node(agent["id"], agent["hostname"], addresses_of(host), port)


def records_of(state: dict[str, Any], config: dict[str, Any]) -> list[Record]:
    """The domain's records by the rules, from a state and mesos-dns' configuration."""
    rules = Rules(
        tuple(config.get("IPSources", RULES.ip_sources)),
        config.get("EnforceRFC952", False),
    )
    found = list(entities(state))
    nodes = {each.id: each for each in found if isinstance(each, Node)}
    frameworks = {each.id: each for each in found if isinstance(each, Framework)}
    records: list[Record] = []
    for each in found:
        if isinstance(each, Framework):
            records += names.framework_records(each, rules)
        elif isinstance(each, Node):
            records += names.node_records(each)
        elif each.state == names.RUNNING and each.node_id in nodes:
            where = TaskPlace(each, frameworks[each.framework_id].name, nodes[each.node_id].addresses)
            records += names.task_records(where, rules)
    leader = mesos_wire.pid_address(state["leader"]) or ("", 0)
    masters = [mesos_wire.pid_address(f"master@{master}") or ("", 0) for master in config["Masters"]]
    endpoints = tuple(Endpoint(canonical_address(host), port) for host, port in masters)
    return records + names.leadership_records(Leadership(Endpoint(canonical_address(leader[0]), leader[1]), endpoints))


def compare(state: str, config: str, axfr: str) -> dict[str, set[str]]:
    """Where the rules and the recorded zone differ: "kind name" → the difference."""
    settings = json.loads(config)
    domain = settings["Domain"].lower()
    recorded = json.loads(axfr)["Records"]
    found: dict[str, set[str]] = defaultdict(set)
    for (owner, rtype), rdata in told(records_of(json.loads(state), settings)).items():
        kind = {A: "As", AAAA: "AAAAs", SRV: "SRVs"}[rtype]
        for text in rdata:
            target, colon, port = text.rpartition(":") if rtype == SRV else (text, "", "")
            found[f"{kind} {owner}.{domain}."].add(f"{target}.{domain}.{colon}{port}" if rtype == SRV else text)
    expected = {
        f"{kind} {name}": set(rdata) for kind in ("As", "AAAAs", "SRVs") for name, rdata in recorded[kind].items()
    }
    assert len(expected) > 5
    differ = {name: expected.get(name, set()) ^ found.get(name, set()) for name in {*expected, *found}}
    return {name: difference for name, difference in differ.items() if difference}


RESERVED = {"As leader.mesos.": {"10.0.0.91"}, "As slave.mesos.": {"10.0.0.90"}}
"""The recorded state has frameworks called leader and slave, which mesos-dns lets add their address."""


@pytest.mark.parametrize("case", ["empty-state", "rich-a"])
def test_the_zone_that_mesos_dns_made(case: str) -> None:
    folder = RECORDED / case
    state, axfr = (gzip.decompress((folder / f"{name}.json.gz").read_bytes()).decode() for name in ("state", "axfr"))
    differences = compare(state, (folder / "config.json").read_text(), axfr)
    assert differences.pop("As ns1.mesos.") == {"127.0.0.1"}  # from the listen address, not from Mesos
    assert differences == (RESERVED if case == "rich-a" else {})


def test_every_recorded_zone(truth: Path) -> None:
    cases = [
        folder
        for parent in (truth / "mesos-dns", truth / "upstream/mesos-dns")
        for folder in sorted(parent.iterdir())
        if (folder / "axfr.json").exists() and "m3s" not in folder.name
    ]
    assert len(cases) > 6
    for folder in cases:
        texts = [(folder / name).read_text() for name in ("state.json", "config.json", "axfr.json")]
        differences = compare(*texts)
        name_server = json.loads(texts[1]).get("SOAMname", "ns1.mesos").rstrip(".")
        differences = {name: value for name, value in differences.items() if not name.endswith(f" {name_server}.")}
        assert differences == (RESERVED if folder.name == "rich-a" else {}), folder.name
