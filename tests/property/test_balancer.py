"""lb4.balancer under random changes, failures and others who interfere: it always gets there, and nobody notices."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lb4.balancer import Balancer
from lb4.desired import services
from lb4.services import BackendKey, Destination, Failure, Kind, Operation, Service, ServiceKey, Settings
from lb4.vip import Backend, State, VipKey, VipState
from tests.fakes.data_plane import FakePlane, FakeTable

NAMES = ("web.marathon", "api.marathon", "10.9.9.9")
"""Two names and an address outside of the ranges."""
VIRTUAL = ("", "11.0.0.1", "11.0.0.2")
FOREIGN = ServiceKey("tcp", "192.0.2.1", 80)
FOREIGN_SERVICE = Service(Settings("rr"), {BackendKey("192.0.2.9", 80): Destination(7)})
OWN = frozenset({"10.0.0.1"})

vips = st.builds(VipKey, st.sampled_from(["tcp", "udp"]), st.sampled_from(NAMES), st.sampled_from([53, 80]))
backends = st.builds(
    Backend,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
    st.sampled_from([80, 81]),
    weight=st.integers(0, 2),
    state=st.just(State.PENDING),
    node=st.sampled_from(["10.0.0.1", ""]),
    local=st.sampled_from([None, BackendKey("9.0.0.1", 80)]),
)
states = st.builds(
    VipState,
    vips,
    st.lists(backends, min_size=1, max_size=4, unique_by=lambda backend: backend.key).map(tuple),
    scheduler=st.sampled_from(["", "rr"]),
    persistence=st.sampled_from([0, 300]),
)
keys = st.builds(
    ServiceKey,
    st.sampled_from(["tcp", "udp"]),
    st.sampled_from(["11.0.0.1", "11.0.0.2", "11.0.0.3", "10.9.9.9"]),
    st.sampled_from([53, 80]),
)
tables = st.builds(
    Service,
    st.builds(Settings, st.sampled_from(["wlc", "rr"])),
    st.dictionaries(
        st.builds(BackendKey, st.sampled_from(["10.0.0.1", "10.0.0.9"]), st.just(80)),
        st.builds(Destination, st.integers(0, 2)),
        max_size=3,
    ),
)
steps = st.one_of(
    st.tuples(st.just("put"), states),
    st.tuples(st.just("drop"), vips),
    st.tuples(st.just("allocate"), st.sampled_from(NAMES[:2]), st.sampled_from(VIRTUAL)),
    st.tuples(st.just("turn"), st.integers(1, 4)),
    st.tuples(st.just("pass"), st.floats(0.1, 40)),
    st.tuples(st.just("others_put"), keys, tables),
    st.tuples(st.just("others_drop"), keys),
    st.tuples(st.just("others_flush")),
    st.tuples(st.just("others_address"), st.sampled_from(["11.0.0.1", "11.0.0.3", "10.9.9.9"]), st.booleans()),
    st.tuples(st.just("fail"), st.sampled_from(list(Kind)), st.sampled_from([errno.EPERM, errno.ENOENT, errno.EEXIST])),
    st.tuples(st.just("break"), st.integers(0, 3)),
    st.tuples(st.just("heal")),
    st.tuples(st.just("connect"), st.booleans()),
    st.tuples(st.just("known"), st.booleans()),
    st.tuples(st.just("complete"), st.booleans()),
)


def usable(plane: FakePlane) -> set[ServiceKey]:
    """Services that can carry a connection, by a local address."""
    return {
        key
        for key, (_, found) in plane.services.items()
        if any(d.weight for d in found.values()) and (key.address in plane.addresses or key == FOREIGN)
    }


class WatchedPlane(FakePlane):
    """Sees that no service is without a usable destination on the way from having one to having one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[set[ServiceKey]] = []
        self.seen = lambda operation: self.steps.append(usable(self))

    async def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        before = usable(self)
        self.steps.clear()
        try:
            return await super().apply(operations)
        finally:
            kept = before & usable(self)
            for step in self.steps:
                assert kept <= step, operations


