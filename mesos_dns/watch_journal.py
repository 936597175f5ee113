"""The newest changes that followers of /v1/watch are told, as messages: kept for those who come back to go on."""

from __future__ import annotations

from mesos_dns.watch_wire import SLICE_OCTETS

JOURNAL_OCTETS = 16 << 20
JOURNAL_MESSAGES = 100_000
JOINED = 16
"""Places in the journal from which what follows is kept joined: most followers are at the same one."""


class Journal:
    """The newest messages by their numbers, which count from 1; bounded in octets and in number."""

    def __init__(self, octets: int = JOURNAL_OCTETS, messages: int = JOURNAL_MESSAGES) -> None:
        self.head = 0
        self.octets = 0
        self._first = 1
        self._kept: dict[int, bytes] = {}
        self._joined: dict[int, tuple[bytes, int]] = {}
        self._most_octets = octets
        self._most_messages = messages

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, message: bytes) -> None:
        """Number `head` + 1 is this message; old ones make room."""
        self.head += 1
        self._kept[self.head] = message
        self.octets += len(message)
        self._joined.clear()
        while self._kept and (self.octets > self._most_octets or len(self._kept) > self._most_messages):
            self.octets -= len(self._kept.pop(self._first))
            self._first += 1

    def get(self, number: int) -> bytes | None:
        """A message, or None when it is not (any more) here."""
        return self._kept.get(number)

    def behind(self, number: int) -> tuple[bytes, int] | None:
        """The messages behind a number, one a line, as many as go into one frame, and the last one's number.

        None when they are not (any more) here. What is larger than a frame goes alone.
        """
        if (found := self._joined.get(number)) is not None:
            return found
        messages: list[bytes] = []
        size = 0
        while (message := self._kept.get(number + len(messages) + 1)) is not None:
            size += len(message) + 1
            if messages and size > SLICE_OCTETS:
                break
            messages.append(message)
        if not messages:
            return None
        if len(self._joined) >= JOINED:
            self._joined.clear()
        found = self._joined[number] = (b"\n".join(messages), number + len(messages))
        return found

    def follows(self, number: int) -> bool:
        """True when everything behind `number` is here."""
        return self._first - 1 <= number <= self.head
