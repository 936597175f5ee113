"""The flags of marathon-lb 1.15, as its own command line reads them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

DEFAULT_MARATHON = "http://master.mesos:8080"
FIRST_PORT, LAST_PORT = 10050, 10100

_NO_HAPROXY = "has no equivalent: there is no HAProxy whose configuration is written and reloaded"
WITHOUT_EQUIVALENT = {
    "--haproxy-config": _NO_HAPROXY,
    "--command": _NO_HAPROXY,
    "--max-reload-retries": _NO_HAPROXY,
    "--reload-interval": _NO_HAPROXY,
    "--archive-versions": _NO_HAPROXY,
    "--skip-validation": _NO_HAPROXY,
    "--skip-config-cleanup": "has no equivalent: what is wrong with an app keeps no other app out",
    "--lru-cache-capacity": "has no equivalent: names of hosts are looked up again as they change",
    "--dry": "has no equivalent: `pharos check-config` and `pharos routes` show what would be done",
    "--max-backoff": "has no equivalent: Marathon is tried again after 3 s at most",
    "--syslog-socket": "has no equivalent: everything goes to standard error",
    "--log-format": "has no equivalent: see [log] format",
}
"""Flags that are not carried over when they are given, and why."""


def flags_parser() -> argparse.ArgumentParser:
    """Reads the flags. A flag of WITHOUT_EQUIVALENT that was not given is None or False."""
    parser = argparse.ArgumentParser(
        prog="pharos import marathon-lb --",
        usage="%(prog)s [NAME=VALUE …] [sse | poll] FLAGS…",
        description="The flags of marathon-lb.",
    )
    add = parser.add_argument
    add("--longhelp", action="store_true", help="is taken for --help")
    add("--marathon", "-m", nargs="+", default=[DEFAULT_MARATHON], metavar="URL")
    add("--group", action="append", default=[], metavar="NAME", help="required")
    for flag, short in (("--strict-mode", ""), ("--sse", "-s"), ("--health-check", "-H"), ("--haproxy-map", "")):
        add(flag, *filter(None, (short,)), action="store_true")
    for flag in ("--dont-bind-http-https", "--group-https-by-vhost", "--skip-validation", "--skip-config-cleanup"):
        add(flag, action="store_true")
    add("--dry", "-d", action="store_true")
    for flag in ("--max-reload-retries", "--reload-interval", "--archive-versions", "--lru-cache-capacity"):
        add(flag, type=int, metavar="N")
    add("--max-backoff", type=int, metavar="SECONDS")
    add("--min-serv-port-ip-per-task", type=int, default=FIRST_PORT, metavar="PORT")
    add("--max-serv-port-ip-per-task", type=int, default=LAST_PORT, metavar="PORT")
    add("--command", "-c", metavar="COMMAND")
    for flag in ("--haproxy-config", "--marathon-auth-credential-file", "--marathon-ca-cert"):
        add(flag, metavar="FILE")
    add("--ssl-certs", metavar="FILE,…")
    for flag in ("--syslog-socket", "--log-format", "--log-level", "--auth-credentials", "--dcos-auth-credentials"):
        add(flag)
    return parser


def parse_flags(words: Sequence[str]) -> argparse.Namespace:
    """The flags, with what marathon-lb itself refuses beyond them. Raises SystemExit (2) after saying why."""
    parser = flags_parser()
    args = parser.parse_args(words)
    if args.longhelp:
        parser.parse_args(["--help"])
    first, last = args.min_serv_port_ip_per_task, args.max_serv_port_ip_per_task
    if bool(first) != bool(last):
        parser.error("--min-serv-port-ip-per-task and --max-serv-port-ip-per-task: expected both, or both 0 for none")
    if first > last:
        parser.error("--min-serv-port-ip-per-task is higher than --max-serv-port-ip-per-task")
    if not args.group:
        parser.error("--group is required: the name of at least one group")
    return args
