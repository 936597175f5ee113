"""What the workers of a ZooKeeper storm wrote down, and what must be true of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system.zookeeper_worker import COUNTER


class Stop(NamedTuple):
    """A time in which a worker was stopped: from before SIGSTOP was sent until it had gone on."""

    worker: str
    begin: int
    end: int


class Tenure(NamedTuple):
    """One time of leading: from the first act's start to the last one's end, with nobody else in between."""

    worker: str
    name: str
    begin: int
    end: int
    acts: int


def last_act(folder: Path, worker: str) -> int:
    """When a worker's last act ended; 0 for none."""
    lines = _lines(folder / f"{worker}.acts", tail=200)
    return int(lines[-1].split()[2]) if lines else 0


def tenures(folder: Path, workers: Sequence[str], stops: Sequence[Stop] = ()) -> list[Tenure]:
    """All tenures by their begin.

    An act within which its worker was stopped ends there: nothing can stop a process between the
    question whether it leads and the act itself, save what put_if protects.
    """
    found: dict[tuple[str, str], Tenure] = {}
    for worker in workers:
        own = [stop for stop in stops if stop.worker == worker]
        for line in _lines(folder / f"{worker}.acts"):
            name, *times = line.split()
            begin, end = map(int, times)
            end = min([end, *(stop.begin for stop in own if begin <= stop.begin <= end)])
            before = found.get((worker, name), Tenure(worker, name, begin, end, 0))
            found[worker, name] = before._replace(end=end, acts=before.acts + 1)
    return sorted(found.values(), key=lambda tenure: tenure.begin)


def overlaps(found: Sequence[Tenure]) -> list[str]:
    """Where two workers led at the same time, in words."""
    wrong = []
    for number, one in enumerate(found):
        for two in found[number + 1 :]:
            if two.begin > one.end:
                break
            if two.worker != one.worker:
                both = (min(one.end, two.end) - two.begin) / 1e9
                wrong.append(f"{one.worker} ({one.name}) and {two.worker} ({two.name}) led together for {both:.3f} s")
    return wrong


def gaps(found: Sequence[Tenure]) -> list[float]:
    """Seconds without a leader at each change from one worker to another."""
    return [(two.begin - one.end) / 1e9 for one, two in itertools.pairwise(found) if one.worker != two.worker]


def wrong_changes(folder: Path, workers: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    """Acknowledged changes that are not there, and values there that nobody wrote, in words."""
    kept, tried = (
        [tuple(line.split()) for worker in workers for line in _lines(folder / f"{worker}.{what}")]
        for what in ("kept", "tried")
    )
    times = Counter(kept)
    wrong = [f"{change} was acknowledged {count} times" for change, count in times.items() if count > 1]
    for key, value in kept:
        if key != COUNTER and keys.get(key) != value:
            wrong.append(f"{key}: {value} was acknowledged, {keys.get(key)} is there")
    possible = set(tried)
    wrong += [
        f"{key}: nobody wrote {value}"
        for key, value in keys.items()
        if key.startswith("alloc/") and (key, value) not in possible
    ]
    least, most = (sum(key == COUNTER for key, _ in changes) for changes in (kept, tried))
    if not least <= int(keys.get(COUNTER, "0")) <= most:
        wrong.append(f"count: {least} times acknowledged and {most} times tried, but it is {keys.get(COUNTER)}")
    return wrong


def acknowledged(folder: Path, workers: Sequence[str]) -> int:
    """How many changes were."""
    return sum(len(_lines(folder / f"{worker}.kept")) for worker in workers)


def _lines(path: Path, tail: int = 0) -> list[str]:
    """Whole lines of a file; with `tail`, of its last bytes only. A killed writer may leave half a line."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - tail) if tail else 0)
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data.decode().split("\n")[:-1]
    return lines[1:] if tail and size > tail else lines
