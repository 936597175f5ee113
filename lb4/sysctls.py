"""The kernel's switches that virtual addresses need, set in a network namespace where they differ.

    Sysctls().apply(wanted(config))

What can't be written (a container's /proc/sys is read-only) is said once and changes nothing else. Nothing is set
back: others may have come to need it meanwhile.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from lb4.config import L4Config
from lb4.netlink import in_namespace
from mesos_dns.device import LOOPBACK

log = logging.getLogger(__name__)

PROC_SYS = Path("/proc/sys")
FORWARDING6 = "net/ipv6/conf/all/forwarding"
_CHEAP_REUSE = (5, 9)
"""The first kernel on which conn_reuse_mode 1 with connection tracking does not hold up a client for a second."""


def wanted(config: L4Config, kernel: tuple[int, int] | None = None, *, is_container: bool = False) -> Mapping[str, str]:
    """Values by path below /proc/sys. `kernel`: its version (major, minor), None: of this one. `is_container`: in a
    container's namespace, which forwards nothing and needs no masquerading.

    - forwarding: replies of backends to clients that are not this node's own programs
    - vs/conntrack: masquerading, also that of others for their containers, and rules on connections' states
    - vs/expire_nodest_conn: a connection to a removed backend ends at once instead of hanging
    - vs/expire_quiescent_template: the same for the memory of clients whose backend has weight 0
    - vs/conn_reuse_mode: a client's port that is used again does not lead to a backend with weight 0
    """
    if not config.sysctls:
        return {}
    values = {
        "net/ipv4/vs/expire_nodest_conn": "1",
        "net/ipv4/vs/expire_quiescent_template": "1",
    }
    if (kernel or running_kernel()) >= _CHEAP_REUSE:
        values["net/ipv4/vs/conn_reuse_mode"] = "1"
    if not is_container:
        values["net/ipv4/ip_forward"] = "1"
        values[FORWARDING6] = "1"
        if config.masquerade:
            values["net/ipv4/vs/conntrack"] = "1"
    return values


def running_kernel(release: str = "") -> tuple[int, int]:
    """This kernel's version, or that of a release's text; (0, 0) when it can't be told."""
    match = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)


class Sysctls:
    """Sets switches in the network namespace of the path `netns` ("": this one). `written` counts changes."""

    def __init__(self, netns: str = "", root: Path = PROC_SYS) -> None:
        self.written = 0
        self._netns = netns
        self._root = root
        self._failed: dict[str, str] = {}

    def apply(self, values: Mapping[str, str]) -> dict[str, str]:
        """Write those that differ; paths and reasons of those that could not be. Blocks a little.

        A kernel without IPv6 has nothing to forward: that is no failure.
        """
        try:
            failures = in_namespace(self._netns, lambda: self._apply(values))
        except OSError as error:  # the namespace is gone
            failures = dict.fromkeys(values, str(error))
        for name in sorted(failures.keys() - self._failed.keys()):
            log.warning("kernel switch not set key=%s value=%s reason=%s", _dotted(name), values[name], failures[name])
        self._failed = failures
        return failures

    def _apply(self, values: Mapping[str, str]) -> dict[str, str]:
        failures = {}
        for name, value in values.items():
            if name == FORWARDING6 and not (self._root / "net/ipv6").exists():
                continue
            try:
                if (self._root / name).read_text().strip() == value:
                    continue
                if name == FORWARDING6:
                    self._keep_router_advertisements()
                self._write(name, value)
            except OSError as error:
                failures[name] = error.strerror or str(error)
        return failures

    def _keep_router_advertisements(self) -> None:
        """Once it forwards, a device that learns its routes from routers goes on only with accept_ra 2."""
        for path in sorted((self._root / "net/ipv6/conf").glob("*/accept_ra")):
            if path.parent.name not in ("all", "default", LOOPBACK) and path.read_text().strip() == "1":
                path.write_text("2")
                self.written += 1

    def _write(self, name: str, value: str) -> None:
        (self._root / name).write_text(value)
        self.written += 1
        log.info("kernel switch set key=%s value=%s", _dotted(name), value)


def _dotted(name: str) -> str:
    """As sysctl(8) has it."""
    return name.replace("/", ".")
