"""`pharos routes [HOST [PATH]]`: the routes of a running edge, and which one a request meets and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from agent.client import BadOption, Client, ClientError
from agent.commands_ask import access
from agent.table import safe, table

_HEAD = ("HOST", "PATH", "TABLE", "KIND", "APP", "PORT", "SERVERS", "NOTE")
_SERVER = ("address", "weight", "state", "active", "failures", "task")


def routes(args: argparse.Namespace) -> int:
    """0; 1 when there is no rule for that host, or nobody to send the request to. Raises ClientError."""
    host, path = _asked(args.host, args.path)
    if path is not None:
        return _explain(args, host, path)
    rows = _get(args, "/v1/routes" + (f"?{urlencode({'host': host})}" if host else ""), "table")
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(_listed(rows)))
    if host and not rows:
        print(f"no rule for {host!r}", file=sys.stderr)
        return 1
    return 0


def _asked(host: str | None, path: str | None) -> tuple[str, str | None]:
    """Host and path of a name, a name and a path, or a URL. Raises BadOption."""
    text = host or ""
    if "://" in text:
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise BadOption(f"expected a host or a URL, got {text!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.netloc or path is not None:
            raise BadOption(f"expected HOST, HOST PATH or http(s)://HOST/PATH alone, got {text!r}")
        return parts.netloc.rpartition("@")[2], parts.path or "/"
    if path is not None and not path.startswith("/"):
        raise BadOption(f"expected a path that begins with '/', got {path!r}")
    return text, None if path is None else path.partition("?")[0]


def _get(args: argparse.Namespace, path: str, key: str) -> list[dict[str, Any]]:
    rows = Client(args.api, access(args)).get(path).value
    if not isinstance(rows, list) or not all(isinstance(row, dict) and key in row for row in rows):
        raise ClientError(f"{args.api}{path.partition('?')[0]} is no list of routes: is this Pharos?")
    return rows


# --- all, or those of a host ----------------------------------------------------------------------


def _listed(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A table, by hosts, and below it what is not carried out, by app. A host's rules stay in their order."""
    rows = sorted(rows, key=_order)
    lines = table(_HEAD, map(_line, rows))
    problems = {str(row.get("app")): row["problems"] for row in rows if row.get("problems")}
    for app, texts in problems.items():
        lines += ["", f"{safe(app)}: not carried out", *(f"  {safe(str(text))}" for text in texts)]
    return lines


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, str, str]:
    """Hosts by name, then what goes by none, then apps without a route."""
    host, of = str(row.get("host") or ""), str(row.get("table") or "")
    return (not of, not host, host, of)


def _line(row: Mapping[str, Any]) -> list[Any]:
    servers = _dicts(row.get("servers"))
    up = sum(1 for server in servers if server.get("state") in ("up", "slow-start") and server.get("weight"))
    serving = f"{up}/{len(servers)}" if row.get("kind") in ("route", "tcp") else ""
    paths = [_path(path) for path in _dicts(row.get("paths"))] or (["/"] if row.get("host") or serving else [])
    return [
        _host(row),
        paths,
        row.get("table"),
        row.get("kind"),
        row.get("app"),
        row.get("port") or "",
        serving,
        _note(row),
    ]


def _host(row: Mapping[str, Any]) -> str:
    return str(row.get("host") or ("*" if row.get("table") else ""))


def _path(path: Mapping[str, Any]) -> str:
    text = str(path.get("prefix", ""))
    return text + ("" if path.get("whole", True) else "…") + (" (any case)" if path.get("ignore_case") else "")


def _note(row: Mapping[str, Any]) -> str:
    kind = row.get("kind")
    if kind == "auth":
        return f"password of {', '.join(map(str, row.get('users') or ()))}" if row.get("users") else "everybody"
    if kind == "redirect":
        return f"to {row['to']}" if row.get("to") else "serve it"
    count = len(row.get("problems") or ())
    return f"{count} not carried out" if count else ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


# --- one request ----------------------------------------------------------------------------------


def _explain(args: argparse.Namespace, host: str, path: str) -> int:
    rows = _get(args, f"/v1/routes/explain?{urlencode({'host': host, 'path': path})}", "listener")
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(line for row in rows for line in _explained(row)) or "no listener goes by hosts")
    served = any(row.get("action") not in ("unavailable", "ambiguous") for row in rows)
    if not served:
        print(f"nobody serves {host}{path}", file=sys.stderr)
    return 0 if served else 1


def _explained(row: Mapping[str, Any]) -> list[str]:
    """One listener: what it does, why, who serves, and who would like to."""
    lines = [f"{safe(str(row['listener']))}: {_action(row)}"]
    lines += [f"  {number}. {safe(str(step))}" for number, step in enumerate(row.get("steps") or (), 1)]
    servers = _dicts(row.get("servers"))
    if servers:
        head = [name.upper() for name in _SERVER]
        lines += table(head, ([server.get(name) for name in _SERVER] for server in servers), "  ")
    lost = _dicts(row.get("lost"))
    if lost:
        lines.append("  not chosen:")
        lines += table(("APP", "PATH", "WHY"), map(_lost, lost), "    ")
    return lines


def _action(row: Mapping[str, Any]) -> str:
    app = safe(f"{row.get('app') or ''}:{row.get('port') or ''}")
    texts = {
        "proxy": f"to {app}",
        "redirect": f"301 to {safe(str(row.get('location')))}",
        "auth": f"401, a password for {safe(str(row.get('realm')))!r}",
        "ambiguous": "400, the path has several meanings",
        "unavailable": f"503, {app} has no server" if row.get("app") else "503, no route",
    }
    said = texts.get(str(row.get("action")), safe(str(row.get("action"))))
    then = row.get("then")
    return f"{said}; with it {texts.get(str(then), safe(str(then)))}" if then else said


def _lost(row: Mapping[str, Any]) -> list[Any]:
    return [row.get("app"), [_path(path) for path in _dicts(row.get("paths"))] or "/", row.get("reason")]
