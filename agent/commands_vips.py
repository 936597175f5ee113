"""`pharos vips [NAME]`: the virtual IPs that a running Pharos knows, and what became of them there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from agent.client import Client, ClientError
from agent.commands_ask import access
from agent.table import table

_HEAD = ("VIP", "PROTOCOL", "ADDRESS", "STATE", "BACKENDS", "REASON")
_BACKEND = ("ip", "port", "weight", "health", "state", "node", "task")


def vips(args: argparse.Namespace) -> int:
    """0; 1 when there is no VIP of that name, or one of those shown has failed. Raises ClientError."""
    path = "/v1/vips" + (f"?{urlencode({'name': args.name})}" if args.name else "")
    rows = Client(args.api, access(args)).get(path).value
    if not isinstance(rows, list) or not all(_is_vip(row) for row in rows):
        raise ClientError(f"{args.api}/v1/vips is no list of virtual IPs: is this Pharos?")
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(_one(rows) if args.name else table(_HEAD, map(_line, rows))))
    if args.name and not rows:
        print(f"no virtual IP of {args.name!r}", file=sys.stderr)
        return 1
    return 1 if any(row.get("state") == "failed" for row in rows) else 0


def _is_vip(row: Any) -> bool:
    return isinstance(row, dict) and "vip" in row and isinstance(row.get("backend"), list)


def _line(row: Mapping[str, Any]) -> list[Any]:
    backends = [each for each in row["backend"] if isinstance(each, dict)]
    good = sum(1 for each in backends if each.get("weight"))
    addresses = [address for address in (row.get("address"), row.get("address6")) if address]
    reason = row.get("reason") or _shared(row)
    return [row["vip"], row.get("protocol"), addresses, row.get("state"), f"{good}/{len(backends)}", reason]


def _shared(row: Mapping[str, Any]) -> str:
    others = row.get("shared")
    return "shares backends with " + ", ".join(map(str, others)) if isinstance(others, list) and others else ""


def _one(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each VIP with its backends, failures and others that share backends."""
    lines: list[str] = []
    for row in rows:
        lines += ["", *table(_HEAD, [_line(row)])]
        backends = [each for each in row["backend"] if isinstance(each, dict)]
        lines += table([name.upper() for name in _BACKEND], ([b.get(n) for n in _BACKEND] for b in backends), "  ")
        failures = [each for each in row.get("failures") or () if isinstance(each, dict)]
        lines += table(["FAILED", "ADDRESS", "ERRNO", "REASON"], map(_failure, failures), "  ") if failures else []
        if row.get("reason") and _shared(row):
            lines.append(f"  {_shared(row)}")
    return lines[1:]


def _failure(row: Mapping[str, Any]) -> list[Any]:
    return [row.get(name) for name in ("operation", "address", "errno", "reason")]
