"""A large JSON document as a list of bytes: its length without joining it, its bytes piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

Item = TypeVar("Item")
PER_TURN = 500  # items encoded between two turns of the event loop: some milliseconds
PIECE = 256 * 1024


class Body:
    """Bytes and comma-joined lists of bytes, in order."""

    def __init__(self) -> None:
        self._parts: list[bytes | list[bytes]] = []
        self.length = 0

    def text(self, part: bytes) -> None:
        """Append plain bytes."""
        self._parts.append(part)
        self.length += len(part)

    def items(self, parts: list[bytes]) -> None:
        """Append the members of a JSON array, to be joined by commas."""
        if parts:
            self._parts.append(parts)
            self.length += sum(map(len, parts)) + len(parts) - 1

    def pieces(self) -> Iterator[bytes]:
        """The document in pieces of about 256 KiB (single longer parts stay whole)."""
        held: list[bytes] = []
        size = 0
        for part in self._parts:
            members = part if isinstance(part, list) else [part]
            for number, member in enumerate(members):
                if number:
                    held.append(b",")
                held.append(member)
                size += len(member)
                if size >= PIECE:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)

    def whole(self) -> bytes:
        """The document in one."""
        return b"".join(self.pieces())


async def encoded(items: Collection[Item], encode: Callable[[Item], bytes], per_turn: int = PER_TURN) -> list[bytes]:
    """The items' JSON, encoded in slices so that the loop turns in between.

    Encoders that keep their result make the same list cheap to take again at one moment.
    """
    found: list[bytes] = []
    for number, item in enumerate(tuple(items), 1):
        found.append(encode(item))
        if number % per_turn == 0:
            await asyncio.sleep(0)
    return found
