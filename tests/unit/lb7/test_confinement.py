"""What a worker gives up, in processes of their own: it can't be taken back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def run(code: str) -> dict[str, str]:
    """What /proc says of a process that has run the code."""
    program = f"import os, sys\nfrom lb7 import confinement\n{code}\nprint(open('/proc/self/status').read())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (line.partition(":") for line in done.stdout.splitlines())
    return {name: value.strip() for name, _, value in lines}


def test_there_are_no_privileges_left_and_no_way_to_get_any() -> None:
    status = run("confinement.give_up_privileges()")
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.root
def test_root_becomes_nobody() -> None:
    status = run("confinement.give_up_privileges()")
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
    assert status["Groups"] == ""


@pytest.mark.root
def test_one_that_may_not_change_its_user_stays_root_without_capabilities() -> None:
    status = run(
        "def forbidden(*given): raise PermissionError(1, 'not permitted')\n"
        "os.setgroups = forbidden\n"
        "confinement.give_up_privileges()"
    )
    assert set(status["Uid"].split()) == {"0"}
    assert status["CapEff"] == "0" * 16


def test_a_certificate_can_be_read_after_it() -> None:
    """It comes through memory, which is a file of the new user's."""
    code = (
        "import trustme\n"
        "pem = trustme.CA().issue_cert('a.example').private_key_and_cert_chain_pem.bytes()\n"
        "from lb7.certificates import context_of\n"
        "confinement.give_up_privileges()\n"
        "context_of(pem)"
    )
    assert run(code)["NoNewPrivs"] == "1"


def test_the_name_that_is_shown() -> None:
    assert run("confinement.name_process('pharos-l7')")["Name"] == "pharos-l7"


def test_the_parent_is_looked_at() -> None:
    run("confinement.end_with_parent(os.getppid())")
    with pytest.raises(AssertionError, match="the parent is gone"):
        run("confinement.end_with_parent(os.getppid() + 1)")


@pytest.mark.parametrize("kept", [0, 4])
def test_only_the_standard_files_and_one_other_are_kept(kept: int) -> None:
    run(
        "for number in (3, 4, 5, 700): os.dup2(1, number)\n"
        f"confinement.close_others({kept})\n"
        "there = set(map(int, os.listdir('/proc/self/fd')))\n"
        f"assert there == {{0, 1, 2, 3, {kept}}}, there  # 3 is the folder itself"
    )
