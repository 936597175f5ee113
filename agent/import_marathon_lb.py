"""marathon-lb's command line as Pharos' TOML: `pharos import marathon-lb -- FLAGS…`.

    pharos import marathon-lb -- --sse --group external --marathon http://master.example:8080
    pharos import marathon-lb -- FRAMEWORK_NAME=marathon-lb sse --group external     (as its image is started)

Routes follow with `compat = "marathon-lb"`: its exact order of rules. What has no equivalent becomes a comment and a
warning; so does what is better not carried over without a thought.
"""

from __future__ import annotations

import argparse
import os.path
import re
from collections.abc import Sequence

from agent.config import ConfigError
from agent.marathon_lb_flags import WITHOUT_EQUIVALENT, parse_flags
from agent.toml_lines import Imported, TomlLines, put_login
from mesos_dns.toml_tables import Problem

NAME = "marathon-lb"
CERT_DIR = "/etc/pharos/certs"
"""Where certificates are to be put that are in no folder of their own."""
ACCOUNT = "/etc/pharos/dcos-service-account.json"

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_DEFAULT_CERT = "/etc/ssl/cert.pem"
_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
_OWN_VARIABLES = {"PORTS", "FRAMEWORK_NAME", "DCOS_SERVICE_ACCOUNT_CREDENTIAL", "POLL_INTERVAL"}
_VARIABLES = {
    "HAPROXY_SYSLOGD": "has no equivalent: everything goes to standard error",
    "SYSLOG_SOCKET": "has no equivalent: everything goes to standard error",
    "HAPROXY_SYSCTL_PARAMS": "has no equivalent: set the kernel's switches where the machine sets its others",
    "HAPROXY_SYSCTL_NONSTRICT": "has no equivalent: set the kernel's switches where the machine sets its others",
    "HAPROXY_GLOBAL_DEFAULT_OPTIONS": "has no equivalent: there is no HAProxy",
}
_TEMPLATE = "is a piece of HAProxy's configuration and has no equivalent; see lb7/README.md for what can be set"


def convert(words: Sequence[str]) -> Imported:
    """Convert a command line: variables (NAME=VALUE), the image's mode (sse or poll), flags. Reads a credential file.

    The result loads with `agent.config.load_text`. Raises ConfigError with the flag of what can't be used, and
    SystemExit (2) as argparse does for what is no flag of marathon-lb.
    """
    variables, mode, flags = _apart(words)
    args = parse_flags(flags)
    warnings: list[Problem] = []
    out = TomlLines(warnings)
    out.comment("From marathon-lb's command line; the flag it came from stands behind each value.")
    _marathon(out, args, variables)
    _l7(out, args, variables)
    _http(out)
    _log(out, args)
    _left_out(out, args, variables, mode)
    return out.imported(NAME)


def _apart(words: Sequence[str]) -> tuple[dict[str, str], str, list[str]]:
    """Variables, mode and flags."""
    rest = list(words)
    if rest[:1] == ["--"]:
        del rest[0]
    variables: dict[str, str] = {}
    while rest and (match := _VARIABLE.fullmatch(rest[0])):
        variables[match[1]] = match[2]
        del rest[0]
    mode = rest.pop(0) if rest[:1] in (["sse"], ["poll"]) else ""
    return variables, mode, rest


def _marathon(out: TomlLines, args: argparse.Namespace, variables: dict[str, str]) -> None:
    out.section("marathon")
    out.put("urls", [url.rstrip("/") for url in dict.fromkeys(args.marathon)], "--marathon")
    if args.marathon_ca_cert:
        out.put("ca_file", args.marathon_ca_cert, "--marathon-ca-cert")
    elif any(url.startswith("https:") for url in args.marathon):
        text = "marathon-lb verifies nothing without it, Pharos does: set ca_file, or tls_verify = false"
        out.warn("--marathon-ca-cert", text)
        out.put("tls_verify", True, "", "false: do as marathon-lb did")
    if args.marathon_auth_credential_file is not None:
        put_login(out, NAME, "--marathon-auth-credential-file", _credentials(args.marathon_auth_credential_file))
    elif args.auth_credentials:
        put_login(out, NAME, "--auth-credentials", args.auth_credentials)
    elif args.dcos_auth_credentials or variables.get("DCOS_SERVICE_ACCOUNT_CREDENTIAL"):
        origin = "--dcos-auth-credentials" if args.dcos_auth_credentials else "DCOS_SERVICE_ACCOUNT_CREDENTIAL"
        out.put("auth", "iam", origin)
        out.warn(origin, f"write its JSON to {ACCOUNT}, of mode 0600")
        out.put("iam_config_file", ACCOUNT, origin)


