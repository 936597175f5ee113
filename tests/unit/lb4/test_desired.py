"""lb4.desired: a VIP's services as one node sees them."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path

import pytest

from lb4.desired import services
from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings
from lb4.vip import Backend, VipKey, VipState
from mesos_dns.model import VipAddress

NAMED = VipKey("tcp", "web.marathon", 80)
ADDRESS = VipAddress("web.marathon", "11.0.0.1", "fd01:c::1")
A, B = Backend("10.0.0.1", 8080), Backend("10.0.0.2", 8080)
SIX = Backend("fd00::1", 8080)


def wanted(
    state: VipState,
    address: VipAddress | None = ADDRESS,
    own: frozenset[str] = frozenset(),
    failing: Container[BackendKey] = (),
) -> dict[ServiceKey, Service]:
    return services(state, address, own=own, failing=failing, scheduler="wlc")


def weights(service: Service) -> dict[tuple[str, int], int]:
    return {(address, port): d.weight for (address, port), d in service.destinations.items()}


def test_a_named_vip_has_a_service_for_each_family() -> None:
    found = wanted(VipState(NAMED, (A, B, SIX)))
    assert found == {
        ServiceKey("tcp", "11.0.0.1", 80): Service(Settings("wlc"), {A.key: Destination(), B.key: Destination()}),
        ServiceKey("tcp", "fd01:c::1", 80): Service(Settings("wlc"), {SIX.key: Destination()}),
    }


def test_no_service_for_a_family_without_backends() -> None:
    assert list(wanted(VipState(NAMED, (SIX,)))) == [ServiceKey("tcp", "fd01:c::1", 80)]
    assert wanted(VipState(NAMED)) == {}


def test_no_service_while_no_address_is_allocated() -> None:
    assert wanted(VipState(NAMED, (A, SIX)), None) == {}
    assert wanted(VipState(NAMED, (A, SIX)), VipAddress("web.marathon")) == {}
    only = VipAddress("web.marathon", "11.0.0.1")
    assert list(wanted(VipState(NAMED, (A, SIX)), only)) == [ServiceKey("tcp", "11.0.0.1", 80)]


@pytest.mark.parametrize(("address", "backend"), [("10.9.9.9", A), ("fd00::99", SIX)])
def test_an_address_vip_has_backends_of_its_family_only(address: str, backend: Backend) -> None:
    found = wanted(VipState(VipKey("udp", address, 53), (A, SIX)), None)
    assert found == {ServiceKey("udp", address, 53): Service(Settings("wlc"), {backend.key: Destination()})}


def test_settings_and_thresholds() -> None:
    state = VipState(
        NAMED, (A, SIX), scheduler="mh", persistence=300, upper_threshold=100, lower_threshold=50, check=None
    )
    found = wanted(state)
    assert found[ServiceKey("tcp", "11.0.0.1", 80)].settings == Settings("mh", 300, 32)
    assert found[ServiceKey("tcp", "fd01:c::1", 80)].settings == Settings("mh", 300, 128)
    assert all(d == Destination(1, 100, 50) for service in found.values() for d in service.destinations.values())


LOCAL = Backend("10.0.0.1", 31000, node="10.0.0.1", local=BackendKey("9.0.1.29", 80))


def test_what_runs_here_is_reached_where_it_listens() -> None:
    key = ServiceKey("tcp", "11.0.0.1", 80)
    assert weights(wanted(VipState(NAMED, (LOCAL,)))[key]) == {("10.0.0.1", 31000): 1}
    assert weights(wanted(VipState(NAMED, (LOCAL,)), own=frozenset({"10.0.0.1"}))[key]) == {("9.0.1.29", 80): 1}
    assert weights(wanted(VipState(NAMED, (A,)), own=frozenset({"10.0.0.1", ""}))[key]) == {("10.0.0.1", 8080): 1}


def test_a_family_may_change_by_rewriting() -> None:
    state = VipState(NAMED, (Backend("10.0.0.1", 31000, node="10.0.0.1", local=BackendKey("fd00::5", 80)),))
    assert list(wanted(state, own=frozenset({"10.0.0.1"}))) == [ServiceKey("tcp", "fd01:c::1", 80)]


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_backends_that_become_one_the_larger_weight_counts(turned: bool) -> None:
    other = Backend("10.0.0.1", 31001, weight=3, node="10.0.0.1", local=LOCAL.local)
    backends = (other, LOCAL) if turned else (LOCAL, other)
    found = wanted(VipState(NAMED, backends), own=frozenset({"10.0.0.1"}))
    assert weights(found[ServiceKey("tcp", "11.0.0.1", 80)]) == {("9.0.1.29", 80): 3}


def test_own_checks_know_backends_by_what_all_nodes_call_them() -> None:
    found = wanted(VipState(NAMED, (LOCAL, B)), own=frozenset({"10.0.0.1"}), failing={LOCAL.key})
    assert weights(found[ServiceKey("tcp", "11.0.0.1", 80)]) == {("9.0.1.29", 80): 0, ("10.0.0.2", 8080): 1}


def test_backends_without_weight_are_in_it() -> None:
    found = wanted(VipState(NAMED, (Backend("10.0.0.1", 8080, weight=0), B)))
    assert weights(found[ServiceKey("tcp", "11.0.0.1", 80)]) == {("10.0.0.1", 8080): 0, ("10.0.0.2", 8080): 1}


def test_recorded_port_mappings(truth: Path) -> None:
    cases = json.loads((truth / "dcos-net" / "local_port_mapping.json").read_text())["cases"]
    assert cases
    for case in cases:
        mappings = {(protocol, port): BackendKey(*to) for protocol, port, *to in case["local_port_mappings"]}
        # The mapping of a port is a matter of its protocol; a task on another node has none here.
        backends = tuple(
            Backend(ip, port, weight=weight, node=node, local=mappings.get((case["protocol"], port)))
            for node, ip, port, weight in case["backends"]
        )
        state = VipState(VipKey(case["protocol"], "web.marathon", 80), backends)
        (service,) = wanted(state, own=frozenset({case["agent_ip"]})).values()
        assert weights(service) == {(ip, port): weight for _, ip, port, weight in case["expected"]}, case["case"]
