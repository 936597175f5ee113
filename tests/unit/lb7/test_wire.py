"""Messages: each is read as it was written, and large things go in parts that are whole together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from lb7.settings import Settings
from lb7.table import Cluster, HostRules, Listener, RouteRule, Server, TableDelta
from lb7.wire import (
    DOWN,
    MOST_ENTRY,
    MOST_KEY,
    PART_OCTETS,
    PART_OF_CERTIFICATES,
    UP,
    Applied,
    Apply,
    Ask,
    Certificate,
    Certificates,
    Configure,
    Counters,
    Down,
    Drain,
    Fault,
    Held,
    Hello,
    Listen,
    Log,
    Mark,
    Ready,
    Told,
    Unlisten,
    Up,
    certificate_parts,
    encode,
    parts,
)

CLUSTER = Cluster("/a:1", "/a", 1, (Server("10.0.0.1:80", "10.0.0.1", 80),))
DELTA = TableDelta(
    {"http": Listener("http", "http", (":80",)), "gone": None},
    {("http", "a.example"): HostRules(routes=(RouteRule(cluster="/a:1"),)), ("http", "gone"): None},
    {"/a:1": CLUSTER, "/gone:1": None},
)


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, Settings(max_head=2048)),
        Configure(Settings()),
        Certificates((Certificate("a.pem", ("a.example",), b"\xff"),), ("a.pem",)),
        Apply(DELTA, True),
        Listen("http", 1, 2),
        Unlisten("http", 1),
        Mark(7),
        Ask(1, ("/a:1",)),
        Drain(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_goes_down(message: Down) -> None:
    assert DOWN.decode(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Ready(1),
        Applied(1),
        Counters({"a": 1, "b": 1.5, "c": [1, 2]}, {"http": {"d": 1}}, [("/a:1", b"\0\xff")], {"open": 1}),
        Held(("/a:1", "/b:1")),
        Told(1, {"/a:1": [{"id": "a", "active": 1, "latency": 0.5}]}),
        Log([{"path": "/", "status": 200}], 3),
        Fault("listener http", "text"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_goes_up(message: Up) -> None:
    assert UP.decode(encode(message)) == message


def test_each_end_refuses_what_the_other_is_to_say() -> None:
    with pytest.raises(msgspec.ValidationError):
        DOWN.decode(encode(Ready(1)))
    with pytest.raises(msgspec.ValidationError):
        UP.decode(encode(Drain()))


class Refused:
    """What can't be told."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Any, str]] = []

    def __call__(self, kind: str, key: Any, value: Any, why: str) -> None:
        self.found.append((kind, key, why))


def joined(cut: Iterable[Apply]) -> TableDelta:
    whole = TableDelta({}, {}, {})
    for part in cut:
        whole.listeners.update(part.delta.listeners)
        whole.hosts.update(part.delta.hosts)
        whole.clusters.update(part.delta.clusters)
    return whole


def test_a_small_delta_is_one_message() -> None:
    refused = Refused()
    assert list(parts(DELTA, refused)) == [Apply(DELTA)]
    assert list(parts(TableDelta(), refused)) == [Apply(TableDelta())]
    assert not refused.found


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_large_delta_is_cut_and_whole_again(most: int) -> None:
    cut = list(parts(DELTA, Refused(), most))
    assert [part.more for part in cut] == [True] * (len(cut) - 1) + [False]
    for part in cut:
        assert len(part.delta.clusters) + len(part.delta.hosts) + len(part.delta.listeners) <= most
    assert joined(cut) == DELTA


def test_a_delta_is_cut_by_its_octets() -> None:
    """A few hundred entries may be much."""
    hosts: dict[tuple[str, str], HostRules | None] = {
        ("http", f"{number}.example"): HostRules(routes=(RouteRule(cluster=str(number) * 20_000),))
        for number in range(100)
    }
    delta = TableDelta({}, hosts, {})
    cut = list(parts(delta, Refused()))
    assert max(len(encode(part)) for part in cut) < PART_OCTETS + 1000
    assert len(cut) < 10
    assert joined(cut) == delta


def test_what_can_not_be_told_is_gone_and_nothing_else_is() -> None:
    """No cluster is too large, nor any text, for others to be told."""
    large = HostRules(routes=(RouteRule(cluster="x" * MOST_ENTRY),))
    whole = TableDelta(
        {"http": Listener("http", "http", (":80",))},
        {("http", "large"): large, ("http", "a.example"): HostRules(), ("http", "odd\ud800"): HostRules()},
        {"/odd:1": Cluster("/odd:1", "/odd\ud800", 1), "/a:1": CLUSTER, "l" * MOST_KEY: CLUSTER},
    )
    refused = Refused()
    got = joined(DOWN.decode(encode(part)) for part in parts(whole, refused))  # type: ignore[misc]
    assert got == TableDelta(
        whole.listeners,
        {("http", "large"): HostRules(), ("http", "a.example"): HostRules()},
        {"/odd:1": None, "/a:1": CLUSTER},
    ), "and a host falls back on no other host's rules"
    assert [(kind, key) for kind, key, _ in refused.found] == [
        ("clusters", "/odd:1"),
        ("clusters", "l" * MOST_KEY),
        ("hosts", ("http", "large")),
        ("hosts", ("http", "odd\ud800")),
    ]
    assert "octets" in refused.found[2][2]


@pytest.mark.parametrize("count", [0, 1, PART_OF_CERTIFICATES, PART_OF_CERTIFICATES + 1])
def test_certificates_are_cut_and_named_at_the_end(count: int) -> None:
    changed = tuple(Certificate(str(number), (), b"") for number in range(count))
    cut = list(certificate_parts(changed, ("0", "other")))
    assert sum((part.changed for part in cut), ()) == changed
    assert cut[-1].order == ("0", "other")
    assert [part.more for part in cut] == [True] * (len(cut) - 1) + [False]


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Certificate("a.pem", ("a.example",), b"secret"))
