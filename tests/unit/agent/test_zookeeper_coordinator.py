"""A real ZooKeeper as coordinator: compare-and-set, watches, ephemerals, elections, kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from agent.coordinator_keys import MAX_KEY
from agent.zookeeper_coordinator import ZooKeeperCoordinator
from mesos_dns.coordinate import ABSENT, MAX_VALUE, CoordinatorLost, VersionConflict, Versioned
from mesos_dns.zookeeper import NoNodeError
from tests.coordinator_clients import line, process, shows, soon, watching
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until
from tests.zookeeper_faults import drop, end_session, lose_answers


@contextlib.asynccontextmanager
async def coordinator(servers: Ensemble, root: str, **target: Any) -> AsyncIterator[ZooKeeperCoordinator]:
    """A coordinator with a session of its own."""
    async with session(servers, **target) as s:
        c = ZooKeeperCoordinator(s, root)
        try:
            yield c
        finally:
            await c.close()


def child(servers: Ensemble, root: str, body: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Another process that has `c`, a coordinator below the same root; it is killed at the end."""
    program = (
        "import asyncio\nfrom agent.zookeeper_coordinator import ZooKeeperCoordinator\n"
        "from mesos_dns.zookeeper import Session\nfrom mesos_dns.zookeeper_target import Target, parse_hosts\n"
        "def say(text): print(text, flush=True)\n"
        "async def main():\n"
        f"    s = Session(Target(parse_hosts({servers.hosts!r}), session_timeout=1.0))\n    s.start()\n"
        f"    while not s.connected: await asyncio.sleep(0.01)\n    c = ZooKeeperCoordinator(s, {root!r})\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
        + "asyncio.run(main())\n"
    )
    return process(program)


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_compare_and_set(zookeeper: Ensemble) -> None:
    async with coordinator(zookeeper, unique_path()) as c:
        assert await c.get("a/b") is None
        assert await c.put_if("a/b", b"one", ABSENT) == 0
        assert await c.get("a/b") == Versioned(b"one", 0)
        with pytest.raises(VersionConflict, match="key 'a/b': it exists"):
            await c.put_if("a/b", b"x", ABSENT)
        for wrong in (1, -2, 1 << 31, 1 << 70):
            with pytest.raises(VersionConflict, match=f"key 'a/b': version {wrong} was expected"):
                await c.put_if("a/b", b"x", wrong)
            with pytest.raises(VersionConflict):
                await c.delete_if("a/b", wrong)
        assert await c.put_if("a/b", b"", 0) == 1
        assert await c.get("a/b") == Versioned(b"", 1)
        for wrong in (0, ABSENT):
            with pytest.raises(VersionConflict):
                await c.delete_if("a/b", wrong)
        await c.delete_if("a/b", 1)
        assert await c.get("a/b") is None
        await c.delete_if("a/b", ABSENT)
        with pytest.raises(VersionConflict):
            await c.put_if("a/b", b"x", 0)
        with pytest.raises(VersionConflict):
            await c.delete_if("a/b", 0)
        assert await c.put_if("a/b", b"new", ABSENT) == 0
        assert "ZooKeeperCoordinator /test-" in repr(c)


