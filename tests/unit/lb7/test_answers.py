"""lb7.answers: the edge's own answers."""

from __future__ import annotations

import h11
import pytest

from lb7.answers import REASONS, answer


def read(octets: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """What h11 reads; it has to be one whole message."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(octets)
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)
    return response, body


@pytest.mark.parametrize("status", REASONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_answer_is_one_whole_message(status: int, method: str) -> None:
    response, body = read(answer(status, b"X-A: b\r\n", True, method == "HEAD", 1), method)
    fields = dict(response.headers)
    assert (response.status_code, response.reason) == (status, REASONS[status])
    assert (fields[b"x-a"], fields[b"connection"]) == (b"b", b"close")
    if method == "HEAD":
        assert body == b""
    else:
        assert body == (b"%d %b\n" % (status, REASONS[status]) if status >= 400 else b"")
        assert fields[b"content-length"] == b"%d" % len(body)
    assert (fields.get(b"cache-control") == b"no-store") == (status >= 400)


def test_connections_that_go_on() -> None:
    assert b"connection" not in dict(read(answer(503, b"", False, False, 1))[0].headers)
    assert dict(read(answer(503, b"", False, False, 0))[0].headers)[b"connection"] == b"keep-alive"


def test_statuses_that_have_no_phrase_here() -> None:
    assert read(answer(499, b"", False, False, 1))[1] == b"499 Error\n"
    assert read(answer(300, b"Location: /a\r\n", False, False, 1))[1] == b""
