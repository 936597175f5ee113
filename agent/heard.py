"""What was heard of the cluster: which sources tell of it, and how far what they said can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.sections import Config
from mesos_dns.catalog import Catalog, SourceStatus
from mesos_dns.watch import Standing, standing_of

_CLUSTER = ("mesos", "serversets", "relay")
"""Sources that tell what runs in the cluster; without [mesos] and [relay] Marathon does."""

_BESIDE = ("file", "zookeeper", "vip_file")
"""Sources that tell what belongs to it; Marathon, where another tells what runs."""

_APPS = ("marathon", "relay")
"""Sources that tell which apps there are."""


class Heard:
    """See the module. `sources` are the running ones by name, `addresses_known` tells of those of virtual IPs."""

    def __init__(
        self,
        catalog: Catalog,
        sources: Mapping[str, Any],
        config: Callable[[], Config],
        addresses_known: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._sources = sources
        self._config = config
        self._addresses_known = addresses_known

    @property
    def cluster(self) -> tuple[str, ...]:
        """The sources that tell what runs in the cluster."""
        config = self._config()
        return _CLUSTER if config.mesos is not None or config.relay is not None else ("marathon", *_CLUSTER)

    def told_by(self, names: Iterable[str]) -> list[SourceStatus]:
        """Those of these sources that there are."""
        return [self._catalog.sources[name] for name in names if name in self._catalog.sources]

    def known(self) -> bool:
        """True unless there is a cluster to follow of which nothing was heard, now or before a restart."""
        return all(status.synced or status.restored for status in self.told_by(self.cluster))

    def knows_apps(self) -> bool:
        """Whether somebody who tells of the apps that the cluster runs has done so, now or before a restart."""
        told = self.told_by(_APPS)
        return bool(told) and all(status.synced or status.restored for status in told)

    def knows_frameworks(self) -> bool:
        """Whether the masters have told which frameworks there are, in this process."""
        return all(status.synced for status in self.told_by(("mesos",)))

    def has_heard(self) -> bool:
        """True once there is something to tell of a cluster; a process without one tells nobody that nothing runs."""
        heard = bool(self.told_by(self.cluster)) and self.known()
        return heard and self._addresses_known()  # else who follows would give up those that it knows

    def standing(self) -> Standing:
        """How far those who follow this process can trust what it tells."""
        names = self.cluster
        cluster = self.told_by(names)
        beside = self.told_by(name for name in (*_BESIDE, "marathon") if name not in names)
        unheard = [name for name, source in self._sources.items() if getattr(source, "unread", False)]
        return standing_of(cluster, time.time(), self._sources.get("relay"), beside=beside, unheard=unheard)
