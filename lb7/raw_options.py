"""HAProxy's own configuration language in labels: the few things in it that have a meaning here.

marathon-lb pastes such labels into its configuration. Nothing of that kind is done here; what people mostly write them
for is understood: weight and connections of servers, the algorithm, the cookie's name, the header value of HSTS, and
names below a host. Whatever else stands there is left.
"""

from __future__ import annotations

import re

import msgspec

from lb7.config import Balance
from lb7.label_values import read_balance, read_field, read_number

_TEMPLATES = """
    FRONTEND_HEAD BACKEND_HEAD USERLIST_HEAD FRONTEND_BACKEND_GLUE BACKEND_REDIRECT_HTTP_TO_HTTPS
    BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH BACKEND_HSTS_OPTIONS BACKEND_HTTP_OPTIONS BACKEND_STICKY_OPTIONS
    BACKEND_SERVER_OPTIONS BACKEND_HTTP_HEALTHCHECK_OPTIONS BACKEND_TCP_HEALTHCHECK_OPTIONS
    BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS HTTP_FRONTEND_ACL
    HTTP_FRONTEND_ACL_ONLY HTTP_FRONTEND_ACL_WITH_AUTH HTTP_FRONTEND_ACL_WITH_PATH
    HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH HTTP_FRONTEND_ACL_ONLY_WITH_PATH HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH
    HTTP_FRONTEND_ROUTING_ONLY HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH
    HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH HTTP_FRONTEND_APPID_ACL HTTPS_FRONTEND_ACL
    HTTPS_FRONTEND_ACL_WITH_AUTH HTTPS_FRONTEND_ACL_WITH_PATH HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH
    HTTPS_FRONTEND_ACL_ONLY_WITH_PATH MAP_HTTP_FRONTEND_ACL MAP_HTTP_FRONTEND_ACL_ONLY MAP_HTTPS_FRONTEND_ACL
    MAP_HTTP_FRONTEND_APPID_ACL HTTP_BACKEND_PROXYPASS_GLUE HTTP_BACKEND_REVPROXY_GLUE
    HTTP_BACKEND_NETWORK_ALLOWED_ACL TCP_BACKEND_NETWORK_ALLOWED_ACL
"""
TEMPLATES = frozenset(_TEMPLATES.split())
"""HAPROXY_n_… labels that marathon-lb takes as text of its configuration."""

_PLACEHOLDER = re.compile(r"\{\{?\w*\}?\}")
_MATCHES_END = re.compile(
    r"acl (\S+) hdr_end\(host\) -i \.?\{hostname\}\n ?use_backend \{backend\} if (?P<same>\S+)\n?"
)
_COOKIE = re.compile(r"cookie (?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) insert(?P<rest>( \w+)*)")
_HSTS = re.compile(
    r"(rspadd|http-response (set|add)-header) Strict-Transport-Security:?\\? (?P<value>.+)", re.IGNORECASE
)
_HARMLESS = frozenset({"indirect", "nocache"})


class RawOptions(msgspec.Struct):
    """What was understood; None or False: nothing said."""

    weight: int | None = None
    max_requests: int | None = None
    balance: Balance | None = None
    cookie: str | None = None
    hsts: str | None = None
    subdomains: bool = False


def read_template(name: str, text: str, into: RawOptions) -> str:
    """Take over what of a label `HAPROXY_n_{name}` is understood; the rest of it ("": nothing is left)."""
    reader = _READERS.get(name)
    return reader(text, into) if reader is not None else " ".join(text.split())[:200]


def _server(text: str, into: RawOptions) -> str:
    """`server {serverName} {host_ipv4}:{port} id {serverId} weight 7{cookieOptions}…`"""
    words = [word for word in _PLACEHOLDER.sub(" ", text).split() if word not in ("server", ":", "id", "check")]
    left = []
    remaining = iter(words)
    for word in remaining:
        value = next(remaining, None) if word in ("weight", "maxconn") else None
        if value is None:
            left.append(word)
            continue
        try:
            if word == "weight":
                into.weight = read_number(value, 0, 256)
            else:
                into.max_requests = read_number(value, 0, 1_000_000)
        except ValueError:
            left += [word, value]
    return " ".join(left)[:200]


def _backend(text: str, into: RawOptions) -> str:
    """`backend {backend}`, `balance leastconn`, `mode {mode}`, a line each."""
    left = []
    for line in (" ".join(line.split()) for line in text.splitlines()):
        if line in ("", "backend {backend}", "mode {mode}", "balance {balance}"):
            continue
        try:
            if not line.startswith("balance "):
                raise ValueError
            into.balance = read_balance(line.removeprefix("balance "))
        except ValueError:
            left.append(line)
    return "; ".join(left)[:200]


def _sticky(text: str, into: RawOptions) -> str:
    """`cookie NAME insert indirect nocache`."""
    line = " ".join(text.split())
    found = _COOKIE.fullmatch(line)
    if found is None:
        return line[:200]
    into.cookie = found["name"]
    return " ".join(word for word in found["rest"].split() if word not in _HARMLESS)


def _hsts(text: str, into: RawOptions) -> str:
    """`rspadd Strict-Transport-Security:\\ max-age=60;\\ includeSubDomains`."""
    line = " ".join(text.split())
    found = _HSTS.fullmatch(line)
    try:
        value = read_field(found["value"].replace("\\", "").strip(" \"'")) if found is not None else ""
    except ValueError:
        value = ""
    if not value:
        return line[:200]
    into.hsts = value
    return ""


def _host_rule(text: str, into: RawOptions) -> str:
    """What marathon-lb's documentation says for names below a host: `hdr_end(host) -i {hostname}`."""
    lines = "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
    found = _MATCHES_END.fullmatch(lines)
    if found is None or found[1] != found["same"]:
        return " ".join(text.split())[:200]
    into.subdomains = True
    return ""


_READERS = {
    "BACKEND_SERVER_OPTIONS": _server,
    "BACKEND_HEAD": _backend,
    "BACKEND_STICKY_OPTIONS": _sticky,
    "BACKEND_HSTS_OPTIONS": _hsts,
    "HTTP_FRONTEND_ACL": _host_rule,
}
