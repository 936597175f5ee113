"""Which backends get connections: effective weights, and what is done when none would have any.

Weight 0 gets no new connections. A backend has its base weight when its task runs, is healthy (or has no check) and
its node is heard of. When no backend of a VIP has a weight, those that were healthy once get theirs back ("fail
open"): a check or an observer that finds everything broken is more likely wrong than right, and connections to a
broken backend are no worse than refused ones. Backends that were never healthy and those that are being killed stay
out of it.

A backend whose task is drained before it is removed gets nothing new while another has a weight. When none has, it
goes on as before: it is the one that is known to work, until it is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence

import msgspec

from lb4.services import BackendKey
from lb4.vip import Backend, State
from mesos_dns.model import Health, Key

_HOPEFUL = (State.ACTIVE, State.FAIL_OPEN, State.SUSPECT, State.PENDING, State.UNHEALTHY, State.DRAINING)
_RANKS = {state: rank for rank, state in enumerate(_HOPEFUL)}


def worse(one: Health, other: Health) -> Health:
    """The worse of two opinions: unhealthy, pending, healthy; NONE is no opinion."""
    for health in (Health.UNHEALTHY, Health.PENDING, Health.HEALTHY):
        if one is health or other is health:
            return health
    return Health.NONE


def effective(
    backends: Sequence[Backend],
    suspects: Collection[str],
    healthy_once: Callable[[Key], bool],
    draining: Collection[Key] = (),
) -> Sequence[Backend]:
    """One VIP's backends with the weights in force, in the order given.

    The backends come with what is known of each by itself (active, pending, unhealthy, draining). `suspects` are
    addresses of nodes of which nothing is heard; `healthy_once` tells of a task's key whether it was ever seen
    healthy or without a check; `draining` are the keys of tasks that are drained.
    """
    if suspects:
        backends = [_suspected(backend) if backend.node in suspects else backend for backend in backends]
    if draining:
        drained = [_drained(backend) if backend.task in draining else backend for backend in backends]
        if any(backend.weight > 0 for backend in drained):
            return drained
        if any(backend.weight > 0 for backend in backends):
            return [_opened(backend) if backend.weight > 0 else backend for backend in backends]
    for backend in backends:
        if backend.weight > 0:
            return backends
    return [_opened(backend) if _was_good(backend, healthy_once) else backend for backend in backends]


def with_checks(backends: Sequence[Backend], failing: Container[BackendKey]) -> tuple[Backend, ...]:
    """The backends of a VipState after own checks of them, of which those to `failing` fail.

    When that leaves none with a weight, those that had one get their base weight back, and so do those on suspect
    nodes; what was out of it for another reason stays so.
    """
    checked = tuple([_failed(backend) if backend.key in failing else backend for backend in backends])
    if any(backend.weight > 0 for backend in checked):
        return checked
    return tuple(
        [
            _opened(after) if before.weight > 0 or before.state is State.SUSPECT else after
            for before, after in zip(backends, checked, strict=True)
        ]
    )


def best_of(backends: Iterable[Backend]) -> Backend:
    """The one that counts of several with one address and port: that with the greatest weight. Of equal ones the
    more hopeful, so that a task that is being killed does not hide the one that took its place."""
    return min(backends, key=_badness)


def _badness(backend: Backend) -> tuple[int, int, Key]:
    return (-backend.weight, _RANKS[backend.state], backend.task)


def _suspected(backend: Backend) -> Backend:
    """A backend on a suspect node; what is worse than that is told as it is."""
    if backend.weight == 0:
        return backend
    return msgspec.structs.replace(backend, weight=0, state=State.SUSPECT)


def _drained(backend: Backend) -> Backend:
    """A backend whose task is drained; what is worse than that is told as it is."""
    if backend.weight == 0:
        return backend
    return msgspec.structs.replace(backend, weight=0, state=State.DRAINING)


def _failed(backend: Backend) -> Backend:
    if backend.weight == 0:
        return backend
    return msgspec.structs.replace(backend, weight=0, state=State.UNHEALTHY, health=Health.UNHEALTHY)


def _was_good(backend: Backend, healthy_once: Callable[[Key], bool]) -> bool:
    if backend.base <= 0:
        return False
    if backend.state is State.SUSPECT:
        return True
    return backend.state is State.UNHEALTHY and healthy_once(backend.task)


def _opened(backend: Backend) -> Backend:
    return msgspec.structs.replace(backend, weight=backend.base, state=State.FAIL_OPEN)
