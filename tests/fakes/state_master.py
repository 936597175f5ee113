"""A Mesos master of before the operator API: serves one recorded state.json at /master/state.

python state_master.py STATE.json HOST:PORT…
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    """Serve until killed."""
    body = Path(sys.argv[1]).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        """The state, and 404 for everything else (POST /api/v1 included)."""

        def do_GET(self) -> None:
            """Answer as the recorded master did."""
            found = self.path.split("?")[0] in ("/master/state", "/state")
            self._send(200 if found else 404, body if found else b"")

        def do_POST(self) -> None:
            """There is no operator API."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(404, b"")

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    servers = []
    for listen in sys.argv[2:]:
        host, port = listen.rsplit(":", 1)
        servers.append(ThreadingHTTPServer((host, int(port)), Handler))
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("serving", flush=True)
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
