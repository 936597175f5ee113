"""mesos-dns' configuration becomes TOML that means the same."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, ConfigError, load_text
from agent.import_mesos_dns import convert, import_file, system_nameservers
from agent.mesos_dns_json import DEFAULTS

MASTERS = ["10.0.0.2:5050", "10.0.0.1:5050"]


def imported(**keys: Any) -> tuple[Config, list[str], str]:
    """The configuration, the warnings and the TOML of a mesos-dns configuration with two masters."""
    result = convert(json.dumps({"Masters": MASTERS, **keys}).encode(), "config.json", lambda: ["9.9.9.9", "fd00::9"])
    return load_text(result.toml, "pharos.toml"), [str(warning) for warning in result.warnings], result.toml


def value(path: str, **keys: Any) -> Any:
    section, key = path.split(".")
    return getattr(getattr(imported(**keys)[0], section), key)


def test_defaults_are_those_of_mesos_dns() -> None:
    config, warnings, _ = imported()
    assert warnings == []
    assert config.mesos is not None
    assert config.dns is not None
    assert config.api is not None
    assert config.admin is None
    assert config.mesos.masters == tuple(MASTERS)
    assert (config.mesos.poll, config.mesos.timeout, config.mesos.auth) == (60, 300, "none")
    assert config.dns.listen == ("0.0.0.0:53",)
    assert (config.dns.domain, config.dns.ttl, config.dns.srv_weight) == ("mesos", 60, 1)
    assert (config.dns.forward, config.dns.zones, config.dns.forward_timeout) == (("8.8.8.8",), {}, 5)
    assert config.dns.ip_sources == ("netinfo", "mesos", "host")
    assert (config.dns.health, config.dns.directory) == ("ignore", "")
    assert (config.dns.enforce_rfc952, config.dns.recursion) == (False, True)
    assert (config.dns.soa_mname, config.dns.soa_rname) == ("ns1.mesos", "root.ns1.mesos")
    assert (config.dns.soa_refresh, config.dns.soa_retry, config.dns.soa_expire) == (60, 600, 86400)
    assert config.dns.soa_minttl is None
    assert config.api.listen == ("0.0.0.0:8123",)
    assert config.api.enumeration


@pytest.mark.parametrize(
    ("keys", "path", "expected"),
    [
        ({"Masters": ["m2:5050", "m1:5050"]}, "mesos.masters", ("m2:5050", "m1:5050")),
        ({"Zk": "zk://z:2181/mesos"}, "mesos.zk", "zk://z:2181/mesos"),
        ({"RefreshSeconds": 7}, "mesos.poll", 7),
        ({"StateTimeoutSeconds": 8}, "mesos.timeout", 8),
        ({"StateTimeoutSeconds": 0}, "mesos.timeout", 300),
        ({"TTL": 9}, "dns.ttl", 9),
        ({"SRVRecordDefaultWeight": 3}, "dns.srv_weight", 3),
        ({"Domain": "Prod.Example"}, "dns.domain", "prod.example"),
        ({"Port": 5353}, "dns.listen", ("0.0.0.0:5353",)),
        ({"Listener": "10.0.0.9"}, "dns.listen", ("10.0.0.9:53",)),
        ({"Listener": "::1"}, "dns.listen", ("[::1]:53",)),
        ({"Listener": ""}, "dns.listen", (":53",)),
        ({"HttpPort": 80}, "api.listen", ("0.0.0.0:80",)),
        ({"HTTPListener": "10.0.0.9"}, "api.listen", ("10.0.0.9:8123",)),
        ({"EnumerationOn": False}, "api.enumeration", False),
        ({"EnforceRFC952": True}, "dns.enforce_rfc952", True),
        ({"IPSources": ["docker", "host"]}, "dns.ip_sources", ("docker", "host")),
        ({"RecurseOn": False}, "dns.recursion", False),
        ({"ExternalOn": False}, "dns.forward", ()),
        ({"Resolvers": ["10.0.0.3", "10.0.0.4:54"]}, "dns.forward", ("10.0.0.3", "10.0.0.4:54")),
        ({"Resolvers": []}, "dns.forward", ("9.9.9.9", "fd00::9")),
        ({"ZoneResolvers": {"Corp.Example.": ["10.0.0.5"]}}, "dns.zones", {"corp.example": ("10.0.0.5",)}),
        ({"ExternalOn": False, "ZoneResolvers": {"a": ["10.0.0.5"]}}, "dns.zones", {"a": ("10.0.0.5",)}),
        ({"Timeout": 2}, "dns.forward_timeout", 2),
        ({"Timeout": 0}, "dns.forward_timeout", 5),
        ({"SOAMname": "dns.mesos."}, "dns.soa_mname", "dns.mesos"),
        ({"SOARname": "root@dns.mesos."}, "dns.soa_rname", "root.dns.mesos"),
        ({"Domain": "prod"}, "dns.soa_mname", "ns1.mesos"),
        ({"SOARefresh": 1}, "dns.soa_refresh", 1),
        ({"SOARetry": 2}, "dns.soa_retry", 2),
        ({"SOAExpire": 3}, "dns.soa_expire", 3),
        ({"SOAMinttl": 4}, "dns.soa_minttl", None),
        ({"SOASerial": 5}, "dns.soa_minttl", None),
        ({"MesosHTTPSOn": True, "CACertFile": "/ca"}, "mesos.masters", tuple(f"https://{m}" for m in MASTERS)),
        ({"CACertFile": "/ca"}, "mesos.ca_file", "/ca"),
        ({"CertFile": "/c", "KeyFile": "/k"}, "mesos.cert_file", "/c"),
        ({"CertFile": "/c", "KeyFile": "/k"}, "mesos.key_file", "/k"),
        ({"MesosAuthentication": "iam", "IAMConfigFile": "/i"}, "mesos.auth", "iam"),
        ({"MesosAuthentication": "iam", "IAMConfigFile": "/i"}, "mesos.iam_config_file", "/i"),
        ({"File": "/etc/x"}, "dns.ttl", 60),
        ({"SetTruncateBit": True, "ReverseDnsOn": True, "ResolvSubnetFirst": False}, "dns.ttl", 60),
    ],
)
def test_a_key_is_carried(keys: dict[str, Any], path: str, expected: object) -> None:
    assert value(path, **keys) == expected


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"ZkDetectionTimeout": 30}, "ZkDetectionTimeout", "never exits"),
        ({"SetTruncateBit": False}, "SetTruncateBit", "RFC 2181"),
        ({"ReverseDnsOn": False}, "ReverseDnsOn", "always answered"),
        ({"ResolvSubnetFirst": True}, "ResolvSubnetFirst", "no equivalent"),
        ({"StateTimeoutSeconds": 0}, "StateTimeoutSeconds", "300 s"),
        ({"MesosHTTPSOn": True}, "CACertFile", "tls_verify = false"),
        (
            {"MesosAuthentication": "basic", "MesosCredentials": {"Principal": "p", "Secret": "s"}},
            "MesosCredentials",
            "mode 0600 (secret_file)",
        ),
        ({"MesosCredentials": {"Principal": "p"}}, "MesosCredentials", "not carried over"),
        ({"ZoneResolvers": {"a": ["10.0.0.1"], "A.": ["10.0.0.2"]}}, "ZoneResolvers", "the last one counts"),
    ],
)
def test_what_has_no_equivalent_is_a_comment_and_a_warning(keys: dict[str, Any], key: str, words: str) -> None:
    _, warnings, toml = imported(**keys)
    [warning] = warnings
    assert warning.startswith(f"{key}: ")
    assert words in warning
    assert f"# {warning}\n" in toml


def test_every_key_of_mesos_dns_is_named_in_these_tests() -> None:
    source = Path(__file__).read_text()
    assert not [key for key in DEFAULTS if f'"{key}"' not in source]


def test_basic_credentials() -> None:
    keys = {"MesosAuthentication": "basic", "MesosCredentials": {"Principal": "p", "Secret": 's"\\\x7f\n'}}
    config, _, _ = imported(**keys)
    assert config.mesos is not None
    assert (config.mesos.auth, config.mesos.principal, config.mesos.secret) == ("basic", "p", 's"\\\x7f\n')


def test_https_without_authorities_stays_verified() -> None:
    assert value("mesos.tls_verify", MesosHTTPSOn=True) is True


def test_an_api_that_is_off_is_left_out_and_says_why() -> None:
    config, warnings, toml = imported(HttpOn=False)
    assert config.api is None
    assert warnings == []
    assert "# HttpOn is false: no [api] section" in toml


def test_dns_that_is_off_still_shapes_what_the_api_says() -> None:
    config, warnings, _ = imported(DnsOn=False, Domain="prod", TTL=5)
    assert warnings == []
    assert config.dns is not None
    assert (config.dns.listen, config.dns.domain, config.dns.ttl) == ((), "prod", 5)


def test_no_other_resolver_on_this_machine() -> None:
    result = convert(json.dumps({"Masters": MASTERS, "Resolvers": []}).encode(), "config.json", list)
    config = load_text(result.toml, "pharos.toml")
    assert config.dns is not None
    assert config.dns.forward == ()
    assert [warning.path for warning in result.warnings] == ["Resolvers"]


def test_soa_minimum_is_the_ttl_as_in_mesos_dns() -> None:
    assert "soa_minttl = 5 would announce it" in imported(SOAMinttl=5)[2]
    assert "soa_minttl" not in imported(TTL=5, SOAMinttl=5)[2]


@pytest.mark.parametrize(("secure", "scheme"), [(False, "http"), (True, "https")])
def test_zk_alone_is_enough(secure: bool, scheme: str) -> None:
    config = {"Zk": "zk://z:2181/mesos", "MesosHTTPSOn": secure, "CACertFile": "/ca.pem"}
    result = convert(json.dumps(config).encode(), "config.json")
    assert not result.warnings
    mesos = load_text(result.toml, "pharos.toml").mesos
    assert mesos is not None
    assert (mesos.zk, mesos.masters, mesos.scheme) == ("zk://z:2181/mesos", (), scheme)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"Masters": []}, "Masters: expected Masters or Zk"),
        ({"Masters": ["m"]}, "Masters: expected HOST:PORT"),
        ({"Masters": ["m:1", "m:1"]}, "Masters: 'm:1' is listed twice"),
        ({"Zk": "z:2181"}, "Zk: expected zk://"),
        ({"DnsOn": False, "HttpOn": False}, "DnsOn: expected DnsOn or HttpOn"),
        ({"RefreshSeconds": 0}, "RefreshSeconds: expected at least 1"),
        ({"TTL": -1}, "TTL: expected `int` >= 0, got -1"),
        ({"Port": 70000}, "Listener, Port: expected IP:PORT"),
        ({"Listener": "dns.example"}, "Listener, Port: expected IP:PORT"),
        ({"Domain": "a..b"}, "Domain: expected a DNS name"),
        ({"Resolvers": ["dns.example"]}, "Resolvers: expected IP or IP:PORT"),
        ({"ZoneResolvers": {"x.mesos": ["10.0.0.1"]}}, "ZoneResolvers: lies in domain 'mesos'"),
        ({"ZoneResolvers": {"x": []}}, "ZoneResolvers: expected at least one"),
        ({"IPSources": []}, "IPSources: expected `array` of length >= 1"),
        ({"IPSources": ["other"]}, "IPSources: expected one of"),
        ({"CertFile": "/c"}, "KeyFile: cert_file is set"),
        ({"MesosAuthentication": "other"}, "MesosAuthentication: expected one of"),
        ({"MesosAuthentication": "basic"}, "MesosCredentials: "),
        ({"MesosAuthentication": "iam"}, "IAMConfigFile: "),
    ],
)
def test_refused_under_the_name_it_has_in_the_file(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(**keys)
    assert str(caught.value).startswith(f"config.json: {expected}")


def test_nothing_from_the_file_escapes_its_comment() -> None:
    _, _, toml = imported(**{"x\n[api]\nlisten": 1})
    assert tomllib.loads(toml)["api"]["listen"] == ["0.0.0.0:8123"]


@given(st.text(), st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=2), max_size=2))
def test_any_texts_give_toml_or_an_error(text: str, zones: dict[str, list[str]]) -> None:
    keys = {"Masters": MASTERS, "IAMConfigFile": text, "CACertFile": text, "Zk": "zk://" + text, "ZoneResolvers": zones}
    try:
        result = convert(json.dumps(keys).encode(), "config.json")
    except ConfigError as error:
        said = str(error)
        assert "not TOML" not in said
        return
    config = load_text(result.toml, "pharos.toml")
    assert config.mesos is not None
    assert (config.mesos.iam_config_file, config.mesos.zk) == (text, "zk://" + text)


def test_nameservers_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 1.1.1.1\nsearch x\nnameserver 127.0.0.1\nnameserver 127.0.0.53\nnameserver ::1\n"
        "nameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver\nnameserver 2001:db8::1 x\n"
    )
    assert system_nameservers(path) == ["127.0.0.53", "192.0.2.1", "2001:db8::1"]
    assert system_nameservers(tmp_path / "absent") == []


def test_import_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="can't read the file: No such file"):
        import_file(path)
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than"):
        import_file(path)
    path.write_text('{"masters": ["m:5050"]}')
    assert 'masters = ["m:5050"]  # Masters\n' in import_file(path).toml
    assert import_file(path) == import_file(path)


def test_recorded_configurations(truth: Path) -> None:
    paths = sorted([*truth.glob("mesos-dns/*/config.json"), *truth.glob("upstream/mesos-dns/*/config.json")])
    assert paths
    for path in paths:
        keys = json.loads(path.read_text())
        config = load_text(import_file(path).toml, "pharos.toml")
        assert config.mesos is not None
        assert config.mesos.masters == tuple(keys["Masters"])
        assert config.dns is not None
        assert config.dns.listen == (f"{keys['Listener']}:{keys['Port']}",)
        assert config.dns.forward == (tuple(keys["Resolvers"]) if keys.get("ExternalOn", True) else ())
        assert config.dns.zones == {zone: tuple(ips) for zone, ips in keys.get("ZoneResolvers", {}).items()}
        assert config.dns.ip_sources == tuple(keys.get("IPSources", DEFAULTS["IPSources"]))
        assert config.dns.soa_mname == keys.get("SOAMname", "ns1.mesos")
        assert config.api is not None
        assert config.api.listen == (f"{keys['HTTPListener']}:{keys['HttpPort']}",)
        assert config.api.enumeration == keys.get("EnumerationOn", True)
