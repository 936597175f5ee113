"""`pharos resolv-conf`: what a node's resolv.conf is now, and its original back when no Pharos runs.

Each takes the parsed arguments and returns the exit code: 0 ok, 1 failed, 2 config error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from agent.resolv_conf import listen_addresses, plain_servers
from agent.resolv_conf_file import ResolvConf
from agent.table import facts
from mesos_dns.config import decode_hook
from mesos_dns.resolver.config import ResolverConfig

SAVED = "resolv.conf.saved"
"""The original's name in `state_dir`."""
WAIT = 10.0
"""Seconds for a watchdog that is about to give the file back."""

_Command = Callable[[argparse.Namespace, ResolvConf, Sequence[str]], int]


def file_of(resolver: ResolverConfig, state_dir: str) -> ResolvConf | None:
    """The file that a configuration has Pharos keep, None for none. Raises ValueError: no address of `listen` fits."""
    if not resolver.resolv_conf:
        return None
    return ResolvConf(Path(resolver.resolv_conf), Path(state_dir) / SAVED, listen_addresses(resolver.listen))


def status(args: argparse.Namespace) -> int:
    """`pharos resolv-conf status -c FILE`: who is asked now, and what the original says."""
    return _with_file(args, _status)


def restore(args: argparse.Namespace) -> int:
    """`pharos resolv-conf restore -c FILE`: the original back, if Pharos has left its own text there; for
    systemd's ExecStopPost=. 1 when a running Pharos keeps the file, or when there is nothing to put there."""
    return _with_file(args, _restore)


def _with_file(args: argparse.Namespace, command: _Command) -> int:
    from agent.config import ConfigError

    try:
        resolver, state_dir = _read(args.config)
        file = file_of(resolver, state_dir)
    except (ConfigError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if file is None:
        _print(args, {"path": "", "state": "off"}, "resolver.resolv_conf is not set: no file is kept")
        return 0
    try:
        return command(args, file, resolver.upstreams)
    except OSError as error:
        print(f"{file.path}: {error.strerror or error}", file=sys.stderr)
        return 1


def _read(path: Path) -> tuple[ResolverConfig, str]:
    """The few keys that matter here: a mistake elsewhere in the file must not leave a node without DNS.

    Raises ConfigError, ValueError.
    """
    from agent import config

    try:
        document = tomllib.loads(config.read(path).decode())
        section = document.get("resolver", {})
        known = {key: section[key] for key in ("listen", "upstreams", "resolv_conf") if key in section}
        resolver = msgspec.convert(known, ResolverConfig, dec_hook=decode_hook)
        return resolver, msgspec.convert(document.get("state_dir", config.Config().state_dir), str)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error


def _status(args: argparse.Namespace, file: ResolvConf, upstreams: Sequence[str]) -> int:
    value = {
        "path": str(file.path),
        "state": file.state(),
        "nameservers": file.servers(),
        "original_nameservers": file.original_nameservers(),
        "saved": str(file.saved) if file.saved.exists() else "",
        "kept": file.is_kept(),
    }
    _print(args, value, "\n".join(facts(value)))
    return 0


def _restore(args: argparse.Namespace, file: ResolvConf, upstreams: Sequence[str]) -> int:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            lock = file.lock()
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                print(f"{file.path}: a running Pharos keeps it; it gives it back at its end", file=sys.stderr)
                return 1
            time.sleep(0.1)
    try:
        file.clean()
        result = file.release(plain_servers(upstreams))
    finally:
        file.unlock(lock)
    texts = {
        "original": "the original is back",
        "upstreams": "the original names no server that is not Pharos: upstreams stand there",
        "not ours": "is not Pharos' text: left as it is",
        "nothing": "no original is saved, and upstreams names no server by UDP or TCP on port 53: left as it is",
    }
    failed = result == "nothing" and file.state() == "ours"
    _print(args, {"path": str(file.path), "result": result}, f"{file.path}: {texts[result]}")
    return 1 if failed else 0


def _print(args: argparse.Namespace, value: dict[str, object], text: str) -> None:
    print(json.dumps(value, indent=2) if args.json else text)
