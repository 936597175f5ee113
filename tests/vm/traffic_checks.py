"""Traffic of every kind of client through virtual addresses over the kernel's IPVS, in a VM.

`python -m tests.vm.traffic_checks`: it changes the machine's network. One process in many namespaces
(traffic_lab.py), because starting programs is slow in an emulated CPU. Prints each check; ends with 1 at the first
that fails.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping

from lb4.config import L4Config
from lb4.firewall import Firewall
from lb4.ipvs import Ipvs
from lb4.namespaces import NamespaceFolder
from lb4.plan import plan
from lb4.routes import VipRoutes
from lb4.services import BackendKey, Destination, NotUsable, Service, ServiceKey, Settings
from lb4.sysctls import Sysctls, wanted
from tests.vm.traffic_lab import (
    BEYOND,
    FOUR,
    PORT,
    SIX,
    Answer,
    Client,
    Servers,
    ask,
    ask_often,
    build,
    firewall,
    path_of,
    sh,
)

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
VIP4, VIP6 = "11.0.0.1", "fd11::1"
RANGES = ("11.0.0.0/8", "fd11::/64")
BRIDGED = ("b1", "b2", "b3")
FOREIGN = ServiceKey("tcp", "10.3.0.1", 9999)
"""A service that somebody else made."""


def service(address: str, names: Mapping[str, int] | tuple[str, ...], scheduler: str = "rr") -> Service:
    """Backends by name, with weights where they are not all 1, in the family of a virtual address."""
    weights = names if isinstance(names, Mapping) else dict.fromkeys(names, 1)
    addresses = SIX if ":" in address else FOUR
    backends = {BackendKey(addresses[name], PORT): Destination(weight) for name, weight in weights.items()}
    return Service(Settings(scheduler), backends)


class Node:
    """A namespace's data plane, and what is desired of it."""

    def __init__(self, name: str = "node", sources: tuple[str, ...] = (), take_over: bool = False) -> None:
        self.routes = VipRoutes(netns=path_of(name), sources=sources, take_over=take_over)
        self.plane = Ipvs(self.routes, path_of(name))
        self.desired: dict[ServiceKey, Service] = {}

    async def want(self, changes: Mapping[ServiceKey, Service | None]) -> int:
        """Change what is desired, and do it; how many operations that took."""
        for key, each in changes.items():
            if each is None:
                self.desired.pop(key, None)
            else:
                self.desired[key] = each
        return await self.reconcile()

    async def reconcile(self) -> int:
        """Read all of it and put it right."""
        operations = plan(self.desired, await self.plane.read(), lambda address: address.startswith(("11.", "fd11:")))
        failures = await self.plane.apply(operations)
        assert not failures, failures
        return len(operations)


def key(address: str, port: int = 80, protocol: str = "tcp") -> ServiceKey:
    """A service's key."""
    return ServiceKey(protocol, address, port)


def counts(answers: list[Answer]) -> dict[str, int]:
    """How often each backend answered."""
    return dict(collections.Counter(answer.backend or answer.client for answer in answers))


def clients(answers: list[Answer]) -> set[str]:
    """From which addresses the backends saw the clients."""
    return {answer.client for answer in answers}


EVEN = dict.fromkeys(BRIDGED, 3)


async def check_spread_and_client_address(node: Node) -> None:
    """A client behind the node: every backend gets a share, and sees the client's own address."""
    for address, client in ((VIP4, "10.2.0.2"), (VIP6, "fd20::2")):
        for kind in (TCP, UDP):
            answers = ask_often("c2", address, kind=kind)
            assert counts(answers) == EVEN, answers
            assert clients(answers) == {client}, answers


async def check_local_client(node: Node) -> None:
    """Programs of the node itself come from the node's address, not from the virtual one."""
    for address, source in ((VIP4, FOUR["node"]), (VIP6, SIX["node"])):
        for kind in (TCP, UDP):
            answers = ask_often("node", address, kind=kind, times=6)
            assert counts(answers) == dict.fromkeys(BRIDGED, 2), answers
            assert clients(answers) == {source}, answers


async def check_same_network(node: Node) -> None:
    """A client on the backends' own network gets the node's address, so that replies come back through the node."""
    for address, client in ((VIP4, "10.1.0.1"), (VIP6, "fd10::1")):
        for kind in (TCP, UDP):
            answers = ask_often("c1", address, kind=kind)
            assert counts(answers) == EVEN, answers
            assert clients(answers) == {client}, answers


