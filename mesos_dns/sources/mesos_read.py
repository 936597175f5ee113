"""Read a large JSON document into a Snapshot while it arrives, giving the event loop its turns.

A document counts only when it is complete and its skeleton is of the expected shape; until then
nothing of it is published.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from mesos_dns.sources._split import SplitError, Splitter
from mesos_dns.sources.mesos_client import Answer, MasterError
from mesos_dns.sources.mesos_snapshot import MAX_ELEMENT, MAX_SKELETON, Document
from mesos_dns.sources.pace import Pace

T = TypeVar("T", bound=msgspec.Struct)

PIECE = 64 << 10


class DocumentReader:
    """Feeds a document's bytes through the splitter into `document`."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._splitter = Splitter(document.paths, max_element=MAX_ELEMENT, max_skeleton=MAX_SKELETON)

    async def feed(self, data: bytes, pace: Pace) -> None:
        """Read a piece of any size. Raises SplitError when this can't become a document."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            for path, element in self._splitter.feed(view[start : start + PIECE]):
                self.document.add(path, element)
            await pace.turn()

    def skeleton(self) -> bytes:
        """The document without its listed arrays' elements. Raises SplitError when it is not complete."""
        return bytes(self._splitter.finish())

    def finish(self, head: type[T]) -> T:
        """The document's skeleton as `head`. Raises SplitError (a ValueError) or msgspec.DecodeError."""
        return msgspec.json.decode(self.skeleton(), type=head)


async def read_document(answer: Answer, document: Document, head: type[T], timeout: float) -> T:
    """Read a whole answer into `document`; its skeleton. Raises MasterError when it is cut, broken or late."""
    reader, pace = DocumentReader(document), Pace()
    try:
        async with asyncio.timeout(timeout):
            while data := await answer.chunk():
                await reader.feed(data, pace)
        return reader.finish(head)
    except TimeoutError:
        raise MasterError("stall", f"{answer.base}: a document did not arrive within {timeout:g} s") from None
    except (SplitError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MasterError("document", f"{answer.base}: a document is refused: {error}") from None
