"""Which data plane is taken: what this machine's kernel can't do is said, and something else does it."""

from __future__ import annotations

import logging

import pytest

from agent import data_planes
from agent.data_planes import Opened, is_loopback, open_container_plane, open_plane, take_away
from lb4.config import L4Config
from lb4.services import NotUsable

pytestmark = pytest.mark.asyncio


class NoKernel:
    """IPVS on a kernel that has none."""

    def __init__(self, *arguments: object, **more: object) -> None:
        pass

    async def open(self) -> None:
        raise NotUsable("the kernel has no IPVS")


class NoRoutes:
    """Routes where nothing may be changed."""

    def __init__(self, *arguments: object, **more: object) -> None:
        pass

    def open(self) -> None:
        raise NotUsable("needs CAP_NET_ADMIN")

    def remove_all(self) -> None:
        raise PermissionError("no")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither IPVS nor rights, whatever this machine has."""
    monkeypatch.setattr(data_planes, "Ipvs", NoKernel)
    monkeypatch.setattr(data_planes, "VipRoutes", NoRoutes)


async def test_off_is_off() -> None:
    assert await open_plane(L4Config(dataplane="off")) == Opened(None)


@pytest.mark.parametrize("wanted", ["auto", "proxy"])
async def test_loopback_addresses_are_carried_by_a_proxy_without_rights(wanted: str) -> None:
    opened = await open_plane(L4Config(dataplane=wanted, range="127.64.0.0/10"))  # type: ignore[arg-type]
    assert (opened.name, opened.routes, opened.reason) == ("proxy", None, "")
    assert opened.plane is not None
    await opened.plane.close()


async def test_without_anything_it_is_off_and_said(caplog: pytest.LogCaptureFixture) -> None:
    opened = await open_plane(L4Config())
    assert opened.plane is None
    assert opened.name == "off"
    assert opened.reason == "ipvs: the kernel has no IPVS; proxy: needs CAP_NET_ADMIN"
    assert opened.reason in caplog.text


async def test_what_is_asked_for_is_not_replaced() -> None:
    opened = await open_plane(L4Config(dataplane="ipvs"))
    assert (opened.plane, opened.reason) == (None, "ipvs: the kernel has no IPVS")


async def test_a_proxy_in_the_place_of_ipvs_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Routes(NoRoutes):
        def open(self) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(data_planes, "VipRoutes", Routes)
    caplog.set_level(logging.WARNING)
    opened = await open_plane(L4Config())
    assert (opened.name, opened.reason) == ("proxy", "ipvs: the kernel has no IPVS")
    assert "carried by a proxy" in caplog.text
    await take_away(opened)
    assert "routes of virtual addresses not removed" in caplog.text
    assert opened.plane is not None
    await opened.plane.close()


async def test_a_container_without_ipvs() -> None:
    with pytest.raises(NotUsable, match="no IPVS"):
        await open_container_plane(L4Config(), "/proc/self/ns/net")


async def test_only_loopback_ranges_are_for_this_machine_alone() -> None:
    assert is_loopback(L4Config(range="127.64.0.0/10"))
    assert not is_loopback(L4Config())
