"""The flags of marathon-lb-autoscale, as its own command line reads them."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

INTERVAL, SAMPLES, COOLDOWN, TARGET, LEAST = 60.0, 10, 5, 1000, 1
PAST_THRESHOLD = 3
"""Intervals in a row in which it must be wrong before it acts; no flag."""

WITHOUT_EQUIVALENT = {
    "--haproxy": "has no equivalent: edges count; they are found through [zookeeper], or named in [autoscale] edges",
    "--haproxyCredentials": "has no equivalent: there is no HAProxy to ask; edges have [autoscale] token_file",
    "--haproxy_frontend_or_backend": "has no equivalent: what any listener of an app takes counts, once",
    "--threshold-instances": "has no equivalent: where one instance more is needed there will be one",
}
"""Flags that are not carried over when they are given, and why."""

_PAIR = re.compile(r"(.+)_(\d+)", re.DOTALL)


class Watched(NamedTuple):
    """An app that it scales, and the service ports that it looks at. `unsure`: its id may be another one."""

    app: str
    ports: tuple[int, ...]
    unsure: bool


def flags_parser() -> argparse.ArgumentParser:
    """Reads the flags; one that was not given is None."""
    parser = argparse.ArgumentParser(
        prog="pharos import marathon-lb-autoscale --",
        usage="%(prog)s FLAGS…",
        description="The flags of marathon-lb-autoscale.",
    )
    add = parser.add_argument
    add("--marathon", metavar="URL", help="required")
    add("--haproxy", nargs="?", const="", metavar="URL,…")
    add("--apps", nargs="?", const="", default="", metavar="APP_PORT,…")
    for flag in ("--interval", "--threshold-percent"):
        add(flag, type=float, metavar="NUMBER")
    for flag in ("--samples", "--cooldown", "--target-rps", "--threshold-instances", "--min-instances"):
        add(flag, type=int, metavar="N")
    add("--max-instances", type=int, metavar="N")
    for flag in ("--marathonCredentials", "--haproxyCredentials"):
        add(flag, nargs="?", metavar="USER:PASSWORD")
    add("--haproxy_frontend_or_backend", metavar="WORD")
    return parser


def parse_flags(words: Sequence[str]) -> argparse.Namespace:
    """The flags. Raises SystemExit (2) after saying why: also for numbers that it would fall over."""
    parser = flags_parser()
    args = parser.parse_args(words)
    if not args.marathon:
        parser.error("--marathon is required")
    if args.interval is not None and not 0 < args.interval < math.inf:
        parser.error("--interval: expected seconds, more than 0")
    if args.threshold_percent is not None and not 0 <= args.threshold_percent < math.inf:
        parser.error("--threshold-percent: expected a ratio from 0")
    for flag, least in (("--samples", 1), ("--cooldown", 0), ("--target-rps", 1), ("--threshold-instances", 0)):
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value is not None and not least <= value <= 1_000_000_000:
            parser.error(f"{flag}: expected a number from {least}")
    return args


def watched_apps(text: str) -> list[Watched]:
    """What `--apps` names, in its order. Raises ValueError for what is no APP_PORT.

    It writes ids as marathon-lb's statistics do, with "_" for each "/", and scales the app that has a "/" for each "_".
    """
    found: dict[str, list[int]] = {}
    unsure: set[str] = set()
    for pair in filter(None, text.split(",")):
        match = _PAIR.fullmatch(pair)
        if match is None or not match[1].strip("_") or len(match[2]) > 5 or int(match[2]) > 65535:
            raise ValueError(f"expected APP_PORT, as in web_10000, got {pair[:100]!r}")
        app = "/" + match[1].strip("_").replace("_", "/")
        ports = found.setdefault(app, [])
        ports += [] if int(match[2]) in ports else [int(match[2])]
        if "_" in match[1]:
            unsure.add(app)
    return [Watched(app, tuple(ports), app in unsure) for app, ports in found.items()]
