"""marathon-lb's rules, in their exact order: `compat = "marathon-lb"`.

- In a listener: first all passwords, then all redirects to HTTPS, then all routes. Of each, the first by order (high
  HAPROXY_n_BACKEND_WEIGHT first), then by app id, then by service port. No path goes before another for being longer.
- A Host header is a name without port, in any case; a path matches by its plain beginning.
- HTTPS goes by the TLS server name alone, in the case that it is written in.
- Passwords are asked for on HTTP and HTTPS only. Ports without servers don't exist.
- "/" is redirected where a request has come to a port that asks for it, on whatever listener, if the Host header is
  the port's host, and after its allowed networks.
- An app is left out as a whole when one of its TCP ports has a virtual host: its configuration would be invalid.
- Service ports that two apps have are both listened on, and the kernel deals connections out.
- With `haproxy_map`, hosts of ports without path and password are looked up in any case and with any port; in the
  table, such a rule stands at "NAME:". It comes where marathon-lb writes it: at the end, so that ports with a negative
  order are never reached.

What of marathon-lb is not done again: ids that it takes for one another after it has replaced characters, its texts
in HAProxy's language, and service ports that take the requests of HTTP or HTTPS. A label that HAProxy would not
understand (an algorithm that it does not have) leaves the default here, there it takes the app out. A name with `*`
is not matched here; there a Host header is that has the `*` in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lb7.claims import APP_ID, HTTP, HTTPS, Claim, HostResult, Listened, PortResult, host_and_port, port_name
from lb7.config import L7Config
from lb7.label_values import MOST_ROUTES
from lb7.port_spec import PortSpec
from lb7.safe_rules import overlap, port_listener
from lb7.table import AuthRule, HostKey, HostRules, Listener, Problem, RedirectRule, RouteRule

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9-]")


def host_keys(claim: Claim, unit: Iterable[Claim], listened: Listened, config: L7Config) -> list[HostKey]:
    """The hosts in common tables that a port asks for. `unit`: the ports of the same app, itself included.

    marathon-lb names a port's condition on hosts after the app and the first host, so that ports of one app that have
    the first host in common have all hosts in common, on HTTP.
    """
    spec = claim.spec
    found: dict[HostKey, None] = {}
    if not spec.hosts:
        return []
    if listened.http:
        hosts = dict.fromkeys(spec.hosts)
        alike = [other.spec for other in unit if other.spec.hosts and _condition(other.spec) == _condition(spec)]
        if len(alike) * sum(len(other.hosts) for other in alike) <= MOST_ROUTES:
            for other in alike:
                hosts |= dict.fromkeys(other.hosts)
        if spec.subdomains:
            hosts |= {f"*.{host}": None for host in spec.hosts}
        found |= {(HTTP, host): None for host in hosts}
    if listened.https:
        found |= {(HTTPS, host): None for host in spec.hosts}
    if config.haproxy_map and _in_map(spec):
        found |= {(table, f"{host}:"): None for table, host in found if host in spec.hosts}
    return list(found)


def host_rules(key: HostKey, claims: Iterable[Claim], config: L7Config) -> HostResult:
    """The rules of a host of "http" or "https"; `claims` with those of names above it."""
    table, host = key
    by_name = sorted(claims, key=by_app_and_port)
    if not by_name:
        return HostResult()
    mapped = next((claim for claim in by_name if _in_map(claim.spec)), None) if config.haproxy_map else None
    if host.endswith(":"):
        return HostResult(None if mapped is None else HostRules(routes=(RouteRule((), mapped.cluster),)))
    ordered = sorted(by_name, key=lambda claim: -claim.spec.order)
    serving = [claim for claim in ordered if not (table == HTTP and claim.spec.redirect)]
    auths = [claim.spec for claim in serving if claim.spec.auth is not None]
    if config.haproxy_map:
        serving = [claim for claim in serving if not _in_map(claim.spec) and claim.spec.order >= 0]
        serving += [mapped] if mapped is not None else []
    redirects = [claim.spec for claim in ordered if claim.spec.redirect] if table == HTTP else []
    rules = HostRules(
        auth=tuple([AuthRule(spec.paths, spec.auth.realm, spec.auth.users) for spec in auths if spec.auth]),
        redirects=tuple([RedirectRule(spec.paths, https=True) for spec in redirects]),
        routes=tuple([RouteRule(claim.spec.paths, claim.cluster) for claim in serving]),
    )
    return HostResult(rules)


def app_id_key(app: str, config: L7Config) -> HostKey | None:
    """Where an app is found by its id. With `haproxy_map` a header in lower case is looked up among ids as they are,
    so that an id with capitals is never found."""
    return None if config.haproxy_map and app != app.lower() else (APP_ID, app.lower())


def app_id_rules(claims: Sequence[Claim]) -> HostResult:
    """The rules of an app id."""
    return HostResult(HostRules(routes=(RouteRule((), min(claims, key=by_app_and_port).cluster),)))


def port_rules(port: int, claims: Sequence[Claim], reserved: Sequence[str]) -> PortResult:
    """What is listened on at a service port, by every app that has it."""
    listeners: dict[str, Listener] = {}
    hosts: dict[HostKey, HostRules] = {}
    problems: list[Problem] = []
    ordered = sorted(claims, key=by_app_and_port)
    for claim in ordered:
        spec = claim.spec
        address = host_and_port(spec.address, port)
        if any(overlap(address, other) for other in reserved):
            problems.append(Problem(spec.app, "port-conflict", f"{address} is another listener's of this edge"))
            continue
        if len(ordered) > 1:
            others = ", ".join(sorted({other.spec.app for other in ordered if other is not claim}))
            problems.append(Problem(spec.app, "port-conflict", f"service port {port} is shared with {others}"))
        name = port_name(port, spec.address, listeners)
        listeners[name], found = port_listener(name, claim, None)
        hosts |= found
    return PortResult(listeners, hosts, tuple(problems))


def by_app_and_port(claim: Claim) -> tuple[object, ...]:
    """The order in which marathon-lb writes its rules."""
    return (claim.spec.app, claim.spec.port, claim.spec.key)


@lru_cache(maxsize=1 << 14)
def _cleaned(host: str) -> str:
    return _NOT_IN_NAMES.sub("_", host)


def _condition(spec: PortSpec) -> str:
    return _cleaned(spec.hosts[0])


def _in_map(spec: PortSpec) -> bool:
    return not spec.paths and spec.auth is None
