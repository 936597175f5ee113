"""Virtual addresses made local in a network namespace of this machine, and its firewall rules.

On `lo` where the kernel has no dummy devices; `tests/vm/traffic_checks.py` has the rest, on one that has.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator

import pytest

from lb4.firewall import Firewall, networks
from lb4.masquerade import Networks
from lb4.netlink import NETLINK_ROUTE, NetlinkSocket
from lb4.routes import VipRoutes
from lb4.services import NotUsable
from lb4.sysctls import FORWARDING6, Sysctls
from tests.system.namespace import Namespace, namespace

pytestmark = pytest.mark.root

NODE4, NODE6 = "10.1.0.1", "fd10::1"
RANGES = ("11.0.0.0/8", "fd11::/64")


class Node:
    """A namespace with a network, a default route, and what keeps virtual addresses in it."""

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.path = f"/run/netns/{space.name}"
        self._opened: list[VipRoutes] = []
        for words in (
            "link add eth0 type veth peer name other",
            "link set eth0 up",
            "link set other up",
            f"address add {NODE4}/24 dev eth0",
            f"address add {NODE6}/64 dev eth0 nodad",
            "route add 0.0.0.0/0 via 10.1.0.254",
            "route add ::/0 via fd10::254",
        ):
            self.ip(words)

    def ip(self, words: str) -> str:
        """`ip` inside; what it prints."""
        return self.space.run(["ip", *words.split()])

    def opened(self, sources: tuple[str, ...] = (), take_over: bool = False) -> VipRoutes:
        """An open one; closed at the end."""
        routes = VipRoutes("pharos0", sources, self.path, take_over)
        self._opened.append(routes)
        routes.open()
        return routes

    def close(self) -> None:
        """Close all."""
        for routes in self._opened:
            routes.close()

    def routes(self) -> dict[str, tuple[str, str]]:
        """The device and source of each local route by address."""
        found = {}
        for family in ("-4", "-6"):
            for route in json.loads(self.ip(f"-json {family} route show table local")):
                found[route["dst"]] = route["dev"], route.get("prefsrc", "")
        return found


@pytest.fixture
def node() -> Iterator[Node]:
    with namespace(f"pharos-{os.getpid()}-vips", []) as space:
        made = Node(space)
        yield made
        made.close()


def test_addresses_become_local_from_the_nodes_own_address_and_no_longer(node: Node) -> None:
    routes = node.opened()
    assert routes.read() == frozenset()
    assert routes.change(["11.0.0.1", "11.0.0.2", "fd11::1"], []) == {}
    assert routes.change(["11.0.0.1"], ["11.0.0.2", "11.9.9.9", "fd11::9"]) == {}
    assert routes.read() == {"11.0.0.1", "fd11::1"}
    there = node.routes()
    assert there["11.0.0.1"] == (routes.device, NODE4)
    assert there["fd11::1"] == (routes.device, NODE6)
    assert "local 11.0.0.1 dev lo" in node.ip("route get 11.0.0.1")
    assert f"src {NODE4}" in node.ip("route get 11.0.0.1")
    assert f"src {NODE6}" in node.ip("route get fd11::1")


def test_what_is_no_address_fails_alone(node: Node) -> None:
    routes = node.opened()
    failures = routes.change(["11.0.0.1", "x", "fe80::1%eth0"], ["y"])
    assert failures.keys() == {"x", "fe80::1%eth0", "y"}
    assert routes.read() == {"11.0.0.1"}


def test_ten_thousand_addresses_are_a_few_batches(node: Node) -> None:
    routes = node.opened()
    addresses = [f"11.{number >> 8}.{number & 255}.1" for number in range(10_000)]
    before = routes.sent
    assert routes.change(addresses, []) == {}
    assert routes.sent - before == len(addresses)
    assert routes.read() == set(addresses)
    assert routes.change([], addresses) == {}
    assert routes.read() == frozenset()


def test_routes_of_others_stay_and_stand_beside_ours(node: Node) -> None:
    node.ip("address add 11.0.0.1/32 dev lo")
    node.ip("route add local 11.0.0.2 dev lo table local proto static")
    node.ip("route add local fd11::2 dev lo table local")
    before = node.ip("route show table local")
    routes = node.opened()
    assert routes.change(["11.0.0.1", "11.0.0.2", "fd11::2"], []) == {}
    assert routes.read() == {"11.0.0.1", "11.0.0.2", "fd11::2"}
    assert routes.change([], ["11.0.0.1", "11.0.0.2", "fd11::2"]) == {}
    assert routes.read() == frozenset()
    assert node.ip("route show table local") == before
    assert "fd11::2" in node.routes()


def test_a_predecessors_routes_are_found_and_get_the_new_source(node: Node) -> None:
    node.opened().change(["11.0.0.1", "fd11::1"], [])
    node.ip("address add 10.1.0.7/24 dev eth0")
    routes = node.opened(("10.1.0.7",))
    assert routes.read() == {"11.0.0.1", "fd11::1"}
    assert routes.repaired == 1
    assert node.routes()["11.0.0.1"][1] == "10.1.0.7"
    assert node.routes()["fd11::1"][1] == NODE6
    assert routes.read() == {"11.0.0.1", "fd11::1"}
    assert routes.repaired == 1


def test_when_the_nodes_address_goes_another_is_taken(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    routes = node.opened((NODE4, NODE6))
    routes.change(["11.0.0.1", "fd11::1"], [])
    for words in ("address add 10.1.0.8/16 dev eth0", "address add fd10::8/64 dev eth0 nodad"):
        node.ip(words)
    for words in (f"address del {NODE4}/24 dev eth0", f"address del {NODE6}/64 dev eth0"):
        node.ip(words)
    assert routes.change(["11.0.0.2", "fd11::2"], []) == {}
    assert f"address={NODE4}" in caplog.text
    routes.read()
    there = node.routes()
    assert {there[each][1] for each in ("11.0.0.1", "11.0.0.2")} == {"10.1.0.8"}
    assert {there[each][1] for each in ("fd11::1", "fd11::2")} == {"fd10::8"}


def test_without_a_default_route_the_first_address_is_the_source_and_without_any_there_is_none(node: Node) -> None:
    node.ip("route del 0.0.0.0/0")
    node.ip("route del ::/0")
    routes = node.opened()
    routes.change(["11.0.0.1", "fd11::1"], [])
    assert (node.routes()["11.0.0.1"][1], node.routes()["fd11::1"][1]) == (NODE4, NODE6)
    node.ip("address flush dev eth0")
    assert routes.change(["11.0.0.2", "fd11::2"], []) == {}
    assert node.routes()["11.0.0.2"][1] == node.routes()["fd11::2"][1] == ""


def test_the_others_device_is_refused_and_its_place_is_taken_when_told(node: Node) -> None:
    node.ip("link add minuteman type veth peer name minuteman2")
    with pytest.raises(NotUsable, match=r"dcos-net.*take_over = true"):
        node.opened()
    routes = node.opened(take_over=True)
    assert routes.change(["x"], []).keys() == {"x"}
    assert "minuteman" in node.ip("link")
    assert routes.change(["11.0.0.1"], []) == {}
    assert "minuteman" not in node.ip("link")
    assert routes.read() == {"11.0.0.1"}


def test_all_is_removed_at_the_end(node: Node) -> None:
    routes = node.opened()
    routes.change(["11.0.0.1", "fd11::1"], [])
    routes.remove_all()
    assert not node.routes().keys() & {"11.0.0.1", "fd11::1"}
    assert "pharos0" not in node.ip("link")


def test_no_namespace_is_not_usable() -> None:
    with pytest.raises(NotUsable, match="can't be made local"):
        VipRoutes(netns="/run/netns/pharos-is-not-there").open()


# --- rules and switches ---------------------------------------------------------------------------


def saved(node: Node, tool: str) -> str:
    """What iptables-save prints, without counters and comments."""
    text = node.space.run([f"{tool}-save", "-t", "nat"]) + node.space.run([f"{tool}-save", "-t", "filter"])
    return "\n".join(line.split(" [")[0] for line in text.splitlines() if not line.startswith("#"))


@pytest.fixture
def firewall(node: Node) -> Firewall:
    if shutil.which("iptables") is None:
        pytest.skip("needs iptables")
    return Firewall(node.path)


def test_the_networks_that_a_namespace_is_on(node: Node) -> None:
    node.ip("link add br0 type bridge")
    node.ip("address add 10.2.0.1/24 dev br0")
    node.ip("address add 10.2.0.99/32 dev br0")
    with NetlinkSocket(NETLINK_ROUTE, node.path) as kernel:
        four, six = networks(kernel, 4), networks(kernel, 6)
    assert four == Networks((("br0", "10.2.0.0/24"), ("eth0", "10.1.0.0/24")), ("eth0",))
    assert six == Networks((("eth0", "fd10::/64"),), ("eth0",))


def test_rules_are_written_once_and_again_when_they_are_lost(node: Node, firewall: Firewall) -> None:
    assert firewall.apply(RANGES, ["10.0.0.80"]) == {}
    rules = saved(node, "iptables")
    assert "-A PHAROS-L4-SRC -s 10.1.0.0/24 -d 10.1.0.0/24 -j MASQUERADE" in rules
    assert firewall.apply(RANGES, ["10.0.0.80"]) == {}
    assert firewall.written == 4
    node.space.run(["iptables", "-t", "nat", "-F", "POSTROUTING"])
    node.space.run(["iptables", "-t", "nat", "-I", "OUTPUT", "-p", "tcp", "-j", "RETURN"])
    node.space.run(["ip6tables", "-F", "PHAROS-L4"])
    assert firewall.apply(RANGES, ["10.0.0.80"]) == {}
    assert firewall.written == 6
    assert saved(node, "iptables") == rules.replace("\n-A POST", "\n-A OUTPUT -p tcp -j RETURN\n-A POST")
    node.space.run(["iptables", "-t", "nat", "-F", "OUTPUT"])
    node.ip("link add br0 type bridge")
    node.ip("address add 10.2.0.1/24 dev br0")
    assert firewall.apply(RANGES) == {}
    assert "-s 10.2.0.0/24 -d 10.2.0.0/24 -j MASQUERADE" in saved(node, "iptables")
    assert "10.0.0.80" not in saved(node, "iptables")


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_the_tool_that_has_our_chains_is_used(node: Node, firewall: Firewall, kind: str) -> None:
    other = {"nft": "legacy", "legacy": "nft"}[kind]
    if shutil.which(f"iptables-{other}") is None:
        pytest.skip(f"needs iptables-{other}")
    for name in ("iptables", "ip6tables"):
        node.space.run([f"{name}-{kind}", "-t", "nat", "-N", "PHAROS-L4"])
    assert firewall.apply(RANGES) == {}
    for name in ("iptables", "ip6tables"):
        assert "-A POSTROUTING -j PHAROS-L4" in saved(node, f"{name}-{kind}")
        assert "PHAROS" not in saved(node, f"{name}-{other}")
    Firewall(node.path).remove_all()
    for name in ("iptables", "ip6tables"):
        assert "PHAROS" not in saved(node, f"{name}-{kind}")


def test_rules_of_others_stay(node: Node, firewall: Firewall) -> None:
    node.space.run(["iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "80", "-j", "RETURN"])
    node.space.run(["iptables", "-P", "FORWARD", "DROP"])
    before = saved(node, "iptables")
    firewall.apply(RANGES)
    firewall.apply((), ())
    assert saved(node, "iptables") == before


def test_switches_are_set_where_they_differ(node: Node) -> None:
    def value(path: str) -> str:
        return node.space.run(["cat", f"/proc/sys/{path}"]).strip()

    wanted = {"net/ipv4/ip_forward": "1", FORWARDING6: "1", "net/ipv4/no_such": "1"}
    node.space.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/" + FORWARDING6])
    sysctls = Sysctls(node.path)
    assert sysctls.apply(wanted).keys() == {"net/ipv4/no_such"}
    assert (value("net/ipv4/ip_forward"), value(FORWARDING6)) == ("1", "1")
    assert value("net/ipv6/conf/eth0/accept_ra") == "2"
    written = sysctls.written
    sysctls.apply(wanted)
    assert sysctls.written == written
