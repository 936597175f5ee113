"""Virtual addresses made local, in a kernel that the test plays; tests/system/test_vip_routes.py has the real one."""

from __future__ import annotations

import errno
import ipaddress
import os
import struct
from collections.abc import Iterator, Sequence

import pytest

from lb4 import routes
from lb4 import routes_wire as wire
from lb4.netlink import Message, pack_attr, pack_nested, unpack_attrs
from lb4.routes import VipRoutes
from lb4.services import NotUsable


class Kernel:
    """Links, addresses and routes, as far as VipRoutes asks for them; errnos that the test wants by message type."""

    def __init__(self) -> None:
        self.links: dict[str, wire.Link] = {"lo": wire.Link(1, "lo", True), "eth0": wire.Link(2, "eth0", True)}
        self.addresses = {"10.0.0.7": (2, 24), "fd10::7": (2, 64)}
        self.ways = {"192.0.2.1": "10.0.0.7", "2001:db8::1": "fd10::7"}
        self.routes: dict[str, tuple[int, str]] = {}
        self.has_dummies = True
        self.fails: dict[int, int] = {}
        self.messages: list[Message] = []
        self.is_open = False
        self.netns = ""

    def opened(self, protocol: int, netns: str) -> Kernel:
        """Instead of NetlinkSocket."""
        assert protocol == 0
        self.netns, self.is_open = netns, True
        return self

    @property
    def sent(self) -> int:
        return len(self.messages)

    def close(self) -> None:
        self.is_open = False

    def link(self, name: str, kind: str = "dummy", alias: str = "", up: bool = True) -> None:
        """One more device."""
        self.links[name] = wire.Link(max(each.number for each in self.links.values()) + 1, name, up, kind, alias)

    def lose(self, name: str) -> None:
        """A device goes with its routes."""
        gone = self.links.pop(name)
        self.routes = {key: each for key, each in self.routes.items() if each[0] != gone.number}

    def batch(self, messages: Sequence[Message]) -> list[int]:
        assert self.is_open
        self.messages += messages
        return [self.fails.get(each.type) or self._do(each) for each in messages]

    def _do(self, message: Message) -> int:
        if message.type in (wire.RTM_NEWROUTE, wire.RTM_DELROUTE):
            return self._route(message)
        number = struct.unpack_from("=BxHiII", message.payload)[2]
        attributes = unpack_attrs(message.payload[16:])
        if message.type == wire.RTM_DELLINK:
            self.lose(next(each.name for each in self.links.values() if each.number == number))
        elif number:
            link = next(each for each in self.links.values() if each.number == number)
            self.links[link.name] = link._replace(up=True, alias=attributes.get(20, link.alias.encode()).decode())
        elif not self.has_dummies:
            return errno.EOPNOTSUPP
        else:
            self.link(attributes[3].rstrip(b"\0").decode(), up=False)
        return 0

    def _route(self, message: Message) -> int:
        route = wire.parse_route(message.payload)
        if message.type == wire.RTM_DELROUTE:
            return 0 if self.routes.pop(route.address, None) else errno.ESRCH
        if route.devices[0] not in [each.number for each in self.links.values() if each.up]:
            return errno.ENODEV
        if route.source and route.source not in self.addresses:
            return errno.EINVAL
        self.routes[route.address] = route.devices[0], route.source
        return 0

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        assert self.is_open
        if kind == wire.RTM_GETLINK:
            name = unpack_attrs(payload[16:])[3].rstrip(b"\0").decode()
            if name not in self.links:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            link = self.links[name]
            head = struct.pack("=BxHiII", 0, 0, link.number, int(link.up), 0)
            info = pack_nested(18, pack_attr(1, link.kind.encode()))
            return [head + pack_attr(3, name.encode()) + pack_attr(20, link.alias.encode()) + info]
        address = str(ipaddress.ip_address(unpack_attrs(payload[12:])[1]))
        if address in self.addresses:
            return [wire.add_route(address, 1)]
        if address not in self.ways:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return [wire.add_route(address, 2, self.ways[address])]

    def dump(self, kind: int, payload: bytes, flags: int = 0) -> list[bytes]:
        assert self.is_open
        is_six = payload[0] == 10
        if kind == wire.RTM_GETROUTE:
            found = [wire.add_route(key, *each) for key, each in self.routes.items() if (":" in key) == is_six]
            return [*found, struct.pack("=BBBBBBBBI", payload[0], 8, 0, 0, 255, 2, 0, 2, 0)]
        return [
            struct.pack("=BBBBI", payload[0], prefix, 0, 0, device) + pack_attr(1, ipaddress.ip_address(key).packed)
            for key, (device, prefix) in self.addresses.items()
            if (":" in key) == is_six
        ]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(routes, "NetlinkSocket", made.opened)
    return made


