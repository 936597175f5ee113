"""The edge's part of /status."""

from __future__ import annotations

import json

from lb7.metrics import L7Parts
from lb7.server_checks import ServerChecks
from lb7.status import APPS, EACH, status
from lb7.wire import Counters
from tests.fakes.carriers import FakeWorkers
from tests.fakes.marathon_apps import app, tasks, view_of

HASH = "$5$salt$eC8iHMk0B/acxRGi4idWiCK/.xXHLUsxovn4V591t3."
SHOP = app("/shop", {"0_VHOST": "shop.example.com", "0_BIND_OPTIONS": "accept-proxy", "0_AUTH": f"r:ann:{HASH}"})


def test_all_of_it_is_json_without_secrets() -> None:
    workers = FakeWorkers(Counters(worker={"requests": 5}, now={"connections": 2}))
    workers.certificates = {"a.pem": {"names": ("a", "b"), "expires": 0.0}, "b.pem": {"names": (), "expires": None}}
    told = status(L7Parts(view_of(None, SHOP, *tasks(SHOP)), workers, ServerChecks(lambda names: None)))
    assert "$5$" not in json.dumps(told)
    assert told["ready"] is True
    assert told["listeners"] == {"http": ["127.0.0.1:80"]}
    assert told["routes"] == {"hosts": 4, "rules": 4, "clusters": 1, "pending": False, "faults": 0}
    assert told["certificates"]["a.pem"] == {"names": ["a", "b"], "expires": "1970-01-01T00:00:00+00:00"}
    assert told["certificates"]["b.pem"]["expires"] is None
    assert (told["connections"], told["requests"]) == (2, 5)
    assert told["checks"] == {"checked": 0, "failing": 0}
    assert told["unsupported"] == {"apps": 1, "bind-options": 1}
    assert told["apps"]["/shop"][0].startswith("bind-options: HAPROXY_0_BIND_OPTIONS")


def test_before_there_are_workers() -> None:
    told = status(L7Parts(view_of()))
    assert (told["ready"], told["workers"], told["checks"], told["requests"]) == (False, [], None, 0)


def test_problems_are_bounded() -> None:
    labels = {f"0_NO_SUCH_{n}": "x" for n in range(EACH + 5)}
    told = status(L7Parts(view_of(None, *(app(f"/a{n}", labels, ports=(n + 1,)) for n in range(APPS + 5)))))
    assert told["unsupported"]["apps"] == APPS + 5
    assert len(told["apps"]) == APPS
    assert {len(texts) for texts in told["apps"].values()} == {EACH}
