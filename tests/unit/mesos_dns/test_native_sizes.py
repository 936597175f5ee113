"""Answers that do not fit: the native table cuts them as Python does, to the octet."""

from __future__ import annotations

import pytest

from tests.fakes.fast_answers import cluster
from tests.fakes.questions import packet, task


@pytest.mark.parametrize("count", [5, 30, 400, 900, 1200])
def test_answers_of_any_size(count: int) -> None:
    # Glue in full, then with pointers, as far as those reach, then none; whole record sets, then a truncated answer.
    twins = cluster(*(task(n, host_ports=(1,)) for n in range(count)))
    query = packet("_web._tcp.marathon.slave.mesos", "SRV", payload=4096)
    twins.warm(query)
    for transport in ("udp", "tcp"):
        for turn in (0, 1 << 31, 3 << 30, 0xFFFFFFFF):
            assert twins.agreed(query, transport, turn=turn) is not None


@pytest.mark.parametrize(
    ("name", "rtype"), [("_web._tcp.marathon.mesos", "SRV"), ("_web._udp.marathon.slave.mesos", "SRV")]
)
def test_every_size_that_a_client_takes(name: str, rtype: str) -> None:
    twins = cluster(*(task(n, host_ports=(1,), networks=()) for n in range(8)))
    for payload in range(512, 1234):
        assert twins.asked(name, rtype, payload=payload) is not None


def test_a_truncated_answer_is_filled_up_for_every_size() -> None:
    twins = cluster(*(task(n) for n in range(90)))
    for payload in range(512, 1234, 3):
        query = packet("web.marathon.mesos", payload=payload)
        twins.warm(query)
        for turn in (0, 1 << 31):
            reply = twins.agreed(query, turn=turn)
            assert reply is not None
            assert reply[2] & 2
            assert payload - 16 < len(reply) <= payload


def test_a_name_that_leaves_no_room_for_its_answer() -> None:
    long = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 40])
    twins = cluster(*(task(n, discovery_name=long) for n in range(40)))
    for payload in (None, 512, 513, 600):
        reply = twins.asked(f"{long}.marathon.mesos", payload=payload)
        assert reply is not None
        assert reply[2] & 2
