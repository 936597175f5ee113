"""The worker's program: what it is started with, what it gives up, how it ends."""

from __future__ import annotations

import mmap
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesos_dns import worker
from mesos_dns._native import Table

PLAIN = dict.fromkeys(
    ("max_udp", "header_flags", "refuse_others", "stale", "cookies", "rate", "slip", "limit_private", "log_every"), 0
)


@contextmanager
def running(parent: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, socket.socket]]:
    """A worker on a table that refuses every name; (process, its channel, its UDP socket)."""
    table = Table(4 << 20, secrets.randbits(64), 3)
    table.configure({**PLAIN, "max_udp": 1232, "refuse_others": 1}, [], [])
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 200_000))
        sock.bind(("127.0.0.1", 0))
        here.settimeout(60)
        files = (table.table_fd, table.desk_fd, 0, sock.fileno(), there.fileno(), 0, parent or os.getpid())
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(worker.__file__)), *map(str, files)],
            pass_fds=(table.table_fd, table.desk_fd, sock.fileno(), there.fileno()),
            stderr=subprocess.PIPE,
        )
        there.close()
        try:
            yield process, here, sock
        finally:
            process.kill()
            process.communicate()


def ask(address: tuple[str, int]) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.sendto(b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", address)
        return client.recv(512)


def test_says_that_it_is_ready_and_answers() -> None:
    with running() as (_, here, sock):
        assert here.recv(100) == worker.READY
        assert ask(sock.getsockname())[:4] == b"\x12\x34\x81\x05"


def test_hands_over_what_the_table_can_not_answer() -> None:
    with running() as (_, here, sock), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        assert here.recv(100) == worker.READY
        odd = b"\x12\x34\x10\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1"
        client.sendto(odd, sock.getsockname())
        message = here.recv(4096)
        port = client.getsockname()[1]
        assert message[72:] == odd
        assert message[6:12] == port.to_bytes(2, "big") + b"\x7f\0\0\1"


def test_holds_no_privileges() -> None:
    with running() as (process, here, _):
        assert here.recv(100) == worker.READY
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line
        )
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapAmb"], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"
        if os.geteuid() == 0:
            assert set(fields["Uid"].split()) == {"65534"}


def test_can_not_write_to_the_table() -> None:
    with running() as (process, here, _):
        assert here.recv(100) == worker.READY
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        assert [line.split()[1] for line in lines if "pharos-table" in line] == ["r--s"]


def test_nobody_who_gets_the_files_can_write_to_the_table_or_cut_it() -> None:
    table = Table(4 << 20, 1, 3)
    assert table.configure({**PLAIN, "max_udp": 1232}, [], [])
    with pytest.raises(PermissionError):
        mmap.mmap(table.table_fd, 4096)
    mmap.mmap(table.table_fd, 4096, prot=mmap.PROT_READ).close()
    for fd in (table.table_fd, table.desk_fd):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_for_the_writer_do_not_end_it(number: signal.Signals) -> None:
    with running() as (process, here, sock):
        assert here.recv(100) == worker.READY
        process.send_signal(number)
        assert ask(sock.getsockname())[3] == 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_ends_when_its_channel_is_closed() -> None:
    with running() as (process, here, _):
        assert here.recv(100) == worker.READY
        here.close()
        assert process.wait(60) == 0


def test_does_not_start_for_a_writer_that_is_gone_and_says_so() -> None:
    with running(parent=1) as (process, here, _):
        assert here.recv(1000) == worker.FAULT + b"[Errno 3] No such process"
        assert process.wait(60) == 1


def test_hands_over_large_queries_whole() -> None:
    with running() as (_, here, sock), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        assert here.recv(100) == worker.READY
        for size in (1471, 1472, 1473, 3000, 4096):
            query = b"\x12\x34\x10\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1" + os.urandom(size - 19)
            client.sendto(query, sock.getsockname())
            assert here.recv(8192)[72:] == query


def _has_ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_does_not_outlive_its_writer() -> None:
    """The writer is killed: the kernel ends the worker with it, although the socket and channel stay open."""
    program = (
        "import os,sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tests.unit.mesos_dns.test_worker import running\n"
        "with running() as (process, here, _):\n"
        "    here.recv(100)\n"
        "    print(process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run([sys.executable, "-c", program, root], stdout=subprocess.PIPE, timeout=60)
    pid = int(done.stdout)
    for _ in range(1000):
        if _has_ended(pid):
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")
