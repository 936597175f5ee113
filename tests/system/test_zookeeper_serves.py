"""`pharos run` beside a real ZooKeeper: the leader, serversets and zk-N.zk by DNS, and a reload; ZooKeeper ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
from kazoo.client import KazooClient

from tests.bench.cluster import simulated
from tests.system.ensemble import ensemble


def ask(port: int, name: str, rtype: str = "A") -> list[str]:
    """The answers' texts; an error's code in place of them."""
    reply = dns.query.udp(dns.message.make_query(name, rtype), "127.0.0.1", port=port, timeout=30)
    if reply.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(reply.rcode())]
    return sorted(record.to_text() for rrset in reply.answer for record in rrset)


def until(condition: Callable[[], object], limit: float = 40) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.02)


def test_names_from_zookeeper_and_without_it(tmp_path: Path, free_port: int) -> None:
    with ensemble(tmp_path / "zk", 3) as servers, simulated(5, 20, 0) as mesos:
        client = KazooClient(servers.connect)
        client.start()
        host, port = mesos["master"].rpartition("/")[2].split(":")
        info = {"address": {"ip": host, "hostname": host, "port": int(port)}}
        client.create("/mesos/json.info_", json.dumps(info).encode(), ephemeral=True, sequence=True, makepath=True)
        member = {"serviceEndpoint": {"host": "10.3.0.1", "port": 31000}, "status": "ALIVE"}
        client.create(
            "/aurora/www/prod/hello/member_", json.dumps(member).encode(), ephemeral=True, sequence=True, makepath=True
        )
        config = tmp_path / "pharos.toml"
        hosts = json.dumps(servers.hosts)
        config.write_text(
            f'state_dir = "{tmp_path}/state"\n[mesos]\nzk = "zk://{servers.connect}/mesos"\n'
            f'[zookeeper]\nhosts = {hosts}\nsession_timeout = "4s"\n[dns]\nlisten = ["127.0.0.1:{free_port}"]\n'
        )
        process = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(config)])
        try:
            until(lambda: _answers(free_port, "leader.mesos") == [host])
            until(lambda: ask(free_port, "slave.mesos") not in (["NXDOMAIN"], ["SERVFAIL"], []))
            assert ask(free_port, "zk-5.zk") == ["127.0.0.1"]
            assert ask(free_port, "zk-6.zk") == ["NXDOMAIN"]
            with config.open("a") as file:
                file.write('[serversets]\nroots = { "/aurora" = "aurora" }\n')
            process.send_signal(signal.SIGHUP)
            until(lambda: ask(free_port, "hello.prod.www.aurora.mesos") == ["10.3.0.1"])
            ((_, _, srv_port, target),) = [
                a.split() for a in ask(free_port, "_hello._tcp.prod.www.aurora.mesos", "SRV")
            ]
            assert srv_port == "31000"
            assert ask(free_port, target) == ["10.3.0.1"]
            for server in servers.servers:
                server.kill()
            time.sleep(5)
            assert ask(free_port, "hello.prod.www.aurora.mesos") == ["10.3.0.1"]
            assert ask(free_port, "leader.mesos") == [host]
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(60)
            client.stop()
            client.close()


def _answers(port: int, name: str) -> list[str]:
    """As `ask`, nothing while nobody listens."""
    try:
        return ask(port, name)
    except (OSError, dns.exception.Timeout):
        return []
