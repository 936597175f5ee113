"""What happens to a request under a route table, and why: in plain Python, for people and as a measure of the edge.

The listener says what names the host, the host has three lists of rules, and of each list the first counts whose path
matches (lb7/table.py). `explain` asks the same at every listener that goes by hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

import msgspec

from lb7.allowed import Allowed
from lb7.claims import names_above
from lb7.paths import begins, matched_path, matched_prefix, path_forms
from lb7.table import AuthRule, Cluster, HostRules, Listener, Paths, RedirectRule, RouteRule, RouteTable

Action: TypeAlias = Literal["proxy", "redirect", "auth", "deny", "reset", "unavailable", "ambiguous"]
"""What is done: sent to a server; sent elsewhere (301); asked for a password (401); refused (403, on TCP a reset);
nobody to send it to (503; on TCP a reset); refused for a path of several meanings (400)."""

Passes: TypeAlias = Callable[[AuthRule], bool]
"""Whether a request's password is right for a rule."""

_Rule = TypeVar("_Rule", AuthRule, RedirectRule, RouteRule)


class Request(msgspec.Struct, frozen=True):
    """What rules look at. `path` is without its query; `target` with it ("": the path). "" means that there is none."""

    host: str = ""
    path: str = "/"
    target: str = ""
    sni: str = ""
    app_id: str = ""
    client: str = ""


class Resolution(msgspec.Struct, frozen=True):
    """What happens, by which listener. `host` is the rule's ("" for others, None: there is no rule), `cluster` and
    `servers` who may serve it; `steps` say why, a sentence each."""

    listener: str
    action: Action
    host: str | None = None
    location: str = ""
    realm: str = ""
    cluster: str = ""
    servers: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def nobody(_: AuthRule) -> bool:
    """No password was sent."""
    return False


def listeners_at(table: RouteTable, port: int, address: str = "") -> list[Listener]:
    """Who accepts a connection to this port (and address of this machine); several share them. Whoever listens at that
    address alone goes before those that listen at all."""
    found: list[Listener] = []
    exactly: list[Listener] = []
    for listener in table.listeners.values():
        for text in listener.addresses:
            host, _, number = text.rpartition(":")
            anywhere = host in ("", "*", "0.0.0.0", "[::]")  # noqa: S104
            is_address = bool(address) and host.strip("[]") == address
            if number == str(port) and (anywhere or not address or is_address):
                (exactly if is_address else found).append(listener)
                break
    return exactly or found


def resolve(
    table: RouteTable, listener: Listener, request: Request, *, compat: bool = False, passes: Passes = nobody
) -> Resolution:
    """What the listener does with the request."""
    if listener.mode == "tcp":
        return _serve(table, listener, table.clusters.get(listener.cluster), request, None, ["every connection"])
    asked = _asked(listener, request)
    host = find_host(table, listener.table, asked, exact=compat, exact_case=compat and listener.by == "sni")
    if host is None:
        step = f"no rule for {asked!r} in {listener.table}"
        return Resolution(listener.name, "unavailable", steps=(step,))
    rules = table.hosts[listener.table, host]
    steps = [f"{asked!r} goes by {host or 'all others'!r} in {listener.table}"]
    path = request.path or "/"
    if not compat and _is_ambiguous(rules, path):
        steps.append(f"{path!r} can be read in several ways, and who may pass depends on it")
        return Resolution(listener.name, "ambiguous", host, steps=tuple(steps))
    auth = first(rules.auth, path, compat)
    if auth is not None and auth.users:
        steps.append(f"auth {_which(rules.auth, auth)}: a password for {auth.realm!r}")
        if not passes(auth):
            return Resolution(listener.name, "auth", host, realm=auth.realm, steps=tuple(steps))
    redirect = first(rules.redirects, path, compat)
    if redirect is not None and (redirect.https or redirect.location):
        location = f"https://{_name(request.host)}{request.target or path}" if redirect.https else redirect.location
        steps.append(f"redirect {_which(rules.redirects, redirect)}: to {location}")
        return Resolution(listener.name, "redirect", host, location=location, steps=tuple(steps))
    route = first(rules.routes, path, compat)
    if route is None:
        steps.append(f"no route for {path!r}")
        return Resolution(listener.name, "unavailable", host, steps=tuple(steps))
    steps.append(f"route {_which(rules.routes, route)}: to {route.cluster}")
    return _serve(table, listener, table.clusters.get(route.cluster), request, host, steps)


