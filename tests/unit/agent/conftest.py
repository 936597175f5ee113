"""A Pharos that answers what a test says: plain HTTP on loopback, in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Answers:
    """`paths` says what each path answers: (status, body as bytes or JSON value); `seen` what was asked, `posted` the
    kinds and values that came with it."""

    def __init__(self) -> None:
        self.paths: dict[str, tuple[int, Any]] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.posted: list[tuple[str | None, Any]] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers.seen.append((self.path, self.headers["Authorization"]))
                status, value = answers.paths.get(self.path, (404, b"not here"))
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers.posted.append((self.headers["Content-Type"], json.loads(body)))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server that knows no path until the test says so."""
    given = Answers()
    thread = threading.Thread(target=given.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield given
    given.server.shutdown()
    thread.join()
    given.server.server_close()
