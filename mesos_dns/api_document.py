"""The OpenAPI 3.1 document of the lookup API, made from the structs that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mesos_dns import api_shapes as shapes

_REFERENCE = "#/components/schemas/{name}"

_NAME = {"name": "leader.mesos.", "what": "a DNS name, in any case, with or without the trailing dot"}
_SERVICE = {"name": "_leader._tcp.mesos.", "what": "the name of SRV records"}

_EXAMPLES: dict[str, Any] = {
    "/v1/version": {"Service": "Pharos", "URL": "", "Version": "0.1.0"},
    "/v1/hosts/{host}": [{"host": "leader.mesos.", "ip": "10.0.0.11"}],
    "/v1/services/{service}": [
        {"service": "_leader._tcp.mesos.", "host": "leader.mesos.", "ip": "10.0.0.11", "port": "5050"}
    ],
    "/v1/enumerate": {
        "frameworks": [
            {
                "tasks": [
                    {
                        "name": "web",
                        "id": "web.1",
                        "records": [{"name": "web.marathon.mesos.", "host": "10.1.0.1", "rtype": "A"}],
                    }
                ],
                "name": "marathon",
            }
        ]
    },
    "/v1/axfr": {
        "TTL": 60,
        "Serial": 1795405269,
        "RefreshSeconds": 60,
        "Mname": "ns1.mesos.",
        "Rname": "root.ns1.mesos.",
        "Domain": "mesos",
        "Records": {
            "As": {"leader.mesos.": ["10.0.0.11"]},
            "AAAAs": {},
            "SRVs": {"_leader._tcp.mesos.": ["leader.mesos.:5050"]},
        },
    },
    "/v1/records": [
        {"name": "leader.mesos", "host": "10.0.0.11", "rtype": "A"},
        {"name": "_leader._tcp.mesos", "host": "leader.mesos:5050", "rtype": "SRV"},
    ],
    "/v1/tasks": [
        {
            "cluster": "mesos",
            "framework": "marathon",
            "framework_id": "f1a0c2d4-0001",
            "id": "web.1",
            "name": "web",
            "state": "TASK_RUNNING",
            "health": "healthy",
            "node_id": "f1a0c2d4-S0",
            "host": "agent0.example.com",
            "addresses": ["10.1.0.1"],
            "ports": [31000],
            "discovery_name": "",
            "discovery_ports": [],
            "labels": {"team": "shop"},
            "start_time": 1795405200.5,
        }
    ],
    "/v1/watch": '{"hello":1,"v":"9f2c41d07be3a865.7","resume":false,"stale":0.0,"as_of":1795405269.0,'
    '"sources":{"mesos":0.0},'
    '"via":["9f2c41d07be3a865"],"version":"0.1.0"}\n',
    "/readyz": {
        "ready": True,
        "draining": False,
        "sources": [
            {
                "name": "mesos",
                "connected": True,
                "synced": True,
                "restored": False,
                "stale": False,
                "age_seconds": 0,
                "detail": "following http://10.0.0.11:5050",
            }
        ],
    },
}


class Documented(NamedTuple):
    """What another package tells at `path`: the struct of its rows, and an example; not `listed`: one such struct."""

    path: str
    name: str
    summary: str
    row: type[msgspec.Struct]
    example: Any
    listed: bool = True


def document(version: str, *, enumeration: bool = True, beside: Sequence[Documented] = ()) -> dict[str, Any]:
    """The document; without `enumeration`, /v1/enumerate, /v1/axfr and /v1/records are not in it.
    `beside`: lists of other packages."""
    types: tuple[type[msgspec.Struct], ...] = (
        shapes.Version,
        shapes.Host,
        shapes.Service,
        shapes.Enumeration,
        shapes.Axfr,
        shapes.RecordRow,
        shapes.TaskRow,
        shapes.Readiness,
        *(each.row for each in beside),
    )
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    named = {kind.__name__: schema for kind, schema in zip(types, schemas, strict=True)}
    paths = {**_lookups(named), **_lists(named), **_watch(), **_process(named)}
    for each in beside:
        schema = {"type": "array", "items": named[each.row.__name__]} if each.listed else named[each.row.__name__]
        paths[each.path] = _get(each.path, each.name, each.summary, schema, example=each.example)
    if not enumeration:
        del paths["/v1/enumerate"], paths["/v1/axfr"], paths["/v1/records"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pharos lookup API",
            "version": version,
            "description": "What runs where in a Mesos cluster. The look-ups of mesos-dns keep its shapes. Where a "
            "token is configured, every path but /livez, /healthz and /readyz needs it.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _lookups(named: dict[str, Any]) -> dict[str, Any]:
    """Paths that ask for one thing."""
    host, service = _path_parameter("host", _NAME), _path_parameter("service", _SERVICE)
    rows = {name: {"type": "array", "items": named[name], "minItems": 1} for name in ("Host", "Service")}
    ports = _operation("portsOfHost", "mesos-dns reserves this path and never answers it.", {}, [host])
    ports["responses"] = {"501": _text_response("Not implemented; see /v1/tasks", "To be implemented...")}
    return {
        "/v1/version": _get("/v1/version", "version", "Who answers.", named["Version"]),
        "/v1/hosts/{host}": _get("/v1/hosts/{host}", "addresses", "The addresses of a name.", rows["Host"], [host]),
        "/v1/hosts/{host}/ports": {"get": ports},
        "/v1/services/{service}": _get(
            "/v1/services/{service}", "services", "Hosts, addresses and ports of a service.", rows["Service"], [service]
        ),
    }


def _lists(named: dict[str, Any]) -> dict[str, Any]:
    """Paths that tell whole tables, as a stream."""
    parameters = [
        _query("app", {"type": "string"}, "task name, discovery name, task id, or Marathon's app id (/prod/db)"),
        _query("framework", {"type": "string"}, "a framework's name or id"),
        _query("state", {"type": "string"}, "a state, such as running or TASK_STAGING"),
        _query("limit", {"type": "integer", "minimum": 0, "maximum": 2147483647}, "tasks at most; 0 means all"),
        _query("offset", {"type": "integer", "minimum": 0, "maximum": 2147483647}, "matching tasks to leave out first"),
    ]
    rows = {"type": "array", "items": named["RecordRow"]}
    tasks = _get("/v1/tasks", "tasks", "Tasks in any state.", {"type": "array", "items": named["TaskRow"]}, parameters)
    tasks["get"]["responses"]["400"] = _text_response("A number that is none", "400: limit: expected a number")
    return {
        "/v1/enumerate": _get("/v1/enumerate", "enumerate", "Tasks and their records.", named["Enumeration"]),
        "/v1/axfr": _get("/v1/axfr", "axfr", "The cluster's zone.", named["Axfr"]),
        "/v1/records": _get("/v1/records", "records", "Addresses and services of all zones.", rows),
        "/v1/tasks": tasks,
    }


def _watch() -> dict[str, Any]:
    """The path that followers use."""
    since = _query("since", {"type": "string"}, "EPOCH.N: the `v` up to which everything is known already")
    lines = {"schema": {"type": "string"}, "example": _EXAMPLES["/v1/watch"]}
    responses = {
        "200": {
            "description": "One JSON object a line, without an end: a hello, then all that is known (unless `since` "
            "makes that needless) up to `synced`, then each change, and the server's standing every "
            "second. A WebSocket (101) gets the same in text frames, and can say what it has before it is told",
            "content": {"application/x-ndjson": lines},
        },
        "403": _text_response("Asked by a page in a browser", "403: not for pages of other origins"),
        "503": _text_response(
            "Not known yet, ending, or too many", "503: nobody has said yet what runs in the cluster"
        ),
    }
    summary = "Follow what runs where; what other servers and nodes use."
    return {"/v1/watch": {"get": _operation("watch", summary, responses, [since])}}


def _process(named: dict[str, Any]) -> dict[str, Any]:
    """Paths about the process itself."""
    ready = _get("/readyz", "ready", "Whether to send requests here.", named["Readiness"], [], [{}])
    ready["get"]["responses"]["503"] = {
        "description": "Not yet, or not any more",
        "content": ready["get"]["responses"]["200"]["content"],
    }
    del ready["get"]["responses"]["406"]
    found: dict[str, Any] = {"/readyz": ready}
    for path, name in (("/livez", "live"), ("/healthz", "healthy")):
        operation = _operation(name, "The process turns.", {"200": _text_response("It does", "ok")}, [])
        found[path] = {"get": {**operation, "security": [{}]}}
    metrics = _text_response("Prometheus text format", "pharos_catalog_changes_total 1.0")
    found["/metrics"] = {"get": _operation("metrics", "All metrics.", {"200": metrics}, [])}
    schema = {"type": "object"}
    whole = {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": schema}}}}
    found["/openapi.json"] = {"get": _operation("openapi", "This document.", whole, [])}
    return found


def _get(
    path: str,
    name: str,
    summary: str,
    schema: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    security: list[dict[str, Any]] | None = None,
    example: Any = None,
) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": _EXAMPLES[path] if example is None else example}}
    responses = {
        "200": {"description": "As asked", "content": content},
        "406": _text_response("The client wants something else than JSON", "406: Not Acceptable"),
    }
    if path not in ("/v1/version", "/readyz"):
        responses["503"] = _text_response("Not known yet", "503: nobody has said yet what runs in the cluster")
    operation = _operation(name, summary, responses, parameters or [])
    return {"get": operation if security is None else {**operation, "security": security}}


def _operation(name: str, summary: str, responses: dict[str, Any], parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses}


def _text_response(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}


def _path_parameter(name: str, what: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": what["what"],
        "schema": {"type": "string"},
        "example": what["name"],
    }


def _query(name: str, schema: dict[str, Any], what: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": what, "schema": schema}
