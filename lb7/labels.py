"""What an app's labels ask of the edge: each port of an app, as marathon-lb's labels say.

Labels are `HAPROXY_NAME` for the whole app and `HAPROXY_n_NAME` for the port with index n. A label that can't be read
costs only what it says, and is told as a Problem; but where it says who may come in (a password, allowed networks),
nobody comes in that it might have kept out.

With `compat` a label means what it means to marathon-lb: hosts with their port, paths by plain beginnings, modes as it
derives them, its gaps included. Without, as lb7/safe_rules.py says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from lb7.checks_of_apps import check_for, check_of_servers
from lb7.config import L7Config
from lb7.crypt import hash_fault
from lb7.label_values import (
    MAX_LABEL,
    MOST_ITEMS,
    MOST_ITEMS_OF_APP,
    MOST_LABELS,
    MOST_PORTS,
    MOST_ROUTES,
    MOST_TEXT,
    NOBODY,
    literal_prefixes,
    read_auth,
    read_balance,
    read_bind_address,
    read_boolean,
    read_field,
    read_host,
    read_network,
    read_number,
    read_uri_path,
    segment_prefix,
    short,
    split_flags,
    words_of,
)
from lb7.port_spec import HSTS, STICKY, AppSpec, PortKey, PortSpec, Rank, UnitKey
from lb7.raw_options import TEMPLATES, RawOptions, read_template
from lb7.table import AuthRule, Paths, Problem
from mesos_dns.model import App

_T = TypeVar("_T")

_LABEL = re.compile(r"HAPROXY_(?:(\d{1,4})_)?(\w+)", re.ASCII)
_OF_PORTS = """
    AUTH BACKEND_HEALTHCHECK_PORT_INDEX BACKEND_NETWORK_ALLOWED_ACL BACKEND_WEIGHT BALANCE BIND_ADDR BIND_OPTIONS
    ENABLED GROUP HTTP_BACKEND_PROXYPASS_PATH HTTP_BACKEND_REDIR HTTP_BACKEND_REVPROXY_PATH MODE PATH PORT
    REDIRECT_TO_HTTPS SSL_CERT STICKY USE_HSTS VHOST
"""
_OF_APPS = """
    APP_ID DEPLOYMENT_ALT_PORT DEPLOYMENT_COLOUR DEPLOYMENT_GROUP DEPLOYMENT_NEW_INSTANCES DEPLOYMENT_STARTED_AT
    DEPLOYMENT_TARGET_INSTANCES GROUP
