"""The OpenAPI document: valid, complete, and true of what the API answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from mesos_dns.api import routes
from mesos_dns.api_document import document
from mesos_dns.model import Endpoint, Leadership, Port
from tests.fakes.api import Asking, context_of
from tests.fakes.questions import task

TASKS = (
    task(1, host_ports=(31000,), labels=(("a", "b"),)),
    task(2, discovery_name="shop.web", ports=(Port(80, "http", "tcp", (("VIP_0", "/x:80"),)),)),
    task(3, name="batch", state="TASK_STAGING"),
)
LEADERSHIP = Leadership(Endpoint("10.0.0.11", 5050), (Endpoint("10.0.0.11", 5050),))
VALUES = {"{host}": "leader.mesos.", "{service}": "_leader._tcp.mesos."}


@pytest.mark.parametrize("enumeration", [True, False])
def test_it_is_valid(enumeration: bool) -> None:
    OpenAPIV31SpecValidator(document("1.2.3", enumeration=enumeration)).validate()


@pytest.mark.asyncio
@pytest.mark.parametrize("enumeration", [True, False])
async def test_it_names_exactly_the_paths_that_are_served(enumeration: bool) -> None:
    context = context_of()
    context.enumeration = enumeration
    served = {route.path.replace(":[^/]+", "") for route in routes(context) if not route.path.endswith("/")}
    assert served == set(document("1", enumeration=enumeration)["paths"])


def test_examples_fit_their_schemas() -> None:
    whole = document("1")
    seen = 0
    for path in whole["paths"].values():
        for response in path["get"]["responses"].values():
            for content in response["content"].values():
                if "example" in content:
                    validator(whole, content["schema"]).validate(content["example"])
                    seen += 1
    assert seen > 10


def validator(whole: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of a schema that may point into the document, strict about keys it does not name."""
    components = json.loads(json.dumps(whole["components"]))
    for component in components["schemas"].values():
        if "properties" in component:
            component["additionalProperties"] = False
    return Draft202012Validator({**schema, "components": components})


@pytest.mark.asyncio
async def test_every_path_answers_as_the_document_says() -> None:
    async with Asking(context_of(*TASKS, LEADERSHIP)) as asking:
        whole = await asking.json("/openapi.json")
        assert whole == document(asking.context.version)
        for template, operations in whole["paths"].items():
            path = template
            for name, value in VALUES.items():
                path = path.replace(name, value)
            status, kind, body = await asking.ask(path)
            content = operations["get"]["responses"][str(status)]["content"]
            schema = content[kind.partition(";")[0]]["schema"]
            assert body
            validator(whole, schema).validate(json.loads(body) if "json" in kind else body)


@pytest.mark.asyncio
async def test_refusals_are_in_the_document_too() -> None:
    async with Asking(context_of(synced=False)) as asking:
        whole = await asking.json("/openapi.json")
        status, kind, body = await asking.ask("/readyz")
        schema = whole["paths"]["/readyz"]["get"]["responses"][str(status)]["content"][kind]["schema"]
        assert status == 503
        validator(whole, schema).validate(json.loads(body))
        assert (await asking.ask("/v1/tasks?limit=x"))[0] == 400
        assert "400" in whole["paths"]["/v1/tasks"]["get"]["responses"]
        assert (await asking.ask("/v1/tasks", accept="text/html"))[0] == 406
        assert "406" in whole["paths"]["/v1/tasks"]["get"]["responses"]
