"""What of an app is not carried out: a stable word for each kind, kept up as it changes, and logged once.

A problem belongs to whoever found it (an app, a host of a table, a service port) and goes when that finds it no more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable

from lb7.autoscale.labels import REASONS as OF_SCALING
from lb7.table import Problem

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Problems remembered as logged, at most; those beyond are only counted."""

MOST_OF_APP = 50
"""Problems of one app that are kept of each of its finders, and that are logged."""

REASONS: dict[str, str] = {
    "address": "a task without an address or without the port",
    "app-conflict": "another app has the same id in X-Marathon-App-Id",
    "auth": "HAPROXY_n_AUTH can't be read or enforced: the port is not routed at all",
    "auth-bypass": "compat: the password is asked for on HTTP and HTTPS only",
    "auto-port": "no service port, and none is left to give",
    "balance": "an algorithm that is not known here: the default is used",
    "bind": "an address that can't be listened on",
    "bind-options": "options of HAProxy's `bind` that have no meaning here",
    "boolean": "neither true nor false: taken as false",
    "certificate": "a certificate's name that can't be one: the port is not listened on",
    "deployment": "labels of a deployment that can't be read, or a group that is not the app's to be in",
    "limit": "more than is looked at: a label too long, a list or an app with too many",
    "mode": "a mode that is none, or that a virtual host can't have",
    "network": "an allowed network that is none: left out, and others stay shut out",
    "number": "not a number, or one out of range",
    "path": "a path that can't be matched",
    "path-without-vhost": "paths belong to virtual hosts, and there is none",
    "port-conflict": "the service port is another's",
    "port-index": "a label of a port that the app does not have",
    "redirect": "a redirect that can't be made",
    "route-conflict": "another app has the host and path",
    "template": "HAProxy's own configuration language, of which this can't be carried over",
    "text": "a value that can't stand in a header",
    "unknown-label": "no label of this name is known",
    "vhost": "not a host's name",
    "weight": "an order of rules, which has no meaning here: the longest path wins",
    "wildcard": "compat: a name with `*` is no wildcard, so it matches nothing",
    **OF_SCALING,
}
"""Every word, and what it means."""


def at_most(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The first of each app, and how many more there are of it."""
    found: list[Problem] = []
    seen: Counter[str] = Counter()
    for problem in problems:
        seen[problem.app] += 1
        if seen[problem.app] <= MOST_OF_APP:
            found.append(problem)
    for app, count in seen.items():
        if count > MOST_OF_APP:
            found.append(Problem(app, "limit", f"and {count - MOST_OF_APP} more"))
    return tuple(found)


class ProblemBook:
    """See the module. `counts`: how many there are of each word now; `logged`: how many ever were logged."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.logged = 0
        self._held: dict[Hashable, tuple[Problem, ...]] = {}
        self._logged: set[Problem] = set()
        self._logged_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.counts.total()

    def set(self, owner: Hashable, problems: Iterable[Problem]) -> None:
        """These are all that `owner` finds now."""
        new = at_most(dict.fromkeys(problems))
        old = self._held.get(owner, ())
        if new == old:
            return
        for problem in old:
            self._count(problem.reason, -1)
        for problem in new:
            self._count(problem.reason, 1)
            self._log(problem)
        if new:
            self._held[owner] = new
        else:
            del self._held[owner]

    def by_app(self) -> dict[str, list[Problem]]:
        """All there are, by app id; each once."""
        found: dict[str, dict[Problem, None]] = {}
        for problems in self._held.values():
            for problem in problems:
                found.setdefault(problem.app, {})[problem] = None
        return {app: sorted(found[app], key=lambda problem: (problem.reason, problem.text)) for app in sorted(found)}

    def _count(self, reason: str, change: int) -> None:
        self.counts[reason] += change
        if not self.counts[reason]:
            del self.counts[reason]

    def _log(self, problem: Problem) -> None:
        if problem in self._logged or len(self._logged) >= REMEMBERED:
            return
        of_app = self._logged_of[problem.app]
        if of_app > MOST_OF_APP:
            return
        self._logged_of[problem.app] += 1
        if of_app == MOST_OF_APP:
            log.warning("no more is logged of what is not carried out app=%r", problem.app[:200])
            return
        self._logged.add(problem)
        self.logged += 1
        log.warning("not carried out reason=%s app=%r text=%s", problem.reason, problem.app[:200], problem.text)
