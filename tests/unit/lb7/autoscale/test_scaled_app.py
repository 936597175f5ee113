"""A scaled app is known by its app's key."""

from __future__ import annotations

from lb7.autoscale.policy import Metric, Policy
from lb7.autoscale.scaled_app import ScaledApp
from mesos_dns.model import App


def test_its_key_is_the_apps() -> None:
    app = App("/shop", framework_id="f1", cluster="c")
    assert ScaledApp(app, Policy(max=2, metrics=(Metric(kind="rps", target=1),))).key == ("app", "c", "f1", "/shop")
