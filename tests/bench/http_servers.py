"""The HTTP proxies of the measurement, one process on one core each, in front of the same server of fixed answers.

Pharos is `pharos run` with one worker, following a Marathon of fixed apps, with everything on that is on by default.
The others do what their users have them do in such a place: keep connections on both sides, say who the client is,
name requests, and route by host. HAProxy and nginx are Debian's; Envoy's is wherever `envoy` is found.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import cluster
from tests.bench.dns_load import compiled
from tests.bench.dns_processes import cpu_ns, descendants, memory_mib, prefer
from tests.bench.dns_servers import installed, process
from tests.ports import free_ports

PEERS = {"haproxy": "haproxy", "nginx": "nginx-light", "envoy": ""}
"""Programs that are measured beside Pharos, and the Debian packages that have them."""

HOST = "127.0.0.1"
START = 120.0
"""Seconds in which a proxy must have begun to answer."""

KEPT = 64
"""Connections that nginx keeps to the server of an app: as many as wrk has to nginx. The others keep all."""


@dataclass(frozen=True)
class Routed:
    """What a proxy routes: so many hosts, shared out in turn among so many apps. Each app is a backend of its own, with
    connections of its own to its only server, so that all proxies have the same to look up, and the same to keep.
    Pharos takes a thousand hosts of an app's port."""

    hosts: int
    apps: int = 1

    def of_app(self, number: int) -> list[str]:
        """The hosts of one app."""
        return hosts(self.hosts)[number :: self.apps]


_HAPROXY = """global
  nbthread 1
  maxconn 19000
  no strict-limits
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  timeout http-request 15s
  timeout http-keep-alive 60s
  retries 3
  option redispatch
  option forwardfor
  option http-keep-alive
  http-reuse always
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
frontend all
  bind {host}:{port} backlog 4096
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto http
  use_backend %[req.hdr(host),lower,map({folder}/hosts.map,none)]
"""
_HAPROXY_APP = """backend app{number}
  balance roundrobin
  server one {host}:{backend}
"""
_NGINX = """daemon off; master_process off; worker_processes 1; error_log stderr error; pid {folder}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off; server_names_hash_max_size 400000; server_names_hash_bucket_size 128;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_timeout 60s; keepalive_requests 1000000000;
  proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Request-Id $request_id;
  include {folder}/apps.conf;
}}
"""
_NGINX_APP = """upstream app{number} {{ server {host}:{backend}; keepalive {kept}; keepalive_requests 1000000000; }}
server {{ listen {host}:{port}{backlog}; server_name {names}; location / {{ proxy_pass http://app{number}; }} }}
"""


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its first process, and the port on which it answers."""

    name: str
    pid: int
    port: int

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU of all its processes so far."""
        return sum(map(cpu_ns, (self.pid, *descendants(self.pid))))

    def memory_kib(self) -> float:
        """KiB of memory (PSS) of all its processes."""
        return memory_mib(self.pid) * 1024


def hosts(count: int) -> list[str]:
    """The host names that are routed, in order."""
    return [f"host{number}.example.com" for number in range(count)]


@contextlib.contextmanager
def backend(folder: Path) -> Iterator[int]:
    """The server of fixed answers, on the load generator's core; yields its port."""
    port = free_ports(1)[0]
    command = [str(compiled("http_backend", folder)), HOST, str(port)]
    with process(command, cluster.cores()[1], folder / "backend.log", stdout=subprocess.PIPE) as running:
        prefer(running.pid)
        assert running.stdout is not None
        running.stdout.readline()
        yield port


@contextlib.contextmanager
def pharos(folder: Path, port_of_backend: int, routed: Routed) -> Iterator[Proxy]:
    """`pharos run` with an edge of one worker."""
    home = folder / "pharos"
    home.mkdir()
    apps = home / "apps.json"
    apps.write_text(json.dumps({"apps": _apps(routed, port_of_backend)}))
    port, api = free_ports(2)
    command = [sys.executable, "-m", "tests.fakes.static_marathon", str(apps)]
    with process(command, cluster.cores()[1], home / "marathon.log", stdout=subprocess.PIPE) as marathon:
        assert marathon.stdout is not None
        config = home / "pharos.toml"
        config.write_text(
            f'state_dir = "{home}"\n[log]\nlevel = "warning"\n'
            f'[marathon]\nurls = ["{marathon.stdout.readline().strip()}"]\n'
            f'[l7]\nhttp = ["{HOST}:{port}"]\nhttps = []\napp_id = []\nservice_ports = false\nworkers = 1\n'
            f'[api]\nlisten = ["{HOST}:{api}"]\n'
        )
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        with process(command, cluster.cores()[0], home / "log") as running:
            prefer(running.pid)
            cluster.until_ready(f"http://{HOST}:{api}", START)
            proxy = Proxy("pharos", running.pid, port)
            _until_answers(proxy)
            for each in descendants(running.pid):
                prefer(each)
            yield proxy


