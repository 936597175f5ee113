"""The publisher: what a source says arrives in the catalog under its name."""

from __future__ import annotations

import pytest

from mesos_dns.catalog import Catalog
from mesos_dns.model import Node, Sync
from mesos_dns.publish import CatalogPublisher
from mesos_dns.sources import Publisher


def node(name: str, hostname: str = "h") -> Node:
    return Node(id=name, hostname=hostname)


def test_creating_it_registers_the_source_and_the_first_is_trusted_most() -> None:
    catalog = Catalog()
    first: Publisher = CatalogPublisher(catalog, "mesos")
    second: Publisher = CatalogPublisher(catalog, "marathon")
    second.put(node("a", "marathon"))
    first.put(node("a", "mesos"))
    second.put(node("a", "again"))
    assert list(catalog.sources) == ["mesos", "marathon"]
    assert catalog.get(node("a").key) == node("a", "mesos")
    first.drop(node("a").key)
    first.drop(node("a").key)
    assert catalog.get(node("a").key) == node("a", "again")


@pytest.mark.asyncio
async def test_said_is_live_and_its_own_and_a_sync_replaces_it() -> None:
    catalog = Catalog()
    mesos, file = CatalogPublisher(catalog, "mesos"), CatalogPublisher(catalog, "file")
    said = mesos.said()
    mesos.put(node("a"))
    file.put(node("f"))
    assert said == {node("a").key: node("a")}
    await mesos.sync(Sync(changed=(node("b"),)))
    assert said == {node("b").key: node("b")}
    assert len(catalog) == 2


def test_a_new_publisher_of_a_known_source_goes_on_where_the_last_one_stopped() -> None:
    catalog = Catalog()
    CatalogPublisher(catalog, "mesos").put(node("a"))
    assert len(CatalogPublisher(catalog, "mesos").said()) == 1


def test_marks_reach_the_status() -> None:
    catalog = Catalog()
    mesos = CatalogPublisher(catalog, "mesos")
    mesos.mark(connected=True, synced=True)
    assert not catalog.sources["mesos"].stale
    mesos.mark(connected=False, detail="refused")
    status = catalog.sources["mesos"]
    assert (status.stale, status.synced, status.detail) == (True, True, "refused")
    assert repr(mesos) == "<CatalogPublisher source=mesos entities=0>"
