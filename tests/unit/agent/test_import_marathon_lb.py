"""marathon-lb's command line becomes TOML that means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.config import Config, ConfigError, load_text
from agent.import_marathon_lb import ACCOUNT, CERT_DIR, convert

GROUP = ["--group", "external"]
ALWAYS = ["port 9090", "--ssl-certs"]
"""What every import warns of: nothing is open to everyone, and no certificate is made."""


def imported(*words: str) -> tuple[Config, dict[str, str], str]:
    """The configuration, the warnings and the TOML of a command line with one group."""
    result = convert([*words, *GROUP])
    return load_text(result.toml, "pharos.toml"), {w.path: w.text for w in result.warnings}, result.toml


def value(path: str, *words: str) -> Any:
    section, key = path.split(".")
    return getattr(getattr(imported(*words)[0], section), key)


def test_defaults_are_those_of_marathon_lb() -> None:
    config, warnings, _ = imported()
    assert sorted(warnings) == sorted(ALWAYS)
    assert config.marathon is not None
    assert config.l7 is not None
    assert config.api is not None
    assert config.admin is not None
    assert config.marathon.urls == ("http://master.mesos:8080",)
    assert (config.marathon.auth, config.marathon.ca_file) == ("none", "")
    l7 = config.l7
    assert (l7.compat, l7.groups, l7.http, l7.https, l7.app_id) == (
        *("marathon-lb", ("external",), (":80",), (":443",)),
        (":9091",),
    )
    assert (l7.strict, l7.health, l7.haproxy_map, l7.group_https_by_vhost) == (False, "ignore", False, False)
    assert (l7.auto_ports, l7.own_app, l7.cert_dir) == ((10050, 10101), "", CERT_DIR)
    assert (config.api.listen, config.admin.listen) == (("127.0.0.1:8123",), ("127.0.0.1:9090",))
    assert config.log.level == "info"


@pytest.mark.parametrize(
    ("words", "path", "expected"),
    [
        (
            ["-m", "http://a:8080/", "http://b:8080", "http://a:8080/"],
            "marathon.urls",
            ("http://a:8080", "http://b:8080"),
        ),
        (["--marathon-ca-cert", "/ca"], "marathon.ca_file", "/ca"),
        (["--auth-credentials", "u:p"], "marathon.auth", "basic"),
        (["--auth-credentials", "u:p:x"], "marathon.principal", "u"),
        (["--auth-credentials", "u:p:x"], "marathon.secret", "p"),
        (["--dcos-auth-credentials", "{}"], "marathon.auth", "iam"),
        (["DCOS_SERVICE_ACCOUNT_CREDENTIAL={}"], "marathon.iam_config_file", ACCOUNT),
        (["--group", "a", "--group", "a", "--group", "*"], "l7.groups", ("a", "*", "external")),
        (["--strict-mode"], "l7.strict", True),
        (["--health-check"], "l7.health", "exclude-unhealthy"),
        (["-H"], "l7.health", "exclude-unhealthy"),
        (["--haproxy-map"], "l7.haproxy_map", True),
        (["--group-https-by-vhost"], "l7.group_https_by_vhost", True),
        (["--dont-bind-http-https"], "l7.http", ()),
        (["--dont-bind-http-https"], "l7.https", ()),
        (["--dont-bind-http-https"], "l7.cert_dir", ""),
        (["--dont-bind-http-https", "--ssl-certs", "/c/a.pem"], "l7.cert_dir", "/c"),
        (["--ssl-certs", "/etc/certs/a.pem,/etc/certs/b.pem"], "l7.cert_dir", "/etc/certs"),
        (["--ssl-certs", "/a/a.pem,/b/b.pem"], "l7.cert_dir", CERT_DIR),
        (
            ["--min-serv-port-ip-per-task", "20000", "--max-serv-port-ip-per-task", "20009"],
            "l7.auto_ports",
            (20000, 20010),
        ),
        (["--min-serv-port-ip-per-task", "0", "--max-serv-port-ip-per-task", "0"], "l7.auto_ports", (0, 0)),
        (["FRAMEWORK_NAME=marathon-lb", "sse"], "l7.own_app", "/marathon-lb"),
        (["FRAMEWORK_NAME=/a/lb", "PORTS=9090,9091", "poll"], "l7.own_app", "/a/lb"),
        (["--log-level", "WARNING"], "log.level", "warning"),
        (["--log-level", "CRITICAL"], "log.level", "error"),
        (["--", "--strict-mode"], "l7.strict", True),
    ],
)
def test_a_flag_is_carried(words: list[str], path: str, expected: object) -> None:
    assert value(path, *words) == expected


@pytest.mark.parametrize(
    ("words", "key", "text"),
    [
        (["--haproxy-config", "/x"], "--haproxy-config", "there is no HAProxy"),
        (["-c", "sv reload"], "--command", "there is no HAProxy"),
        (["--max-reload-retries", "0"], "--max-reload-retries", "there is no HAProxy"),
        (["--skip-config-cleanup"], "--skip-config-cleanup", "keeps no other app out"),
        (["--lru-cache-capacity", "5"], "--lru-cache-capacity", "looked up again"),
        (["--dry"], "--dry", "pharos routes"),
        (["--max-backoff", "5"], "--max-backoff", "3 s at most"),
        (["--syslog-socket", "/dev/log"], "--syslog-socket", "standard error"),
        (["--log-format", "%x"], "--log-format", "[log] format"),
        (["-m", "https://m"], "--marathon-ca-cert", "tls_verify = false"),
        (["--auth-credentials", "u:p"], "--auth-credentials", "mode 0600 (secret_file)"),
        (["--dcos-auth-credentials", "{}"], "--dcos-auth-credentials", ACCOUNT),
        (["--ssl-certs", "/a/a.pem,/b/b.pem"], "--ssl-certs", "several folders"),
        (["HAPROXY_SSL_CERT=PEM", "HAPROXY_SSL_CERT0=PEM"], "HAPROXY_SSL_CERT0", CERT_DIR),
        (["HAPROXY_HEAD=global"], "HAPROXY_HEAD", "HAProxy's configuration"),
        (["HAPROXY_SYSCTL_PARAMS=x"], "HAPROXY_SYSCTL_PARAMS", "kernel's switches"),
        (["VAULT_TOKEN=geheim"], "VAULT_TOKEN", "not carried over"),
    ],
)
def test_a_warning(words: list[str], key: str, text: str) -> None:
    _, warnings, toml = imported(*words)
    assert text in warnings[key]
    assert f"# {key}: " in toml
    assert "geheim" not in toml


def test_flags_that_ask_for_nothing_else() -> None:
    words = ["--syslog-socket", "/dev/null", "--sse", "--ssl-certs", "/c/a.pem", "--skip-validation"]
    _, warnings, _ = imported("PORTS=9090", *words)
    assert sorted(warnings) == ["--skip-validation", "port 9090"]
    assert "[marathon] resync" in imported("POLL_INTERVAL=5", "poll")[2]


def test_a_credential_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("user:password\nmore\n")
    config, warnings, _ = imported("--marathon-auth-credential-file", str(path), "--auth-credentials", "a:b")
    assert config.marathon is not None
    assert (config.marathon.principal, config.marathon.secret) == ("user", "password")
    assert "--marathon-auth-credential-file" in warnings


def test_a_folder_of_certificates(tmp_path: Path) -> None:
    assert value("l7.cert_dir", "--ssl-certs", f"{tmp_path}/") == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "m:8080"], "--marathon: expected http(s)://HOST[:PORT]"),
        (["--auth-credentials", "nobody"], "--auth-credentials: expected USER:PASSWORD"),
        (["--marathon-auth-credential-file", "/no/such"], "--marathon-auth-credential-file: can't read '/no/such'"),
        (["--log-level", "LOUD"], "--log-level: expected one of DEBUG"),
        (["--group", "a,b"], "--group: expected the name of one group"),
        (["--ssl-certs", "a.pem"], "--ssl-certs: expected an absolute path"),
        (
            ["--max-serv-port-ip-per-task", "70000"],
            "--min-serv-port-ip-per-task, --max-serv-port-ip-per-task: expected",
        ),
    ],
)
def test_what_can_not_be_used(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert([*words, *GROUP])
    assert str(caught.value).startswith(f"marathon-lb: {expected}")


@pytest.mark.parametrize("dashes", [["--"], []])
def test_the_command_and_its_output(dashes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificates = tmp_path / "certs"
    certificates.mkdir()
    words = ["--ssl-certs", str(certificates), "-m", "http://m:8080", "--health-check", "-c", "x", *GROUP]
    assert cli.main(["import", "marathon-lb", *dashes, *words]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("marathon-lb: warning: --command: ")
    path = tmp_path / "pharos.toml"
    path.write_text(out)
    assert cli.main(["check-config", "-c", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok; on: marathon, l7, api, admin\n"


def test_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "marathon-lb", "--", "-m", "m:8080", *GROUP]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("marathon-lb: --marathon: ")) == ("", True)