"""
OF_PORTS, OF_APPS = frozenset(_OF_PORTS.split()), frozenset(_OF_APPS.split())
"""Names of labels that say something, after `HAPROXY_n_` and `HAPROXY_`."""

_NEEDED = frozenset(
    {"AUTH", "BACKEND_NETWORK_ALLOWED_ACL", "BIND_ADDR", "ENABLED", "GROUP", "MODE", "PATH", "SSL_CERT"}
)
"""Without these a port might let in whom it keeps out, or take more than it asks for."""

# Bind options that say nothing new here: HTTP/1.1 and modern TLS are what there is.
_MEANINGLESS = re.compile(r"(alpn|npn|ciphers|ciphersuites|curves|ecdhe) \S+|(no|force)-(ssl|tls)\S*|ssl-min-ver \S+")


def read_app(app: App, config: L7Config, unit: UnitKey) -> AppSpec:
    """The ports of an app that are routed here. `unit`: as what it is routed; in a deployment group, the older app
    stands for all."""
    if _is_own(unit.app, config.own_app) or (config.compat and app.kind != "app"):
        return AppSpec()
    reader = _AppReader(app, config, unit)
    return AppSpec(tuple(reader.ports()), tuple(reader.problems))


def service_ports(app: App, compat: bool) -> list[tuple[int, tuple[int, ...], int]]:
    """(index for labels, places in tasks' lists, service port or 0) of each port.

    marathon-lb skips mappings without a service port, which moves the indexes of those behind them, and has a port
    that is listed twice once, by the labels of the last. So it is with a container's port (53 of TCP and UDP) where
    there are no service ports.
    """
    if not compat:
        return [(index, (index,), port.service_port) for index, port in enumerate(app.ports)]
    listed = [port.service_port for port in app.ports if port.service_port]
    if not listed and app.network != "container":
        return []
    places: dict[int, list[int]] = {}
    for index, port in enumerate(listed or [port.container_port or -index for index, port in enumerate(app.ports)]):
        places.setdefault(port, []).append(index)
    return [(indexes[-1], tuple(indexes), port if listed else 0) for port, indexes in places.items()]


def _is_own(app: str, own: str) -> bool:
    return bool(own) and app.removeprefix("/") == own.removeprefix("/")


class _AppReader:
    """One app's labels, sorted by port."""

    def __init__(self, app: App, config: L7Config, unit: UnitKey) -> None:
        self.app, self.config, self.unit = app, config, unit
        self.problems: list[Problem] = []
        self.whole: dict[str, str] = {}
        self.of_port: dict[int, dict[str, str]] = {}
        self.unsafe: set[int] = set()
        self.left_out: list[str] = []
        self.items, self.routes = MOST_ITEMS_OF_APP, MOST_ROUTES
        self.compat = bool(config.compat)
        self.rank: Rank = (app.instances == 0, app.config_changed, unit.app, app.framework_id, app.cluster)
        named = [(found, value) for name, value in app.labels if (found := _LABEL.fullmatch(name)) is not None]
        self.too_many = len(named) > MOST_LABELS
        for found, value in named[:MOST_LABELS]:
            self._sort(None if found[1] is None else int(found[1]), found[2], value)
        kept = [self.whole, *self.of_port.values()]
        self.too_many |= sum(len(value) for labels in kept for value in labels.values()) > MOST_TEXT

    def _sort(self, index: int | None, name: str, value: str) -> None:
        if len(value) > MAX_LABEL:
            self.left_out.append(f"{_label(index, name)} has more than {MAX_LABEL} characters")
            if index is not None and name in _NEEDED:
                self.unsafe.add(index)
            return
        (self.whole if index is None else self.of_port.setdefault(index, {}))[name] = value

    def problem(self, reason: str, text: str) -> None:
        """Tell of something."""
        self.problems.append(Problem(self.unit.app, reason, text))

    def ports(self) -> list[PortSpec]:
        """Those of the LB groups that are ours."""
        found: list[PortSpec] = []
        ports = service_ports(self.app, self.compat)
        asking = [port for port in ports if self._is_routed(port[0], self.of_port.get(port[0], {}))]
        if not asking:
            return found
        for text in self.left_out:
            self.problem("limit", text)
        if self.too_many:
            self.problem("limit", f"more than {MOST_LABELS} labels or {MOST_TEXT} characters: nothing is routed")
            return found
        if len(asking) > MOST_PORTS:
            self.problem("limit", f"more than {MOST_PORTS} ports: the others are not routed")
        for index, places, listed in asking[:MOST_PORTS]:
            reader = _PortReader(self, index, self.of_port.get(index, {}))
            spec = reader.spec(places, listed) if index not in self.unsafe else None
            if spec is not None:
                found.append(spec)
            elif reader.invalid:  # marathon-lb leaves out the whole app then
                found.clear()
                break
        if found:
            self._look_at_names(1 + max(place for _, places, _ in ports for place in places))
        return found

    def some(self, label: str, items: list[str]) -> list[str]:
        """As many of the items of a list as are looked at."""
        most = min(MOST_ITEMS, self.items)
        if len(items) > most:
            self.problem("limit", f"{label}: only the first {most} of {len(items)} count")
        self.items -= min(len(items), most)
        return items[:most]

    def few_enough(self, label: str, hosts: tuple[str, ...], paths: int) -> tuple[str, ...]:
        """As many hosts as may be with so many paths each."""
        most = self.routes // max(1, paths)
        if len(hosts) > most:
            self.problem("limit", f"{label}: with {paths} paths only {most} hosts are routed")
        self.routes -= min(len(hosts), most) * max(1, paths)
        return hosts[:most]

    def _is_routed(self, index: int, labels: dict[str, str]) -> bool:
        """A port's own groups stand in place of the app's."""
        groups = labels.get("GROUP", self.whole.get("GROUP"))
        ours = self.config.groups
        names = [] if groups is None else groups.split(",")
        if not self.compat:
            names = [name.strip() for name in names]
        if "*" not in ours and not set(names) & set(ours):
            return False
        enabled = labels.get("ENABLED")
        if enabled is None:
            return not self.config.strict
        try:
            return read_boolean(enabled)
        except ValueError as error:
            self.problem("boolean", f"HAPROXY_{index}_ENABLED: {error}")
            return False

    def _look_at_names(self, ports: int) -> None:
        """Tell of labels that nobody will look at."""
        for name in self.whole:
            if name not in OF_APPS:
                self.problem("unknown-label", f"{_label(None, name)} is no label of an app")
        for index, labels in self.of_port.items():
            for name in labels:
                if name not in OF_PORTS and name not in TEMPLATES:
                    self.problem("unknown-label", f"{_label(index, name)} is no label of a port")
            if index >= ports:
                self.problem("port-index", f"HAPROXY_{index}_… is for port {index}, and the app has {ports}")


class _PortReader:
    """One port's labels, each read with its own kind of problem."""

    def __init__(self, app: _AppReader, index: int, labels: dict[str, str]) -> None:
        self.parent, self.index, self.labels = app, index, labels
        self.app, self.config, self.compat = app.app, app.config, app.compat
        self.invalid = False

    def problem(self, reason: str, name: str, text: object) -> None:
        """Tell of a label."""
        self.parent.problem(reason, f"HAPROXY_{self.index}_{name}: {text}")

    def read(self, name: str, reason: str, parse: Callable[[str], _T], default: _T) -> _T:
        """A label's value; `default` where it is missing, empty or can't be read."""
        text = self.labels.get(name, "")
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problem(reason, name, error)
            return default

    def _optional(self, name: str, reason: str, parse: Callable[[str], str]) -> str | None:
        """A label's value, "" where there is none; None where it can't be read."""
        failed: str | None = None if self.labels.get(name) else ""
        return self.read(name, reason, parse, failed)

    def flag(self, name: str) -> bool:
        """A label that says yes or no."""
        return self.read(name, "boolean", read_boolean, False)

    def spec(self, places: tuple[int, ...], listed: int) -> PortSpec | None:
        """Everything of this port; None where it can't be routed without letting in whom it keeps out."""
        hosts = self._hosts()
        auth, readable = self._auth()
        mode, check_label = self._mode(hosts, auth)
        if not readable or (auth is not None and mode == "tcp" and not self.compat):
            if readable:
                self.problem("auth", "AUTH", "a TCP port can't ask for a password")
            return None
        paths, hosts = self._paths(hosts)
        if mode == "tcp" and (hosts or (self.compat and self.labels.get("VHOST"))):
            self.problem("mode", "MODE", "tcp, but HAPROXY_n_VHOST is for HTTP")
            if self.compat:  # HAProxy finds such a configuration invalid
                self.invalid = True
                return None
            hosts = ()
        hosts = self.parent.few_enough(f"HAPROXY_{self.index}_VHOST", hosts, len(paths))
        raw = self._raw()
        certificate = self._optional("SSL_CERT", "certificate", _one_word)
        address = self._optional("BIND_ADDR", "bind", read_bind_address)
        rewrites = self._rewrites(hosts, mode)
        check, check_index, check_port = check_of_servers(self.app, self.index, check_label, mode, self.config.checks)
        self._bind_options()
        return PortSpec(
            key=PortKey(self.parent.unit, self.index),
            app=self.parent.unit.app,
            rank=self.parent.rank,
            indexes=places,
            listed=listed,
            port=self.read("PORT", "number", lambda text: read_number(text, 1, 65535), listed),
            mode=mode,
            hosts=hosts,
            paths=paths,
            subdomains=raw.subdomains,
            auth=auth,
            redirect=self._redirect(hosts),
            open=address is not None and certificate is not None,
            address=address or _any_address(self.config),
            certificate=certificate or "",
            balance=self.read("BALANCE", "balance", read_balance, raw.balance or self.config.balance),
            sticky=(raw.cookie or STICKY) if self.flag("STICKY") else "",
            allow=self._allow(),
            hsts=(raw.hsts or HSTS) if self.flag("USE_HSTS") and mode == "http" else "",
            weight=1 if raw.weight is None else raw.weight,
            max_requests=raw.max_requests or 0,
            order=self._order(),
            check=check,
            check_index=check_index,
            check_port=check_port,
            **rewrites,
        )

    def _hosts(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        parts = self.labels.get("VHOST", "").split(",")
        # What marathon-lb writes into a condition of HAProxy's are words there.
        parts = [word for part in parts for word in part.split()] if self.compat else [*filter(str.strip, parts)]
        for text in self.parent.some(f"HAPROXY_{self.index}_VHOST", parts):
            if self.compat and "*" in text:
                self.problem("wildcard", "VHOST", f"{short(text)} is no wildcard to marathon-lb")
                continue
            try:
                found[text.lower() if self.compat else read_host(text)] = None
            except ValueError as error:
                self.problem("vhost", "VHOST", error)
        return tuple(found)

    def _paths(self, hosts: tuple[str, ...]) -> tuple[Paths, tuple[str, ...]]:
        """The paths, and the hosts: none where no path can be matched, for the port did not ask for all paths."""
        text = self.labels.get("PATH", "")
        if not text.strip():
            return (), hosts
        if not hosts:
            self.problem("path-without-vhost", "PATH", "needs HAPROXY_n_VHOST")
            return (), hosts
        if self.compat:
            nothing: Paths = ()
            paths = self.read("PATH", "path", literal_prefixes, nothing)
            return paths, hosts if paths else ()
        unreadable: tuple[bool, list[str]] = (False, [])
        ignore_case, patterns = self.read("PATH", "path", lambda text: split_flags(words_of(text)), unreadable)
        found = []
        for pattern in dict.fromkeys(patterns):
            try:
                found.append(segment_prefix(pattern, ignore_case))
            except ValueError as error:
                self.problem("path", "PATH", error)
        if any(not prefix.prefix for prefix in found):
            return (), hosts
        return tuple(found), hosts if found else ()

    def _auth(self) -> tuple[AuthRule | None, bool]:
        """The password, and whether what is said of one could be read."""
        text = self.labels.get("AUTH")
        if text is None:
            return None, True
        try:
            rule = read_auth(text)
        except ValueError as error:
            self.problem("auth", "AUTH", error)
            return None, False
        for _, password in rule.users:
            if fault := hash_fault(password):
                self.problem("auth", "AUTH", f"nobody can pass: {fault}")
        if self.compat:
            self.problem("auth-bypass", "AUTH", "asked for on HTTP and HTTPS, not on the service port nor by app id")
        return rule, True

    def _mode(self, hosts: tuple[str, ...], auth: AuthRule | None) -> tuple[Literal["http", "tcp"], int | None]:
        """The mode, and the port index of HAPROXY_n_BACKEND_HEALTHCHECK_PORT_INDEX."""
        name = "BACKEND_HEALTHCHECK_PORT_INDEX"
        label: int | None = self.read(name, "number", lambda text: read_number(text, 0, 1023), None)
        own = check_for(self.app, self.index)
        other = check_for(self.app, label) if own is None and label is not None else None
        speaks_http = ("HTTP", "HTTPS", "MESOS_HTTP", "MESOS_HTTPS")
        given = self.labels.get("MODE", "").strip().lower()
        if given not in ("", "http", "tcp"):
            self.problem("mode", "MODE", f"expected http or tcp, got {short(given)}")
            given = ""
        if self.compat:
            # The check of another port goes before the label, its own after it.
            if other is not None and other.protocol in speaks_http:
                return "http", label
            implied = own is not None and own.protocol == "HTTP"
        else:
            check = own or other
            implied = auth is not None or (check is not None and check.protocol in speaks_http)
        if given:
            return ("tcp" if given == "tcp" else "http"), label
        asked = self.labels.get("VHOST") if self.compat else hosts
        return ("http" if implied or asked else "tcp"), label

    def _redirect(self, hosts: tuple[str, ...]) -> bool:
        wanted = self.flag("REDIRECT_TO_HTTPS")
        if wanted and not hosts:
            self.problem("redirect", "REDIRECT_TO_HTTPS", "needs HAPROXY_n_VHOST")
        return wanted and bool(hosts)

    def _allow(self) -> tuple[str, ...]:
        name = "BACKEND_NETWORK_ALLOWED_ACL"
        found = []
        words = self.labels.get(name, "").split()
        for word in self.parent.some(f"HAPROXY_{self.index}_{name}", words):
            try:
                found.append(read_network(word))
            except ValueError as error:
                self.problem("network", name, error)
                found.append(NOBODY)
        return tuple(dict.fromkeys(found)) or ((NOBODY,) if words else ())

    def _order(self) -> int:
        name = "BACKEND_WEIGHT"
        order = self.read(name, "number", lambda text: read_number(text, -(1 << 31), 1 << 31), 0)
        if not self.compat:
            if order:
                self.problem("weight", name, "the longest path wins, whatever the order")
            return 0
        return 1 if order == 0 and "PATH" in self.labels else order

    def _rewrites(self, hosts: tuple[str, ...], mode: str) -> dict[str, Any]:
        if mode != "http":
            return {}
        strip = self.read("HTTP_BACKEND_PROXYPASS_PATH", "text", read_uri_path, "")
        return {
            "strip_path": strip,
            "host": next((name for name in hosts if name and not name.startswith("*")), "") if strip else "",
            "location": self.read("HTTP_BACKEND_REVPROXY_PATH", "text", read_field, ""),
            "root_redirect": (root := self._root_redirect(hosts)),
            "root_redirect_hosts": hosts if root and self.compat else (),
        }

    def _root_redirect(self, hosts: tuple[str, ...]) -> str:
        name = "HTTP_BACKEND_REDIR"
        target = self.read(name, "text", read_uri_path, "")
        if not target:
            return ""
        if not hosts:
            self.problem("redirect", name, "needs HAPROXY_n_VHOST")
            return ""
        if self.compat and "," in self.labels.get("VHOST", ""):
            self.problem("redirect", name, "marathon-lb redirects only where HAPROXY_n_VHOST is one name")
            return ""
        if target == "/":
            self.problem("redirect", name, "'/' would lead to itself")
            return ""
        return target

    def _raw(self) -> RawOptions:
        into = RawOptions()
        for name in self.labels:
            if name in TEMPLATES:
                left = read_template(name, self.labels[name], into)
                if left:
                    self.problem("template", name, f"not carried over: {left}")
        return into

    def _bind_options(self) -> None:
        text = " ".join(self.labels.get("BIND_OPTIONS", "").split())
        left = " ".join(_MEANINGLESS.sub("", text).split())
        if left:
            self.problem("bind-options", "BIND_OPTIONS", f"no meaning here: {left[:200]}")


def _label(index: int | None, name: str) -> str:
    """A label's name for a message."""
    name = name if len(name) <= 100 else f"{name[:100]}…"
    return f"HAPROXY_{name}" if index is None else f"HAPROXY_{index}_{name}"


def _any_address(config: L7Config) -> str:
    return "" if config.service_address == "*" else read_bind_address(config.service_address)


def _one_word(text: str) -> str:
    if len(text.split()) != 1:
        raise ValueError(f"expected the name of one file, got {short(text)}")
    return text.strip()
