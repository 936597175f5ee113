"""JSON Schema, markdown reference and redacted values follow the structs."""

from __future__ import annotations

import json
import re

from agent.config import SECTIONS, load_text
from agent.reference import redacted, reference_markdown, schema, tables_within


def test_schema_has_every_section_with_closed_keys_and_defaults() -> None:
    document = json.loads(json.dumps(schema()))
    assert document["$schema"].endswith("2020-12/schema")
    parts = document["$defs"]
    assert set(SECTIONS) < set(parts["Config"]["properties"])
    for name, kind in SECTIONS.items():
        assert parts["Config"]["properties"][name] == {"$ref": f"#/$defs/{kind.__name__}"}
        part = parts[kind.__name__]
        assert set(part["properties"]) == set(kind.__struct_fields__)
        assert part["additionalProperties"] is False
    assert parts["DnsConfig"]["properties"]["ttl"]["default"] == 60
    assert parts["DnsConfig"]["properties"]["forward_timeout"]["default"] == "5s"
    assert parts["DnsConfig"]["properties"]["zones"]["default"] == {}


def test_reference_has_a_row_for_every_key() -> None:
    text = reference_markdown(SECTIONS)
    kinds = {
        heading: kind
        for name, section in SECTIONS.items()
        for heading, kind in (
            (f"[{name}]", section),
            *((path, inner) for inner, path in tables_within(section, name).items()),
        )
    }
    assert re.findall(r"^#### `(.*)`$", text, re.MULTILINE) == list(kinds)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(kind.__struct_fields__) for kind in kinds.values())
    assert all(line.count(" | ") == 3 for line in rows)


def test_reference_shows_type_limits_default_and_meaning() -> None:
    text = reference_markdown(["dns", "mesos", "l7"])
    assert "| `ttl` | integer 0 to 2147483647 | `60` | seconds, of records in `domain` |" in text
    assert '| `forward_timeout` | duration | `"5s"` |' in text
    assert "| `zones` | table of list of text | `{}` |" in text
    assert "| `soa_minttl` | integer 0 to 2147483647 |  |" in text
    assert '| `auth` | `none` or `basic` or `iam` | `"none"` |' in text
    assert "| `tcp_clients` | integer from 1 | `10000` |" in text
    assert "| `retry_budget` | number 0 to 1 | `0.2` |" in text


def test_reference_of_tables_within_a_section() -> None:
    assert list(tables_within(SECTIONS["autoscale"], "autoscale").values()) == [
        "autoscale.apps.ID",
        "autoscale.apps.ID.metrics",
        "autoscale.apps.ID.up",
        "autoscale.apps.ID.up.rates",
        "autoscale.apps.ID.schedules",
    ]
    text = reference_markdown(["autoscale"])
    assert "| `apps` | table of tables | `{}` |" in text
    assert "| `max` | integer |  | the most instances |" in text
    assert '| `idle_time` | duration | `"5m"` |' in text


def test_schema_has_tables_within_a_section_and_times_as_text() -> None:
    parts = schema()["$defs"]
    assert parts["AutoscaleConfig"]["properties"]["apps"]["additionalProperties"] == {"$ref": "#/$defs/Policy"}
    assert parts["Policy"]["required"] == ["max"]
    assert parts["Policy"]["properties"]["idle_time"]["type"] == ["string", "number"]
    assert parts["Metric"]["properties"]["target"]["type"] == "number"


def test_reference_of_the_keys_above_all_sections() -> None:
    text = reference_markdown([""])
    assert '| `state_dir` | text | `"/var/lib/pharos"` |' in text
    assert '| `drain_timeout` | duration | `"10s"` |' in text
    assert "`mesos`" not in text


def test_redacted_shows_everything_but_secrets() -> None:
    text = "[mesos]\nmasters = ['m:5050']\nauth = 'basic'\nprincipal = 'me'\nsecret = 'hush'\n"
    shown = redacted(load_text(text, "f.toml"))
    assert "hush" not in json.dumps(shown)
    assert shown["mesos"]["secret"] == "***"
    assert shown["mesos"]["principal"] == "me"
    assert shown["mesos"]["timeout"] == "5m"
    assert "dns" not in shown


def test_redacted_shows_no_query_of_a_hook() -> None:
    hook = "{ kind = 'hook', name = 'jobs', target = 5, url = 'http://h.example/jobs?key=hush' }"
    text = f"[autoscale.apps.'/a']\nmax = 3\nmetrics = [{hook}]\n"
    shown = redacted(load_text(text, "f.toml"))
    assert shown["autoscale"]["apps"]["/a"]["metrics"][0]["url"] == "http://h.example/jobs?***"
    assert "hush" not in json.dumps(shown)


def test_redacted_tells_that_no_secret_is_set() -> None:
    assert redacted(load_text("[mesos]\nmasters = ['m:5050']\n", "f.toml"))["mesos"]["secret"] == ""
