"""The configuration file: what is accepted, and that every error says file, key, expectation and nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, ConfigError, load, load_text


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f.toml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("f.toml: ") for line in lines)
    assert len(lines) == len(caught.value.problems)
    return [line.removeprefix("f.toml: ") for line in lines]


def test_empty_file_has_every_role_off() -> None:
    config = load_text("", "f.toml")
    assert config == Config()
    assert config.mesos is config.file is config.dns is config.api is config.admin is None
    assert config.state_dir == "/var/lib/pharos"
    assert config.drain_timeout == 10
    assert config.log.level == "info"


def test_present_section_is_a_role_with_defaults() -> None:
    config = load_text("[dns]\n[api]\n[admin]\n[mesos]\nmasters = ['10.0.0.1:5050']\n", "f.toml")
    assert config.dns is not None
    assert config.dns.listen == ("0.0.0.0:53",)
    assert config.api is not None
    assert config.admin is not None
    assert config.admin.listen == ("127.0.0.1:8124",)
    assert config.mesos is not None
    assert config.mesos.masters == ("10.0.0.1:5050",)


def test_durations_are_texts_or_seconds() -> None:
    config = load_text('drain_timeout = "1.5s"\n[state]\nmax_age = "2h"\ninterval = 3\n', "f.toml")
    assert (config.drain_timeout, config.state.max_age, config.state.interval) == (1.5, 7200, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[dnss]", "dnss: unknown key; did you mean 'dns'?"),
        ("state-dir = 'x'", "state-dir: unknown key; did you mean 'state_dir'?"),
        ("quite_else = 1", "quite_else: unknown key or section"),
        ("'a b' = 1", '"a b": unknown key or section'),
        ("[dns]\nTTL = 5", "dns.TTL: unknown key; did you mean 'ttl'?"),
        ("[dns]\nmasters = []", "dns.masters: unknown key here; it belongs in [mesos]"),
        ("[dns]\nquite_else = 5", "dns.quite_else: unknown key"),
        ("[dns]\nttl = -1", "dns.ttl: expected `int` >= 0, got -1"),
        ("[dns]\nttl = true", "dns.ttl: expected `int`, got `bool`"),
        ("[dns]\nttl = '5'", "dns.ttl: expected `int`, got `str`"),
        ("[api]\nlisten = []", "api.listen: expected `array` of length >= 1, got []"),
        ("[dns]\nforward = ['1.1.1.1', 2]", "dns.forward[1]: expected `str`, got `int`"),
        ("[dns]\nhealth = 'no'", 'dns.health: expected one of "ignore", "exclude-unhealthy", got \'no\''),
        (
            "[dns]\nip_sources = ['host', 'x']",
            'dns.ip_sources[1]: expected one of "netinfo", "docker", "mesos", "host", got \'x\'',
        ),
        (
            "[dns]\nforward_timeout = '5x'",
            'dns.forward_timeout: expected a duration such as "500ms", "10s" or "15m", got \'5x\'',
        ),
        ("dns = 1", "dns: expected a section, [dns], got 1"),
        ("[swarm]", "swarm: section [swarm] is not available in this version"),
        ("[[kubernetes]]", "kubernetes: section [kubernetes] is not available in this version"),
        ("[[autoscale]]", "autoscale: expected a section, [autoscale], got [{}]"),
        ("[[marathon]]", "marathon: expected a section, [marathon], got [{}]"),
        ("[dns]\nsoa_minttl = -3", "dns.soa_minttl: expected `int` >= 0, got -3"),
        ("[dns]\nsoa_minttl = 4294967296", "dns.soa_minttl: expected `int` <= 2147483647, got 4294967296"),
        ("a = ", "not TOML: Invalid value (at end of document)"),
        ("a = 1\nb = = 2", "not TOML: Invalid value (at line 2, column 5)"),
        ("a = 1\na = 2", "not TOML: Cannot overwrite a value (at end of document)"),
    ],
)
def test_one_error(text: str, expected: str) -> None:
    assert errors(text) == [expected]


def test_all_problems_are_told_at_once() -> None:
    found = errors("stat_dir = 'x'\n[swarm]\n[dns]\nttl = -1\nlisten = ['x:53']\n[mesos]\nauth = 'basic'\nsecret = 5\n")
    assert [line.partition(": ")[0] for line in found] == [
        "swarm",
        "dns.ttl",
        "mesos.secret",
        "stat_dir",
        "mesos.masters",
        "mesos.principal",
        "dns.listen[0]",
    ]


def test_a_bad_value_brings_no_follow_up_error_for_its_default() -> None:
    assert errors("[mesos]\nmasters = 'm:5050'") == ["mesos.masters: expected `array`, got `str`"]


def test_a_secret_never_stands_in_an_error() -> None:
    assert "4711" not in "\n".join(errors("[mesos]\nmasters = ['m:5050']\nsecret = 4711\n"))


def test_load_names_what_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: can't read the file: No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"can't read the file: Is a directory"):
        load(tmp_path)
    path = tmp_path / "p.toml"
    path.write_bytes(b"state_dir = 'x'\n# \xff\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8 text"):
        load(path)
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(path)


def test_load_looks_at_the_files_that_are_named(tmp_path: Path) -> None:
    path, token = tmp_path / "p.toml", tmp_path / "token"
    path.write_text(f"[api]\ntoken_file = '{token}'\n")
    with pytest.raises(ConfigError, match=r"api\.token_file: can't read .*token': No such file"):
        load(path)
    token.write_text("")
    with pytest.raises(ConfigError, match=r"api\.token_file: .*token': expected one token"):
        load(path)
    token.write_text("t")
    assert load(path).api is not None


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=8), st.booleans()), max_size=4))
def test_any_keys_give_a_config_or_a_config_error(table: dict[str, object]) -> None:
    from agent.toml_lines import toml

    text = "[dns]\n" + "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())
    try:
        config: Config | None = load_text(text, "f.toml")
        said = ""
    except ConfigError as error:
        config, said = None, str(error)
    assert (config is None) == bool(said)
    assert "not TOML" not in said
    assert all(line.startswith("f.toml: dns.") for line in said.split("\n") if said)