@contextlib.contextmanager
def peer(name: str, folder: Path, port_of_backend: int, routed: Routed) -> Iterator[Proxy]:
    """HAProxy, nginx or Envoy. Raises FileNotFoundError where it is not installed."""
    program = installed(name) or shutil.which(name)
    if program is None:
        raise FileNotFoundError(name)
    home = folder / name
    home.mkdir()
    port, admin = free_ports(2)
    config = home / ("envoy.json" if name == "envoy" else f"{name}.conf")
    if name == "envoy":
        config.write_text(json.dumps(_envoy(port, admin, port_of_backend, routed)))
        command = [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    elif name == "nginx":
        _write_nginx(config, port, port_of_backend, routed)
        command = [program, "-c", str(config)]
    else:
        _write_haproxy(config, port, port_of_backend, routed)
        command = [program, "-db", "-f", str(config)]
    with process(command, cluster.cores()[0], home / "log") as running:
        prefer(running.pid)
        proxy = Proxy(name, running.pid, port)
        _until_answers(proxy)
        yield proxy


def _write_haproxy(config: Path, port: int, port_of_backend: int, routed: Routed) -> None:
    """A map from hosts to backends, as a proxy that is fed by a program has it."""
    facts = {"folder": config.parent, "host": HOST, "port": port, "backend": port_of_backend}
    backends = [_HAPROXY_APP.format(number=number, **facts) for number in range(routed.apps)]
    config.write_text(_HAPROXY.format(**facts) + "".join(backends))
    lines = [f"{host} app{number}\n" for number in range(routed.apps) for host in routed.of_app(number)]
    (config.parent / "hosts.map").write_text("".join(lines))


def _write_nginx(config: Path, port: int, port_of_backend: int, routed: Routed) -> None:
    """A server for each app, which costs a request less than a map and a name of the upstream that is a variable."""
    facts = {"folder": config.parent, "host": HOST, "port": port, "backend": port_of_backend, "kept": KEPT}
    config.write_text(_NGINX.format(**facts))
    servers = []
    for number in range(routed.apps):
        names, backlog = " ".join(routed.of_app(number)), "" if number else " backlog=4096"
        servers.append(_NGINX_APP.format(number=number, names=names, backlog=backlog, **facts))
    (config.parent / "apps.conf").write_text("".join(servers))


def _apps(routed: Routed, port: int) -> list[dict[str, Any]]:
    """Apps that share all host names among them, each with one task: the backend."""
    found = []
    for number in range(routed.apps):
        name = f"/bench/app{number}"
        vhosts = ",".join(routed.of_app(number))
        found.append(
            {
                "id": name,
                "instances": 1,
                "labels": {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": vhosts},
                "portDefinitions": [{"port": 10000 + number, "protocol": "tcp", "labels": {}}],
                "networks": [{"mode": "host"}],
                "healthChecks": [],
                "version": "2026-01-01T00:00:00.000Z",
                "versionInfo": {
                    "lastScalingAt": "2026-01-01T00:00:00.000Z",
                    "lastConfigChangeAt": "2026-01-01T00:00:00.000Z",
                },
                "deployments": [],
                "tasks": [
                    {
                        "id": f"bench_app{number}.1",
                        "appId": name,
                        "host": HOST,
                        "ports": [port],
                        "state": "TASK_RUNNING",
                        "slaveId": "S0",
                        "stagedAt": "2026-01-01T00:00:00.000Z",
                        "startedAt": "2026-01-01T00:00:00.000Z",
                        "version": "2026-01-01T00:00:00.000Z",
                        "ipAddresses": [{"ipAddress": HOST, "protocol": "IPv4"}],
                    }
                ],
            }
        )
    return found


def _envoy(port: int, admin: int, port_of_backend: int, routed: Routed) -> dict[str, Any]:
    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": HOST, "port_value": number}}

    filters = "type.googleapis.com/envoy.extensions.filters"
    router = f"{filters}.http.router.v3.Router"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "use_remote_address": True,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": f"app{number}",
                    "domains": routed.of_app(number),
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": f"app{number}"}}],
                }
                for number in range(routed.apps)
            ]
        },
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(port_of_backend)}}]}]
    return {
        "admin": {"address": at(admin)},
        "static_resources": {
            "listeners": [
                {
                    "address": at(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": f"app{number}",
                    "connect_timeout": "3s",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": f"app{number}", "endpoints": endpoints},
                }
                for number in range(routed.apps)
            ],
        },
    }


def _until_answers(proxy: Proxy) -> None:
    """Wait until the proxy passes a request on. Raises TimeoutError."""
    end = time.monotonic() + START
    request = f"GET /s HTTP/1.1\r\nHost: {hosts(1)[0]}\r\nConnection: close\r\n\r\n".encode()
    answer = b""
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((HOST, proxy.port), 5) as asking:
            asking.sendall(request)
            answer = asking.recv(1024)
            if answer.startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.1)
    raise TimeoutError(f"{proxy.name} did not answer in {START} s; it last said {answer[:80]!r}")
