"""marathon-lb-autoscale's command line as Pharos' TOML: `pharos import marathon-lb-autoscale -- FLAGS…`.

    pharos import marathon-lb-autoscale -- --marathon http://m:8080 --haproxy http://lb:9090 --apps web_10000

Its target, its bounds and its patience in going down are carried, its defaults included. What made it late in going up
is not: a comment says how to have that as well. What has no equivalent becomes a comment and a warning.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent.config import ConfigError
from agent.marathon_lb_autoscale_flags import (
    COOLDOWN,
    INTERVAL,
    LEAST,
    PAST_THRESHOLD,
    SAMPLES,
    TARGET,
    WITHOUT_EQUIVALENT,
    Watched,
    parse_flags,
    watched_apps,
)
from agent.toml_lines import Imported, TomlLines, put_login, toml
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.policy import LONGEST_WINDOW
from mesos_dns.config import Duration
from mesos_dns.toml_tables import Problem

NAME = "marathon-lb-autoscale"
MOST = 1000
"""Instances at most where no flag says how many: it has no limit of its own, and a policy needs one."""
_SHORTEST, _LONGEST = 1.0, 300.0
"""Seconds between two decisions, here."""


def convert(words: Sequence[str]) -> Imported:
    """Convert a command line. The result loads with `agent.config.load_text`.

    Raises ConfigError with the flag of what can't be used, and SystemExit (2) as argparse does for what is no flag.
    """
    args = parse_flags(words[1:] if list(words[:1]) == ["--"] else words)
    try:
        apps = watched_apps(args.apps or "")
    except ValueError as error:
        raise ConfigError(NAME, [Problem("--apps", str(error))]) from error
    warnings: list[Problem] = []
    out = TomlLines(warnings)
    out.comment("From marathon-lb-autoscale's command line; the flag it came from stands behind each value.")
    _marathon(out, args)
    _edges(out, args)
    _autoscale(out, args, apps)
    for app in apps:
        _policy(out, args, app)
    return out.imported(NAME)


def _marathon(out: TomlLines, args: argparse.Namespace) -> None:
    out.section("marathon")
    out.put("urls", [args.marathon.rstrip("/")], "--marathon")
    if args.marathonCredentials:
        put_login(out, NAME, "--marathonCredentials", args.marathonCredentials)


def _edges(out: TomlLines, args: argparse.Namespace) -> None:
    """Who counts, and where people ask."""
    out.blank()
    out.comment("Edges count requests: `pharos import marathon-lb` makes one of marathon-lb's flags ([l7]).")
    out.comment("With [zookeeper] here and there they are found, and another process decides when this one is gone.")
    for flag, text in WITHOUT_EQUIVALENT.items():
        if getattr(args, flag.removeprefix("--").replace("-", "_")) is not None:
            out.warn(flag, text)
    out.blank()
    out.comment("What marathon-lb-autoscale has nothing like: metrics, and `pharos scale`, on loopback.")
    out.section("api")
    out.section("admin")


def _autoscale(out: TomlLines, args: argparse.Namespace, apps: Sequence[Watched]) -> None:
    """What holds for all apps; warnings that would be the same for each of them."""
    out.section("autoscale")
    if args.interval is None:
        out.comment(f"Decided every {AutoscaleConfig().interval} (interval), not every {Duration(INTERVAL)}.")
    else:
        interval = min(max(args.interval, _SHORTEST), _LONGEST)
        if interval != args.interval:
            out.warn("--interval", f"expected {Duration(_SHORTEST)} to {Duration(_LONGEST)}: {interval:g} s is taken")
        out.put("interval", str(Duration(interval)), "--interval")
    out.put("labels", False, "", "only the apps below; true: also those with labels PHAROS_SCALE_…")
    window, cooldown = _times(args, PAST_THRESHOLD), _times(args, _cooldown(args))
    late = f'up = {{ window = "{window}", rates = [], cooldown = "{cooldown}" }}'
    out.comment(f"An app goes up as soon as that is right. As late as it was: {late} in its table.")
    if not apps:
        out.warn("--apps", "names no app: nothing is scaled")
    if args.max_instances is None and apps:
        out.warn("--max-instances", f"was not given, and one is needed: {MOST} is too many for most apps")
    if args.min_instances == 0:
        out.warn("--min-instances", "at 0 an app sleeps when nobody asks for it, and the next request wakes it")
    if args.threshold_percent is not None:
        text = "holds for scaling down alone: with it an app that needs more would not get them (up.tolerance)"
        never = "expected less than 1: with it an app would never become smaller"
        out.warn("--threshold-percent", text if args.threshold_percent < 1 else never)
    for flag, intervals in (("--samples", _samples(args)), ("--cooldown", _cooldown(args))):
        if intervals * _interval(args) > LONGEST_WINDOW:
            out.warn(flag, f"expected at most {Duration(LONGEST_WINDOW)} in all, which is taken")


def _policy(out: TomlLines, args: argparse.Namespace, watched: Watched) -> None:
    out.section(f"autoscale.apps.{toml(watched.app)}")
    ports = ", ".join(map(str, watched.ports))
    out.comment(f"--apps: {ports}; here all ports of the app count, and traffic by host name as well")
    if watched.unsure:
        other = "/" + watched.app.strip("/").replace("/", "_")
        text = f"{watched.app} is what it scales, whatever the app is called: write {other}, or what the id is"
        out.warn("--apps", text)
    out.put("max", MOST if args.max_instances is None else args.max_instances, "--max-instances")
    out.put("min", LEAST if args.min_instances is None else args.min_instances, "--min-instances")
    target = TARGET if args.target_rps is None else args.target_rps
    out.put("metrics", [{"kind": "rps", "target": target}], "--target-rps")
    for key, intervals, origin in (
        ("down.window", _samples(args), "--samples"),
        ("down.cooldown", _cooldown(args), "--cooldown"),
    ):
        out.put(key, _times(args, intervals), origin, f"{intervals} intervals of {_interval(args):g} s")
    # Scaling up keeps to 10 %: what an app lacked within the threshold it never got.
    if args.threshold_percent is not None and args.threshold_percent < 1:
        out.put("down.tolerance", args.threshold_percent, "--threshold-percent")


def _interval(args: argparse.Namespace) -> float:
    seconds: float = INTERVAL if args.interval is None else args.interval
    return seconds


def _samples(args: argparse.Namespace) -> int:
    intervals: int = SAMPLES if args.samples is None else args.samples
    return intervals


def _cooldown(args: argparse.Namespace) -> int:
    intervals: int = COOLDOWN if args.cooldown is None else args.cooldown
    return intervals


def _times(args: argparse.Namespace, intervals: int) -> str:
    """So many intervals as a duration."""
    return str(Duration(min(intervals * _interval(args), LONGEST_WINDOW)))
