"""/v1/autoscale on `[admin]`: what is scaled and why, and what operators ask of it.

Reading is GET. Writing is POST with a JSON object, by programs alone: a page in an operator's browser that is none of
ours is refused, whatever it sends. What is refused answers with one line of text that says what to do.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import Meta

from lb7.autoscale.outcome import Outcome, Result
from lb7.autoscale.policy import MOST_INSTANCES
from lb7.autoscale.shown import Shown
from mesos_dns.api import json_only
from mesos_dns.api_stream import encode
from mesos_dns.coordinate import CoordinatorLost
from mesos_dns.sources.pace import Pace

log = logging.getLogger(__name__)

OFF = "[autoscale] is off here: ask the Pharos whose configuration has it, with [marathon]"
MAX_BODY = 1 << 16
"""Bytes of a question at most."""

STATUS: dict[Result, int] = {
    "done": 200,
    "changed": 409,
    "locked": 409,
    "delayed": 503,
    "gone": 404,
    "refused": 502,
    "unreachable": 503,
    "uncertain": 502,
}
"""The HTTP status of what became of a change."""

DeploymentState: TypeAlias = Literal["running", "finished", "failed", "unknown"]
"""unknown: Marathon does not say now."""

_AppId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2048)]
_Amount: TypeAlias = Annotated[float, Meta(gt=0, le=1e9)]
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Question = TypeVar("_Question", bound=msgspec.Struct)


class Autoscale(Protocol):
    """Who answers. `app_id` is an app's id, or FRAMEWORK:ID where several Marathons have one of that id. All raise
    LookupError where there is no such app, ValueError for what is ambiguous or can't be (the text says what to do), and
    OSError or CoordinatorLost where Marathon or the coordinator can't be reached."""

    async def shown(self, app_id: str = "") -> Shown:
        """What is scaled; only this app where one is named."""
        ...

    async def pause(self, app_id: str, paused: bool) -> None:
        """Change nothing of this app until an operator says otherwise; or go on."""
        ...

    async def set_instances(self, app_id: str, instances: int) -> Outcome:
        """Have it so many instances, once."""
        ...

    async def resize(self, app_id: str, cpus: float | None, mem: float | None) -> Outcome:
        """Give each instance so many processors and MiB of memory, by a rolling deployment. None: as it is."""
        ...

    async def deployment(self, app_id: str, deployment: str) -> str:
        """How a deployment of this app is: a DeploymentState."""
        ...


class PauseQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `pause` and `resume`."""

    app: _AppId


class ScaleQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `scale`."""

    app: _AppId
    instances: Annotated[int, Meta(ge=0, le=MOST_INSTANCES)]


class ResizeQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `resize`: processors, MiB, or both."""

    app: _AppId
    cpus: _Amount | None = None
    mem: _Amount | None = None

    def __post_init__(self) -> None:
        if self.cpus is None and self.mem is None:
            raise ValueError("expected cpus, mem or both")


class PauseAnswer(msgspec.Struct, frozen=True):
    """What `pause` and `resume` answer."""

    app: str
    paused: bool


class DeploymentAnswer(msgspec.Struct, frozen=True):
    """What `deployment` answers; `state` is a DeploymentState."""

    app: str
    deployment: str
    state: str


def admin_routes(autoscale: Callable[[], Autoscale | None]) -> list[web.RouteDef]:
    """The routes for `[admin]`, which has the token that they need; without an Autoscale they answer 404.

    GET /v1/autoscale[?app=ID], /v1/autoscale/deployment?app=ID&id=DEPLOYMENT; POST /v1/autoscale/pause, resume, scale
    and resize. 400: the question; 403: a foreign page; 404: no such app; 409: locked, or changed meanwhile; 413 and
    415: the body; 502: Marathon said no, or nothing; 503: Marathon or the coordinator can't be reached, or wants time.
    """
    asked = _Asked(autoscale)
    paths: list[tuple[str, _Handler]] = [
        ("pause", asked.pause),
        ("resume", asked.resume),
        ("scale", asked.scale),
        ("resize", asked.resize),
    ]
    return [
        web.get("/v1/autoscale", json_only(_answered(asked.shown)), allow_head=False),
        web.get("/v1/autoscale/deployment", json_only(_answered(asked.deployment)), allow_head=False),
        *(web.post(f"/v1/autoscale/{path}", _answered(handler)) for path, handler in paths),
    ]


class _Refused(Exception):
    """An answer that is none, with its status and its text."""

    def __init__(self, status: int, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after = status, text, retry_after


class _Asked:
    """The handlers."""

    def __init__(self, autoscale: Callable[[], Autoscale | None]) -> None:
        self._autoscale = autoscale

    async def shown(self, request: web.Request) -> web.StreamResponse:
        shown = await self._found().shown(request.query.get("app", ""))
        return web.Response(body=await _encoded(shown), content_type="application/json")

    async def deployment(self, request: web.Request) -> web.StreamResponse:
        app, deployment = request.query.get("app", ""), request.query.get("id", "")
        if not app or not deployment:
            raise _Refused(400, "expected ?app=ID&id=DEPLOYMENT")
        return _json(DeploymentAnswer(app, deployment, await self._found().deployment(app, deployment)))

    async def pause(self, request: web.Request) -> web.StreamResponse:
        return await self._pause(request, paused=True)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        return await self._pause(request, paused=False)

    async def _pause(self, request: web.Request, *, paused: bool) -> web.StreamResponse:
        question = await _question(request, PauseQuestion)
        found = self._found()
        _noted(request, "pause" if paused else "resume", question.app)
        await found.pause(question.app, paused)
        return _json(PauseAnswer(question.app, paused))

    async def scale(self, request: web.Request) -> web.StreamResponse:
        question = await _question(request, ScaleQuestion)
        found = self._found()
        _noted(request, "scale", question.app, f" instances={question.instances}")
        return _became(await found.set_instances(question.app, question.instances))

    async def resize(self, request: web.Request) -> web.StreamResponse:
        question = await _question(request, ResizeQuestion)
        found = self._found()
        _noted(request, "resize", question.app, f" cpus={question.cpus} mem={question.mem}")
        return _became(await found.resize(question.app, question.cpus, question.mem))

    def _found(self) -> Autoscale:
        found = self._autoscale()
        if found is None:
            raise _Refused(404, OFF)
        return found


def _answered(handler: _Handler) -> _Handler:
    """The handler, with what it raises as an answer. Not raised: whoever serves makes one text of every 404."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except _Refused as error:
            return _plain(error.status, error.text, error.retry_after)
        except LookupError as error:
            return _plain(404, _text(error))
        except ValueError as error:
            return _plain(400, _text(error))
        except CoordinatorLost as error:
            return _plain(503, f"the coordinator can't be reached: {_text(error)}; try again")
        except OSError as error:
            return _plain(503, _text(error) if error.args else "no answer in time: try again")

    return answered


