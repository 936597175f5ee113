"""A real Prometheus server (Debian's package) that scrapes what a test names, and an exporter that a test speaks by.

with exporter() as told, prometheus(tmp_path, [told.place]) as server:
    told.text = "jobs 12\\n"
    server.url                            # "http://127.0.0.1:40001"
    server.program.kill()
"""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.ports import free_ports
from tests.system.resolver_lab import Program, quoted, until

HOST = "127.0.0.1"
INTERVAL = "500ms"
"""Between two scrapes."""


def missing() -> str:
    """What this machine lacks; empty: nothing."""
    return "" if shutil.which("prometheus") else "needs a Prometheus server (Debian: apt-get install prometheus)"


class Served(http.server.ThreadingHTTPServer):
    """Answers every GET with `text`; `paths` are those that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.text = ""
        self.status = 200
        self.paths: list[str] = []

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return f"{HOST}:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Served

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        body = self.server.text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json" if body[:1] in (b"{", b"[") else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def exporter() -> Iterator[Served]:
    """Until the end of the context."""
    with Served() as served:
        thread = threading.Thread(target=served.serve_forever, name="exporter")
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


class Prometheus:
    """The server. Made by `prometheus`."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        port = free_ports(1)[0]
        self.url = f"http://{HOST}:{port}"
        config = folder / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}}}\n"
            f"scrape_configs: [{{job_name: tested, static_configs: [{{targets: {quoted(targets)}}}]}}]\n"
        )
        self.program = Program(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{port}",
            ],
            folder / "log",
        )

    def value(self, query: str) -> Any:
        """The first value that it answers; None where there is none, or no answer."""
        with contextlib.suppress(OSError, ValueError, LookupError):
            asked = urllib.parse.urlencode({"query": query})
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=5) as answer:
                return float(json.load(answer)["data"]["result"][0]["value"][1])
        return None


@contextlib.contextmanager
def prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """Until the end of the context; when it begins, all targets have been scraped."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Prometheus(folder, targets)
    try:
        until(lambda: server.value("sum(up)") is not None, "it answers", server.program.text)
        yield server
    finally:
        server.program.end()
