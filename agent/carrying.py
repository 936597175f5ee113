"""What `[l4]` is on a node: the data plane, who programs it, and what the kernel needs beside it.

A change of the configuration replaces as little as it can: the plane stays where its own keys do, and with it all
connections. What could not be had is tried again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping

from agent.addresses import interface_addresses
from agent.background import Background
from agent.containers import Containers
from agent.data_planes import Opened, open_plane, take_away
from agent.kernel_upkeep import KernelUpkeep
from lb4.balancer import Balancer
from lb4.check_vips import VipChecks
from lb4.config import L4Config
from lb4.connections import ConnectionCounts, read_table
from lb4.services import DataPlane, ServiceKey
from lb4.table import VipTable
from lb4.vip import VipKey
from mesos_dns.model import canonical_address

log = logging.getLogger(__name__)

PLANE_KEYS = ("device", "node_addresses", "take_over", "tcp_timeout", "tcp_fin_timeout", "udp_timeout")
"""Keys of `[l4]` that a data plane is opened with, `dataplane` aside."""
LOOK_AT_CONNECTIONS = 10.0
"""Seconds between two looks at the kernel's table of connections, give or take a fifth."""
FIRST_PROGRAM = 3.0
"""Seconds that a start waits until what is known already is in the data plane: names are served then."""
TRY_AGAIN = (2.0, 5.0, 15.0, 60.0)
"""Seconds until a data plane that could not be had is tried again; the last one from then on."""
BOTH, NONE = frozenset({4, 6}), frozenset[int]()
"""Families of addresses."""
_TICK = 0.02
_MANY = 500
"""Changed VIPs that are too many for one turn of the loop."""


