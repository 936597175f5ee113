"""Elections on a real ZooKeeper: one leader at a time, whatever ends the old one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.zookeeper_election import LEASE, RENEW, ZooKeeperElection
from agent.zookeeper_lease import boottime
from mesos_dns.zookeeper import NoAuthError, Session, ZooKeeperLost
from tests.coordinator_clients import soon
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until
from tests.zookeeper_faults import drop, end_session, lose_answers

TIME = 2.0
"""Session time of those whose lease is waited for."""


class Moved:
    """The clock of a process that was stopped for `by` seconds."""

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self) -> float:
        return boottime() + self.by


def stopped_clock() -> Callable[[], float]:
    """One that stands still: by it no lease ever runs out, and none is ever waited out."""
    now = boottime()
    return lambda: now


@contextlib.asynccontextmanager
async def standing(s: Session, folder: str, clock: Callable[[], float] = boottime) -> AsyncIterator[ZooKeeperElection]:
    election = ZooKeeperElection(s, folder, clock)
    task = asyncio.create_task(election.stand())
    try:
        yield election
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not election.leading
        with contextlib.suppress(ZooKeeperLost):
            await election.withdraw()


@contextlib.asynccontextmanager
async def in_line(
    s: Session, other: Session, folder: str, clock: Callable[[], float] = boottime
) -> AsyncIterator[tuple[ZooKeeperElection, ZooKeeperElection]]:
    """A leader, and one that waits behind it. `clock`: the leader's."""
    async with standing(s, folder, clock) as leader:
        await soon(leader.won())
        async with standing(other, folder) as second:
            await until(lambda: len(second._watched) == 2)
            yield leader, second


async def candidates(s: Session, folder: str) -> list[str]:
    found = await s.children(folder)
    return sorted(found[0], key=lambda name: name[-10:]) if found is not None else []


async def claim(s: Session, folder: str) -> str:
    found = await s.get(folder)
    return str(msgspec.json.decode(found[0])["candidate"]) if found is not None and found[0] else ""


async def version(s: Session, path: str) -> int:
    stat = await s.exists(path)
    assert stat is not None
    return int(stat.version)


# --- one leads -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_one_leads_and_hands_over_at_once(zookeeper: Ensemble) -> None:
    folder = unique_path() + "/roles/decider"
    # By the second one's clock a hand-over which waited for the leader's lease would never end.
    async with session(zookeeper) as one, session(zookeeper) as two:
        async with contextlib.AsyncExitStack() as first:
            leader = await first.enter_async_context(standing(one, folder))
            await soon(leader.won())
            async with standing(two, folder, stopped_clock()) as second:
                await second.lost()  # does not lead: nothing to wait for
                await until(lambda: len(second._watched) == 2)
                assert (leader.leading, second.leading) == (True, False)
                assert await claim(two, folder) == (await candidates(two, folder))[0]
                await first.aclose()
                assert not leader.leading
                await soon(leader.lost())
                await soon(second.won())
                assert repr(second) == "<Election decider leading=True>"
        assert await claim(one, folder) == ""
        assert await candidates(one, folder) == []


