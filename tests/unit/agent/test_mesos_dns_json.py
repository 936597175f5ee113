"""mesos-dns' configuration is read with mesos-dns' manners."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.config import ConfigError
from agent.mesos_dns_json import DEFAULTS, read
from mesos_dns.toml_tables import Problem


def reading(document: Any) -> tuple[dict[str, Any], list[str]]:
    warnings: list[Problem] = []
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read(raw, "config.json", warnings), [str(warning) for warning in warnings]


def refusal(document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        reading(document)
    return str(caught.value)


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_key_in_any_case(key: str) -> None:
    for spelling in (key, key.lower(), key.upper()):
        assert reading({spelling: DEFAULTS[key]}) == ({key: DEFAULTS[key]}, [])


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_key_refuses_another_type_by_its_name(key: str) -> None:
    wrong: object = 1 if not isinstance(DEFAULTS[key], int) or isinstance(DEFAULTS[key], bool) else "1"
    assert refusal({key.lower(): wrong}).startswith(f"config.json: {key}: expected ")


def test_null_leaves_a_default_and_empties_a_list() -> None:
    found, _ = reading(dict.fromkeys(DEFAULTS))
    assert found == {"Masters": [], "IPSources": [], "Resolvers": [], "ZoneResolvers": {}}


def test_unknown_keys_are_skipped_with_a_warning() -> None:
    assert reading({"Email": "x", "TTL": 5}) == (
        {"TTL": 5},
        ["Email: unknown key, skipped (mesos-dns skips it too)"],
    )


def test_the_last_of_two_equal_names_counts() -> None:
    found, warnings = reading(b'{"ttl": 1, "TTL": 2}')
    assert found == {"TTL": 2}
    assert warnings == ["TTL: TTL is given again (case does not matter); the last one counts"]


def test_credentials_in_any_case() -> None:
    found, _ = reading({"mesoscredentials": {"principal": "p", "SECRET": "s", "other": 1}})
    assert found == {"MesosCredentials": {"Principal": "p", "Secret": "s"}}


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    text = refusal({"MesosCredentials": {"Secret": 4711}})
    assert text == "config.json: MesosCredentials: expected Secret as a text, got a number"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"ttl": 60,}', "not JSON: "),
        (b'{"ttl": NaN}', "not JSON: NaN is no JSON number"),
        (b'{"ttl": "\xff"}', "not JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "not a configuration: nested too deep"),
        ([], "expected a JSON object, got a list"),
        ({"TTL": 1.5}, "TTL: expected a whole number, got a number with a fraction"),
        ({"TTL": 1 << 31}, "TTL: expected a whole number from -2147483648 to 2147483647, got 2147483648"),
        ({"SOARetry": -1}, "SOARetry: expected a whole number from 0 to 4294967295, got -1"),
        ({"Masters": ["a", 1]}, "Masters: expected a list of texts, got other items"),
        ({"Masters": "a"}, "Masters: expected a list of texts, got a text"),
        ({"ZoneResolvers": {"a": "b"}}, "ZoneResolvers: expected a list of texts, got a text"),
        ({"DnsOn": 1}, "DnsOn: expected true or false, got a number"),
    ],
)
def test_refused(document: Any, expected: str) -> None:
    assert refusal(document).startswith(f"config.json: {expected}")


def test_all_problems_at_once() -> None:
    assert len(refusal({"TTL": "x", "Port": "y", "Zk": 1}).splitlines()) == 3
