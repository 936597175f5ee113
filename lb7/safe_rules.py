"""The edge's own rules: who serves a host's path, and who may come in, whatever the order of apps.

- A host: its exact name, else the most specific wildcard. Only who asks for that one has paths of it: nobody can fill
  what another's host leaves free by asking for a wildcard.
- A path: the longest prefix that ends where a segment does.
- Who asks for what another has: the app that is not suspended, then the older configuration, then the lesser id serves;
  the other is told as a Problem, and its other routes are not touched.
- A password is asked for wherever the port can be reached: by host, by app id and at its service port.
- To HTTPS only a port's own paths are redirected, and only where HTTPS is listened on.
- A port keeps its routes when it has no servers: requests are answered 503, not sent to another app.
- An app's id is its own: no deployment group of that name gets its requests.
- Service ports never are those of this process' other listeners, whose requests they would take.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from lb7.claims import APP_ID, HTTP, HTTPS, Claim, HostResult, Listened, PortResult, host_and_port, port_name
from lb7.paths import begins, matched_prefix
from lb7.table import (
    AuthRule,
    HostKey,
    HostRules,
    Listener,
    PathPrefix,
    Paths,
    Problem,
    RedirectRule,
    RouteRule,
)

EVERY_PATH = PathPrefix("")


class _Place(NamedTuple):
    """A path of a host (of EVERY_PATH: all), and who has it."""

    prefix: PathPrefix
    claim: Claim

    @property
    def paths(self) -> Paths:
        return (self.prefix,) if self.prefix.prefix else ()


def host_keys(claim: Claim, listened: Listened) -> list[HostKey]:
    """The hosts in common tables that a port asks for; by app id it is asked for elsewhere."""
    hosts = dict.fromkeys(claim.spec.hosts)
    if claim.spec.subdomains:
        hosts |= {f"*.{host}": None for host in claim.spec.hosts if host and not host.startswith("*")}
    tables = [table for table, is_listened in ((HTTP, listened.http), (HTTPS, listened.https)) if is_listened]
    return [(table, host) for table in tables for host in hosts]


def host_rules(key: HostKey, claims: Sequence[Claim], listened: Listened) -> HostResult:
    """The rules of a host of "http" or "https", as all that ask for it have it."""
    if not claims:
        return HostResult()
    places, problems = _shared_out(key[1], claims)
    if not listened.https:
        problems += [
            Problem(claim.spec.app, "redirect", f"{key[1] or '*'} stays on HTTP: HTTPS is not listened on")
            for claim in claims
            if claim.spec.redirect
        ]
    rules = HostRules(
        auth=_auth(places),
        redirects=_redirects(places, to_https=key[0] == HTTP and listened.https),
        routes=tuple([RouteRule(place.paths, place.claim.cluster) for place in places]),
    )
    # A host of both tables has its problems once.
    return HostResult(rules, tuple(problems) if key[0] == HTTP or not listened.http else ())


def app_id_rules(claims: Sequence[Claim]) -> HostResult:
    """The rules of an app id: the first HTTP port of the app that has it; a deployment group comes after all apps."""
    ordered = sorted(claims, key=lambda claim: (claim.spec.key.unit.group, *_by_rank(claim)))
    spec = ordered[0].spec
    problems = [
        Problem(
            other.spec.app,
            "app-conflict",
            f"app id {spec.app!r} of framework {other.spec.key.unit.framework_id!r} is another's in {APP_ID}",
        )
        for other in ordered[1:]
        if other.spec.key.unit != spec.key.unit
    ]
    rules = HostRules(auth=(spec.auth,) if spec.auth is not None else (), routes=(RouteRule((), ordered[0].cluster),))
    return HostResult(rules, tuple(problems))


def port_rules(port: int, claims: Sequence[Claim], reserved: Sequence[str]) -> PortResult:
    """What is listened on at a service port. `reserved` are the addresses of the other listeners."""
    listeners: dict[str, Listener] = {}
    hosts: dict[HostKey, HostRules] = {}
    problems: list[Problem] = []
    held = [(address, "another listener of this edge") for address in reserved]
    for claim in sorted(claims, key=_by_rank):
        spec = claim.spec
        address = host_and_port(spec.address, port)
        holder = next((holder for other, holder in held if overlap(address, other)), "")
        if holder:
            text = f"service port {address} is that of {holder}"
            problems.append(Problem(spec.app, "port-conflict", text))
            continue
        held.append((address, spec.app))
        name = port_name(port, spec.address, listeners)
        listeners[name], found = port_listener(name, claim, spec.auth)
        hosts |= found
    return PortResult(listeners, hosts, tuple(problems))


def port_listener(name: str, claim: Claim, auth: AuthRule | None) -> tuple[Listener, dict[HostKey, HostRules]]:
    """The listener of one port and the rules of its table, which has the listener's name."""
    spec, cluster = claim.spec, claim.cluster
    addresses = (host_and_port(spec.address, spec.port),)
    tls = bool(spec.certificate)
    if spec.mode == "tcp":
        return Listener(name, name, addresses, "tcp", "none", cluster, tls, spec.certificate), {}
    rules = HostRules(auth=(auth,) if auth is not None else (), routes=(RouteRule((), cluster),))
    hosts = {(name, ""): rules}
    by_host = bool(spec.root_redirect and not spec.root_redirect_hosts)
    if by_host:
        root = RedirectRule(location=spec.root_redirect, only_path="/")
        hosts |= {(name, host): HostRules(rules.auth, (root,), rules.routes) for host in spec.hosts}
    by: Literal["host", "none"] = "host" if by_host else "none"
    return Listener(name, name, addresses, "http", by, "", tls, spec.certificate), hosts


