"""The book: addresses of agents, schedulers and masters, and how they follow host names."""

from __future__ import annotations

import pytest

from mesos_dns.hosts import Hosts
from mesos_dns.model import Endpoint
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_wire import AgentSeen, FrameworkSeen
from tests.fakes.followed import Followed

pytestmark = pytest.mark.asyncio


class Place:
    """A book on a catalog, with names that a test decides."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known = known
        self.followed = Followed()
        self.hosts = Hosts(resolve=self.resolve)
        self.book = Book(self.followed.publisher, "mesos", self.hosts)
        self.hosts.changed = self.book.host_changed

    async def resolve(self, host: str) -> tuple[str, ...]:
        if host not in self.known:
            raise OSError(host)
        return self.known[host]

    @property
    def framework(self) -> tuple[tuple[str, ...], int]:
        found = self.followed.frameworks()["F"]
        return found.addresses, found.port


async def test_a_named_agent_gets_its_addresses_when_they_are_known() -> None:
    place = Place(host=("10.0.0.1", "fd00::1"))
    place.book.put_agent(AgentSeen("A", "host", "host", 5051))
    assert place.followed.nodes()["A"].addresses == ()
    await place.hosts.settle(["host"], 5)
    assert place.followed.nodes()["A"].addresses == ("10.0.0.1", "fd00::1")
    assert place.followed.nodes()["A"].port == 5051
    await place.hosts.close()


async def test_an_agent_keeps_its_addresses_while_its_name_is_being_resolved_again() -> None:
    place = Place(host=("10.0.0.1",))
    place.book.put_agent(AgentSeen("A", "host", "10.0.0.7", 5051))
    place.book.put_agent(AgentSeen("A", "host", "host", 5051))
    assert place.followed.nodes()["A"].addresses == ("10.0.0.7",)
    await place.hosts.settle(["host"], 5)
    assert place.followed.nodes()["A"].addresses == ("10.0.0.1",)
    await place.hosts.close()


async def test_nobody_resolves_names_of_agents_that_are_gone() -> None:
    place = Place(host=("10.0.0.1",))
    place.book.put_agent(AgentSeen("A", "host", "host"))
    await place.hosts.settle(["host"], 5)
    place.book.drop_node("A")
    assert place.hosts.lookup("host") is None, "it was forgotten"
    assert place.followed.nodes() == {}
    await place.hosts.close()


async def test_scheduler_addresses() -> None:
    place = Place()
    v1 = FrameworkSeen("F", "marathon", hostname="10.1.1.1")
    place.book.put_framework(v1)
    assert place.framework == (("10.1.1.1",), 0), "no pid is known: the host name's address, without a port"
    place.book.schedulers({"F": FrameworkSeen("F", "marathon", pid="s@10.2.2.2:99")})
    assert place.framework == (("10.2.2.2",), 99)
    place.book.put_framework(v1)
    assert place.framework == (("10.2.2.2",), 99), "v1 tells no pid; what was learned stays"
    place.book.schedulers({"F": FrameworkSeen("F", "marathon", recovered=True, pid=None)})
    assert place.framework == (("10.2.2.2",), 99), "a recovered framework has not told its pid yet"
    place.book.schedulers({"F": FrameworkSeen("F", "marathon", pid="s@[fd00::2]:98")})
    assert place.framework == (("fd00::2",), 98)
    place.book.schedulers({"F": FrameworkSeen("F", "marathon", pid="")})
    assert place.framework == (("10.1.1.1",), 0), "it has none any more"
    place.book.schedulers({"F": FrameworkSeen("F", "marathon", pid="nonsense")})
    assert place.framework == (("10.1.1.1",), 0)


async def test_a_scheduler_that_was_known_before_a_restart_keeps_its_address() -> None:
    place = Place()
    place.book.put_framework(FrameworkSeen("F", "marathon", pid="s@10.2.2.2:99"))
    again = Book(place.followed.publisher, "mesos", place.hosts)
    again.put_framework(FrameworkSeen("F", "marathon", hostname="10.1.1.1"))
    assert place.framework == (("10.2.2.2",), 99)


async def test_leadership() -> None:
    place = Place(one=("10.0.0.1",), two=("10.0.0.2",))
    masters = (("one", 5050), ("two", 5050), ("10.0.0.3", 5050), ("missing", 5050))
    place.book.lead(("10.0.0.3", 5050), masters)
    for name in ("one", "two", "missing"):
        await place.hosts.settle([name], 5)
    found = place.followed.leadership()
    assert found is not None
    assert found.leader == Endpoint("10.0.0.3", 5050)
    assert [master.address for master in found.masters] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    place.book.lead(None, masters)
    assert place.followed.leadership() == found, "an unknown leader changes nothing"
    place.book.lead(("new.name", 1), (*masters, ("another", 2)))
    assert place.followed.leadership() == found, "what is not resolved yet changes nothing"
    await place.hosts.close()