def _credentials(name: str) -> str:
    """The first line of a file. Raises ConfigError."""
    try:
        with open(name, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        text = f"can't read {name!r}: {reason}; run this where it can be read"
        raise ConfigError(NAME, [Problem("--marathon-auth-credential-file", text)]) from error


def _l7(out: TomlLines, args: argparse.Namespace, variables: dict[str, str]) -> None:
    out.section("l7")
    out.put("compat", "marathon-lb", "", "its order of rules, gaps included; without this line safe rules hold")
    out.put("groups", list(dict.fromkeys(args.group)), "--group")
    if args.dont_bind_http_https:
        out.put("http", [], "--dont-bind-http-https")
        out.put("https", [], "--dont-bind-http-https")
    else:
        out.put("http", [":80"], "", "as marathon-lb")
        out.put("https", [":443"], "", "as marathon-lb")
    remark = "as marathon-lb, and as there HAPROXY_n_AUTH does not hold here; 127.0.0.1:9091 is safer"
    out.put("app_id", [":9091"], "", remark)
    if not args.dont_bind_http_https or args.ssl_certs is not None:
        _certificates(out, args.ssl_certs)
    out.put("strict", args.strict_mode, "--strict-mode")
    health = "exclude-unhealthy" if args.health_check else "ignore"
    out.put("health", health, "--health-check", "" if args.health_check else "not given")
    out.put("haproxy_map", args.haproxy_map, "--haproxy-map")
    out.put("group_https_by_vhost", args.group_https_by_vhost, "--group-https-by-vhost")
    first, last = args.min_serv_port_ip_per_task, args.max_serv_port_ip_per_task
    remark = "the first, and the one after the last" if last else "none"
    origin = "--min-serv-port-ip-per-task, --max-serv-port-ip-per-task"
    out.put("auto_ports", [first, last + 1] if last else [0, 0], origin, remark)
    if name := variables.get("FRAMEWORK_NAME", "").strip("/"):
        out.put("own_app", f"/{name}", "FRAMEWORK_NAME")
    out.comment('keep_alive_timeout = "1s"  is what marathon-lb has; with more, clients connect less often')


def _certificates(out: TomlLines, given: str | None) -> None:
    """A folder stands for a list of files."""
    origin = "--ssl-certs"
    names = [name for name in (given or "").split(",") if name]
    folders = {name.rstrip("/") if os.path.isdir(name) else os.path.dirname(name) for name in names}
    if names and len(folders) == 1 and names != [_DEFAULT_CERT]:
        (folder,) = folders
        remark = "every PEM file of this folder" if names != [folder] else ""
        out.put("cert_dir", folder or ".", origin, remark)
        return
    if len(names) > 1:
        out.warn(origin, f"its files are in several folders: link them into {CERT_DIR}")
    else:
        text = f"put the certificate with its key, {_DEFAULT_CERT} of marathon-lb, into {CERT_DIR}; none is made here"
        out.warn(origin, text)
    out.put("cert_dir", CERT_DIR, origin)


def _http(out: TomlLines) -> None:
    out.blank()
    out.comment("What marathon-lb has nothing like: `pharos routes` and metrics, on loopback.")
    out.section("api")
    out.put("listen", ["127.0.0.1:8123"], "")
    out.section("admin")
    text = (
        "/_haproxy_health_check, /_haproxy_getvhostmap and /_haproxy_getappmap are here, for this machine alone; "
        "set token_file before others may come (0.0.0.0:9090). Its stats page, _haproxy_getconfig, _haproxy_getpids "
        "and _mlb_signal have no equivalent"
    )
    out.warn("port 9090", text)
    out.put("listen", ["127.0.0.1:9090"], "")


def _log(out: TomlLines, args: argparse.Namespace) -> None:
    if args.log_level is None:
        return
    level = _LEVELS.get(args.log_level.upper())
    if level is None:
        raise ConfigError(NAME, [Problem("--log-level", f"expected one of {', '.join(_LEVELS)}")])
    out.section("log")
    out.put("level", level, "--log-level")


def _left_out(out: TomlLines, args: argparse.Namespace, variables: dict[str, str], mode: str) -> None:
    """What was said and has no equivalent. Values are not repeated: some are secrets."""
    out.blank()
    for flag, text in WITHOUT_EQUIVALENT.items():
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value is not None and value is not False and (flag, value) != ("--syslog-socket", "/dev/null"):
            out.warn(flag, text)
    if mode == "poll" or "POLL_INTERVAL" in variables:
        out.comment("poll: Marathon's events are always followed; the whole is compared every [marathon] resync")
    for name in variables:
        if name in _OWN_VARIABLES:
            continue
        if name.startswith("HAPROXY_SSL_CERT"):
            out.warn(name, f"write the certificate with its key to a file of mode 0600 in {CERT_DIR}")
        elif name in _VARIABLES:
            out.warn(name, _VARIABLES[name])
        else:
            out.warn(name, _TEMPLATE if name.startswith("HAPROXY_") else "is not known, and not carried over")
