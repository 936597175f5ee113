"""The shape of JSON: which paths there are and which types stand there; and the recordings to compare with."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "data" / "mesos-api"
Shape = dict[str, set[str]]


def shape(*documents: Any) -> Shape:
    """Path → types of all the documents together; members of lists have the path `[]`."""
    found: Shape = {}
    for document in documents:
        for path, kind in _walk(document, ""):
            found.setdefault(path, set()).add(kind)
    return found


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    yield path, type(value).__name__
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _walk(member, f"{path}.{key}")
    elif isinstance(value, list):
        for member in value:
            yield from _walk(member, f"{path}[]")


def unknown(simulated: Shape, recorded: Shape) -> dict[str, str]:
    """What the simulation has and no recording: path → types."""
    extra = {path: sorted(kinds - recorded.get(path, set())) for path, kinds in simulated.items()}
    return {path: ",".join(kinds) for path, kinds in extra.items() if kinds}


def recording(name: str) -> Any:
    """A recorded JSON document."""
    path = DATA / name
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


def recordio(data: bytes) -> list[dict[str, Any]]:
    """The records of a RecordIO stream."""
    found = []
    at = 0
    while at < len(data):
        newline = data.index(b"\n", at)
        end = newline + 1 + int(data[at:newline])
        found.append(json.loads(data[newline + 1 : end]))
        at = end
    return found


def stream(name: str) -> list[dict[str, Any]]:
    """The events of a recorded stream: main, extras or variants."""
    return recordio(gzip.decompress((DATA / f"{name}.recordio.gz").read_bytes()))


def told(events: list[dict[str, Any]]) -> list[str]:
    """Events in short: kind, and of tasks the state, who says it, the reason and whether health is said.

    What belongs together in any order (the tasks of one agent) is not sorted: both sides give one
    line per task, and tasks look alike here.
    """
    return [_short(event) for event in events if event["type"] != "HEARTBEAT"]


def _short(event: dict[str, Any]) -> str:
    kind = event["type"]
    if kind == "TASK_ADDED":
        task = event["task_added"]["task"]
        return f"{kind} {task['state']} {'with' if task.get('statuses') else 'without'} statuses"
    if kind == "TASK_UPDATED":
        status = event["task_updated"]["status"]
        facts = [kind, event["task_updated"]["state"], status["source"], status.get("reason", "-")]
        facts += [key for key in ("healthy", "uuid", "executor_id", "container_status") if key in status]
        facts += [key for key in ("message", "unreachable_time") if key in status]
        return " ".join(facts)
    return kind
