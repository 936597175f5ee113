"""marathon-lb-autoscale's flags are read as it reads them."""

from __future__ import annotations

import pytest

from agent.marathon_lb_autoscale_flags import WITHOUT_EQUIVALENT, Watched, flags_parser, parse_flags, watched_apps

ALL = (
    *("--marathon", "--haproxy", "--interval", "--samples", "--cooldown", "--target-rps", "--apps"),
    *("--marathonCredentials", "--haproxyCredentials", "--threshold-percent", "--threshold-instances"),
    *("--max-instances", "--min-instances", "--haproxy_frontend_or_backend"),
)
URL = ["--marathon", "http://m:8080"]


def test_every_flag_is_known() -> None:
    known = {option for action in flags_parser()._actions for option in action.option_strings}
    assert known == {*ALL, "-h", "--help"}
    assert set(ALL) >= set(WITHOUT_EQUIVALENT)


def test_values() -> None:
    args = parse_flags(URL)
    assert args.marathon == "http://m:8080"
    assert args.apps == ""
    assert {getattr(args, flag[2:].replace("-", "_")) for flag in set(ALL) - {"--marathon", "--apps"}} == {None}
    args = parse_flags(
        [*URL, "--interval=7.5", "--samples", "3", "--target-rps=50", "--apps=a_1,b_2", "--haproxy", "h"]
    )
    assert (args.interval, args.samples, args.target_rps, args.apps, args.haproxy) == (7.5, 3, 50, "a_1,b_2", "h")
    assert parse_flags([*URL, "--apps", "--haproxy"]).apps == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--marathon is required"),
        ([*URL, "--what"], "unrecognized arguments: --what"),
        ([*URL, "--samples", "x"], "invalid int value: 'x'"),
        ([*URL, "--samples", "0"], "--samples: expected a number from 1"),
        ([*URL, "--target-rps", "0"], "--target-rps: expected a number from 1"),
        ([*URL, "--cooldown", "-1"], "--cooldown: expected a number from 0"),
        ([*URL, "--threshold-instances", "9" * 12], "--threshold-instances: expected a number from 0"),
        ([*URL, "--interval", "0"], "--interval: expected seconds"),
        ([*URL, "--interval", "nan"], "--interval: expected seconds"),
        ([*URL, "--threshold-percent", "-0.5"], "--threshold-percent: expected a ratio"),
    ],
)
def test_what_it_refuses(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(flags)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("web_10000", [Watched("/web", (10000,), unsure=False)]),
        ("web_10000,,web_10001,web_10000", [Watched("/web", (10000, 10001), unsure=False)]),
        ("shop_cart_10000", [Watched("/shop/cart", (10000,), unsure=True)]),
        ("shop/cart_10000", [Watched("/shop/cart", (10000,), unsure=False)]),
        ("a_1,b_2", [Watched("/a", (1,), unsure=False), Watched("/b", (2,), unsure=False)]),
    ],
)
def test_apps(text: str, expected: list[Watched]) -> None:
    assert watched_apps(text) == expected


@pytest.mark.parametrize("text", ["web", "_10000", "web_", "web_x", "web_70000", "web_999999999", "a_1,web"])
def test_apps_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected APP_PORT"):
        watched_apps(text)
