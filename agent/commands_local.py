"""Commands that need no running Pharos: run, check-config, config-schema, import, demo, simulate, version.

Each takes the parsed arguments and returns the exit code: 0 ok, 1 failed, 2 config error.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys


def run(args: argparse.Namespace) -> int:
    """`pharos run -c FILE`: serve until a signal ends it."""
    from agent import config, log

    try:
        loaded = config.load(args.config)
    except config.ConfigError as error:
        return _refused(error)
    log.setup(loaded.log.level, loaded.log.format)
    for problem in config.advice(loaded):
        logging.getLogger(config.__name__).warning("%s: %s", args.config, problem)

    import uvloop

    from agent.serving import serve

    return uvloop.run(serve(loaded, config_path=args.config))


def check_config(args: argparse.Namespace) -> int:
    """`pharos check-config -c FILE`: whether `run` and a reload would take the file, and what it turns on.

    A watched file that is bad is a problem here: `run` starts without it and says so."""
    from agent import config
    from agent.sections import ROLES

    try:
        loaded = config.load(args.config, watched=True)
    except config.ConfigError as error:
        if args.json:
            problems = [{"path": problem.path, "text": problem.text} for problem in error.problems]
            print(json.dumps({"ok": False, "problems": problems}, indent=2))
            return 2
        return _refused(error)
    roles = [name for name in ROLES if getattr(loaded, name) is not None]
    if args.json:
        advice = [{"path": problem.path, "text": problem.text} for problem in config.advice(loaded)]
        print(json.dumps({"ok": True, "roles": roles, "advice": advice}, indent=2))
        return 0
    for problem in config.advice(loaded):
        print(f"{args.config}: warning: {problem}", file=sys.stderr)
    print(f"{args.config}: ok; on: {', '.join(roles) or 'nothing'}")
    return 0


def config_schema(args: argparse.Namespace) -> int:
    """`pharos config-schema`: JSON Schema of the configuration."""
    from agent.config import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


def import_mesos_dns(args: argparse.Namespace) -> int:
    """`pharos import mesos-dns CONFIG.json`: the equivalent TOML on standard output, warnings on standard error."""
    from agent import config
    from agent.import_mesos_dns import import_file

    try:
        result = import_file(args.file)
    except config.ConfigError as error:
        return _refused(error)
    for warning in result.warnings:
        print(f"{args.file}: warning: {warning}", file=sys.stderr)
    sys.stdout.write(result.toml)
    return 0


def import_flags(args: argparse.Namespace) -> int:
    """`pharos import marathon-lb -- FLAGS…`, also of its autoscaler: as `import_mesos_dns`, from a command line."""
    from agent import config

    if args.peer == "marathon-lb":
        from agent.import_marathon_lb import convert
    else:
        from agent.import_marathon_lb_autoscale import convert

    try:
        result = convert(args.flags)
    except config.ConfigError as error:
        return _refused(error)
    for warning in result.warnings:
        print(f"{args.peer}: warning: {warning}", file=sys.stderr)
    sys.stdout.write(result.toml)
    return 0


def version(args: argparse.Namespace) -> int:
    """`pharos version`."""
    from importlib.metadata import version as distribution_version

    number = distribution_version("pharos")
    print(json.dumps({"name": "pharos", "version": number}) if args.json else f"pharos {number}")
    return 0


def _refused(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 2


def demo(args: argparse.Namespace) -> int:
    """`pharos demo`: everything on a simulated cluster."""
    from agent.demo.demo import run as run_demo

    return run_demo(args.seconds)


def simulate(args: argparse.Namespace) -> int:
    """`pharos simulate`: a simulated master and Marathon, until a signal ends them."""
    import uvloop

    from agent.demo.simulate import run as run_simulation

    return uvloop.run(
        run_simulation(
            args.nodes,
            args.tasks,
            args.churn,
            listen=args.listen,
            master_port=args.master_port,
            marathon_port=args.marathon_port,
            seconds=args.seconds,
            as_json=args.json,
            out=sys.stdout,
        )
    )
