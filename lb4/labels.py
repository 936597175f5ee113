"""VIP labels: what a framework writes on a port or a task to give it a virtual address.

On a discovery port, a label whose key begins with `VIP` or `vip` (not `Vip`) and whose value is `name:port` or
`address:port`; on a task, a label `vip_port<N>` (in any case) with the value `tcp://name:port` or `udp://…`, N being
the place of a port in the task's resources. The rules are dcos-net's, but for what is unsafe or surprising there:

- a port is 1..65535 (dcos-net: any number above 0);
- an address may stand in brackets (dcos-net makes a name of `[fd01:c::5]`);
- addresses that can't be virtual are refused: loopback, link-local, multicast, broadcast, unspecified;
- two labels that give one DNS name are one VIP (dcos-net: `/abc` and `abc` are two with the same name);
- a label that gives no legal DNS name is refused, also one whose name would read as an address.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from lb4.vip import VipKey
from mesos_dns.model import Labels, canonical_address
from mesos_dns.names import domain_fragment
from mesos_dns.records import fold, legal_owner
from mesos_dns.wire import name_to_wire

PROTOCOLS = ("tcp", "udp")
MAX_LABEL = 1024
"""Characters of a label's value that are looked at; a longer one is refused."""

_ROOM = 255 - len(name_to_wire("l4lb.thisdcos.directory")) + 1
_TASK_LABEL = re.compile(r"vip_port([0-9]+)", re.IGNORECASE | re.ASCII)
_PORT_KEYS = frozenset(("VIP", "vip"))
_TASK_KEYS = frozenset("".join(letters) + "_" for letters in product("vV", "iI", "pP"))
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class BadLabel(ValueError):
    """What can't be read as a VIP. `reason` is one of a few words, for counters; the text says what is wrong."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class TaskLabel(NamedTuple):
    """A task's own VIP label: the place of the port in the task's resources, its protocol, and `name:port`."""

    nth: int
    protocol: str
    value: str


def vip_labels(port_labels: Labels) -> list[str]:
    """The values of those labels of a discovery port that ask for a VIP."""
    return [value for key, value in port_labels if key[:3] in _PORT_KEYS]


def may_ask(task_labels: Labels) -> bool:
    """False when none of a task's own labels asks for a VIP: a quick look, which may be wrong about True."""
    return any(key[:4] in _TASK_KEYS and key[:8].lower() == "vip_port" for key, _ in task_labels)


def task_labels(labels: Labels) -> Labels:
    """Those of a task's own labels that ask for a VIP."""
    return tuple([label for label in labels if label[0][:4] in _TASK_KEYS and _TASK_LABEL.fullmatch(label[0])])


def task_label(key: str, value: str) -> TaskLabel:
    """One of a task's own VIP labels. Raises BadLabel."""
    match = _TASK_LABEL.fullmatch(key)
    if match is None or len(match[1]) > 5:
        raise BadLabel("index", f"{_short(key)} names no port of a task")
    protocol, separator, rest = value.partition("://")
    if not separator:
        raise BadLabel("form", f"{_short(value)} is not protocol://name:port")
    return TaskLabel(int(match[1]), protocol_of(protocol), rest)


def protocol_of(text: str) -> str:
    """ "tcp" or "udp". Raises BadLabel."""
    if text in PROTOCOLS:
        return text
    if (lower := text.lower()) in PROTOCOLS:
        return lower
    raise BadLabel("protocol", f"the protocol is tcp or udp, not {_short(text)}")


def vip_key(value: str, framework: str, protocol: str) -> VipKey:
    """The VIP that a label's value asks for; `framework` is the framework's name, in whose scope names are.

    Raises BadLabel.
    """
    if len(value) > MAX_LABEL:
        raise BadLabel("too-long", f"a label of {len(value)} characters is longer than {MAX_LABEL}")
    return _vip_key(value, framework, protocol_of(protocol))


@lru_cache(maxsize=1 << 13)
def _vip_key(value: str, framework: str, protocol: str) -> VipKey:
    left, colon, right = value.rpartition(":")
    if not colon:
        raise BadLabel("no-port", f"{_short(value)} has no port")
    if not (right.isascii() and right.isdigit() and 0 < int(right) < 65536):
        raise BadLabel("port", f"the port of {_short(value)} is not a number from 1 to 65535")
    bare = left[1:-1] if left[:1] == "[" and left[-1:] == "]" else left
    if address := canonical_address(bare):
        return VipKey(protocol, _usable(address), int(right))
    return VipKey(protocol, _scoped(left, framework), int(right))


def _scoped(label: str, framework: str) -> str:
    """A VIP's name from the two that it is made of, each piece a label as mesos-dns and dcos-net make it."""
    own, scope = domain_fragment(label), domain_fragment(framework)
    if not own:
        raise BadLabel("name", f"nothing is left of {_short(label)} as a DNS name")
    if not scope:
        raise BadLabel("framework", f"nothing is left of the framework's name {_short(framework)} as a DNS name")
    return _legal(f"{own}.{scope}")


def target_name(target: str) -> str:
    """A VIP's name or address as it was configured, in the form that VipKey has. Raises BadLabel.

    Who configures may use an IPv4 link-local address, who writes a label may not: those are known services of clouds.
    """
    address = canonical_address(target)
    if address:
        return _usable(address, link_local=":" not in address)
    name = fold(target[: MAX_LABEL + 1])
    if not name or domain_fragment(name) != name:
        raise BadLabel("name", f"{_short(target)} is neither an address nor a name of labels of letters, digits and -")
    return _legal(name)


def _legal(name: str) -> str:
    if not legal_owner(name, _ROOM):
        raise BadLabel("name", f"{_short(name)} is too long for a DNS name")
    if canonical_address(name):
        raise BadLabel("name", f"the name {name} would read as an address")
    return name


def _usable(address: str, *, link_local: bool = False) -> str:
    """An address that can be made virtual."""
    parsed = ipaddress.ip_address(address)
    if (
        parsed.is_unspecified
        or parsed.is_loopback
        or parsed.is_multicast
        or (parsed.is_link_local and not link_local)
        or parsed == _BROADCAST
        or parsed in _THIS_NETWORK
    ):
        raise BadLabel("address", f"{address} can be no virtual address")
    return address


@lru_cache(maxsize=1 << 14)
def address_family(name: str) -> int:
    """4 or 6 for a VIP whose name is an address, 0 for one whose addresses are allocated."""
    if ":" in name:
        return 6
    return 4 if canonical_address(name) else 0


def _short(text: str) -> str:
    """A text of others for a log line."""
    return repr(text if len(text) <= 200 else text[:200] + "…")
