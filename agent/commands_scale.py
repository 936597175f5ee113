"""`pharos scale [APP [N|pause|resume|explain]]`: what is scaled and why, and changing it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from typing import Any
from urllib.parse import urlencode

from agent.client import BadAnswer, BadOption, Client, ClientError, Unreachable
from agent.commands_ask import access
from agent.scale_page import is_scaled, listed, page
from agent.table import safe

POLL_SECONDS = 1.0
"""Between two looks at a deployment."""
SAY_SECONDS = 10.0
"""Between two lines about one that does not change."""
_LONGEST = 310.0
"""Seconds that a change may take to answer: instances are drained before they are killed. [admin] itself gives 300."""
_PATH = "/v1/autoscale"
_PASSING = (502, 503, 504)
"""Statuses that are no word about a deployment: somebody can't be reached now, or another process decides next."""


def scale(args: argparse.Namespace) -> int:
    """0; 1 when there is no such app, it can't be changed now, or its deployment fails. Raises ClientError."""
    resized = {key: value for key, value in (("cpus", args.cpus), ("mem", args.mem)) if value is not None}
    instances = _checked(args, resized)
    client = Client(args.admin, access(args), timeout=_LONGEST)
    app = _id(args.app or "")
    try:
        if resized:
            return _changed(args, client, app, "resize", {"app": app, **resized})
        if instances is not None:
            return _changed(args, client, app, "scale", {"app": app, "instances": instances})
        if args.what in ("pause", "resume"):
            return _paused(args, client, app)
        return _shown(args, client, app)
    except BadAnswer as error:
        if error.status == 400:
            raise BadOption(safe(error.said)) from error
        raise ClientError(safe(error.said) or str(error)) from error


def _checked(args: argparse.Namespace, resized: dict[str, float]) -> int | None:
    """The N of the command line, None where there is another word or none. Raises BadOption for what makes no sense."""
    what: str | None = args.what
    number = int(what) if what and what.isascii() and what.isdecimal() and len(what) < 10 else None
    if what is not None and number is None and what not in ("pause", "resume", "explain"):
        raise BadOption(f"expected a number of instances, pause, resume or explain, got {what!r}")
    for key, value in resized.items():
        if not (math.isfinite(value) and value > 0):
            raise BadOption(f"--{key}: expected a number above 0, got {value:g}")
    if resized and (args.app is None or what is not None):
        raise BadOption("--cpus and --mem go with APP alone: pharos scale APP --cpus X --mem Y")
    if args.wait and not (resized or number is not None):
        raise BadOption("--wait goes with a change: N, --cpus, --mem")
    if not args.timeout > 0:
        raise BadOption(f"--timeout: expected seconds, got {args.timeout:g}")
    return number


def _id(app: str) -> str:
    """As Marathon writes it, with its first slash; FRAMEWORK:/ID stays."""
    return app if not app or ":/" in app else f"/{app.lstrip('/')}"


# --- looking --------------------------------------------------------------------------------------


def _shown(args: argparse.Namespace, client: Client, app: str) -> int:
    value = client.get(_PATH + (f"?{urlencode({'app': app})}" if app else "")).value
    apps = value.get("apps") if isinstance(value, dict) else None
    if not isinstance(apps, list) or not all(isinstance(row, dict) and "app" in row for row in apps):
        raise ClientError(f"{args.admin}{_PATH} is no list of apps: is this Pharos?")
    if args.json:
        print(json.dumps(value, indent=2))
    elif not app:
        print("\n".join(listed(value)))
    else:
        now, decider = time.time(), str(value.get("decider") or "")
        print("\n\n".join("\n".join(page(row, now, decider)) for row in apps))
    if app and not apps:
        print(f"{app!r} is not scaled", file=sys.stderr)
        return 1
    return 1 if app and not any(map(is_scaled, apps)) else 0


# --- changing -------------------------------------------------------------------------------------


def _paused(args: argparse.Namespace, client: Client, app: str) -> int:
    value = client.post(f"{_PATH}/{args.what}", {"app": app}).value
    if args.json:
        print(json.dumps(value, indent=2))
    else:
        print(f"{app}: paused, until `pharos scale {app} resume`" if args.what == "pause" else f"{app}: goes on")
    return 0


def _changed(args: argparse.Namespace, client: Client, app: str, path: str, question: dict[str, Any]) -> int:
    """Ask for a change, and follow it where that is wanted."""
    outcome = client.post(f"{_PATH}/{path}", question).value
    if not isinstance(outcome, dict) or outcome.get("result") != "done":
        raise ClientError(f"{args.admin}{_PATH}/{path} does not say what became of it: is this Pharos?")
    deployment, text = str(outcome.get("deployment") or ""), str(outcome.get("text") or "")
    if not args.json:
        asked = ", ".join(f"{key} {value:g}" for key, value in question.items() if key != "app")
        print(safe("; ".join(filter(None, (f"{app}: {asked}", deployment and f"deployment {deployment}", text)))))
        sys.stdout.flush()
    ended = _followed(client, app, deployment, args.timeout) if args.wait and deployment else ""
    if args.json:
        print(json.dumps({"app": app, **outcome, **({"state": ended} if ended else {})}, indent=2))
    return 0 if ended in ("", "finished") else 1


def _followed(client: Client, app: str, deployment: str, timeout: float) -> str:
    """The state in which a deployment ended, "running" where it did not in time; progress goes to standard error."""
    began, said, when = time.monotonic(), "", 0.0
    while True:
        state, text = _looked(client, app, deployment)
        seconds = time.monotonic() - began
        if state in ("finished", "failed"):
            _say(f"deployment {deployment} {state} after {seconds:.0f} s")
            return state
        if text != said or seconds - when >= SAY_SECONDS:
            _say(text if text != said else f"{text} after {seconds:.0f} s")
            said, when = text, seconds
        if seconds >= timeout:
            _say(f"deployment {deployment} has not ended after {seconds:.0f} s; it goes on")
            return "running"
        time.sleep(min(POLL_SECONDS, timeout - seconds))


def _looked(client: Client, app: str, deployment: str) -> tuple[str, str]:
    """A deployment's state and what to say of it; who can't tell it now may do so later."""
    try:
        query = urlencode({"app": app, "id": deployment})
        value = client.get(f"{_PATH}/deployment?{query}").value
    except Unreachable as error:
        return "", f"{error}; asking again"
    except BadAnswer as error:
        if error.status not in _PASSING:
            raise
        return "", f"{error.said}; asking again"
    state = str(value.get("state")) if isinstance(value, dict) else "unknown"
    text = "Marathon does not say how it is; asking again" if state == "unknown" else state
    return state, f"deployment {deployment} of {app}: {text}"


def _say(text: str) -> None:
    print(safe(text), file=sys.stderr, flush=True)
