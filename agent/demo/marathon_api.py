"""The simulated Marathon's HTTP API: /v2/apps, tasks, deployments, queue, events, info and leader."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from agent.demo import body, v1
from agent.demo.marathon_apps import App, BadApp, Instance, Json, app_json, task_json
from agent.demo.marathon_deployments import DeployingMarathon, Deployment, Locked
from agent.demo.marathon_faults import MarathonFaults
from agent.demo.marathon_gate import Election, Gate
from agent.demo.marathon_pods import pod_routes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSION = "1.11.24"
MAX_BODY = 4 * 1024 * 1024
APPS_PER_TURN = 50
TASKS_PER_TURN = 1000
LOCK_MESSAGE = (
    "App is locked by one or more deployments. Override with the option '?force=true'. "
    "View details at '/v2/deployments/<DEPLOYMENT_ID>'."
)


class MarathonApi:
    """Serves one Marathon over HTTP at `url` once started. Alone it leads; `election` tells several which one does."""

    def __init__(
        self,
        marathon: DeployingMarathon,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        election: Election | None = None,
        faults: MarathonFaults | None = None,
        credentials: tuple[str, str] | str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.marathon = marathon
        self.host = host
        self.port = port
        self._election = election
        self._tls = tls
        if self._election is None:
            self._election = Election()
            self._election.leader = self
        self.gate = Gate(self, self._election, faults or MarathonFaults(), credentials)
        self._runner: web.AppRunner | None = None

    @property
    def place(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """http(s)://host:port."""
        return f"{'http' if self._tls is None else 'https'}://{self.place}"

    async def start(self) -> None:
        """Listen."""
        await self.listen()

    async def listen(self) -> None:
        """Listen; on the same port as before, if it did before."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.gate.pass_or_refuse(request, handler)

        app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors, gate])
        app.add_routes(
            [
                web.get("/ping", self._ping),
                web.get("/v2/info", self._info),
                web.get("/v2/leader", self._leader),
                web.get("/v2/events", self._events),
                web.get("/v2/queue", self._queue),
                web.delete(r"/v2/queue/{app:.+}/delay", self._no_delay),
                web.get("/v2/tasks", self._tasks),
                web.post("/v2/tasks/delete", self._delete_tasks),
                web.get("/v2/deployments", self._deployments),
                web.delete("/v2/deployments/{id}", self._cancel),
                web.get("/v2/apps", self._apps),
                web.post("/v2/apps", self._create),
                web.route("*", r"/v2/apps/{app:.+}", self._app),
                *pod_routes(self.marathon.pods),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port, reuse_address=True, ssl_context=self._tls).start()
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and end Marathon's work."""
        await self.marathon.close()
        await self.unlisten()

    async def unlisten(self) -> None:
        """Stop listening; Marathon's work goes on."""
        await self.gate.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="pong\n")

    async def _info(self, request: web.Request) -> web.Response:
        return _json(
            {
                "name": self.marathon.framework.name,
                "version": VERSION,
                "elected": True,
                "leader": self.place,
                "frameworkId": self.marathon.framework.id,
                "marathon_config": {"hostname": self.host, "ha": True},
                "http_config": {"http_port": self.port, "https_port": 0},
            }
        )

    async def _leader(self, request: web.Request) -> web.Response:
        return _json({"leader": self.place})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return web.Response(status=405)
        return await self.marathon.events.serve(request)

    async def _queue(self, request: web.Request) -> web.Response:
        waiting = []
        for app in self.marathon.apps.values():
            count = app.definition.instances - len(app.instances)
            if count > 0:
                left = math.ceil(self.marathon.delay(app.definition.id))
                delay = {"timeLeftSeconds": left, "overdue": not left}
                app_ = app_json(app, self.marathon.of_app(app.definition.id), tasks=False)
                waiting.append({"app": app_, "count": count, "delay": delay, "role": "*"})
        return _json({"queue": waiting})

    async def _no_delay(self, request: web.Request) -> web.Response:
        self.marathon.hold_back(self._known(request.match_info["app"]).definition.id, 0)
        return web.Response(status=204)

    # Tasks

    async def _tasks(self, request: web.Request) -> web.Response:
        found = [(app, instance) for app in self.marathon.apps.values() for instance in app.instances.values()]
        states = {f"TASK_{state.upper()}" for state in request.query.getall("status", [])}
        if states:
            found = [(app, instance) for app, instance in found if instance.task.state in states]
        if "text/plain" in request.headers.get("Accept", ""):
            return web.Response(text=_plain_tasks(list(self.marathon.apps.values())))
        shown = await body.encoded(found, lambda item: v1.encode(task_json(*item)), TASKS_PER_TURN)
        return web.Response(body=b'{"tasks":[' + b",".join(shown) + b"]}", content_type="application/json")

    async def _delete_tasks(self, request: web.Request) -> web.Response:
        ids = (await _body(request)).get("ids", [])
        if not isinstance(ids, list):
            raise BadApp("ids: expected a list of task ids")
        found = [(self.marathon.by_task[name], name) for name in ids if name in self.marathon.by_task]
        return await self._kill(request, [(app, app.instances[name]) for app, name in found if name in app.instances])

    async def _kill(self, request: web.Request, victims: list[tuple[App, Instance]]) -> web.Response:
        """Kills tasks; with scale=true their apps get as many instances fewer, as one deployment per app."""
        shown = [task_json(app, instance) for app, instance in victims]
        deployment: Deployment | None = None
        if _flag(request, "scale"):
            for app_id in {app.definition.id for app, _ in victims}:
                app = self.marathon.apps[app_id]
                doomed = [instance for owner, instance in victims if owner is app]
                count = sum(instance.task.state != "TASK_KILLING" for instance in doomed)
                change = {"instances": max(0, app.definition.instances - count)}
                ids = frozenset(instance.task.id for instance in doomed)
                deployment = self.marathon.update(app, change, force=_flag(request, "force"), victims=ids)
            return _deployed(deployment) if deployment else _json({"tasks": []})
        for _, instance in victims:
            self.marathon.spawn(self.marathon.kill(instance.task))
        return _json({"tasks": shown})

    # Deployments

    async def _deployments(self, request: web.Request) -> web.Response:
        return _json([deployment.json() for deployment in self.marathon.deployments.values()])

    async def _cancel(self, request: web.Request) -> web.Response:
        deployment = self.marathon.deployments.get(request.match_info["id"])
        if deployment is None:
            return _message(404, f"DeploymentPlan {request.match_info['id']} does not exist")
        rollback = self.marathon.cancel(deployment, force=_flag(request, "force"))
        return web.Response(status=202) if rollback is None else _deployed(rollback)

    # Apps

    async def _apps(self, request: web.Request) -> web.Response:
        apps = list(self.marathon.apps.values())
        if "id" in request.query:
            apps = [app for app in apps if request.query["id"] in app.definition.id]
        if "label" in request.query:
            apps = [app for app in apps if _selected(app, request.query["label"])]
        embed = {part for value in request.query.getall("embed", []) for part in value.split(",")}
        with_tasks = bool(embed & {"apps.tasks", "app.tasks"}) and not self.gate.faults.no_tasks
        shown = await body.encoded(apps, lambda app: v1.encode(self._app_json(app, with_tasks)), APPS_PER_TURN)
        return web.Response(body=b'{"apps":[' + b",".join(shown) + b"]}", content_type="application/json")

    def _app_json(self, app: App, tasks: bool) -> Json:
        found = app_json(app, self.marathon.of_app(app.definition.id), tasks=tasks)
        if tasks:
            found["tasks"] = [self.gate.faults.unchecked(task) for task in found["tasks"]]
        return found

    async def _create(self, request: web.Request) -> web.Response:
        raw = await _body(request)
        raw["id"] = "/" + str(raw.get("id", "")).strip("/")
        if raw["id"] in self.marathon.apps:
            return _message(409, f"An app with id [{raw['id']}] already exists.")
        deployment = self.marathon.create(raw)
        found = self._app_json(self.marathon.apps[raw["id"]], True)
        return _json(found, status=201, headers={"Marathon-Deployment-Id": deployment.id})

    async def _app(self, request: web.Request) -> web.StreamResponse:
        """/v2/apps/{id} and what hangs below it; app ids contain slashes."""
        path = request.match_info["app"].strip("/")
        name, _, rest = path.partition("/tasks")
        if path.endswith("/restart") and request.method == "POST":
            app = self._known(path.removesuffix("/restart"))
            deployment = self.marathon.update(app, {}, force=_flag(request, "force"), restart=True)
            return _deployed(deployment)
        if path.endswith("/versions"):
            return _json({"versions": [self._known(path.removesuffix("/versions")).version]})
        if path.endswith("/tasks") or rest.startswith("/"):
            return await self._app_tasks(request, self._known(name), rest.strip("/"))
        handlers: dict[str, Callable[[web.Request, str], Awaitable[web.Response]]] = {
            "GET": self._get,
            "PUT": self._put,
            "PATCH": self._put,
            "DELETE": self._delete,
        }
        if request.method not in handlers:
            return web.Response(status=405)
        return await handlers[request.method](request, "/" + path)

    async def _app_tasks(self, request: web.Request, app: App, task_id: str) -> web.Response:
        chosen = list(app.instances.values())
        if task_id:
            chosen = [instance for instance in chosen if instance.task.id == task_id]
        if request.method == "DELETE":
            if "host" in request.query:
                chosen = [instance for instance in chosen if instance.task.agent.hostname == request.query["host"]]
            return await self._kill(request, [(app, instance) for instance in chosen])
        return _json({"tasks": [task_json(app, instance) for instance in chosen]})

    async def _get(self, request: web.Request, app_id: str) -> web.Response:
        return _json({"app": self._app_json(self._known(app_id), True)})

    async def _put(self, request: web.Request, app_id: str) -> web.Response:
        change = await _body(request)
        change["id"] = app_id
        app = self.marathon.apps.get(app_id)
        if app is None:
            if not change.keys() & {"cmd", "args", "container"}:
                raise BadApp("AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
            deployment = self.marathon.create(change)
        else:
            partial = request.query.get("partialUpdate", "true").lower() != "false"
            deployment = self.marathon.update(app, change, force=_flag(request, "force"), partial=partial)
        return _deployed(deployment, status=201 if app is None else 200)

    async def _delete(self, request: web.Request, app_id: str) -> web.Response:
        return _deployed(self.marathon.remove(self._known(app_id), force=_flag(request, "force")))

    def _known(self, name: str) -> App:
        app = self.marathon.apps.get("/" + name.strip("/"))
        if app is None:
            raise web.HTTPNotFound(
                text=msgspec.json.encode({"message": f"App '/{name.strip('/')}' does not exist"}).decode(),
                content_type="application/json",
            )
        return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Locked as locked:
        holders = [{"id": name} for name in locked.deployments]
        return _json({"message": LOCK_MESSAGE, "deployments": holders}, status=409)
    except BadApp as bad:
        return _json({"message": "Object is not valid", "details": [{"path": "/", "errors": [str(bad)]}]}, status=422)


async def _body(request: web.Request) -> Json:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(
            text=msgspec.json.encode({"message": "Invalid JSON", "details": [str(error)]}).decode(),
            content_type="application/json",
        ) from None


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


def _json(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=v1.encode(data), content_type="application/json", headers=headers)


def _message(status: int, text: str) -> web.Response:
    return _json({"message": text}, status=status)


def _deployed(deployment: Deployment, status: int = 200) -> web.Response:
    """A change that was accepted."""
    shown = {"version": deployment.version, "deploymentId": deployment.id}
    return _json(shown, status=status, headers={"Marathon-Deployment-Id": deployment.id})


def _selected(app: App, selector: str) -> bool:
    """Marathon's simplest label selectors: `key` or `key==value`."""
    key, _, value = selector.partition("==")
    labels = app.definition.labels
    return key in labels and (not value or labels[key] == value)


def _plain_tasks(apps: list[App]) -> str:
    """/v2/tasks as text: app, service port, host:port of each instance."""
    lines = []
    for app in apps:
        for number, port in enumerate(app.service_ports):
            where = [
                f"{instance.task.agent.hostname}:{instance.task.host_ports[number]}"
                for instance in app.instances.values()
                if number < len(instance.task.host_ports)
            ]
            lines.append("\t".join([app.definition.id.strip("/").replace("/", "_"), str(port), *where]))
    return "\n".join(lines) + "\n"