async def _question(request: web.Request, kind: type[_Question]) -> _Question:
    """The body of a POST, from a program. Raises _Refused."""
    if reason := foreign(request):
        raise _Refused(403, reason)
    if request.content_type != "application/json":
        raise _Refused(415, "expected Content-Type: application/json")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _Refused(413, f"expected at most {MAX_BODY} bytes") from error
    if len(body) > MAX_BODY:
        raise _Refused(413, f"expected at most {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors; bytes that are no UTF-8 as well
        raise _Refused(400, f"expected a JSON object: {error}") from error


def foreign(request: web.Request) -> str:
    """Why a request comes from a page that is not ours; empty where it does not.

    Browsers say with each POST which page it comes from. Over plain HTTP only a page that was called by an address
    counts as ours: a foreign host name may have been pointed here after its page was loaded.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "pages of other sites can't do this"
    origins = request.headers.getall("Origin", [])
    if not origins:
        return ""
    if [origin.lower() for origin in origins] != [f"{request.scheme}://{request.host}".lower()]:
        return "pages of other sites can't do this"
    if not request.secure and not _is_address(request.host):
        return "over plain HTTP a page must be called by an address, not by a name"
    return ""


def _is_address(host: str) -> bool:
    """Whether HOST[:PORT] has an address or "localhost"."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _became(outcome: Outcome) -> web.Response:
    """What became of a change, as an answer."""
    status = STATUS[outcome.result]
    if status == 200:
        return _json(outcome)
    raise _Refused(status, f"{outcome.result}: {outcome.text}".rstrip(": "), outcome.retry_after)


async def _encoded(shown: Shown) -> bytes:
    """As JSON, made app by app: thousands of them at once would hold the loop."""
    pace, apps = Pace(), []
    for app in shown.apps:
        await pace.turn()
        apps.append(encode(app))
    around = encode(msgspec.structs.replace(shown, apps=())).removesuffix(b"[]}")
    return around + b"[" + b",".join(apps) + b"]}"


def _noted(request: web.Request, what: str, app: str, more: str = "") -> None:
    log.info("an operator asks: %s app=%r%s from=%s", what, app[:200], more, request.remote)


def _text(error: BaseException) -> str:
    """A LookupError's text is its argument's: KeyError quotes it."""
    text = getattr(error, "strerror", None) or (str(error.args[0]) if error.args else "")
    return text or type(error).__name__


def _plain(status: int, text: str, retry_after: float = 0.0) -> web.Response:
    headers = {"Retry-After": str(max(1, round(retry_after)))} if retry_after > 0 else None
    line = "".join(c if c.isprintable() else "?" for c in text)
    return web.Response(status=status, text=f"{status}: {line}", headers=headers)


def _json(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")
