"""The route table's values."""

from __future__ import annotations

import msgspec

from lb7.table import (
    AuthRule,
    Cluster,
    HostRules,
    Listener,
    PathPrefix,
    RedirectRule,
    RouteRule,
    Server,
    ServerCheck,
    TableDelta,
)

CLUSTER = Cluster(
    "/p/api:10000",
    "/p/api",
    10000,
    (Server("10.0.0.1:31000", "10.0.0.1", 31000, weight=7), Server("[fd00::1]:80", "fd00::1", 80, draining=True)),
    check=ServerCheck("http", "/health"),
)
RULES = HostRules(
    (AuthRule((), "realm", (("bob", "$6$x"),)),),
    (RedirectRule(https=True),),
    (RouteRule((PathPrefix("/api", True),), CLUSTER.name),),
)


def test_an_empty_delta_is_false() -> None:
    assert not TableDelta()
    assert TableDelta(clusters={"/a:80": None})
    assert TableDelta(hosts={("http", "example.com"): None})
    assert TableDelta(listeners={"http": None})


def test_values_go_to_another_process_as_they_are() -> None:
    for value in (CLUSTER, RULES, Listener("port:10000", "port:10000", ("*:10000",), by="none", tls=True)):
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))
        assert again == value
