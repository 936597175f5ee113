"""Untrusted bytes of Marathon: event streams and documents, mutated, through their readers.

Nothing but the errors that readers name is raised, whatever comes; what is accepted can be written again and is within
the limits; a stream gives the same events in whatever pieces it arrives. PHAROS_SOAK makes it long.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from mesos_dns.sources.marathon_events import Touched, touched_by
from mesos_dns.sources.marathon_pods import read_pod
from mesos_dns.sources.marathon_read import MAX_ID, BadApp, ReadApp, read_apps, read_element
from mesos_dns.sources.marathon_stream import EventReader, ServerEvent
from mesos_dns.sources.marathon_wire import MAX_PORTS

ROUNDS = 200_000 if os.environ.get("PHAROS_SOAK") else 4_000

APP: dict[str, Any] = {
    "id": "/a/b",
    "instances": 2,
    "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "x.example"},
    "networks": [{"mode": "container/bridge"}],
    "container": {
        "type": "DOCKER",
        "docker": {"network": "BRIDGE", "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 10000}]},
        "portMappings": [{"containerPort": 81, "labels": {"VIP_0": "/a:80"}}],
    },
    "ipAddress": {"discovery": {"ports": [{"number": 8080, "name": "http", "protocol": "tcp"}]}},
    "ports": [10000, 10001],
    "portDefinitions": [{"port": 10000, "protocol": "udp,tcp", "labels": {"k": "v"}}],
    "requirePorts": True,
    "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 1.5}],
    "versionInfo": {"lastScalingAt": "2026-01-01T00:00:00.000Z", "lastConfigChangeAt": "2026-01-01T00:00:00Z"},
    "deployments": [{"id": "d"}],
    "tasks": [
        {
            "id": "a_b.1",
            "host": "10.0.0.1",
            "ports": [31000],
            "ipAddresses": [{"ipAddress": "fd00::1"}],
            "healthCheckResults": [{"alive": True}, None],
            "stagedAt": "2026-01-01T00:00:00.000Z",
        }
    ],
}
POD: dict[str, Any] = {
    "id": "/p",
    "spec": {
        "id": "/p",
        "networks": [{"mode": "container"}],
        "scaling": {"instances": 1},
        "containers": [
            {
                "name": "c",
                "endpoints": [{"name": "e", "containerPort": 80, "protocol": ["tcp"]}],
                "healthCheck": {"tcp": {"endpoint": "e"}},
            }
        ],
    },
    "instances": [
        {
            "id": "p.i",
            "networks": [{"addresses": ["9.0.0.1"]}],
            "containers": [{"name": "c", "containerId": "p.i.c", "conditions": [{"name": "healthy", "value": "true"}]}],
        }
    ],
}
EVENTS = (
    b'event: status_update_event\r\ndata: {"appId":"/a","eventType":"status_update_event"}\r\n\r\n'
    b': comment\n\r\nevent: deployment_info\rdata: {"plan":{"steps":[{"actions":[{"app":"/a"}]}]}}\r\r'
    b'data: {"eventType":"instance_changed_event",\ndata: "runSpecId":"/p"}\n\n'
)
ODD = (
    b"null",
    b"-1",
    b"1e999",
    b"[]",
    b"{}",
    b'"\\ud800"',
    b'"\xff"',
    b"true",
    b"99999999999999999999",
    b'""',
    b"[[[[",
)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """A copy with some bytes, or a whole value, made something else."""
    copy = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        at, kind = dice.randrange(len(copy) + 1), dice.randrange(5)
        if kind == 0:
            copy[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 1:
            del copy[at : at + dice.randrange(1, 30)]
        elif kind == 2:
            copy[at:at] = dice.choice(ODD)
        elif kind == 3:
            end = copy.find(b",", at)
            start = copy.rfind(b":", 0, at)
            copy[start + 1 : end if end > start else at] = dice.choice(ODD)
        else:
            copy[at:at] = copy[dice.randrange(len(copy) + 1) :][: dice.randrange(100)]
    return bytes(copy) or b" "


def check(read: ReadApp) -> None:
    """What was accepted is sound."""
    assert read.app.id.startswith("/")
    assert len(read.app.id) <= MAX_ID
    assert len(read.app.ports) <= MAX_PORTS
    msgspec.json.encode(read.app)
    for overlay in read.overlays:
        assert 0 < len(overlay.task_id) <= MAX_ID
        assert all(0 <= port <= 65535 for port in overlay.ports)
        msgspec.json.encode(overlay)


def test_documents() -> None:
    dice, accepted, refused = random.Random(11), 0, list[str]()
    app, pod = json.dumps(APP).encode(), json.dumps(POD).encode()
    check(read_element(app))
    check(read_pod(pod))
    for _ in range(ROUNDS):
        for data, read in ((app, read_element), (pod, read_pod)):
            try:
                check(read(mutated(data, dice)))
                accepted += 1
            except BadApp as error:
                refused.append(error.id)
    assert max(map(len, refused)) <= MAX_ID
    assert accepted > ROUNDS / 20  # mutations that hit what nobody reads


def test_one_app_never_costs_another() -> None:
    dice = random.Random(12)
    for _ in range(ROUNDS // 4):
        odd: Any = json.loads(json.dumps(APP))
        _spoil(odd, dice)
        read = read_apps(json.dumps({"apps": [APP, odd, {**APP, "id": "/last"}]}).encode())
        assert (read.apps[0].id, read.apps[-1].id) == ("/a/b", "/last")
        for found in (*read.apps, *read.overlays):
            msgspec.json.encode(found)


def _spoil(value: Any, dice: random.Random) -> None:
    """Replace one value somewhere inside."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and dice.random() < 0.7:
            value = value[key]
            continue
        value[key] = dice.choice([None, -1, 70000, "x", [], {}, [None], {"id": 7}, True, 1.5, "\x00", [[]]])
        return


def pieces(data: bytes, dice: random.Random) -> Iterator[bytes]:
    """`data` in pieces of random sizes."""
    while data:
        size = dice.randrange(1, 20)
        yield data[:size]
        data = data[size:]


def test_event_streams() -> None:
    dice = random.Random(13)
    for _ in range(ROUNDS):
        data = mutated(EVENTS, dice) + b"\n\nevent: status_update_event\ndata: {}\n\n"
        whole = EventReader(1000).feed(data)
        reader, found = EventReader(1000), list[ServerEvent]()
        for piece in pieces(data, dice):
            found += reader.feed(piece)
        assert found == whole
        assert whole[-1] == ServerEvent("status_update_event", b"{}")
        for event in whole:
            try:
                touched = touched_by(event)
            except ValueError:
                continue
            assert isinstance(touched, Touched)
            assert all(name.startswith("/") for name in touched.apps | touched.runs | touched.pods)
