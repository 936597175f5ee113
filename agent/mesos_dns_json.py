"""mesos-dns' JSON configuration as mesos-dns (v0.7) reads it: its keys, types, defaults and manners.

Names count in any case, the last of two equal names wins, unknown ones are skipped, null leaves a
default (and empties a list), a number with a fraction is no whole number.
"""

from __future__ import annotations

import json
from typing import Any

from agent.config import ConfigError
from mesos_dns.toml_tables import Problem

_INT32, _UINT32 = (-(1 << 31), (1 << 31) - 1), (0, (1 << 32) - 1)
_ANY_INT = (-(1 << 63), (1 << 63) - 1)

DEFAULTS: dict[str, Any] = {
    "Zk": "",
    "Masters": [],
    "ZkDetectionTimeout": 30,
    "RefreshSeconds": 60,
    "StateTimeoutSeconds": 300,
    "TTL": 60,
    "SRVRecordDefaultWeight": 1,
    "Domain": "mesos",
    "Port": 53,
    "Listener": "0.0.0.0",  # noqa: S104 - its default, not ours
    "HttpPort": 8123,
    "HTTPListener": "0.0.0.0",  # noqa: S104 - as above
    "DnsOn": True,
    "HttpOn": True,
    "ExternalOn": True,
    "RecurseOn": True,
    "EnumerationOn": True,
    "SetTruncateBit": True,
    "EnforceRFC952": False,
    "IPSources": ["netinfo", "mesos", "host"],
    "Resolvers": ["8.8.8.8"],
    "ZoneResolvers": {},
    "Timeout": 5,
    "SOAMname": "ns1.mesos",
    "SOARname": "root.ns1.mesos",
    "SOASerial": 0,
    "SOARefresh": 60,
    "SOARetry": 600,
    "SOAExpire": 86400,
    "SOAMinttl": 60,
    "MesosHTTPSOn": False,
    "CACertFile": "",
    "CertFile": "",
    "KeyFile": "",
    "MesosAuthentication": "",
    "MesosCredentials": {"Principal": "", "Secret": ""},
    "IAMConfigFile": "",
    "File": "",
    "ReverseDnsOn": True,
    "ResolvSubnetFirst": False,
}
"""Every key of mesos-dns (the last two are its fork's) and its default, which also tells its type."""

_LIMITS = {"TTL": _INT32} | dict.fromkeys(("SOASerial", "SOARefresh", "SOARetry", "SOAExpire", "SOAMinttl"), _UINT32)
_KEYS = {key.lower(): key for key in DEFAULTS}


def read(raw: bytes, name: str, warnings: list[Problem]) -> dict[str, Any]:
    """The keys that the file has, under their canonical names, checked for type.

    Adds skipped and repeated keys to `warnings`. Raises ConfigError naming file and key.
    """
    try:
        document = json.loads(raw.decode(), object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ConfigError(name, [Problem("", "not a configuration: nested too deep")]) from error
    except ValueError as error:
        raise ConfigError(name, [Problem("", f"not JSON: {error}")]) from error
    if not isinstance(document, _Pairs):
        raise ConfigError(name, [Problem("", f"expected a JSON object, got {_kind(document)}")])
    given: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in document.pairs:
        canonical = _KEYS.get(key.lower())
        if canonical is None:
            warnings.append(Problem(key, "unknown key, skipped (mesos-dns skips it too)"))
            continue
        if canonical in given:
            warnings.append(Problem(key, f"{canonical} is given again (case does not matter); the last one counts"))
        try:
            if (typed := _typed(canonical, value)) is not None:
                given[canonical] = typed
        except ValueError as error:
            problems.append(Problem(canonical, str(error)))
    if problems:
        raise ConfigError(name, problems)
    return given


class _Pairs:
    """A JSON object with its names in order, repeated ones included."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _kind(value: object) -> str:
    kinds = {_Pairs: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    kinds[float] = "a number with a fraction"
    return kinds.get(type(value), "a number")


def _typed(key: str, value: Any) -> Any:
    """`value` as the type of `key`; None where it leaves the default. Raises ValueError."""
    default = DEFAULTS[key]
    if isinstance(default, bool):
        return _expect(value, bool, "true or false")
    if isinstance(default, int):
        low, high = _LIMITS.get(key, _ANY_INT)
        number = _expect(value, int, "a whole number")
        if number is not None and not low <= number <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {number}")
        return number
    if isinstance(default, list):
        return [] if value is None else _texts(value)
    if key == "ZoneResolvers":
        return {} if value is None else {zone: _texts(servers) for zone, servers in _expect_object(value)}
    if key == "MesosCredentials":
        return None if value is None else _credentials(_expect_object(value))
    return _expect(value, str, "a text")


def _expect(value: Any, kind: type, expected: str) -> Any:
    if value is not None and type(value) is not kind:
        raise ValueError(f"expected {expected}, got {_kind(value)}")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of texts, got {'other items' if isinstance(value, list) else _kind(value)}")
    return value


def _expect_object(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, _Pairs):
        raise ValueError(f"expected an object, got {_kind(value)}")
    return value.pairs


def _credentials(pairs: list[tuple[str, Any]]) -> dict[str, str]:
    found = dict(DEFAULTS["MesosCredentials"])
    names = {key.lower(): key for key in found}
    for key, value in pairs:
        if key.lower() in names and _expect(value, str, f"{key} as a text") is not None:
            found[names[key.lower()]] = value
    return found
