"""The part of `/status` about the edge: its workers and listeners, its routes, and what of apps is not carried out."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from lb7.api_rows import texts_by_app
from lb7.metrics import L7Parts

APPS = 100
"""Apps of which problems are told one by one, at most; all are counted."""
EACH = 10
"""Problems of one app that are told."""


def status(parts: L7Parts) -> dict[str, Any]:
    """For people; no secrets. Problems are counted by reason, and told for a bounded number of apps; all of them are in
    /v1/routes."""
    view, workers, checks = parts.view, parts.workers, parts.checks
    table = view.table
    by_app = texts_by_app(view.problems)
    totals = workers.totals() if workers is not None else None
    told: dict[str, Any] = dict(workers.status()) if workers is not None else {"ready": False, "workers": []}
    told["certificates"] = {name: _certificate(value) for name, value in told.get("certificates", {}).items()}
    return {
        **told,
        "routes": {
            "hosts": len(table.hosts),
            "rules": sum(len(rules.routes) for rules in table.hosts.values()),
            "clusters": len(table.clusters),
            "pending": view.pending,
            "faults": view.faults,
        },
        "connections": totals.now.get("connections", 0) if totals is not None else 0,
        "requests": totals.number("requests") if totals is not None else 0,
        "checks": {"checked": checks.checked, "failing": checks.down} if checks is not None else None,
        "unsupported": {"apps": len(by_app), **dict(sorted(view.problem_counts.items()))},
        "apps": {app: texts[:EACH] for app, texts in islice(by_app.items(), APPS)},
    }


def _certificate(value: dict[str, Any]) -> dict[str, Any]:
    expires = value.get("expires")
    text = datetime.fromtimestamp(expires, UTC).isoformat() if expires is not None else None
    return {"names": list(value.get("names", ())), "expires": text}