class Carrying:
    """See the module. `open`, `change` any number of times, `close`.

    `known` tells whether the table may be believed, `changed` is called with VIPs of which it has changed whether they
    answer by their names (`answers`), `all_changed` when that may be so of all, `own_changed` when this machine's
    addresses (`own`) are others. `may_drop`: nothing that defines VIPs is still to be read; `heard`: all that is known
    was heard since the start.
    """

    def __init__(
        self,
        table: VipTable,
        known: Callable[[], bool],
        changed: Callable[[Collection[VipKey]], None],
        all_changed: Callable[[], None],
        own_changed: Callable[[], None] = lambda: None,
        may_drop: Callable[[], bool] = lambda: True,
        heard: Callable[[], bool] = lambda: True,
    ) -> None:
        self.own: frozenset[str] = frozenset()
        self.balancer: Balancer | None = None
        self.checks: VipChecks | None = None
        self.opened = Opened(None)
        self.containers: Containers | None = None
        self.upkeep: KernelUpkeep | None = None
        self.connections = ConnectionCounts(LOOK_AT_CONNECTIONS, 0.2 * LOOK_AT_CONNECTIONS)
        self._table = table
        self._known = known
        self._changed = changed
        self._all_changed = all_changed
        self._own_changed = own_changed
        self._may_drop = may_drop
        self._heard = heard
        self._config: L4Config | None = None
        self._answered: Mapping[VipKey, frozenset[int]] = {}
        self._settled = False
        self._background = Background()

    @property
    def lacks(self) -> bool:
        """Whether no data plane could be had though one was asked for. One in the place of a better one is had: to look
        for that again would end its connections."""
        return self.opened.plane is None and bool(self.opened.reason)

    def answers(self, key: VipKey) -> frozenset[int]:
        """By which addresses (4, 6) a VIP is found by its name: with a data plane by those that it has. Until a new one
        has been read, by those that it was found by before."""
        config = self._config
        if config is None or config.dataplane == "off":
            return BOTH
        before = self._answered.get(key, NONE)
        if self.balancer is None:
            return BOTH if config.dataplane == "auto" else before
        return self.balancer.families(key) | (NONE if self._settled else before)

    async def open(self, config: L4Config) -> None:
        """Begin. What can't be had is logged, and keeps nothing else from running."""
        self._config = config
        await self._open_plane(config)
        if self.balancer is not None and self._known():
            for _ in range(int(FIRST_PROGRAM / _TICK)):
                if self._settled:
                    break
                await asyncio.sleep(_TICK)

    async def change(self, new: L4Config | None) -> None:
        """Go on as another section says; None: it is off now, and everything of ours goes."""
        old = self._config
        if new is None or old is None:
            await self.close(take_away=old is not None)
            self._config, self._answered = new, {}
            if new is not None:
                await self.open(new)
            return
        if _without_file(old) == _without_file(new) and not self.lacks:
            self._config = new
            return
        self._answered = {key: found for key in list(self._table.keys()) if (found := self.answers(key))}
        stays = self._can_stay(old, new)
        if stays:
            await self._stop(remove=False)
            self._config = new
            if self.opened.plane is not None:
                await self._start(new, self.opened.plane)
            return
        is_same_place = self._leads_to(new) and old.device == new.device
        await self.close(take_away=not is_same_place)
        self._config = new
        await self._open_plane(new)

    async def close(self, *, take_away: bool) -> None:
        """End; `take_away`: with all that is ours on the machine, else what is in the kernel goes on."""
        await self._stop(remove=take_away)
        opened, self.opened = self.opened, Opened(None)
        if opened.plane is not None:
            await opened.plane.close()

    # --- the plane --------------------------------------------------------------------------------

    def _leads_to(self, new: L4Config) -> bool:
        """Whether another section asks for the kind of plane that is open."""
        return self.opened.plane is not None and new.dataplane in ("auto", self.opened.name)

    def _can_stay(self, old: L4Config, new: L4Config) -> bool:
        same = all(getattr(old, key) == getattr(new, key) for key in PLANE_KEYS)
        return same and self._leads_to(new)

    async def _open_plane(self, config: L4Config, said: str = "") -> None:
        self.opened = await open_plane(config, said)
        if self.opened.plane is not None:
            await self._start(config, self.opened.plane)
        elif config.dataplane != "off" and "data plane" not in self._background:
            self._background.spawn("data plane", self._try_again(config))

    async def _try_again(self, config: L4Config) -> None:
        """Until it can be had: a module may be loaded, dcos-net stopped, a right given."""
        tries = 0
        while self.opened.plane is None:
            await asyncio.sleep(TRY_AGAIN[min(tries, len(TRY_AGAIN) - 1)] * random.uniform(0.8, 1.2))
            tries += 1
            await self._open_plane(config, self.opened.reason)
        self._all_changed()

    # --- who programs it --------------------------------------------------------------------------

    async def _start(self, config: L4Config, plane: DataPlane) -> None:
        """Send connections to backends, here and in containers with a network of their own."""
        is_kernel = plane.name == "ipvs"
        if is_kernel:
            # Not waited for: where others hold the lock of iptables, names would wait as well.
            self.upkeep = KernelUpkeep(config, lambda: self._table.fixed_addresses)
            self._background.spawn("kernel upkeep", self.upkeep.run())
        self._set_own(await asyncio.to_thread(_own_addresses, config))
        self.checks = checks = VipChecks(self._checked)
        self._settled = False
        self.balancer = self._new_balancer(config, plane, self._served, checks)
        self._background.spawn("balancer", self.balancer.run())
        self._background.spawn("settle", self._settle(self.balancer))
        self._background.spawn("own addresses", self._follow_own_addresses(config, self.balancer))
        if is_kernel and config.netns_dir:
            self.containers = Containers(config, lambda config, plane: self._new_balancer(config, plane, checks=checks))
            self._background.spawn("containers", self.containers.run())
        if is_kernel and config.connection_metrics:
            self._background.spawn("connections", self._count_connections())

    async def _stop(self, *, remove: bool) -> None:
        """End what programs the plane; `remove`: after it has taken away all that is ours."""
        balancer, containers, upkeep, checks = self.balancer, self.containers, self.upkeep, self.checks
        self.balancer = self.containers = self.upkeep = self.checks = None
        if balancer is not None:
            balancer.close()
        await self._background.end_all(but={"balancer"})
        if containers is not None:
            await containers.close(take_away=remove)
        if balancer is not None and remove:
            await _remove(balancer, self.opened)
        if upkeep is not None and remove:
            await upkeep.remove()
        await self._background.end_all()
        if checks is not None:
            await checks.close()

    def _new_balancer(
        self,
        config: L4Config,
        plane: DataPlane,
        served: Callable[[frozenset[VipKey]], None] = lambda keys: None,
        checks: VipChecks | None = None,
    ) -> Balancer:
        networks = [ipaddress.ip_network(text) for text in (config.range, config.range6)]

        def owned(address: str) -> bool:
            ip = ipaddress.ip_address(address)
            return any(ip in network for network in networks)

        return Balancer(
            self._table,
            plane,
            known=self._known,
            own=self.own,
            owned=owned,
            scheduler=config.scheduler,
            reconcile=float(config.reconcile),
            drain_timeout=float(config.drain_timeout),
            checks=checks,
            served=served,
            may_drop=self._may_drop,
            heard=self._heard,
        )

    async def _settle(self, balancer: Balancer) -> None:
        """Once the plane has been read and put right, a VIP answers if it is there, and not because it did before."""
        settled = False
        while not settled:
            await asyncio.sleep(_TICK)
            settled = balancer.counters.reconciles > 0 and not balancer.status().backlog
        self._settled, self._answered = True, {}
        self._all_changed()

    async def _follow_own_addresses(self, config: L4Config, balancer: Balancer) -> None:
        """A backend of this node is told by the node's addresses, which may change."""
        while True:
            await asyncio.sleep(random.uniform(0.8, 1.2) * float(config.reconcile))
            own = await asyncio.to_thread(_own_addresses, config)
            self._set_own(own)
            balancer.set_own(own)
            if self.containers is not None:
                self.containers.set_own(own)

    def _set_own(self, own: frozenset[str]) -> None:
        if own != self.own:
            self.own = own
            self._own_changed()

    async def _count_connections(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.8, 1.2) * LOOK_AT_CONNECTIONS)
            try:
                await asyncio.to_thread(_look_at, self.connections)
                self.connections.keep(_services(self._table))
            except OSError as error:
                log.debug("the table of connections can't be read reason=%s", error)

    def _checked(self, keys: frozenset[VipKey]) -> None:
        if self.balancer is not None:
            self.balancer.changed(keys)
        if self.containers is not None:
            self.containers.changed(keys)

    def _served(self, keys: frozenset[VipKey]) -> None:
        if len(keys) > _MANY:
            self._all_changed()
        else:
            self._changed(keys)


