"""Follow a master that has no operator API by reading its whole /state again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from mesos_dns.config import MesosConfig, host_port_text
from mesos_dns.model import canonical_address
from mesos_dns.sources.mesos_client import MasterClient, MasterError, base_url, place
from mesos_dns.sources.mesos_ledger import Ledger
from mesos_dns.sources.mesos_read import read_document
from mesos_dns.sources.mesos_snapshot import Snapshot, StateDocument
from mesos_dns.sources.mesos_state import StateHead
from mesos_dns.sources.mesos_wire import pid_address

PATHS = ("/master/state", "/state", "/state.json", "/master/state.json")
ROUNDS = 30
"""Reads before the operator API is tried again (the master may have been upgraded)."""
MAX_LEADER_HOPS = 2

Applied = Callable[[Snapshot, str, tuple[str, int]], Awaitable[None]]


class Poll:
    """Reads /state every `poll` seconds. `applied` is awaited with each complete document of the leader."""

    def __init__(
        self, client: MasterClient, config: MesosConfig, ledger: Ledger, applied: Applied, dice: random.Random
    ) -> None:
        self._client = client
        self._config = config
        self._ledger = ledger
        self._applied = applied
        self._dice = dice
        self._path = ""

    async def run(self, base: str) -> None:
        """ROUNDS reads, beginning with the master at `base`. Raises MasterError when one fails."""
        for _ in range(ROUNDS):
            base = await self._round(base)
            await asyncio.sleep(self._config.poll * self._dice.uniform(0.9, 1.1))

    async def _round(self, base: str) -> str:
        """Read and apply the leader's /state; where the leader is."""
        for _ in range(MAX_LEADER_HOPS + 1):
            snapshot = self._ledger.begin()
            try:
                head, base = await self._read(base, snapshot)
                leader = pid_address(head.leader or "")
                if leader is None:
                    raise MasterError("status", f"{base}: knows no leader", 200)
                if is_leader(head, base):
                    await self._applied(snapshot, base, leader)
                    return base
            finally:
                self._ledger.end(snapshot)
            base = base_url(f"{urlsplit(base).scheme}://{host_port_text(*leader)}")
        raise MasterError("redirect", f"{base}: the masters name each other as leader", 200)

    async def _read(self, base: str, snapshot: Snapshot) -> tuple[StateHead, str]:
        missing: MasterError | None = None
        for path in (self._path,) if self._path else PATHS:
            try:
                async with self._client.request(base, path, patience=min(self._config.timeout, 60.0)) as answer:
                    head = await read_document(answer, StateDocument(snapshot), StateHead, self._config.timeout)
                    self._path = path
                    return head, answer.base
            except MasterError as error:
                if error.status not in (404, 405):
                    raise
                missing = error
        self._path = ""
        raise missing or MasterError("status", f"{base}: has no /state", 404)


def is_leader(head: StateHead, base: str) -> bool:
    """True when the master that answered is the one that it names as the leader.

    Either by its own pid (it may be reached at another address) or by the address it was reached at
    (mesos-dns believes no more than that).
    """
    leader = pid_address(head.leader or "")
    if leader is None:
        return False
    return _plain(leader) in {_plain(at) for at in (pid_address(head.pid or ""), place(base)) if at is not None}


def _plain(at: tuple[str, int]) -> tuple[str, int]:
    return canonical_address(at[0]) or at[0].lower(), at[1]
