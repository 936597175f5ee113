"""docker/ fits the code: images, compose file, Prometheus and the systemd unit say what the program understands.

tests/system/docker_build.sh proves the same by a real engine.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.cli import parser
from agent.config import advice, load
from lb7.config import L7Config
from mesos_dns.config import Duration
from mesos_dns.connections import RESERVED_FILES

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
yaml: Any = importlib.import_module("yaml")  # has no types


def read_yaml(name: str) -> Any:
    """A YAML file of docker/, anchors and merges resolved."""
    return yaml.safe_load((DOCKER / name).read_text())


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for line in text.splitlines() if line for word, _, rest in [line.partition(" ")]]


def understands(words: list[str]) -> None:
    """Fails unless `pharos WORDS` is a command line that the program accepts."""
    parser(words[0]).parse_args(words)


# --- image ----------------------------------------------------------------------------------------


def test_last_stage_is_no_ones_root_and_has_no_compiler() -> None:
    stages = [index for index, (word, _) in enumerate(instructions()) if word == "FROM"]
    last = dict(instructions()[stages[-1] :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    installed = " ".join(rest for word, rest in instructions()[: stages[1]] if word == "RUN")
    assert "gcc" not in installed
    assert "python3" in installed
    assert "tzdata" in installed  # of schedules with a time zone


def test_what_is_copied_is_let_in() -> None:
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    names = {name.partition("/")[0] for names in copied for name in names}
    assert names == let_in
    assert all((REPOSITORY / name).exists() for name in names)
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages} <= names


def test_label_has_the_version() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert ("ARG", f"VERSION={version}") in instructions()


def test_default_command_is_understood() -> None:
    last = dict(instructions())
    assert yaml.safe_load(last["ENTRYPOINT"]) == ["pharos"]
    understands(yaml.safe_load(last["CMD"]))


# --- compose --------------------------------------------------------------------------------------

SERVICES: dict[str, Any] = read_yaml("compose.yml")["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()
    assert not [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    sources = [volume.partition(":")[0] for volume in SERVICES[name].get("volumes", ())]
    assert not [source for source in sources if source.startswith(".") and not (DOCKER / source).is_file()]
    assert {source for source in sources if not source.startswith(".")} <= set(read_yaml("compose.yml")["volumes"])


def test_commands_are_understood() -> None:
    (command,) = SERVICES["simulator"]["command"]
    words = shlex.split(command)
    assert words[:2] == ["exec", "pharos"]
    understands(words[2:])


def test_foreign_images_are_pinned() -> None:
    assert re.fullmatch(r"\$\{PROMETHEUS_IMAGE:-prom/prometheus:v\d+\.\d+\.\d+\}", SERVICES["prometheus"]["image"])


def test_node_follows_the_server_and_asks_the_same_name_server() -> None:
    config, server = load(DOCKER / "node.toml"), load(DOCKER / "pharos.toml")
    assert not list(advice(config))
    assert config.relay is not None
    assert config.resolver is not None
    assert config.api is not None
    assert server.dns is not None
    assert server.api is not None
    assert config.relay.servers == (f"http://pharos:{server.api.listen[0].rpartition(':')[2]}",)
    assert config.resolver.upstreams == server.dns.forward
    assert not config.resolver.device  # it has no capability
    port = config.resolver.listen[0].rpartition(":")[2]
    assert {each.rpartition(":")[2] for each in SERVICES["node"]["ports"]} == {f"{port}/udp", f"{port}/tcp"}
    assert Duration.parse(SERVICES["node"]["stop_grace_period"]) > config.drain_timeout
    assert "node.toml:/etc/pharos/pharos.toml" in " ".join(SERVICES["node"]["volumes"])


def test_edge_follows_the_server_and_is_published() -> None:
    config, server = load(DOCKER / "edge.toml"), load(DOCKER / "pharos.toml")
    assert not list(advice(config))
    assert config.relay is not None
    assert config.l7 is not None
    assert config.api is not None
    assert config.admin is not None
    assert server.api is not None
    assert server.marathon is not None
    assert config.relay.servers == (f"http://pharos:{server.api.listen[0].rpartition(':')[2]}",)
    assert not config.l7.checks  # the simulated tasks' addresses are nobody's
    (http,) = config.l7.http
    assert {each.rpartition(":")[2] for each in SERVICES["edge"]["ports"]} == {f"{http.rpartition(':')[2]}/tcp"}
    assert all(listen.startswith("127.0.0.1:") for listen in config.admin.listen)
    assert Duration.parse(SERVICES["edge"]["stop_grace_period"]) > config.drain_timeout
    assert "edge.toml:/etc/pharos/pharos.toml" in " ".join(SERVICES["edge"]["volumes"])


def test_configuration_fits_the_compose_file() -> None:
    config = load(DOCKER / "pharos.toml")
    assert [str(each) for each in advice(config)] == [
        "autoscale: without [zookeeper] this process alone decides: no other may have [autoscale]"
    ]
    edge = load(DOCKER / "edge.toml").api
    assert config.autoscale is not None
    assert edge is not None
    assert config.autoscale.edges == (f"http://edge:{edge.listen[0].rpartition(':')[2]}",)
    assert config.mesos is not None
    assert config.dns is not None
    assert config.api is not None
    assert config.admin is not None
    assert {master.partition(":")[0] for master in config.mesos.masters} <= SERVICES.keys()
    published = {port.rpartition(":")[2] for port in SERVICES["pharos"]["ports"]}
    dns, api = (listen[0].rpartition(":")[2] for listen in (config.dns.listen, config.api.listen))
    assert published == {f"{dns}/udp", f"{dns}/tcp", f"{api}/tcp"}
    assert all(listen.startswith("127.0.0.1:") for listen in config.admin.listen)
    assert Duration.parse(SERVICES["pharos"]["stop_grace_period"]) > config.drain_timeout


# --- Prometheus -----------------------------------------------------------------------------------


def test_prometheus_scrapes_the_lookup_api() -> None:
    config = read_yaml("prometheus.yml")
    targets = []
    for service, name in (("pharos", "pharos.toml"), ("node", "node.toml"), ("edge", "edge.toml")):
        api = load(DOCKER / name).api
        assert api is not None
        targets.append(f"{service}:{api.listen[0].rpartition(':')[2]}")
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": targets}]
    mounted = {volume.split(":")[1].rpartition("/")[2] for volume in SERVICES["prometheus"]["volumes"]}
    assert {"prometheus.yml", *config["rule_files"]} <= mounted


def test_every_alert_says_what_it_is_and_is_tested() -> None:
    rules = [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}
    expected = re.findall(r'labels: .{alertname="(\w+)"}', (DOCKER / "alerts_test.yml").read_text())
    assert set(expected) == {rule["alert"] for rule in rules}


def test_every_metric_of_the_alerts_is_described() -> None:
    rules = [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"\bpharos_[a-z0-9_]+", rule["expr"])}
    places = ("mesos_dns", "lb4", "lb7", "lb7/autoscale")
    readmes = "".join((REPOSITORY / place / "README.md").read_text() for place in places)
    described = set(re.findall(r"^\| `(pharos_\w+)`", readmes, re.MULTILINE))
    assert used
    assert used <= described


# --- systemd --------------------------------------------------------------------------------------

UNIT = DOCKER / "pharos.service"
ADDRESSES, RESOLV_CONF, VIPS = (
    UNIT.with_name("pharos.service.d") / f"{name}.conf" for name in ("addresses", "resolv-conf", "vips")
)


def unit_values(key: str, file: Path = UNIT) -> list[str]:
    """All values of a key of the unit or a drop-in, in their order."""
    return re.findall(rf"^{key}=(.*)$", file.read_text(), re.MULTILINE)


def test_unit_commands_are_understood() -> None:
    commands = [*unit_values("ExecStartPre"), *unit_values("ExecStart"), *unit_values("ExecReload")]
    ours = [shlex.split(command)[1:] for command in commands if "/pharos " in command]
    assert [words[0] for words in ours] == ["check-config", "run", "check-config"]
    for words in ours:
        understands(words)
    assert float(unit_values("TimeoutStopSec")[0].rstrip("s")) > load(DOCKER / "pharos.toml").drain_timeout


def test_unit_lets_workers_give_up_their_capability() -> None:
    allowed = False
    for value in unit_values("SystemCallFilter"):  # the last word on a call counts
        words = value.lstrip("~").split()
        if {"capset", "@privileged", "@system-service"} & set(words):  # the groups that hold it
            allowed = not value.startswith("~")
    assert allowed


def test_unit_has_room_for_an_edge() -> None:
    (files,) = unit_values("LimitNOFILE")
    most = L7Config().max_connections
    assert int(files) > 2 * most + RESERVED_FILES  # if there is but one worker: a client's socket and a server's
    (capabilities,) = unit_values("AmbientCapabilities")
    assert capabilities == "CAP_NET_BIND_SERVICE"  # of ports 80 and 443


def test_node_with_addresses_gets_one_right_more() -> None:
    given = re.findall(r"^(\w+)=(.*)$", ADDRESSES.read_text(), re.MULTILINE)
    assert given == [("AmbientCapabilities", "CAP_NET_ADMIN"), ("CapabilityBoundingSet", "CAP_NET_ADMIN")]


def test_node_that_keeps_resolv_conf_gives_it_back_whatever_happens() -> None:
    (after,) = unit_values("ExecStopPost", RESOLV_CONF)
    words = shlex.split(after)
    understands(words[1:])
    assert words[1:3] == ["resolv-conf", "restore"]
    (run,) = unit_values("ExecStart")
    assert (words[0], words[-2:]) == (shlex.split(run)[0], shlex.split(run)[-2:])  # the same program and configuration
    assert unit_values("ReadWritePaths", RESOLV_CONF) == ["/etc"]
    assert unit_values("CapabilityBoundingSet", RESOLV_CONF) == ["", "CAP_NET_BIND_SERVICE CAP_NET_ADMIN"]


def test_vips_need_the_network_and_no_more() -> None:
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert unit_values(key, VIPS) == ["CAP_NET_ADMIN CAP_NET_RAW"]
    assert unit_values("ReadWritePaths", VIPS) == ["-/run/xtables.lock"]
    assert all(command.startswith("+-") for command in unit_values("ExecStartPre", VIPS))


@pytest.mark.parametrize(
    "drop_in", [None, ADDRESSES, RESOLV_CONF, VIPS], ids=["unit", "addresses", "resolv-conf", "vips"]
)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_unit_is_valid_and_confined(tmp_path: Path, drop_in: Path | None) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/pharos/bin/pharos", "/bin/true"))  # verify wants programs to exist
    if drop_in is not None:
        folder = tmp_path / drop_in.parent.name
        folder.mkdir()
        (folder / drop_in.name).write_text(drop_in.read_text().replace("/opt/pharos/bin/pharos", "/bin/true"))
    verify = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verify.returncode, verify.stderr) == (0, "")
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={25 if drop_in else 20}", copy],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert exposure.returncode == 0, exposure.stdout
