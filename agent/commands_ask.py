"""Commands that ask a running Pharos over HTTP: status and tasks.

Each takes the parsed arguments and returns the exit code: 0 ok, 1 failed. ClientError is the caller's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from agent.client import Access, Client, ClientError, Unreachable
from agent.table import facts, table

_COLUMNS = ("name", "id", "framework", "state", "health", "host", "addresses", "ports")


def access(args: argparse.Namespace) -> Access:
    """The access options as the client takes them."""
    return Access(args.token_file, args.ca_file, args.cert_file, args.key_file)


def status(args: argparse.Namespace) -> int:
    """`pharos status`: 0 when ready. Where [admin] does not answer, what the lookup API knows is shown."""
    try:
        value = Client(args.admin, access(args)).get("/status").value
    except Unreachable as error:
        value = _lookup_status(args, error)
    if not isinstance(value, dict):
        raise ClientError(f"{args.admin}/status is no JSON object: is this Pharos?")
    print(json.dumps(value, indent=2) if args.json else "\n".join(facts(value)))
    return 0 if value.get("ready", True) else 1


def _lookup_status(args: argparse.Namespace, admin_error: Unreachable) -> dict[str, Any]:
    """Version and readiness from the lookup API."""
    client = Client(args.api, access(args))
    try:
        ready = client.get("/readyz", good=(200, 503))
        version = client.get("/v1/version").value
    except Unreachable as error:
        raise Unreachable(f"{admin_error}\n{error}") from error
    if not args.json:
        print(f"{args.admin} ([admin]) does not answer; this is what {args.api} ([api]) knows", file=sys.stderr)
    body = ready.value if isinstance(ready.value, dict) else {"readyz": ready.value}
    return {"ready": ready.status == 200, "version": version, **{k: v for k, v in body.items() if k != "ready"}}


def tasks(args: argparse.Namespace) -> int:
    """`pharos tasks [APP]`: the tasks known, or those of one app; 1 when the app has none."""
    value = Client(args.api, access(args)).get("/v1/tasks").value
    rows = value.get("tasks") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ClientError(f"{args.api}/v1/tasks is no list of tasks: is this Pharos?")
    if args.app:
        rows = [row for row in rows if is_of(args.app, row)]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_tasks(rows)
    if args.app and not rows:
        print(f"no task of {args.app!r}", file=sys.stderr)
        return 1
    return 0


def is_of(app: str, task: Mapping[str, Any]) -> bool:
    """Whether a task belongs to an app: by task name, discovery name, or Marathon's app id.

    Marathon names the tasks of /prod/db "db.prod".
    """
    marathon = ".".join(reversed(app.strip("/").split("/")))
    return any(task.get(key) in (app, marathon) for key in ("name", "discovery_name", "id"))


def _print_tasks(rows: Iterable[Mapping[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: tuple(str(row.get(key, "")) for key in ("name", "framework", "id")))
    print("\n".join(table([c.upper() for c in _COLUMNS], ([row.get(c) for c in _COLUMNS] for row in ordered))))
