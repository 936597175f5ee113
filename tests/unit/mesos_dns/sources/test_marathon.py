"""Which frameworks are Marathons, and the standing of a source of several; conversations are in tests/conversation."""

from __future__ import annotations

import asyncio

import pytest

from mesos_dns.model import Framework
from mesos_dns.sources import marathon as marathon_source
from mesos_dns.sources.marathon import marathons_among
from tests.fakes.marathon import FollowedMarathon, Marathons, app
from tests.ports import free_ports


def test_frameworks_that_are_marathons() -> None:
    frameworks = [
        Framework("F1", "marathon", webui_url="http://10.0.0.1:8080"),
        Framework("F2", "marathon-user", webui_url="http://10.0.0.2:8080", active=False),
        Framework("F3", "chronos", webui_url="http://10.0.0.3:8080"),
        Framework("F4", "marathon"),
    ]
    assert marathons_among(frameworks, ("marathon", "marathon-user")) == {
        "F1": ("http://10.0.0.1:8080",),
        "F2": ("http://10.0.0.2:8080",),
        "F4": (),
    }
    assert marathons_among(frameworks, ()) == {}


@pytest.mark.asyncio
async def test_without_any_marathon_there_is_nothing_to_know() -> None:
    async with FollowedMarathon() as follow:
        await follow.until(lambda: "not known yet" in follow.detail)
        assert follow.stale
        follow.source.set_marathons({})
        await follow.synced()
        assert follow.detail == "no framework of the cluster is named marathon"


@pytest.mark.asyncio
async def test_configured_urls_are_not_replaced() -> None:
    async with Marathons(app("/a")) as marathon, FollowedMarathon(*marathon.instances.urls) as follow:
        await follow.synced()
        follow.source.set_marathons({})
        await asyncio.sleep(0.02)
        assert set(follow.apps()) == {"/a"}


@pytest.mark.asyncio
async def test_the_standing_is_that_of_the_worst() -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with Marathons(app("/a")) as marathon, FollowedMarathon() as follow:
        follow.source.set_marathons({marathon.framework.id: marathon.instances.urls, "F9": (dead,)})
        await follow.until(lambda: follow.apps() and dead in follow.detail)
        assert follow.stale
        assert marathon.instances.urls[0] not in follow.detail
        follow.source.set_marathons({marathon.framework.id: marathon.instances.urls})
        await follow.synced()
        assert repr(follow.source).count("Follower") == 1


@pytest.mark.asyncio
async def test_what_others_said_is_kept_until_all_have_spoken() -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with Marathons(app("/a")) as marathon, FollowedMarathon() as follow:
        follow.source.set_marathons({marathon.framework.id: marathon.instances.urls})
        await follow.synced()
        follow.source.set_marathons({"F9": (dead,)})
        await follow.until(lambda: dead in follow.detail)
        assert set(follow.apps()) == {"/a"}


@pytest.mark.asyncio
async def test_the_last_marathon_takes_what_it_said_along_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Marathons(app("/a")) as marathon, FollowedMarathon() as follow:
        follow.source.set_marathons({marathon.framework.id: marathon.instances.urls})
        await follow.synced()
        follow.source.set_marathons({})
        await follow.until(lambda: "no framework of the cluster" in follow.detail)
        await asyncio.sleep(0.02)
        assert set(follow.apps()) == {"/a"}
        assert follow.stale
        follow.source.set_marathons({marathon.framework.id: marathon.instances.urls})
        await follow.synced()
        monkeypatch.setattr(marathon_source, "HOLD", 0.05)
        follow.source.set_marathons({})
        await follow.until(lambda: not follow.apps() and not follow.stale)
