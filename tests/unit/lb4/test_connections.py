"""The kernel's table of connections: its lines, and what is counted of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb4 import connections
from lb4.connections import Connection, ConnectionCounts, read_line, read_table
from lb4.services import BackendKey, ServiceKey

HEADING = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData"
VIP = ServiceKey("tcp", "11.0.0.91", 8080)


def line(port: int, state: str = "ESTABLISHED", expires: int = 900) -> str:
    return f"TCP 0A004FB6 {port:04X} 0B00005B 1F90 0A004FB7 1F91 {state:<11} {expires:7d}"


def test_a_line() -> None:
    assert read_line(line(62061, "FIN_WAIT", 59)) == Connection(
        BackendKey("10.0.79.182", 62061), VIP, BackendKey("10.0.79.183", 8081), "FIN_WAIT", 59
    )


def test_ipv6_and_udp_and_a_persistence_engine() -> None:
    text = (
        "UDP [fd00:0000:0000:0000:0000:0000:0000:0001] 1234 [fd01:000c:0000:0000:0000:0000:0000:0005] 0035 "
        "[fd00:0000:0000:0000:0000:0000:0000:0002] 0036 UDP              28 sip some-call-id"
    )
    found = read_line(text)
    assert found is not None
    assert found.service == ServiceKey("udp", "fd01:c::5", 53)
    assert found.backend == BackendKey("fd00::2", 54)
    assert found.client == BackendKey("fd00::1", 0x1234)


@pytest.mark.parametrize("text", ["", HEADING, "SCTP 0A004FB6 0045 0A004FB6 1F90 0A004FB6 1F91 NONE 1", line(1)[:-9]])
def test_what_is_no_connection(text: str) -> None:
    assert read_line(text) is None


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read_line(text)


def test_a_new_connection_counts_once() -> None:
    counts = ConnectionCounts()
    counts.look([HEADING, line(1), line(2)])
    counts.look([HEADING, line(1), line(3, "FIN_WAIT", 100)])
    assert counts.made == {VIP: 3}
    counts.look([line(1), line(2)])  # the second has been forgotten meanwhile, and was made again
    assert counts.made == {VIP: 4}
    assert not counts.failed


def test_a_handshake_that_is_about_to_be_forgotten_has_failed() -> None:
    counts = ConnectionCounts(interval=10, splay=2)
    counts.look([line(1, "SYN_RECV", 12), line(2, "SYN_SENT", 11), line(3, "SYN_RECV", 0)])
    assert not counts.made
    assert counts.failed == {VIP: 2}
    counts.look([line(1, "ESTABLISHED", 12)])
    assert counts.made == {VIP: 1}


def test_totals_of_services_that_are_gone_are_forgotten() -> None:
    counts = ConnectionCounts()
    counts.look([line(1), line(2, "SYN_RECV", 1)])
    counts.keep([VIP])
    assert (counts.made, counts.failed) == ({VIP: 1}, {VIP: 1})
    counts.keep([])
    assert not counts.made
    assert not counts.failed


def test_the_table_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ip_vs_conn"
    path.write_text("\n".join([HEADING, line(1), line(2), line(3)]) + "\n")
    assert read_table(path) == ([HEADING, line(1), line(2), line(3)], False)
    monkeypatch.setattr("lb4.connections.MOST_OCTETS", len(HEADING) + len(line(1)) + 10)
    assert read_table(path) == ([HEADING, line(1)], True)
    counts = ConnectionCounts()
    counts.look([], cut=True)
    assert counts.tables_cut == 1


def test_services_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table has tens of thousands of connections, and few services."""
    read = []

    def address(text: str) -> str:
        read.append(text)
        return "11.0.0.91"

    connections._service.cache_clear()
    monkeypatch.setattr(connections, "_address", address)
    counts = ConnectionCounts()
    for _ in range(2):
        counts.look([line(port) for port in range(100)])
    connections._service.cache_clear()
    assert (counts.made, read) == ({VIP: 100}, ["0B00005B"])


def test_a_look_leaves_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("lb4.connections.time.sleep", pauses.append)
    monkeypatch.setattr(connections, "STRETCH", 2)
    counts = ConnectionCounts()
    counts.look([line(port) for port in range(5)])
    assert (counts.made, pauses) == ({VIP: 5}, [connections.PAUSE] * 2)


_STATES = st.sampled_from(["ESTABLISHED", "SYN_RECV", "SYN_SENT", "FIN_WAIT", "established"])
_PLACES = st.sampled_from(
    ["0A004FB6", "0B00005B", "[fd01:000c:0000:0000:0000:0000:0000:0005]", "[fd01::5]", "[::1::]", "[:::]", "0B00", "x"]
)
_LINES = st.builds(
    lambda protocol, client, vip, backend, state, expires: (
        f"{protocol} {client} 0001 {vip} 1F90 {backend} 1F91 {state} {expires}"
    ),
    *(st.sampled_from(["TCP", "UDP", "SCTP"]), _PLACES, _PLACES, _PLACES, _STATES, st.integers(0, 20)),
)


@given(st.lists(st.lists(_LINES | st.just(HEADING), max_size=6), max_size=4))
def test_counts_are_those_of_the_lines_that_can_be_read(looks: list[list[str]]) -> None:
    counts, made, failed, known = ConnectionCounts(), Counter[ServiceKey](), Counter[ServiceKey](), set[str]()
    for lines in looks:
        now: set[str] = set()
        for text in lines:
            if (found := read_line(text)) is None:
                continue
            if found.state in ("SYN_RECV", "SYN_SENT"):
                failed[found.service] += found.expires < 12
                continue
            entry = text.partition(f" {found.state}")[0]
            made[found.service] += entry not in known | now
            now.add(entry)
        known = now
        counts.look(lines)
    assert (counts.made, counts.failed) == (+made, +failed)


def test_recorded_lines(truth: Path) -> None:
    recorded = json.loads((truth / "dcos-net" / "proc_ip_vs_conn.json").read_text())["cases"]
    assert len(recorded) >= 10
    for case in recorded:
        expected, found = case["expected"], read_line(case["line"])
        assert found is not None
        assert [found.service.protocol, found.state, found.expires] == [
            expected["protocol"],
            expected["state"],
            expected["expires"],
        ]
        assert [list(found.client), list(found.service[1:]), list(found.backend)] == [
            expected["client"],
            expected["vip"],
            expected["backend"],
        ]
