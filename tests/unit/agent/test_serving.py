"""agent.serving: signals of a whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.unit.agent.test_service import ZONE


def test_signals(tmp_path: Path, free_port: int) -> None:
    """SIGHUP reloads, a bad file changes nothing, SIGTERM ends with 0."""
    text = f'[dns]\nlisten = ["127.0.0.1:{free_port}"]\n'
    path = _write(tmp_path, text)
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        _until_logged(process, "serving")
        assert "10.9.9.1" in _answer(free_port, "www.corp.example", "10.9.9.1")
        _write(tmp_path, text + "ttl = 7\n")
        os.kill(process.pid, signal.SIGHUP)
        _until_logged(process, "configuration reloaded")
        assert " 7 IN SOA" in _answer(free_port, "none.mesos", " 7 IN SOA")
        _write(tmp_path, text + "ttl = true\n")
        os.kill(process.pid, signal.SIGHUP)
        _until_logged(process, "not reloaded")
        assert " 7 IN SOA" in _answer(free_port, "none.mesos", " 7 IN SOA")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
        process.stderr.close()


def _write(folder: Path, more: str) -> Path:
    """A configuration that serves one plain zone, without a cluster."""
    (folder / "corp.zone").write_text(ZONE)
    path = folder / "pharos.toml"
    path.write_text(
        f'state_dir = "{folder}/state"\ndrain_timeout = "1s"\n'
        f'[file]\npaths = ["{folder}/corp.zone"]\ninterval = "100ms"\n{more}\n'
    )
    return path


def _until_logged(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the process ended without saying {text!r}")


def _answer(port: int, name: str, text: str) -> str:
    reply = ""
    for _ in range(200):
        reply = dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", timeout=30, port=port).to_text()
        if text in reply:
            break
    return reply
