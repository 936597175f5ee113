"""The kernel's switches: which are wanted, and that only what differs is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lb4.config import L4Config
from lb4.sysctls import FORWARDING6, Sysctls, running_kernel, wanted


def test_what_a_node_needs() -> None:
    assert wanted(L4Config(), (6, 1)) == {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv4/vs/conntrack": "1",
        "net/ipv4/vs/expire_nodest_conn": "1",
        "net/ipv4/vs/expire_quiescent_template": "1",
        "net/ipv4/vs/conn_reuse_mode": "1",
    }


def test_a_container_forwards_and_tracks_nothing() -> None:
    assert not wanted(L4Config(), (6, 1), is_container=True).keys() & {
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv4/vs/conntrack",
    }


def test_connections_are_tracked_only_to_masquerade() -> None:
    assert "net/ipv4/vs/conntrack" not in wanted(L4Config(masquerade=False), (6, 1))


@pytest.mark.parametrize(("kernel", "is_set"), [((4, 19), False), ((5, 8), False), ((5, 9), True), ((6, 0), True)])
def test_reused_ports_are_looked_at_where_that_is_cheap(kernel: tuple[int, int], is_set: bool) -> None:
    assert ("net/ipv4/vs/conn_reuse_mode" in wanted(L4Config(), kernel)) == is_set


def test_nothing_is_wanted_where_it_is_turned_off() -> None:
    assert wanted(L4Config(sysctls=False)) == {}


@pytest.mark.parametrize(
    ("release", "version"), [("6.1.0-57-amd64", (6, 1)), ("5.15.0", (5, 15)), ("10.0rc1", (10, 0)), ("x", (0, 0))]
)
def test_the_kernels_version(release: str, version: tuple[int, int]) -> None:
    assert running_kernel(release) == version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, value in {
        "net/ipv4/ip_forward": "0",
        "net/ipv4/vs/conntrack": "1",
        FORWARDING6: "0",
        "net/ipv6/conf/all/accept_ra": "1",
        "net/ipv6/conf/eth0.7/accept_ra": "1",
        "net/ipv6/conf/eth1/accept_ra": "0",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    return tmp_path


def test_only_what_differs_is_written(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sysctls = Sysctls(root=root)
    assert sysctls.apply({"net/ipv4/ip_forward": "1", "net/ipv4/vs/conntrack": "1"}) == {}
    assert sysctls.written == 1
    assert (root / "net/ipv4/ip_forward").read_text() == "1"
    assert (root / "net/ipv4/vs/conntrack").read_text() == "1\n"
    assert "key=net.ipv4.ip_forward value=1" in caplog.text


def test_forwarding_does_not_end_the_learning_of_routes(root: Path) -> None:
    assert Sysctls(root=root).apply({FORWARDING6: "1"}) == {}
    conf = root / "net/ipv6/conf"
    assert (conf / "eth0.7/accept_ra").read_text() == "2"
    assert (conf / "eth1/accept_ra").read_text() == "0\n"
    assert (conf / "all/accept_ra").read_text() == "1\n"
    (conf / "eth1/accept_ra").write_text("1")
    assert Sysctls(root=root).apply({FORWARDING6: "1"}) == {}
    assert (conf / "eth1/accept_ra").read_text() == "1"


def test_what_can_not_be_written_is_said_once_and_stops_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    sysctls = Sysctls(root=root)
    values = {"net/ipv4/vs/no_such": "1", "net/ipv4/ip_forward": "1"}
    for _ in range(2):
        assert sysctls.apply(values) == {"net/ipv4/vs/no_such": "No such file or directory"}
    assert (root / "net/ipv4/ip_forward").read_text() == "1"
    assert caplog.text.count("kernel switch not set key=net.ipv4.vs.no_such") == 1
    (root / "net/ipv4/vs/no_such").write_text("0")
    assert sysctls.apply(values) == {}
    (root / "net/ipv4/vs/no_such").unlink()
    sysctls.apply(values)
    assert caplog.text.count("kernel switch not set key=net.ipv4.vs.no_such") == 2


def test_a_kernel_without_ipv6_forwards_none(tmp_path: Path) -> None:
    assert Sysctls(root=tmp_path).apply({FORWARDING6: "1"}) == {}


def test_a_namespace_that_is_gone_fails_all(tmp_path: Path) -> None:
    sysctls = Sysctls(str(tmp_path / "gone"), tmp_path)
    assert sysctls.apply({"net/ipv4/ip_forward": "1"}).keys() == {"net/ipv4/ip_forward"}
