"""The proxies of the measurement are told the same: these hosts, these apps, one server; and each of them answers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import http_servers
from tests.bench.dns_load import compiled
from tests.bench.dns_servers import installed
from tests.bench.http_servers import HOST, Proxy, Routed
from tests.fakes.marathon_apps import recorded, table_of
from tests.native.build import need


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    need("gcc", "taskset")
    with http_servers.backend(tmp_path_factory.mktemp("backend")) as port:
        yield port


def answer(port: int, host: str, path: str = "/s") -> tuple[int, int]:
    """Status of an answer, and octets of its body."""
    with socket.create_connection((HOST, port), 60) as asking:
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        octets = b""
        while b"\r\n\r\n" not in octets:
            octets += (piece := asking.recv(65536))
            assert piece, octets
        head, _, body = octets.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        whole = int(length[1]) if length else 0
        have = len(body)
        while have < whole:
            have += len(piece := asking.recv(65536))
            assert piece, f"{have} of {whole} octets"
    return int(head.split()[1]), have


def test_hosts() -> None:
    assert http_servers.hosts(3) == ["host0.example.com", "host1.example.com", "host2.example.com"]


def test_hosts_of_apps() -> None:
    assert Routed(5, 2).of_app(1) == ["host1.example.com", "host3.example.com"]
    shared = [host for number in range(7) for host in Routed(30, 7).of_app(number)]
    assert sorted(shared) == sorted(http_servers.hosts(30))


@pytest.mark.parametrize("routed", [Routed(1), Routed(500, 3), Routed(1005, 10)])
def test_apps_route_all_hosts_to_the_backend(routed: Routed, tmp_path: Path) -> None:
    apps = http_servers._apps(routed, 4711)
    (tmp_path / "apps.json").write_text(json.dumps({"apps": apps}))
    table = table_of(*recorded(tmp_path), certificates=False)
    assert len(apps) == len(table.clusters) == routed.apps
    by_host = {host: rules for (listener, host), rules in table.hosts.items() if listener == "http"}
    assert sorted(by_host) == sorted(http_servers.hosts(routed.hosts))
    for rules in by_host.values():
        (route,) = rules.routes
        assert [(one.address, one.port) for one in table.clusters[route.cluster].servers] == [(HOST, 4711)]


def test_the_backend_has_three_answers(backend: int) -> None:
    lengths = {path: answer(backend, "any", path) for path in ("/s", "/k", "/m", "/")}
    assert lengths == {"/s": (200, 13), "/k": (200, 1024), "/m": (200, 1 << 20), "/": (200, 13)}


def test_pharos_routes_to_the_backend(backend: int, tmp_path: Path) -> None:
    with http_servers.pharos(tmp_path, backend, Routed(3, 2)) as proxy:
        check(proxy, "pharos")
        assert answer(proxy.port, "nobody.example.com")[0] == 503


@pytest.mark.parametrize("name", http_servers.PEERS)
def test_peers_route_to_the_backend(name: str, backend: int, tmp_path: Path) -> None:
    if installed(name) is None:
        pytest.skip(f"{name} is not installed")
    with http_servers.peer(name, tmp_path, backend, Routed(3, 2)) as proxy:
        check(proxy, name)


def check(proxy: Proxy, name: str) -> None:
    """It answers for each host, and there are figures of its processes."""
    assert proxy.name == name
    assert [answer(proxy.port, host, "/k") for host in http_servers.hosts(3)] == [(200, 1024)] * 3
    assert proxy.cpu_ns() > 0
    assert proxy.memory_kib() > 0


def routed_by(name: str, home: Path) -> dict[str, list[str]]:
    """The hosts of each app in what a peer is told."""
    found: dict[str, list[str]] = {}
    if name == "haproxy":
        for line in (home / "hosts.map").read_text().splitlines():
            host, _, app = line.partition(" ")
            found.setdefault(app, []).append(host)
    elif name == "nginx":
        told = (home / "apps.conf").read_text()
        for names, app in re.findall(r"server_name ([^;]*); location / { proxy_pass http://(.*?);", told):
            found[app] = names.split()
    else:
        told = (home / "envoy.json").read_text()
        for app, names in re.findall(r'{"name": "(app\d+)", "domains": (\[.*?\])', told):
            found[app] = json.loads(names)
    return found


@pytest.mark.parametrize(
    ("name", "config", "port"),
    [
        ("haproxy", "haproxy.conf", r"bind 127.0.0.1:\([0-9]*\)"),
        ("nginx", "apps.conf", r"listen 127.0.0.1:\([0-9]*\) backlog"),
        ("envoy", "envoy.json", r'"listeners":.*"port_value": \([0-9]*\)}}, "filter_chains"'),
    ],
)
def test_what_peers_are_told(
    name: str, config: str, port: str, backend: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program stands in for them: it answers where they would."""
    program, home = tmp_path / "program", tmp_path / name
    answering = compiled("http_backend", tmp_path)
    program.write_text(f"#!/bin/sh\nexec {answering} {HOST} $(sed -n 's/.*{port}.*/\\1/p' {home / config})\n")
    program.chmod(0o755)
    monkeypatch.setattr(http_servers, "installed", lambda _: str(program))
    with http_servers.peer(name, tmp_path, backend, Routed(3, 2)) as proxy:
        check(proxy, name)
    told = (home / config).read_text()
    assert str(proxy.port) in told
    assert len(re.findall(rf"(?::|: ){backend}\b", told)) == 2, "each app has a server of its own"
    assert routed_by(name, home) == {f"app{number}": Routed(3, 2).of_app(number) for number in range(2)}


def test_a_peer_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_servers, "installed", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError), http_servers.peer("nginx", tmp_path, 4711, Routed(3)):
        pass
