"""One ephemeral on a real ZooKeeper: held, lost, taken by somebody, made anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from agent.zookeeper_registration import Make, Registration
from mesos_dns.zookeeper import NoNodeError, Session, ZooKeeperLost
from tests.system.ensemble import Ensemble
from tests.zookeeper_clients import session, unique_path, until
from tests.zookeeper_faults import drop, end_session, lose_answers


def maker(s: Session) -> Make:
    async def make(path: str, value: bytes) -> None:
        await s.create(path, value, ephemeral=True)

    return make


@contextlib.asynccontextmanager
async def keeping(s: Session, path: str, value: bytes = b"mine") -> AsyncIterator[Registration]:
    registration = Registration(s, path, value, maker(s))
    assert await registration.enter()
    task = asyncio.create_task(registration.keep())
    try:
        yield registration
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await registration.release()


async def owner(s: Session, path: str) -> int | None:
    stat = await s.exists(path)
    return stat.ephemeralOwner if stat is not None else None


async def until_owned(s: Session, path: str, by: Session) -> None:
    async with asyncio.timeout(30):
        while await owner(s, path) != by.session_id:
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_it_is_made_kept_and_removed(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        async with keeping(s, path):
            assert await owner(other, path) == s.session_id
            await drop(s)
            assert await owner(other, path) == s.session_id
            await other.set(path, b"another value", -1)
            await asyncio.sleep(0.1)
            found = await other.get(path)
            assert found is not None
            assert found[0] == b"another value", "who holds it may not be who writes it"
        assert await owner(other, path) is None


@pytest.mark.asyncio
async def test_what_somebody_removed_or_a_session_ended_is_made_anew(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other, keeping(s, path):
        for _ in range(3):
            await other.delete(path)
            await until_owned(other, path, s)
        await end_session(zookeeper, s)
        await until_owned(other, path, s)
        found = await other.get(path)
        assert found is not None
        assert found[0] == b"mine"


@pytest.mark.asyncio
async def test_what_somebody_else_holds_is_waited_for_and_logged_once(
    zookeeper: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other, session(zookeeper) as third:
        async with keeping(s, path) as registration:
            # The other one takes it in the moment in which our session has ended.
            registration._make = busy
            await end_session(zookeeper, s)
            with contextlib.suppress(NoNodeError):
                await other.delete(path)
            await other.create(path, b"theirs", ephemeral=True)
            registration._make = maker(s)
            await until(lambda: "another session holds it" in caplog.text)
            await drop(s)
            await asyncio.sleep(0.2)
            assert await owner(third, path) == other.session_id
            assert caplog.text.count("another session holds it") == 1
            await other.close()
            await until_owned(third, path, s)


async def busy(path: str, value: bytes) -> None:
    raise ZooKeeperLost("not now")


@pytest.mark.asyncio
async def test_entry_is_refused_where_somebody_is_and_nothing_of_theirs_is_removed(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.create(path, b"theirs", ephemeral=True)
        await other.create(f"{path}-stays", b"permanent")
        for taken in (path, f"{path}-stays"):
            registration = Registration(s, taken, b"mine", maker(s))
            assert not await registration.enter()
            await registration.release()
        assert await owner(s, path) == other.session_id
        assert await owner(s, f"{path}-stays") == 0


@pytest.mark.asyncio
async def test_a_create_whose_answer_was_lost_is_found_to_be_ours(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        registration = Registration(s, path, b"old", maker(s))
        with lose_answers(s, "create"), pytest.raises(ZooKeeperLost):
            await registration.enter()
        assert await owner(other, path) == s.session_id
        async with keeping(s, path, b"new"):
            found = await other.get(path)
            assert found is not None
            assert found[0] == b"new"
            with lose_answers(s, "create") as made:
                await other.delete(path)
                await until(lambda: made)
                await until_owned(other, path, s)
                await asyncio.sleep(0.5)
            assert await owner(other, path) == s.session_id
            assert made == [path]
        assert await owner(other, path) is None