def _own_addresses(config: L4Config) -> frozenset[str]:
    return frozenset([*interface_addresses(), *map(canonical_address, config.node_addresses)])


def _look_at(connections: ConnectionCounts) -> None:
    """In one thread: the table is large, and freed there. Raises OSError."""
    lines, cut = read_table()
    connections.look(lines, cut=cut)


def _services(table: VipTable) -> Iterator[ServiceKey]:
    """What clients connect to, of all VIPs."""
    for key in list(table.keys()):
        if canonical_address(key.name):
            yield ServiceKey(key.protocol, key.name, key.port)
        elif (allocated := table.address_of(key.name)) is not None:
            for address in filter(None, (allocated.address, allocated.address6)):
                yield ServiceKey(key.protocol, address, key.port)


def _without_file(config: L4Config) -> dict[str, object]:
    return {key: getattr(config, key) for key in config.__struct_fields__ if key != "vip_file"}


async def _remove(balancer: Balancer, opened: Opened) -> None:
    """Take everything that is ours from the machine. Errors are logged."""
    try:
        for failure in await balancer.remove():
            log.warning("not removed service=%s reason=%s", failure.operation.service, failure.reason)
    except OSError as error:
        log.warning("what is in the data plane stays reason=%s", error)
        return
    await take_away(opened)
