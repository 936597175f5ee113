"""The HTTP of a check: what is asked, and which answers have a status."""

from __future__ import annotations

import pytest

from mesos_dns.checked import BackendKey
from mesos_dns.probe_http import MAX_HEAD, MAX_LINE, Malformed, ResponseHead, is_good, request


def status(*pieces: bytes) -> int | None:
    head = ResponseHead()
    for piece in pieces:
        head.feed(piece)
    return head.status


def test_the_request() -> None:
    assert request(BackendKey("10.0.0.1", 80), "/up?x=1") == (
        b"GET /up?x=1 HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: pharos-check\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n"
    )
    assert b"\r\nHost: [::1]:8080\r\n" in request(BackendKey("::1", 8080), "/")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 200 \r\n\r\n", 200),
        (b"HTTP/1.1 204\r\n\r\n", 204),
        (b"HTTP/1.1 500 Internal Server Error\r\nA: b\r\n\r\nbody", 500),
        (b"HTTP/1.1 200 OK\nA: b\n\n", 200),
        (b"HTTP/1.1 200 \xc3\xa4\t!\r\n\r\n", 200),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\n\r\n", 302),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
        (b"H", None),
        (b"HTTP/1.1 20", None),
    ],
)
def test_the_status(answer: bytes, expected: int | None) -> None:
    assert status(answer) == expected
    assert status(*[answer[at : at + 1] for at in range(len(answer))]) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nrubbish",
        b"HTTP/1.1 200 " + b"x" * MAX_LINE,
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(Malformed):
        status(answer)
    with pytest.raises(Malformed):
        status(*[answer[at : at + 7] for at in range(0, len(answer), 7)])


def test_rubbish_is_refused_with_its_first_octet() -> None:
    with pytest.raises(Malformed, match="no HTTP/1: begins with b'x'"):
        status(b"x")


def test_a_head_without_an_end_is_refused() -> None:
    fields = [b"A: " + b"x" * 995 + b"\r\n"] * (MAX_HEAD // 1000 + 1)
    with pytest.raises(Malformed, match="a head of more than 65536 octets"):
        status(b"HTTP/1.1 200 OK\r\n", *fields)
    with pytest.raises(Malformed, match="a head of more than 65536 octets"):
        status(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * MAX_HEAD)


def test_what_is_said_of_an_end() -> None:
    head = ResponseHead()
    assert head.ended() == "closed without an answer"
    head.feed(b"HTT")
    assert head.ended() == "closed within the head"


@pytest.mark.parametrize(("code", "good"), [(101, False), (200, True), (399, True), (400, False), (503, False)])
def test_good_ones(code: int, good: bool) -> None:
    assert is_good(code) == good
