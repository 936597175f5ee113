"""`[autoscale]`: what its types can't say."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import checks
from agent.config import ConfigError, load, load_text

EDGE = "expected http(s)://HOST[:PORT]"
PROMETHEUS = "expected http(s)://HOST[:PORT], and a path only where a gateway has Prometheus below one"
HOOKS = "expected http(s)://HOST[:PORT]/ and perhaps a path"
POLICY = "max = 3\nmetrics = [{ kind = 'rps', target = 1 }]\n"
MARATHON = "[marathon]\nurls = ['http://m:8080']\n"
ZOOKEEPER = "[zookeeper]\nhosts = ['z']\n"


def problems(text: str) -> list[str]:
    try:
        load_text(text, "f")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def advice(text: str) -> list[str]:
    return [line for line in map(str, checks.advice(load_text(text, "f"))) if line.startswith("autoscale")]


PATH = 'expected a path without ".", "..", and without encoded "/", "\\", "%" and control characters'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval = '500ms'", "autoscale.interval: expected 1s to 5m, got 500ms"),
        ("interval = '6m'", "autoscale.interval: expected 1s to 5m, got 6m"),
        ("window = 1", "autoscale.window: expected 2s to 5m, got 1s"),
        ("window = '10m'", "autoscale.window: expected 2s to 5m, got 10m"),
        ("drain_timeout = '2h'", "autoscale.drain_timeout: expected 0s to 1h, got 2h"),
        ("max_instances = -1", "autoscale.max_instances: expected `int` >= 0, got -1"),
        ("edges = ['e1:8123']", f"autoscale.edges[0]: {EDGE}, got 'e1:8123'"),
        ("edges = ['http://e1/v1']", f"autoscale.edges[0]: {EDGE}, got 'http://e1/v1'"),
        ("edges = ['http://e1', 'HTTP://E1/']", "autoscale.edges[1]: 'HTTP://E1/' is listed twice"),
        (
            "edges = ['http://u:geheim@e1']",
            "autoscale.edges[0]: credentials don't belong here: set token_file or cert_file",
        ),
        ("prometheus = 'prom:9090'", f"autoscale.prometheus: {PROMETHEUS}, got 'prom:9090'"),
        ("prometheus = 'http://p?x=1'", f"autoscale.prometheus: {PROMETHEUS}, got 'http://p?x=1'"),
        (
            "prometheus = 'http://u:geheim@p'",
            "autoscale.prometheus: credentials don't belong here: set prometheus_token_file",
        ),
        (
            "prometheus_token_file = '/t'",
            "autoscale.prometheus: expected the URL of the server that the token or certificate is for",
        ),
        ("hooks = ['http://h']", f"autoscale.hooks[0]: {HOOKS}, got 'http://h'"),
        ("hooks = ['h/']", f"autoscale.hooks[0]: {HOOKS}, got 'h/'"),
        ("hooks = ['http://u:p@h/']", "autoscale.hooks[0]: credentials don't belong here: hooks get none"),
        ("cert_file = '/c'", "autoscale.key_file: cert_file is set: cert_file and key_file go together"),
        ("[autoscale.apps.web]\n" + POLICY, "autoscale.apps.web: expected an app's id such as '/shop/web', got 'web'"),
        ("[autoscale.apps.'/']\n" + POLICY, "autoscale.apps.\"/\": expected an app's id such as '/shop/web', got '/'"),
        (
            "[autoscale.apps.'/a']\nmax = 1\nmetrics = [{ kind = 'prometheus', name = 'q', target = 1, query = 'up' }]",
            'autoscale.apps."/a".metrics[0]: kind prometheus needs a server: set autoscale.prometheus',
        ),
        (
            "[autoscale.apps.'/a']\nmax = 1\nmetrics = [{ kind = 'hook', name = 'q', target = 1, url = 'h/x' }]",
            "autoscale.apps.\"/a\".metrics[0].url: expected http(s)://HOST[:PORT]/PATH, got 'h/x'",
        ),
        (
            "[autoscale.apps.'/a']\nmax = 1\nmetrics = [{ kind = 'hook', target = 1, url = 'http://u:geheim@h/x' }]",
            'autoscale.apps."/a".metrics[0].url: credentials don\'t belong here: hooks get none',
        ),
        (
            "[autoscale.apps.'/a']\nmax = 0\nmetrics = [{ kind = 'rps', target = 1 }]\n",
            'autoscale.apps."/a".max: expected 1 (min) to 100000, got 0',
        ),
        ("[autoscale.apps.'/a']\nmax = 1", 'autoscale.apps."/a".metrics: expected one at least, or a schedule'),
        ("hooks = ['http://h/a/../b/']", f"autoscale.hooks[0]: {PATH}"),
        ("hooks = ['http://h/a%2Fb/']", f"autoscale.hooks[0]: {PATH}"),
        (
            "[autoscale.apps.'/a']\nmax = 1\nmetrics = [{ kind = 'hook', target = 1, url = 'http://h/../x' }]",
            f'autoscale.apps."/a".metrics[0].url: {PATH}',
        ),
        (
            "[autoscale.apps.'/a']\nmni = 0\n" + POLICY,
            "autoscale.apps.\"/a\".mni: unknown key; did you mean 'min'?",
        ),
        (
            "[autoscale.apps.'/a']\nmax = 1\n"
            "[[autoscale.apps.'/a'.schedules]]\nstart = '61 * * * *'\nend = '0 * * * *'\nmin = 1",
            "autoscale.apps.\"/a\".schedules[0].start: minute: expected a number from 0 to 59, got '61'",
        ),
    ],
)
def test_problems(text: str, expected: str) -> None:
    assert problems("[autoscale]\n" + text) == [expected]


def test_a_bad_policy_hides_no_other() -> None:
    text = (
        "[autoscale.apps.'/a']\nmax = 0\nmetrics = [{ kind = 'rps', target = 1 }]\n[autoscale.apps.'/b']\nmax = 'x'\n"
    )
    assert problems(text) == [
        'autoscale.apps."/a".max: expected 1 (min) to 100000, got 0',
        'autoscale.apps."/b".max: expected `int`, got `str`',
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "interval = 1\nwindow = 2\ndrain_timeout = 0",
        "edges = ['http://e1:8123', 'https://[fd00::1]:8123/']\nprometheus = 'https://gate/prometheus/'",
        "hooks = ['http://h/', 'https://h:1/queues/']",
        "[autoscale.apps.'/a']\nmax = 1\nmetrics = [{ kind = 'hook', target = 1, url = 'http://h/x?who=a@b' }]",
        "prometheus = 'http://p:9090'\n[autoscale.apps.'/a']\nmax = 1\n"
        "metrics = [{ kind = 'prometheus', target = 1, query = 'up' }]",
    ],
)
def test_no_problems(text: str) -> None:
    assert problems("[autoscale]\n" + text) == []


def test_what_a_process_can_do_with_it() -> None:
    (alone,) = advice("[autoscale]")
    assert alone.startswith("autoscale: has no effect")
    (edge,) = advice(MARATHON.replace("[marathon]", "[relay]").replace("urls", "servers") + "[l7]\n[autoscale]")
    assert edge == "autoscale: says here only which apps may sleep: without [marathon] nothing is scaled"
    (one,) = advice(MARATHON + "[autoscale]")
    assert one == "autoscale: without [zookeeper] this process alone decides: no other may have [autoscale]"
    assert advice(MARATHON + ZOOKEEPER + "[autoscale]") == []
    relay = "[relay]\nservers = ['http://s:8123']\n"
    assert advice(MARATHON + ZOOKEEPER + relay + "[autoscale]") == []
    _, unheard = advice(MARATHON + relay + "[autoscale]")
    assert unheard.startswith("autoscale: with [relay] and without [zookeeper] no edge hears")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labels = false", "autoscale.labels: is off and there are no policies in autoscale.apps: no app is scaled"),
        (
            "tls_verify = false",
            "autoscale.tls_verify: is off: whoever can answer in an edge's place decides how apps are scaled",
        ),
        (
            "edges = ['http://e1']\ntoken_file = '/t'",
            "autoscale.token_file: is sent to edges over plain HTTP",
        ),
        (
            "prometheus = 'http://p'\nprometheus_token_file = '/t'",
            "autoscale.prometheus_token_file: is sent over plain HTTP",
        ),
    ],
)
def test_advice(text: str, expected: str) -> None:
    assert advice(MARATHON + ZOOKEEPER + "[autoscale]\n" + text) == [expected]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "pharos.toml"
    path.write_text("[autoscale]\ntoken_file = '/nowhere'\n")
    with pytest.raises(ConfigError) as missing:
        load(path)
    text = "autoscale.token_file: can't read '/nowhere': No such file or directory"
    assert str(missing.value) == f"{path}: {text}"
    (tmp_path / "token").write_text("two words")
    (tmp_path / "ca.pem").write_text("nothing")
    path.write_text(f"[autoscale]\ntoken_file = '{tmp_path}/token'\nca_file = '{tmp_path}/ca.pem'\n")
    with pytest.raises(ConfigError) as empty:
        load(path)
    assert [problem.path for problem in empty.value.problems] == ["autoscale.ca_file", "autoscale.token_file"]
