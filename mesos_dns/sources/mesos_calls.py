"""The calls to a leading master beside the stream: who leads, schedulers' addresses, full re-reads."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec

from mesos_dns.config import MesosConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.mesos_client import Answer, MasterClient, MasterError, place
from mesos_dns.sources.mesos_ledger import EVERYTHING, Ledger, Want
from mesos_dns.sources.mesos_read import read_document
from mesos_dns.sources.mesos_snapshot import SUMMARY_PATHS, Snapshot, StateDocument, V1Document
from mesos_dns.sources.mesos_state import SummaryHead
from mesos_dns.sources.mesos_wire import FrameworkSeen, pid_address

V1 = "/api/v1"
MAX_SMALL = 1 << 20
SETTLE = 2.0
"""Seconds that a snapshot waits for the first answers about new host names."""

_SCHEDULER_PATHS = ("/master/state-summary", "/state-summary", "/master/frameworks", "/frameworks")
_KIND_OF = {"GET_AGENTS": "node", "GET_FRAMEWORKS": "framework", "GET_TASKS": "task"}

T = TypeVar("T", bound=msgspec.Struct)


class _Address(msgspec.Struct):
    ip: str | None = None
    hostname: str | None = None
    port: int | None = None


class _MasterInfo(msgspec.Struct):
    pid: str | None = None
    address: _Address | None = None


class _GetMaster(msgspec.Struct):
    master_info: _MasterInfo


class _MasterHead(msgspec.Struct):
    get_master: _GetMaster


class _Agents(msgspec.Struct):
    agents: list[msgspec.Raw] | None = None


class _Frameworks(msgspec.Struct):
    frameworks: list[msgspec.Raw] | None = None


class _Tasks(msgspec.Struct):
    tasks: list[msgspec.Raw] | None = None


class State(msgspec.Struct):
    """GetState with its arrays taken out: what must hold before a snapshot is believed."""

    get_tasks: _Tasks | None = None
    get_agents: _Agents | None = None
    get_frameworks: _Frameworks | None = None


class _AgentsHead(msgspec.Struct):
    get_agents: _Agents


class _FrameworksHead(msgspec.Struct):
    get_frameworks: _Frameworks


class _TasksHead(msgspec.Struct):
    get_tasks: _Tasks


_HEADS: dict[str, type[msgspec.Struct]] = {
    "GET_AGENTS": _AgentsHead,
    "GET_FRAMEWORKS": _FrameworksHead,
    "GET_TASKS": _TasksHead,
}


def call(kind: str, **members: Any) -> bytes:
    """The body of a v1 call."""
    return msgspec.json.encode({"type": kind, **members})


async def settle(hosts: Hosts, snapshot: Snapshot) -> None:
    """Let host names that a document brings be resolved before it is applied, for a short while."""
    await hosts.settle(sorted(snapshot.hosts()), SETTLE)


class Calls:
    """Calls to one leading master; `base` is where it answered. All raise MasterError."""

    def __init__(self, client: MasterClient, base: str, config: MesosConfig, ledger: Ledger, hosts: Hosts) -> None:
        self.base = base
        self._client = client
        self._config = config
        self._ledger = ledger
        self._hosts = hosts

    def _check(self, answer: Answer) -> None:
        if answer.base != self.base:
            raise MasterError("redirect", f"{self.base} no longer leads, it redirects to {answer.base}", 307)

    async def leader(self) -> tuple[str, int]:
        """The leading master's address as it says itself, or as we reached it."""
        try:
            async with self._client.request(self.base, V1, call("GET_MASTER")) as answer:
                self._check(answer)
                async with asyncio.timeout(self._config.connect_timeout):
                    info = msgspec.json.decode(await answer.read(MAX_SMALL), type=_MasterHead).get_master.master_info
        except (MasterError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return place(self.base)
        if info.address is not None and info.address.port:
            host = info.address.ip or info.address.hostname
            if host:
                return host, info.address.port
        return pid_address(info.pid or "") or place(self.base)

    async def schedulers(self) -> dict[str, FrameworkSeen]:
        """Every framework with its scheduler's pid, which v1 does not tell."""
        failure: MasterError | None = None
        for path in _SCHEDULER_PATHS:
            snapshot = self._ledger.begin(frozenset())
            try:
                async with self._client.request(self.base, path, patience=self._patience()) as answer:
                    self._check(answer)
                    document = StateDocument(snapshot, SUMMARY_PATHS)
                    await read_document(answer, document, SummaryHead, self._config.timeout)
                    return snapshot.frameworks
            except MasterError as error:
                failure = error
                if error.status not in (404, 405):
                    raise
            finally:
                self._ledger.end(snapshot)
        raise failure or MasterError("schedulers", f"{self.base}: no way to read scheduler addresses")

    async def agents(self) -> Want:
        """Compare the agents with the master's."""
        return await self._compare("GET_AGENTS")

    async def everything(self) -> Want:
        """Compare everything with the master's; tasks last, so that what they refer to is known."""
        return await self._compare("GET_AGENTS", "GET_FRAMEWORKS", "GET_TASKS")

    async def _compare(self, *kinds: str) -> Want:
        snapshot = self._ledger.begin(frozenset(_KIND_OF[kind] for kind in kinds) & EVERYTHING)
        try:
            for kind in kinds:
                async with self._client.request(self.base, V1, call(kind), self._patience()) as answer:
                    self._check(answer)
                    await read_document(answer, V1Document(snapshot), _HEADS[kind], self._config.timeout)
            await settle(self._hosts, snapshot)
            # A cancelled connection must not leave the work half done.
            return await asyncio.shield(self._ledger.apply(snapshot, self.base))
        except BaseException:
            self._ledger.end(snapshot)
            raise

    def _patience(self) -> float:
        return min(self._config.timeout, 60.0)
