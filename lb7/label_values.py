"""The values of labels: how each kind of text is read. All raise ValueError with what was expected."""

from __future__ import annotations

import ipaddress
import re
import shlex
from functools import lru_cache

from lb7.config import Balance
from lb7.table import AuthRule, PathPrefix, Paths

MAX_VALUE = 4096
"""Characters of a value that is looked at; a longer one is refused."""

MAX_LABEL = 1 << 14
"""Characters of any label, lists and templates too."""

MOST_LABELS, MOST_TEXT = 1000, 1 << 17
"""Labels of one app, and characters of all of them; with more, nothing of it is routed."""

MOST_PORTS = 200
"""Ports of one app that are routed."""

MOST_ITEMS, MOST_ITEMS_OF_APP = 1000, 5000
"""Hosts, or networks, of one label; both of all ports of an app."""

MOST_ROUTES = 10_000
"""Hosts times paths of all ports of an app."""

NOBODY = "0.0.0.0/32"
"""A network without clients."""

_TRUE = frozenset({"true", "t", "yes", "y"})
_FALSE = frozenset({"false", "f", "no", "n", ""})
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_ADDRESS_HOST = re.compile(r"\[[0-9a-f:.]{2,45}\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VISIBLE = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")
_BALANCE: dict[str, Balance] = {
    "roundrobin": "roundrobin",
    "static-rr": "roundrobin",
    "leastconn": "leastconn",
    "first": "first",
    "source": "source",
    "random": "random",
    "p2c": "p2c",
}
_RANDOM_OF = re.compile(r"random\([0-9]+\)")


def read_boolean(text: str) -> bool:
    """True for true, t, yes and y, as marathon-lb has it. What is neither that nor a no raises."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"expected true or false, got {short(text)}")


def read_number(text: str, low: int, high: int) -> int:
    """A decimal number in a range, both ends included."""
    try:
        number = int(text, 10) if len(text) <= 20 else low - 1
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise ValueError(f"expected a number from {low} to {high}, got {short(text)}")
    return number


def read_field(text: str) -> str:
    """Something that will stand in a header: visible ASCII, blanks only inside (RFC 9110 §5.5)."""
    if len(text) > MAX_VALUE or not _VISIBLE.fullmatch(text):
        raise ValueError(f"expected visible ASCII, got {short(text)}")
    return text


def read_uri_path(text: str) -> str:
    """A path, or a whole URL: no blanks."""
    if " " in read_field(text):
        raise ValueError(f"expected a path without blanks, got {short(text)}")
    return text


@lru_cache(maxsize=1 << 14)
def read_host(text: str) -> str:
    """A virtual host, lower-cased, without port and last dot; "*.example.com" is any name below, "*" any name at all,
    which is "" here."""
    name = text.strip().lower()
    if name == "*":
        return ""
    bare, colon, port = name.rpartition(":")
    if colon and port.isdecimal() and not name.endswith("]"):
        name = bare
    name = name.removesuffix(".")
    if not _HOST.fullmatch(name) and not _ADDRESS_HOST.fullmatch(name):
        raise ValueError(f"expected a host's name, got {short(text)}")
    return name


def words_of(text: str) -> list[str]:
    """The words of a value as HAProxy splits a line: quotes, backslashes, and `#` before a comment."""
    if len(text) > MAX_VALUE:
        raise ValueError(f"expected at most {MAX_VALUE} characters, got {short(text)}")
    try:
        return shlex.split(text, comments=True)
    except ValueError as error:
        raise ValueError(f"{error}: {short(text)}") from None


def split_flags(words: list[str]) -> tuple[bool, list[str]]:
    """Whether case is ignored (`-i`), and the patterns. Other flags of HAProxy's ACLs raise."""
    ignore_case = False
    for number, word in enumerate(words):
        if word == "--":
            return ignore_case, words[number + 1 :]
        if not word.startswith("-"):
            return ignore_case, words[number:]
        if word != "-i":
            raise ValueError(f"the flag {short(word)} has no meaning here")
        ignore_case = True
    return ignore_case, []


def literal_prefixes(text: str) -> Paths:
    """The paths of HAPROXY_n_PATH as marathon-lb compares them: by their plain beginnings."""
    ignore_case, patterns = split_flags(words_of(text))
    return tuple(PathPrefix(pattern, ignore_case, whole=False) for pattern in dict.fromkeys(patterns))


def segment_prefix(pattern: str, ignore_case: bool) -> PathPrefix:
    """One path as safe rules compare it: by whole segments; "/" is the prefix of all."""
    if not pattern.startswith("/") or "?" in pattern or _CONTROL.search(pattern):
        raise ValueError(f"expected a path that begins with '/', got {short(pattern)}")
    return PathPrefix(pattern.rstrip("/"), ignore_case)


@lru_cache(maxsize=4096)
def read_auth(text: str) -> AuthRule:
    """`realm:user:crypt-hash`; the rule is for any path."""
    parts = text.split(":")
    if len(parts) != 3 or len(text) > MAX_VALUE or _CONTROL.search(text):
        raise ValueError("expected realm:user:hash, three parts")
    realm, user, password = parts
    if not user or not password:
        raise ValueError("expected realm:user:hash, got no user or no hash")
    return AuthRule(realm=realm or "Restricted", users=((user, password),))


@lru_cache(maxsize=4096)
def read_network(text: str) -> str:
    """A network or one address, in its normal form."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"expected an address or a network, got {short(text)}") from None


def read_balance(text: str) -> Balance:
    """An algorithm of HAProxy's that is one of ours, or ours by its own name."""
    word = text.strip().lower()
    if _RANDOM_OF.fullmatch(word):
        return "random"
    if word not in _BALANCE:
        raise ValueError(f"expected one of {', '.join(_BALANCE)}, got {short(text)}")
    return _BALANCE[word]


def read_bind_address(text: str) -> str:
    """An address that can be listened on, IPv6 in brackets; "" for `*`."""
    name = text.strip()
    for family in ("ipv4@", "ipv6@"):
        name = name.removeprefix(family)
    if name in ("*", ""):
        return ""
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"expected an address, got {short(text)}") from None
    if address.version == 6:
        mapped = address.ipv4_mapped
        return f"[{address}]" if mapped is None else str(mapped)
    return str(address)


def short(text: str) -> str:
    """A text of others for a message."""
    return repr(text if len(text) <= 200 else text[:200] + "…")
