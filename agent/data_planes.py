"""Which data plane carries virtual addresses here: the one that is asked for, or the best that can be had."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import NamedTuple

from lb4.config import L4Config
from lb4.ipvs import Ipvs
from lb4.proxy import Proxy
from lb4.proxy_limits import Limits
from lb4.routes import VipRoutes
from lb4.services import DataPlane, NotUsable

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A data plane that is open, None where there is none; what makes its addresses local; and `reason`, why it is not
    what was asked for."""

    plane: DataPlane | None
    routes: VipRoutes | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.plane.name if self.plane is not None else "off"


async def open_plane(config: L4Config, said: str = "") -> Opened:
    """The data plane of this network namespace. What can't be had is logged, but for what was `said` before."""
    if config.dataplane == "off":
        return Opened(None)
    reasons = []
    if config.dataplane == "ipvs" or (config.dataplane == "auto" and not is_loopback(config)):
        try:
            return await _ipvs(config)
        except NotUsable as error:
            reasons.append(f"ipvs: {error.strerror or error}")
    if config.dataplane in ("auto", "proxy"):
        try:
            opened = await _proxy(config)
            if reasons:
                log.warning(
                    "virtual addresses are carried by a proxy in this process, IPVS can't be had reason=%s", *reasons
                )
            return opened._replace(reason="; ".join(reasons))
        except NotUsable as error:
            reasons.append(f"proxy: {error.strerror or error}")
    reason = "; ".join(reasons)
    if reason != said:
        log.error("connections to virtual addresses are not carried on this node reason=%s", reason)
    return Opened(None, reason=reason)


async def open_container_plane(config: L4Config, netns: str) -> Opened:
    """IPVS in the network namespace of a container. Raises NotUsable."""
    return await _ipvs(config, netns)


async def _ipvs(config: L4Config, netns: str = "") -> Opened:
    sources = () if netns else config.node_addresses
    routes = VipRoutes(config.device, sources, netns, config.take_over)
    timeouts = (float(config.tcp_timeout), float(config.tcp_fin_timeout), float(config.udp_timeout))
    plane = Ipvs(routes, netns, timeouts)
    await plane.open()
    return Opened(plane, routes)


async def _proxy(config: L4Config) -> Opened:
    """Loopback addresses are local already: for them nothing of the machine is touched."""
    usual = Limits()
    limits = Limits(
        idle=float(config.tcp_timeout) or usual.idle,
        half_closed=float(config.tcp_fin_timeout) or usual.half_closed,
        udp_idle=float(config.udp_timeout) or usual.udp_idle,
    )
    routes = None
    if not is_loopback(config):
        routes = VipRoutes(config.device, config.node_addresses, take_over=config.take_over)
    plane = Proxy(routes, limits)
    await plane.open()
    return Opened(plane, routes)


def is_loopback(config: L4Config) -> bool:
    """Whether VIPs are for this machine alone, as in a demonstration."""
    return ipaddress.ip_network(config.range).is_loopback


async def take_away(opened: Opened) -> None:
    """Take the device and what is left of routes away. Errors are logged."""
    if opened.routes is not None:
        try:
            await asyncio.to_thread(opened.routes.remove_all)
        except OSError as error:
            log.warning("routes of virtual addresses not removed reason=%s", error)
