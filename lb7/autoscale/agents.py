"""CPU and memory of tasks, from the Mesos agents that host them: /monitor/statistics of these, and of no other.

An agent is read once for all apps. Who we are is proved to it as to the masters, by `[mesos]`, over TLS where the
masters are spoken to over TLS; its certificate is to name its host. The large answer of a busy agent is read while it
arrives, in slices.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import TypeAlias

from lb7.autoscale.agent_usage import Usage, Usages, add_container, usage_of_task
from lb7.autoscale.config import AutoscaleConfig
from lb7.autoscale.fetch import Answer, Fetcher, ReadError
from lb7.autoscale.policy import OF_INSTANCES, Kind, Metric
from lb7.autoscale.polling import Poller
from lb7.autoscale.samples import Reading
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.config import MesosConfig, host_port_text
from mesos_dns.hosts import Hosts
from mesos_dns.model import Key, Node
from mesos_dns.sources._split import SplitError, Splitter
from mesos_dns.sources.marathon_auth import KeptAuth
from mesos_dns.sources.mesos_auth import Authenticator, AuthError, BasicAuth, IamAuth, authenticator
from mesos_dns.sources.outgoing import tls_context
from mesos_dns.sources.pace import Pace

WITHIN = 5.0
"""Seconds that an agent's answer may take."""
MOST_BYTES, MOST_OF_A_CONTAINER, MOST_BETWEEN = 64 << 20, 1 << 20, 1 << 20
"""Of an answer, of one element of its list, of the white space between them."""
AT_ONCE = 16
MOST_AGENTS = 20_000
MOST_KEPT = 500
"""Agents up to which connections are kept open from one read to the next."""
DEFAULT_PORT = 5051
PIECE = 64 << 10

Agent: TypeAlias = tuple[str, str]
"""Cluster and agent id."""

_OPEN, _CLOSE = b'{"all":', b"}"


class AgentsProvider:
    """Provider of the kinds `cpu` and `memory`. `node` tells what the catalog knows of an agent, by cluster and id.
    `reads` and `failures` (by kind) count."""

    kinds: frozenset[Kind] = OF_INSTANCES

    def __init__(
        self,
        mesos: MesosConfig | None,
        node: Callable[[str, str], Node | None],
        hosts: Hosts,
        interval: float = float(AutoscaleConfig().interval),
    ) -> None:
        self._client = _Client(mesos, hosts) if mesos is not None else None
        self._node = node
        self._agents_of: dict[Key, tuple[ScaledApp, frozenset[Agent]]] = {}
        self._poller: Poller[Agent, Usages] = Poller(
            "statistics of agents", self._read, interval=interval, at_once=AT_ONCE, most=MOST_AGENTS
        )
        self.failures = self._poller.failures

    @property
    def reads(self) -> int:
        """Agents that were asked."""
        return self._poller.reads

    def want(self, apps: Mapping[Key, ScaledApp]) -> None:
        """See Provider."""
        if self._client is None:
            return
        found, same = {}, 0
        for key, app in apps.items():
            known = self._agents_of.get(key)
            if known is not None and known[0] is app:
                found[key] = known
                same += 1
            elif any(metric.kind in self.kinds for metric in app.policy.metrics):
                cluster = app.app.cluster
                found[key] = (app, frozenset((cluster, task.node_id) for task in app.tasks if task.node_id))
        if not same == len(found) == len(self._agents_of):
            self._agents_of = found
            self._poller.want(agent for _, agents in found.values() for agent in agents)

    def reading(self, app: ScaledApp, metric: Metric, now: float) -> Reading:
        """See Provider. Its time is that of the oldest value in it."""
        if self._client is None:
            return Reading(error=f"{metric.kind} is read from Mesos' agents, which only [mesos] tells")
        each: dict[str, float] = {}
        silent, oldest, max_age = "", now, app.policy.max_age
        for task in app.tasks:
            agent = (app.app.cluster, task.node_id)
            known = self._poller.known(agent)
            if task.ready and (known is None or known.error or known.value is None):
                silent = silent or self._silence(agent)
            if known is None or known.value is None or not known.usable(now, max_age):
                continue
            value = _value(usage_of_task(known.value, app.app.framework_id, task.id), metric.kind)
            if value is not None:
                each[task.id] = value
                oldest = min(oldest, known.at)
        if not each:
            return Reading(error=silent or f"no agent tells the {metric.kind} of a task of this app")
        return Reading(at=oldest, each=each, partial=bool(silent))

    async def run(self) -> None:
        """See Provider."""
        if self._client is None:
            await asyncio.Event().wait()  # until cancelled
        else:
            async with self._client.fetcher:
                await self._poller.run()

    def _silence(self, agent: Agent) -> str:
        return self._poller.missing(agent) if agent[1] else "it is not known on which agent a task is"

    async def _read(self, agent: Agent) -> Usages:
        """What an agent says now. Raises ReadError."""
        if self._client is None:
            raise RuntimeError("read without [mesos]")
        node, known = self._node(*agent), self._poller.known(agent)
        if node is None or not node.addresses:
            why = "not known to the master" if node is None else f"its host {node.hostname} can't be resolved"
            raise ReadError("unknown", f"agent {agent[1]}: {why}", agent[1])
        address = node.addresses[known.failures % len(node.addresses) if known else 0]
        before: Usages = (known and known.value) or {}
        return await self._client.usages(node, address, before, keep=self._poller.wanted <= MOST_KEPT)


