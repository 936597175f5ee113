"""Apps that are scaled by what a real Prometheus server answers: by numbers, and not by what is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.system.autoscale_alone import Alone, alone
from tests.system.autoscale_stage import HOST, LIMIT, TARGET
from tests.system.prometheus_server import Prometheus, Served, exporter, missing, prometheus
from tests.system.resolver_lab import until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

POLICY = {
    "PHAROS_SCALE_MIN": "1",
    "PHAROS_SCALE_MAX": "6",
    "PHAROS_SCALE_DOWN_WINDOW": "1s",
    "PHAROS_SCALE_MAX_AGE": "6s",
}
QUERIES = {
    # What is asked → the instances that it leads to from 2, by a target of 10 each.
    "scalar": ("scalar(sum(jobs))", 4),
    "vector": ("sum by (queue) (jobs)", 4),
    "constant": ("vector(10)", 1),
}
NO_NUMBERS = {
    # What is asked → what is told of it. Nothing is changed.
    "several": ("shards", "2 samples, expected one: use sum()"),
    "absent": ("not_there", "no data"),
    "nan": ("scalar(not_there)", "NaN, expected a number"),
    "infinite": ("vector(1) / 0", "+Inf, expected a number"),
    "bad": ("sum(", "400"),
    "range": ("jobs[1m]", "a range of samples"),
    "text": ('"ten"', "a string"),
    "histogram": ("jobs_bucket", "no data"),
}


class Made:
    """A Pharos, a Prometheus that scrapes it, and an exporter."""

    def __init__(self, pharos: Alone, server: Prometheus, told: Served) -> None:
        self.pharos, self.server, self.told = pharos, server, told

    def tell(self, jobs: float) -> None:
        """What the exporter says from now on; wait until Prometheus knows it."""
        self.told.text = f'jobs{{queue="a"}} {jobs}\nshards{{n="1"}} 30\nshards{{n="2"}} 40\n'
        until(lambda: self.server.value("sum(jobs)") == jobs, "it is scraped", self.server.program.text, LIMIT)

    def create(self, name: str, query: str, instances: int = 2) -> str:
        """An app that is scaled by a query, 10 for each instance."""
        asked = {"PHAROS_SCALE_PROMETHEUS_jobs": query, "PHAROS_SCALE_TARGET_jobs": "10"}
        self.pharos.create(instances, f"/{name}", **POLICY, **asked)
        return f"/{name}"

    def create_own(self) -> None:
        """One that is scaled by the requests that Pharos' edge counts, as Prometheus has them."""
        # Twelve scrapes: what an edge's workers counted is told once a second.
        query = 'sum(rate(pharos_l7_requests_total{app="/own"}[6s]))'
        routed = {"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "own.example.test"}
        asked = {"PHAROS_SCALE_PROMETHEUS_rate": query, "PHAROS_SCALE_TARGET_rate": str(TARGET)}
        self.pharos.create(1, "/own", **POLICY, **routed, **asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = Path(tmp_path_factory.mktemp("prometheus"))
    api = free_ports(1)[0]
    with exporter() as told, prometheus(folder / "server", [told.place, f"{HOST}:{api}"]) as server:
        with alone(folder, f'prometheus = "{server.url}"', api=api) as pharos:
            found = Made(pharos, server, told)
            found.tell(40)
            yield found


def test_numbers_count_and_nothing_else(made: Made) -> None:
    for name, (query, _) in QUERIES.items():
        made.create(name, query)
    for name, (query, _) in NO_NUMBERS.items():
        made.create(name, query)
    for name, (_, expected) in QUERIES.items():
        made.pharos.until_running(expected, app=f"/{name}")
    for name, (_, why) in NO_NUMBERS.items():
        decision = made.pharos.decided("no-metric", f"/{name}")
        assert why in decision["text"], (name, decision)
        assert decision["instances"] == 2
        assert made.pharos.changes_of(f"/{name}") == []


def test_requests_that_pharos_itself_counted(made: Made) -> None:
    made.create_own()
    load = made.pharos.load_of("own.example.test", 4.4 * TARGET)
    until(lambda: made.pharos.running("/own") >= 4, "it grows", made.pharos.told, LIMIT)
    load.rate = 0.5 * TARGET
    made.pharos.until_running(1, app="/own")
    assert set(load.statuses) == {200}, load.failures


def test_while_the_server_is_away_nothing_goes_down(made: Made) -> None:
    app = made.create("held", "sum(jobs)", 4)
    made.pharos.decided("steady", app)
    made.server.program.kill()
    decision = made.pharos.decided("no-metric", app)
    assert decision["instances"] == made.pharos.running(app) == 4
    made.server.program.start()
    until(lambda: made.server.value("sum(jobs)") == 40, "it is back", made.server.program.text, LIMIT)
    made.pharos.decided("steady", app)
    made.tell(15)
    made.pharos.until_running(2, app=app)
    assert made.pharos.changes_of(app) == [(4, 2)]
