"""marathon-lb-autoscale's command line becomes TOML that scales the same apps to the same target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.config import Config, ConfigError, load_text
from agent.import_marathon_lb_autoscale import MOST, convert
from lb7.autoscale.policy import DOWN, UP, Policy

URL = ["--marathon", "http://m.example:8080/"]
WEB = ["--apps", "web_10000"]


def imported(*words: str) -> tuple[Config, dict[str, str], str]:
    """The configuration, the warnings and the TOML of a command line with a Marathon and an app."""
    result = convert([*URL, *WEB, *words])
    return load_text(result.toml, "pharos.toml"), {w.path: w.text for w in result.warnings}, result.toml


def policy(*words: str) -> Policy:
    section = imported(*words)[0].autoscale
    assert section is not None
    return section.apps["/web"]


def test_the_whole_file() -> None:
    words = ["--haproxy", "http://lb:9090", "--target-rps", "100", "--max-instances", "20", "--interval", "15"]
    _, warnings, toml = imported(*words)
    assert sorted(warnings) == ["--haproxy"]
    assert (
        toml
        == """\
# From marathon-lb-autoscale's command line; the flag it came from stands behind each value.

[marathon]
urls = ["http://m.example:8080"]  # --marathon

# Edges count requests: `pharos import marathon-lb` makes one of marathon-lb's flags ([l7]).
# With [zookeeper] here and there they are found, and another process decides when this one is gone.
# --haproxy: has no equivalent: edges count; they are found through [zookeeper], or named in [autoscale] edges

# What marathon-lb-autoscale has nothing like: metrics, and `pharos scale`, on loopback.

[api]

[admin]

[autoscale]
interval = "15s"  # --interval
labels = false  # only the apps below; true: also those with labels PHAROS_SCALE_…
# An app goes up as soon as that is right. As late as it was: up = { window = "45s", rates = [], cooldown = "75s" } \
in its table.

[autoscale.apps."/web"]
# --apps: 10000; here all ports of the app count, and traffic by host name as well
max = 20  # --max-instances
min = 1  # --min-instances
metrics = [{ kind = "rps", target = 100 }]  # --target-rps
down.window = "150s"  # --samples: 10 intervals of 15 s
down.cooldown = "75s"  # --cooldown: 5 intervals of 15 s
"""
    )


def test_defaults_are_those_of_marathon_lb_autoscale() -> None:
    config, warnings, _ = imported()
    assert sorted(warnings) == ["--max-instances"]
    assert config.marathon is not None
    assert (config.marathon.urls, config.marathon.auth) == (("http://m.example:8080",), "none")
    assert config.autoscale is not None
    assert (config.autoscale.interval, config.autoscale.labels) == (5, False)
    assert config.l7 is None
    assert config.admin is not None
    web = policy()
    assert (web.min, web.max) == (1, MOST)
    (metric,) = web.metrics
    assert (metric.kind, metric.target, metric.averaged) == ("rps", 1000, True)
    assert web.up == UP
    assert (web.down.window, web.down.cooldown, web.down.tolerance) == (600, 300, 0.1)
    assert web.down.rates == DOWN.rates


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--min-instances", "2"], {"min": 2}),
        (["--max-instances", "7"], {"max": 7}),
        (["--samples", "3", "--cooldown", "0"], {"down.window": 180, "down.cooldown": 0}),
        (["--interval", "0.5"], {"down.window": 5, "down.cooldown": 2.5}),
        (["--samples", "100", "--cooldown", "61"], {"down.window": 3600, "down.cooldown": 3600}),
        (["--threshold-percent", "0.3"], {"down.tolerance": 0.3, "up.tolerance": 0.1}),
        (["--threshold-percent", "1.5"], {"down.tolerance": 0.1}),
        (["--min-instances", "0"], {"min": 0, "sleeps": True}),
    ],
)
def test_a_flag_is_carried(words: list[str], expected: dict[str, Any]) -> None:
    found = policy(*words)
    for path, value in expected.items():
        part: Any = found
        for name in path.split("."):
            part = getattr(part, name)
        assert part == value


@pytest.mark.parametrize(
    ("words", "key", "text"),
    [
        (["--haproxy", "http://lb:9090"], "--haproxy", "[autoscale] edges"),
        (["--haproxyCredentials", "lb:geheim"], "--haproxyCredentials", "no HAProxy to ask"),
        (["--haproxy_frontend_or_backend", "BACKEND"], "--haproxy_frontend_or_backend", "any listener"),
        (["--threshold-instances", "3"], "--threshold-instances", "one instance more"),
        (["--threshold-percent", "0.5"], "--threshold-percent", "scaling down alone"),
        (["--threshold-percent", "1"], "--threshold-percent", "expected less than 1"),
        (["--interval", "0.5"], "--interval", "1 s is taken"),
        (["--interval", "3600"], "--interval", "300 s is taken"),
        (["--samples", "100"], "--samples", "at most 1h"),
        (["--cooldown", "100"], "--cooldown", "at most 1h"),
        (["--min-instances", "0"], "--min-instances", "the next request wakes it"),
        (["--marathonCredentials", "u:p"], "--marathonCredentials", "mode 0600 (secret_file)"),
        (["--apps", "shop_cart_10000"], "--apps", "write /shop_cart"),
        (["--apps"], "--apps", "names no app"),
    ],
)
def test_a_warning(words: list[str], key: str, text: str) -> None:
    _, warnings, toml = imported(*words)
    assert text in warnings[key]
    assert f"# {key}: " in toml
    assert "geheim" not in toml


def test_several_apps_and_a_warning_once() -> None:
    result = convert([*URL, "--apps", "web_10000,shop_10001,web_10002", "--threshold-percent", "0.2"])
    section = load_text(result.toml, "pharos.toml").autoscale
    assert section is not None
    assert list(section.apps) == ["/web", "/shop"]
    assert [warning.path for warning in result.warnings] == ["--max-instances", "--threshold-percent"]
    assert "# --apps: 10000, 10002; " in result.toml


def test_a_login() -> None:
    marathon = imported("--marathonCredentials", "user:password:x")[0].marathon
    assert marathon is not None
    assert (marathon.auth, marathon.principal, marathon.secret) == ("basic", "user", "password")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--marathon", "m:8080"], "--marathon: expected http(s)://HOST[:PORT]"),
        (["--marathonCredentials", "nobody"], "--marathonCredentials: expected USER:PASSWORD"),
        (["--apps", "web"], "--apps: expected APP_PORT, as in web_10000, got 'web'"),
        (["--max-instances", "0"], "--max-instances: expected 1 (min)"),
        (["--min-instances", "5", "--max-instances", "4"], "--max-instances: expected 5 (min)"),
        (["--min-instances", "-1"], "--min-instances: expected 0 to"),
    ],
)
def test_what_can_not_be_used(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert([*URL, *WEB, *words])
    assert str(caught.value).startswith(f"marathon-lb-autoscale: {expected}")


@pytest.mark.parametrize("dashes", [["--"], []])
def test_the_command_and_its_output(dashes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*URL, *WEB, "--max-instances", "9", "--haproxy", "http://lb:9090"]
    assert cli.main(["import", "marathon-lb-autoscale", *dashes, *words]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("marathon-lb-autoscale: warning: --haproxy: ")
    path = tmp_path / "pharos.toml"
    path.write_text(out)
    assert cli.main(["check-config", "-c", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok; on: marathon, autoscale, api, admin\n"


def test_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "marathon-lb-autoscale", "--", "--marathon", "m:8080"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("marathon-lb-autoscale: --marathon: ")) == ("", True)