@pytest.mark.asyncio
async def test_the_lease_is_written_and_leading_goes_on(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s, standing(s, folder) as election:
        await soon(election.won())
        (name,) = await candidates(s, folder)
        began, versions = boottime(), [await version(s, f"{folder}/{name}")]
        while versions[-1] < versions[0] + 5:
            assert election.leading
            await asyncio.sleep(0.05)
            versions.append(await version(s, f"{folder}/{name}"))
        # The first may have been under way, and whoever was stopped sees several at once.
        pace = (boottime() - began) / (4.0 * RENEW)
        assert versions[-1] - versions[0] <= pace + 2, "one write per sixth of the session's time"


@pytest.mark.asyncio
async def test_candidates_watch_the_one_before_them_alone_and_a_tail_moves_up(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s, contextlib.AsyncExitStack() as stack:
        line = []
        for number in range(4):
            context = standing(s, folder)
            line.append((context, await context.__aenter__()))
            while len(line[number][1]._watched) != (2 if number else 1):
                await asyncio.sleep(0.005)
        names = await candidates(s, folder)
        for number in range(1, 4):
            assert line[number][1]._watched == {f"{folder}/{names[number]}", f"{folder}/{names[number - 1]}"}
        await line[1][0].__aexit__(None, None, None)  # the second gives up: the third moves up behind the first
        await until(lambda: line[2][1]._watched == {f"{folder}/{names[2]}", f"{folder}/{names[0]}"})
        assert [election.leading for _, election in line] == [True, False, False, False]
        await line[0][0].__aexit__(None, None, None)
        await soon(line[2][1].won())
        assert not line[3][1].leading
        for number in (2, 3):
            stack.push_async_exit(line[number][0])


# --- what ends leading ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_process_that_stood_still_does_not_believe_that_it_leads(zookeeper: Ensemble) -> None:
    folder, clock = unique_path(), Moved()
    async with session(zookeeper) as s, standing(s, folder, clock) as election:
        await soon(election.won())
        losing = asyncio.create_task(election.lost())
        await asyncio.sleep(0)
        clock.by += 4.0 * LEASE
        assert not election.leading  # asked before anything else could run
        await soon(losing)
        await soon(election.won())  # its session had not ended after all: a fresh write proves that
        assert election.leading


@pytest.mark.asyncio
async def test_a_lost_connection_ends_leading_at_once_and_the_same_session_goes_on(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        async with in_line(s, other, folder) as (election, next_one):
            before, identity = await candidates(s, folder), s.session_id
            losing = asyncio.create_task(election.lost())
            states = []
            s.attach(spy := Spy(lambda: states.append((s.connected, election.leading))))
            await drop(s)
            await soon(losing)
            await soon(election.won())
            s.detach(spy)
            assert states[0] == (False, False)
            assert s.session_id == identity
            assert await candidates(s, folder) == before
            assert not next_one.leading


class Spy:
    """A watcher that is told after those who were there before it."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.told = told

    def touched(self, path: str) -> None:
        pass

    def state_changed(self) -> None:
        self.told()


@pytest.mark.asyncio
async def test_an_ended_session_leads_on_with_a_new_candidate_at_the_end_of_the_line(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper, session_timeout=TIME) as s, session(zookeeper) as other:
        async with in_line(s, other, folder) as (election, next_one):
            old = await candidates(s, folder)
            await end_session(zookeeper, s)
            assert not election.leading
            await soon(next_one.won())
            assert not election.leading
            await until(lambda: len(election._watched) == 2)
            now = await candidates(s, folder)
            assert now[0] == old[1]
            assert now[1][:32] == old[0][:32]
            assert now[1] != old[0]
        async with standing(s, folder) as alone:
            await soon(alone.won())
            began = boottime()
            await end_session(zookeeper, s)
            await soon(alone.won())
            assert alone.leading
            assert boottime() - began < 20


@pytest.mark.asyncio
async def test_a_removed_znode_ends_leading_and_its_successor_waits_for_the_lease(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper, session_timeout=TIME) as s, session(zookeeper) as other:
        async with in_line(s, other, folder, stopped_clock()) as (election, next_one):
            first, _ = await candidates(other, folder)
            began = boottime()
            await other.delete(f"{folder}/{first}")
            await soon(election.lost())  # by the watch: by its own clock the lease goes on
            await soon(next_one.won())
            assert boottime() - began >= TIME * LEASE
            assert not election.leading


@pytest.mark.asyncio
async def test_a_leader_that_is_not_told_anything_has_stopped_when_the_next_one_starts(zookeeper: Ensemble) -> None:
    # The worst case: the znode is gone, and neither the watch nor the answers reach the leader.
    folder = unique_path()
    async with session(zookeeper, session_timeout=TIME) as s, session(zookeeper) as other:
        async with in_line(s, other, folder) as (election, next_one):
            first, _ = await candidates(other, folder)
            election._watched.clear()
            s.set = hang  # type: ignore[method-assign,assignment]
            await other.delete(f"{folder}/{first}")
            assert election.leading, "or this tests nothing"
            await soon(next_one.won())
            assert not election.leading
            del s.set


async def hang(*_: object) -> None:
    await asyncio.sleep(3600)


@pytest.mark.asyncio
async def test_a_write_that_finds_no_znode_ends_leading(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s, standing(s, folder) as election:
        await soon(election.won())
        election._watched.clear()  # no watch tells it
        losing = asyncio.create_task(election.lost())
        (name,) = await candidates(s, folder)
        await s.delete(f"{folder}/{name}")
        await soon(losing)
        await soon(election.won())
        assert await candidates(s, folder) != [name]


@pytest.mark.asyncio
async def test_a_refused_write_ends_leading_and_is_logged_once(
    zookeeper: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    folder = unique_path()
    login: dict[str, Any] = {"auth": "digest", "principal": "bob", "secret": "s3cret"}
    async with session(zookeeper, **login) as s, session(zookeeper) as stranger:
        async with standing(s, folder) as election:
            await soon(election.won())
            refused = ZooKeeperElection(stranger, folder)
            task = asyncio.create_task(refused.stand())
            await until(lambda: "the ACL does not allow it" in caplog.text)
            assert not refused.leading
            with pytest.raises(NoAuthError):
                await refused.withdraw()
            task.cancel()
            await asyncio.wait([task])
            assert election.leading
            assert caplog.text.count("is impaired") == 1


@pytest.mark.asyncio
async def test_a_claim_that_can_not_be_read_is_waited_out(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper, session_timeout=TIME) as s:
        await s.create(folder, b"who wrote this?")
        began = boottime()
        async with standing(s, folder) as election:
            await soon(election.won())
            assert boottime() - began >= TIME * LEASE


# --- answers that are lost -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_candidate_whose_create_was_lost_is_found_again(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s:
        await s.ensure(folder)
        with lose_answers(s, "create") as made:
            async with standing(s, folder) as election:
                await soon(election.won())
                assert [f"{folder}/{name}" for name in await candidates(s, folder)] == made


@pytest.mark.asyncio
async def test_a_lost_answer_to_a_claim_or_a_write_costs_a_moment(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s:
        with lose_answers(s, "set", 2) as written:
            async with standing(s, folder) as election:
                await soon(election.won())
                assert len(written) == 2
                assert len(await candidates(s, folder)) == 1


@pytest.mark.asyncio
async def test_an_own_candidate_of_an_earlier_session_is_removed(zookeeper: Ensemble) -> None:
    folder = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as old:
        election = ZooKeeperElection(s, folder)
        await s.ensure(folder)
        await old.create(f"{folder}/{election._uuid}-", ephemeral=True, sequence=True)
        await s.create(f"{folder}/somebody-else")
        task = asyncio.create_task(election.stand())
        await soon(election.won())
        assert len(await candidates(s, folder)) == 2
        task.cancel()
        await asyncio.wait([task])
        await election.withdraw()
        assert await candidates(s, folder) == ["somebody-else"]
        await election.withdraw()


@pytest.mark.asyncio
async def test_without_a_connection_one_stands_as_soon_as_there_is_one(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        (server,) = servers.servers
        async with session(servers, session_timeout=TIME) as s, standing(s, "/roles/decider") as election:
            await soon(election.won())
            server.kill()
            await soon(election.lost())
            await until(lambda: not s.connected)
            server.start()
            await soon(election.won())
            server.kill()
            await until(lambda: not s.connected)
            assert not election.leading
            server.wipe()
            server.start()
            await soon(election.won())
