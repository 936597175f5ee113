"""What a simulated Marathon can be told to do wrong, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

UNREADABLE = b'{"apps":[{"id":"/half'
WRONG = b'{"apps":{"id":7}}'
EMPTY = b'{"apps":[]}'
UNCHECKED = {
    "alive": False,
    "consecutiveFailures": 0,
    "firstSuccess": None,
    "lastFailure": None,
    "lastSuccess": None,
    "lastFailureCause": None,
}
"""What Marathon tells of a check without a result."""


@dataclass(slots=True)
class MarathonFaults:
    """Switches for tests; each applies from the next request, event or keep-alive on.

    unavailable   503, as while there is no leader
    status        this status for everything under /v2 (0: off), without a body that Marathon would write
    stall         requests are accepted and never answered
    slow          seconds before each answer
    truncate      bodies of documents lose their second half, then the connection ends
    garble        bodies of documents are whole, but no JSON
    wrong         bodies of documents are valid JSON of wrong shapes
    empty         /v2/apps knows no apps, as a leader that has not read its store might say
    no_tasks      /v2/apps leaves out the tasks
    no_health     /v2/apps has no results of health checks, as a leader that has only begun to check: "null" and
                  "unchecked" have one for each check nevertheless, "none" has an empty list, "missing" none at all
    forbidden     this path answers 403, as to a login that may not see an app
    silent        open streams get neither events nor keep-alives any more (the events are lost)
    mute          open streams get keep-alives only (the events are lost)
    unanswered    changes are carried out, and their connections end without an answer
    mumbled       changes are carried out, and answered with a page that is no JSON
    write_status  this status for every change, none of which is carried out (0: off)
    """

    unavailable: bool = False
    status: int = 0
    stall: bool = False
    slow: float = 0.0
    truncate: bool = False
    garble: bool = False
    wrong: bool = False
    empty: bool = False
    no_tasks: bool = False
    no_health: str = ""
    forbidden: str = ""
    silent: bool = False
    mute: bool = False
    unanswered: bool = False
    mumbled: bool = False
    write_status: int = 0

    def clear(self) -> None:
        """All faults off."""
        for field in fields(self):
            setattr(self, field.name, field.default)

    def body(self, data: bytes) -> bytes:
        """What goes out instead of a whole document."""
        for fault, body in ((self.garble, UNREADABLE), (self.wrong, WRONG), (self.empty, EMPTY)):
            if fault:
                return body
        return data

    def unchecked(self, task: dict[str, Any]) -> dict[str, Any]:
        """A task's JSON, without what checks found where that is lost."""
        if not self.no_health or "healthCheckResults" not in task:
            return task
        left = {name: value for name, value in task.items() if name != "healthCheckResults"}
        results = {"null": [None], "unchecked": [UNCHECKED], "none": []}.get(self.no_health)
        return left if results is None else {**left, "healthCheckResults": results}
