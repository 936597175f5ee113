"""Which sources tell of the cluster, and whether they have."""

from __future__ import annotations

import pytest

from agent.heard import Heard
from agent.sections import Config
from mesos_dns.catalog import Catalog
from mesos_dns.config import MarathonConfig, MesosConfig, RelayConfig

MESOS = Config(mesos=MesosConfig(masters=("127.0.0.1:5050",)), marathon=MarathonConfig())
ALONE = Config(marathon=MarathonConfig(urls=("http://127.0.0.1:8080",)))
NODE = Config(relay=RelayConfig(servers=("http://127.0.0.1:8123",)))


class Told:
    """A catalog with these sources, of which those with a star have told all."""

    def __init__(self, config: Config, *names: str, addresses: bool = True) -> None:
        self.catalog = Catalog()
        for name in names:
            self.catalog.register(name.rstrip("*"))
            if name.endswith("*"):
                self.catalog.mark(name.rstrip("*"), connected=True, synced=True)
        self.heard = Heard(self.catalog, {}, lambda: config, lambda: addresses)


@pytest.mark.parametrize(
    ("config", "names", "known", "apps"),
    [
        (MESOS, ("mesos", "marathon"), False, False),
        (MESOS, ("mesos*", "marathon"), True, False),
        (MESOS, ("mesos", "marathon*"), False, True),
        (ALONE, ("marathon",), False, False),
        (ALONE, ("marathon*",), True, True),
        (NODE, ("relay",), False, False),
        (NODE, ("relay*",), True, True),
        (Config(), (), True, False),
        (MESOS, ("mesos*",), True, False),
    ],
)
def test_marathon_tells_what_runs_only_where_no_other_does(
    config: Config, names: tuple[str, ...], known: bool, apps: bool
) -> None:
    told = Told(config, *names)
    assert (told.heard.known(), told.heard.knows_apps()) == (known, apps)


def test_who_follows_is_told_nothing_before_something_was_heard() -> None:
    assert not Told(Config()).heard.has_heard()
    assert not Told(ALONE, "marathon").heard.has_heard()
    assert Told(ALONE, "marathon*").heard.has_heard()
    assert not Told(ALONE, "marathon*", addresses=False).heard.has_heard()


def test_a_marathon_beside_masters_makes_nothing_stale() -> None:
    beside = Told(MESOS, "mesos*", "marathon")
    assert not beside.heard.standing().stale
    assert "marathon" in beside.heard.standing().sources
    assert Told(ALONE, "marathon").heard.standing().stale


def test_frameworks_are_known_when_a_master_has_told_in_this_process() -> None:
    assert not Told(MESOS, "mesos", "marathon*").heard.knows_frameworks()
    assert Told(MESOS, "mesos*", "marathon").heard.knows_frameworks()
