"""The sampled query log."""

from __future__ import annotations

import pytest

from mesos_dns.query_log import QueryLog, log_query
from tests.fakes.questions import packet, responder_of, task

WEB = packet("wEb.marathon.mesos")
V6 = bytes(15) + b"\x01"


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mesos_dns.query_log")


@pytest.mark.parametrize(
    ("query", "client", "line"),
    [
        (WEB, b"\x0a\0\0\1", "query client=10.0.0.1 transport=tls name='wEb.marathon.mesos' type=A rcode=3"),
        (packet("a.mesos", "TYPE4711"), V6, "query client=::1 transport=tls name='a.mesos' type=4711 rcode=3"),
        (packet("a.mesos", "SRV"), b"", "query client= transport=tls name='a.mesos' type=SRV rcode=3"),
        (
            packet("a.mesos")[:12] + b"\3a\nb\0\0\1\0\1",
            V6,
            "query client=::1 transport=tls name='a\\nb' type=A rcode=3",
        ),
    ],
)
def test_a_line_tells_who_asked_what(query: bytes, client: bytes, line: str, caplog: pytest.LogCaptureFixture) -> None:
    log_query(query, "tls", client, 3)
    assert caplog.messages == [line]


@pytest.mark.parametrize("query", [b"", bytes(12), WEB[:20]])
def test_what_has_no_question_has_no_line(query: bytes, caplog: pytest.LogCaptureFixture) -> None:
    log_query(query, "udp", b"", 1)
    assert caplog.messages == []


def test_one_in_so_many(caplog: pytest.LogCaptureFixture) -> None:
    sample = QueryLog(3)
    for _ in range(10):
        sample.seen(WEB, "udp", b"\x7f\0\0\1", bytes(12))
    assert len(caplog.messages) == 3


def test_what_python_answers_is_sampled(caplog: pytest.LogCaptureFixture) -> None:
    responder = responder_of(task(), query_log=2)
    for transport in ("udp", "tcp", "tls", "udp"):
        responder.decide(WEB, transport, b"\x7f\0\0\1")
    assert [message.split()[2] for message in caplog.messages] == ["transport=tcp", "transport=udp"]
    silent = responder_of(task())
    silent.decide(WEB, "udp", b"\x7f\0\0\1")
    assert len(caplog.messages) == 2
