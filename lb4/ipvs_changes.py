"""Carries out operations in the kernel's IPVS, in their order and many at a time, whatever fails.

Somebody else may change the same services at the same time. So an operation that meets such a change is done in
another way: what is to be added and is there is set, what is to be set and is not there is added, what is to be
dropped and is not there is done. The messages are sent by what the caller gives; nothing here knows sockets.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from lb4 import ipvs_wire
from lb4.services import BackendKey, Failure, Kind, LocalAddresses, Operation, ServiceKey

Send = Callable[[Sequence[bytes]], list[int]]
"""Sends payloads of the IPVS family in one batch; an errno for each, 0: done."""

ROUNDS = 4
"""How often an operation is tried at most, in one way or another."""

DROPS = frozenset((Kind.DROP_SERVICE, Kind.DROP_DESTINATION))
_OTHERWISE = {
    (Kind.ADD_SERVICE, errno.EEXIST): Kind.SET_SERVICE,
    (Kind.SET_SERVICE, errno.ESRCH): Kind.ADD_SERVICE,
    (Kind.ADD_DESTINATION, errno.EEXIST): Kind.SET_DESTINATION,
    (Kind.SET_DESTINATION, errno.ENOENT): Kind.ADD_DESTINATION,
}
"""What is done instead when the kernel has something that was not there, or no longer has it."""

Attempt = tuple[int, Operation]
"""The place of an operation in its batch, and what is done for it."""


def carry_out(operations: Iterable[Operation], send: Send, addresses: LocalAddresses) -> list[Failure]:
    """Do all of them; those that failed, in their order. Raises OSError when `send` does."""
    failures: list[Failure] = []
    for of_addresses, group in itertools.groupby(operations, _is_of_address):
        run = list(group)
        failures += _change_addresses(run, addresses) if of_addresses else _change_services(run, send)
    return failures


def _is_of_address(operation: Operation) -> bool:
    return operation.kind is Kind.ADD_ADDRESS or operation.kind is Kind.DROP_ADDRESS


# --- addresses ------------------------------------------------------------------------------------


def _change_addresses(run: Sequence[Operation], addresses: LocalAddresses) -> list[Failure]:
    """As few calls as there can be: a new one only where an address comes a second time."""
    failures: list[Failure] = []
    part: dict[str, Operation] = {}
    for operation in run:
        if operation.service.address in part:
            failures += _change_some(part, addresses)
            part = {}
        part[operation.service.address] = operation
    return failures + _change_some(part, addresses)


def _change_some(part: dict[str, Operation], addresses: LocalAddresses) -> list[Failure]:
    add = [address for address, operation in part.items() if operation.kind is Kind.ADD_ADDRESS]
    drop = [address for address, operation in part.items() if operation.kind is Kind.DROP_ADDRESS]
    try:
        errors = addresses.change(add, drop)
    except OSError as error:
        errors = dict.fromkeys(part, error)
    return [
        Failure(operation, errors[address].errno or 0, str(errors[address].strerror or errors[address]))
        for address, operation in part.items()
        if address in errors
    ]


# --- services and destinations --------------------------------------------------------------------


def _change_services(run: Sequence[Operation], send: Send) -> list[Failure]:
    failures: list[Failure] = []
    for batch in _batches(run):
        failures += _change_batch(batch, send)
    return failures


def _batches(run: Sequence[Operation]) -> Iterator[list[Operation]]:
    """As few as there can be where no operation depends on one in its batch that may be done in another way: each
    service and each destination comes once, and a service is not dropped after something else of it."""
    batch: list[Operation] = []
    services: set[ServiceKey] = set()
    targets: set[tuple[ServiceKey, BackendKey | None]] = set()
    for operation in run:
        service, target = operation.service, (operation.service, operation.backend)
        if target in targets or (operation.kind is Kind.DROP_SERVICE and service in services):
            yield batch
            batch = []
            services.clear()
            targets.clear()
        batch.append(operation)
        services.add(service)
        targets.add(target)
    yield batch


def _change_batch(batch: Sequence[Operation], send: Send) -> list[Failure]:
    failures: dict[int, Failure] = {}
    attempts: list[Attempt] = list(enumerate(batch))
    for round_ in range(ROUNDS):
        failed = _send(attempts, send, failures)
        if not failed:
            break
        lost = {
            operation.service
            for (_, operation), code in failed
            if (operation.kind, code) == (Kind.SET_SERVICE, errno.ESRCH)
        }
        attempts = []
        for (place, operation), code in failed:
            if operation.kind in DROPS and code in (errno.ENOENT, errno.ESRCH):
                continue
            instead = _instead(operation, code, lost)
            if instead is not None and round_ < ROUNDS - 1:
                attempts.append((place, instead))
            else:
                failures[place] = Failure(batch[place], code, _reason(operation, code))
    return [failures[place] for place in sorted(failures)]


def _send(attempts: Sequence[Attempt], send: Send, failures: dict[int, Failure]) -> list[tuple[Attempt, int]]:
    """Those that failed, with errnos. What can't be said to the kernel goes into `failures` at once."""
    sent: list[Attempt] = []
    payloads: list[bytes] = []
    for place, operation in attempts:
        try:
            payloads.append(ipvs_wire.change(operation))
        except ValueError as error:
            failures[place] = Failure(operation, errno.EINVAL, str(error))
        else:
            sent.append((place, operation))
    errnos = send(payloads) if payloads else []
    if not any(errnos):
        return []
    return [(attempt, code) for attempt, code in zip(sent, errnos, strict=True) if code]


def _instead(operation: Operation, code: int, lost: set[ServiceKey]) -> Operation | None:
    """What to do for an operation that failed; None: nothing helps. `lost` are services that others dropped."""
    if code == errno.ENOBUFS:
        return operation  # perhaps it was done, perhaps not; then the next answer says which
    kind = _OTHERWISE.get((operation.kind, code))
    if kind is not None:
        return operation._replace(kind=kind)
    if code == errno.ESRCH and operation.backend is not None and operation.service in lost:
        # Its service is added again in the next round, without destinations.
        return operation._replace(kind=Kind.ADD_DESTINATION)
    return None


def _reason(operation: Operation, code: int) -> str:
    if code == errno.ENOENT and operation.settings is not None:
        return f"the kernel has no scheduler {operation.settings.scheduler!r}"
    if code == errno.ESRCH:
        return "no such service"
    if code == errno.ENOENT:
        return "no such destination"
    if code == errno.ERANGE and operation.destination is not None:
        return "the lower threshold is above the upper one"
    return os.strerror(code)
