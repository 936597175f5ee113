"""Labels, tasks and event sequences whose VIPs were recorded from dcos-net's own code; where we differ on purpose, the
reason stands in a table here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from lb4.labels import BadLabel, vip_key
from lb4.services import BackendKey
from lb4.table import VipTable
from lb4.task_backends import PortUse, Whereabouts, backends_of
from lb4.vip import Backend, VipKey
from lb4.weights import effective
from mesos_dns.model import Health, Network, PortMapping, Task
from tests.conversation.test_mesos_dcos_cases import player
from tests.fakes.followed import Followed
from tests.fakes.mesos_master import record

ZONE = ".l4lb.thisdcos.directory"

Vips: TypeAlias = dict[VipKey, set[tuple[str, str, int, int]]]
"""Backends as dcos-net has them: (agent's address, address, port, weight)."""

LABELS: dict[str, tuple[VipKey | str, str]] = {
    "[fd01:c::5]:80": (VipKey("tcp", "fd01:c::5", 80), "brackets around an address are the common way to write it"),
    "/abc:65536": ("port", "no such port exists"),
    ":80": ("name", "a name without its first label is no name"),
}
"""Labels that we read in another way: as what (or the reason of the refusal), and why."""

OPENED: dict[tuple[str, int], str] = {
    (
        "health_flap",
        2,
    ): "the only task turns unhealthy: dcos-net refuses connections, we go on trying one that was healthy",
}
"""Steps of event sequences after which we give a weight to what has none at dcos-net, and why."""


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    found = json.loads((folder / "dcos-net" / name).read_text())["cases"]
    assert found
    return list(found)


def key_of(found: dict[str, Any]) -> VipKey:
    """dcos-net's key of a VIP, as recorded."""
    name = found["ip"] if "ip" in found else found["fqdn"].removesuffix(ZONE)
    return VipKey(found["protocol"], name, found["port"])


def recorded(vips: list[dict[str, Any]]) -> Vips:
    return {key_of(vip["key"]): {tuple(backend) for backend in vip["backends"]} for vip in vips}


def made(table: VipTable) -> Vips:
    found: Vips = {}
    for key in list(table.keys()):
        state = table.get(key)
        assert state is not None
        found[key] = {(each.node, each.address, each.port, each.weight) for each in state.backends}
    return found


def mappings(table: VipTable) -> set[tuple[str, int, str, int]]:
    """(protocol, port of the host, container's address and port) of what a node reaches without its own mapping."""
    return {
        (key.protocol, backend.port, backend.local.address, backend.local.port)
        for key in list(table.keys())
        for backend in getattr(table.get(key), "backends", ())
        if backend.local is not None
    }


def followed_table() -> tuple[Followed, VipTable]:
    followed, table = Followed(), VipTable()
    followed.catalog.listen(table.apply)
    return followed, table


def compare(name: str, table: VipTable, vips: list[dict[str, Any]], local: list[Any]) -> None:
    assert made(table) == recorded(vips), name
    used = {(key.protocol, port) for key, backends in made(table).items() for _, _, port, _ in backends}
    # dcos-net lists the mappings of all tasks, also of those that are behind no VIP.
    assert mappings(table) == {tuple(each) for each in local if (each[0], each[1]) in used}, name
    assert table.faults == 0


# --- labels ---------------------------------------------------------------------------------------


def test_labels(truth: Path) -> None:
    differ = set()
    for case in cases(truth, "vip_label_to_key.json"):
        label = case["label"]
        expected = key_of(case["expected"]) if case["expected"] is not None else None
        try:
            found: VipKey | str | None = vip_key(label, case["framework"], case["protocol"])
        except BadLabel as error:
            found = error.reason if expected is not None else None
        if found != expected:
            assert label in LABELS, f"{label!r} is read as {found}, dcos-net: {expected}"
            assert found == LABELS[label][0]
            differ.add(label)
    assert differ == LABELS.keys()


# --- tasks and events -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_odd_tasks(truth: Path) -> None:
    fixture = json.loads((truth / "dcos-net/task_edge_cases.json").read_text())["fixture"]
    some = 0
    for case in cases(truth, "task_edge_cases.json"):
        state = {
            "get_agents": {"agents": fixture["agents"]},
            "get_frameworks": {"frameworks": fixture["frameworks"]},
            "get_tasks": {"tasks": case["tasks"]},
        }
        followed, table = followed_table()
        await player(followed).connection(iter([record({"type": "SUBSCRIBED", "subscribed": {"get_state": state}})]))
        followed.catalog.flush()
        expected = case["expected"]
        compare(case["id"], table, expected["vips"], expected["local_port_mappings"])
        some += len(expected["vips"])
    assert some > 10


@pytest.mark.asyncio
async def test_snapshots(truth: Path) -> None:
    for case in cases(truth, "get_state_cases.json"):
        followed, table = followed_table()
        event = {"type": "SUBSCRIBED", "subscribed": {"get_state": case["input"]["get_state"]}}
        await player(followed).connection(iter([record(event)]))
        followed.catalog.flush()
        expected = case["expected"]["vips"]
        compare(case["id"], table, expected["vips"], expected["local_port_mappings"])


@pytest.mark.asyncio
async def test_recorded_streams(truth: Path) -> None:
    for case in cases(truth, "operator_stream_cases.json"):
        followed, table = followed_table()
        await player(followed).connection(record(event) for event in case["events"])
        followed.catalog.flush()
        expected = case["expected_after_last_event"]["vips"]
        compare(case["id"], table, expected["vips"], expected["local_port_mappings"])


@pytest.mark.asyncio
async def test_event_by_event(truth: Path) -> None:
    differ = set()
    for case in cases(truth, "operator_stream_edge_cases.json"):
        followed, table = followed_table()
        found: list[Vips] = []

        def after(
            number: int, followed: Followed = followed, table: VipTable = table, into: list[Vips] = found
        ) -> None:
            followed.catalog.flush()
            into.append(made(table))

        await player(followed).connection((record(event) for event in case["events"]), after)
        assert len(found) == len(case["expected_steps"])
        for number, (vips, step) in enumerate(zip(found, case["expected_steps"], strict=True)):
            expected = _of_step(step["vip_backends"])
            if vips != expected:
                assert (case["id"], number) in OPENED, (case["id"], number, vips, expected)
                assert vips == {key: {(*b[:3], 1) for b in backends} for key, backends in expected.items()}
                differ.add((case["id"], number))
    assert differ == OPENED.keys()


def _of_step(backends: list[Any]) -> Vips:
    return {VipKey("tcp", fqdn.removesuffix(ZONE), port): {tuple(b) for b in given} for fqdn, port, given in backends}


# --- the node's own view, and nodes that are not heard of -----------------------------------------


def test_what_a_node_reaches_without_its_own_mapping(truth: Path) -> None:
    for case in cases(truth, "local_port_mapping.json"):
        found = []
        for agent, address, port, weight in case["backends"]:
            ours = [mapping for mapping in case["local_port_mappings"] if address == case["agent_ip"]]
            (backend,) = _behind_mappings(agent, port, weight, case["protocol"], ours)
            local = backend.local if agent == case["agent_ip"] and backend.local is not None else backend.key
            found.append([agent, *local, backend.weight])
        assert found == case["expected"], case["case"]


def _behind_mappings(agent: str, port: int, weight: int, protocol: str, ours: list[Any]) -> tuple[Backend, ...]:
    """A task's backend by a port of its host, with these port mappings into its container."""
    made = tuple(PortMapping(host, inside, name) for name, host, _, inside in ours)
    networks = (Network("", (ours[0][2],)),) if ours else ()
    health = Health.HEALTHY if weight else Health.UNHEALTHY
    task = Task("F", "t", "t", "S", "TASK_RUNNING", health, networks=networks, port_mappings=made, runtime="mesos")
    return backends_of(task.key, task, PortUse(port, protocol, True), Whereabouts(agent), health)


REACHABILITY: dict[str, str] = {
    "agent never seen in gossip -> treated as unreachable": "a node that never reported is not suspect: it may be new, "
    "or of a kind that does not report",
}
"""Cases in which we keep backends that dcos-net drops, and why."""


def test_nodes_that_are_not_heard_of(truth: Path) -> None:
    """What dcos-net drops has weight 0 here."""
    differ = set()
    for case in cases(truth, "reachability_filter.json"):
        backends = [Backend(address, port, node=agent) for agent, address, port in case["backends"]]
        suspects = frozenset(case["unreachable"])
        found = [[b.node, *b.key] for b in effective(backends, suspects, lambda key: False) if b.weight > 0]
        if found != case["expected_backends"]:
            assert case["case"] in REACHABILITY
            assert found == case["backends"]
            differ.add(case["case"])
    assert differ == REACHABILITY.keys()


def test_the_key_of_a_backend_is_where_others_reach_it() -> None:
    """So that the comparisons above mean something on machines without the recordings, too."""
    (backend,) = _behind_mappings("10.0.0.7", 31000, 1, "tcp", [["tcp", 31000, "9.0.1.2", 80]])
    assert (backend.key, backend.local) == (BackendKey("10.0.0.7", 31000), BackendKey("9.0.1.2", 80))
