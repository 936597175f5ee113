"""What the routes' API tells can be told as JSON, and is described."""

from __future__ import annotations

import msgspec

from lb7.api_shapes import ExplanationRow, LostRow, RoutePathRow, RouteRow, RouteServerRow


def test_rows_are_json_and_back() -> None:
    server = RouteServerRow("10.0.0.1:31000", 1, "up", "t", 2, 3)
    route = RouteRow("http", "a", "route", [RoutePathRow("/x")], "/a", 1, [":80"], servers=[server], problems=["p"])
    row = ExplanationRow("http", "proxy", app="/a", servers=[server], lost=[LostRow("/b", "late")])
    for value in (route, row):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_kinds_are_listed_in_the_schema() -> None:
    schema = msgspec.json.schema(RouteRow)["$defs"]["RouteRow"]["properties"]
    assert set(schema["kind"]["enum"]) == {"auth", "redirect", "route", "tcp", "refused"}
    assert "description" in schema["table"]
