"""The configuration sections: defaults, durations, addresses, and refusal of what is not known."""

from __future__ import annotations

import re
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos_dns import config
from mesos_dns.config import Duration, decode_hook, host_port, schema_hook

SECTIONS = [
    section
    for section in vars(config).values()
    if isinstance(section, type) and issubclass(section, msgspec.Struct) and section is not msgspec.Struct
]


def decode(section: type, text: str) -> object:
    return msgspec.toml.decode(text, type=section, dec_hook=decode_hook)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("15m", 900), ("1.5h", 5400), ("1d", 86400), ("0s", 0), (3, 3), (0.25, 0.25), (0, 0)],
)
def test_durations(value: object, seconds: float) -> None:
    assert Duration.parse(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "10", "10 s", "-1s", "1y", "s", "1e3s", "1s2m", -1, True, None, [1], "10S", "١s"]
)
def test_what_is_no_duration_is_refused_with_what_was_expected(value: object) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "500ms"'):
        Duration.parse(value)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_shown_so_that_it_reads_back(number: int, unit: str) -> None:
    duration = Duration.parse(f"{number}{unit}")
    assert Duration.parse(str(duration)) == duration
    assert str(duration).isalnum()  # no fractions


@given(st.floats(0, 1e15))
def test_any_number_of_seconds_reads_back(seconds: float) -> None:
    assert Duration.parse(str(Duration(seconds))) == seconds


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_durations_are_finite(number: float) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(number)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:53", ("10.0.0.1", 53)),
        ("10.0.0.1", ("10.0.0.1", 7)),
        (":53", ("0.0.0.0", 53)),  # noqa: S104 - an empty host means every address
        ("[::]:53", ("::", 53)),
        ("[::1]", ("::1", 7)),
        ("::1", ("::1", 7)),
        ("host:0", ("host", 0)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert host_port(text, 7) == expected


@pytest.mark.parametrize("text", ["", "[::1", "[::1]53", "host:65536", "host:x", "host:-1", "host:٣", "host:1_0"])
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        host_port(text)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_complete_frozen_and_described(section: type[msgspec.Struct]) -> None:
    assert section() == decode(section, "")
    assert section.__struct_config__.frozen
    assert section.__struct_config__.forbid_unknown_fields
    assert section.__doc__
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        assert any(meta.description for meta in metas), f"{section.__name__}.{name} has no description"


@pytest.mark.parametrize("section", SECTIONS)
def test_unknown_keys_are_refused(section: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `no_such_key`"):
        decode(section, "no_such_key = 1")


@pytest.mark.parametrize("text", ["500ms", "1.5h", "10", "1y", "1s2m", "-1s"])
def test_the_schema_of_a_duration_says_what_is_read(text: str) -> None:
    pattern = schema_hook(Duration)["anyOf"][0]["pattern"]
    try:
        Duration.parse(text)
    except ValueError:
        assert not re.search(pattern, text)
    else:
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    ("section", "text", "what"),
    [
        (config.DnsConfig, "ttl = -1", "ttl"),
        (config.ApiConfig, "listen = []", "listen"),
        (config.DnsConfig, "max_udp_payload = 100", "max_udp_payload"),
        (config.DnsConfig, 'health = "sometimes"', "health"),
        (config.DnsConfig, 'ip_sources = ["dns"]', "ip_sources"),
        (config.DnsConfig, 'forward_timeout = "soon"', "forward_timeout"),
        (config.MesosConfig, 'auth = "ntlm"', "auth"),
        (config.FileConfig, 'paths = "one"', "paths"),
        (config.StateConfig, "max_age = true", "max_age"),
    ],
)
def test_errors_name_the_key(section: type, text: str, what: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=what):
        decode(section, text)


def test_durations_are_read_in_sections() -> None:
    found = decode(config.FileConfig, 'paths = ["/a"]\ninterval = "250ms"')
    assert found == config.FileConfig(paths=("/a",), interval=Duration(0.25))


def test_hooks_refuse_other_types() -> None:
    with pytest.raises(NotImplementedError):
        decode_hook(complex, 1)
    with pytest.raises(NotImplementedError):
        schema_hook(complex)
