"""A recorded mesos-dns case as a running lookup API: its state and configuration, read by the real code."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import msgspec

from agent.config import Config, load_text
from agent.import_mesos_dns import convert
from mesos_dns.api import ApiContext
from mesos_dns.config import DnsConfig
from mesos_dns.hosts import Hosts
from mesos_dns.sources.counters import Complaints, SourceCounters
from mesos_dns.sources.mesos_book import Book
from mesos_dns.sources.mesos_client import base_url, place
from mesos_dns.sources.mesos_ledger import Ledger
from mesos_dns.sources.mesos_read import DocumentReader
from mesos_dns.sources.mesos_snapshot import StateDocument
from mesos_dns.sources.mesos_state import StateHead
from mesos_dns.sources.mesos_wire import pid_address
from mesos_dns.sources.pace import Pace
from mesos_dns.zone import ZoneView
from tests.fakes.followed import Followed

HOSTS = {
    "localhost": ("127.0.0.1",),
    "sched.example.internal": ("10.0.0.51",),
    "agent7.example.internal": ("10.1.0.8",),
    "google.com": ("192.0.2.99",),
}
"""/etc/hosts of the machine that the cases were recorded on."""


async def _resolve(host: str) -> tuple[str, ...]:
    return HOSTS.get(host, ())


def read(folder: Path, name: str) -> str:
    """A file of a case, plain or gzip'ed; "" when the case has none."""
    if (folder / name).exists():
        return (folder / name).read_text()
    if (folder / f"{name}.gz").exists():
        return gzip.decompress((folder / f"{name}.gz").read_bytes()).decode()
    return ""


class Recorded:
    """One case. `context` is what its API looks at once `load` ended."""

    def __init__(self, folder: Path) -> None:
        self.config: Config = load_text(convert((folder / "config.json").read_bytes(), "config.json").toml, "toml")
        self.state = read(folder, "state.json").encode()
        self.listener = json.loads((folder / "config.json").read_text())["Listener"]
        self.http = [json.loads(line) for line in read(folder, "http.jsonl").splitlines()]
        self.axfr: dict[str, Any] | None = json.loads(read(folder, "axfr.json") or "null")
        self.enumerate: dict[str, Any] | None = json.loads(read(folder, "enumerate.json") or "null")
        self.context: ApiContext

    async def load(self) -> None:
        """Read the state as the Mesos source does."""
        followed, dns = Followed(), self.config.dns or DnsConfig()
        view = ZoneView(dns, ns_addresses=[self.listener])
        followed.catalog.listen(view.apply)
        hosts = Hosts(resolve=_resolve)
        book = Book(followed.publisher, "mesos", hosts)
        ledger = Ledger(book, SourceCounters(), Complaints(logging.getLogger("recorded")), 600.0, lambda: 0.0)
        snapshot = ledger.begin()
        reader = DocumentReader(StateDocument(snapshot))
        await reader.feed(self.state, Pace())
        head = msgspec.json.decode(reader.skeleton(), type=StateHead)
        await hosts.settle(snapshot.hosts(), 10)
        await ledger.apply(snapshot, "leader")
        ledger.end(snapshot)
        masters = self.config.mesos.masters if self.config.mesos is not None else ()
        book.lead(pid_address(head.leader or ""), tuple(place(base_url(master)) for master in masters))
        await hosts.close()
        followed.publisher.mark(connected=True, synced=True)
        followed.catalog.flush()
        self.context = ApiContext(view=view, catalog=followed.catalog, dns=dns)
