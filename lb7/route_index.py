"""Who asks for what: for every host of a table and every service port the ports of apps that want it.

A change of an app's ports leaves exactly those hosts and service ports to be made anew that it bears on: its own, and
with `compat` hosts below a wildcard of its.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lb7 import compat_rules, safe_rules
from lb7.claims import APP_ID, Claim, HostResult, Listened, PortResult, names_above
from lb7.config import L7Config
from lb7.port_spec import PortKey, UnitKey
from lb7.table import HostKey


class RouteIndex:
    """See the module. `dirty_hosts` and `dirty_ports` are to be made anew by whoever takes them out."""

    def __init__(self, config: L7Config, listened: Listened, reserved: Sequence[str]) -> None:
        self._config, self._listened, self._reserved = config, listened, tuple(reserved)
        self._hosts: dict[HostKey, dict[PortKey, Claim]] = {}
        self._ports: dict[int, dict[PortKey, Claim]] = {}
        self._below: dict[HostKey, set[HostKey]] = {}
        self._of_unit: dict[UnitKey, dict[PortKey, tuple[Claim, frozenset[HostKey]]]] = {}
        self.dirty_hosts: dict[HostKey, None] = {}
        self.dirty_ports: dict[int, None] = {}

    def set_unit(self, unit: UnitKey, claims: Sequence[Claim]) -> None:
        """These are all ports of an app that are routed now."""
        old = self._of_unit.get(unit, {})
        new = {claim.spec.key: (claim, self._keys(claim, claims)) for claim in claims}
        if new == old:
            return
        for key, (claim, hosts) in old.items():
            if new.get(key) != (claim, hosts):
                self._take_out(key, claim, hosts)
        for key, (claim, hosts) in new.items():
            if old.get(key) != (claim, hosts):
                self._put_in(key, claim, hosts)
        if new:
            self._of_unit[unit] = new
        else:
            del self._of_unit[unit]

    def host(self, key: HostKey) -> HostResult:
        """The rules of a host, as all that ask for it have it."""
        claims = list(self._hosts.get(key, {}).values())
        if not claims:
            return HostResult()
        compat = bool(self._config.compat)
        if key[0] == APP_ID:
            return compat_rules.app_id_rules(claims) if compat else safe_rules.app_id_rules(claims)
        if not compat:
            return safe_rules.host_rules(key, claims, self._listened)
        above = [claim for name in names_above(key[1]) for claim in self._hosts.get((key[0], name), {}).values()]
        return compat_rules.host_rules(key, [*claims, *above], self._config)

    def port(self, port: int) -> PortResult:
        """What is listened on at a service port."""
        claims = list(self._ports.get(port, {}).values())
        rules = compat_rules.port_rules if self._config.compat else safe_rules.port_rules
        return rules(port, claims, self._reserved)

    def _keys(self, claim: Claim, unit: Sequence[Claim]) -> frozenset[HostKey]:
        """Where in the common tables a port has to be looked for."""
        if self._config.compat:
            keys = compat_rules.host_keys(claim, unit, self._listened, self._config)
            app_id = compat_rules.app_id_key(claim.spec.app, self._config)
            speaking = [other for other in unit if other.spec.mode == "http"]
            is_first = claim is min(speaking, key=compat_rules.by_app_and_port, default=None)
        else:
            keys = safe_rules.host_keys(claim, self._listened)
            app_id = (APP_ID, claim.spec.app.lower())
            is_first = claim is next((other for other in unit if other.spec.mode == "http"), None)
        if is_first and app_id is not None and self._listened.app_id:
            keys.append(app_id)
        return frozenset(keys)

    def _take_out(self, key: PortKey, claim: Claim, hosts: Iterable[HostKey]) -> None:
        for host in hosts:
            there = self._hosts[host]
            del there[key]
            self._touch(host)
            if not there:
                del self._hosts[host]
                self._link(host, there=False)
        port = claim.spec.port
        if self._is_open(claim):
            del self._ports[port][key]
            if not self._ports[port]:
                del self._ports[port]
            self.dirty_ports[port] = None

    def _put_in(self, key: PortKey, claim: Claim, hosts: Iterable[HostKey]) -> None:
        for host in hosts:
            there = self._hosts.get(host)
            if there is None:
                there = self._hosts[host] = {}
                self._link(host, there=True)
            there[key] = claim
            self._touch(host)
        port = claim.spec.port
        if self._is_open(claim):
            self._ports.setdefault(port, {})[key] = claim
            self.dirty_ports[port] = None

    def _is_open(self, claim: Claim) -> bool:
        return self._config.service_ports and claim.spec.open and claim.spec.port > 0

    def _touch(self, host: HostKey) -> None:
        self.dirty_hosts[host] = None
        if host[1].startswith("*.") or (host[1] == "" and host[0] != APP_ID):
            self.dirty_hosts.update(dict.fromkeys(self._below.get(host, ())))

    def _link(self, host: HostKey, there: bool) -> None:
        """Have a host known at the wildcards that it is below, or no longer."""
        if host[0] == APP_ID or not self._config.compat:
            return
        for name in names_above(host[1]):
            wildcard = (host[0], name)
            if there:
                self._below.setdefault(wildcard, set()).add(host)
                continue
            self._below[wildcard].discard(host)
            if not self._below[wildcard]:
                del self._below[wildcard]
