"""What is said of Marathons: by app, by whole documents, by host names that change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.hosts import Hosts
from mesos_dns.model import App, Framework, Health, HealthOverlay
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources.marathon_book import MarathonBook
from mesos_dns.sources.marathon_read import ReadApp
from tests.fakes.replay import no_names

pytestmark = pytest.mark.asyncio


class Desk:
    """A catalog, and a book that writes to it."""

    def __init__(self, *, publish_tasks: bool = False, hosts: Hosts | None = None) -> None:
        self.catalog = Catalog()
        self.publisher = CatalogPublisher(self.catalog, "marathon")
        self.hosts = hosts or Hosts(resolve=no_names)
        self.book = MarathonBook(self.publisher, "mesos", self.hosts, publish_tasks=publish_tasks)
        self.hosts.changed = self.book.host_changed

    def keys(self, kind: str) -> set[str]:
        """The last parts of the keys of a kind."""
        return {key[3] for key in self.publisher.said() if key[0] == kind}

    def overlay(self, task_id: str, framework: str = "F1") -> HealthOverlay:
        """An overlay that was said."""
        found = self.catalog.get(("health", "mesos", framework, task_id))
        assert isinstance(found, HealthOverlay)
        return found


def read(name: str, *tasks: str, framework: str = "F1", host: str = "10.0.0.1", told: bool = True) -> ReadApp:
    overlays = [HealthOverlay(framework, task, Health.HEALTHY, app=name, host=host) for task in tasks]
    return ReadApp(App(name, framework_id=framework), overlays, tasks_told=told)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_app_and_its_tasks() -> None:
    desk = Desk()
    desk.book.put(read("/a", "a.1", "a.2"))
    assert (desk.keys("app"), desk.keys("health")) == ({"/a"}, {"a.1", "a.2"})
    assert desk.overlay("a.1").host_addresses == ("10.0.0.1",)
    assert desk.book.health("F1", "a.1") is Health.HEALTHY
    assert desk.book.health("F1", "nobody") is None
    assert desk.book.task_count("F1") == 2
    desk.book.put(read("/a", "a.2", "a.3"))
    assert desk.keys("health") == {"a.2", "a.3"}
    desk.book.gone("F1", "/a")
    assert not desk.publisher.said()
    desk.book.gone("F1", "/a")  # no harm


async def test_an_app_without_tasks_told_keeps_them() -> None:
    desk = Desk()
    desk.book.put(read("/a", "a.1"))
    desk.book.put(read("/a", told=False))
    assert desk.keys("health") == {"a.1"}


async def test_malformed_tasks_stay_as_they_were() -> None:
    desk = Desk()
    desk.book.put(read("/a", "a.1", "a.2", "a.3"))
    some = read("/a", "a.1")
    some.bad_tasks = [("a.2", "why")]
    desk.book.put(some)
    assert desk.keys("health") == {"a.1", "a.2"}
    some.bad_tasks = [("", "why")]
    some.overlays = []
    desk.book.put(some)
    assert desk.keys("health") == {"a.1", "a.2"}


async def test_a_whole_document_of_one_framework() -> None:
    desk = Desk()
    for name in ("/a", "/b", "/c", "/d"):
        desk.book.put(read(name, f"{name}.1"))
    desk.book.put(read("/a", "other.1", framework="F2"))
    document = [read("/a", "/a.1", "/a.2"), read("/d", "/d.1")]
    await desk.book.replace("F1", document, kept={"/b"}, newer={"/d"})
    assert desk.keys("app") == {"/a", "/b", "/d"}
    assert desk.keys("health") == {"/a.1", "/a.2", "/b.1", "/d.1", "other.1"}
    assert desk.book.frameworks() == {"F1", "F2"}
    await desk.book.drop_framework("F1")
    assert desk.keys("health") == {"other.1"}
    assert desk.book.frameworks() == {"F2"}


async def test_what_was_read_alone_meanwhile_is_newer() -> None:
    desk = Desk()
    desk.book.put(read("/new", "new.1"))
    await desk.book.replace("F1", [read("/gone", "gone.1")], kept=(), newer={"/new", "/gone"})
    assert desk.keys("app") == {"/new"}


async def test_restored_state_is_indexed() -> None:
    before = Desk()
    before.book.put(read("/a", "a.1"))
    after = Desk()
    for entity in before.publisher.said().values():
        after.publisher.put(entity)
    await after.book.index()
    assert list(after.book.apps("F1")) == ["/a"]
    after.book.put(read("/a", "a.2"))
    assert after.keys("health") == {"a.2"}


async def test_names_of_hosts() -> None:
    known = {"h.example": ("10.1.1.1",)}

    async def resolve(name: str) -> tuple[str, ...]:
        return known[name]

    hosts = Hosts(resolve=resolve)
    desk = Desk(hosts=hosts)
    desk.book.put(read("/a", "a.1", host="h.example"))
    assert desk.overlay("a.1").host_addresses == ()
    await until(lambda: desk.overlay("a.1").host_addresses == ("10.1.1.1",))
    desk.book.put(read("/a", "a.1", host="h.example"))
    assert desk.overlay("a.1").host_addresses == ("10.1.1.1",)
    known["h.example"] = ("10.2.2.2",)
    hosts.again("h.example")
    await until(lambda: desk.overlay("a.1").host_addresses == ("10.2.2.2",))
    desk.book.gone("F1", "/a")
    assert "h.example" not in hosts._tasks  # nobody needs it any more
    desk.book.kept_hosts = frozenset({"h.example"})
    desk.book.put(read("/a", "a.1", host="h.example"))
    desk.book.gone("F1", "/a")
    assert "h.example" in hosts._tasks
    await hosts.close()


async def test_a_task_on_another_host_is_that_hosts() -> None:
    async def resolve(name: str) -> tuple[str, ...]:
        return {"one.example": ("10.1.1.1",), "two.example": ("10.1.1.2",)}[name]

    hosts = Hosts(resolve=resolve)
    desk = Desk(hosts=hosts)
    desk.book.put(read("/a", "a.1", host="one.example"))
    await until(lambda: desk.overlay("a.1").host_addresses)
    desk.book.put(read("/a", "a.1", host="two.example"))
    await until(lambda: desk.overlay("a.1").host_addresses == ("10.1.1.2",))
    assert set(hosts._tasks) == {"two.example"}
    await hosts.close()


async def test_who_serves() -> None:
    desk = Desk()
    for name, state, health in (
        ("/unchecked", "TASK_RUNNING", Health.NONE),
        ("/healthy", "TASK_RUNNING", Health.HEALTHY),
        ("/pending", "TASK_RUNNING", Health.PENDING),
        ("/staging", "TASK_STAGING", Health.NONE),
    ):
        overlay = HealthOverlay("F1", f"{name}.1", health, app=name, host="10.0.0.1", state=state)
        desk.book.put(ReadApp(App(name, framework_id="F1"), [overlay]))
    desk.book.put(ReadApp(App("/none", framework_id="F1"), []))
    assert await desk.book.serving("F1") == {"/unchecked", "/healthy"}
    assert await desk.book.serving("F2") == set()


async def test_apps_of_a_deployment() -> None:
    desk = Desk()
    desk.book.put(ReadApp(App("/a", deployments=("d1", "d2"), framework_id="F1"), []))
    desk.book.put(ReadApp(App("/b", framework_id="F1"), []))
    assert desk.book.deploying("F1", "d2") == ["/a"]
    assert desk.book.deploying("F1", "d3") == []


async def test_tasks_and_frameworks_where_nobody_else_tells_them() -> None:
    desk = Desk(publish_tasks=True)
    desk.book.put_framework("F1", "marathon")
    desk.book.put(read("/a", "a.1", "a.2"))
    assert desk.keys("task") == {"a.1", "a.2"}
    assert desk.catalog.get(("framework", "mesos", "F1")) == Framework("F1", "marathon")
    desk.book.put(read("/a", "a.2"))
    assert desk.keys("task") == {"a.2"}
    await desk.book.tidy()
    assert desk.keys("task") == {"a.2"}
    silent = MarathonBook(desk.publisher, "mesos", desk.hosts)
    await silent.index()
    silent.put_framework("F1", "other")
    await silent.tidy()
    assert {key[0] for key in desk.publisher.said()} == {"app", "health"}


async def test_a_framework_goes_with_its_apps() -> None:
    desk = Desk(publish_tasks=True)
    desk.book.put_framework("F1", "marathon")
    desk.book.put(read("/a", "a.1"))
    await desk.book.drop_framework("F1")
    assert not desk.publisher.said()
