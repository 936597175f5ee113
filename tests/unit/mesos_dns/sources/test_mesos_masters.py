"""The masters' election: registrations of real masters, both forms, and a real ZooKeeper that holds them."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns.sources.counters import Complaints
from mesos_dns.sources.mesos_masters import MasterGroup, SeenMaster, decode_binary, decode_json
from tests.system.ensemble import Ensemble
from tests.zookeeper_clients import session, unique_path, until

# As Mesos 1.12 registered itself (recorded from a real cluster).
RECORDED = (
    b'{"address":{"hostname":"127.0.0.13","ip":"127.0.0.13","port":15050},"capabilities":[{"type":"AGENT_UPDATE"},'
    b'{"type":"AGENT_DRAINING"},{"type":"QUOTA_V2"}],"domain":{"fault_domain":{"region":{"name":"region1"},"zone":'
    b'{"name":"z3"}}},"hostname":"127.0.0.13","id":"86648f17-1da6-46cc-b4c7-0897d461daf8","ip":218103935,'
    b'"pid":"master@127.0.0.13:15050","port":15050,"version":"1.12.0"}'
)


def info(**members: object) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RECORDED, SeenMaster("127.0.0.13", "127.0.0.13", 15050)),
        (info(pid="master@10.0.0.1:5051", hostname="m1"), SeenMaster("10.0.0.1", "m1", 5051)),
        (info(ip=16777226, port=5052), SeenMaster("10.0.0.1", "", 5052)),
        (info(ip=184549503), SeenMaster("127.0.0.11", "", 5050)),
        (info(hostname="m1.example"), SeenMaster("", "m1.example", 5050)),
        (info(address={"hostname": "m1", "port": 5053}), SeenMaster("", "m1", 5053)),
        (info(address={"ip": "fd00::1", "port": 5050}, more=[1]), SeenMaster("fd00::1", "", 5050)),
    ],
)
def test_json(data: bytes, expected: SeenMaster) -> None:
    assert decode_json(data) == expected
    assert expected.host == (expected.address or expected.hostname)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b'{"port":70000,"hostname":"h"}', b'{"ip":"x"}', b"\xff"])
def test_what_is_no_json_info_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(data)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: a number, or something with a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


OLD = field(1, "20150101-1") + field(2, 16777226) + field(3, 5050)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OLD, SeenMaster("10.0.0.1", "", 5050)),
        (OLD + field(4, "master@10.0.0.2:5051") + field(5, "m2"), SeenMaster("10.0.0.2", "m2", 5051)),
        (
            OLD + field(7, field(1, "m3") + field(2, "10.0.0.3") + field(3, 5053)) + field(6, "0.28.0"),
            SeenMaster("10.0.0.3", "m3", 5053),
        ),
        # Fields that nobody knows, of each wire type, are passed over.
        (b"\x79" + bytes(8) + b"\x7d" + bytes(4) + OLD, SeenMaster("10.0.0.1", "", 5050)),
    ],
)
def test_protobuf(data: bytes, expected: SeenMaster) -> None:
    assert decode_binary(data) == expected


@pytest.mark.parametrize("data", [b"", b"\x0a\x05ab", b"\x10", b"\x0b", b"\x10" + b"\xff" * 11, field(5, b"\xff")])
def test_what_is_no_protobuf_info_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_binary(data)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=20).map(lambda cut: OLD[: len(cut)] + cut)))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for decode in (decode_json, decode_binary):
        with contextlib.suppress(ValueError):
            seen = decode(data)
            assert seen.host
            assert 0 < seen.port < 65536


@pytest.mark.asyncio
async def test_the_lowest_number_leads_whatever_its_form(zookeeper: Ensemble) -> None:
    path = unique_path()
    async with session(zookeeper) as s, session(zookeeper) as masters:
        seen: list[SeenMaster | None] = []
        group = MasterGroup(s, path, lambda moved: seen.append(group.leader), Complaints(logging.getLogger("test")))
        group.start()
        await until(lambda: "has no" in group.failure)
        await masters.ensure(path)
        await masters.create(f"{path}/log_replicas")
        await until(lambda: "no master is registered" in group.failure)

        async def register(prefix: str, data: bytes) -> str:
            return await masters.create(f"{path}/{prefix}info_", data, ephemeral=True, sequence=True)

        first = await register("", OLD)
        await until(lambda: seen == [SeenMaster("10.0.0.1", "", 5050)])
        assert group.failure == ""
        second = await register("json.", info(hostname="m2"))
        third = await register("json.", RECORDED)
        await until(lambda: len(group.masters) == 3)
        assert [master.host for master in group.masters] == ["10.0.0.1", "m2", "127.0.0.13"]
        await masters.delete(first)
        await until(lambda: group.leader == SeenMaster("", "m2", 5050))
        # Nobody takes the place of a leader that can't be read, and an election without masters says nothing.
        await masters.delete(second)
        await masters.delete(third)
        await until(lambda: "no master is registered" in group.failure)
        assert group.leader is not None
        await register("json.", b"{}")
        fine = await register("json.", info(hostname="m9"))
        await until(lambda: group.masters == (SeenMaster("", "m9", 5050),))
        assert group.leader == SeenMaster("127.0.0.13", "127.0.0.13", 15050)
        assert fine.endswith("0000000005")
        await group.close()


@pytest.mark.asyncio
async def test_a_bad_registration_is_told_once(zookeeper: Ensemble, caplog: pytest.LogCaptureFixture) -> None:
    path = unique_path()
    async with session(zookeeper) as s:
        await s.ensure(path)
        await s.create(f"{path}/json.info_0000000007", b"x" * 70_000)
        await s.create(f"{path}/json.info_0000000009", info(hostname="m"))
        await s.create(f"{path}/json.info_9", info(hostname="never looked at"))
        group = MasterGroup(s, path, lambda moved: None, Complaints(logging.getLogger("mesos_dns.test")))
        group.start()
        await until(lambda: group.masters)
        assert group.masters == (SeenMaster("", "m", 5050),)
        assert group.leader is None
        assert f"registered in {path}/json.info_0000000007 is left out: over 65536 bytes" in caplog.text
        assert "leader=None" in repr(group)
        await group.close()