def _by_rank(claim: Claim) -> tuple[object, ...]:
    return (claim.spec.rank, claim.spec.key)


@lru_cache(maxsize=1 << 14)
def _form(prefix: PathPrefix) -> str:
    """A path as it is compared (lb7/paths.py), in lower case where case is ignored."""
    form = matched_prefix(prefix).prefix
    return form.lower() if prefix.ignore_case else form


def _shared_out(host: str, claims: Sequence[Claim]) -> tuple[list[_Place], list[Problem]]:
    """Each path once, the longest first."""
    held: dict[tuple[str, bool], _Place] = {}
    problems = []
    for claim in sorted(claims, key=_by_rank):
        for prefix in claim.spec.paths or (EVERY_PATH,):
            key = (_form(prefix), prefix.ignore_case)
            other = held.setdefault(key, _Place(prefix, claim))
            if other.claim is not claim:
                text = f"{host or '*'}{prefix.prefix or '/'} is served by {other.claim.cluster}"
                problems.append(Problem(claim.spec.app, "route-conflict", text))
    ordered = sorted(held.items(), key=lambda item: (-len(item[0][0]), item[0][1], item[0][0]))
    return [place for _, place in ordered], problems


def _auth(places: Sequence[_Place]) -> tuple[AuthRule, ...]:
    """A rule for each route in the same order, so that each path has that of its route."""
    found = []
    for place in places:
        rule = place.claim.spec.auth
        found.append(AuthRule(place.paths) if rule is None else AuthRule(place.paths, rule.realm, rule.users))
    while found and not found[-1].users:
        found.pop()
    return tuple(found)


def _redirects(places: Sequence[_Place], to_https: bool) -> tuple[RedirectRule, ...]:
    """The same for redirects. Of a host's paths that of "/" belongs to the first route for it."""
    found: list[RedirectRule] = []
    root = next((place for place in places if not place.paths or begins("/", place.prefix)), None)
    for place in places:
        spec = place.claim.spec
        if to_https and spec.redirect:
            found.append(RedirectRule(place.paths, https=True))
            continue
        if place is root and spec.root_redirect:
            found.append(RedirectRule(place.paths, location=spec.root_redirect, only_path="/"))
        found.append(RedirectRule(place.paths))
    while found and not found[-1].https and not found[-1].location:
        found.pop()
    return tuple(found)


def overlap(one: str, other: str) -> bool:
    """Whether two addresses to listen on are of one port and have something in common."""
    host, _, port = one.rpartition(":")
    other_host, _, other_port = other.rpartition(":")
    everywhere = {"", "*", "0.0.0.0", "[::]"}  # noqa: S104
    return port == other_port and (host == other_host or host in everywhere or other_host in everywhere)