@pytest.fixture
def vips(kernel: Kernel) -> Iterator[VipRoutes]:
    made = VipRoutes()
    made.open()
    yield made
    made.close()


def test_the_device_is_made_up_and_marked(kernel: Kernel, vips: VipRoutes) -> None:
    assert kernel.links["pharos0"] == wire.Link(3, "pharos0", True, "dummy", "made by pharos")
    assert vips.made == 1
    vips.open()
    assert vips.made == 1


def test_addresses_come_and_go_in_one_batch_each(kernel: Kernel, vips: VipRoutes) -> None:
    assert vips.change(["11.0.0.1", "fd11::1"], ["11.0.0.3"]) == {}
    assert kernel.routes == {"11.0.0.1": (3, "10.0.0.7"), "fd11::1": (3, "fd10::7")}
    assert vips.change(["11.0.0.2", "11.0.0.1"], ["fd11::1"]) == {}
    assert vips.read() == {"11.0.0.1", "11.0.0.2"}


def test_lo_serves_where_there_are_no_dummy_devices(kernel: Kernel) -> None:
    kernel.has_dummies = False
    vips = VipRoutes()
    vips.open()
    assert vips.device == "lo"
    vips.change(["11.0.0.1"], [])
    assert kernel.routes == {"11.0.0.1": (1, "10.0.0.7")}
    vips.remove_all()
    assert kernel.routes == {}
    assert kernel.links.keys() == {"lo", "eth0"}


def test_a_lost_device_is_made_anew_by_a_look_which_misses_its_routes(kernel: Kernel, vips: VipRoutes) -> None:
    vips.change(["11.0.0.1"], [])
    kernel.lose("pharos0")
    kernel.link("other")  # takes the number
    assert vips.read() == frozenset()
    assert kernel.links["pharos0"].up
    assert vips.change(["11.0.0.1"], []) == {}
    assert vips.read() == {"11.0.0.1"}


def test_a_lost_device_is_made_anew_by_a_change(kernel: Kernel, vips: VipRoutes) -> None:
    kernel.lose("pharos0")
    assert vips.change(["11.0.0.1"], []) == {}
    assert kernel.routes["11.0.0.1"] == (kernel.links["pharos0"].number, "10.0.0.7")
    assert vips.made == 2


def test_a_device_that_is_down_is_set_up(kernel: Kernel, vips: VipRoutes) -> None:
    kernel.links["pharos0"] = kernel.links["pharos0"]._replace(up=False)
    vips.read()
    assert kernel.links["pharos0"].up


def test_a_look_puts_right_a_route_on_another_device_or_with_another_source(kernel: Kernel, vips: VipRoutes) -> None:
    kernel.routes = {"11.0.0.1": (1, "10.0.0.7"), "11.0.0.2": (3, ""), "11.0.0.3": (3, "10.0.0.7")}
    assert vips.read() == {"11.0.0.1", "11.0.0.2", "11.0.0.3"}
    assert set(kernel.routes.values()) == {(3, "10.0.0.7")}
    assert vips.repaired == 2
    sent = kernel.sent
    vips.read()
    assert kernel.sent == sent


