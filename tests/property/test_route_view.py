"""The route view under random change: always what a view made anew from the same catalog is, and told exactly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lb7.config import L7Config
from lb7.view import RouteView
from mesos_dns.catalog import Delta
from mesos_dns.model import App, AppCheck, AppPort, Draining, Entity, Framework, Health, HealthOverlay, Key, Task
from tests.fakes.marathon_apps import FollowedTable

NAMES = ("/a", "/b", "/team/x", "/team_x")
FRAMEWORKS = ("m1", "m2")
HOSTS = ("a.b", "x.a.b", "*.a.b", "*", "a.b,c", "A.b:80", "bad host")
GROUPS = ("/a", "a", "/team/x", "elsewhere/a")
CONFIGS = (
    L7Config(),
    L7Config(groups=("*",), strict=True),
    L7Config(https=(), auto_ports=(10000, 10002)),
    L7Config(compat="marathon-lb"),
    L7Config(compat="marathon-lb", haproxy_map=True, auto_ports=(10000, 10002)),
    L7Config(compat="marathon-lb", health="ignore", service_ports=False),
)

port_labels = st.fixed_dictionaries(
    {},
    optional={
        "VHOST": st.sampled_from(HOSTS),
        "PATH": st.sampled_from(("/x", "/x/y /z", "-i /X", "x")),
        "AUTH": st.sampled_from(("R:u:h", "R:u", "S:v:h")),
        "MODE": st.sampled_from(("tcp", "http")),
        "PORT": st.sampled_from(("10000", "10001", "80")),
        "GROUP": st.just("internal"),
        "ENABLED": st.sampled_from(("true", "false")),
        "REDIRECT_TO_HTTPS": st.just("true"),
        "HTTP_BACKEND_REDIR": st.just("/start"),
        "BACKEND_WEIGHT": st.sampled_from(("-1", "2")),
        "BIND_ADDR": st.sampled_from(("10.0.0.1", "10.0.0.2")),
    },
)


@st.composite
def apps(draw: st.DrawFn) -> App:
    labels = {"HAPROXY_GROUP": draw(st.sampled_from(("external", "external", "external", "internal")))}
    for index in range(2):
        labels |= {f"HAPROXY_{index}_{name}": value for name, value in draw(port_labels).items()}
    if draw(st.booleans()) and draw(st.booleans()):
        labels["HAPROXY_DEPLOYMENT_GROUP"] = draw(st.sampled_from(GROUPS))
        labels["HAPROXY_DEPLOYMENT_NEW_INSTANCES"] = "0"
        labels["HAPROXY_DEPLOYMENT_TARGET_INSTANCES"] = draw(st.sampled_from(("1", "3", "x")))
    if draw(st.booleans()):
        labels |= {"PHAROS_SCALE_MAX": "3", "PHAROS_SCALE_RPS": "1", "PHAROS_SCALE_MIN": draw(st.sampled_from("01"))}
    ports = draw(st.lists(st.sampled_from((0, 10000, 10000, 10001)), max_size=2))
    return App(
        id=draw(st.sampled_from(NAMES)),
        labels=tuple(labels.items()),
        kind=draw(st.sampled_from(("app", "app", "app", "pod"))),
        network=draw(st.sampled_from(("bridge", "container", "host"))),
        ports=tuple([AppPort(port, 8080 + index) for index, port in enumerate(ports)]),
        checks=draw(st.sampled_from(((), (AppCheck(port_index=0),)))),
        instances=draw(st.integers(0, 3)),
        config_changed=draw(st.sampled_from((1.0, 2.0))),
        scaled=draw(st.sampled_from((1.0, 2.0))),
        framework_id=draw(st.sampled_from(FRAMEWORKS)),
    )


overlays = st.builds(
    HealthOverlay,
    framework_id=st.sampled_from(FRAMEWORKS),
    task_id=st.sampled_from(("t1", "t2", "t3", "t4")),
    health=st.sampled_from((*Health, Health.HEALTHY, Health.HEALTHY)),
    ports=st.sampled_from(((31000, 31001), (31000,), ())),
    app=st.sampled_from(NAMES),
    host=st.sampled_from(("10.1.0.1", "10.1.0.2")),
    host_addresses=st.sampled_from((("10.1.0.1",), ("10.1.0.2",), ())),
    addresses=st.sampled_from((("9.0.0.1",), ())),
    state=st.sampled_from(("TASK_RUNNING", "TASK_RUNNING", "TASK_KILLING")),
    started=st.sampled_from((1.0, 2.0)),
)
mesos_tasks = st.builds(
    Task,
    framework_id=st.sampled_from(FRAMEWORKS),
    id=st.sampled_from(("t1", "t2", "t3", "t4")),
    name=st.just("t"),
    node_id=st.just("n"),
    state=st.sampled_from(("TASK_RUNNING", "TASK_RUNNING", "TASK_FAILED")),
    health=st.sampled_from((Health.NONE, Health.HEALTHY, Health.UNHEALTHY)),
)
frameworks = st.builds(Framework, id=st.sampled_from(FRAMEWORKS), name=st.just("marathon"))
drained = st.builds(
    Draining,
    framework_id=st.sampled_from(FRAMEWORKS),
    task_id=st.sampled_from(("t1", "t2", "t3", "t4")),
    until=st.sampled_from((1.0, 2.0)),
)
entities = st.one_of(apps(), apps(), overlays, overlays, mesos_tasks, frameworks, drained)
# An entity comes (or is another one), the one that is there n-th goes, the configuration is another one, or a moment
# passes, in which all that happened before is seen at once.
steps = st.lists(
    st.one_of(
        entities,
        entities,
        st.integers(0, 30),
        st.sampled_from(CONFIGS),
        st.just("flush"),
    ),
    max_size=40,
)


class World:
    """A catalog, what of it is not yet told, and which tasks Mesos dropped while their framework was known."""

    def __init__(self) -> None:
        self.current: dict[Key, Entity] = {}
        self.told: dict[Key, Entity] = {}
        self.dropped: dict[Key, Task] = {}

    def delta(self) -> Delta:
        """What changed since the last one."""
        keys = self.current.keys() | self.told.keys()
        changes = {
            key: (self.told.get(key), self.current.get(key))
            for key in sorted(keys)
            if self.told.get(key) != self.current.get(key)
        }
        for key, (before, after) in changes.items():
            if isinstance(before, Task) and after is None:
                self.dropped[key] = before
            elif isinstance(after, Task):
                self.dropped.pop(key, None)
            elif isinstance(before, HealthOverlay) and after is None:
                self.dropped.pop(("task", *key[1:]), None)
        self.told = dict(self.current)
        return Delta(1, changes)

    def anew(self, config: L7Config) -> RouteView:
        """A view that has seen nothing but what there is, and what Mesos dropped."""
        view = RouteView(config, certificates=True)
        view.apply(Delta(1, {key: (None, task) for key, task in self.dropped.items()}))
        view.apply(Delta(1, dict.fromkeys(self.dropped, (None, None))))
        view.apply(Delta(1, {key: (None, entity) for key, entity in self.told.items()}))
        view.flush()
        return view


@settings(max_examples=150)
@given(steps, st.sampled_from(CONFIGS), st.booleans())
def test_incremental_is_from_scratch(changes: list[object], config: L7Config, slowly: bool) -> None:
    world = World()
    view = RouteView(config, certificates=True)
    view.flush()
    followed = FollowedTable(view)
    for change in [*changes, "flush"]:
        if isinstance(change, L7Config):
            config = change
            view.reconfigure(config, certificates=True)
        elif isinstance(change, int):
            if world.current:
                del world.current[sorted(world.current)[change % len(world.current)]]
        elif change != "flush":
            assert isinstance(change, App | HealthOverlay | Task | Framework | Draining)
            world.current[change.key] = change
        if change == "flush" or not slowly:
            view.apply(world.delta())
        if slowly and change != "flush":
            view._slice(0.0)
            continue
        view.flush()
        new = world.anew(config)
        assert view.table == new.table
        assert followed.table == view.table
        assert view.problems == new.problems
        assert view.problem_counts == new.problem_counts
        assert view.faults == new.faults == 0
        assert not view.pending
