"""`[marathon]`: what its types can't say."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import checks
from agent.check_marathon import url_fault
from agent.config import ConfigError, load, load_text

URLS = "urls = ['http://m:8080']\n"
EXPECTED = "expected http(s)://HOST[:PORT], and a path only where a gateway has Marathon below one"


def problems(text: str) -> list[str]:
    try:
        load_text(text, "f")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def advice(text: str) -> list[str]:
    return [line for line in map(str, checks.advice(load_text(text, "f"))) if line.startswith("marathon")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "marathon.urls: expected http(s)://HOST:PORT of Marathon, or a section [mesos] that finds it"),
        ("urls = ['m:8080']", f"marathon.urls[0]: {EXPECTED}, got 'm:8080'"),
        ("urls = ['ftp://m:8080']", f"marathon.urls[0]: {EXPECTED}, got 'ftp://m:8080'"),
        ("urls = ['http://m:0']", f"marathon.urls[0]: {EXPECTED}, got 'http://m:0'"),
        ("urls = ['http://m:99999']", f"marathon.urls[0]: {EXPECTED}, got 'http://m:99999'"),
        ("urls = ['http://10.0.0.300']", f"marathon.urls[0]: {EXPECTED}, got 'http://10.0.0.300'"),
        ("urls = ['http://m:8080?x=1']", f"marathon.urls[0]: {EXPECTED}, got 'http://m:8080?x=1'"),
        (
            "urls = ['http://u:geheim@m:8080']",
            "marathon.urls[0]: credentials don't belong here: set auth, principal and secret_file",
        ),
        ("urls = ['http://m:8080', 'http://M:8080/']", "marathon.urls[1]: 'http://M:8080/' is listed twice"),
        (URLS + "auth = 'basic'\nsecret = 's'", 'marathon.principal: auth = "basic" needs the user name'),
        (
            URLS + "auth = 'basic'\nprincipal = 'p'",
            'marathon.secret: auth = "basic" needs secret_file (or secret)',
        ),
        (URLS + "auth = 'token'", 'marathon.secret: auth = "token" needs secret_file (or secret)'),
        (URLS + "auth = 'iam'", 'marathon.iam_config_file: auth = "iam" needs the service account file'),
        (
            URLS + "auth = 'token'\nsecret = 's'\nsecret_file = '/s'",
            "marathon.secret: expected one of secret and secret_file, got both",
        ),
        (URLS + "cert_file = '/c'", "marathon.key_file: cert_file is set: cert_file and key_file go together"),
        (URLS + "silence = 0", "marathon.silence: expected more than zero"),
    ],
)
def test_problems(text: str, expected: str) -> None:
    assert problems("[marathon]\n" + text) == [expected]


def test_a_marathon_that_nobody_can_find() -> None:
    assert problems("[mesos]\nmasters = ['m:5050']\n[marathon]\nframeworks = []") == [
        "marathon.frameworks: expected the name of a framework that is a Marathon, or urls"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[marathon]\nurls = ['http://m1:8080', 'https://m2.example/service/marathon/', 'http://[fd00::1]:8080']",
        "[mesos]\nmasters = ['m:5050']\n[marathon]",
        "[marathon]\nurls = ['http://m']\nauth = 'token'\nsecret_file = '/s'",
        "[marathon]\nurls = ['http://m']\nauth = 'basic'\nprincipal = 'p'\nsecret = 's'",
    ],
)
def test_no_problems(text: str) -> None:
    assert problems(text) == []


def test_what_a_url_holds_is_not_told_when_it_may_be_secret() -> None:
    for text in ("http://u:geheim@m", "geheim@", "http://[geheim@"):
        assert "geheim" not in url_fault(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URLS, []),
        ("urls = ['http://m']\ncluster = 'other'\n[mesos]\nmasters = ['m:5050']", ["don't meet their tasks"]),
        (URLS + "[relay]\nservers = ['http://s:8123']", ["is read here beside [relay]"]),
        (URLS + "tls_verify = false", ["decides every route"]),
        (URLS + "auth = 'token'\nsecret = 's'", ["sends the secret over plain HTTP"]),
        ("urls = ['https://m']\nauth = 'token'\nsecret = 's'", []),
    ],
)
def test_advice(text: str, expected: list[str]) -> None:
    found = advice("[marathon]\n" + text)
    assert len(found) == len(expected)
    assert all(words in line for words, line in zip(expected, found, strict=True))


def test_files_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(f"[marathon]\n{URLS}auth = 'token'\nsecret_file = '{tmp_path}/none'\nca_file = '{path}'")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [str(problem) for problem in caught.value.problems] == [
        f"marathon.secret_file: can't read '{tmp_path}/none': No such file or directory"
    ]
    (tmp_path / "none").write_text("\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [problem.path for problem in caught.value.problems] == ["marathon.ca_file", "marathon.secret_file"]
