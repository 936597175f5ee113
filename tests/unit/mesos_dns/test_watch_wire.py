"""Messages of /v1/watch: what is told comes back the same, and no bytes raise anything but WireError."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.catalog_file import KINDS
from mesos_dns.model import (
    App,
    AppCheck,
    AppPort,
    Draining,
    Endpoint,
    Ensemble,
    Entity,
    Framework,
    Health,
    HealthOverlay,
    Leadership,
    Network,
    Node,
    Port,
    PortMapping,
    StaticRecords,
    Suspect,
    Task,
    Vip,
    VipAddress,
    VipCheck,
    VipSelector,
    VipServer,
)
from mesos_dns.watch_wire import (
    ALL_BUCKETS,
    BUCKETS,
    DIGESTS_OCTETS,
    MAX_ENTITY,
    ORDER,
    Digests,
    WireError,
    answer_message,
    bucket_of,
    decode_answer,
    decode_entities,
    decode_message,
    delta_message,
    encode,
    encode_entity,
    position_text,
    read_position,
    slice_message,
    synced_message,
)

V = "0123456789abcdef.7"

TASK = {"framework_id": "F", "id": "t", "name": "t", "node_id": "S", "state": "TASK_RUNNING"}

EVERYTHING: tuple[Entity, ...] = (
    Node("S1", "a1", ("10.0.0.1", "fd00::1"), 5051),
    Framework("F1", "marathon", True, ("10.0.0.2",), 15101, "http://x"),
    Task(
        "F1",
        "web.1",
        "wéb",
        "S1",
        "TASK_RUNNING",
        Health.HEALTHY,
        (("a", "b\n"),),
        "disc",
        "EXTERNAL",
        (Port(80, "http", "tcp", (("VIP_0", "/x:80"),)),),
        (Network("dcos", ("9.0.0.1",)),),
        (("docker", "172.17.0.2"),),
        (PortMapping(31000, 80),),
        (31000, 31001),
        "docker",
        1795405200.123456,
        duplicate=2,
    ),
    Leadership(Endpoint("10.0.0.1", 5050), (Endpoint("10.0.0.1", 5050), Endpoint("fd00::2", 5050))),
    Leadership(cluster="other"),
    App(
        "/web",
        (("a", "b"),),
        "pod",
        "container",
        (AppPort(10000, 80, -1, "http", "tcp", (("c", "d"),)),),
        (AppCheck("HTTP", "/health", 0, 8080, 1.5, 2.5, 3.5, 4),),
        3,
        "v",
        1795405200.5,
        1795405201.5,
        ("d",),
        "F1",
    ),
    HealthOverlay(
        "F1", "web.1", Health.UNHEALTHY, (1, 2), "/web", "h", ("10.0.0.1",), ("fd00::1",), "TASK_RUNNING", "v", 1.5, 2.5
    ),
    VipAddress("db.marathon", "11.0.0.1"),
    Vip("db.marathon", 5432, selector=VipSelector(app="/db"), servers=(VipServer("10.0.0.4", 1),), check=VipCheck()),
    Suspect("10.0.0.1"),
    Draining("F1", "web.1", 1795405260.5),
    Ensemble((("10.0.0.1",), ())),
    StaticRecords("x.example.", 16, 60, (b"\x03abc", b"\x00\xff"), "example."),
)


def test_every_kind_is_told_and_comes_back_the_same() -> None:
    assert {entity.key[0] for entity in EVERYTHING} == set(KINDS) == set(ORDER)
    for entity in EVERYTHING:
        encoded = encode_entity(entity)
        assert encoded is not None
        for message in (
            decode_message(delta_message(V, entity.key[0], [encoded, encoded], [])),
            decode_message(slice_message(V, entity.key[0], [encoded, encoded], {3, 1})),
        ):
            assert message.position == ("0123456789abcdef", 7)
            assert decode_entities(message.kind, message.put) == ([entity, entity], [])
            assert encode_entity(entity) == encoded


def test_nodes_and_frameworks_come_first_and_tasks_last() -> None:
    assert ORDER[:2] == ("node", "framework")
    assert ORDER[-1] == "task"
    assert len(ORDER) == len(set(ORDER))


def test_drops_and_the_end_of_a_sync() -> None:
    message = decode_message(delta_message(V, "node", [], [encode(EVERYTHING[0].key)]))
    assert message.drop == (("node", "mesos", "S1"),)
    assert message.buckets is None
    assert decode_message(slice_message(V, "node", [], {9, 2})).buckets == (2, 9)
    synced = decode_message(synced_message(V, ALL_BUCKETS))
    assert synced.synced
    assert synced.buckets == tuple(range(BUCKETS))


def test_what_can_not_be_told() -> None:
    assert encode_entity(Node("\ud800", "x")) is None
    assert encode_entity(Node("a", "x" * MAX_ENTITY)) is None
    assert 0 <= bucket_of(("node", "mesos", "\ud800")) < BUCKETS


def test_buckets_are_the_same_on_every_machine() -> None:
    tasks = [("task", "mesos", "F1", name) for name in ("web.1", "wéb")]
    assert [bucket_of(("node", "mesos", "S1")), *map(bucket_of, tasks)] == [797, 555, 247]
    spread = {bucket_of(("task", "mesos", "F1", f"web.{n}")) for n in range(20_000)}
    assert spread == ALL_BUCKETS


def test_positions() -> None:
    assert read_position(position_text("0123456789abcdef", 12)) == ("0123456789abcdef", 12)
    for text in (
        "",
        "0123456789abcdef",
        "0123456789abcdef.",
        "0123456789abcdef.01",
        "0123456789ABCDEF.1",
        "ü.1",
        f"{V} ",
    ):
        with pytest.raises(WireError):
            read_position(text)


def test_answers() -> None:
    digests = Digests("0123456789abcdef").octets()
    assert len(digests) == DIGESTS_OCTETS
    assert decode_answer(answer_message(digests)) == digests
    assert decode_answer(answer_message(None)) is None
    for text in (
        "",
        "[]",
        "{}",
        '{"digests":"AA=="}',
        '{"digests":7}',
        '{"digests":"%"}',
        '{"full":1}',
        '{"digests":"é"}',
    ):
        with pytest.raises(WireError):
            decode_answer(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"v": ""},
        {"v": 7},
        {"stale": -1},
        {"as_of": -0.5},
        {"via": ["x"] * 17},
        {"via": ["x" * 65]},
        {"buckets": [1024]},
        {"buckets": [-1]},
        {"buckets": ["1"]},
        {"drop": [["a", 7]]},
        {"drop": "ab"},
        {"synced": 1},
        {"kind": None},
    ],
)
def test_messages_that_are_none(fields: dict[str, Any]) -> None:
    good = {"v": V, "kind": "node", "put": [], "drop": []}
    decode_message(json.dumps(good))
    with pytest.raises(WireError):
        decode_message(json.dumps({**good, **fields}))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("node", {"id": "S", "hostname": "h", "addresses": ["10.0.0.256"]}),
        ("node", {"id": "S", "hostname": "h", "addresses": [""]}),
        ("node", {"id": "S", "hostname": "h", "addresses": ["FD00::1"]}),
        ("node", {"id": "S", "hostname": "h", "port": 65536}),
        ("node", {"id": "S", "hostname": "h", "state": "lost"}),
        ("framework", {"id": "F", "name": "f", "port": -1}),
        ("task", {**TASK, "state": None}),
        ("task", {**TASK, "start_time": "now"}),
        (
            "task",
            {
                "framework_id": "F",
                "id": "t",
                "name": "t",
                "node_id": "S",
                "state": "x",
                "networks": [{"addresses": ["x"]}],
            },
        ),
        ("leadership", {"leader": {"address": "10.0.0.1", "port": 70000}}),
        ("ensemble", {"servers": [["zk1"]]}),
        ("records", {"owner": "x", "rtype": 1, "ttl": 1, "rdata": []}),
        ("records", {"owner": "x.", "rtype": 0, "ttl": 1, "rdata": []}),
        ("records", {"owner": "x.", "rtype": 1, "ttl": -1, "rdata": []}),
        ("records", {"owner": "x.", "rtype": 1, "ttl": 1, "rdata": ["%"]}),
        (
            "records",
            {"owner": "x.", "rtype": 1, "ttl": 1, "rdata": [base64.b64encode(bytes(65536)).decode()]},
        ),
        ("task", 7),
        ("task", None),
    ],
)
def test_a_bad_entity_costs_only_itself(kind: str, fields: Any) -> None:
    good = next(entity for entity in EVERYTHING if entity.key[0] == kind)
    raw = b"[%b,%b,%b]" % (encode(good), json.dumps(fields).encode(), encode(good))
    found, refused = decode_entities(kind, raw)
    assert found == [good, good]
    assert len(refused) == 1
    assert len(refused[0]) < 600


def test_digests_are_those_of_what_is_there_whatever_came_and_went() -> None:
    one, two = Digests("0123456789abcdef"), Digests("0123456789abcdef")
    values = [one.of(encode(entity)) for entity in EVERYTHING]
    assert len(set(values)) == len(values)
    for number, value in enumerate(values):
        one.toggle(number, value)
    for number, value in reversed(list(enumerate(values))):
        two.toggle(number, value)
    assert one.differing(two.octets()) == frozenset()
    two.toggle(5, values[5])
    two.toggle(700, values[1])
    assert one.differing(two.octets()) == {5, 700}
    assert Digests("ffffffffffffffff").of(b"x") != one.of(b"x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "hello",
    "resume",
    "stale",
    "as_of",
    "via",
    "kind",
    "put",
    "drop",
    "buckets",
    "synced",
    "digests",
    "full",
)
odd_messages = st.fixed_dictionaries(
    {"v": st.just(V) | json_values},
    optional={name: json_values | st.just("task") | st.lists(st.integers(0, 1023)) for name in FIELDS},
)


@given(st.binary(max_size=200) | st.text(max_size=200) | odd_messages.map(json.dumps))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes | str) -> None:
    for decode in (decode_message, decode_answer):
        try:
            decode(data)
        except WireError:
            pass


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_entities_are_decoded_or_refused(kind: str, data: st.DataObject) -> None:
    good = json.loads(encode(next(entity for entity in EVERYTHING if entity.key[0] == kind)))
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(good)), json_values, max_size=3))
    raw = json.dumps([good, {**good, **changes}, data.draw(json_values)]).encode()
    try:
        found, refused = decode_entities(kind, raw)
    except WireError:
        return  # NaN and its kind are no JSON
    assert 1 <= len(found) <= 3
    assert len(found) + len(refused) == 3
    for entity in found:
        assert entity.key[0] == kind
        hash(entity.key)


@given(st.binary(max_size=300), st.integers(0, 300), st.binary(max_size=3))
def test_damaged_messages(noise: bytes, place: int, patch: bytes) -> None:
    whole = slice_message(V, "task", [encode(EVERYTHING[2])], {1})
    damaged = whole[:place] + patch + whole[place + len(patch) :]
    for data in (damaged, whole[:place] + noise, whole[:place]):
        try:
            message = decode_message(data)
            decode_entities("task", message.put)
        except WireError:
            pass


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for text in ("[" * 100_000, '{"v":' * 100_000, f'{{"v":"{V}","put":{"[" * 100_000}'):
        with pytest.raises(WireError):
            decode_message(text)
    deep = "[" * 5000 + "]" * 5000
    with pytest.raises(WireError):
        decode_entities("task", decode_message(f'{{"v":"{V}","put":{{}},"x":1}}').put)
    try:
        found, refused = decode_entities("task", f"[{deep}]".encode())
        assert not found
        assert len(refused) == 1
    except WireError:
        pass
