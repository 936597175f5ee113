"""Names in DC/OS' directory: from the master's events to DNS answers, as recorded from dcos-net's own modules."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from mesos_dns.config import DnsConfig
from mesos_dns.names import AAAA, SRV, A
from mesos_dns.respond import Responder
from mesos_dns.zone import ZoneView
from tests.conversation.test_mesos_dcos_cases import cases, player
from tests.fakes.followed import Followed
from tests.fakes.mesos_master import record
from tests.fakes.questions import answers, ask, responder_of

pytestmark = pytest.mark.asyncio

DIRECTORY = "dcos.thisdcos.directory"
Row = tuple[str, str, int, str]

# dcos-net makes a task's records when it begins to run and never looks again; we follow the task.
FOLLOWED = {"update_changes_ip"}
# dcos-net publishes nothing while a new leader waits for agents; we keep what we know.
HELD = {"recovered_agents_hold_publication"}


class Served:
    """A followed catalog and the DNS over it."""

    def __init__(self) -> None:
        self.followed = Followed()
        self.view = ZoneView(DnsConfig(health="ignore"))
        self.responder = Responder(self.view, self.view.config)
        self.followed.catalog.listen(self.view.apply)

    def rows(self) -> set[Row]:
        """Every record of tasks in the directory, each asked for by DNS."""
        self.followed.catalog.flush()
        zone = next(zone for zone in self.view.zones.values() if zone.origin == DIRECTORY)
        assert zone.tasks is not None
        found: set[Row] = set()
        for owner in zone.tasks.owners():
            for rtype in ("A", "AAAA"):
                reply = ask(self.responder, f"{owner}.{DIRECTORY}", rtype, "tcp")
                found |= {
                    (f"{owner}.{DIRECTORY}", rtype, rrset.ttl, r.to_text()) for rrset in reply.answer for r in rrset
                }
        return found


def wanted(rows: list[list[Any]]) -> set[Row]:
    """Recorded rows of tasks: what the masters give (leader, master) comes from elsewhere than the events."""
    return {
        (name, rtype, ttl, str(ipaddress.ip_address(value)))
        for name, rtype, ttl, value in rows
        if rtype in ("A", "AAAA") and not name.startswith(("leader.dcos.", "master.dcos."))
    }


async def test_edge_cases_event_by_event(truth: Path) -> None:
    for case in cases(truth, "operator_stream_edge_cases.json"):
        served = Served()

        def after(number: int, case: dict[str, Any] = case, served: Served = served) -> None:
            rows = case["expected_steps"][number]["dns_records"]
            if case["id"] not in FOLLOWED | HELD:
                assert served.rows() == wanted(rows), (case["id"], number, case["expected_steps"][number]["after"])

        await player(served.followed).connection((record(event) for event in case["events"]), after)
        if case["id"] not in FOLLOWED:
            assert served.rows() == wanted(case["expected_steps"][-1]["dns_records"]), case["id"]


async def test_recorded_streams(truth: Path) -> None:
    for case in cases(truth, "operator_stream_cases.json"):
        served = Served()
        await player(served.followed).connection(record(event) for event in case["events"])
        expected = case["expected_after_last_event"]
        rows = next(value for key, value in expected.items() if key.startswith("dns_records"))
        assert served.rows() == wanted(rows), case["id"]


async def test_snapshots(truth: Path) -> None:
    for case in cases(truth, "get_state_cases.json"):
        served = Served()
        event = {"type": "SUBSCRIBED", "subscribed": {"get_state": case["input"]["get_state"]}}
        await player(served.followed).connection(iter([record(event)]))
        rows = next(value for key, value in case["expected"].items() if key.startswith("dns_records"))
        assert served.rows() == wanted(rows), case["id"]


async def test_odd_tasks(truth: Path) -> None:
    fixture = json.loads((truth / "dcos-net/task_edge_cases.json").read_text())["fixture"]
    for case in cases(truth, "task_edge_cases.json"):
        if case["expected"]["reference_error"]:
            continue
        served = Served()
        state = {
            "get_agents": {"agents": fixture["agents"]},
            "get_frameworks": {"frameworks": fixture["frameworks"]},
            "get_tasks": {"tasks": case["tasks"]},
        }
        await player(served.followed).connection(
            iter([record({"type": "SUBSCRIBED", "subscribed": {"get_state": state}})])
        )
        assert served.rows() == wanted(case["expected"]["dns_records"]), case["id"]


async def test_network_modes(truth: Path) -> None:
    """The published matrix holds for the recorded stream that has these tasks."""
    matrix = json.loads((truth / "dcos-net/network_mode_matrix.json").read_text())["cases"]
    served = Served()
    (case,) = (each for each in cases(truth, "operator_stream_cases.json") if each["id"] == "operator-api")
    await player(served.followed).connection(record(event) for event in case["events"])
    served.rows()
    known = 0
    for name, addresses in matrix.items():
        for kind, address in zip(("agentip", "autoip", "containerip"), addresses, strict=True):
            found = answers(ask(served.responder, f"{name}.marathon.{kind}.{DIRECTORY}"))
            if found:
                known += 1
                assert found == [address], (name, kind)
    assert known == 3 * len(matrix)


async def test_the_copy_of_a_recorded_zone(truth: Path) -> None:
    recorded = json.loads((truth / "dcos-net/mesos_dns_axfr.json").read_text())
    responder = responder_of()
    store, origin = responder.view.domain.store, recorded["input"]["Domain"]
    for kind, rtype in (("As", A), ("AAAAs", AAAA)):
        for name, values in recorded["input"]["Records"][kind].items():
            for value in values:
                store.add(name.removesuffix(f".{origin}."), rtype, ipaddress.ip_address(value).packed)
    for name, values in recorded["input"]["Records"]["SRVs"].items():
        for value in values:
            target, _, port = value.rpartition(":")
            store.add(name.removesuffix(f".{origin}."), SRV, (int(port), target.removesuffix(f".{origin}.")))
    assert recorded["expected"]
    for name, kind, ttl, value in recorded["expected"]:
        if kind not in ("A", "AAAA", "SRV"):
            continue  # SOA and NS are our own
        reply = ask(responder, name, kind, "tcp")
        assert reply.answer[0].ttl == ttl
        text = " ".join(map(str, value)) + "." if kind == "SRV" else str(ipaddress.ip_address(value))
        assert text in answers(reply), name
