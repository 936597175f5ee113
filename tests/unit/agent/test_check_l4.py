"""`[l4]`: what its types can't say, and the VIP file that it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import checks, cli
from agent.check_l4 import range_fault
from agent.config import ConfigError, load, load_text

RANGE = "expected an IPv4 network such as 11.0.0.0/8, got "
RANGE6 = "expected an IPv6 network such as fd01:c::/64, got "
DEVICE = "expected a device's name of ASCII without spaces, '/', ':' and '%', got "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("range = '11.0.0.0'", f"l4.range: {RANGE}'11.0.0.0'"),
        ("range = '11.0.0.1/8'", "l4.range: expected the network's own address, '11.0.0.0/8', got '11.0.0.1/8'"),
        ("range = 'fd01::/64'", f"l4.range: {RANGE}'fd01::/64'"),
        ("range = 'x'", f"l4.range: {RANGE}'x'"),
        ("range = ''", f"l4.range: {RANGE}''"),
        (
            "range = '224.0.0.0/8'",
            "l4.range: expected addresses that machines can have, got '224.0.0.0/8', which overlaps 224.0.0.0/4",
        ),
        ("range6 = '11.0.0.0/8'", f"l4.range6: {RANGE6}'11.0.0.0/8'"),
        ("range6 = 'fd01:c::1/64'", "l4.range6: expected the network's own address, 'fd01:c::/64', got 'fd01:c::1/64'"),
        ("range6 = 'FD01:C::/64'", "l4.range6: expected the network's own address, 'fd01:c::/64', got 'FD01:C::/64'"),
        ("range6 = 'fe80::/64'", "which overlaps fe80::/10"),
        ("node_addresses = ['10.0.0.300']", "l4.node_addresses[0]: expected an IP address, got '10.0.0.300'"),
        ("node_addresses = ['fd00::0001']", "l4.node_addresses[0]: expected 'fd00::1', got 'fd00::0001'"),
        ("node_addresses = ['224.0.0.1']", "l4.node_addresses[0]: expected an address that one machine can have"),
        (
            "node_addresses = ['10.0.0.1', 'fd00::1', '10.0.0.2']",
            "l4.node_addresses[2]: expected one IPv4 address, got '10.0.0.1' too",
        ),
        (
            "node_addresses = ['11.0.0.1']",
            "l4.node_addresses[0]: '11.0.0.1' lies in range, of which VIPs get their addresses",
        ),
        ("device = 'a/b'", f"l4.device: {DEVICE}'a/b'"),
        ("device = 'a b'", f"l4.device: {DEVICE}'a b'"),
        ("device = 'a:1'", f"l4.device: {DEVICE}'a:1'"),
        ("device = 'vip%d'", f"l4.device: {DEVICE}'vip%d'"),
        ("device = '..'", f"l4.device: {DEVICE}'..'"),
        ("device = 'vipä'", f"l4.device: {DEVICE}'vipä'"),
        ("device = 'x234567890123456'", "l4.device: expected `str` of length <= 15, got 'x234567890123456'"),
        ("reconcile = '999ms'", "l4.reconcile: expected 1s to 1h, got 999ms"),
        ("reconcile = '61m'", "l4.reconcile: expected 1s to 1h, got 61m"),
        ("tcp_timeout = '1.5s'", "l4.tcp_timeout: expected whole seconds, at most 24d, got 1500ms"),
        ("udp_timeout = '25d'", "l4.udp_timeout: expected whole seconds, at most 24d, got 25d"),
        ("tcp_fin_timeout = 0.5", "l4.tcp_fin_timeout: expected whole seconds, at most 24d, got 500ms"),
        ("netns_dir = 'run/netns'", "l4.netns_dir: expected an absolute path, got 'run/netns'"),
        ("vip_file = 'vips.toml'", "l4.vip_file: expected an absolute path, got 'vips.toml'"),
        (
            "[resolver]\nlisten = ['10.0.0.1:53']\ndevice = 'pharos0'",
            "l4.device: 'pharos0' is resolver.device: each needs a device of its own",
        ),
    ],
)
def test_problems(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("[l4]\n" + text, "f")
    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"f: {expected}") if expected.startswith("l4") else line.endswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "range = '10.99.0.0/16'\nrange6 = 'fd99::/112'",
        "range = '9.0.0.0/8'\nnode_addresses = ['10.0.0.1', 'fd00::1']",
        "range = '8.0.0.0/5'\nrange6 = 'fd00::/8'",
        "range = '10.200.0.0/28'\nrange6 = 'fd99::/124'",
        "reconcile = '1s'\ndrain_timeout = 0\ntcp_timeout = 0\ntcp_fin_timeout = 0\nudp_timeout = 0",
        "reconcile = '1h'\ntcp_timeout = '24d'",
        "device = 'lo'\n[resolver]\nlisten = ['10.0.0.1:53']\ndevice = 'lo'",
        "netns_dir = '/run/netns'\nvip_file = '/etc/pharos/vips.toml'",
    ],
)
def test_no_problems(text: str) -> None:
    config = load_text(f"[l4]\n{text}", "f")
    assert config.l4 is not None
    assert not [each for each in checks.advice(config) if each.path.startswith("l4")]


def test_two_bad_ranges_are_two_problems_and_no_more() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("[l4]\nrange = 'x'\nrange6 = 'y'\nnode_addresses = ['11.0.0.1']", "f")
    assert [problem.path for problem in caught.value.problems] == ["l4.range", "l4.range6"]


@pytest.mark.parametrize(("text", "version"), [("127.0.0.0/8", 4), ("11.0.0.0/8", 4), ("fd01:c::/64", 6)])
def test_ranges(text: str, version: int) -> None:
    assert range_fault(text, 4 if version == 4 else 6) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[l4]\nrange = '10.200.0.4/30'", "l4.range: '10.200.0.4/30' has addresses for 4 names of VIPs"),
        ("[l4]\nrange = '10.200.0.4/32'", "l4.range: '10.200.0.4/32' has addresses for 1 names of VIPs"),
        (
            "[l4]\ndataplane = 'off'\n[relay]\nservers = ['http://s1']",
            "l4.dataplane: is off on a node that follows servers: [l4] has no effect here",
        ),
        (
            "[l4]\nrange = '127.128.0.0/16'",
            "l4.range: '127.128.0.0/16' holds loopback addresses: only this machine reaches its own VIPs there",
        ),
        (
            "[l4]\nrange = '10.0.0.0/16'\n[dns]\nlisten = ['10.0.0.1:53', '10.1.0.1:53']",
            "dns.listen[0]: '10.0.0.1:53' lies in l4.range, of which VIPs get their addresses",
        ),
        (
            "[l4]\n[resolver]\nlisten = ['[fd01:c::1]:53']",
            "resolver.listen[0]: '[fd01:c::1]:53' lies in l4.range6, of which VIPs get their addresses",
        ),
    ],
)
def test_advice(text: str, expected: str) -> None:
    told = [str(each) for each in checks.advice(load_text(text, "f"))]
    assert [each for each in told if "l4" in each] == [expected]


@pytest.mark.parametrize("text", ["[l4]\ndataplane = 'off'", "[l4]\n[relay]\nservers = ['http://s1']"])
def test_no_advice(text: str) -> None:
    assert not [str(each) for each in checks.advice(load_text(text, "f")) if "l4" in str(each)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A configuration and the VIP file that it names, which is not there yet."""
    config, vips = tmp_path / "pharos.toml", tmp_path / "vips.toml"
    config.write_text(f"[mesos]\nmasters = ['m:5050']\n[dns]\n[l4]\nvip_file = '{vips}'\n")
    return config, vips


