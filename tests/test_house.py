"""The house rules as tests: sizes, names, the import rule, metric names, documents that tell the truth."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("agent", "lb4", "lb7", "mesos_dns")
SOURCES = sorted(
    path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py*") if path.suffix in {".py", ".pyx"}
)
MODULES = [path for path in SOURCES if path.stem not in {"__init__", "__main__"}]
READMES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("[!.]*/README.md"), *REPOSITORY.glob("[!.]*/*/README.md")])

DOCUMENTED = ("agent", "lb4", "lb7", "lb7/autoscale", "mesos_dns", "mesos_dns/resolver")
"""Folders whose READMEs have examples."""

MOST_LINES_OF_A_FILE = 600
MOST_LINES_OF_A_FUNCTION = 80

# A name made of one of these says nothing about what is inside.
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers", "misc"}
EMPTY_MODULE_WORDS = EMPTY_WORDS | {"common"}

METRIC_NAME = re.compile(r"pharos_(source|catalog|dns|resolver|l4|l7|autoscale|deploy|watch|api)_[a-z0-9_]+")
METRIC_LIKE = re.compile(r"pharos_[a-z0-9_]+")
METRIC_TYPES = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
METRIC_FAMILY_TYPES = {f"{kind}MetricFamily" for kind in (*METRIC_TYPES, "GaugeHistogram", "StateSet", "Unknown")}
NOT_BASE_UNITS = {
    *("ms", "us", "ns", "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days"),
    *("kb", "mb", "gb", "kib", "mib", "gib", "kilobytes", "megabytes", "gigabytes", "bits", "percent"),
}

# Who installs and builds Pharos says from where; our files never do. These name no source of packages.
URL = re.compile(r"\b[a-z][a-z0-9+]*://(?P<host>[^/\s\"'`)>:]*)")
HARMLESS_HOSTS = re.compile(
    r"localhost|pharos|edge|(127|10)(\.[0-9]+){3}|(.+\.)?example(\.(com|net|org))?|www\.w3\.org|www\.rfc-editor\.org|prometheus\.io"
)


def place(path: Path) -> str:
    """A path as the repository sees it."""
    return str(path.relative_to(REPOSITORY))


def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(), place(path))


class Function(NamedTuple):
    """Where a function is and how many lines it has, from `def` to its last statement."""

    name: str
    line: int
    lines: int


def functions(path: Path) -> Iterator[Function]:
    """All functions of a Python or Cython file, nested ones too."""
    if path.suffix == ".py":
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        return
    lines = path.read_text().splitlines()
    for start, line in enumerate(lines):
        head = re.match(r"(\s*)(?:async\s+def|def|cp?def)\s+(?!class\b|enum\b|struct\b)[^=(]*?(\w+)\(", line)
        if head:
            yield Function(head[2], start + 1, _cython_extent(lines, start, len(head[1])))


def _cython_extent(lines: list[str], start: int, indent: int) -> int:
    """Lines of a block that begins at `start`: those indented deeper (a closing bracket of the head included)."""
    last = start
    for number in range(start + 1, len(lines)):
        text = lines[number]
        if text.strip() and len(text) - len(text.lstrip()) <= indent and not text.lstrip().startswith(")"):
            break
        if text.strip():
            last = number
    return last - start + 1


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_file_and_function_sizes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_FILE
    long = [
        f"{f.name} at line {f.line}: {f.lines} lines" for f in functions(path) if f.lines > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_module_says_what_it_is_for(path: Path) -> None:
    if path.suffix == ".py":
        docstring = ast.get_docstring(tree(path)) or ""
    else:
        code = re.sub(r"\A(?:#.*\n|\s*\n)*", "", path.read_text())
        docstring = code.removeprefix('"""').partition('"""')[0] if code.startswith('"""') else ""
    first = docstring.partition("\n")[0]
    assert first.endswith((".", ":")), f"the docstring's first line is to be one sentence, not {first!r}"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_names_say_something(path: Path) -> None:
    modules = {word for part in path.relative_to(REPOSITORY).with_suffix("").parts for word in words(part)}
    assert not modules & EMPTY_MODULE_WORDS
    names = [f.name for f in functions(path)]
    if path.suffix == ".py":
        names += [node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    assert not [name for name in names if words(name) & EMPTY_WORDS]


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_every_module_has_its_unit_test(path: Path) -> None:
    mirror = REPOSITORY / "tests" / "unit" / path.parent.relative_to(REPOSITORY)
    names = {f"test_{path.stem}.py", f"test_{path.stem.lstrip('_')}.py"}
    assert any((mirror / name).is_file() for name in names), f"{place(mirror)} has none of {sorted(names)}"


def test_import_rule() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_build_definition_names_every_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    on_disk = {place(path.parent).replace("/", ".") for path in SOURCES if path.stem == "__init__"}
    assert set(project["tool"]["setuptools"]["packages"]) == on_disk
    native = {source for module in project["tool"]["setuptools"]["ext-modules"] for source in module["sources"]}
    assert native >= {place(path) for path in SOURCES if path.suffix == ".pyx"}


# --- metrics --------------------------------------------------------------------------------------


class Metric(NamedTuple):
    """A metric's name in the code; `kind` is empty where only the name stands, as in a table."""

    name: str
    kind: str
    place: str


def metrics() -> list[Metric]:
    """Every string in the packages that is, or looks like, the name of a metric."""
    found = []
    for path in SOURCES:
        if path.suffix != ".py":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                found += _named_by_call(node, place(path))
            elif isinstance(node, ast.Constant) and METRIC_LIKE.fullmatch(str(node.value)):
                found.append(Metric(str(node.value), "", f"{place(path)}:{node.lineno}"))
    return found


def _named_by_call(node: ast.Call, where: str) -> list[Metric]:
    function = node.func
    kind = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    # collections.Counter has no name as its first argument, so it drops out below.
    if kind not in METRIC_TYPES | METRIC_FAMILY_TYPES:
        return []
    given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
    return [
        Metric(value.value, kind.removesuffix("MetricFamily"), f"{where}:{node.lineno}")
        for value in given
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]


def test_metric_names() -> None:
    found = metrics()
    assert found, "no metric in all packages: this test looks in the wrong places"
    wrong = []
    for metric in found:
        if not METRIC_NAME.fullmatch(metric.name):
            wrong.append(f"{metric}: not pharos_PART_WHAT_UNIT")
        if (metric.kind == "Counter") != metric.name.endswith("_total") and metric.kind:
            wrong.append(f"{metric}: counters, and only they, end in _total")
        if set(metric.name.split("_")) & NOT_BASE_UNITS:
            wrong.append(f"{metric}: seconds, bytes and ratios only")
    assert not wrong, "\n".join(wrong)


# --- documents ------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block of a README that asks to be tested."""

    place: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    """All fenced blocks whose info string is `console test`, `toml test` or `python test`."""
    for path in READMES:
        if not path.is_file():
            continue
        text = path.read_text()
        for match in re.finditer(r"^```(console|toml|python) test\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(f"{place(path)}:{line}", match[1], match[2])


def conversation(text: str) -> list[tuple[str, list[str]]]:
    """A console block as commands, each with the lines that must be in its output.

    "$ " begins a command, "> " continues it, "…" and "..." stand for lines that may differ.
    """
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif line.startswith("> ") and steps and not steps[-1][1]:
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
        elif line.strip() not in {"", "…", "..."}:
            steps[-1][1].append(line.rstrip())
    return steps


def run_console(block: Block, folder: Path) -> None:
    """Run a console block with the installed `pharos` first on the path, in an empty folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, expected in conversation(block.text):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        missing = [line for line in expected if line not in done.stdout]
        assert not missing, f"{block.place}: $ {command}\nprinted\n{done.stdout}\nwithout\n" + "\n".join(missing)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in blocks()])
def test_readme_example(block: Block, tmp_path: Path) -> None:
    if block.language == "console":
        run_console(block, tmp_path)
    elif block.language == "toml":
        from agent.config import load_text

        load_text(block.text, block.place)
    else:
        code = compile(block.text, block.place, "exec")
        exec(code, {"__name__": "__main__"})  # noqa: S102 - the repository's own documents


@pytest.mark.parametrize("name", ["README.md", *(f"{place}/README.md" for place in DOCUMENTED)])
def test_readme_has_examples_that_are_tested(name: str) -> None:
    assert [block for block in blocks() if block.place.startswith(f"{name}:")]


REFERENCES = ("lb7/autoscale", "agent", "lb4", "lb7", "mesos_dns")


@pytest.mark.parametrize("package", REFERENCES)
def test_config_reference_is_what_the_code_accepts(package: str) -> None:
    """The reference between the markers is generated; the nearest of these READMEs has the sections below it."""
    from agent.config import SECTIONS, reference_markdown

    homes = {
        name: next(place for place in REFERENCES if kind.__module__.startswith(place.replace("/", ".")))
        for name, kind in SECTIONS.items()
    }
    sections = [name for name, home in homes.items() if home == package]
    if package == "agent":
        sections.insert(0, "")
    text = (REPOSITORY / package / "README.md").read_text()
    written = text.partition("<!-- config:begin -->")[2].partition("<!-- config:end -->")[0]
    assert written.strip() == reference_markdown(sections).strip()


def test_files_that_install_name_no_package_source() -> None:
    files = [
        *(REPOSITORY / "requirements").iterdir(),
        *(REPOSITORY / name for name in ("dev", "pyproject.toml", ".ci/run", ".dockerignore")),
        *(path for path in (REPOSITORY / "docker").rglob("*") if path.is_file()),
        *(REPOSITORY / "tests" / "system").glob("*.sh"),
    ]
    wrong = [
        f"{place(path)}: {match[0]}"
        for path in files
        if path.is_file()
        for match in URL.finditer(path.read_text())
        if not HARMLESS_HOSTS.fullmatch(match["host"])
    ]
    assert not wrong, "\n".join(wrong)
