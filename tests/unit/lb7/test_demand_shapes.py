"""What an edge may tell, and what is not taken for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from lb7.demand_shapes import MOST_LINE, ROWS, read_block
from tests.fakes.telling_edge import KEY, block, row

ROW: dict[str, Any] = {"cluster_name": "/a:1", "keys": [["mesos", "F1", "/a"]], "app": "/a", "port": 1}
BLOCK: dict[str, Any] = {"edge": "e1", "epoch": "x", "at": 1.5, "uptime": 2, "n": 3, "apps": [ROW]}


def test_what_is_told_is_read() -> None:
    told = block(7, row(requests=5, status=[0, 0, 5, 0, 0, 0], latency=[5] * 16, held=1), gone=["/b:2"], more=True)
    assert read_block(msgspec.json.encode(told)) == told
    assert told.apps[0].app_keys() == [KEY]
    assert read_block(json.dumps(BLOCK).encode()).apps == [row()]


def test_what_is_nothing_is_left_out() -> None:
    assert msgspec.json.encode(row()) == json.dumps(ROW, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge": ""},
        {"edge": "x" * 201},
        {"epoch": 5},
        {"at": -1},
        {"at": 1e300},
        {"uptime": "1"},
        {"n": 1.5},
        {"apps": None},
        {"apps": [ROW] * (2 * ROWS + 1)},
        {"apps": [{**ROW, "cluster_name": ""}]},
        {"apps": [{**ROW, "keys": [["mesos", "F1"]]}]},
        {"apps": [{**ROW, "keys": [["mesos", "F1", "/a"]] * 201}]},
        {"apps": [{**ROW, "requests": -1}]},
        {"apps": [{**ROW, "requests": 1 << 53}]},
        {"apps": [{**ROW, "status": [0] * 7}]},
        {"apps": [{**ROW, "latency": [0] * 17}]},
        {"apps": [{**ROW, "latency": [-1]}]},
        {"apps": [{**ROW, "mode": "udp"}]},
        {"apps": [{**ROW, "held": True}]},
        {"gone": [1]},
    ],
)
def test_what_no_edge_tells(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_block(json.dumps(BLOCK | wrong).encode())


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"<html>", b"\xff", b"[" * 100_000, b'{"at":NaN}', json.dumps(BLOCK).encode() + b"x"],
)
def test_what_is_no_block(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_block(line)


def test_a_line_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="more than"):
        read_block(b" " * (MOST_LINE + 1))
