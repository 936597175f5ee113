"""The HTTP client of the commands: what it sends, and that every failure says what to do."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent.client import Access, BadAnswer, Client, ClientError, Unreachable


def test_get_decodes_json(answers: Any) -> None:
    answers.paths["/base/x?y=1"] = (200, {"a": 1})
    assert Client(answers.url + "/base/").get("/x?y=1") == (200, {"a": 1})
    assert answers.seen == [("/base/x?y=1", None)]


def test_token_is_sent(answers: Any, tmp_path: Path) -> None:
    answers.paths["/x"] = (200, 1)
    (tmp_path / "token").write_text("abc\n")
    Client(answers.url, Access(str(tmp_path / "token"))).get("/x")
    assert answers.seen == [("/x", "Bearer abc")]


@pytest.mark.parametrize("content", ["", "\n", "a\nb", "ä"])
def test_bad_token_file_is_named(answers: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(ClientError, match="token"):
        Client(answers.url, Access(str(tmp_path / "token"))).get("/x")
    assert answers.seen == []


def test_absent_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"can't read a token from .*/none"):
        Client("http://127.0.0.1:1", Access(str(tmp_path / "none"))).get("/x")


@pytest.mark.parametrize("url", ["127.0.0.1:8123", "ftp://x", "http://", "http://h:x", "http://[::1", ""])
def test_bad_url_says_what_was_expected(url: str) -> None:
    with pytest.raises(ClientError, match=r"expected http\(s\)://HOST:PORT"):
        Client(url)


def test_nobody_there(free_port: int) -> None:
    with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:\d+: Connection refused; is Pharos"):
        Client(f"http://127.0.0.1:{free_port}").get("/x")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"", r"refuses \(401\): .*--token-file"),
        (403, b"", r"refuses \(403\)"),
        (404, b"not here", "/x answers 404: not here"),
        (404, b"404: Page Not Found", "/x answers 404: Page Not Found$"),
        (500, b"x" * 1000, "answers 500: x{200}$"),
        (200, b"<html>", "something else than JSON"),
        (200, b"[" * 200_000, "something else than JSON"),
    ],
)
def test_answers_that_are_none(answers: Any, status: int, body: bytes, expected: str) -> None:
    answers.paths["/x"] = (status, body)
    with pytest.raises(ClientError, match=expected):
        Client(answers.url).get("/x")


def test_another_status_can_be_good(answers: Any) -> None:
    answers.paths["/x"] = (503, {"ready": False})
    assert Client(answers.url).get("/x", good=(200, 503)) == (503, {"ready": False})


def test_post_sends_json_and_reads_json(answers: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    answers.paths["/x"] = (200, {"paused": True})
    client = Client(answers.url, Access(str(tmp_path / "token")))
    assert client.post("/x", {"app": "/ä"}) == (200, {"paused": True})
    assert answers.seen == [("/x", "Bearer abc")]
    assert answers.posted == [("application/json", {"app": "/ä"})]


def test_what_a_refusal_says(answers: Any) -> None:
    answers.paths["/x"] = (409, b"409: locked: " + b"y" * 5000)
    with pytest.raises(BadAnswer, match=r"/x answers 409: locked: y{192}$") as caught:
        Client(answers.url).post("/x", {})
    assert caught.value.status == 409
    assert caught.value.said.startswith("locked: yyy")
    assert len(caught.value.said) < 2000


def test_https_is_verified_with_the_given_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"1")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(HTTPServer):
        def get_request(self) -> Any:
            plain, address = self.socket.accept()
            try:
                return context.wrap_socket(plain, server_side=True), address
            except OSError:
                plain.close()
                raise

    server = Server(("127.0.0.1", 0), Handler)
    url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert Client(url, Access(ca_file=str(tmp_path / "ca.pem"))).get("/").value == 1
        with pytest.raises(ClientError, match=r"is not trusted: .*--ca-file"):
            Client(url).get("/")
        with pytest.raises(ClientError, match="as PEM"):
            Client(url, Access(ca_file=str(tmp_path / "none.pem"))).get("/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