async def check_hairpin(node: Node) -> None:
    """A backend reaches its own virtual address, also when it is chosen itself."""
    for address in (VIP4, VIP6):
        for kind in (TCP, UDP):
            answers = ask_often("b1", address, kind=kind, times=6)
            assert counts(answers) == dict.fromkeys(BRIDGED, 2), answers


async def check_bridges_with_iptables(node: Node) -> None:
    """Where br_netfilter gives bridged packets to iptables, a backend reaches itself only over a port of the bridge
    with hairpin mode; all others are reached as ever."""
    sh("modprobe br_netfilter; sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
    for address in (VIP4, VIP6):
        assert counts(ask_often("c1", address)) == EVEN
        assert counts(ask_often("c2", address)) == EVEN
    sh("bridge link set dev vb1 hairpin on")
    for address in (VIP4, VIP6):
        assert counts(ask_often("b1", address, times=6)) == dict.fromkeys(BRIDGED, 2)
    sh("bridge link set dev vb1 hairpin off")
    sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")


async def check_beyond_a_router(node: Node) -> None:
    """A client beyond the default route: masqueraded towards the nodes' network, with its own address towards
    containers of this node."""
    for address, client, own in ((VIP4, BEYOND[0], "10.3.0.1"), (VIP6, BEYOND[1], "fd30::1")):
        assert clients(ask_often("router", address, times=3)) == {client}
        answers = ask_often("router", address, 81, times=3)
        assert counts(answers) == {"b4": 3}, answers
        assert clients(answers) == {own}, answers


async def check_masquerading_of_others(node: Node) -> None:
    """A container whose address is known on this node alone: the rule of who made its network does it."""
    for tool, address, network, own in (
        (firewall("iptables"), VIP4, "10.2.0.0/24", "10.3.0.1"),
        (firewall("ip6tables"), VIP6, "fd20::/64", "fd30::1"),
    ):
        sh(f"{tool} -t nat -A POSTROUTING -s {network} -o lan -j MASQUERADE")
        answers = ask_often("c2", address, 81, times=3)
        assert (counts(answers), clients(answers)) == ({"b4": 3}, {own}), answers
        sh(f"{tool} -t nat -D POSTROUTING -s {network} -o lan -j MASQUERADE")


async def check_backend_on_the_node(node: Node) -> None:
    """A task in the node's own network, for clients behind it and on it."""
    for address in (VIP4, VIP6):
        for name in ("c2", "c1", "node"):
            for kind in (TCP, UDP):
                answers = ask_often(name, address, 82, kind, times=2)
                assert counts(answers) == {"node": 2}, (name, answers)


async def check_drain(node: Node) -> None:
    """Weight 0: a connection goes on, new ones avoid the backend."""
    old = Client("c2", VIP4)
    backend = old.ask().backend
    await node.want({key(VIP4): service(VIP4, {name: int(name != backend) for name in BRIDGED})})
    assert old.ask().backend == backend
    assert backend not in counts(ask_often("c2", VIP4))
    old.close()


async def check_removal(node: Node) -> None:
    """A removed backend's TCP connection ends at once; a UDP socket goes to another."""
    await node.want({key(VIP4): service(VIP4, BRIDGED)})
    connection, receiver = Client("c2", VIP4), Client("c2", VIP4, kind=UDP)
    gone = {connection.ask().backend, receiver.ask().backend}
    left = tuple(name for name in BRIDGED if name not in gone)
    await node.want({key(VIP4): service(VIP4, left), key(VIP4, protocol="udp"): service(VIP4, left)})
    answer = connection.ask()
    assert answer == Answer("", "ConnectionResetError"), answer
    assert receiver.ask().backend in left
    connection.close()
    receiver.close()


async def check_all_down(node: Node) -> None:
    """No usable backend, no backend, no service: refused at once."""
    for names in ({"b1": 0, "b2": 0}, {}):
        await node.want({key(VIP4): service(VIP4, names)})
        for name in ("c2", "node", "c1"):
            assert ask(name, VIP4) == Answer("", "ConnectionRefusedError"), (names, name)
    await node.want({key(VIP4): None})
    assert ask("c2", VIP4) == Answer("", "ConnectionRefusedError")
    await node.want({key(VIP4): service(VIP4, BRIDGED), key(VIP4, protocol="udp"): service(VIP4, BRIDGED)})
    assert counts(ask_often("c2", VIP4)) == EVEN


async def check_port_reuse(node: Node) -> None:
    """A client port that is used again does not lead to a backend that got weight 0 meanwhile, and costs no time."""
    first = Client("c2", VIP4, bind=41000)
    backend = first.ask().backend
    first.hang_up()
    await node.want({key(VIP4): service(VIP4, {name: int(name != backend) for name in BRIDGED})})
    for _ in range(3):
        again = Client("c2", VIP4, bind=41000)
        answer = again.ask()
        assert answer.backend not in ("", backend), answer
        again.hang_up()
    await node.want({key(VIP4): service(VIP4, BRIDGED)})


async def check_port_mapping_and_policy(node: Node) -> None:
    """A container's port mapping of the same port does not take what goes to virtual addresses; replies get
    through where forwarding is forbidden."""
    tools = firewall("iptables"), firewall("ip6tables")
    for tool, target in zip(tools, (FOUR["b4"], f"[{SIX['b4']}]"), strict=True):
        for chain in ("PREROUTING", "OUTPUT"):
            rule = f"{chain} -p tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to {target}:{PORT}"
            sh(f"{tool} -t nat -A {rule}")
        sh(f"{tool} -P FORWARD DROP")
    for address in (VIP4, VIP6):
        for name in ("c2", "node", "c1"):
            assert counts(ask_often(name, address)) == EVEN, name
        assert counts(ask_often("router", address, 81, times=3)) == {"b4": 3}
    for tool in tools:
        sh(f"{tool} -P FORWARD ACCEPT; {tool} -t nat -D PREROUTING 2; {tool} -t nat -D OUTPUT 2")


async def check_deleted_device_is_made_anew(node: Node) -> None:
    """Who deletes the device takes the routes; a read and a change bring them back."""
    sh("ip link del pharos0")
    assert not (await node.plane.read()).addresses
    assert await node.reconcile() == 2
    assert counts(ask_often("c2", VIP4)) == EVEN
    assert counts(ask_often("c2", VIP6)) == EVEN
    sh("ip link set pharos0 down")
    await node.reconcile()
    assert await node.reconcile() == 0
    assert counts(ask_often("node", VIP6)) == EVEN
    (link,) = json.loads(sh("ip -json -details link show pharos0"))
    assert (link["linkinfo"]["info_kind"], link["ifalias"]) == ("dummy", "made by pharos")


async def check_lost_source(node: Node) -> None:
    """The node's address goes: its routes get the other one."""
    sh("ip address add 10.3.0.77/24 dev lan")
    other = Node(sources=("10.3.0.77", "fd30::1"))
    await other.plane.open()
    await other.plane.read()
    assert clients(ask_often("node", VIP4, times=3)) == {"10.3.0.77"}
    sh("ip address del 10.3.0.77/24 dev lan")
    other.desired = node.desired
    assert await other.reconcile() == 0  # the kernel leaves the routes as they are, the look puts them right
    assert clients(ask_often("node", VIP4, times=3)) == {FOUR["node"]}
    await other.plane.close()


async def check_what_is_foreign_stays(node: Node) -> None:
    """Services and routes of others, also those to our addresses."""
    sh("ipvsadm -A -t 10.3.0.1:9999 -s rr; ipvsadm -a -t 10.3.0.1:9999 -r 10.1.0.11:8080 -m")
    sh("ip route add local 11.7.7.7 dev lo table local proto static; ip link add ours type dummy; ip link set ours up")
    sh("ip address add 11.0.0.9/32 dev ours")
    before = sh("ip route show table local | grep -v pharos0")
    await node.want({key("11.0.0.9"): service("11.0.0.9", ("b2",))})
    assert counts(ask_often("c2", "11.0.0.9", times=2)) == {"b2": 2}
    await node.want({key("11.0.0.9"): None})
    actual = await node.plane.read()
    assert FOREIGN in actual.services
    assert not actual.addresses & {"11.7.7.7", "11.0.0.9"}
    assert sh("ip route show table local | grep -v pharos0") == before
    sh("ip link del ours; ip route del local 11.7.7.7 dev lo table local")


async def check_minuteman(node: Node) -> None:
    """dcos-net's device: refused, or, when told so, taken the place of."""
    sh("ip link add minuteman type dummy; ip link set minuteman up")
    sh("ip route add local 11.0.0.5 dev minuteman table local")
    refusal = ""
    try:
        await Node().plane.open()
    except NotUsable as error:
        refusal = str(error)
    assert "take_over = true" in refusal
    successor = Node(take_over=True)
    await successor.plane.open()
    assert "minuteman" in sh("ip link")
    successor.desired = dict(node.desired)
    await successor.want({key("11.0.0.5"): service("11.0.0.5", ("b2",))})
    assert "minuteman" not in sh("ip link")
    assert counts(ask_often("c2", "11.0.0.5", times=2)) == {"b2": 2}
    await successor.want({key("11.0.0.5"): None})
    await successor.plane.close()


async def check_container_with_its_own(node: Node) -> None:
    """A container that is told of by a file gets virtual addresses inside, and nothing else does."""
    with tempfile.TemporaryDirectory() as folder:
        sh(f"echo /run/netns/c5 >{folder}/container-5")
        changes = NamespaceFolder(folder, every=0.1).changes()
        change = await anext(changes)
        assert (change.is_there, change.container.id, change.container.path) == (True, "container-5", "/run/netns/c5")
        inside = Node("c5")
        await inside.plane.open()
        assert not Sysctls(change.container.path).apply(wanted(L4Config(), is_container=True))
        vips = {key(each): service(each, BRIDGED) for each in ("11.5.5.5", "fd11::5")}
        await inside.want(vips)
        for address, client in (("11.5.5.5", "10.1.0.5"), ("fd11::5", "fd10::5")):
            answers = ask_often("c5", address)
            assert counts(answers) == EVEN, answers
            assert clients(answers) == {client}, answers
        assert set((await inside.plane.read()).services) == set(vips)
        assert not set((await node.plane.read()).services) & set(vips)
        inside.routes.remove_all()
        await inside.plane.close()
        sh(f"rm {folder}/container-5")
        assert (await anext(changes)).is_there is False


async def check_all_removed(node: Node) -> None:
    """Nothing is left when virtual addresses are turned off."""
    node.routes.remove_all()
    Firewall().remove_all()
    assert not sh("ip route show table local proto 80; ip -6 route show table local proto 80")
    assert "pharos" not in sh(f"ip link; {firewall('iptables')}-save; {firewall('ip6tables')}-save").lower()


CHECKS = (
    check_spread_and_client_address,
    check_local_client,
    check_same_network,
    check_hairpin,
    check_bridges_with_iptables,
    check_beyond_a_router,
    check_masquerading_of_others,
    check_backend_on_the_node,
    check_drain,
    check_removal,
    check_all_down,
    check_port_reuse,
    check_port_mapping_and_policy,
    check_deleted_device_is_made_anew,
    check_lost_source,
    check_what_is_foreign_stays,
    check_minuteman,
    check_container_with_its_own,
    check_all_removed,
)


async def prepared() -> Node:
    """The node with its virtual addresses."""
    node = Node()
    await node.plane.open()
    failures = Sysctls().apply(wanted(L4Config()))
    assert not failures, failures
    assert Firewall().apply(RANGES) == {}
    vips: dict[ServiceKey, Service | None] = {}
    for address in (VIP4, VIP6):
        for protocol in ("tcp", "udp"):
            vips[key(address, 80, protocol)] = service(address, BRIDGED)
            vips[key(address, 82, protocol)] = service(address, ("node",))
        vips[key(address, 81)] = service(address, ("b4",))
    await node.want(vips)
    return node


async def main() -> int:
    """All checks, one after the other; the exit status."""
    begin = time.monotonic()
    build()
    Servers()
    node = await prepared()
    print(f"prepared after {time.monotonic() - begin:.1f} s", flush=True)
    for check in CHECKS:
        begin = time.monotonic()
        try:
            await check(node)
        except Exception:
            logging.exception("%s: failed", check.__name__)
            with contextlib.suppress(RuntimeError):
                print(sh("ipvsadm -Ln; ip address; ip route show table local; iptables-save; ip6tables-legacy-save"))
            return 1
        print(f"{check.__name__}: ok {time.monotonic() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    if "VMRUN" not in os.environ:
        sys.exit("only in a VM: it changes the machine's network")
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    sys.exit(asyncio.run(main()))
