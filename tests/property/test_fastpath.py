"""Ready answers over random clusters and random packets: what the table gives is what is said without it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesos_dns.catalog import Delta
from mesos_dns.kept import KeptAnswers
from mesos_dns.message import Query, read_query
from mesos_dns.model import Entity, Key
from mesos_dns.reply import TURN_STEP
from mesos_dns.wire import IllegalName, name_to_wire
from tests.fakes.fast_answers import PRIVATE, PUBLIC, Twins
from tests.fakes.fast_packets import Packets, question
from tests.fakes.worlds import Step, advance, file_steps, steps
from tests.property.test_answer import question_names

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
CLIENTS = (PRIVATE, PUBLIC, bytes(15) + b"\1", bytes.fromhex("20010db8000000000000000000000099"), b"")

configs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "health": st.sampled_from(("ignore", "exclude-unhealthy")),
        "cookies": st.booleans(),
        "max_udp_payload": st.sampled_from((512, 1232, 4096)),
        "forward": st.sampled_from(((), (), ("192.0.2.53",))),
        "zones": st.sampled_from(
            (
                {},
                {},
                {"corp.example": ("192.0.2.1",), "b.marathon.mesos": ("192.0.2.2",), "www.example.org": ("192.0.2.3",)},
                {"mesos": ("192.0.2.1",), "org": ("192.0.2.2",), "10.in-addr.arpa": ("192.0.2.4",)},
            )
        ),
        "recursion": st.booleans(),
    }
)
stories = steps | file_steps | st.builds(lambda one, two: one + two, file_steps, steps)


class World:
    """A story told to both responders, and the questions that were asked on the way."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        self.chance = Random(seed)
        self.known = self.chance.random() < 0.7
        self.twins = Twins(known=lambda: self.known, **config)
        self.packets = Packets(self.chance, self.twins)
        self.asked: dict[bytes, bytes] = {}
        self.state: dict[Key, Entity] = {}
        self.ready = 0

    def step(self, step: Step) -> None:
        self.twins.apply(Delta(1, advance(self.state, step)))
        self.twins.now += self.chance.choice((0, 1, 900, 2000))
        if self.chance.random() < 0.3:
            self.twins.stale(self.chance.random() < 0.5)
        if not self.known and self.chance.random() < 0.5:
            self.known = True
            self.twins.path.refresh()

    def names(self) -> Iterator[bytes]:
        """Owners of the world, those of tasks and files, and their canonical names."""
        yield from question_names(self.twins.plain.view)
        for zone in self.twins.plain.view.zones.values():
            for owner in zone.store.owners():
                try:
                    yield name_to_wire(f"{owner}.{zone.origin}".removeprefix("."))
                except IllegalName:
                    continue

    def check(self, query: bytes, client: bytes) -> None:
        """Both ways, by every transport and some rotations."""
        for transport in ("udp", "tcp", "tls"):
            for turn in (0, self.chance.getrandbits(32), 0xFFFFFFFF):
                self.ready += self.twins.agreed(query, transport, client, turn) is not None

    def ask(self, query: bytes, client: bytes) -> None:
        """First while the table may not have it, then when it was asked for."""
        self.check(query, client)
        self.twins.warm(query, client)
        self.check(query, client)
        if self.is_ordinary(query):
            assert self.twins.ready(query, "udp", client) is not None, query.hex()
        self.asked[query] = client

    def is_ordinary(self, query: bytes) -> bool:
        """Whether a packet asks for what both keep, in a way that native code reads."""
        read, store = read_query(query), self.twins.plain._kept
        assert isinstance(store, KeptAnswers)
        if not isinstance(read, Query) or store.get(read.name + read.question[-4:]) is None:
            return False
        end = 12 + len(read.question)
        if query[4:10] != b"\0\1\0\0\0\0" or read.cookie or read.qtype == 252:
            return False
        size = 11 + int.from_bytes(query[end + 9 : end + 11], "big") if query[11] else 0
        return len(query) == end + size and read.edns == bool(query[11])


@settings(max_examples=40, suppress_health_check=SLOW)
@given(stories, configs, st.integers(0, 1 << 32))
def test_ready_answers_are_those_without_a_table(story: list[Step], config: dict[str, Any], seed: int) -> None:
    world = World(config, seed)
    for step in story:
        world.step(step)
        for query, client in world.asked.items():  # nothing is stale
            world.check(query, client)
        names = list(dict.fromkeys(world.names()))
        for _ in range(40):
            world.ask(world.packets.any(names), world.chance.choice(CLIENTS))
    assert world.twins.path.table.figures()["refused"] == 0


@settings(max_examples=40, suppress_health_check=SLOW)
@given(stories, configs)
def test_every_name_is_asked_before_and_after_each_change(story: list[Step], config: dict[str, Any]) -> None:
    world, names = World(config, 1), dict.fromkeys(question_names(Twins().plain.view))
    for step in story:
        for name in names:
            for rtype in (1, 16, 33, 255):
                world.twins.warm(question(name, rtype))
        world.step(step)
        names |= dict.fromkeys(world.names())
        for name in names:
            for rtype in (1, 16, 33, 255):
                world.twins.agreed(question(name, rtype), "tcp")


@settings(max_examples=25, suppress_health_check=SLOW)
@given(steps, st.integers(0, 1 << 32), st.sampled_from((1, 3, 20)), st.sampled_from((0, 1, 2, 5)), st.booleans())
def test_a_rate_limit_leaves_the_same(story: list[Step], seed: int, rate: int, slip: int, private: bool) -> None:
    world = World({"rate_limit": rate, "rate_limit_slip": slip, "rate_limit_private": private}, seed)
    fast, plain, chance = world.twins.fast, world.twins.plain, world.chance
    for step in story:
        world.step(step)
        names = list(dict.fromkeys(world.names()))
        queries = [world.packets.any(names) for _ in range(8)]
        for _ in range(120):
            query, client = chance.choice(queries), chance.choice(CLIENTS)
            # A table that does not have it takes one more turn.
            turns = 1 if fast.replies.limits("udp", client) or world.twins.ready(query, "udp", client) else 2
            fast.replies.turn, plain.replies.turn = 0, (turns - 1) * TURN_STEP & 0xFFFFFFFF
            assert fast.respond(query, "udp", client) == plain.respond(query, "udp", client), query.hex()
            world.twins.now += chance.random() < 0.02
    assert fast.counters.limited == plain.counters.limited
    assert fast.counters.cookies == plain.counters.cookies
