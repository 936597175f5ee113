"""marathon-lb's map files."""

from __future__ import annotations

from lb7.config import L7Config
from lb7.haproxy_maps import app_map, backend_name, vhost_map
from lb7.table import Cluster
from mesos_dns.model import Entity
from tests.fakes.marathon_apps import app, table_of, tasks

ROOT = app("/p/root", {"0_VHOST": "a.example.com,B.example.com"})
PATH = app("/p/api", {"0_VHOST": "a.example.com", "0_PATH": "/api"}, ports=(10001,))
ONLY_PATH = app("/p/other", {"0_VHOST": "c.example.com", "0_PATH": "/x"}, ports=(10002,))
WILD = app("/Wild", {"0_VHOST": "*.example.com"}, ports=(10003,))
TCP = app("/db", {"0_MODE": "tcp"}, ports=(10004,))
ALL = (ROOT, PATH, ONLY_PATH, WILD, TCP)
ENTITIES: tuple[Entity, ...] = (*ALL, *(task for each in ALL for task in tasks(each, 1)))


def test_backend_names_are_marathon_lbs() -> None:
    assert backend_name(Cluster("/p/root:10000", "/p/root", 10000)) == "p_root_10000"


def test_hosts_of_http() -> None:
    text = vhost_map(table_of(*ENTITIES))
    assert text == "a.example.com p_root_10000\nb.example.com p_root_10000\n"


def test_hosts_where_there_is_no_http() -> None:
    table = table_of(*ENTITIES, config=L7Config(http=()))
    assert "a.example.com p_root_10000\n" in vhost_map(table)


def test_hosts_with_haproxy_map() -> None:
    table = table_of(ROOT, *tasks(ROOT), config=L7Config(compat="marathon-lb", haproxy_map=True))
    assert vhost_map(table) == "a.example.com p_root_10000\nb.example.com p_root_10000\n"


def test_app_ids_as_they_are_written() -> None:
    assert app_map(table_of(*ENTITIES)) == (
        "/Wild Wild_10003\n/p/api p_api_10001\n/p/other p_other_10002\n/p/root p_root_10000\n"
    )


def test_nothing_is_an_empty_file() -> None:
    assert (vhost_map(table_of()), app_map(table_of())) == ("", "")
