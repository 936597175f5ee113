"""One ZooKeeper session for asyncio: the only place where kazoo's threads and the event loop meet.

kazoo runs a session in threads of its own. Every answer, watch event and change of state is handed to
the loop through one queue, with one wake-up for all that is waiting; nothing of kazoo's is called back
on its threads beyond that, and nothing here blocks the loop. Answers come in their order, and so do
events; between answers, events and changes of state there is none, as they come from different threads.

What kazoo leaves to its users is done here:

1. A connection that accepts requests and answers none is noticed after a third of the session's time
   and dropped, so that another server can be tried before the session ends (kazoo's own check sleeps
   while there are requests to send).
2. kazoo gives up for good after a failed login or a malformed answer; here it is started anew.
3. Host names are resolved by `Hosts`: the last known addresses hold while names can't be resolved.
4. Servers that lost data which we have seen refuse us for ever: after a session's time without success
   kazoo is started anew and asks for the same session without saying what it has seen.
5. Read-only servers (cut off from their quorum) are not talked to: what they say may be old.

A watch is a hint, never news: whoever watches reads again. After each reconnection every watch is
gone (`connection` has grown), and after the end of a session everything of it is (`session_id`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.protocol.states import KazooState, KeeperState, WatchedEvent
from kazoo.protocol.states import ZnodeStat as Stat
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from mesos_dns.hosts import Hosts, Resolve, system_resolve
from mesos_dns.zookeeper_target import Target, hosts_text
from mesos_dns.zookeeper_threads import Threads, match_answers

log = logging.getLogger(__name__)
_kazoo_log = log.getChild("kazoo")
_kazoo_log.setLevel(logging.ERROR)  # it tells each try, again and again; what it comes to is told here

IN_FLIGHT = 128
"""Requests that wait for an answer at most; more wait here (kazoo's wake-up pipe holds about 270)."""

RESTART = 3.0
"""Seconds before kazoo is started again after it gave up."""

CLOSE = 15.0
"""Seconds that closing the session may take; its ephemerals then end with the session's time."""

PROBES = 6
"""Requests per session time that keep an idle connection honest."""

Step: TypeAlias = Callable[[], None]

__all__ = [
    "BadVersionError",
    "InvalidACLError",
    "NoAuthError",
    "NoNodeError",
    "NodeExistsError",
    "NotEmptyError",
    "Session",
    "Stat",
    "Watcher",
    "ZooKeeperLost",
]


class ZooKeeperLost(Exception):
    """There is no connection, or it broke before the answer: a write may or may not have been done."""


class Watcher(Protocol):
    """Who is told of a session's events, on the loop."""

    def touched(self, path: str) -> None:
        """A watch on this path has fired: read again."""

    def state_changed(self) -> None:
        """`connected`, `connection` or `session_id` is another one now."""


class Session:
    """A session with an ensemble: `start`, then requests and watches, then `close`.

    connected:   requests can be made now
    connection:  grows with each connection; watches live as long as one
    session_id:  None until the first connection and after the end of a session; ephemerals live as long as one.
                 It stays while there is no connection, although the servers may have ended it by then
    timeout:     seconds of the session's life without a sign from us, as the servers granted it
    failure:     why there is no connection, for people; "" when there is one
    """

    def __init__(self, target: Target, *, resolve: Resolve = system_resolve) -> None:
        self.target = target
        self.connected = False
        self.connection = 0
        self.failure = "not connected yet"
        self.requests = 0
        self.events = 0
        self.losses = 0
        self.expirations = 0
        self._hosts = Hosts(changed=lambda host: self._host_changed(), resolve=resolve)
        self._watchers: list[Watcher] = []
        self._identity: tuple[int, bytes] | None = None
        self._client: KazooClient | None = None
        self._threads: Threads | None = None
        self._ended = asyncio.Event()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._sent: dict[int, float] = {}
        self._token = 0
        self._arrived: deque[Step] = deque()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stops: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        state = "connected" if self.connected else f"lost ({self.failure})"
        return f"<Session {hosts_text(self.target.hosts)} {state} connection={self.connection}>"

    @property
    def session_id(self) -> int | None:
        """See the class."""
        return self._identity[0] if self._identity is not None else None

    @property
    def timeout(self) -> float:
        """Seconds that the session outlives the last sign of us, as granted (asked, before the first connection)."""
        granted = self._threads.granted if self._threads is not None else 0.0
        return granted or self.target.session_timeout

    @property
    def acl(self) -> list[Any]:
        """What new znodes are to be protected with: with a login only its owner may touch them."""
        acl: list[Any] = OPEN_ACL_UNSAFE if self.target.auth == "none" else CREATOR_ALL_ACL
        return acl

    def attach(self, watcher: Watcher) -> None:
        """Tell a watcher of all events from now on."""
        self._watchers.append(watcher)

    def detach(self, watcher: Watcher) -> None:
        """Stop telling it."""
        self._watchers.remove(watcher)

    def start(self) -> None:
        """Connect, and stay connected, until `close`. Never raises for faults of the outside."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._keep(), name=f"zookeeper {hosts_text(self.target.hosts)}"),
            asyncio.create_task(self._probe(), name="zookeeper probe"),
        ]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def close(self) -> None:
        """End the session: its ephemerals vanish at once when a server can be told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._hosts.close()
        await self._discard()
        self._identity = None
        if self._stops:
            await asyncio.wait(self._stops, timeout=CLOSE)

    # --- requests ----------------------------------------------------------------------------------

    async def get(self, path: str, *, watch: bool = False) -> tuple[bytes, Stat] | None:
        """A znode's data; None when there is none. Raises ZooKeeperLost, NoAuthError."""
        found: tuple[bytes, Stat] | None = await self._read("get_async", path, watch)
        return found

    async def children(self, path: str, *, watch: bool = False) -> tuple[list[str], Stat] | None:
        """The names below a znode; None when there is no such znode. Raises ZooKeeperLost, NoAuthError."""
        found: tuple[list[str], Stat] | None = await self._read("get_children_async", path, watch, include_data=True)
        return found

    async def exists(self, path: str, *, watch: bool = False) -> Stat | None:
        """A znode's stat; None when there is none (a watch then waits for it). Raises ZooKeeperLost."""
        found: Stat | None = await self._read("exists_async", path, watch)
        return found

    async def create(self, path: str, value: bytes = b"", *, ephemeral: bool = False, sequence: bool = False) -> str:
        """A new znode; its path. Raises NodeExistsError, NoNodeError (no parent), NoAuthError, ZooKeeperLost."""
        made: str = await self._ask("create_async", path, value, acl=self.acl, ephemeral=ephemeral, sequence=sequence)
        return made

    async def ensure(self, path: str) -> None:
        """Make a path of plain znodes, as far as it is not there. Raises NoAuthError, ZooKeeperLost."""
        if not path or await self.exists(path) is not None:
            return
        await self.ensure(path.rpartition("/")[0])
        with contextlib.suppress(NodeExistsError):
            await self.create(path)

    async def set(self, path: str, value: bytes, version: int) -> Stat:
        """Replace a znode's data (version -1: whatever it is). Raises NoNodeError, BadVersionError, ZooKeeperLost."""
        stat: Stat = await self._ask("set_async", path, value, version)
        return stat

    async def delete(self, path: str, version: int = -1) -> None:
        """Remove a znode. Raises NoNodeError, BadVersionError, NotEmptyError, ZooKeeperLost."""
        await self._ask("delete_async", path, version)

    async def sync(self, path: str) -> None:
        """Let the server that we talk to catch up with its leader before the next read. Raises ZooKeeperLost."""
        await self._ask("sync_async", path)

    async def _read(self, method: str, path: str, watch: bool, **more: Any) -> Any:
        try:
            return await self._ask(method, path or "/", watch=self._fired if watch else None, **more)
        except NoNodeError:
            return None

    async def _ask(self, method: str, *arguments: Any, **more: Any) -> Any:
        async with self._room:
            client = self._client
            if client is None or not self.connected:
                raise ZooKeeperLost(self.failure)
            self.requests += 1
            self._token += 1
            token = self._token
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._sent[token] = time.monotonic()
            getattr(client, method)(*arguments, **more).rawlink(
                lambda result: self._post(lambda: self._answered(token, answer, result))
            )
            return await answer

    def _answered(self, token: int, answer: asyncio.Future[Any], result: Any) -> None:
        self._sent.pop(token, None)
        if answer.done():
            return  # given up
        error = result.exception
        if error is None:
            answer.set_result(result.value)
        elif isinstance(error, _KNOWN):
            answer.set_exception(error)
        else:
            answer.set_exception(ZooKeeperLost(f"{type(error).__name__} {error}".strip()))

    # --- from kazoo's threads ----------------------------------------------------------------------

    def _post(self, step: Step) -> None:
        """Have the loop take a step (any thread). Steps are taken in the order in which they were posted."""
        self._arrived.append(step)
        if not self._woken:
            self._woken = True
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                    self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False
        while self._arrived:
            self._arrived.popleft()()

    def _fired(self, event: WatchedEvent) -> None:
        path = event.path
        if path is not None:  # else: the connection is gone and its watches with it, which is told apart
            self._post(lambda: self._touched(path))

    def _touched(self, path: str) -> None:
        self.events += 1
        for watcher in list(self._watchers):
            watcher.touched(path)

    def _state(self, client: KazooClient, state: str) -> None:
        """kazoo's listener, on its thread: what is true now, before it changes again."""
        fine, identity = client.client_state, client.client_id
        self._post(lambda: self._changed(client, state, fine, identity))

    def _changed(self, client: KazooClient, state: str, fine: str, identity: tuple[int, bytes] | None) -> None:
        if client is not self._client:
            return
        if state == KazooState.CONNECTED:
            if self._identity is not None and identity is not None and self._identity[0] != identity[0]:
                self.expirations += 1  # kazoo does not tell when it was started with a session that is over
            self.connected, self._identity, self.failure = True, identity, ""
            self.connection += 1
            log.info("ZooKeeper connected servers=%s session=%#x", hosts_text(self.target.hosts), self.session_id or 0)
        else:
            self._lost(state, fine)
        for watcher in list(self._watchers):
            watcher.state_changed()

    def _lost(self, state: str, fine: str) -> None:
        if self.connected:
            self.losses += 1
            log.warning("ZooKeeper lost servers=%s state=%s", hosts_text(self.target.hosts), state)
        self.connected = False
        self.failure = "no server can be reached"
        if fine == KeeperState.EXPIRED_SESSION:
            self.expirations += self._identity is not None
            log.warning("ZooKeeper session over servers=%s", hosts_text(self.target.hosts))
            self._identity = None
        if state == KazooState.LOST:
            if fine in (KeeperState.CLOSED, KeeperState.AUTH_FAILED):
                refused = fine == KeeperState.AUTH_FAILED
                self.failure = "the login was refused" if refused else "the connection was given up"
                self._ended.set()

    # --- life --------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Have kazoo running, again whenever it gave up."""
        while True:
            try:
                await self._launch()
                await self._ended.wait()
            except OSError as error:
                self.failure = str(error)
            log.warning("ZooKeeper not connected servers=%s reason=%s", hosts_text(self.target.hosts), self.failure)
            await self._discard()
            await asyncio.sleep(RESTART)

    async def _launch(self) -> None:
        target, addresses = self.target, await self._addresses()
        threads = Threads(target.session_timeout / (2 * len(target.hosts)), names=addresses)
        if target.tls is not None:
            threads.tls = await asyncio.to_thread(target.tls.context)
        sasl = {"mechanism": "DIGEST-MD5", "username": target.principal, "password": target.secret}
        client = KazooClient(
            hosts=_texts(addresses),
            timeout=target.session_timeout,
            client_id=self._identity,
            handler=threads,
            auth_data=[("digest", f"{target.principal}:{target.secret}")] if target.auth == "digest" else None,
            sasl_options=sasl if target.auth == "sasl" else None,
            connection_retry=KazooRetry(
                max_tries=-1, delay=0.1, backoff=2, max_delay=3.0, sleep_func=threads.sleep_func
            ),
            logger=_kazoo_log,
            use_ssl=target.tls is not None,
        )
        threads.learn_timeout(client)
        match_answers(client)
        client.add_listener(lambda state: self._state(client, state))
        self._ended.clear()
        self._client, self._threads = client, threads
        client.start_async()  # starts threads; nothing is waited for

    async def _addresses(self) -> dict[tuple[str, int], str]:
        """(address, port) → host name of every server, as far as names can be resolved; waits for the first."""
        names = [host for host, _ in self.target.hosts]
        while True:
            await self._hosts.settle(names, 5.0)
            if found := self._known():
                return found
            self.failure = f"no host name of {hosts_text(self.target.hosts)} can be resolved"
            await asyncio.sleep(1.0)

    def _known(self) -> dict[tuple[str, int], str]:
        return {(address, port): host for host, port in self.target.hosts for address in self._hosts.lookup(host) or ()}

    def _host_changed(self) -> None:
        if self._client is not None and self._threads is not None and (addresses := self._known()):
            self._threads.names = addresses
            self._client.set_hosts(_texts(addresses))

    async def _probe(self) -> None:
        """Keep the connection honest: ask something now and then, and drop it when nothing is answered."""
        pending: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(self.timeout / (2 * PROBES))
            now = time.monotonic()
            if self._threads is None:
                continue
            if not self.connected:
                if 0 < self._threads.refused_since < now - self.timeout:
                    self._threads.refused_since = 0.0
                    self.failure = "the servers accept connections and then refuse us"
                    self._ended.set()
                continue
            oldest = next(iter(self._sent.values()), now)
            if now - oldest > self.timeout / 3:
                log.warning("ZooKeeper answers nothing for %.1f s: trying another server", now - oldest)
                self._threads.drop()
            elif pending is None or pending.done():
                pending = asyncio.create_task(self._touch())

    async def _touch(self) -> None:
        with contextlib.suppress(ZooKeeperLost, NoAuthError):
            await self.exists("/")

    async def _discard(self) -> None:
        client, self._client, self._threads = self._client, None, None
        was_connected, self.connected = self.connected, False
        if client is None:
            return
        # A thread of its own: it is started whatever becomes of us, and it does not hold up the process.
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stops.add(stopped)
        stopped.add_done_callback(self._stops.discard)
        threading.Thread(target=self._stop, args=(client, stopped), name="zookeeper stop", daemon=True).start()
        await asyncio.wait([stopped], timeout=CLOSE)
        self._sent.clear()
        if was_connected:
            for watcher in list(self._watchers):
                watcher.state_changed()

    def _stop(self, client: KazooClient, stopped: asyncio.Future[None]) -> None:
        """In a thread: kazoo waits for its own threads."""
        try:
            client.stop()
            client.close()
        except Exception as error:
            log.debug("a ZooKeeper session was left behind error=%r", error)
        self._post(lambda: _settle(stopped))


_KNOWN = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError, NoAuthError, InvalidACLError)
"""Answers of a server, as against no answer."""


def _texts(addresses: dict[tuple[str, int], str]) -> str:
    return hosts_text(tuple(addresses))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("a ZooKeeper session's task failed task=%s", task.get_name(), exc_info=task.exception())