@pytest.mark.asyncio
async def test_a_key_may_be_the_parent_of_others_and_leaves_no_znodes(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c:
        for key in ("a", "a/b", "a/b/c"):
            await c.put_if(key, key.encode(), ABSENT)
        await c.delete_if("a/b", 0)
        assert await c.get("a/b/c") == Versioned(b"a/b/c", 0)
        await c.delete_if("a/b/c", 0)
        await c.delete_if("a", 0)
        async with c.register("e/f", b""):
            pass
        found = await c._session.children(f"{root}/keys")
        assert found is not None
        assert found[0] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/./b", "a b", "a=b", "ä", "a\0", "x" * 201])
async def test_keys_that_are_not_allowed(zookeeper: Ensemble, key: str) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c:
        for work in (c.get(key), c.put_if(key, b"", ABSENT), c.delete_if(key, 0)):
            with pytest.raises(ValueError, match="expected segments"):
                await work
        with pytest.raises(ValueError, match="expected segments"):
            async with c.register(key, b""):
                pass
        if key:
            with pytest.raises(ValueError, match="expected segments"):
                await anext(c.watch(key))
        with pytest.raises(ValueError, match="expected one segment"):
            async with c.elect(key):
                pass
        assert await c._session.exists(root) is None
        with pytest.raises(ValueError, match="expected a path"):
            ZooKeeperCoordinator(c._session, "pharos")


@pytest.mark.asyncio
async def test_the_largest_value_under_the_longest_key(tmp_path: Path) -> None:
    key = ("a/" * MAX_KEY)[: MAX_KEY - 1]
    value = bytes(range(256)) * (MAX_VALUE // 256) + bytes(MAX_VALUE % 256)
    with ensemble(tmp_path, 3) as servers:
        async with coordinator(servers, "/pharos") as c, coordinator(servers, "/pharos") as other:
            assert await c.put_if(key, value, ABSENT) == 0
            assert await c.put_if(key, value, 0) == 1
            async with c.register("held", value), watching(other, "") as stream:
                await shows(stream, {key: value, "held": value})
            assert await c.get(key) == Versioned(value, 1)
            assert (c._session.connection, other._session.connection) == (1, 1), "no server dropped the connection"
            for work in (c.put_if("a", value + b"x", ABSENT), c.register("a", value + b"x").__aenter__()):
                with pytest.raises(ValueError, match=f"at most {MAX_VALUE}"):
                    await work


@pytest.mark.asyncio
async def test_of_many_writers_one_wins_each_version(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with contextlib.AsyncExitStack() as stack:
        several = [await stack.enter_async_context(coordinator(zookeeper, root)) for _ in range(4)]
        await several[0].put_if("n", b"0", ABSENT)

        async def add(c: ZooKeeperCoordinator) -> None:
            for _ in range(10):
                while True:
                    now = await c.get("n")
                    assert now is not None
                    with contextlib.suppress(VersionConflict):
                        await c.put_if("n", str(int(now.value) + 1).encode(), now.version)
                        break

        await soon(asyncio.gather(*map(add, several), *map(add, several)))
        assert await several[0].get("n") == Versioned(b"80", 80)


@pytest.mark.asyncio
async def test_parents_that_others_remove_meanwhile_are_made_again(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as one, coordinator(zookeeper, root) as two:

        async def make_and_remove(c: ZooKeeperCoordinator, name: str) -> None:
            for _ in range(40):
                await c.put_if(f"deep/er/{name}", b"", ABSENT)
                await c.delete_if(f"deep/er/{name}", 0)

        await soon(asyncio.gather(make_and_remove(one, "a"), make_and_remove(two, "b"), make_and_remove(two, "c/d")))


@pytest.mark.asyncio
async def test_without_a_connection_nothing_is_known(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        async with coordinator(servers, "/pharos", session_timeout=2.0) as c:
            await c.put_if("a", b"1", ABSENT)
            servers.servers[0].kill()
            await until(lambda: not c._session.connected)
            for work in (c.get("a"), c.put_if("a", b"2", 0), c.delete_if("a", 0), c.delete_if("a", ABSENT)):
                with pytest.raises(CoordinatorLost, match="ZooKeeper: no server can be reached"):
                    await work
            with pytest.raises(CoordinatorLost):
                async with c.register("b", b""):
                    pass
            servers.servers[0].start()
            await until(lambda: c._session.connected)
            assert await c.put_if("a", b"2", 0) == 1


@pytest.mark.asyncio
async def test_a_lost_answer_leaves_the_outcome_open(zookeeper: Ensemble) -> None:
    async with coordinator(zookeeper, unique_path()) as c:
        await c.put_if("a", b"1", ABSENT)
        with lose_answers(c._session, "set"), pytest.raises(CoordinatorLost, match="the answer was lost"):
            await c.put_if("a", b"2", 0)
        assert await c.get("a") == Versioned(b"2", 1)


@pytest.mark.asyncio
async def test_with_credentials_only_their_owner_may_touch_anything(
    zookeeper: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    root = unique_path()
    login = {"auth": "digest", "principal": "bob", "secret": "s3cret"}
    async with coordinator(zookeeper, root, **login) as c, coordinator(zookeeper, root) as stranger:
        await c.put_if("a/b", b"secret", ABSENT)
        path = f"{root}/keys/a/b/=value"
        for work in (
            stranger.get("a/b"),
            stranger.put_if("a/b", b"", 0),
            stranger.put_if("a/c", b"", ABSENT),
            stranger.delete_if("a/b", 0),
        ):
            with pytest.raises(CoordinatorLost, match=f"the ACL of {root}/keys/.* does not allow it"):
                await work
        with pytest.raises(CoordinatorLost, match="does not allow it"):
            async with stranger.register("d", b""):
                pass
        assert await c.get("a/b") == Versioned(b"secret", 0)
        async with watching(stranger, "a") as stream:
            task = asyncio.ensure_future(anext(stream))
            await until(lambda: "does not let us read it" in caplog.text)
            await asyncio.sleep(0.1)
            assert not task.done(), "what may not be seen is not said to be absent"
            task.cancel()
            await asyncio.wait([task])
        await c.delete_if("a/b", 0)
        assert await c._session.exists(path) is None


# --- watches -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_watch_tells_all_and_then_each_change(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c, coordinator(zookeeper, root) as other:
        await c.put_if("v/a", b"1", ABSENT)
        await c.put_if("v", b"not below itself", ABSENT)
        await c.put_if("w/a", b"elsewhere", ABSENT)
        async with watching(c, "v") as stream:
            assert await soon(anext(stream)) == {"v/a": b"1"}
            await c.put_if("v/b/c", b"2", ABSENT)
            assert await soon(anext(stream)) == {"v/a": b"1", "v/b/c": b"2"}
            await other.put_if("v/a", b"3", 0)
            assert await soon(anext(stream)) == {"v/a": b"3", "v/b/c": b"2"}
            await c.put_if("w/a", b"of no interest", 0)
            await c.put_if("v", b"nor this", 0)
            await other.delete_if("v/a", 1)
            assert await soon(anext(stream)) == {"v/b/c": b"2"}
            async with other.register("v/e", b"here"):
                assert await soon(anext(stream)) == {"v/b/c": b"2", "v/e": b"here"}
            assert await soon(anext(stream)) == {"v/b/c": b"2"}
        assert len(c._session._watchers) == 0, "the mirror ends with the watch"


@pytest.mark.asyncio
async def test_a_watch_of_nothing_begins_empty_and_prefixes_come_and_go(zookeeper: Ensemble) -> None:
    async with coordinator(zookeeper, unique_path()) as c, watching(c, "") as all_keys, watching(c, "v") as some:
        assert await soon(anext(all_keys)) == await soon(anext(some)) == {}
        for value in (b"1", b"2"):
            await c.put_if("v/a", value, ABSENT)
            assert await soon(anext(all_keys)) == await soon(anext(some)) == {"v/a": value}
            await c.delete_if("v/a", 0)
            assert await soon(anext(all_keys)) == await soon(anext(some)) == {}


@pytest.mark.asyncio
async def test_changes_are_coalesced_and_nothing_is_told_twice(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c, coordinator(zookeeper, root) as other:
        async with watching(c, "v") as stream:
            assert await soon(anext(stream)) == {}
            await asyncio.gather(*(other.put_if(f"v/{n}", b"1", ABSENT) for n in range(200)))
            wanted = {f"v/{n}": b"1" for n in range(200)}
            await asyncio.sleep(2.0)  # nobody asks meanwhile, and all becomes one change
            told = 0
            async with asyncio.timeout(30):
                async for found in stream:
                    told += 1
                    if found == wanted:
                        break
            assert told < 150
            waiting = asyncio.ensure_future(anext(stream))
            await drop(c._session)
            await other.put_if("v/0", b"1", 0)  # the same again
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await other.put_if("v/0", b"2", 1)
            assert await soon(waiting) == {**wanted, "v/0": b"2"}


@pytest.mark.asyncio
async def test_a_watch_keeps_what_it_had_while_zookeeper_is_away(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        (server,) = servers.servers
        async with coordinator(servers, "/pharos", session_timeout=1.0) as c:
            await c.put_if("v/a", b"1", ABSENT)
            async with c.register("v/e", b""), watching(c, "v") as stream:
                assert await soon(anext(stream)) == {"v/a": b"1", "v/e": b""}
                waiting = asyncio.ensure_future(anext(stream))
                server.kill()
                await asyncio.sleep(1.5)
                assert not waiting.done()
                server.start()
                await until(lambda: c._session.connected)
                await c.put_if("v/b", b"2", ABSENT)
                while (found := await soon(waiting)) != {"v/a": b"1", "v/b": b"2", "v/e": b""}:
                    assert found["v/a"] == b"1"
                    waiting = asyncio.ensure_future(anext(stream))


# --- ephemerals --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_ephemeral_lives_as_long_as_its_context(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c, coordinator(zookeeper, root) as other:
        async with c.register("edges/one", b"addr"):
            assert await other.get("edges/one") == Versioned(b"addr", 0)
            for each in (other, c):
                with pytest.raises(VersionConflict):
                    async with each.register("edges/one", b"mine"):
                        pass
            assert await c.get("edges/one") == Versioned(b"addr", 0)
            await other.put_if("edges/one", b"moved", 0)
        assert await other.get("edges/one") is None
        async with other.register("edges/one", b"mine"):
            pass
        await c.put_if("stays", b"permanent", ABSENT)
        with pytest.raises(VersionConflict):
            async with c.register("stays", b""):
                pass
        assert await c.get("stays") == Versioned(b"permanent", 0)


@pytest.mark.asyncio
async def test_a_registration_outlives_its_session(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with coordinator(zookeeper, root) as c, coordinator(zookeeper, root) as other:
        async with c.register("edges/one", b"1"), watching(other, "edges") as stream:
            assert await soon(anext(stream)) == {"edges/one": b"1"}
            await end_session(zookeeper, c._session)
            await until_held(other, "edges/one", c)
            await other.delete_if("edges/one", 0)
            await until_held(other, "edges/one", c)
        assert await other.get("edges/one") is None


async def until_held(c: ZooKeeperCoordinator, key: str, by: ZooKeeperCoordinator) -> None:
    async with asyncio.timeout(30):
        while True:
            stat = await c._session.exists(c._leaf(key))
            if stat is not None and stat.ephemeralOwner == by._session.session_id:
                return
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_registration_that_was_entered_half_leaves_nothing(zookeeper: Ensemble) -> None:
    async with coordinator(zookeeper, unique_path()) as c:
        with lose_answers(c._session, "create", 5), pytest.raises(CoordinatorLost):
            async with c.register("edges/one", b""):
                pass
        assert await c.get("edges/one") is None
        entering = asyncio.create_task(c.register("edges/one", b"").__aenter__())
        await asyncio.sleep(0.001)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(entering)
        assert await c.get("edges/one") is None


@pytest.mark.asyncio
async def test_what_was_left_without_a_connection_is_removed_when_it_is_back(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        (server,) = servers.servers
        async with coordinator(servers, "/pharos") as c, coordinator(servers, "/pharos") as other:
            async with c.register("edges/one", b"1"), c.register("edges/two", b"2"), c.elect("decider") as election:
                await soon(election.won())
                server.kill()
                await until(lambda: not c._session.connected)
            assert not election.leading
            assert len(c._leftovers) == 3
            server.start()
            await until(lambda: c._session.connected and other._session.connected)
            async with c.register("edges/two", b"again"), other.elect("decider") as next_one:
                await soon(next_one.won())
                await until(lambda: not len(c._leftovers))
                assert await other.get("edges/one") is None
                assert (await other.get("edges/two") or Versioned(b"", 0)).value == b"again"
            with pytest.raises(NoNodeError):
                await other._session.delete("/pharos/keys/edges")


@pytest.mark.asyncio
async def test_the_ephemerals_of_a_killed_process_vanish(zookeeper: Ensemble) -> None:
    body = """
async with c.register("edges/one", b"1"), c.register("edges/two", b"2"):
    say("there")
    await asyncio.sleep(60)"""
    root = unique_path()
    async with coordinator(zookeeper, root) as c, watching(c, "edges") as stream:
        with child(zookeeper, root, body) as process:
            assert await line(process) == "there"
            await shows(stream, {"edges/one": b"1", "edges/two": b"2"})
            process.kill()
            await shows(stream, {})
        async with c.register("edges/one", b"3"):
            assert await c.get("edges/one") == Versioned(b"3", 0)


# --- elections through the coordinator -----------------------------------------------------------------


@pytest.mark.asyncio
async def test_one_of_several_processes_leads_and_the_next_takes_over(zookeeper: Ensemble) -> None:
    body = 'async with c.elect("decider") as e:\n    await e.won()\n    say("leads")\n    await asyncio.sleep(60)'
    root = unique_path()
    async with coordinator(zookeeper, root) as c:
        with child(zookeeper, root, body) as process:
            assert await line(process) == "leads"
            async with c.elect("decider") as election, c.elect("other") as free:
                await soon(free.won())
                assert not election.leading
                process.kill()
                await soon(election.won())
                assert election.leading
            assert not election.leading
            await soon(election.lost())


@pytest.mark.asyncio
async def test_nothing_is_left_behind(zookeeper: Ensemble) -> None:
    async with coordinator(zookeeper, unique_path()) as c:
        before = asyncio.all_tasks()
        for _ in range(3):
            async with c.elect("decider") as election, c.register("a", b""):
                await soon(election.won())
        assert asyncio.all_tasks() == before
        assert c._session._watchers == []
        found = await c._session.children(f"{c._root}/roles/decider")
        assert found is not None
        assert found[0] == []
