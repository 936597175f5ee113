"""Claims of a device: one process has it, a dead one or one that does not count has not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from mesos_dns import device_claim
from mesos_dns.device_claim import Claim

DEVICE, MARK = "pharos-dns", 80
HOLD = """
import ctypes, os, socket, sys, time
if sys.argv[2] == "may change devices":
    ctypes.CDLL(None).prctl(28, 4, 0, 0, 0)  # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
if sys.argv[2] in ("another user", "user namespace", "may change devices"):
    os.setuid(65534)
if sys.argv[2] == "user namespace" and ctypes.CDLL(None).unshare(0x10000000):
    sys.exit("no user namespaces")
sock = socket.socket(socket.AF_UNIX)
sock.bind("\\0" + sys.argv[1])
if sys.argv[2] != "does not tell":
    sock.listen(1)
print("held", flush=True)
time.sleep(120)
"""


@pytest.fixture(autouse=True)
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    own = f"pharos-test-{uuid.uuid4()}"  # not by the process' number: another with it may be in this network, too
    monkeypatch.setattr(device_claim, "NAME", own)
    return f"{own}-{DEVICE}-{MARK}"


@pytest.fixture
def claim() -> Iterator[Claim]:
    made = Claim(MARK)
    yield made
    made.release()


def holder(name: str, kind: str = "") -> subprocess.Popen[str]:
    """Another process that has the name."""
    command = [sys.executable, "-I", "-S", "-c", HOLD, name, kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()


def test_one_has_it_until_it_lets_go(claim: Claim) -> None:
    other = Claim(MARK)
    assert claim.has(DEVICE)
    assert claim.has(DEVICE)
    assert not other.has(DEVICE)
    other.release()
    assert not other.has(DEVICE)
    assert other.has("another")
    claim.release()
    assert other.has(DEVICE)
    other.release()


def test_another_mark_is_another_claim(claim: Claim) -> None:
    other = Claim(MARK + 1)
    assert claim.has(DEVICE)
    assert other.has(DEVICE)
    other.release()


def test_a_process_that_is_killed_has_nothing(claim: Claim, name: str) -> None:
    process = holder(name)
    assert not claim.has(DEVICE)
    end(process)
    assert claim.has(DEVICE)


def test_many_that_ask(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_claim, "BACKLOG", 4)
    assert claim.has(DEVICE)
    for _ in range(20):
        assert not Claim(MARK).has(DEVICE)
        assert claim.has(DEVICE)


def test_one_that_does_not_tell_who_it_is_does_not_count(
    claim: Claim, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_claim, "ANSWER_WAIT", 0.05)
    process = holder(name, "does not tell")
    assert claim.has(DEVICE)
    end(process)


@pytest.mark.root
def test_another_users_process_counts_when_it_may_change_devices(claim: Claim, name: str) -> None:
    for kind, counts in (("another user", False), ("may change devices", True), ("user namespace", False)):
        process = holder(name, kind)
        assert claim.has(DEVICE) is not counts, kind
        end(process)


def test_what_the_others_want(claim: Claim) -> None:
    first, second = object(), object()
    claim.join(first, frozenset({"a", "b"}))
    assert claim.is_in(first)
    assert not claim.is_in(second)
    assert not claim.is_shared(first)
    claim.join(second, frozenset({"b", "c"}))
    assert claim.is_shared(first)
    assert claim.others(first) == {"b", "c"}
    assert claim.others(second) == {"a", "b"}
    assert claim.has(DEVICE)
    claim.leave(first)
    assert not Claim(MARK).has(DEVICE)
    claim.leave(second)
    other = Claim(MARK)
    assert other.has(DEVICE)
    other.release()


def test_a_name_that_can_not_be_taken_is_an_error(claim: Claim) -> None:
    with pytest.raises(OSError, match="too long"):
        claim.has("x" * 200)


def test_nobody_is_asked_whose_process_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    assert not device_claim._counts(process.pid, os.geteuid() + 1)
    assert device_claim._counts(process.pid, os.geteuid())
