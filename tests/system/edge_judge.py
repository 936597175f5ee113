"""Whether what clients of an edge noted in its soak may be so, seen beside what was done meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.system.edge_changes import Window
from tests.system.edge_clients import AT_MOST_ONCE, Note

BEFORE, AFTER = 2.0, 1.0
"""Seconds around a request in which its server's death may be why it failed: a worker may learn of that late."""
AROUND, NEAR = 3.0, 0.3
"""Seconds of what was done that are told with a failure: of its app and of all, and of other apps."""


class Judge:
    """`events` and `kills` as of `Stage`; `windows`: when a host went from one app to another."""

    def __init__(
        self,
        events: Sequence[tuple[float, str]],
        kills: Sequence[tuple[float, str]],
        windows: Sequence[Window],
        first_owner: str,
    ) -> None:
        self.events, self.kills, self.windows, self.first_owner = events, kills, windows, first_owner
        self.excused: list[Note] = []

    def faults(self, notes: Iterable[Note]) -> list[str]:
        """What may not be, each with what was done at the time. What a death excuses is in `excused`."""
        found = []
        for note in notes:
            if note.what == "answered":
                if note.app not in (owners := self.owners(note.began, note.ended)):
                    found.append(self.told(note, f"answered by {note.app}, not by {' or '.join(sorted(owners))}"))
            elif self.is_excused(note):
                self.excused.append(note)
            else:
                found.append(self.told(note, note.why))
        return found

    def is_excused(self, note: Note) -> bool:
        """Whether what can't be begun anew failed because its server died."""
        if note.kind not in AT_MOST_ONCE or note.why.startswith("not connected"):
            return False
        return any(app == note.app and note.began - BEFORE <= when <= note.ended + AFTER for when, app in self.kills)

    def owners(self, began: float, ended: float) -> set[str]:
        """Who may have answered a request for the host that is handed over."""
        found = {self.first_owner}
        for window in self.windows:
            if window.ended <= began:
                found = {window.after}
            elif window.began <= ended:
                found.add(window.after)
        return found

    def told(self, note: Note, why: str) -> str:
        """For people: seconds are those before (-) and after the request began."""
        lines = [
            f"{note.kind}: {note.asked}: {why}\n"
            f"    it took {note.ended - note.began:.3f} s, on a connection {note.began - note.opened:.3f} s old; "
            f"last served by {note.task or 'nobody'}"
        ]
        for when, text in self.events:
            around = NEAR if text.startswith("/") and not text.startswith(f"{note.app}:") else AROUND
            if note.began - around <= when <= note.ended + around / 3:
                lines.append(f"    {when - note.began:+8.3f}  {text}")
        return "\n".join(lines)
