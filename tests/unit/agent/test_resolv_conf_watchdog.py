"""The watchdog's program: what makes it give the file back, what ends it, what it may."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import resolv_conf_watchdog as watchdog
from agent.resolv_conf_file import ResolvConf

OURS = "127.0.0.1"
ORIGINAL = "nameserver 10.0.0.1\n"


class Resolver:
    """Answers every question with `code` while `on`; `asked` counts."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((OURS, 0))
        self.port = self.sock.getsockname()[1]
        self.on, self.code, self.asked = True, 0, 0
        self.names: set[bytes] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            wire, client = self.sock.recvfrom(512)
            if not wire:
                return
            self.asked += 1
            self.names.add(wire[12:-4])
            if self.on:
                self.sock.sendto(wire[:2] + bytes([0x85, self.code]) + wire[4:], client)

    def close(self) -> None:
        """End the thread, then the socket."""
        self.sock.sendto(b"", self.sock.getsockname())
        self.sock.close()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    server = Resolver()
    yield server
    server.close()


@pytest.fixture
def file(tmp_path: Path) -> ResolvConf:
    made = ResolvConf(tmp_path / "resolv.conf", tmp_path / "state" / "saved", [OURS])
    made.path.write_text(ORIGINAL)
    return made


@contextlib.contextmanager
def running(
    file: ResolvConf, port: int = 9, upstreams: list[str] | None = None, lock: int = -1
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A watchdog that is ready, and our end of its channel."""
    task = watchdog.Task(str(file.path), str(file.saved), [OURS], upstreams or [], "ready.test", port, 0.05, 0.2, lock)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.settimeout(30)
    with here:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(watchdog.__file__)), str(there.fileno()), json.dumps(task)],
            pass_fds=(there.fileno(), *([lock] if lock >= 0 else [])),
            start_new_session=True,
        )
        there.close()
        try:
            assert here.recv(100) == watchdog.READY
            yield process, here
        finally:
            process.kill()
            process.wait()


def until(condition: Callable[[], object], limit: float = 30) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.02)


def test_gives_back_when_its_owner_is_gone(file: ResolvConf) -> None:
    with running(file) as (process, here):
        file.take()
        here.send(watchdog.WATCH)
        here.close()
        assert process.wait(30) == 0
    assert file.path.read_text() == ORIGINAL
    assert not file.saved.exists()


def test_the_last_one_removes_the_lock(file: ResolvConf) -> None:
    lock = file.lock()
    with running(file, lock=lock) as (process, here):
        file.take()
        os.close(lock)
        assert file.is_kept()
        here.close()
        assert process.wait(30) == 0
    assert [path.name for path in file.path.parent.rglob("*") if path.is_file()] == ["resolv.conf"]


def test_names_the_upstreams_where_the_original_names_nobody(file: ResolvConf) -> None:
    file.path.write_text("search a\n")
    with running(file, upstreams=["192.0.2.1"]) as (process, here):
        file.take()
        here.close()
        assert process.wait(30) == 0
    assert file.servers() == ["192.0.2.1"]


def test_leaves_what_others_wrote(file: ResolvConf) -> None:
    with running(file) as (process, here):
        file.take()
        file.path.write_text("nameserver 10.0.0.7\n")
        here.close()
        assert process.wait(30) == 0
    assert file.path.read_text() == "nameserver 10.0.0.7\n"


def test_ends_silently_when_told(file: ResolvConf) -> None:
    with running(file) as (process, here):
        file.take()
        here.send(watchdog.HOLD)
        assert here.recv(100) == watchdog.HELD
        here.send(watchdog.END)
        assert process.wait(30) == 0
    assert file.servers() == [OURS]


def test_gives_back_while_nobody_answers_and_takes_again(file: ResolvConf, resolver: Resolver) -> None:
    with running(file, resolver.port) as (_, here):
        file.take()
        here.send(watchdog.WATCH)
        until(lambda: resolver.asked >= 4)
        assert file.servers() == [OURS]
        resolver.on = False
        message = here.recv(1000)
        assert message[:1] == watchdog.GAVE
        assert b"3 questions for ready.test" in message
        assert file.path.read_text() == ORIGINAL
        assert file.look().state == "paused"
        resolver.on, resolver.code = True, 3
        assert here.recv(1000) == watchdog.TOOK
        assert file.servers() == [OURS]
        resolver.code = 2
        assert here.recv(1000)[:1] == watchdog.GAVE
    assert all(name.endswith(b"\5ready\4test\0") for name in resolver.names)
    assert len(resolver.names) == resolver.asked  # none that a cache could know


def test_a_closed_port_is_no_answer(file: ResolvConf, free_port: int) -> None:
    with running(file, free_port) as (_, here):
        file.take()
        here.send(watchdog.WATCH)
        assert here.recv(1000)[:1] == watchdog.GAVE
        assert file.path.read_text() == ORIGINAL


def test_pharos_own_write_in_between_is_given_back_again(file: ResolvConf, free_port: int) -> None:
    with running(file, free_port) as (_, here):
        file.take()
        here.send(watchdog.WATCH)
        assert here.recv(1000)[:1] == watchdog.GAVE
        for _ in range(10):  # at any moment of what the watchdog does
            file.take()
            until(lambda: file.path.read_text() == ORIGINAL)


def test_asks_nothing_before_it_is_told_to_and_after_hold(file: ResolvConf, resolver: Resolver) -> None:
    with running(file, resolver.port) as (process, here):
        here.send(watchdog.HOLD)
        assert here.recv(100) == watchdog.HELD
        assert resolver.asked == 0
        here.send(watchdog.WATCH)
        until(lambda: resolver.asked >= 2)
        here.send(watchdog.HOLD)
        assert here.recv(100) == watchdog.HELD
        file.take()
        asked = resolver.asked
        time.sleep(0.5)  # ten times the interval
        assert resolver.asked == asked
        here.send(watchdog.END)
        assert process.wait(30) == 0
    assert file.servers() == [OURS]


def test_signals_for_the_service_do_not_end_it(file: ResolvConf) -> None:
    with running(file) as (process, here):
        assert os.getsid(process.pid) == process.pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(process.pid, number)
        here.send(watchdog.HOLD)
        assert here.recv(100) == watchdog.HELD


def test_keeps_the_rights_to_write_files_alone(file: ResolvConf) -> None:
    with running(file) as (process, _):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line
        )
        write = 1 << 0 | 1 << 1 | 1 << 3  # CHOWN, DAC_OVERRIDE, FOWNER
        for kind in ("CapEff", "CapPrm", "CapBnd") if os.geteuid() == 0 else ("CapEff", "CapPrm"):
            assert int(status[kind], 16) & ~write == 0, kind
        assert int(status["CapInh"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"


def test_a_file_that_can_not_be_written_is_told(file: ResolvConf, free_port: int) -> None:
    with running(file, free_port) as (_, here):
        file.take()
        file.path.unlink()
        file.path.mkdir()
        here.send(watchdog.WATCH)
        assert here.recv(1000)[:1] == watchdog.FAULT


def test_arguments_that_make_no_sense_are_told(file: ResolvConf) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        command = [sys.executable, "-I", "-S", str(Path(watchdog.__file__)), str(there.fileno()), "[]"]
        assert subprocess.run(command, pass_fds=(there.fileno(),), check=False, timeout=60).returncode == 1
        assert here.recv(1000)[:1] == watchdog.FAULT


def test_only_an_answer_to_the_question_counts() -> None:
    wire = watchdog.question("ready.Spartan.")
    assert wire[2:] == b"\1\0\0\1\0\0\0\0\0\0\5ready\7Spartan\0\0\1\0\1"
    good = wire[:2] + b"\x85\0" + wire[4:]
    assert watchdog.is_answer(wire, good)
    assert watchdog.is_answer(wire, good[:12] + good[12:].upper() + b"more")
    other_id, no_question = bytes([good[0] ^ 1]) + good[1:], good[:5] + b"\0" + good[6:]
    for bad in (b"", good[:5], other_id, wire, good.replace(b"ready", b"reads"), good[:-1], no_question):
        assert not watchdog.is_answer(wire, bad)
