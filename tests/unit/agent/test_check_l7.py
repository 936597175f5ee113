"""`[l7]`: what its types can't say, and what of it is seldom meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import check_l7, checks
from agent.config import ConfigError, load, load_text

SOURCE = "[marathon]\nurls = ['http://m:8080']\n"
QUIET = "https = []\nmax_connections = 10\n"
"""What the defaults would be advised of: no certificate, a few open files."""


def problems(text: str) -> list[str]:
    try:
        load_text(text, "f")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def advice(text: str) -> list[str]:
    return [line for line in map(str, checks.advice(load_text(text, "f"))) if line.startswith("l7")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http = ['x:80']", "l7.http[0]: expected IP:PORT, [IPv6]:PORT or :PORT, got 'x:80'"),
        ("https = [':443', '10.0.0.1']", "l7.https[1]: expected IP:PORT, [IPv6]:PORT or :PORT, got '10.0.0.1'"),
        ("app_id = ['::1']", "l7.app_id[0]: expected IP:PORT, [IPv6]:PORT or :PORT, got '::1'"),
        ("groups = ['a,b']", "l7.groups[0]: expected the name of one group, or '*', got 'a,b'"),
        ("groups = ['a', '']", "l7.groups[1]: expected the name of one group, or '*', got ''"),
        ("service_address = 'x'", "l7.service_address: expected an IP address or '*', got 'x'"),
        ("trusted_proxies = ['10.0.0.0/33']", "l7.trusted_proxies[0]: expected an IP address or network"),
        ("auto_ports = [10100, 10050]", "l7.auto_ports: expected two ports, the first and the one after the last"),
        ("auto_ports = [0, 10]", "l7.auto_ports: expected two ports"),
        ("auto_ports = [1, 65537]", "l7.auto_ports: expected two ports"),
        ("own_app = 'lb'", "l7.own_app: expected an app's id such as '/marathon-lb', got 'lb'"),
        ("cert_dir = 'certs'", "l7.cert_dir: expected an absolute path, got 'certs'"),
        ("haproxy_map = true", 'l7.haproxy_map: has a meaning only with compat = "marathon-lb"'),
        ("group_https_by_vhost = true", 'l7.group_https_by_vhost: has a meaning only with compat = "marathon-lb"'),
        ("server_timeout = 0", "l7.server_timeout: expected more than zero"),
        ("http = [':80', '10.0.0.1:80']", "l7.http[1]: '10.0.0.1:80' is already taken by l7.http[0], ':80'"),
        ("http = [':80']\nhttps = [':80']", "l7.https[0]: ':80' is already taken by l7.http[0], ':80'"),
        ("[api]\nlisten = ['127.0.0.1:80']", "l7.http[0]: ':80' is already taken by api.listen[0], '127.0.0.1:80'"),
        ("[api]\nlisten = ['[::]:80']", "l7.http[0]: ':80' is already taken by api.listen[0], '[::]:80'"),
        ("[api]\nlisten = ['[::1]:80']", "l7.http[0]: ':80' is already taken by api.listen[0], '[::1]:80'"),
        ("https = ['[::]:443', ':443']", "l7.https[1]: ':443' is already taken by l7.https[0], '[::]:443'"),
        ("[admin]\nlisten = ['127.0.0.1:9091']", "l7.app_id[0]: '127.0.0.1:9091' is already taken by admin.listen[0]"),
        ("[dns]\ntls_listen = [':443']\ncert_file = '/c'\nkey_file = '/k'", "l7.https[0]: ':443' is already taken by"),
    ],
)
def test_problems(text: str, expected: str) -> None:
    (line,) = problems(f"{SOURCE}[l7]\n{text}")
    assert line.startswith(expected)


def test_an_edge_needs_a_source() -> None:
    text = "l7: there is nothing to learn apps from: add a section [marathon], or [relay]"
    assert problems("[l7]") == [text]
    assert problems("[mesos]\nmasters = ['m:5050']\n[l7]") == [text]
    assert problems("[relay]\nservers = ['http://s:8123']\n[l7]") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "compat = 'marathon-lb'\nhaproxy_map = true\ngroup_https_by_vhost = true",
        "http = ['127.0.0.1:0', '127.0.0.1:0']",
        "http = ['10.0.0.1:80', '10.0.0.2:80', '[::1]:80', '[::]:81']\nhttps = ['[::]:443', '0.0.0.0:443']",
        "http = ['[::]:80']\n[api]\nlisten = [':80']",
        "auto_ports = [0, 0]",
        "auto_ports = [1, 65536]",
        "slow_start = 0\ngroups = ['*']\nservice_address = '::'\nown_app = '/lb'",
        "trusted_proxies = ['10.0.0.1/8', 'fd00::1']",
        "[dns]\nlisten = ['127.0.0.1:53']\n[api]\n[admin]",
    ],
)
def test_no_problems(text: str) -> None:
    assert problems(f"{SOURCE}[l7]\n{text}") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_connections = 10", ["l7.cert_dir: is empty"]),
        (QUIET, []),
        (QUIET + "cert_dir = '/nowhere/certs'", ["l7.cert_dir: there is no folder '/nowhere/certs'"]),
        (QUIET + "app_id = [':9091']", ["l7.app_id[0]: other machines can reach every routed app by its id"]),
        (
            QUIET + "app_id = [':9091']\ncompat = 'marathon-lb'",
            ["l7.app_id[0]: other machines can reach every routed app by its id, past HAPROXY_n_AUTH"],
        ),
        (QUIET + "trusted_proxies = ['0.0.0.0/0']", ["l7.trusted_proxies[0]: '0.0.0.0/0' lets every client"]),
        (QUIET + "[api]\nlisten = ['127.0.0.1:10060']", ["l7.auto_ports: holds port 10060 of api.listen[0]"]),
        (QUIET + "service_ports = false\n[api]\nlisten = ['127.0.0.1:10060']", []),
        ("https = []\nmax_connections = 1000000000000", ["l7.max_connections: is more than the open files of"]),
    ],
)
def test_advice(text: str, expected: list[str]) -> None:
    found = advice(f"{SOURCE}[l7]\n{text}")
    assert len(found) == len(expected)
    assert all(line.startswith(start) for start, line in zip(expected, found, strict=True))


def test_a_folder_of_certificates_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(f"{SOURCE}[l7]\ncert_dir = '{path}'")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [str(problem) for problem in caught.value.problems] == [
        f"l7.cert_dir: can't read '{path}': {os.strerror(20)}"
    ]
    path.write_text(f"{SOURCE}[l7]\ncert_dir = '{tmp_path}'")
    assert list(check_l7.file_problems(load(path))) == []
