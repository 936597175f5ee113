"""The calls to one leading Marathon: who it is, whole documents of apps and pods, single ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote, urlencode

import msgspec

from mesos_dns.config import MarathonConfig
from mesos_dns.sources._split import SplitError, Splitter
from mesos_dns.sources.marathon_client import JSON, Answer, MarathonClient, MarathonError
from mesos_dns.sources.marathon_events import WANTED
from mesos_dns.sources.marathon_pods import PODS, PODS_END, read_pod
from mesos_dns.sources.marathon_read import BadApp, Before, ReadApp, read_app, read_element
from mesos_dns.sources.pace import Pace

EVENTS = "/v2/events?" + urlencode([("plan-format", "light"), *(("event_type", kind) for kind in WANTED)])
APPS = "/v2/apps?embed=apps.tasks&embed=apps.deployments"
POD_STATUSES = "/v2/pods::status"

MAX_ELEMENT = 64 << 20
"""Bytes of the largest app or pod with its tasks."""
MAX_SKELETON = 1 << 20
PIECE = 64 << 10
PATIENCE = 60.0
"""Seconds that Marathon may take to build a whole document, at most."""

READ_WITHIN = 10.0
"""Seconds that one app's answer may take after its head."""

_RESERVED = frozenset({"tasks", "versions", "restart", "delay"})
"""Last segments of paths below an app that are no apps."""


class _Info(msgspec.Struct, rename="camel"):
    framework_id: str | None = None
    name: str | None = None


class _Apps(msgspec.Struct):
    apps: list[msgspec.Raw]


class _Pods(msgspec.Struct):
    pods: list[msgspec.Raw]


class Documents(msgspec.Struct):
    """What the whole documents said, and who of them can't be read: (id or "", reason)."""

    apps: list[ReadApp]
    pods: list[ReadApp]
    bad: list[tuple[str, str]]
    with_pods: bool = False

    def task_count(self) -> int:
        """Tasks of all of them; those of an app of which none were told count as one."""
        return sum([len(read.overlays) or not read.tasks_told for read in (*self.apps, *self.pods)])


def is_addressable(app_id: str) -> bool:
    """False for an id whose own URL means something else (/v2/apps/x/tasks); such an app is read with all others."""
    return app_id.rpartition("/")[2] not in _RESERVED


class MarathonCalls:
    """Calls to the Marathon at `base`. All raise MarathonError, also when another one leads meanwhile."""

    def __init__(self, client: MarathonClient, base: str, config: MarathonConfig, before: Before) -> None:
        self.base = base
        self.framework_id = ""
        self.name = ""
        self.with_pods = False
        self._client = client
        self._config = config
        self._before = before
        self._leader = ""
        self._named = ""

    async def begin(self) -> None:
        """Learn who this is."""
        answer, body = await self._client.read(self.base, "/v2/info")
        self._same(answer)
        try:
            info = msgspec.json.decode(body, type=_Info)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MarathonError("document", f"{self.base}/v2/info: {error}", 200) from None
        self.framework_id, self.name = info.framework_id or "", info.name or ""
        if not self.framework_id:
            raise MarathonError("status", f"{self.base} has not registered with Mesos yet", 200)
        self._leader = await self._client.leader(self.base)
        try:
            answer, _ = await self._client.read(self.base, "/v2/pods", method="HEAD")
            self.with_pods = True
        except MarathonError as error:
            if error.status not in (404, 405, 501):
                raise

    async def check_leader(self) -> None:
        """Raises MarathonError when another one leads than at the beginning."""
        leader = await self._client.leader(self.base)
        if leader != self._leader:
            raise MarathonError("moved", f"{self.base} names {leader} as the leader now, no longer {self._leader}")

    async def app(self, app_id: str) -> ReadApp | None:
        """One app with its tasks; None: there is none. Raises BadApp too."""
        body = await self._one("/v2/apps" + quote(app_id) + "?embed=app.tasks&embed=app.deployments")
        if body is None:
            return None
        read = read_app(body, self.framework_id, self._config.cluster, self._before)
        if read.app.id != app_id:
            raise BadApp(app_id, f"asked for {app_id!r}, Marathon answered with {read.app.id!r}")
        return read

    async def pod(self, pod_id: str) -> ReadApp | None:
        """One pod with its tasks; None: there is none. Raises BadApp too."""
        body = await self._one("/v2/pods" + quote(pod_id) + "::status")
        if body is None:
            return None
        read = read_pod(body, self.framework_id, self._config.cluster, self._before)
        if read.app.id != pod_id:
            raise BadApp(pod_id, f"asked for {pod_id!r}, Marathon answered with {read.app.id!r}")
        return read

    async def _one(self, path: str) -> bytes | None:
        try:
            answer, body = await self._client.read(self.base, path, limit=MAX_ELEMENT, within=READ_WITHIN)
        except MarathonError as error:
            if error.status == 404 and error.does_not_exist:
                return None
            raise
        self._same(answer)
        return body

    async def everything(self) -> Documents:
        """All apps and pods. A document that is cut or broken gives nothing at all."""
        found = Documents([], [], [], self.with_pods)
        framework_id, cluster, before = self.framework_id, self._config.cluster, self._before

        def app(data: bytes) -> None:
            _noted(found.apps, found.bad, lambda: read_element(data, framework_id, cluster, before))

        def pod(data: bytes) -> None:
            _noted(found.pods, found.bad, lambda: read_pod(data, framework_id, cluster, before))

        await self._document(APPS, "apps", app, _Apps)
        if self.with_pods:
            await self._document(POD_STATUSES, "pods", pod, _Pods, before=PODS, after=PODS_END)
        return found

    async def _document(
        self,
        path: str,
        member: str,
        take: Callable[[bytes], None],
        head: type[msgspec.Struct],
        *,
        before: bytes = b"",
        after: bytes = b"",
    ) -> None:
        """Read a large document element by element while it arrives; `before` and `after` go around it."""
        splitter, pace, timeout = Splitter([member], MAX_ELEMENT, MAX_SKELETON), Pace(), self._config.timeout

        async def feed(data: bytes) -> None:
            view = memoryview(data)
            for start in range(0, len(view), PIECE):
                for _, element in splitter.feed(view[start : start + PIECE]):
                    take(element)
                await pace.turn()

        patience = min(float(timeout), PATIENCE)
        async with self._client.request(self.base, path, accept=JSON, patience=patience) as answer:
            self._same(answer)
            try:
                async with asyncio.timeout(timeout):
                    if before:
                        await feed(before)
                    while data := await answer.chunk():
                        await feed(data)
                    if after:
                        await feed(after)
                msgspec.json.decode(bytes(splitter.finish()), type=head)
            except TimeoutError:
                raise MarathonError("stall", f"{self.base}{path}: it did not arrive within {timeout:g} s") from None
            except (SplitError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise MarathonError("document", f"{self.base}{path}: a document is refused: {error}", 200) from None

    def _same(self, answer: Answer) -> None:
        """Raises MarathonError when the answer is of another leader than the first one."""
        if answer.base != self.base:
            raise MarathonError("moved", f"{self.base} no longer leads, it redirects to {answer.base}", 302)
        if answer.leader and self._named and answer.leader != self._named:
            raise MarathonError("moved", f"{answer.leader} leads now, no longer {self._named}")
        self._named = self._named or answer.leader


def _noted(into: list[ReadApp], bad: list[tuple[str, str]], read: Callable[[], ReadApp]) -> None:
    """Take one element in, or note why that can't be."""
    try:
        into.append(read())
    except BadApp as error:
        bad.append((error.id, str(error)))
