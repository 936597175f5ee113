"""lb7.access_log: a request's record."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb7._proxy import access_record
from lb7.access_log import MOST_NAME, MOST_PATH

HEAD = (
    b"GET /a%20b?c=\xe9 HTTP/1.1\r\nHost: app.example\r\nAuthorization: Basic c2VjcmV0\r\nCookie: secret=1\r\n"
    b"X-Request-Id: 0123\r\n\r\n"
)


def made(head: bytes | None = HEAD, asked: tuple[str, str, str] | None = None, **values: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        **{"client": "192.0.2.1", "listener": "http", "status": 200, "cluster": "/app:1", "server": "10.0.0.1:80"},
        **{"tries": 1, "received": 10, "sent": 20, "queued": 0.0, "connecting": 0.00000049, "first": 0.5, "total": 1.5},
        "why": None,
    }
    given |= values
    return access_record(head=head, asked=asked, **given)


def test_what_is_told() -> None:
    before = time.time()
    got = made()
    assert before - 1.6 < got.pop("time") <= time.time() - 1.4
    assert got == {
        **{"client": "192.0.2.1", "listener": "http", "method": "GET", "host": "app.example", "path": "/a%20b?c=é"},
        **{"status": 200, "cluster": "/app:1", "server": "10.0.0.1:80", "tries": 1, "received": 10, "sent": 20},
        **{"queued": 0.0, "connecting": 0.0, "first": 0.5, "total": 1.5, "request_id": "0123", "why": None},
    }
    json.dumps(got)


def test_no_secrets() -> None:
    assert "secret" not in str(made())
    assert "c2VjcmV0" not in str(made())


def test_what_the_client_asked_goes_before_what_the_server_was_asked() -> None:
    got = made(asked=("POST", "outer.example", "/outer"))
    assert (got["method"], got["host"], got["path"], got["request_id"]) == ("POST", "outer.example", "/outer", "0123")


def test_a_request_that_could_not_be_read() -> None:
    got = made(head=None, cluster=None, server=None, status=400, why="bad_line")
    assert (got["method"], got["host"], got["path"], got["request_id"]) == ("", "", "", "")
    assert (got["cluster"], got["server"], got["why"]) == (None, None, "bad_line")


def test_long_paths_are_cut() -> None:
    assert made(asked=("GET", "a", "/" * 5000))["path"] == "/" * MOST_PATH


def test_no_record_is_large() -> None:
    """However large a head may be: many of them are one message."""
    long = b"x" * 100_000
    got = made(head=long + b" /" + long + b" HTTP/1.1\r\nHost: " + long + b"\r\nX-Request-Id: " + long + b"\r\n\r\n")
    assert {len(got[key]) for key in ("method", "host", "request_id")} == {MOST_NAME}
    assert len(json.dumps(got)) < 2 * MOST_PATH + 4 * MOST_NAME


PIECES = st.sampled_from(
    [
        *(b"GET", b"/a", b" ", b"HTTP/1.1", b"Host", b"hOsT:", b"host: a.b\t", b"X-Request-Id", b"x-REQUEST-id:12"),
        *(b":", b"\t", b"\r\n", b"\r\n", b"\n", b"\r", b"\xe9", b"x", b"Cookie: a=b", b"y" * (MOST_NAME - 1)),
    ]
)


@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_a_head_is_told_as_plain_code_tells_it(head: bytes) -> None:
    got = made(head)
    assert (got["method"], got["host"], got["path"], got["request_id"]) == plainly_told(head)


def plainly_told(head: bytes) -> tuple[str, ...]:
    """By the words of the head's first line, and the last of its fields that have these names."""
    line, *fields = (line.removesuffix("\r") for line in head.decode("latin-1").split("\n"))
    method, _, rest = line.partition(" ")
    told = {"host": "", "x-request-id": ""}
    for field in fields:
        name, colon, value = field.partition(":")
        if colon and name.lower() in told:
            told[name.lower()] = value.strip(" \t")
    path = rest.rpartition(" ")[0]
    return method[:MOST_NAME], told["host"][:MOST_NAME], path[:MOST_PATH], told["x-request-id"][:MOST_NAME]


@pytest.mark.parametrize("seconds", [0.0, 4e-7, 6e-7, 0.1, 0.1234565, 1.999999, 1e-6, 86399.9999996, 3e9])
def test_times_are_told_to_microseconds(seconds: float) -> None:
    got = made(queued=seconds, total=0.0)
    assert got["queued"] == pytest.approx(seconds, abs=6e-7)
    assert len(repr(got["queued"]).partition(".")[2]) <= 6 or "e-" in repr(got["queued"])
    assert got["time"] == round(got["time"], 6)
