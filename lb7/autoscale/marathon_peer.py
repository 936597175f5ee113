"""One Marathon during one change: asked at each of its URLs until one answers, and then at that one.

Whoever answers must be the Marathon that the app belongs to, and must answer about that app: an id that a proxy or a
path rule takes for another one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lb7.autoscale.changes import Request, app_path
from lb7.autoscale.marathon_told import ToldApp, read_app, read_deployments, read_framework, read_queue
from mesos_dns.model import App
from mesos_dns.sources.marathon_client import Answer, MarathonClient, MarathonError

MAX_APP = 64 << 20
MAX_LIST = 16 << 20
"""Bytes of an app with its tasks, and of the queue and the deployments."""

WITHIN = 10.0
"""Seconds that the body of such an answer may take."""

ANSWERED = frozenset({200, 201, *range(400, 500)} - {401, 403})
"""Statuses that Marathon itself gives a change: done, or not done. After others nobody knows."""

_T = TypeVar("_T")


class Peer:
    """See the module. All methods raise MarathonError; `bases` as `base_url` makes them, at least one."""

    def __init__(self, client: MarathonClient, bases: Sequence[str], framework_id: str) -> None:
        self._client = client
        self._bases = list(bases)
        self._framework_id = framework_id
        self._known: set[str] = set()

    async def app(self, app: App) -> ToldApp | None:
        """The app as it is now; None: Marathon has none of this id."""
        path = app_path(app.id) + "?embed=app.tasks&embed=app.deployments"
        try:
            told = await self._asked(path, read_app, MAX_APP)
        except MarathonError as error:
            if error.status == 404 and error.does_not_exist:
                return None
            raise
        if told.id != app.id:
            raise MarathonError("document", f"asked for app {app.id!r}, Marathon answered with {told.id[:200]!r}", 200)
        return told

    async def queue(self) -> dict[str, float]:
        """Seconds until Marathon launches more of each app for which it waits."""
        return await self._asked("/v2/queue", read_queue, MAX_LIST)

    async def deployments(self) -> frozenset[str]:
        """The ids of what is under way."""
        return await self._asked("/v2/deployments", read_deployments, MAX_LIST)

    async def send(self, request: Request, patience: float) -> tuple[int, bytes]:
        """Ask for a change, once, where the last question was answered: the status, one of ANSWERED, and the body."""
        answer, body = await self._client.read(
            self._bases[0],
            request.path,
            method=request.method,
            body=request.body,
            patience=patience,
            statuses=ANSWERED,
        )
        return answer.status, body

    async def _asked(self, path: str, read: Callable[[bytes], _T], limit: int) -> _T:
        """The answer of the first URL that has one; it is asked first from then on."""
        first: MarathonError | None = None
        for base in tuple(self._bases):
            try:
                answer, body = await self._read(base, path, limit)
            except MarathonError as error:
                if error.kind == "auth" or error.does_not_exist:
                    raise
                first = first or error
                continue
            self._bases = [answer.base, *(other for other in self._bases if other != answer.base)]
            try:
                return read(body)
            except ValueError as error:
                raise MarathonError("document", f"{answer.base}{path}: {error}", 200) from None
        raise first or MarathonError("connect", "no URL of this Marathon is known", unsent=True)

    async def _read(self, base: str, path: str, limit: int) -> tuple[Answer, bytes]:
        """The answer of one URL, also that there is no such thing, if our Marathon is there."""
        try:
            answer, body = await self._client.read(base, path, limit=limit, within=WITHIN)
        except MarathonError as error:
            if error.does_not_exist:
                await self._is_ours(base)
            raise
        await self._is_ours(answer.base)
        return answer, body

    async def _is_ours(self, base: str) -> None:
        """Raises MarathonError when another Marathon is there than the one that the app belongs to."""
        if base in self._known or not self._framework_id:
            return
        try:
            _, body = await self._client.read(base, "/v2/info")
            found = read_framework(body)
        except ValueError as error:
            raise MarathonError("document", f"{base}/v2/info: {error}", 200) from None
        except MarathonError as error:  # a 404 of this is not one of the app
            raise MarathonError(error.kind, str(error), error.status) from None
        if found != self._framework_id:
            raise MarathonError(
                "moved", f"{base} is the Marathon of framework {found!r}, not of {self._framework_id!r}", 200
            )
        self._known.add(base)