class World:
    """A balancer and all that may happen to it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.known = self.complete = True
        self.plane, self.table = WatchedPlane(), FakeTable()
        self.plane.put(FOREIGN, FOREIGN_SERVICE)
        self.served: set[VipKey] = set()
        self.balancer = Balancer(
            self.table,
            self.plane,
            known=lambda: self.known,
            own=OWN,
            owned=lambda address: address.startswith("11."),
            scheduler="wlc",
            reconcile=30.0,
            drain_timeout=10.0,
            served=self.tell,
            may_drop=lambda: self.complete,
            clock=lambda: self.now,
            chance=lambda: 0.5,
        )

    def tell(self, changed: frozenset[VipKey]) -> None:
        assert changed
        self.served ^= changed
        assert all(self.balancer.is_served(key) == (key in self.served) for key in changed)

    def put(self, state: VipState) -> None:
        self.table.put(state)

    def drop(self, key: VipKey) -> None:
        if key in self.table.vips:
            self.table.drop(key)

    def allocate(self, name: str, address: str) -> None:
        self.table.allocate(name, address)

    async def turn(self, times: int) -> None:
        for _ in range(times):
            await self.balancer.turn()

    async def passes(self, seconds: float) -> None:
        """Time goes by, in steps of what the balancer waits for."""
        end = self.now + seconds
        for _ in range(5_000):
            at = await self.balancer.turn()
            if at > end:
                break
            self.now = max(self.now, at)
        else:
            raise AssertionError("the balancer never comes to rest")
        self.now = end

    def others_put(self, key: ServiceKey, service: Service) -> None:
        self.plane.put(key, service)

    def others_drop(self, key: ServiceKey) -> None:
        self.plane.services.pop(key, None)

    def others_flush(self) -> None:
        self.plane.services = {FOREIGN: self.plane.services[FOREIGN]}

    def others_address(self, address: str, there: bool) -> None:
        (self.plane.addresses.add if there else self.plane.addresses.discard)(address)

    def fail(self, kind: Kind, number: int) -> None:
        self.plane.fails = lambda operation: number if operation.kind is kind else 0

    def breaks(self, after: int) -> None:
        """The plane breaks after some more operations."""
        left = after

        def fails(operation: Operation) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                self.plane.broken = OSError("gone away")
                raise self.plane.broken
            return 0

        self.plane.fails = fails

    def heal(self) -> None:
        self.plane.fails = lambda operation: 0
        self.plane.broken = None

    def connect(self, busy: bool) -> None:
        self.plane.active = (
            {(key, backend): 1 for key, (_, found) in self.plane.services.items() for backend in found} if busy else {}
        )

    async def do(self, step: tuple[Any, ...]) -> None:
        name = {"pass": "passes", "break": "breaks"}.get(step[0], step[0])
        if name in ("known", "complete"):
            setattr(self, name, step[1])
        elif name in ("turn", "passes"):
            await getattr(self, name)(*step[1:])
        else:
            getattr(self, name)(*step[1:])
        assert self.plane.state()[FOREIGN] == FOREIGN_SERVICE

    def expected(self) -> tuple[dict[ServiceKey, Service], set[VipKey]]:
        """What the data plane should have once nothing drains, and which VIPs are served then."""
        found: dict[ServiceKey, Service] = {}
        owners: dict[ServiceKey, VipKey] = {}
        wants: dict[VipKey, list[ServiceKey]] = {}
        for key in sorted(self.table.vips):
            state, address = self.table.vips[key], self.table.address_of(key.name)
            for service_key, service in services(state, address, own=OWN, failing=(), scheduler="wlc").items():
                wants.setdefault(key, []).append(service_key)
                if owners.setdefault(service_key, key) == key:
                    usable = {backend: d for backend, d in service.destinations.items() if d.weight}
                    found[service_key] = Service(service.settings, usable)
        return found, {key for key, wanted in wants.items() if all(owners[one] == key for one in wanted)}


def run(scenario: Callable[[World], Any]) -> None:
    async def main() -> None:
        await scenario(World())

    asyncio.run(main())


@settings(max_examples=60)
@given(st.lists(steps, max_size=30))
def test_it_gets_there(order: list[tuple[Any, ...]]) -> None:
    async def scenario(world: World) -> None:
        for step in order:
            await world.do(step)
        world.heal()
        world.known = world.complete = True
        world.connect(False)
        # The longest waits for a plane, then to a look at everything, then for a service, then for what drains.
        await world.passes(30.0 + 36.0 + 30.0 + 10.0 + 5.0)
        found, served = world.expected()
        state, addresses = world.plane.state(), world.plane.addresses
        assert state.pop(FOREIGN) == FOREIGN_SERVICE
        # What others have made at an address that is not ours stays.
        ours = {key: one for key, one in state.items() if key.address != "10.9.9.9" or key.address in addresses}
        assert ours == found
        assert addresses == {key.address for key in found}
        assert world.served == served
        assert {key for key in world.table.vips if world.balancer.is_served(key)} == served
        status = world.balancer.status()
        assert (status.draining, status.in_trouble, status.backlog, status.error) == (0, 0, 0, "")
        # And then it rests.
        batches = len(world.plane.batches)
        await world.passes(100.0)
        assert len(world.plane.batches) == batches

    run(scenario)


@settings(max_examples=30)
@given(st.lists(states, min_size=1, max_size=6, unique_by=lambda state: state.key))
def test_a_restart_does_nothing_to_what_is_right(wanted: list[VipState]) -> None:
    async def scenario(world: World) -> None:
        for name, address in zip(NAMES[:2], VIRTUAL[1:], strict=True):
            world.allocate(name, address)
        for state in wanted:
            world.put(state)
        await world.passes(60.0)
        again = World()
        again.table = world.table
        again.plane.services, again.plane.addresses = world.plane.services, world.plane.addresses
        again.balancer._table = world.table
        await again.passes(60.0)
        assert again.plane.batches == []
        assert again.served == world.served

    run(scenario)


@settings(max_examples=60)
@given(
    st.dictionaries(keys, tables, max_size=6),
    st.frozensets(st.sampled_from(["11.0.0.1", "11.0.0.2", "11.0.0.3", "10.9.9.9"])),
    st.lists(steps.filter(lambda step: not step[0].startswith("others_") and step[0] != "complete"), max_size=20),
)
def test_nothing_of_an_earlier_process_is_taken_away_before_all_is_known(
    found: dict[ServiceKey, Service], addresses: frozenset[str], order: list[tuple[Any, ...]]
) -> None:
    async def scenario(world: World) -> None:
        world.complete = False
        for key, service in found.items():
            world.plane.put(key, service)
        world.plane.addresses |= addresses
        wanted: set[ServiceKey] = set()
        for step in order:
            await world.do(step)
            wanted |= world.expected()[0].keys()
        await world.passes(100.0)
        for key, service in found.items():
            if key not in wanted:
                assert world.plane.state()[key] == service
        touched = {key.address for key in wanted}
        kept = {key.address for key in found.keys() - wanted} | (addresses - touched)
        assert addresses & kept <= world.plane.addresses

    run(scenario)
