"""The access log: what is told of one request."""

from __future__ import annotations

import time
from typing import Any

MOST_FAILURES = 100
"""Failures that are logged in a second, whatever share of requests is; the others are counted."""

MOST_PATH = 1024
"""Characters of a path that are logged."""
MOST_NAME = 256
"""The same of a method, a host and a request id."""


def record(
    client: str,
    listener: str,
    head: bytes | None,
    asked: tuple[str, str, str] | None,
    status: int,
    cluster: str | None,
    server: str | None,
    tries: int,
    received: int,
    sent: int,
    queued: float,
    connecting: float,
    first: float,
    total: float,
    why: str | None,
) -> dict[str, Any]:
    """A request as it is logged.

    `head`: the request as it went, or was to go, to a server (None: it came to none); `asked`: method, host and target
    as the client sent them, where they are others. All are cut. Octets and seconds; `status` 0: the client got no
    answer. Header fields other than Host and X-Request-Id are never told: they may be secret.
    """
    method, host, path, request_id = _told(head) if head is not None else ("", "", "", "")
    if asked is not None:
        method, host, path = asked
    return {
        "time": round(time.time() - total, 6),
        "client": client,
        "listener": listener,
        "method": method[:MOST_NAME],
        "host": host[:MOST_NAME],
        "path": path[:MOST_PATH],
        "status": status,
        "cluster": cluster,
        "server": server,
        "tries": tries,
        "received": received,
        "sent": sent,
        "queued": round(queued, 6),
        "connecting": round(connecting, 6),
        "first": round(first, 6),
        "total": round(total, 6),
        "request_id": request_id[:MOST_NAME],
        "why": why,
    }


def _told(head: bytes) -> tuple[str, str, str, str]:
    """Method, host, path and request id of a request's head."""
    line, *fields = head.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    host = request_id = ""
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() == "host":
            host = value.strip()
        elif name.lower() == "x-request-id":
            request_id = value.strip()
    return method, host, rest.rpartition(" ")[0], request_id
