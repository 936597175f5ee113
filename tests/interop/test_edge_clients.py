"""Real clients of HTTP against a whole edge: curl, load generators, a browser, and Python's libraries."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import h11
import pytest

from tests.fakes.echoing_site import EchoingSite, digest, echoing_site, large
from tests.fakes.running_edge import HOST, RunningEdge, running_edge

SITE = "web.example"
PATIENCE = 100.0
BODY = large(300_000)


@pytest.fixture(scope="module")
def site() -> Iterator[EchoingSite]:
    with echoing_site() as made:
        yield made


@pytest.fixture(scope="module")
def edge(site: EchoingSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEdge]:
    with running_edge(tmp_path_factory.mktemp("edge"), {SITE: [site.port]}, workers=2) as made:
        yield made


def program(name: str, package: str) -> str:
    """Where it is; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian: {package})")
    return found


def run(command: list[str], stdin: bytes | None = None) -> tuple[bytes, str]:
    """What a program writes; it must end well."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=False)
    errors = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {errors[-2000:]}"
    return done.stdout, errors


# --- curl -----------------------------------------------------------------------------------------


def curl(edge: RunningEdge, *words: str, path: str = "/echo", tls: bool = False, stdin: bytes | None = None) -> Any:
    """What curl writes about one URL of the site; `-sS` stands before the words."""
    port, scheme = (edge.tls_port, "https") if tls else (edge.port, "http")
    own = ["-sS", "--max-time", str(PATIENCE), "--resolve", f"{SITE}:{port}:{HOST}", "--cacert", str(edge.ca_file)]
    return run([program("curl", "curl"), *own, *words, f"{scheme}://{SITE}:{port}{path}"], stdin)


@pytest.mark.parametrize("tls", [False, True])
def test_curl_gets(edge: RunningEdge, tls: bool) -> None:
    out, _ = curl(edge, "-A", "a client", path="/echo?a=b", tls=tls)
    said = json.loads(out)
    assert (said["method"], said["path"], said["length"]) == ("GET", "/echo?a=b", 0)
    assert said["headers"]["user-agent"] == "a client"
    assert said["headers"]["host"] == f"{SITE}:{edge.tls_port if tls else edge.port}"
    assert said["headers"]["x-forwarded-for"] == HOST
    assert said["headers"]["x-forwarded-proto"] == ("https" if tls else "http")


def test_curl_keeps_its_connection(edge: RunningEdge) -> None:
    first = f"http://{SITE}:{edge.port}/large/1000"
    out, _ = curl(edge, "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", first)
    assert out.split() == [b"200", b"1", b"200", b"0"]


def test_curl_asks_for_the_head_alone(edge: RunningEdge) -> None:
    out, _ = curl(edge, "-I", path="/large/12345")
    assert b"HTTP/1.1 200" in out
    assert re.search(rb"(?i)\r\ncontent-length: 12345\r\n", out)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "words", [["-H", "Expect: 100-continue"], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]]
)
def test_curl_posts(edge: RunningEdge, words: list[str], tls: bool) -> None:
    out, errors = curl(edge, "-v", *words, "--data-binary", "@-", tls=tls, stdin=BODY)
    said = json.loads(out)
    assert (said["method"], said["length"], said["hash"]) == ("POST", len(BODY), digest(BODY))
    assert ("100 Continue" in errors) == ("100-continue" in words[1])
    assert ("transfer-encoding" in said["headers"]) == ("chunked" in words[1])


def test_curl_uploads_what_has_no_length(edge: RunningEdge) -> None:
    out, _ = curl(edge, "-T", "-", stdin=BODY)
    said = json.loads(out)
    assert (said["method"], said["hash"]) == ("PUT", digest(BODY))


@pytest.mark.parametrize("path", ["/large/70000", "/chunks/3"])
@pytest.mark.parametrize("words", [["--http1.0"], ["--http1.0", "-H", "Connection: keep-alive"], ["--http1.1"]])
def test_curl_of_old_and_new_versions(edge: RunningEdge, words: list[str], path: str) -> None:
    """HTTP/1.0 knows no chunks: what has no length ends with the connection."""
    out, errors = curl(edge, "-v", *words, path=path)
    assert digest(out) == digest(large(70_000 if "large" in path else 3 * 65536))
    if words[0] == "--http1.0":
        assert "transfer-encoding: chunked" not in errors.lower()


def test_curl_offers_another_version(edge: RunningEdge) -> None:
    out, _ = curl(edge, "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", path="/large/10")
    assert out == b"1.1 200"


def test_curl_by_ipv6(edge: RunningEdge) -> None:
    if not edge.port6:
        pytest.skip("needs IPv6 on the loopback device")
    url = f"http://[::1]:{edge.port6}/echo"
    out, _ = run([program("curl", "curl"), "-sS", "--max-time", str(PATIENCE), "-H", f"Host: {SITE}", url])
    assert json.loads(out)["headers"]["x-forwarded-for"] == "::1"


def test_curl_downloads_much(edge: RunningEdge) -> None:
    out, _ = curl(edge, path="/large/20000000", tls=True)
    assert digest(out) == digest(large(20_000_000))


def test_curl_is_told_that_nobody_has_the_name(edge: RunningEdge) -> None:
    out, _ = curl(edge, "-H", "Host: other.example", "-o", "/dev/null", "-w", "%{http_code}")
    assert out == b"503"


# --- load generators ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_h2load_has_no_failed_request(edge: RunningEdge, tls: bool) -> None:
    port, scheme = (edge.tls_port, "https") if tls else (edge.port, "http")
    there = f"--connect-to={HOST}:{port}"
    shell = program("h2load", "nghttp2-client")
    out, _ = run([shell, "--h1", "-n1000", "-c10", there, f"{scheme}://{SITE}:{port}/large/100"])
    text = out.decode()
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in text, text
    assert "status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx" in text, text


def test_wrk_has_no_failed_request(edge: RunningEdge) -> None:
    command = [program("wrk", "wrk"), "-t1", "-c10", "-d1s", "--timeout", "60s", "-H", f"Host: {SITE}"]
    out, _ = run([*command, f"http://{HOST}:{edge.port}/large/100"])
    text = out.decode()
    assert int(re.findall(r"(\d+) requests in", text)[0]) > 0, text
    assert "Socket errors" not in text, text
    assert "Non-2xx" not in text, text


# --- a browser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_browser(edge: RunningEdge, site: EchoingSite, tmp_path: Path, scheme: str) -> None:
    """Its page opens a WebSocket, posts, reads chunks on several connections, and posts what it saw."""
    shell = program("chromium-headless-shell", "chromium-headless-shell")
    port = edge.port if scheme == "http" else edge.tls_port
    command = [
        shell,
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",  # otherwise it ends at once
        "--ignore-certificate-errors",
        f"--user-data-dir={tmp_path}",
        f"--host-resolver-rules=MAP {SITE} {HOST}",
        f"{scheme}://{SITE}:{port}/page",
    ]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True) as browser,
    ):
        try:
            found = site.results.get(timeout=PATIENCE)
        except queue.Empty:
            pytest.fail(f"the page posted nothing: {log.read_text(errors='replace')[-3000:]}")
        finally:
            os.killpg(browser.pid, signal.SIGKILL)  # the program is a script that starts the browser
    assert found == {
        "by": scheme,
        "socket": ["hello", "binary 70000", "closed 1000"],
        "posted": 100_000,
        "chunks": [65536 * count for count in range(1, 9)],
        "head": "12345",
    }


# --- Python ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_aiohttp(edge: RunningEdge) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(BODY), 50_000):
            yield BODY[start : start + 50_000]

    url, headers = f"http://{HOST}:{edge.port}", {"Host": SITE}
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{url}/echo", data=pieces()) as answer:
            assert (await answer.json())["hash"] == digest(BODY)
        answers = await asyncio.gather(*(_body(session, f"{url}/large/{size}") for size in range(0, 200_000, 10_000)))
        assert [len(answer) for answer in answers] == list(range(0, 200_000, 10_000))
        async with session.ws_connect(f"{url}/ws") as ws:
            await ws.send_str("hello")
            assert (await ws.receive()).data == "hello"
            await ws.send_bytes(BODY)
            assert (await ws.receive()).data == BODY
            await ws.ping()
        assert ws.close_code == 1000


async def _body(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as answer:
        assert answer.status == 200
        return await answer.read()


def test_http_client_keeps_its_connection(edge: RunningEdge) -> None:
    context = ssl.create_default_context(cafile=str(edge.ca_file))
    with socket.create_connection((HOST, edge.tls_port), PATIENCE) as plain:
        with context.wrap_socket(plain, server_hostname=SITE) as sock:
            connection = http.client.HTTPSConnection(SITE, edge.tls_port)
            connection.sock = sock
            for method, size in (("POST", 10), ("PUT", 300_000), ("GET", 0), ("DELETE", 0), ("OPTIONS", 0)):
                connection.request(method, "/echo", BODY[:size] or None)
                said = json.loads(connection.getresponse().read())
                assert (said["method"], said["hash"]) == (method, digest(BODY[:size]))
                assert connection.sock is sock


def test_h11(edge: RunningEdge) -> None:
    """Two requests at once on a connection, read by a strict parser; the second one asks for its end."""
    ours = h11.Connection(h11.CLIENT)
    asked = [h11.Request(method="GET", target=f"/chunks/{count}", headers=[("Host", SITE)]) for count in (1, 2)]
    with socket.create_connection((HOST, edge.port), PATIENCE) as sock:
        first = ours.send(asked[0]) + ours.send(h11.EndOfMessage())
        sock.sendall(first + b"GET /chunks/2 HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
        assert _answer(ours, sock) == (200, 65536)
        ours.start_next_cycle()
        ours.send(h11.Request(method="GET", target="/chunks/2", headers=[("Host", SITE), ("Connection", "close")]))
        ours.send(h11.EndOfMessage())
        assert _answer(ours, sock) == (200, 2 * 65536)
        assert ours.their_state is h11.CLOSED or sock.recv(1) == b""


def _answer(ours: h11.Connection, sock: socket.socket) -> tuple[int, int]:
    """Status, and octets of the body."""
    status, length = 0, 0
    while True:
        event = ours.next_event()
        if event is h11.NEED_DATA:
            ours.receive_data(sock.recv(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            length += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, length