def test_the_given_source_is_used_where_it_is_the_nodes(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel.addresses["10.0.0.8"] = (2, 24)
    vips = VipRoutes(sources=("10.0.0.8", "10.0.0.9"))
    vips.open()
    vips.change(["11.0.0.1", "fd11::1"], [])
    assert kernel.routes == {"11.0.0.1": (3, "10.0.0.8"), "fd11::1": (3, "fd10::7")}
    del kernel.addresses["10.0.0.8"]
    assert vips.read() == {"11.0.0.1", "fd11::1"}
    assert kernel.routes["11.0.0.1"] == (3, "10.0.0.7")
    vips.read()
    assert caplog.text.count("none of this network, another is taken address=10.0.0.8") == 1


def test_without_a_default_route_the_first_address_of_a_network_is_taken(kernel: Kernel) -> None:
    kernel.ways = {}
    kernel.addresses = {"10.9.9.9": (1, 32), "198.51.100.1": (2, 32), "10.0.0.7": (2, 24), "fd10::7": (2, 64)}
    vips = VipRoutes()
    vips.open()
    vips.change(["11.0.0.1", "fd11::1"], [])
    assert kernel.routes == {"11.0.0.1": (3, "10.0.0.7"), "fd11::1": (3, "fd10::7")}


def test_a_source_that_goes_between_two_looks_is_looked_for_again(kernel: Kernel, vips: VipRoutes) -> None:
    del kernel.addresses["10.0.0.7"]
    kernel.ways = {}
    assert vips.change(["11.0.0.1"], []) == {}
    assert kernel.routes["11.0.0.1"] == (3, "")


def test_a_source_that_the_kernel_refuses_is_left_out(
    kernel: Kernel, vips: VipRoutes, caplog: pytest.LogCaptureFixture
) -> None:
    del kernel.addresses["10.0.0.7"]  # the way goes on to say it
    assert vips.change(["11.0.0.1"], []) == {}
    assert kernel.routes["11.0.0.1"] == (3, "")
    assert "refused as a source" in caplog.text


def test_failures_are_of_the_address_that_failed(kernel: Kernel, vips: VipRoutes) -> None:
    failures = vips.change(["11.0.0.1", "x"], ["y"])
    assert {key: error.errno for key, error in failures.items()} == {"x": errno.EINVAL, "y": errno.EINVAL}
    kernel.fails = {wire.RTM_NEWROUTE: errno.ENOMEM}
    assert vips.change(["11.0.0.2"], ["11.0.0.1"])["11.0.0.2"].errno == errno.ENOMEM
    assert kernel.routes == {}


def test_when_nothing_may_be_changed_that_is_raised(kernel: Kernel, vips: VipRoutes) -> None:
    kernel.fails = {wire.RTM_NEWROUTE: errno.EPERM}
    with pytest.raises(PermissionError):
        vips.change(["11.0.0.1"], [])


def test_without_the_right_it_is_not_usable(kernel: Kernel) -> None:
    kernel.fails = {wire.RTM_NEWLINK: errno.EPERM}
    with pytest.raises(NotUsable, match="needs CAP_NET_ADMIN"):
        VipRoutes().open()
    assert not kernel.is_open


def test_dcos_nets_device_is_refused(kernel: Kernel) -> None:
    kernel.link("minuteman")
    with pytest.raises(NotUsable, match=r"minuteman is here; stop dcos-net .* set take_over = true"):
        VipRoutes(netns="/run/netns/x").open()
    assert kernel.netns == "/run/netns/x"
    assert "pharos0" not in kernel.links
    assert not kernel.is_open


def test_dcos_nets_device_goes_after_a_change_without_failures(kernel: Kernel) -> None:
    kernel.link("minuteman")
    vips = VipRoutes(take_over=True)
    vips.open()
    vips.change(["x"], [])
    assert "minuteman" in kernel.links
    kernel.fails = {wire.RTM_DELLINK: errno.EBUSY}
    vips.change(["11.0.0.1"], [])
    assert "minuteman" in kernel.links
    kernel.fails = {}
    vips.change(["11.0.0.2"], [])
    assert "minuteman" not in kernel.links
    assert vips.read() == {"11.0.0.1", "11.0.0.2"}


def test_all_is_removed_but_a_device_of_others(kernel: Kernel, vips: VipRoutes) -> None:
    vips.change(["11.0.0.1", "fd11::1"], [])
    vips.remove_all()
    assert kernel.routes == {}
    assert "pharos0" not in kernel.links
    kernel.link("pharos0", alias="mine")
    vips.change(["11.0.0.1"], [])
    vips.remove_all()
    assert "pharos0" in kernel.links


def test_what_is_not_open_can_not_be_asked() -> None:
    with pytest.raises(OSError, match="not open"):
        VipRoutes().read()
