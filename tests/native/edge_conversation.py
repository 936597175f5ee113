"""Conversations through the real proxy without sockets, for valgrind to count the instructions of.

`python -m tests.native.edge_conversation` has each conversation of CONVERSATIONS, REQUESTS times and once more, and
prints their names; `Edge.counts` is called after each part. What transports cost is left out: those here keep what is
written.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from lb7._balance import Cluster
from lb7._lookup import Table
from lb7._proxy import Edge
from lb7._streams import Peer, Poll
from lb7.settings import Settings
from lb7.table import AuthRule, HostRules, PathPrefix, RouteRule, Server
from lb7.table import Cluster as ClusterSpec
from tests.native import edge_messages as messages
from tests.native.edge_messages import HOST, request

REQUESTS = 64
OTHER_HOSTS = 1000
CLIENT = ("203.0.113.7", 40000)

_NAME = "/shop:10000"
_OTHER = "/other:10001"
_SERVER = Server("192.0.2.1:8080", "192.0.2.1", 8080, cookie="2f6e1a")
_PASSWORD = "$1$uVoNRpkV$nxIHYSWEOvS4znNtyR30j/"  # of "secret"
_AUTHORIZATION = f"Authorization: Basic {base64.b64encode(b'me:secret').decode()}"
_PATHS = tuple(
    RouteRule(paths=(PathPrefix(f"/service-{number}/api"),), cluster=_NAME if number == 30 else _OTHER)
    for number in range(60)
)


class Conversation(msgspec.Struct, frozen=True):
    """One request and its answer, each as the pieces in which it comes, and what the edge is set to."""

    request: tuple[bytes, ...] = (messages.GET,)
    answer: tuple[bytes, ...] = (messages.OK,)
    rules: HostRules = HostRules(routes=(RouteRule(cluster=_NAME),))
    cluster: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}


CONVERSATIONS = {
    "small": Conversation(),
    "browser": Conversation(request=(messages.GET_BROWSER,), answer=(messages.OK_APP,)),
    "kilobyte": Conversation(answer=(messages.OK_KILOBYTE,)),
    # PUT, for one of POST depends on the clock: whether a connection was used a moment ago.
    "body": Conversation(
        request=(request("/s", *messages.SENT_BY_ALL, "Content-Length: 1024", method="PUT"), messages.KILOBYTE)
    ),
    "chunked": Conversation(answer=(messages.OK_CHUNKED, messages.FEW_CHUNKS)),
    "sticky": Conversation(
        request=(request("/s", *messages.SENT_BY_ALL, "Cookie: theme=dark; stick=2f6e1a"),), cluster={"sticky": "stick"}
    ),
    "behind_proxy": Conversation(
        request=(request("/s", *messages.SENT_BY_ALL, "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https"),),
        settings={"trusted_proxies": ("203.0.113.0/24",)},
    ),
    "by_path": Conversation(
        request=(request("/service-30/api/orders?page=3", *messages.SENT_BY_ALL),), rules=HostRules(routes=_PATHS)
    ),
    "rewritten": Conversation(
        request=(request("/shop/s", *messages.SENT_BY_ALL),),
        cluster={"strip_path": "/shop", "host": "shop.internal.example", "hsts": "max-age=31536000"},
    ),
    "guarded": Conversation(
        request=(request("/s", *messages.SENT_BY_ALL, _AUTHORIZATION),),
        rules=HostRules(auth=(AuthRule(realm="Shop", users=(("me", _PASSWORD),)),), routes=(RouteRule(cluster=_NAME),)),
    ),
    "logged": Conversation(settings={"access_log": 1.0}),
}


class Written(deque[bytes]):
    """A transport that keeps what is written. Its methods cost as much as a call of C from C does."""

    write = deque.append
    writelines = deque.extend

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return CLIENT if name == "peername" else default

    def can_write_eof(self) -> bool:
        return True

    def taken(self) -> bytes:
        """All that was written since this was asked last."""
        octets = b"".join(self)
        self.clear()
        return octets


class Nowhere(Poll):
    """Connects to nobody."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.connected: list[tuple[asyncio.Protocol, Written]] = []

    def connect(self, peer: Peer, address: str, port: int) -> None:  # type: ignore[override]
        """At once, by a transport that keeps what is written."""
        self.loop.call_soon(self.connects, peer)

    def connects(self, peer: Peer) -> None:
        transport = Written()
        peer.connection_made(cast(asyncio.Transport, transport))
        self.connected.append((peer, transport))


def edge_of(conversation: Conversation, poll: Poll) -> tuple[Edge, asyncio.Protocol, Written]:
    """An edge with this host among others, and a client's connection."""
    settings = Settings(**conversation.settings)
    spec = ClusterSpec(_NAME, "/shop", 10000, (_SERVER,), **conversation.cluster)
    cluster = Cluster(spec, settings, time.monotonic())
    other = Cluster(msgspec.structs.replace(spec, name=_OTHER), settings, time.monotonic())
    table = Table("http")
    table.put(HOST, conversation.rules, {_NAME: cluster, _OTHER: other})
    for number in range(OTHER_HOSTS):
        table.put(f"host{number}.example.com", HostRules(routes=(RouteRule(cluster=_OTHER),)), {_OTHER: other})
    edge = Edge(settings, lambda record: None)
    edge.poll = poll
    protocol, transport = edge.front("http", table, "host", False, 80)(), Written()
    protocol.connection_made(cast(asyncio.Transport, transport))
    return edge, protocol, transport


async def converse(poll: Nowhere, conversation: Conversation) -> None:
    """Once to connect and to have the password known, then as it is counted."""
    edge, client, answered = edge_of(conversation, poll)
    poll.connected.clear()
    for piece in conversation.request:
        client.data_received(piece)
    while not (poll.connected and poll.connected[0][1]):
        assert not answered, f"answered by the edge: {answered.taken()!r}"
        await asyncio.sleep(0.001)
    server, asked = poll.connected[0]
    for piece in conversation.answer:
        server.data_received(piece)
    first, last = asked.taken(), answered.taken()
    for _ in range(2):
        for _ in range(REQUESTS):
            for piece in conversation.request:
                client.data_received(piece)
            forwarded = asked.taken()
            for piece in conversation.answer:
                server.data_received(piece)
            assert len(forwarded) == len(first), "not the request of before"
            assert answered.taken() == last, "not the answer of before"
        counts = edge.counts()
    assert b"X-Forwarded-For: " in first
    assert last.endswith(conversation.answer[-1][-10:])
    assert counts["requests"] == 1 + 2 * REQUESTS
    assert counts["requests_open"] == 0
    assert len(poll.connected) == counts["pooled"] == 1


def main() -> None:
    """See the module."""
    gc.disable()
    with asyncio.Runner() as runner:
        poll = Nowhere(runner.get_loop())
        for name, conversation in CONVERSATIONS.items():
            runner.run(converse(poll, conversation))
            print(name)


if __name__ == "__main__":
    main()
