"""Operations that failed: told once, tried again after a while that grows, kept for who asks."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable, Sequence
from math import inf

import msgspec

from lb4.services import Failure, Kind, Operation, ServiceKey
from lb4.timetable import Timetable

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds until a failed service is tried again: doubled each time."""

LINES = 10
"""Most log lines for failures of one time."""

DROPS = frozenset({Kind.DROP_SERVICE, Kind.DROP_DESTINATION, Kind.DROP_ADDRESS})
ABSENT = frozenset({errno.ENOENT, errno.ESRCH})
"""The kernel's words for a destination and a service that are not there."""
OF_SERVICES = frozenset({Kind.ADD_SERVICE, Kind.SET_SERVICE})
"""What may lack the service's scheduler: then these say ENOENT."""
NEW = frozenset({Kind.ADD_SERVICE, Kind.ADD_ADDRESS})
"""What can't be done on a machine without the address' family."""
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL})
"""How these fail where IPv6 is switched off (disable_ipv6), and also for other reasons."""


class Trouble(msgspec.Struct, frozen=True):
    """What failed of a service the last time, and the seconds until it is tried again; infinite: that is for looks at
    everything to do, this machine has no IPv6."""

    failures: tuple[Failure, ...]
    delay: float


def needless(failure: Failure) -> bool:
    """What was to be dropped was not there: what was wanted is so."""
    return failure.operation.kind in DROPS and failure.errno in ABSENT


def surprising(failure: Failure) -> bool:
    """The data plane has something else than was thought: it has to be read before a new attempt can succeed."""
    if failure.errno == errno.ENOENT and failure.operation.kind in OF_SERVICES:
        return False  # the kernel has no such scheduler
    return failure.errno in ABSENT or failure.errno == errno.EEXIST


def primary(failures: Sequence[Failure]) -> list[Failure]:
    """Failures without those that only follow from another: destinations of a service that could not be added."""
    lacking = {f.operation.service for f in failures if f.operation.kind is Kind.ADD_SERVICE}
    return [f for f in failures if f.operation.service not in lacking or f.operation.backend is None]


def errno_name(number: int) -> str:
    """Such as EPERM; "" for 0 and for what has no name."""
    return errno.errorcode.get(number, "")


class LackOfIPv6:
    """Whether a failure only shows that this machine has no IPv6: by its error, or because all that was tried of its
    kind has failed in such a way. It is said once."""

    def __init__(self) -> None:
        self._had: set[Kind] = set()
        self._said = False

    def had(self, kind: Kind) -> None:
        """This kind was done for an IPv6 address, or is found to be so."""
        self._had.add(kind)
        if self._said and self._had >= NEW:
            self._said = False
            log.info("IPv6 virtual addresses can be served now")

    def did(self, operations: Iterable[Operation]) -> None:
        """These were done."""
        if not self._had >= NEW:
            for kind in {o.kind for o in operations if o.kind in NEW and ":" in o.service.address} - self._had:
                self.had(kind)

    def explains(self, failure: Failure) -> bool:
        """Whether that is the reason of a failure. Tell what was done before."""
        operation = failure.operation
        if ":" not in operation.service.address:
            return False
        if failure.errno == errno.EAFNOSUPPORT:
            return True
        return failure.errno in REFUSED and operation.kind in NEW and operation.kind not in self._had

    def say(self, failure: Failure) -> None:
        """One of these failures has come."""
        if not self._said:
            self._said = True
            log.warning(
                "this machine has no IPv6, virtual addresses are served by IPv4 only operation=%s error=%s reason=%s",
                failure.operation.kind,
                errno_name(failure.errno),
                failure.reason,
            )


class Troubles:
    """Services that are not as they should be in the data plane. `now` is of any clock that never goes back."""

    def __init__(self) -> None:
        self.ipv6 = LackOfIPv6()
        self._troubles: dict[ServiceKey, Trouble] = {}
        self._retries = Timetable()

    def __len__(self) -> int:
        """Services in trouble, without those that only IPv6 is missing for."""
        return len(self._retries)

    def is_lack(self, key: ServiceKey) -> bool:
        """Whether nothing is wrong with a service but that this machine has no IPv6."""
        return (trouble := self._troubles.get(key)) is not None and trouble.delay == inf

    def of(self, key: ServiceKey) -> tuple[Failure, ...]:
        """What failed of a service, () when nothing did."""
        trouble = self._troubles.get(key)
        return trouble.failures if trouble is not None else ()

    @property
    def keys(self) -> Collection[ServiceKey]:
        """Services in trouble, all of them (a live view)."""
        return self._troubles.keys()

    @property
    def next(self) -> float:
        """Nothing is to be tried again before."""
        return self._retries.next

    def due(self, now: float) -> list[ServiceKey]:
        """What to try again now."""
        return self._retries.due(now)

    def note(self, tried: Iterable[ServiceKey], failures: Sequence[Failure], now: float) -> None:
        """These services were tried, with these failures; those without any are out of trouble."""
        by_key: dict[ServiceKey, list[Failure]] = {}
        for failure in failures:
            by_key.setdefault(failure.operation.service, []).append(failure)
        if self._troubles:
            for key in tried:
                if key not in by_key and self._troubles.pop(key, None) is not None:
                    self._retries.drop(key)
        lines = []
        for key, found in by_key.items():
            if all(map(self.ipv6.explains, found)):
                self._troubles[key] = Trouble(tuple(found), inf)
                self._retries.drop(key)
                self.ipv6.say(found[0])
                continue
            known = {failure.errno for failure in self.of(key)}
            lines += list(
                {failure.errno: failure for failure in reversed(found) if failure.errno not in known}.values()
            )
            before = self._troubles.get(key)
            delay = SHORTEST if before is None or before.delay == inf else min(LONGEST, before.delay * 2)
            self._troubles[key] = Trouble(tuple(found), delay)
            self._retries.put(key, now + delay)
        _say(lines)


def _say(failures: Sequence[Failure]) -> None:
    for failure in failures[:LINES]:
        operation = failure.operation
        backend = f"{operation.backend.address}:{operation.backend.port}" if operation.backend is not None else "-"
        log.warning(
            "the data plane refused a change operation=%s service=%s/%s:%d backend=%s error=%s reason=%s",
            operation.kind,
            *operation.service,
            backend,
            errno_name(failure.errno) or failure.errno,
            failure.reason,
        )
    if len(failures) > LINES:
        log.warning("the data plane refused more changes more=%d", len(failures) - LINES)
