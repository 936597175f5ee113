"""The command line as a process: verbs, exit codes, and what a quick command does not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_OFFERED = ("top", "deploy", "rollback", "join", "compare")
HEAVY = {"aiohttp", "asyncio", "cryptography", "dnslib", "msgspec", "prometheus_client", "ssl", "uvloop"}


def pharos(*words: str, code: str = "import sys; from agent.cli import main; sys.exit(main())") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=REPOSITORY,
        env={**os.environ, "PHAROS_API": "", "PHAROS_ADMIN": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["version"], 0),
        (["--help"], 0),
        (["resolve", "--help"], 0),
        (["config-schema"], 0),
        ([], 2),
        (["no-such-command"], 2),
        (["run"], 2),
        (["run", "-c", "/nonexistent/pharos.toml"], 2),
        (["check-config", "-c", "/nonexistent/pharos.toml"], 2),
        (["import"], 2),
        (["import", "other"], 2),
        (["import", "mesos-dns", "/nonexistent/config.json"], 2),
        (["tasks", "--api", "http://127.0.0.1:1"], 1),
        (["tasks", "--api", "nonsense"], 2),
        (["vips", "--api", "http://127.0.0.1:1"], 1),
        (["vips", "web", "--api", "nonsense"], 2),
        (["status", "--api", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"], 1),
        (["resolve", "x", "NOSUCH"], 2),
        (["scale", "--help"], 0),
        (["scale", "--admin", "http://127.0.0.1:1"], 1),
        (["scale", "/web", "3", "--admin", "http://127.0.0.1:1"], 1),
        (["scale", "/web", "more"], 2),
        (["import", "marathon-lb-autoscale", "--", "--no-such"], 2),
    ],
)
def test_exit_codes(words: list[str], code: int) -> None:
    got, out, err = pharos(*words)
    assert got == code, err
    assert "Traceback" not in err
    assert (out if code == 0 else err).strip()


@pytest.mark.parametrize("verb", NOT_OFFERED)
def test_verbs_without_a_part_behind_them_are_not_offered(verb: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb])
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["version"], ["status", "--help"], ["scale", "--help"], ["run", "--help"]])
def test_a_quick_command_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom agent.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    got, _, err = pharos(*words, code=code)
    assert got == 0
    assert not set(err.split()) & HEAVY


def test_asking_loads_neither_aiohttp_nor_the_event_loop() -> None:
    code = (
        "import sys\nfrom agent.cli import main\nmain()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    words = ["status", "--api", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"]
    _, _, err = pharos(*words, code=code)
    assert not set(err.split()) & (HEAVY - {"ssl"})


def test_a_reader_that_went_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "config-schema"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(60) == 1
    assert err == ""


def test_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "agent", "version"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("pharos ")
