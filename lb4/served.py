"""Which VIPs the data plane serves, told whenever that changes: a VIP's name answers only while it is served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from lb4.balancer_state import Programmed, Remembered, Wanted
from lb4.services import Service, ServiceKey
from lb4.vip import VipKey

log = logging.getLogger(__name__)

NO_FAMILY: frozenset[int] = frozenset()


class Served:
    """Looks at what the balancer knows. A VIP is served in a family (4, 6) when it wants a service of that family, and
    that is in the data plane, is its own, has a local address, and has a destination with a weight if it should have
    one. So a machine without IPv6 serves what can be reached by IPv4.

    A change that failed does not count beyond that: a name that is gone helps nobody while connections work.
    """

    def __init__(
        self,
        wanted: Wanted,
        programmed: Programmed,
        remembered: Remembered,
        tell: Callable[[frozenset[VipKey]], None],
    ) -> None:
        self._wanted = wanted
        self._programmed = programmed
        self._remembered = remembered
        self._tell = tell
        self._served: dict[VipKey, frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self._served)

    def __contains__(self, vip: VipKey) -> bool:
        """Whether it was served, in any family, when it was looked at last."""
        return vip in self._served

    def families(self, vip: VipKey) -> frozenset[int]:
        """Those in which it was served then."""
        return self._served.get(vip, NO_FAMILY)

    def check(self, vips: Iterable[VipKey]) -> None:
        """Look at these VIPs and tell those for which it has changed."""
        self._put({vip: self._found(vip) for vip in vips})

    def gain(self, vips: Iterable[VipKey]) -> None:
        """The same of families that have come; those that have gone stay for now."""
        self._put({vip: self.families(vip) | self._found(vip) for vip in vips})

    def _put(self, found: dict[VipKey, frozenset[int]]) -> None:
        changed = {vip for vip, families in found.items() if families != self.families(vip)}
        if not changed:
            return
        for vip in changed:
            if found[vip]:
                self._served[vip] = found[vip]
            else:
                del self._served[vip]
        try:
            self._tell(frozenset(changed))
        except Exception:
            log.exception("who is told of served virtual addresses failed vips=%d", len(changed))

    def _found(self, vip: VipKey) -> frozenset[int]:
        there: set[int] = set()
        lacking: set[int] = set()
        for key in self._wanted.of(vip):
            good = self._wanted.claims(key)[0] == vip and self._is_there(key)
            (there if good else lacking).add(6 if ":" in key.address else 4)
        return frozenset(there - lacking)

    def _is_there(self, key: ServiceKey) -> bool:
        there = self._remembered.services.get(key)
        if there is None or key.address not in self._remembered.addresses:
            return False
        return _usable(there) or not _usable(self._programmed.services.get(key))


def _usable(service: Service | None) -> bool:
    return service is not None and any(destination.weight > 0 for destination in service.destinations.values())
