"""What an edge tells of the demand for each app's port: GET /v1/demand, and what its followers take for an answer.

Counters only grow while an edge runs (`epoch`): a block that is lost, or a new connection, costs nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from mesos_dns.model import Key

PATH = "/v1/demand"
LINES = "application/x-ndjson"

ROWS = 500
"""Rows of one line at most; of more there are several lines of one block."""
MOST_LINE = 8 << 20
"""Octets of one line at most."""
MOST_KEYS = 200
"""Apps that are routed as one, at most: of more, the first are told."""

MOST_NAME = 4096
"""Characters of a name or an id. A port with a longer one is left out, for its worker does not serve it either."""

_MOST = (1 << 53) - 1
Count: TypeAlias = Annotated[int, Meta(ge=0, le=_MOST)]
Name: TypeAlias = Annotated[str, Meta(max_length=MOST_NAME)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]


class DemandRow(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A port of an app, or of the apps that are routed as one: counters since the epoch began, and figures as they are
    now. What is 0 is left out."""

    cluster_name: Annotated[str, Meta(min_length=1, max_length=MOST_NAME, description="its name at this edge")]
    keys: Annotated[
        tuple[tuple[Name, Name, Name], ...],
        Meta(max_length=MOST_KEYS, description="cluster, framework id and id of each app that it is of"),
    ]
    app: Annotated[str, Meta(max_length=MOST_NAME, description="the app, or the group, that it is routed as")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="its service port")] = 0
    mode: Literal["http", "tcp"] = "http"
    requests: Annotated[int, Meta(ge=0, le=_MOST, description="of mode tcp: connections; refused ones left out")] = 0
    status: Annotated[
        list[Count], Meta(max_length=6, description="answers by hundreds; the first: the client went away")
    ] = []
    latency: Annotated[
        list[Count],
        Meta(max_length=16, description="answers by time to their head: up to 1 ms, 2.5 ms, 5 ms … 60 s, more"),
    ] = []
    latency_sum: Annotated[float, Meta(ge=0, le=1e15, description="seconds")] = 0.0
    unavailable: Annotated[int, Meta(ge=0, le=_MOST, description="for which there was no server")] = 0
    overflow: Annotated[int, Meta(ge=0, le=_MOST, description="refused because there were too many")] = 0
    queue_timeouts: Annotated[int, Meta(ge=0, le=_MOST, description="that waited for too long")] = 0
    held_total: Annotated[int, Meta(ge=0, le=_MOST, description="that waited for the app to wake")] = 0
    hold_timeouts: Annotated[int, Meta(ge=0, le=_MOST, description="that waited for that for too long")] = 0
    active: Annotated[int, Meta(ge=0, le=_MOST, description="now, those that wait included")] = 0
    waiting: Annotated[int, Meta(ge=0, le=_MOST, description="that wait now for a server with room")] = 0
    held: Annotated[int, Meta(ge=0, le=_MOST, description="that wait now for the app to wake")] = 0

    def app_keys(self) -> list[Key]:
        """The keys of its apps in the catalog."""
        return [("app", *key) for key in self.keys]


class DemandBlock(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge counts at one time. As a stream, one a second: the first has all ports (`whole`), later ones those
    that are others than they were last told; `gone` are no longer routed."""

    edge: Annotated[str, Meta(min_length=1, max_length=200, description="which edge it is")]
    epoch: Annotated[str, Meta(min_length=1, max_length=200, description="another one: all counters began anew")]
    at: Annotated[float, Meta(ge=0, le=1e12, description="seconds since 1970")]
    uptime: Annotated[float, Meta(ge=0, le=1e12, description="seconds since the epoch began, by a steady clock")]
    n: Annotated[int, Meta(ge=0, le=_MOST, description="number of the block")]
    whole: bool = False
    more: Annotated[bool, Meta(description="a further line of this block follows")] = False
    urgent: Annotated[
        bool, Meta(description="between two blocks: of these ports alone, for which requests have begun to wait")
    ] = False
    apps: Annotated[list[DemandRow], Meta(max_length=2 * ROWS)] = []
    gone: Annotated[list[Name], Meta(max_length=1_000_000)] = []


_DECODER = msgspec.json.Decoder(DemandBlock)


def read_block(line: bytes) -> DemandBlock:
    """A line of an edge's. Raises ValueError that says what is wrong, without what may be long."""
    if len(line) > MOST_LINE:
        raise ValueError(f"a line of {len(line)} octets, more than {MOST_LINE}")
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)[:300] or type(error).__name__) from None
