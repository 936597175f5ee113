"""The configuration file: TOML in, one checked `Config` out, or every problem with it at once.

    config = load(Path("/etc/pharos.toml"))

An error names the file, the key's path, what was expected, and for an unknown key the nearest known
one: mesos_dns/toml_tables.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent import checks
from agent.checks import advice
from agent.file_contents import content_problems, watched_problems
from agent.reference import redacted, reference_markdown, schema
from agent.sections import PLANNED, SECRETS, SECTIONS, AdminConfig, Config, LogConfig
from mesos_dns.toml_tables import Problem, TableReader, TomlError, decode, parse, read, shown

__all__ = [
    "SECTIONS",
    "AdminConfig",
    "Config",
    "ConfigError",
    "LogConfig",
    "Problem",
    "advice",
    "load",
    "load_text",
    "read",
    "redacted",
    "reference_markdown",
    "schema",
]

ConfigError = TomlError
"""A configuration that can't be used."""


def load(path: Path, *, watched: bool = False) -> Config:
    """Read and check the file and the keys, certificates and tokens that it names. Raises ConfigError.

    `watched`: also the files that a running Pharos watches, which it starts without while they are bad.
    """
    config = load_text(decode(read(path), str(path)), str(path))
    found = list(checks.file_problems(config)) or list(content_problems(config))
    if watched:
        found += watched_problems(config)
    if found:
        raise ConfigError(str(path), found)
    return config


def load_text(text: str, name: str) -> Config:
    """Check TOML text; `name` stands for the file in errors. Files it names are not looked at.

    Raises ConfigError with all problems of keys, types and values that can be found at once.
    """
    found: list[Problem] = []
    reader = TableReader(found, secrets=SECRETS, sections=SECTIONS)
    values: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in parse(text, name).items():
        if key in PLANNED:
            found.append(Problem(key, f"section [{key}] is not available in this version"))
        elif key in SECTIONS and isinstance(value, dict):
            values[key] = reader.struct(SECTIONS[key], value, f"{key}.")
        elif key in SECTIONS:
            found.append(Problem(key, f"expected a section, [{key}], got {shown(value)}"))
        else:
            plain[key] = value
    config = reader.struct(Config, plain, also_known=SECTIONS, values=values)
    wrong = {problem.path.partition("[")[0] for problem in found}
    found += [p for p in checks.problems(config) if p.path.partition("[")[0] not in wrong]
    if found:
        raise ConfigError(name, found)
    return config
