"""marathon-lb's flags are read as it reads them."""

from __future__ import annotations

import pytest

from agent.marathon_lb_flags import WITHOUT_EQUIVALENT, flags_parser, parse_flags

ALL = (
    *("--longhelp", "--marathon", "-m", "--haproxy-config", "--group", "--command", "-c", "--max-reload-retries"),
    *("--reload-interval", "--strict-mode", "--sse", "-s", "--archive-versions", "--health-check", "-H"),
    *("--lru-cache-capacity", "--haproxy-map", "--dont-bind-http-https", "--group-https-by-vhost", "--ssl-certs"),
    *("--skip-validation", "--skip-config-cleanup", "--dry", "-d", "--min-serv-port-ip-per-task"),
    *("--max-serv-port-ip-per-task", "--max-backoff", "--syslog-socket", "--log-format", "--log-level"),
    *("--marathon-auth-credential-file", "--auth-credentials", "--dcos-auth-credentials", "--marathon-ca-cert"),
)


def test_every_flag_is_known() -> None:
    known = {option for action in flags_parser()._actions for option in action.option_strings}
    assert known == {*ALL, "-h", "--help"}
    assert set(ALL) >= set(WITHOUT_EQUIVALENT)


def test_defaults_and_values() -> None:
    args = parse_flags(["--group", "a", "--group", "*"])
    assert (args.marathon, args.group) == (["http://master.mesos:8080"], ["a", "*"])
    assert (args.min_serv_port_ip_per_task, args.max_serv_port_ip_per_task) == (10050, 10100)
    assert (args.ssl_certs, args.haproxy_config, args.dry, args.health_check) == (None, None, False, False)
    args = parse_flags(["-sHd", "-m", "http://a", "http://b", "--group=x", "-c", "sv reload", "--max-backoff", "5"])
    assert (args.sse, args.health_check, args.dry, args.command, args.max_backoff) == (True, True, True, "sv reload", 5)
    assert args.marathon == ["http://a", "http://b"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--group is required"),
        (["--group", "a", "--what"], "unrecognized arguments: --what"),
        (["--group", "a", "--max-backoff", "x"], "invalid int value: 'x'"),
        (["--group", "a", "--min-serv-port-ip-per-task", "0"], "expected both, or both 0 for none"),
        (["--group", "a", "--min-serv-port-ip-per-task", "10101"], "is higher than"),
    ],
)
def test_what_marathon_lb_refuses(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(flags)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_longhelp(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(["--longhelp"])
    assert caught.value.code == 0
    assert "--group-https-by-vhost" in capsys.readouterr().out
