"""Servers of tasks that tell what they were asked: each answers with its own address and the request, as JSON.

`python -m tests.system.echo_servers FILE` listens on all "ADDRESS:PORT" of a JSON list, prints a line, and serves until
ended. A path that ends with /loc is answered with a redirect to /abc of the same host.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import cast

import uvloop

READY = "listening"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Echo(asyncio.Protocol):
    """One connection; requests without a body, or with a length."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._octets = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._octets += data
        while (end := self._octets.find(b"\r\n\r\n")) >= 0:
            head = self._octets[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._octets) < whole:
                return
            body, self._octets = self._octets[end + 4 : whole], self._octets[whole:]
            self._transport.write(answer(self._name, head.decode("latin-1"), body.decode("latin-1")))


def answer(name: str, head: str, body: str) -> bytes:
    """The answer of the server `name` ("ADDRESS:PORT") to a request."""
    line, *fields = head.split("\r\n")
    method, target, version = line.split(" ")
    headers = [[key.lower(), value.strip()] for key, _, value in (field.partition(":") for field in fields)]
    said = {"server": name, "method": method, "path": target, "version": version, "headers": headers, "body": body}
    text = json.dumps(said).encode()
    status, more = "200 OK", ""
    if target.partition("?")[0].endswith("/loc"):
        host = next((value for key, value in headers if key == "host"), "")
        status, more = "302 Found", f"Location: http://{host}/abc\r\n"
    shape = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return f"HTTP/1.1 {status}\r\n{shape}{more}\r\n".encode() + (b"" if method == "HEAD" else text)


async def main(names: list[str]) -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    for name in names:
        host, _, port = name.rpartition(":")
        await loop.create_server(lambda name=name: Echo(name), host.strip("[]"), int(port))  # type: ignore[misc]
    print(READY, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
