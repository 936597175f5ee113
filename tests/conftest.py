"""What every test may rely on: no blocked event loop, free ports, recorded truth, fixed random choices."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.ports import free_ports
from tests.system.ensemble import Ensemble, ensemble
from tests.vm.machines import Machines, checked, programs_of

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("agent", "lb4", "lb7", "mesos_dns")

# In CI the same examples every time: a change is blamed only for what it does. At a desk new ones every time.
# No deadline anywhere: machines that run tests are shared, and no test asserts times.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Where a blocking call is right although the event loop runs: an import happens once, and a log line
# must be out before the next statement.
MAY_BLOCK = (
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    ("logging/__init__.py", {"emit", "flush", "acquire", "callHandlers"}),
    # A time zone's file of a few KB, once for each zone, as with imports.
    ("lb7/autoscale/schedule.py", {"zone"}),
    # Sockets that workers wait on; here every call says MSG_DONTWAIT.
    ("mesos_dns/udp.py", {"_drain", "_drain_info", "<lambda>"}),
)


@pytest.fixture(autouse=True)
def never_block_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an asyncio test when our code makes a blocking call on the loop's thread.

    Tests marked `may_block(reason)` are left alone: those that run a whole program in one thread to measure it.
    """
    if request.node.get_closest_marker("asyncio") is None or request.node.get_closest_marker("may_block"):
        yield
        return
    with blockbuster_ctx(scanned_modules=list(PACKAGES)) as guard:
        for function in guard.functions.values():
            for filename, names in MAY_BLOCK:
                function.can_block_in(filename, names)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_group_is_signalled() -> Iterator[None]:
    """Fail a test whose process is not there yet: to `os.kill`, 0 is the test run itself and all that started it."""
    kill = os.kill

    def checked_kill(pid: int, number: int) -> None:
        if pid <= 0:
            raise ValueError(f"{pid} is no process")
        kill(pid, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", checked_kill)
        yield


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on, neither by UDP nor by TCP."""
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """One real ZooKeeper server for tests that leave it running; each test keeps to a path of its own."""
    with ensemble(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture(scope="session")
def truth() -> Path:
    """The folder of answers recorded from the real mesos-dns, dcos-net and Mesos; skips where there is none.

    It is too large for this repository: what every machine must test is in tests/data.
    """
    folder = Path(os.environ.get("PHAROS_TRUTH") or REPOSITORY.parent / "shared" / "truth")
    if not folder.is_dir():
        pytest.skip(f"no recorded truth at {folder} (set PHAROS_TRUTH)")
    return folder


MACHINES = pytest.StashKey[Machines]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a virtual machine comes last."""
    items.sort(key=lambda item: item.get_closest_marker("vm") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the virtual machines that the collected tests want."""
    programs = programs_of(session.items)
    if programs and not session.config.option.collectonly:
        session.stash[MACHINES] = Machines(programs)
        session.stash[MACHINES].start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """None of them outlives the session."""
    if MACHINES in session.stash:
        session.stash[MACHINES].stop()


@pytest.fixture
def in_vm(request: pytest.FixtureRequest) -> str:
    """What the program of the test's marker `vm` has printed in a virtual machine, where it ended well."""
    marker = request.node.get_closest_marker("vm")
    return checked(request.session.stash[MACHINES].result(marker.args[0]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs root where this process can't do what root can, and say what that is."""
    if item.get_closest_marker("root") and (missing := _missing_for_root()):
        pytest.skip(missing)


@functools.cache
def _missing_for_root() -> str:
    """What tests marked `root` lack here; empty: nothing. Containers often have a root without CAP_SYS_ADMIN."""
    if os.geteuid() != 0:
        return "needs root, to make network and mount namespaces"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"needs CAP_SYS_ADMIN, to make network and mount namespaces: {tried.stderr.strip()}"
    return ""
