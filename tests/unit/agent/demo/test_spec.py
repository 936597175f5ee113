"""What is launched."""

from __future__ import annotations

import pytest

from agent.demo.spec import Network, TaskSpec


@pytest.mark.parametrize("network", Network)
def test_only_networks_behind_the_agent_take_its_ports(network: Network) -> None:
    assert network.maps_host_ports == (network not in (Network.CONTAINER, Network.DUAL))


def test_task_ids_begin_with_the_prefix_or_the_name() -> None:
    assert TaskSpec("web.group").prefix == "web.group"
    assert TaskSpec("web.group", task_prefix="group_web").prefix == "group_web"
