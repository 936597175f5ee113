"""A client that asks one new name after another, and notes every answer that is not the right one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dns.exception
import pytest

from tests.system.resolver_lab import Lab, told, until


class Client(threading.Thread):
    """On `machine`, asks `server` for names below `zone`, all of which have the address `right`, until `finish`.

    `wrong` has what else there was, `took` the seconds of each question. Each fifth is asked by TCP. With `patience`
    silence for so many seconds is not yet wrong: as the C library does it asks once more, and counts that in `again`.
    """

    def __init__(self, lab: Lab, machine: str, server: str, zone: str, right: str, patience: float = 0) -> None:
        super().__init__(name=f"client of {server}")
        self.wrong: list[str] = []
        self.took: list[float] = []
        self.again = 0
        self._patience = patience
        self._lab, self._machine, self._server, self._zone, self._right = lab, machine, server, zone, right
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until `finish`."""
        while not self._stopped.wait(0.005):
            name = f"{secrets.token_hex(4)}-{len(self.took)}.{self._zone}"
            start = time.monotonic()
            said = self._told(name, tcp=len(self.took) % 5 == 4)
            self.took.append(time.monotonic() - start)
            if said != [self._right]:
                self.wrong.append(f"{name}: {said}")

    def _told(self, name: str, *, tcp: bool) -> list[str]:
        for timeout in (self._patience, 8.0) if self._patience else (8.0,):
            try:
                return told(self._lab.ask(self._machine, name, self._server, tcp=tcp, timeout=timeout))
            except (OSError, EOFError, dns.exception.DNSException) as error:
                failed = [repr(error)]
                self.again += 1
        return failed

    def more(self, count: int = 20) -> None:
        """Wait until so many more answers have come."""
        goal = len(self.took) + count
        until(lambda: len(self.took) >= goal, "answers")

    def finish(self) -> None:
        """No more questions."""
        self._stopped.set()
        self.join(30)


@contextmanager
def asking(clients: Sequence[Client]) -> Iterator[None]:
    """These ask meanwhile; at the end all that they were told must have been right."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.finish()
    wrong = [text for client in clients for text in client.wrong]
    if wrong:
        pytest.fail(f"{len(wrong)} wrong answers, such as {wrong[:5]}")
