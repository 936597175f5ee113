"""How busy each task of an app is at one edge, from its /v1/routes; and all edges together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from lb7.autoscale.edge_client import EdgeClient, EdgeError
from lb7.autoscale.provider import Loads

PATH = "/v1/routes"
KIND = "application/json"
LIMIT = 5.0
"""Seconds for one answer."""
MOST = 32 << 20
"""Octets of one answer at most."""


class _Server(msgspec.Struct, gc=False):
    state: Annotated[str, Meta(max_length=100)]
    address: Annotated[str, Meta(max_length=300)] = ""
    task: Annotated[str, Meta(max_length=1000)] = ""
    active: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    counted: bool = True


class _Row(msgspec.Struct, gc=False):
    app: str = ""
    port: int = 0
    servers: list[_Server] = []


_DECODER = msgspec.json.Decoder(list[_Row])


class EdgeLoads(msgspec.Struct):
    """One edge's: requests and states of its servers, by task; `complete`: it knows all that they have."""

    active: dict[str, int] = {}
    states: dict[str, set[str]] = {}
    complete: bool = True


async def ask(client: EdgeClient, apps: Iterable[str]) -> EdgeLoads:
    """Ask an edge about the apps, or groups, that something is routed as there. Raises EdgeError."""
    whole = EdgeLoads({}, {})
    try:
        async with asyncio.timeout(LIMIT):
            for app in sorted(apps):
                body = bytearray()
                async with client.get(PATH, KIND, {"app": app}) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > MOST:
                            raise EdgeError("malformed", f"an answer of more than {MOST} octets")
                read(bytes(body), app, whole)
    except TimeoutError:
        raise EdgeError("timeout", f"no answer within {LIMIT:g} s") from None
    return whole


def read(body: bytes, app: str, into: EdgeLoads) -> None:
    """Take an answer in. A server is in the rows of several listeners, and counts once. Raises EdgeError."""
    try:
        rows = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EdgeError("malformed", f"its routes are malformed: {str(error)[:300]}") from None
    busy: dict[tuple[int, str, str], int] = {}
    for row in rows:
        for server in row.servers if row.app == app else ():
            if server.task:
                place = row.port, server.address, server.task
                busy[place] = max(busy.get(place, 0), server.active)
                into.states.setdefault(server.task, set()).add(server.state)
                into.complete = into.complete and server.counted
    for (_, _, task), active in busy.items():
        into.active[task] = into.active.get(task, 0) + active


def together(told: Iterable[EdgeLoads], complete: bool) -> Loads:
    """What several edges said. A task drains where no edge says otherwise. An edge whose check of it fails says that it
    is down, whether it drains there or not; one that waits for it to answer first (waking) would send to it."""
    active: dict[str, int] = {}
    states: dict[str, set[str]] = {}
    for each in told:
        complete = complete and each.complete
        for task, number in each.active.items():
            active[task] = active.get(task, 0) + number
        for task, found in each.states.items():
            states.setdefault(task, set()).update(found)
    draining = frozenset(task for task, found in states.items() if found == {"draining"})
    down = frozenset(task for task, found in states.items() if "down" in found <= {"draining", "down"})
    return Loads(active, draining, complete, down)