def _value(usage: Usage | None, kind: Kind) -> float | None:
    if usage is None:
        return None
    return usage.cpu if kind == "cpu" else usage.memory


class _Client:
    """Requests to agents, with the credentials and the TLS settings of `[mesos]`."""

    def __init__(self, config: MesosConfig, hosts: Hosts) -> None:
        auth = authenticator(config)
        self._auth: Authenticator = KeptAuth(auth) if isinstance(auth, BasicAuth) else auth
        self._config = config
        self.fetcher = Fetcher(hosts, within=WITHIN, limit=MOST_BYTES, at_once=2 * AT_ONCE + 1)  # and a login
        self._scheme = config.scheme
        if any(master.startswith("https:") for master in config.masters):
            self._scheme = "https"
        self._uses_tls = self._scheme == "https" or bool(config.ca_file) or config.auth == "iam"
        self._tls: ssl.SSLContext | None = None
        self._lock = asyncio.Lock()

    async def usages(self, node: Node, address: str, before: Usages, *, keep: bool) -> Usages:
        """What an agent says, once more with fresh credentials where these are refused. `keep`: the connection, for
        the next time. Raises ReadError."""
        if node.cluster != self._config.name:  # whom our credentials are not for
            raise ReadError("unknown", f"agent {node.id} is of {node.cluster}, not of [mesos] name", node.cluster)
        headers = await self._headers()
        try:
            found = await self._once(node, address, before, keep, headers)
        except ReadError as error:
            if error.kind != "auth":
                raise
            again = await self._headers()
            if again == headers:  # else they have been renewed since
                if not self._auth.rejected():
                    raise
                again = await self._headers()
            found = await self._once(node, address, before, keep, again)
        if isinstance(self._auth, IamAuth):
            self._auth.accepted()
        return found

    async def _once(self, node: Node, address: str, before: Usages, keep: bool, headers: dict[str, str]) -> Usages:
        base = f"{self._scheme}://{host_port_text(address, node.port or DEFAULT_PORT)}"
        async with self.fetcher.answered(
            f"{base}/monitor/statistics",
            name=f"agent {node.id} ({base})",
            headers=headers if keep else {**headers, "Connection": "close"},
            tls=self._tls,
            server_hostname=node.hostname,
        ) as answer:
            return await read_usages(answer, before)

    async def _headers(self) -> dict[str, str]:
        """Raises ReadError. One at a time: whoever waits for a login uses it."""
        async with self._lock:
            try:
                if self._tls is None and self._uses_tls:
                    self._tls = await asyncio.to_thread(tls_context, self._config, "mesos")
                return await self._auth.headers(self.fetcher.session, self._tls)
            except AuthError as error:
                raise ReadError("auth", str(error), "[mesos]") from None
            except OSError as error:
                raise ReadError("file", str(error), "[mesos] files") from None


async def read_usages(answer: Answer, before: Usages) -> Usages:
    """Read an agent's answer while it arrives. Raises ReadError unless it is a list. A container that can't be read is
    left out: it costs no other its value. `before`: what the same agent said last."""
    splitter, pace, found, unread = Splitter(["all"], MOST_OF_A_CONTAINER, MOST_BETWEEN), Pace(), Usages(), ""
    try:
        splitter.feed(_OPEN)
        while data := await answer.chunk():
            view = memoryview(data)
            for start in range(0, len(view), PIECE):
                for _, element in splitter.feed(view[start : start + PIECE]):
                    try:
                        add_container(element, before, found)
                    except ValueError as error:
                        unread = unread or str(error)
                    await pace.turn()
        splitter.feed(_CLOSE)
        rest = b"".join(splitter.finish().split())
    except SplitError as error:
        raise answer.refused(str(error)) from None
    if rest != _OPEN + b"[]" + _CLOSE:
        raise answer.refused("expected a list of containers")
    if unread and not found:
        raise answer.refused(unread)
    return found
