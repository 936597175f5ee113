"""The operating system's process of a worker: started without holding up its parent, waited for, and killed.

A parent with much memory and thousands of sockets is stopped for tens of milliseconds by fork(2), which copies its page
tables, and by a child that closes all those files. So it is vfork(2) here, which `subprocess` does and event loops of
libuv do not, and nothing is closed in the child: this program's files are closed on exec, each by its own flag. The
channel is the child's standard input.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Mapping, Sequence

_LAST_WORDS = 4096
"""Octets that are kept of what it writes to its standard error, at its end above all."""
_TURN = 0.01


class _LastWords(asyncio.Protocol):
    """The end of what comes through a pipe: a traceback, as a rule."""

    def __init__(self) -> None:
        self.octets = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.octets = (self.octets + data)[-_LAST_WORDS:]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


class Child:
    """See the module."""

    def __init__(self, process: subprocess.Popen[bytes], words: _LastWords, pipe: asyncio.ReadTransport) -> None:
        self._process, self._words, self._pipe = process, words, pipe

    def __repr__(self) -> str:
        return f"<Child pid={self.pid} code={self.code}>"

    @classmethod
    async def start(cls, arguments: Sequence[str], channel: socket.socket, environment: Mapping[str, str]) -> Child:
        """Run a program. Raises OSError."""
        process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program is there: about a millisecond
            arguments,
            stdin=channel.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            close_fds=False,
        )
        try:
            words = _LastWords()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: words, process.stderr)
        except BaseException:
            process.kill()
            while process.poll() is None:  # noqa: ASYNC110 - there is no event for that
                await asyncio.sleep(_TURN)
            raise
        return cls(process, words, pipe)

    @property
    def pid(self) -> int:
        """Its number, also after its end."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or its signal as a negative number; None: it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._words.octets.decode("utf-8", "replace").strip()

    async def wait(self) -> int:
        """Until it has ended; its exit code."""
        await self._words.ended.wait()  # the pipe ends with it
        while (code := self.code) is None:  # noqa: ASYNC110 - there is no event for that
            await asyncio.sleep(_TURN)
        return code

    def kill(self) -> None:
        """End it at once, unless it has ended."""
        self._process.kill()

    def close(self) -> None:
        """Hear it no more."""
        self._pipe.close()
