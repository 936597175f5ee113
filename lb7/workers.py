"""The processes that carry traffic, seen from the one that knows where it goes.

    workers = Workers(config, log=write)
    await workers.open()                 # binds what the configuration names, starts the processes
    workers.apply(delta)                 # as often as the table changes
    await workers.drain(30)              # ends connections in peace; close() ends them at once

Sockets are bound here and stay open here (`lb7/listening.py`): one slot of sockets for each worker. As long as a worker
is not there, or is silent, another one serves its slot, so that clients that wait there wait for little. Slots never
become fewer, workers may. So that any one of them could serve all slots, sockets of labels' listeners are at most a
quarter of the files that a process may have open; a worker needs two for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from lb7.certificate_files import INTERVAL, CertificateFiles
from lb7.certificates import file_name
from lb7.config import L7Config
from lb7.counters import Totals, servers_together
from lb7.listening import Listening
from lb7.settings import settings_of
from lb7.sockets import open_many_files
from lb7.table import TableDelta
from lb7.wire import Ask, Counters, Fault, Told
from lb7.worker_feed import Encoded, Wanted
from lb7.worker_process import SAY_EVERY, WorkerProcess

log = logging.getLogger(__name__)

SOON, RETRY = 0.02, 5.0
"""Seconds until what could not be bound is tried again: at first, and at most."""
SURPLUS = 300.0
"""Seconds that a worker has to drain when there are to be fewer of them."""
ANSWERS = 2.0
"""Seconds that workers have to answer a question."""
SHARE = 4
"""Of the open files that a process may have, one in so many is for sockets of labels' listeners."""
_MOST_FAULTS = 200
_SLICE = 50
"""Listeners bound at once."""


