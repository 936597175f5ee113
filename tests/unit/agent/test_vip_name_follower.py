"""Names of VIPs: as many as answer, at addresses that backends have."""

from __future__ import annotations

import pytest

from agent.vip_name_follower import NameFollower
from lb4.names import VipNames
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.model import Network, Port, VipAddress
from mesos_dns.names import AAAA, SRV, A
from tests.fakes.questions import AGENT, MARATHON, drop, put, task

WEB, ADMIN = VipKey("tcp", "web.marathon", 80), VipKey("tcp", "web.marathon", 81)


class World:
    """A name with two ports, of which those in `up` answer."""

    def __init__(self) -> None:
        self.table, self.names = VipTable(), VipNames()
        self.up = {WEB, ADMIN}
        self.families = frozenset({4, 6})
        self.follower = NameFollower(
            self.table, self.names, lambda key: self.families if key in self.up else frozenset()
        )
        self.table.listen(self.follower.follow)
        port = Port(8080, "http", "tcp", (("VIP_0", "/web:80"), ("VIP_1", "/web:81"), ("VIP_2", "10.7.7.7:80")))
        self.task = task(0, ports=(port,), networks=(Network("dcos", ("9.0.0.1",)),))
        self.table.apply(put(MARATHON, AGENT, self.task, VipAddress("web.marathon", "11.0.0.1", "fd01:c::1")))

    def answers(self, key: VipKey) -> frozenset[int]:
        return self.families if key in self.up else frozenset()

    def owners(self) -> set[tuple[str, int]]:
        return {(owner, rtype) for owner, rtype, _ in self.names.records()}


def test_only_families_that_backends_have() -> None:
    world = World()
    assert ("web.marathon", A) in world.owners()
    assert ("web.marathon", AAAA) not in world.owners()
    networks = (Network("dcos", ("9.0.0.1", "fd00::1")),)
    world.table.apply(put(task(0, ports=world.task.ports, networks=networks)))
    assert ("web.marathon", AAAA) in world.owners()
    world.families = frozenset({4})  # a node without IPv6
    world.follower.follow([WEB])
    assert ("web.marathon", AAAA) not in world.owners()
    assert ("web.marathon", A) in world.owners()


def test_only_ports_that_answer() -> None:
    world = World()
    world.up.discard(ADMIN)
    world.follower.follow([ADMIN])
    assert ("_80._tcp.web.marathon", SRV) in world.owners()
    assert ("_81._tcp.web.marathon", SRV) not in world.owners()
    world.up.discard(WEB)
    world.follower.follow([WEB])
    assert not world.owners()


def test_an_address_that_is_taken_back_and_a_task_that_goes() -> None:
    world = World()
    world.table.apply(drop(("vip_address", "mesos", "web.marathon")))
    assert not world.owners()
    world.table.apply(put(VipAddress("web.marathon", "11.0.0.2")))
    assert world.owners()
    world.table.apply(drop(world.task.key))
    assert not world.owners()


@pytest.mark.asyncio
async def test_all_of_them() -> None:
    world = World()
    world.up.clear()
    await world.follower.follow_all()
    assert not world.owners()
    world.up.add(WEB)
    await world.follower.follow_all()
    assert ("web.marathon", A) in world.owners()