def test_check_config_tells_what_is_wrong_with_the_vip_file(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, vips = files
    vips.write_text("[[vip]]\nname = 'db.marathon'\nport = 0\nserver = []\n")
    assert cli.main(["check-config", "-c", str(config)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{config}: l4.vip_file: {vips}: vip[0].port: expected `int` >= 1, got 0",
        f"{config}: l4.vip_file: {vips}: vip[0].server: unknown key; did you mean 'servers'?",
    ]
    assert cli.main(["check-config", "-c", str(config), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["path"] for problem in problems] == ["l4.vip_file", "l4.vip_file"]
    vips.write_text("[[vip]]\nname = 'db.marathon'\nport = 1\n")
    assert cli.main(["check-config", "-c", str(config)]) == 0


def test_check_config_tells_a_vip_file_that_is_not_there(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, vips = files
    assert cli.main(["check-config", "-c", str(config)]) == 2
    assert capsys.readouterr().err == f"{config}: l4.vip_file: {vips}: can't read the file: No such file or directory\n"


def test_a_process_starts_without_a_good_vip_file(files: tuple[Path, Path]) -> None:
    config, vips = files
    assert load(config).l4 is not None
    vips.write_text("rubbish")
    assert load(config).l4 is not None
    with pytest.raises(ConfigError, match="not TOML"):
        load(config, watched=True)
