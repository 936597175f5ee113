"""The command line of `pharos`: what can be said, and which module does it.

Modules are imported when their command is called, so that `pharos status` starts in a blink. Exit
codes: 0 ok, 1 failed, 2 usage or configuration error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

API, ADMIN = "http://127.0.0.1:8123", "http://127.0.0.1:8124"
_ACCESS = {
    "--token-file": "file with the bearer token",
    "--ca-file": "for https: PEM file of the authorities to trust",
    "--cert-file": "for https: PEM file of a client certificate",
    "--key-file": "for https: PEM file of its key",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Never raises for what a user or a peer did wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser(words[0] if words else "").parse_args(words)
    try:
        code = _call(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # the reader has seen enough; spare it the interpreter's complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _call(args: argparse.Namespace) -> int:
    module, name = args.does
    command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
    if "api" not in args and "admin" not in args:
        return command(args)
    from agent.client import BadOption, ClientError

    try:
        return command(args)
    except ClientError as error:
        print(f"pharos {args.verb}: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadOption) else 1


def parser(verb: str = "") -> argparse.ArgumentParser:
    """The parser of all commands; options of `demo` and `simulate` are there when `verb` names them."""
    top = argparse.ArgumentParser(
        prog="pharos",
        description="Names and load balancing for Mesos and DC/OS clusters.",
        epilog="Exit codes: 0 ok, 1 failed, 2 usage or configuration error.",
    )
    verbs = top.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    _add_demo(verbs, verb, "demo", "show it all on a simulated cluster, without privileges")
    _add_run(verbs)
    _add_asking(verbs)
    _add_scale(verbs)
    _add_import(verbs)
    _add_resolv_conf(verbs)
    _add_demo(verbs, verb, "simulate", "run a simulated Mesos master and Marathon on loopback")
    version = verbs.add_parser("version", help="print the version")
    version.add_argument("--json", action="store_true", help="print JSON")
    version.set_defaults(does=("agent.commands_local", "version"))
    return top


_Verbs = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def _add_run(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    run = verbs.add_parser("run", help="serve, as the configuration says")
    check = verbs.add_parser("check-config", help="say whether a configuration can be used, and every fault of it")
    for parser_, name in ((run, "run"), (check, "check_config")):
        parser_.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the TOML file")
        parser_.set_defaults(does=("agent.commands_local", name))
    check.add_argument("--json", action="store_true", help="print JSON")
    schema = verbs.add_parser("config-schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(does=("agent.commands_local", "config_schema"))


def _add_asking(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    status = verbs.add_parser("status", help="how a running Pharos is: sources, names, listeners; 1 when not ready")
    status.set_defaults(does=("agent.commands_ask", "status"))
    tasks = verbs.add_parser("tasks", help="the tasks that a running Pharos knows")
    tasks.add_argument("app", nargs="?", metavar="APP", help="only this app: a task name, or Marathon's /app/id")
    tasks.set_defaults(does=("agent.commands_ask", "tasks"))
    vips = verbs.add_parser("vips", help="the virtual IPs that a running Pharos knows; 1 when one has failed")
    vips.add_argument("name", nargs="?", metavar="NAME", help="only this one: a name (also with its zone) or address")
    vips.set_defaults(does=("agent.commands_vips", "vips"))
    routes = verbs.add_parser(
        "routes", help="the routes of a running edge; with HOST and PATH: which one wins, and why"
    )
    routes.add_argument("host", nargs="?", metavar="HOST", help="a host name, or a URL for its host and path")
    routes.add_argument("path", nargs="?", metavar="PATH", help="the path of a request")
    routes.set_defaults(does=("agent.commands_routes", "routes"))
    resolve = verbs.add_parser("resolve", help="ask a running Pharos by DNS")
    resolve.add_argument("name", metavar="NAME", help="a name, or an address for its PTR")
    resolve.add_argument("type", nargs="?", metavar="TYPE", help="A (the default), AAAA, SRV, …, TYPE123")
    resolve.add_argument(
        "--server", metavar="ADDR:PORT", default="", help="this DNS server, instead of the one in /status"
    )
    resolve.set_defaults(does=("agent.commands_resolve", "resolve"))
    for command in (status, tasks, vips, routes, resolve):
        _add_url(command, "--api", "PHAROS_API", API, "the lookup API")
    for command in (status, resolve):
        _add_url(command, "--admin", "PHAROS_ADMIN", ADMIN, "the [admin] address")
    for command in (status, tasks, vips, routes, resolve):
        _add_access(command)


def _add_access(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    for option, holds in _ACCESS.items():
        command.add_argument(option, default="", metavar="FILE", help=holds)


def _add_url(command: argparse.ArgumentParser, option: str, variable: str, default: str, what: str) -> None:
    url = os.environ.get(variable) or default
    command.add_argument(
        option, metavar="URL", default=url, help=f"{what} (default {default}; environment: {variable})"
    )


def _add_scale(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    scale = verbs.add_parser(
        "scale", help="the apps that are scaled; of APP: why it has as many instances as it has; change it"
    )
    scale.add_argument("app", nargs="?", metavar="APP", help="Marathon's app id")
    scale.add_argument(
        "what",
        nargs="?",
        metavar="N|pause|resume|explain",
        help="so many instances, once; leave it alone; go on; say why (also without this word)",
    )
    scale.add_argument("--cpus", type=float, metavar="X", help="processors of each instance, by a rolling deployment")
    scale.add_argument("--mem", type=float, metavar="Y", help="memory of each instance (MiB), by a rolling deployment")
    scale.add_argument("--wait", action="store_true", help="follow the deployment to its end; 1 when that fails")
    scale.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="with --wait: 1 after this time")
    scale.set_defaults(does=("agent.commands_scale", "scale"))
    _add_url(scale, "--admin", "PHAROS_ADMIN", ADMIN, "the [admin] address")
    _add_access(scale)


def _add_import(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    peers = verbs.add_parser("import", help="print the TOML equivalent of another product's configuration")
    peer = peers.add_subparsers(dest="peer", metavar="PRODUCT", required=True)
    mesos_dns = peer.add_parser(
        "mesos-dns", help="from its config.json; what has no equivalent is a comment and a warning"
    )
    mesos_dns.add_argument("file", type=Path, metavar="CONFIG.json")
    mesos_dns.set_defaults(does=("agent.commands_local", "import_mesos_dns"))
    for name in ("marathon-lb", "marathon-lb-autoscale"):
        # No word is an option of this command: all belong to that product, whether "--" stands before them or not.
        flags = peer.add_parser(
            name,
            prefix_chars="\0",
            add_help=False,
            help="from its command line; what has no equivalent is a comment and a warning",
        )
        flags.add_argument("flags", nargs=argparse.REMAINDER, metavar="-- FLAGS…")
        flags.set_defaults(does=("agent.commands_local", "import_flags"))


def _add_resolv_conf(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    node = verbs.add_parser("resolv-conf", help="the file that [resolver] resolv_conf keeps")
    actions = node.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("status", "who is asked now, and what the original says"),
        ("restore", "put the original back, if no Pharos runs"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the TOML file")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(does=("agent.commands_resolv_conf", name))


def _add_demo(verbs: _Verbs[argparse.ArgumentParser], verb: str, name: str, help_text: str) -> None:
    """`demo` and `simulate` bring their own options; their modules are heavy and loaded for them alone."""
    command = verbs.add_parser(name, help=help_text)
    command.set_defaults(does=("agent.commands_local", name))
    if verb == name:
        importlib.import_module(f"agent.demo.{name}").add_arguments(command)