def explain(table: RouteTable, host: str, path: str = "/", *, compat: bool = False) -> list[Resolution]:
    """What each listener that goes by hosts does with a request for host and path; no password is given, so where one
    is asked for, that is what is told."""
    request = Request(host=host, path=path, sni=_name(host))
    by_host = ("host", "host_port", "sni")
    common = [listener for listener in table.listeners.values() if listener.by in by_host]
    return [resolve(table, listener, request, compat=compat) for listener in common]


def find_host(table: RouteTable, name: str, asked: str, *, exact: bool, exact_case: bool = False) -> str | None:
    """The host of a table whose rules count: the name; the longest wildcard that it is below; "NAME:" (see
    lb7/table.py); all others. `exact`: a port and a last dot belong to the name; `exact_case`: its case counts."""
    hosts = table.hosts
    lower = asked.lower()
    bare = lower if exact else _name(lower).removesuffix(".")
    if bare and not (exact_case and asked != lower):
        for candidate in (bare, *names_above(bare)[:-1]):
            if (name, candidate) in hosts:
                return candidate
    if exact and bare and (name, f"{lower.partition(':')[0]}:") in hosts:
        return f"{lower.partition(':')[0]}:"
    return "" if (name, "") in hosts else None


def first(rules: Sequence[_Rule], path: str, exact: bool) -> _Rule | None:
    """The first rule that matches a path; `exact`: as it stands."""
    form = path if exact else matched_path(path)
    for rule in rules:
        only = getattr(rule, "only_path", "")
        if only and form != (only if exact else matched_path(only)):
            continue
        if _matches(rule.paths, form, exact):
            return rule
    return None


def _matches(paths: Paths, form: str, exact: bool) -> bool:
    return not paths or any(begins(form, prefix if exact else matched_prefix(prefix)) for prefix in paths)


def _is_ambiguous(rules: HostRules, path: str) -> bool:
    """Whether who may pass depends on how a server reads the path (lb7/paths.py)."""
    if not any(rule.paths for rule in rules.auth):
        return False
    forms = path_forms(path)
    by_literal = next(
        (rule for rule in rules.auth if _matches(rule.paths, forms.literal, exact=False)),
        None,
    )
    return forms.dots or by_literal is not first(rules.auth, path, exact=False)


def _asked(listener: Listener, request: Request) -> str:
    by: Mapping[str, str] = {"sni": request.sni, "app_id": request.app_id, "none": ""}
    return by.get(listener.by, request.host)


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and (port.isdecimal() or not port) else host


def _which(rules: Sequence[_Rule], rule: _Rule) -> str:
    number = next(number for number, other in enumerate(rules, 1) if other is rule)
    paths = " ".join(
        f"{prefix.prefix}{'' if prefix.whole else '…'}{' (any case)' if prefix.ignore_case else ''}"
        for prefix in rule.paths
    )
    return f"{number} of {len(rules)} ({getattr(rule, 'only_path', '') or paths or 'every path'})"


def _serve(
    table: RouteTable,
    listener: Listener,
    cluster: Cluster | None,
    request: Request,
    host: str | None,
    steps: list[str],
) -> Resolution:
    tcp = listener.mode == "tcp"
    if cluster is None:
        return Resolution(listener.name, "unavailable", host, steps=(*steps, "the cluster does not exist"))
    found = Resolution(listener.name, "proxy", host, cluster=cluster.name)
    if cluster.allow and request.client and not Allowed(cluster.allow).contains(request.client):
        steps.append(f"{request.client} is in none of {', '.join(cluster.allow)}")
        return msgspec.structs.replace(found, action="reset" if tcp else "deny", steps=tuple(steps))
    root = not tcp and cluster.root_redirect and (request.path or "/") == "/"
    if root and (not cluster.root_redirect_hosts or request.host.lower() in cluster.root_redirect_hosts):
        steps.append(f"{cluster.name} sends / on to {cluster.root_redirect}")
        return msgspec.structs.replace(
            found, action="redirect", location=cluster.root_redirect, cluster="", steps=tuple(steps)
        )
    servers = tuple([server.id for server in cluster.servers if not server.draining and not server.down])
    if not servers:
        steps.append("it has no server")
        return msgspec.structs.replace(found, action="reset" if tcp else "unavailable", steps=tuple(steps))
    return msgspec.structs.replace(found, servers=servers, steps=tuple(steps))