class Workers:
    """See the module. `log` gets records of the access log. `confine`: workers give up their privileges.
    `recertified` is called whenever there are other certificates, `held` with a cluster's name when requests for it
    begin to be held in a worker; how many, `totals().clusters_now` says by then."""

    def __init__(
        self,
        config: L7Config,
        *,
        log: Callable[[dict[str, Any]], None],
        confine: bool = True,
        recertified: Callable[[], None] = lambda: None,
        held: Callable[[str], None] = lambda cluster: None,
    ) -> None:
        self._config, self._log, self._confine, self._recertified = config, log, confine, recertified
        self._held = held
        self._count = worker_count(config)
        self._listening = Listening(self._count)
        self._wanted = Wanted(settings_of(config, self._count), self._listening)
        self._totals = Totals()
        self._files = CertificateFiles(config.cert_dir)
        self._workers: dict[int, WorkerProcess] = {}
        self._surplus: dict[asyncio.Task[None], WorkerProcess] = {}
        self._background: list[asyncio.Task[None]] = []
        self._rebind: dict[str, None] = {}
        self._to_bind = asyncio.Event()
        self._unbound = asyncio.Event()
        self._used: set[int] = set()
        self._uncertified: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self._said: dict[str, float] = {}
        self._has_table = self._ready = self._stopping = False
        self._goal = 0
        self._replaced = 0
        self._serials, self._questions = itertools.count(), itertools.count(1)
        self._answers: dict[int, tuple[list[Told], asyncio.Event]] = {}

    def __repr__(self) -> str:
        return f"<Workers workers={len(self._workers)} ready={self.ready} {self._wanted} {self._listening}>"

    async def open(self) -> None:
        """Bind the addresses of the configuration, read certificates and start the workers, which serve once there is a
        table. Raises OSError that names listener and address."""
        self._listening.most = max(0, open_many_files() // SHARE)  # -1: there is no limit
        await self._files.look(settled=True)
        self._listening.reserve(_fixed(self._config, self._files))
        self._wanted.certificates = self._files.certificates
        for number in range(self._count):
            self._start(number)
        for name, part in (("bind", self._keep_bound), ("cert", self._keep_certified), ("retry", self._retry)):
            self._spawn(name, part)

    def apply(self, delta: TableDelta) -> None:
        """The table has changed: workers are told, and what is listened on follows."""
        encoded = Encoded(delta)
        self._wanted.apply(delta)
        self._has_table = True
        self._totals.table_changed(delta)
        for worker in (*self._workers.values(), *self._surplus.values()):  # requests wait for servers in all of them
            if worker.feed is not None:
                worker.feed.changed(encoded)
        if delta.listeners or not self._goal:
            self._bind_anew(delta.listeners)

    async def change(self, config: L7Config) -> None:
        """Go by another configuration. Raises OSError that names listener and address; then nothing has changed."""
        count, files = worker_count(config), self._files
        if config.cert_dir != self._config.cert_dir:
            files = CertificateFiles(config.cert_dir)
            await files.look(settled=True)
        self._listening.reserve(_fixed(config, files))
        self._bind_anew(())
        self._config = config
        if files is not self._files:
            self._files = files
            self._certified()
        self._wanted.settings = settings_of(config, count)
        self._count = count
        if count > self._listening.slots:
            self._listening.grow(count)
            self._bind_anew(self._listening.names)
        for number in range(count):
            if number not in self._workers:
                self._start(number)
        for number in [number for number in self._workers if number >= count]:
            worker = self._workers.pop(number)
            task = asyncio.create_task(self._end_surplus(worker))
            self._surplus[task] = worker
            task.add_done_callback(self._surplus.pop)
        self._assign()
        self._changed()

    async def drain(self, timeout: float) -> None:
        """Accept nothing more, let connections end, and end the workers; those that have connections after so many
        seconds are killed."""
        self._stopping = True
        await self._end_background()
        workers = [worker.drain(timeout) for worker in self._workers.values()]
        self._listening.close()
        surplus = list(self._surplus)
        if surplus:
            workers.append(_end_in_time(surplus, timeout))
        await asyncio.gather(*workers)

    async def close(self) -> None:
        """End everything at once."""
        self._stopping = True
        await self._end_background()
        self._listening.close()
        for task in self._surplus:
            task.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers.values()))
        await asyncio.gather(*self._surplus, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether all workers have been there at once with the first whole table, and have listened; that later one is
        being replaced changes nothing."""
        if not self._ready and self._goal and not self._rebind:
            workers = self._workers.values()
            at_home = all(self._wanted.assigned.get(worker.number) == worker.number for worker in workers)
            self._ready = at_home and all(worker.serves and worker.version >= self._goal for worker in workers)
        return self._ready

    @property
    def settled(self) -> bool:
        """Whether all workers have done all they were told until now."""
        done = all(worker.version >= self._wanted.version for worker in self._workers.values())
        return self.ready and not self._rebind and not self._to_bind.is_set() and done

    @property
    def problems(self) -> dict[str, str]:
        """Listeners that are not listened on, or not everywhere: name → what is wrong and what to do."""
        listeners = {f"listener {name}": name for name in self._wanted.listeners}
        failed = {listeners[key]: text for key, text in self._faults.items() if key in listeners}
        return failed | self._listening.problems | self._uncertified

    @property
    def certified(self) -> bool:
        """Whether there is a certificate to speak TLS with."""
        return bool(self._files.certificates)

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each listener is bound."""
        return self._listening.addresses

    def totals(self) -> Totals:
        """What all workers have counted."""
        return self._totals

    def status(self) -> dict[str, Any]:
        """How the workers, listeners and certificates are, for people."""
        return {
            "ready": self.ready,
            "version": self._wanted.version,
            "workers": [self._status_of(worker) for worker in self._workers.values()],
            "draining": len(self._surplus),
            "slots_without_worker": self._unserved(),
            "replaced": self.replaced,
            "listeners": self.addresses,
            "problems": self.problems,
            "certificates": {
                certificate.name: {"names": certificate.names, "expires": self._files.expiry.get(certificate.name)}
                for certificate in self._files.certificates
            },
            "bad_certificates": dict(self._files.problems),
            "faults": dict(self._faults),
            "left_out": dict(self._wanted.refused),
        }

    @property
    def replaced(self) -> int:
        """How often a worker had to be started again."""
        return sum(worker.replaced for worker in self._workers.values())

    async def servers(self, clusters: Sequence[str]) -> dict[str, list[dict[str, str | int | float]]]:
        """How the servers of clusters are, as the workers see them; what one knows that hangs, or that ends when its
        connections have, is left out, and then `whole` of each is 0."""
        number, event = next(self._questions), asyncio.Event()
        answers: list[Told] = []
        asked = [worker.feed for worker in self._workers.values() if worker.feed is not None and worker.serves]
        self._answers[number] = (answers, event)
        try:
            for feed in asked:
                feed.ask(Ask(number, tuple(clusters)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWERS):
                    while len(answers) < len(asked):
                        await event.wait()
                        event.clear()
        finally:
            del self._answers[number]
        carrying = sum(worker.feed is not None and worker.version >= 0 for worker in self._workers.values())
        found = servers_together(answer.servers for answer in answers)
        for server in itertools.chain.from_iterable(found.values()):
            server["whole"] = int(len(answers) == carrying and not self._surplus)
        return found

    # --- what workers say ---

    def counted(self, serial: int, block: Counters) -> None:
        """New counters."""
        self._totals.count(serial, block)

    def holds(self, clusters: tuple[str, ...]) -> None:
        """Requests for these begin to be held."""
        for name in clusters:
            try:
                self._held(name)
            except Exception:  # of whoever hears it: no worker is to end by that
                log.exception("l7: an error about requests that are held cluster=%s", name)

    def logged(self, records: list[dict[str, Any]], lost: int) -> None:
        """Records of the access log."""
        self._totals.worker["log_lost"] = self._totals.number("log_lost") + lost
        for record in records:
            self._log(record)

    def told(self, answer: Told) -> None:
        """An answer."""
        if answer.number in self._answers:
            answers, event = self._answers[answer.number]
            answers.append(answer)
            event.set()

    def failed(self, number: int, fault: Fault) -> None:
        """Something went wrong in a worker; of one thing the log says so once in a while."""
        now = asyncio.get_running_loop().time()
        if fault.key not in self._faults or now - self._said.get(fault.key, now) >= SAY_EVERY:
            log.error("a worker of l7 reports worker=%d what=%s error=%s", number, fault.key, fault.text)
            self._said[fault.key] = now
        self._faults.pop(fault.key, None)
        self._faults[fault.key] = fault.text
        while len(self._faults) > _MOST_FAULTS:
            oldest = next(iter(self._faults))
            del self._faults[oldest]
            self._said.pop(oldest, None)

    def changed(self, worker: WorkerProcess) -> None:
        """It serves now, or no longer."""
        if worker.version < 0:
            self._totals.ended(worker.serial)
        if not self._stopping:
            self._assign()

    # --- sockets ---

    def _start(self, number: int) -> None:
        serial = next(self._serials)
        self._workers[number] = WorkerProcess(number, self._wanted, self, confine=self._confine, serial=serial)
        self._workers[number].start()

    async def _end_surplus(self, worker: WorkerProcess) -> None:
        """Drain one that is not to be there any more."""
        try:
            await worker.drain(SURPLUS)
        finally:
            self._totals.workers.pop(worker.serial, None)  # its counts are in those of all

    def _assign(self) -> None:
        """Who serves which slot: its own worker, or else, where clients may wait already, another one."""
        serving = [number for number, worker in self._workers.items() if worker.serves]
        moved: dict[int, None] = {}
        for slot in range(self._listening.slots):
            before = self._wanted.assigned.get(slot)
            now = slot if slot in serving else self._substitute(slot, before, serving)
            if now is not None:
                self._used.add(slot)
            if now is not None and now != before:
                self._wanted.assigned[slot] = now
                moved[slot] = None
        self._touch(self._listening.names, moved)
        self._changed()

    def _substitute(self, slot: int, before: int | None, serving: list[int]) -> int | None:
        """Another worker for a slot; None: it is not needed, or there is none."""
        if before in serving:
            return before
        return serving[slot % len(serving)] if slot in self._used and serving else None

    def _unserved(self) -> list[int]:
        """Slots in which clients may wait, and nobody accepts them now."""
        serving = {number for number, worker in self._workers.items() if worker.serves}
        return [slot for slot in sorted(self._used) if self._wanted.assigned.get(slot) not in serving]

    def _touch(self, names: Iterable[str], slots: Iterable[int]) -> None:
        keys = [(name, slot) for slot in slots for name in names]
        for worker in self._workers.values():
            if worker.feed is not None:
                worker.feed.touch(keys)

    def _changed(self) -> None:
        """Something that workers are to be told has changed."""
        self._wanted.version += 1
        if not self._goal and self._has_table and not self._rebind:
            if all(worker.serves for worker in self._workers.values()):
                self._goal = self._wanted.version
        for worker in self._workers.values():
            if worker.feed is not None:
                worker.feed.wake()

    def _bind_anew(self, names: Iterable[str]) -> None:
        """Those that are gone come first, so that others can take over what they listened on."""
        names = list(names)
        gone = [name for name in names if name not in self._wanted.listeners]
        self._rebind = dict.fromkeys(gone) | self._rebind | dict.fromkeys(names)
        self._to_bind.set()

    async def _keep_bound(self) -> None:
        """Have listeners' sockets as the table wants them, some at a time."""
        while True:
            await self._to_bind.wait()
            self._to_bind.clear()
            while self._rebind:
                names = list(itertools.islice(self._rebind, _SLICE))
                for name in names:
                    self._rebind.pop(name, None)
                    try:
                        self._bind(name)
                    except Exception as error:  # one listener's failure is not that of those behind it
                        log.critical("a listener of l7 failed listener=%s", name, exc_info=True)
                        self._faults[f"listener {name}"] = f"listener {name}: {type(error).__name__}: {error}"
                self._touch(names, range(self._listening.slots))
                if self._rebind:  # else it is as wanted at once, for whoever asks whether all is settled
                    await asyncio.sleep(0)
            self._listening.release()
            self._changed()

    def _bind(self, name: str) -> None:
        listener = self._wanted.listeners.get(name)
        self._uncertified.pop(name, None)
        self._faults.pop(f"listener {name}", None)
        if listener is None:
            self._listening.drop(name)
        elif listener.tls and (missing := self._missing_certificate(listener.cert)):
            self._listening.drop(name)
            self._uncertified[name] = f"listener {name}: {missing}"
        else:
            failed = name in self._listening.problems
            self._listening.put(name, listener.addresses)
            if not failed and name in self._listening.problems:
                self._unbound.set()

    def _missing_certificate(self, label: str) -> str:
        """What there is to do before TLS can be listened for; "": nothing."""
        if not self._config.cert_dir:
            return "there are no certificates: set [l7] cert_dir"
        if label and file_name(label) not in {certificate.name for certificate in self._files.certificates}:
            return f"there is no usable certificate {file_name(label)!r} in {self._config.cert_dir}"
        return "" if self._files.certificates else f"there is no usable certificate in {self._config.cert_dir}"

    async def _retry(self) -> None:
        """Try again what another program may let go of: soon at first, then ever more seldom."""
        pause = RETRY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._unbound.wait()
            if self._unbound.is_set():
                self._unbound.clear()
                pause = SOON
                continue
            pause = min(2 * pause, RETRY)
            unbound = list(self._listening.problems)
            for start in range(0, len(unbound), _SLICE):
                self._touch(self._listening.retry(unbound[start : start + _SLICE]), range(self._listening.slots))
                self._changed()
                await asyncio.sleep(0)

    async def _keep_certified(self) -> None:
        """Look after the folder of certificates."""
        while True:
            await asyncio.sleep(INTERVAL)
            if await self._files.look():
                self._certified()

    def _certified(self) -> None:
        """There are other certificates."""
        self._wanted.certificates = self._files.certificates
        self._bind_anew(name for name, listener in self._wanted.listeners.items() if listener.tls)
        self._changed()
        self._recertified()

    # --- the rest ---

    def _status_of(self, worker: WorkerProcess) -> dict[str, Any]:
        return {
            "number": worker.number,
            "pid": worker.pid,
            "version": worker.version,
            "quiet": worker.quiet,
            "replaced": worker.replaced,
            **self._totals.now_of(worker.serial),
        }

    def _spawn(self, name: str, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(_keep_alive(name, part), name=f"pharos-l7-{name}")
        self._background.append(task)

    async def _end_background(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()


def worker_count(config: L7Config) -> int:
    """How many workers there are to be: one a processor that this process may use, unless it is said."""
    return config.workers or len(os.sched_getaffinity(0))


async def _end_in_time(tasks: list[asyncio.Task[None]], timeout: float) -> None:
    """Let them end; those that have not after so many seconds are cancelled."""
    _, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


def _fixed(config: L7Config, files: CertificateFiles) -> dict[str, tuple[str, ...]]:
    """Listeners that the configuration names; that for TLS waits for certificates."""
    https = {"https": config.https} if files.certificates else {}
    return {"http": config.http, "app_id": config.app_id} | https


async def _keep_alive(name: str, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have it go on after a fault."""
    while True:
        try:
            await part()
        except Exception:
            log.critical("a part of l7 failed part=%s", name, exc_info=True)
        await asyncio.sleep(RETRY)
