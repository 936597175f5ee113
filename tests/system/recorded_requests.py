"""Requests as marathon-lb's recordings describe them, sent for real, and what came back in the recordings' own shape.

A recorded request says: listen_port, dst, src, tls, sni, host, path, method, appid, auth ("good" or "bad"). What is
seen has the keys of the recordings' `observed`: action, status, servers, forwarded, location, realm, hsts, set_cookie,
sticky.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Collection
from typing import Any

import msgspec

from tests.system.inside import socket_in

TIMEOUT = 60.0
MOST_CONNECTIONS = 200
"""Connections after which a server that did not show is taken for one that gets nothing."""
PASSWORDS = {"good": "bob:s3cret", "bad": "bob:wrong"}
FORWARDED = ("host", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto")
REPEATS = 5


class Reply(msgspec.Struct):
    """An answer. `said`: what a server of a task tells; None: the edge answered itself. `word` instead of a status:
    "refused" or "reset"."""

    status: int | None = None
    word: str = ""
    fields: list[tuple[str, str]] = []
    said: dict[str, Any] | None = None

    def field(self, name: str) -> str | None:
        """All values of a field; None: there is none."""
        values = [value for key, value in self.fields if key.lower() == name]
        return ", ".join(values) if values else None


def see(space: str, request: dict[str, Any], expected: Collection[str]) -> dict[str, Any]:
    """Send a recorded request again and again, on many connections, until all expected servers have answered and some
    further answers have come; and what was seen."""
    replies: list[Reply] = []
    for number in range(MOST_CONNECTIONS):
        replies += ask(space, request, min(len(expected), 8) + 1)
        if number >= 1 and servers_of(replies) >= set(expected):
            break
    return seen(space, request, replies)


def seen(space: str, request: dict[str, Any], replies: list[Reply]) -> dict[str, Any]:
    """Replies in the shape of the recordings. What is not the same in all of them shows as a list."""
    found = [_seen_of(reply) for reply in replies]
    together: dict[str, Any] = {
        key: _one([each.get(key) for each in found]) for key in dict.fromkeys(key for each in found for key in each)
    }
    if servers := servers_of(replies):
        together["servers"] = sorted(servers)
    if any("set_cookie" in each for each in found):
        together["set_cookie"] = _one([_cookie_shape(reply) for reply in replies])
        together["sticky"] = _stickiness(space, request, replies[0])
    return together


def servers_of(replies: list[Reply]) -> set[str]:
    """Who has answered."""
    return {reply.said["server"] for reply in replies if reply.said is not None}


def ask(space: str, request: dict[str, Any], times: int = 1, cookie: str = "") -> list[Reply]:
    """Replies to the same request, so many times on one connection; fewer when it ends before."""
    replies: list[Reply] = []
    octets = _octets(request, cookie)
    try:
        with _connected(space, request) as sock:
            for _ in range(times):
                sock.sendall(octets)
                replies.append(_read(sock, request["method"]))
                last = replies[-1]
                if (last.field("connection") or "").lower() == "close" or "host" not in request:
                    break
    except ConnectionRefusedError:
        return [Reply(word="refused")]
    except (OSError, http.client.HTTPException):
        if not replies:
            return [Reply(word="reset")]
    return replies


def _connected(space: str, request: dict[str, Any]) -> socket.socket:
    """A connection to where the request goes; encrypted, if it is to be."""
    family = socket.AF_INET6 if ":" in request["dst"] else socket.AF_INET
    sock = socket_in(space, family, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT)
        sock.bind((request["src"], 0))
        sock.connect((request["dst"], request["listen_port"]))
        if request["tls"]:
            sock = _tls().wrap_socket(sock, server_hostname=request.get("sni") or None)
    except BaseException:
        sock.close()
        raise
    return sock


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _octets(request: dict[str, Any], cookie: str) -> bytes:
    """The request itself. One without a host is of HTTP/1.0, where that is allowed."""
    version = "HTTP/1.1" if "host" in request else "HTTP/1.0"
    lines = [f"{request['method']} {request['path']} {version}"]
    if "host" in request:
        lines.append(f"Host: {request['host']}")
    if request.get("appid"):
        lines.append(f"X-Marathon-App-Id: {request['appid']}")
    if word := request.get("auth"):
        lines.append(f"Authorization: Basic {base64.b64encode(PASSWORDS[word].encode()).decode()}")
    if cookie:
        lines.append(f"Cookie: before=1; {cookie}; after=2")
    body = "something" if request["method"] == "POST" else ""
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", body]).encode()


def _read(sock: socket.socket, method: str) -> Reply:
    """One answer. Raises OSError or HTTPException when there is none."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    body = response.read()
    with contextlib.suppress(ValueError):
        said = json.loads(body)
        if isinstance(said, dict) and "server" in said:
            return Reply(response.status, "", response.getheaders(), said)
    return Reply(response.status, "", response.getheaders())


def _seen_of(reply: Reply) -> dict[str, Any]:
    """One reply in the shape of the recordings, without its server."""
    found: dict[str, Any] = {"action": _action(reply), "status": reply.status}
    for key, name in (("location", "location"), ("hsts", "strict-transport-security"), ("set_cookie", "set-cookie")):
        if (value := reply.field(name)) is not None:
            found[key] = value
    if (challenge := reply.field("www-authenticate")) is not None:
        realm = re.fullmatch(r'Basic realm="([^"]*)"', challenge)
        found["realm"] = realm[1] if realm else challenge
    if reply.said is not None and reply.status == 200:
        found["forwarded"] = {"path": reply.said["path"]} | {name: _told(reply.said, name) for name in FORWARDED}
    return found


def _action(reply: Reply) -> str:
    if reply.word or reply.said is not None:
        return reply.word or "proxy"
    by_status = {301: "redirect", 302: "redirect", 401: "auth", 403: "deny"}
    return by_status.get(reply.status or 0, str(reply.status))


def _told(said: dict[str, Any], name: str) -> str | None:
    values = [value for key, value in said["headers"] if key == name]
    return ", ".join(values) if values else None


def _one(values: list[Any]) -> Any:
    """The value that all are; else all of them."""
    return values[0] if all(value == values[0] for value in values) else values


# --- sticky clients -------------------------------------------------------------------------------


def cookie_value(server: str) -> str:
    """What marathon-lb gives the clients of a server "ADDRESS:PORT" whose host is known by its address."""
    name = re.sub(r"[^a-zA-Z0-9-]", "_", server)
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:10]


def _cookie_shape(reply: Reply) -> str | None:
    """The Set-Cookie of a reply, with its value written as in the recordings where it is that of the server."""
    text = reply.field("set-cookie")
    if text is None or reply.said is None:
        return text
    return text.replace(cookie_value(reply.said["server"]), "<sha1(serverName)[:10]>")


def _stickiness(space: str, request: dict[str, Any], first: Reply) -> dict[str, Any]:
    """What becomes of a client that sends back the cookie it was given, and of one that sends another."""
    pair = (first.field("set-cookie") or "").partition(";")[0]
    name = pair.partition("=")[0]
    again = [reply for _ in range(REPEATS) for reply in ask(space, request, 1, pair)]
    heard = [_told(reply.said or {"headers": []}, "cookie") or "" for reply in again]
    return {
        "cookie": name,
        "same_server_on_5_repeats": servers_of(again) == servers_of([first]),
        "cookie_forwarded_to_backend": any(name in cookies for cookies in heard),
        "set_cookie_again": any(reply.field("set-cookie") for reply in again),
        "cache_control": first.field("cache-control"),
        "unknown_cookie_status": _one([reply.status for reply in ask(space, request, 2, f"{name}=unknown")]),
    }
