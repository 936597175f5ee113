"""The mirror of a part of ZooKeeper's tree, against a real server: every change, bounded reads, nothing lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from mesos_dns.zookeeper import NodeExistsError, NoNodeError, Session, Stat
from mesos_dns.zookeeper_tree import MAX_DEPTH, Kind, Tree
from tests.system.ensemble import Ensemble, ensemble
from tests.zookeeper_clients import session, unique_path, until


class Mirror:
    """A reader: names with a dash are leaves, those with an x are passed over, all else is looked into."""

    def __init__(self) -> None:
        self.leaves: dict[str, bytes] = {}
        self.told = 0
        self.completed = 0
        self.complaints: list[str] = []

    def kind(self, parent: str, name: str) -> Kind:
        if "x" in name:
            return Kind.IGNORED
        return Kind.LEAF if "-" in name else Kind.BRANCH

    def leaf(self, path: str, data: bytes, stat: Stat) -> None:
        assert stat.dataLength == len(data)
        self.leaves[path] = data
        self.told += 1

    def gone(self, path: str) -> None:
        self.leaves.pop(path, None)
        self.told += 1

    def complete(self) -> None:
        self.completed += 1


def mirror(s: Session, root: str, **limits: int) -> tuple[Mirror, Tree]:
    reader = Mirror()
    tree = Tree(s, root, reader, reader.complaints.append, **limits)
    tree.start()
    return reader, tree


@pytest.mark.asyncio
async def test_what_is_there_and_every_change(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.ensure(f"{root}/a/b")
        await other.create(f"{root}/a/b/m-1", b"1")
        await other.create(f"{root}/a/xx")
        reader, tree = mirror(s, root)
        await until(lambda: reader.completed)
        assert reader.leaves == {f"{root}/a/b/m-1": b"1"}
        assert tree.present
        await other.set(f"{root}/a/b/m-1", b"2", -1)
        await until(lambda: reader.leaves == {f"{root}/a/b/m-1": b"2"})
        await other.create(f"{root}/m-2", b"3")
        await other.ensure(f"{root}/c/d/e")
        await other.create(f"{root}/c/d/e/m-3", b"4")
        await until(lambda: len(reader.leaves) == 3)
        await other.delete(f"{root}/m-2")
        await other.delete(f"{root}/c/d/e/m-3")
        await other.delete(f"{root}/c/d/e")
        await until(lambda: reader.leaves == {f"{root}/a/b/m-1": b"2"})
        assert "branches=" in repr(tree)
        await tree.close()
        await other.delete(f"{root}/a/b/m-1")
        await asyncio.sleep(0.1)
        assert len(reader.leaves) == 1, "a closed tree tells nothing"


@pytest.mark.asyncio
async def test_a_branch_that_is_made_again_between_two_reads(
    zookeeper: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.ensure(f"{root}/a")
        children = s.children
        deleted, remade = asyncio.Event(), asyncio.Event()

        async def read(path: str, watch: bool = False) -> tuple[list[str], Stat] | None:
            if path == root and deleted.is_set():
                await remade.wait()  # so its list never lacks the branch
            if path != f"{root}/a" or deleted.is_set():
                return await children(path, watch=watch)
            deleted.set()
            await other.delete(path)
            found = await children(path, watch=watch)  # it is not there, so that no watch is left
            await other.ensure(path)
            remade.set()
            return found

        monkeypatch.setattr(s, "children", read)
        reader, tree = mirror(s, root)
        await remade.wait()
        await until(lambda: reader.completed)
        await other.create(f"{root}/a/m-1", b"1")
        await until(lambda: reader.leaves == {f"{root}/a/m-1": b"1"})
        await tree.close()


@pytest.mark.asyncio
async def test_a_root_that_comes_and_goes(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        reader, tree = mirror(s, f"{root}/a")
        await until(lambda: reader.completed)
        assert not tree.present
        for _ in range(2):
            await other.ensure(f"{root}/a")
            await other.create(f"{root}/a/m-1", b"1")
            await until(lambda: reader.leaves == {f"{root}/a/m-1": b"1"})
            assert tree.present
            await other.delete(f"{root}/a/m-1")
            await other.delete(f"{root}/a")
            await until(lambda: not tree.present and not reader.leaves)
        await tree.close()


@pytest.mark.asyncio
async def test_a_leaf_made_again_under_its_name_is_new(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.ensure(root)
        reader, tree = mirror(s, root)
        await until(lambda: reader.completed)
        for number in range(20):
            await other.create(f"{root}/m-1", str(number).encode())
            if number % 3 == 0:
                await until(lambda: reader.leaves)
            await other.delete(f"{root}/m-1")
        await other.create(f"{root}/m-1", b"last")
        await until(lambda: reader.leaves == {f"{root}/m-1": b"last"})
        await tree.close()


@pytest.mark.asyncio
async def test_random_changes_with_lost_connections_end_in_the_same_tree(zookeeper: Ensemble) -> None:
    root, dice = unique_path(), random.Random(5)
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.ensure(root)
        reader, tree = mirror(s, root, window=4)
        folders = [f"{root}/{name}" for name in "abc"]
        for step in range(400):
            folder = dice.choice(folders)
            path = f"{folder}/m-{dice.randrange(8)}"
            try:
                if dice.random() < 0.5:
                    await other.ensure(folder)
                    await other.create(path, str(step).encode())
                elif dice.random() < 0.5:
                    await other.delete(path)
                else:
                    await other.set(path, str(step).encode(), -1)
            except (NodeExistsError, NoNodeError):
                pass
            if step % 50 == 25 and s._threads is not None:
                s._threads.drop()
        expected = {}
        for folder in folders:
            names = await other.children(folder)
            for name in names[0] if names is not None else []:
                found = await other.get(f"{folder}/{name}")
                assert found is not None
                expected[f"{folder}/{name}"] = found[0]
        await until(lambda: reader.leaves == expected)
        assert s.connection > 1
        await tree.close()


@pytest.mark.asyncio
async def test_reads_are_proportional_to_changes(zookeeper: Ensemble) -> None:
    root, members = unique_path(), 300
    async with session(zookeeper) as s, session(zookeeper) as other:
        await other.ensure(root)
        await asyncio.gather(*(other.create(f"{root}/m-{n}") for n in range(members)))
        reader, tree = mirror(s, root)
        await until(lambda: reader.completed)
        before = s.requests
        for n in range(50):
            await other.create(f"{root}/n-{n}")
            await until(lambda n=n: f"{root}/n-{n}" in reader.leaves)  # type: ignore[misc]
        per_change = (s.requests - before) / 50
        assert per_change < 2.5, "one list and one read for each new member (and now and then a probe)"
        await tree.close()


@pytest.mark.asyncio
async def test_nothing_is_gone_because_the_ensemble_is_away(tmp_path: Path) -> None:
    with ensemble(tmp_path) as servers:
        async with session(servers, session_timeout=3.0) as s:
            await s.ensure("/a")
            await s.create("/a/m-1", b"1")
            reader, tree = mirror(s, "/a")
            await until(lambda: reader.completed == 1)
            servers.servers[0].kill()
            await asyncio.sleep(1.5)
            assert reader.leaves == {"/a/m-1": b"1"}
            servers.servers[0].start()
            await until(lambda: reader.completed == 2)
            assert (reader.leaves, reader.told) == ({"/a/m-1": b"1"}, 1), "only differences are told"
            await tree.close()


@pytest.mark.asyncio
async def test_limits_leave_the_rest_out_and_say_so(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper) as s:
        deep = root + "/d" * MAX_DEPTH
        await s.ensure(deep)
        await s.create(f"{deep}/m-1")
        await asyncio.gather(*(s.create(f"{root}/m-{n}") for n in range(30)))
        reader, tree = mirror(s, root, limit=20)
        await until(lambda: reader.completed)
        assert len(tree) == 20
        assert tree.overflow
        assert any("more than 20 znodes" in complaint for complaint in reader.complaints)
        await tree.close()
        reader, tree = mirror(s, root)
        await until(lambda: reader.completed)
        assert any(f"more than {MAX_DEPTH} levels" in complaint for complaint in reader.complaints)
        await tree.close()


@pytest.mark.asyncio
async def test_what_may_not_be_read_costs_only_itself(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper, auth="digest", principal="bob", secret="s3cret") as owner, session(zookeeper) as s:
        await s.ensure(root)
        await owner.create(f"{root}/m-1", b"secret")
        await s.create(f"{root}/m-2", b"open")
        reader, tree = mirror(s, root)
        await until(lambda: reader.completed)
        assert reader.leaves == {f"{root}/m-2": b"open"}
        assert reader.complaints == [f"ZooKeeper: the ACL of {root}/m-1 does not let us read it"]
        await tree.close()


@pytest.mark.asyncio
async def test_what_changes_all_the_time_does_not_put_off_the_first_picture(zookeeper: Ensemble) -> None:
    root = unique_path()
    async with session(zookeeper) as s:
        await s.ensure(root)
        for name in ("m-1", "m-2", "m-3"):
            await s.create(f"{root}/{name}", b"1")
        reader, tree = mirror(s, root, window=1)

        async def change_all_the_time() -> None:
            while not reader.leaves:
                await asyncio.sleep(0)
            busy = next(iter(reader.leaves))
            while True:
                tree.touched(busy)
                await asyncio.sleep(0)

        changing = asyncio.create_task(change_all_the_time())
        try:
            await until(lambda: reader.completed, 10)
        finally:
            changing.cancel()
        assert len(reader.leaves) == 3
        await tree.close()
