"""An app grows and shrinks with real requests, sleeps and wakes, and those who decide are killed: no request fails.

Against a real ZooKeeper; the simulated Marathon's tasks really serve. Loads lie between what two numbers of instances
take: at just what two take, it is a matter of chance whether two or three are right.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from agent.zookeeper_watch import VALUE
from lb7.autoscale.history import Recommendation
from lb7.autoscale.state import Page, digest, page_key, shard_of
from tests.system.autoscale_stage import APP, LIMIT, MOST, TARGET, Stage, stage
from tests.system.ensemble import missing
from tests.system.resolver_lab import until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(Path(tmp_path_factory.mktemp("autoscale"))) as found:
        found.create()
        until(found.leader, "somebody decides", found.told, LIMIT)
        yield found


@pytest.fixture
def client(made: Stage) -> Iterator[KazooClient]:
    """A session at the coordinator."""
    found = KazooClient(",".join(made.zookeeper))
    found.start()
    yield found
    found.stop()
    found.close()


NOTHING = (Recommendation(0.0, 0),)


def test_it_grows_and_shrinks_sleeps_and_wakes(made: Stage) -> None:
    made.load.rate = 3.7 * TARGET
    grown = made.until_running(4)
    made.served(40)
    made.load.rate = 1.5 * TARGET
    shrunk = made.until_running(2)
    made.load.rate = 0
    slept = made.until_running(0, "it sleeps")
    made.load.rate = 2
    made.served(1)
    assert made.running() >= 1
    made.served(5)
    assert not made.load.failures, made.told()
    assert set(made.load.statuses) == {200}
    print(f"grown after {grown:.1f} s, shrunk {shrunk:.1f} s, asleep {slept:.1f} s, woke in {made.load.longest:.1f} s")
    assert all(0 <= change.after <= MOST and not change.forced for change in made.changes)


def test_one_that_decides_is_killed_and_another_goes_on(made: Stage) -> None:
    made.load.rate = 1.8 * TARGET
    made.until_running(2)
    first = made.leader()
    assert first
    known = len(made.changes)
    made.load.rate = 4.7 * TARGET
    until(lambda: len(made.changes) > known, "the first change", made.told, LIMIT)
    made.programs[first].kill()
    killed = time.monotonic()
    other = {"one": "two", "two": "one"}[first]
    until(lambda: made.leader() == other, "another decides", made.told, LIMIT)
    taken_over = time.monotonic() - killed
    made.load.rate = 6 * TARGET
    made.until_running(6)
    made.served(60)
    # Each change began where the one before it had led: none was made twice.
    assert all(before.after == after.before for before, after in itertools.pairwise(made.changes[known:])), made.changes
    assert len({(change.before, change.after) for change in made.changes[known:]}) == len(made.changes[known:])
    assert not made.load.failures, made.told()
    made.programs[first].start()
    until(lambda: made.autoscale(first) is not None, "the first is back", made.told, LIMIT)
    until(lambda: made.autoscale(first)["decider"] == made.autoscale(other)["decider"], "it follows", made.told, LIMIT)
    print(f"another decided after {taken_over:.1f} s")


def test_operators_pause_and_scale(made: Stage) -> None:
    made.load.rate = 1.8 * TARGET
    made.until_running(2)
    assert _pharos(made, "scale", APP, "pause")[0] == 0
    until(lambda: _row(made)["paused"], "it is paused", made.told, LIMIT)
    made.load.rate = 4.7 * TARGET
    until(lambda: _row(made)["decision"]["reason"] == "paused", "it would grow", made.told, LIMIT)
    assert made.running() == 2
    assert _pharos(made, "scale", APP, "3", "--wait")[0] == 0
    made.until_running(3)
    assert _pharos(made, "scale", APP, "resume")[0] == 0
    made.until_running(5)
    code, text = _pharos(made, "scale", APP, "explain")
    assert code == 0
    assert f"/ {TARGET}" in text
    assert not made.load.failures, made.told()


def test_other_resources_without_a_failed_request(made: Stage) -> None:
    made.load.rate = 1.8 * TARGET
    made.until_running(2)
    until(lambda: not made.deployments(), "no deployment", made.told, LIMIT)
    before = made.marathon(lambda marathon: set(marathon.apps[APP].instances))
    assert _pharos(made, "scale", APP, "--cpus", "0.2", "--mem", "64", "--wait")[0] == 0
    assert made.marathon(lambda marathon: marathon.apps[APP].definition.cpus) == 0.2
    made.until_running(2)
    assert not before & made.marathon(lambda marathon: set(marathon.apps[APP].instances))
    made.served(20)
    assert not made.load.failures, made.told()


def test_the_bounds_were_always_kept(made: Stage) -> None:
    made.load.rate = 20 * TARGET
    made.until_running(MOST)
    until(lambda: _row(made)["decision"]["reason"] == "maximum", "it is at its maximum", made.told, LIMIT)
    assert math.inf > max(change.after for change in made.changes) <= MOST
    assert not made.load.failures, made.told()


def test_a_window_goes_on_where_another_decides(made: Stage, client: KazooClient) -> None:
    app, window = "/shop/slow", 20.0
    labels = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "slow.example.test", "PHAROS_SCALE_RPS": str(TARGET)}
    made.create(1, app, **labels, PHAROS_SCALE_MAX="4", PHAROS_SCALE_DOWN_WINDOW=f"{window:g}s")
    load = made.load_of("slow.example.test", 3.6 * TARGET)
    made.until_running(4, app=app)
    load.rate = 0.5 * TARGET
    until(lambda: _stored(client, made, app)[-1].instances == 1, "it is stored that 1 would do", made.told, LIMIT)
    first = made.leader()
    made.programs[first].kill()
    last = max(each.at for each in _stored(client, made, app) if each.instances == 4)
    until(lambda: made.leader() not in ("", first), "another decides", made.told, LIMIT)
    taken_over = time.time()
    made.until_running(1, app=app)
    shrunk = next(change for change in made.changes if change.app == app and change.after < change.before)
    # Not at once, and not after a window of its own: when the window of the one before it was over.
    assert last + window <= shrunk.at < taken_over + window
    assert set(load.statuses) == {200}, load.failures
    made.programs[first].start()


def _stored(client: KazooClient, made: Stage, app: str) -> tuple[Recommendation, ...]:
    """What was right lately, as the coordinator has it for whoever decides next."""
    key = ("app", "mesos", made.marathon(lambda marathon: marathon.framework.id), app)
    try:
        value, _ = client.get(f"/pharos/keys/{page_key(shard_of(digest(key)))}/{VALUE}")
    except NoNodeError:
        return NOTHING
    records = {record.key: record for record in msgspec.json.decode(value, type=Page).apps}
    return (NOTHING + records[key].history.recommendations)[-10:] if key in records else NOTHING


def _row(made: Stage) -> Any:
    """What the one that decides tells of the app."""
    until(made.leader, "somebody decides", made.told, LIMIT)
    return next(row for row in made.autoscale(made.leader())["apps"] if row["app"] == APP)


def _pharos(made: Stage, *words: str) -> tuple[int, str]:
    """A command of `pharos` against a server that may not be the one that decides."""
    until(made.leader, "somebody decides", made.told, LIMIT)
    name = {"one": "two", "two": "one"}[made.leader()]
    command = [sys.executable, "-m", "agent", *words, "--admin", made.admin(name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr
