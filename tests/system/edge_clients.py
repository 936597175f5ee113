"""Clients of the edge for its soak: all kinds of requests and connections, every answer looked at.

`python -m tests.system.edge_clients PLAN` runs until SIGTERM, ends what it has in hand, and prints how many answers of
each kind were right. What was not, and all that only others can judge, is in the plan's `notes`, a JSON object a line
(`Note`). Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TextIO, TypeAlias

import msgspec
import uvloop

from tests.fakes.scripted_backend import read_body
from tests.system.edge_backend import LARGE
from tests.system.edge_websocket import CLOSE, TEXT, accept_of, frame, new_key, read_frame

EDGE = "127.0.0.1"
PATIENCE = 60.0
"""Seconds in which whatever was begun has to be done."""
REUSED = 200
"""Requests of one connection, about."""


class Plan(msgspec.Struct):
    """What to ask. Ports are by name: http, https, app_id, and those of apps; `apps`: what is asked for → the app that
    answers, where that never changes."""

    notes: str
    ca_file: str
    ports: dict[str, int]
    apps: dict[str, str]
    seed: int


class Note(msgspec.Struct, kw_only=True):
    """`what`: "failed", or "answered" by an app that others know to be right. `began`, `ended`, and `opened` of the
    connection: seconds."""

    what: str
    kind: str
    asked: str
    why: str = ""
    app: str = ""
    task: str = ""
    opened: float = 0.0
    began: float = 0.0
    ended: float = 0.0


class Wrong(Exception):
    """An answer that is none of those that may be."""


class Answer(msgspec.Struct):
    """A whole answer."""

    head: bytes
    body: bytes

    def field(self, name: bytes) -> str:
        """The value of a field; "" where there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip().decode()
        return ""


class Connection:
    """To the edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: float) -> None:
        self.reader, self.writer, self.opened = reader, writer, opened
        self.left = random.randint(1, 2 * REUSED)
        self.task = ""

    @classmethod
    async def open(cls, port: int, secure: ssl.SSLContext | None = None, name: str = "") -> Connection:
        """Connect; raises OSError."""
        opened = time.monotonic()
        server_name = name if secure is not None else None
        streams = await asyncio.open_connection(EDGE, port, ssl=secure, server_hostname=server_name, limit=1 << 21)
        return cls(*streams, opened)

    async def ask(
        self, method: str, host: str, target: str, *fields: str, body: bytes = b"", chunked: bool = False
    ) -> Answer:
        """Raises Wrong, and OSError and EOFError when the connection breaks."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        if chunked:
            await self._send_chunks(body)
        else:
            self.writer.write(body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        answer = Answer(head, b"" if method == "HEAD" else await read_body(self.reader, head))
        self.task = answer.field(b"x-task")
        self.left = 0 if answer.field(b"connection").lower() == "close" else self.left - 1
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Wrong(f"{head!r} {answer.body[:200]!r}")
        return answer

    async def _send_chunks(self, body: bytes) -> None:
        while body:
            piece, body = body[:5000], body[5000:]
            self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self.writer.drain()
            await asyncio.sleep(0.002)
        self.writer.write(b"0\r\n\r\n")

    def close(self) -> None:
        """At once."""
        self.writer.transport.abort()


Act: TypeAlias = Callable[["Stream"], Awaitable[None]]


class Clients:
    """All streams of this process."""

    def __init__(self, plan: Plan, notes: TextIO) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.right: Counter[str] = Counter()
        self.ending = asyncio.Event()
        self.secure = ssl.create_default_context(cafile=plan.ca_file)
        self._notes = notes

    def note(self, note: Note) -> None:
        """Write it down at once: this process may be ended."""
        self._notes.write(msgspec.json.encode(note).decode() + "\n")
        self._notes.flush()

    async def run(self) -> None:
        """Until told to end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ending.set)
        streams = [Stream(self, kind, act, pause) for kind, act, pause, count in MIX for _ in range(count)]
        orphaned = asyncio.create_task(self._end_with_parent(os.getppid()))
        await asyncio.gather(*(stream.run() for stream in streams))
        orphaned.cancel()

    async def _end_with_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            await asyncio.sleep(1)
        self.ending.set()


class Stream:
    """One thing after the other of one kind, about every `pause` seconds."""

    def __init__(self, clients: Clients, kind: str, act: Act, pause: float) -> None:
        self.clients, self.kind, self.act, self.pause = clients, kind, act, pause
        self.plan, self.dice = clients.plan, clients.dice
        self.connection: Connection | None = None
        self.asked = ""
        self.cookies: tuple[str, ...] = ()

    async def run(self) -> None:
        """Until told to end."""
        while not self.clients.ending.is_set():
            await asyncio.sleep(self.dice.uniform(0.5, 1.5) * self.pause)
            began, self.asked = time.monotonic(), ""
            try:
                async with asyncio.timeout(None if self.act is websocket else PATIENCE):
                    await self.act(self)
                self.clients.right[self.kind] += 1
            except (Wrong, ValueError, OSError, EOFError) as error:
                self._failed(began, error)
                self.leave()
        self.leave()

    def leave(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _failed(self, began: float, error: Exception) -> None:
        of = self.connection
        self.clients.note(
            Note(
                what="failed",
                kind=self.kind,
                asked=self.asked,
                why=f"{type(error).__name__}: {error}" if of is not None else f"not connected: {error!r}",
                app=self.plan.apps.get(self.asked.partition(" ")[0], ""),
                task=of.task if of is not None else "",
                opened=of.opened if of is not None else 0.0,
                began=began,
                ended=time.monotonic(),
            )
        )

    async def connected(self, port: str = "http", name: str = "") -> Connection:
        """The connection that there is, or a new one."""
        if self.connection is not None and self.connection.left <= 0:
            self.leave()
        if self.connection is None:
            secure = self.clients.secure if port == "https" else None
            self.connection = await Connection.open(self.plan.ports[port], secure, name)
        return self.connection

    def check_app(self, host: str, answer: Answer) -> None:
        """Raises Wrong where another app answered than the one that this belongs to."""
        if answer.field(b"x-app") != self.plan.apps[host]:
            raise Wrong(f"{answer.field(b'x-app')!r} answered, not {self.plan.apps[host]!r}")


def check_told(answer: Answer, method: str, host: str, target: str, body: bytes = b"") -> None:
    """Raises Wrong where the task understood another request than this."""
    told = [method, host, target, str(len(body)), hashlib.sha256(body).hexdigest()]
    if answer.body.decode().split("\n") != told:
        raise Wrong(f"asked for {told}, it was understood as {answer.body!r}")


# --- what is done --------------------------------------------------------------------------------------


async def steady(stream: Stream) -> None:
    """A small GET on a connection that is kept."""
    await _small(stream, "http")


async def fresh(stream: Stream) -> None:
    """A small GET on a connection of its own."""
    stream.leave()
    await _small(stream, "http")


async def secure(stream: Stream) -> None:
    """A small GET by TLS."""
    await _small(stream, "https")


async def fresh_secure(stream: Stream) -> None:
    """A small GET by TLS on a connection of its own."""
    stream.leave()
    await _small(stream, "https")


async def _small(stream: Stream, port: str) -> None:
    places = [("web.example", "/"), ("web.example", "/api/")]
    if port == "http":
        places += [("api.example", "/"), ("sticky.example", "/")]
    host, path = stream.dice.choice(places)
    stream.asked = host + path.rstrip("/")
    target = f"{path}x{stream.dice.randrange(1000)}?q=1"
    connection = await stream.connected(port, host)
    answer = await connection.ask("GET", host, target, *stream.cookies)
    stream.check_app(stream.asked, answer)
    check_told(answer, "GET", host, target)
    if cookie := answer.field(b"set-cookie"):
        stream.cookies = (f"Cookie: {cookie.partition(';')[0]}",)


async def by_port(stream: Stream) -> None:
    """A GET at the service port of an app."""
    stream.asked = "web.example"
    answer = await (await stream.connected("web")).ask("GET", "any.example", "/port")
    stream.check_app("web.example", answer)
    check_told(answer, "GET", "any.example", "/port")


async def by_id(stream: Stream) -> None:
    """A GET by an app's id."""
    stream.asked = "api.example"
    answer = await (await stream.connected("app_id")).ask("GET", "x", "/id", "X-Marathon-App-Id: /shop/api")
    stream.check_app("api.example", answer)


async def moved(stream: Stream) -> None:
    """A GET of a host that one app takes over from another, now and then."""
    stream.asked = "moved.example"
    began = time.monotonic()
    connection = await stream.connected()
    answer = await connection.ask("GET", "moved.example", "/")
    check_told(answer, "GET", "moved.example", "/")
    stream.clients.note(
        Note(
            what="answered",
            kind=stream.kind,
            asked=stream.asked,
            app=answer.field(b"x-app"),
            opened=connection.opened,
            began=began,
            ended=time.monotonic(),
        )
    )


async def other_methods(stream: Stream) -> None:
    """HEAD, DELETE, OPTIONS, and PUT with a body."""
    method = stream.dice.choice(["HEAD", "DELETE", "OPTIONS", "PUT", "PUT"])
    body = stream.dice.randbytes(stream.dice.randrange(1, 30_000)) if method == "PUT" else b""
    await _with_body(stream, method, body)


async def chunked(stream: Stream) -> None:
    """PUT in chunks; small enough that the edge keeps it for another server."""
    await _with_body(stream, "PUT", stream.dice.randbytes(stream.dice.randrange(1, 50_000)), chunked=True)


async def post(stream: Stream) -> None:
    """What can't be tried twice."""
    await _with_body(stream, "POST", stream.dice.randbytes(stream.dice.randrange(3000)))


async def _with_body(stream: Stream, method: str, body: bytes, *, chunked: bool = False) -> None:
    host = stream.asked = stream.dice.choice(["web.example", "api.example", "sticky.example"])
    target = f"/{method.lower()}/x" if stream.dice.random() < 0.6 else f"/wait/{stream.dice.randrange(20, 300)}"
    answer = await (await stream.connected()).ask(method, host, target, body=body, chunked=chunked)
    stream.check_app(host, answer)
    if method != "HEAD":
        check_told(answer, method, host, target, body)


async def wait(stream: Stream) -> None:
    """A GET whose answer takes its time."""
    host = stream.asked = stream.dice.choice(["web.example", "api.example", "sticky.example"])
    target = f"/wait/{stream.dice.randrange(50, 700)}"
    answer = await (await stream.connected()).ask("GET", host, target)
    stream.check_app(host, answer)
    check_told(answer, "GET", host, target)


async def download(stream: Stream) -> None:
    """A mebibyte."""
    await _large(stream, "bytes", len(LARGE))


async def trickle(stream: Stream) -> None:
    """An answer that comes in pieces over some seconds."""
    await _large(stream, "trickle", stream.dice.randrange(20_000, 80_000))


async def _large(stream: Stream, how: str, length: int) -> None:
    host = stream.asked = "files.example"
    answer = await (await stream.connected()).ask("GET", host, f"/{how}/{length}")
    stream.check_app(host, answer)
    if answer.body != LARGE[:length]:
        raise Wrong(f"another body: {len(answer.body)} octets in place of {length}")


async def upload(stream: Stream) -> None:
    """A mebibyte the other way."""
    host = stream.asked = "files.example"
    answer = await (await stream.connected()).ask("PUT", host, "/upload/x", body=LARGE)
    stream.check_app(host, answer)
    check_told(answer, "PUT", host, "/upload/x", LARGE)


async def lines(stream: Stream) -> None:
    """A connection to a TCP port that lasts a while; it ends only by us."""
    stream.asked = "tcp"
    stream.leave()
    connection = await stream.connected("tcp")
    app, connection.task = (await connection.reader.readuntil()).decode().split()
    if app != stream.plan.apps["tcp"]:
        raise Wrong(f"{app!r} answered")
    for _ in range(stream.dice.randrange(1, 40)):
        said = os.urandom(20).hex().encode() + b"\n"
        connection.writer.write(said)
        if (heard := await connection.reader.readuntil()) != said:
            raise Wrong(f"said {said!r}, heard {heard!r}")
        await asyncio.sleep(0.05)
    stream.leave()


async def websocket(stream: Stream) -> None:
    """A WebSocket that ends only when its server closes it, or when all ends."""
    host = stream.asked = "files.example"
    stream.leave()
    connection = await stream.connected()
    key = new_key()
    lines = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
    )
    connection.writer.write("\r\n".join(["GET /ws HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())
    answer = Answer(await connection.reader.readuntil(b"\r\n\r\n"), b"")
    if not answer.head.startswith(b"HTTP/1.1 101 ") or answer.field(b"sec-websocket-accept") != accept_of(key).decode():
        raise Wrong(f"no WebSocket: {answer.head!r}")
    connection.task = answer.field(b"x-task")
    stream.check_app(host, answer)
    while not stream.clients.ending.is_set():
        async with asyncio.timeout(PATIENCE):
            if not await _echoed(connection):
                break
        stream.clients.right["websocket message"] += 1
        await asyncio.sleep(0.2)
    stream.leave()


async def _echoed(connection: Connection) -> bool:
    """Whether what we say comes back; False: the server has closed."""
    said = os.urandom(20)
    connection.writer.write(frame(TEXT, said, masked=True))
    kind, heard = await read_frame(connection.reader)
    if kind == CLOSE:
        connection.writer.write(frame(CLOSE, heard, masked=True))
        return False
    if heard != said:
        raise Wrong(f"said {said!r}, heard {heard!r}")
    return True


MIX: tuple[tuple[str, Act, float, int], ...] = (
    ("steady", steady, 0.04, 6),
    ("fresh", fresh, 0.06, 2),
    ("secure", secure, 0.06, 1),
    ("fresh secure", fresh_secure, 0.25, 1),
    ("by port", by_port, 0.08, 1),
    ("by id", by_id, 0.08, 1),
    ("moved", moved, 0.06, 1),
    ("other methods", other_methods, 0.06, 1),
    ("chunked", chunked, 0.15, 1),
    ("post", post, 0.06, 1),
    ("wait", wait, 0.02, 6),
    ("download", download, 0.25, 1),
    ("trickle", trickle, 0.1, 2),
    ("upload", upload, 0.4, 1),
    ("lines", lines, 0.1, 2),
    ("websocket", websocket, 0.1, 3),
)
"""Kind, what it does, the pause between two, and how many streams of it each process has."""

AT_MOST_ONCE = frozenset({"post", "lines"})
"""Kinds that fail where their server dies, for they can't be begun anew."""


def summary(right: Mapping[str, int]) -> str:
    """For a line of output."""
    return msgspec.json.encode(dict(right)).decode()


async def main(plan: Plan) -> None:
    """Run until SIGTERM."""
    with Path(plan.notes).open("a", encoding="utf-8") as notes:  # noqa: ASYNC230 - small, and nobody waits
        clients = Clients(plan, notes)
        await clients.run()
    print(summary(clients.right), flush=True)


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)))
