"""Registrations as tasks: both formats, what is left out, and which names a path gives."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.model import Network, Port
from mesos_dns.sources.serverset_member import MEMBER_NAME, Member, decode, place_of, task_of

FINAGLE = {
    "serviceEndpoint": {"host": "smfd-aki-15.example", "port": 31181},
    "additionalEndpoints": {
        "aurora": {"host": "smfd-aki-15.example", "port": 31181},
        "health": {"host": "smfd-aki-15.example", "port": 31182},
    },
    "status": "ALIVE",
    "shard": 3,
}
NERVE = {"host": "10.0.0.7", "port": 3000, "name": "i-ab12", "weight": 2, "labels": {"az": "us-1a", "n": 1}}


def encoded(base: dict[str, object], **more: object) -> bytes:
    return json.dumps({**base, **more}).encode()


def test_a_finagle_member() -> None:
    member, left_out = decode(encoded(FINAGLE))
    assert left_out == []
    assert member == Member(
        "smfd-aki-15.example",
        31181,
        (("aurora", 31181), ("health", 31182)),
        "TASK_RUNNING",
        (("status", "ALIVE"), ("shard", "3")),
    )


def test_a_nerve_entry() -> None:
    labels = (("az", "us-1a"), ("name", "i-ab12"), ("weight", "2"))
    assert decode(encoded(NERVE)) == (Member("10.0.0.7", 3000, (), "TASK_RUNNING", labels), [])
    assert decode(b'{"host": "h", "port": "81"}')[0] == Member("h", 81)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("ALIVE", "TASK_RUNNING"),
        (None, "TASK_RUNNING"),
        ("STARTING", "TASK_STARTING"),
        ("STOPPING", "TASK_KILLING"),
        ("STOPPED", "TASK_FINISHED"),
        ("DEAD", "TASK_LOST"),
        ("WARNING", "TASK_LOST"),
    ],
)
def test_only_members_that_are_alive_run(status: str | None, state: str) -> None:
    assert decode(encoded(FINAGLE, status=status))[0].state == state


def test_an_endpoint_that_can_not_be_told_costs_only_itself() -> None:
    endpoints = {
        "other": {"host": "10.9.9.9", "port": 1},
        "zero": {"host": "smfd-aki-15.example", "port": 0},
        "": {"host": "smfd-aki-15.example", "port": 1},
        "good": {"host": "smfd-aki-15.example", "port": 1},
    }
    member, left_out = decode(encoded(FINAGLE, additionalEndpoints=endpoints))
    assert member.named == (("good", 1),)
    assert left_out == [
        "endpoint 'other' is on another host",
        "endpoint 'zero' has no legal port or name",
        "endpoint '' has no legal port or name",
    ]
    many = {f"e{n}": {"host": "smfd-aki-15.example", "port": 1} for n in range(70)}
    member, left_out = decode(encoded(FINAGLE, additionalEndpoints=many))
    assert (len(member.named), len(left_out)) == (64, 6)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"[1]", "object"),
        (b"\xff", "malformed"),
        (b"{}", "neither serviceEndpoint"),
        (b'{"vector": [{"select": "member=0", "weight": 1.0}]}', "neither serviceEndpoint"),
        (encoded(FINAGLE, serviceEndpoint={"host": "h"}), "port"),
        (encoded(FINAGLE, serviceEndpoint={"host": "h", "port": 0}), "port 0 is none of 1 to 65535"),
        (encoded(FINAGLE, serviceEndpoint={"host": "a b", "port": 1}), "'a b' is neither an address nor a host name"),
        (encoded(FINAGLE, status="SLEEPING"), "status 'SLEEPING' is none of ALIVE"),
        (encoded(NERVE, port="x1"), "port 'x1' is no number"),
        (encoded(NERVE, port=70000), "port 70000"),
        (encoded(NERVE, host=""), "'' is neither"),
        (b'{"host": "' + b"h" * 70_000 + b'", "port": 1}', "over 65536 bytes"),
        (b"[" * 60_000, "ecursion|object"),
    ],
)
def test_what_is_no_registration_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(data)


@given(st.one_of(st.binary(max_size=300), st.integers(0, 200).map(lambda n: encoded(FINAGLE)[:n])))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        member, _ = decode(data)
        assert 0 < member.port < 65536


@pytest.mark.parametrize(
    ("name", "is_member"),
    [
        ("member_0000000012", True),
        ("i-ab12_0000000003", True),
        ("_0000000003", True),
        ("vector_0000000001", False),
        ("member_12", False),
        ("role", False),
    ],
)
def test_which_znodes_are_members(name: str, is_member: bool) -> None:
    assert bool(MEMBER_NAME.fullmatch(name)) is is_member


@pytest.mark.parametrize(
    ("root", "suffix", "folder", "expected"),
    [
        ("/aurora", "aurora", "/aurora/www-data/prod/hello", ("hello", "prod.www-data.aurora")),
        ("/nerve/services", "nerve", "/nerve/services/web/services", ("web", "nerve")),
        ("/nerve/services", "nerve", "/nerve/services/web", ("web", "nerve")),
        ("/nerve", "smartstack", "/nerve/region:us/web.main", ("web.main", "region:us.smartstack")),
        ("/twitter/service", "tw", "/twitter/service/a.b/c/d", ("d", "c.a-b.tw")),
        ("/discovery/web", "zk", "/discovery/web", ("web", "zk")),
        ("", "zk", "/services", ("services", "zk")),
        ("", "zk", "", ("zk", "zk")),
    ],
)
def test_names_of_a_path(root: str, suffix: str, folder: str, expected: tuple[str, str]) -> None:
    assert place_of(root, suffix, folder) == expected


def test_a_task() -> None:
    member, _ = decode(encoded(FINAGLE))
    task = task_of(member, "/aurora/r/e/j/member_0000000012", ("j", "e.r.aurora"), ("10.0.0.1",), 7.5, "serversets")
    assert task.key == ("task", "serversets", "e.r.aurora", "/aurora/r/e/j/member_0000000012")
    assert (task.name, task.discovery_name, task.node_id, task.start_time) == ("j", "j", "", 7.5)
    assert task.networks == (Network("", ("10.0.0.1",)),)
    assert task.ports == (
        Port(31181, "", "tcp"),
        Port(31181, "aurora", "tcp", secondary=True),
        Port(31182, "health", "tcp", secondary=True),
    )
    assert task.labels[0] == ("endpoint", "smfd-aki-15.example:31181")
    assert task_of(member, "/x_0000000001", ("j", "f"), (), 0.0, "c").networks == ()
