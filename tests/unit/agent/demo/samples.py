"""Tasks to launch in tests."""

from __future__ import annotations

from agent.demo.spec import Check, Network, PortSpec, TaskSpec


def every_kind_of_task() -> list[TaskSpec]:
    """One task of each network mode and check."""
    port = PortSpec("http", 8080, labels={"VIP_0": "/web:80"})
    specs = [TaskSpec(f"web.{network}", ports=(port,), labels={"team": "a"}, network=network) for network in Network]
    specs += [TaskSpec(f"check.{check.value}", ports=(port,), check=check) for check in Check]
    return [*specs, TaskSpec("bare", discovery=False), TaskSpec("portless", check=Check.COMMAND)]
