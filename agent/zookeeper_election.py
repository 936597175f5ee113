"""An election on ZooKeeper in which a leader that is cut off stops before another one starts.

    FOLDER                      data: the claim of the last leader {"candidate": NAME, "lease": SECONDS}; or nothing
    FOLDER/UUID-SEQUENCE        a candidate (ephemeral); the lowest sequence leads

1. A candidate watches the one before it alone, so the end of one wakes one. A watch is only a hint:
   everything is decided by reading again.
2. The first in line claims: it writes its name into the folder, comparing the version.
3. The claimant leads by a lease. Every sixth of the session's time it writes its own znode. The write
   is acknowledged only if the znode was there, so one that was sent at t0 proves by quorum that the
   znode lived at t0 or later, and the claimant may act until t0 + half the session's time. Reads prove
   nothing: a server that is cut off goes on answering them.
4. A claim is taken from its holder only after the holder's znode was seen to be gone and, from then
   on, the holder's lease has passed; or when the holder has withdrawn it, which a leader does as it
   leaves, having stopped. Taking over in good order costs no wait.

Why that is safe: what the old leader acts on was sent while its znode lived, so before anybody saw it
gone; it stops at most a lease later, and nobody else's claim is older than that. This holds whatever
ended the znode (the session, a person, another server's clock) and wherever the old leader hangs. It
does not lean on when servers end sessions: one that was stopped itself ends them late or all at once.
It needs clocks that run at the same speed (DRIFT is allowed), and that nobody removes whole folders.

Leading ends at once when the connection is lost, when the znode is gone, when a write is refused, and
when the lease runs out; with the same session it begins again after a fresh write, with a new session
with a new znode at the end of the line. An act that was begun is not stopped by any of this: what must
never be done twice is done by `put_if`.
"""

from __future__ import annotations

import contextlib
import math
import re
import uuid

import msgspec

from agent.zookeeper_lease import Clock, Lease, boottime
from agent.zookeeper_tries import RETRY, Waiting, jittered
from mesos_dns.zookeeper import BadVersionError, NoNodeError, Session

LEASE = 1 / 2
"""Part of the session's time for which one acknowledged write lets its sender act."""

RENEW = 1 / 6
"""Part of the session's time between two writes."""

DRIFT = 1.01
"""How much faster than another's a clock may run."""

_NAME = re.compile(r"([0-9a-f]{32})-(\d{10})")


class _Claim(msgspec.Struct, frozen=True):
    """Who may act (the name of a candidate, "" for nobody), and for how long after its znode is gone."""

    candidate: str = ""
    lease: float = 0.0


class ZooKeeperElection:
    """One candidacy below the znode `folder`, as the module describes it: `stand` in a task, then `withdraw`."""

    def __init__(self, session: Session, folder: str, clock: Clock = boottime) -> None:
        self._session = session
        self._folder = folder
        self._clock = clock
        self._lease = Lease(folder.rpartition("/")[2], clock)
        self._waiting = Waiting(f"election {self._lease.role}")
        self._uuid = uuid.uuid4().hex
        self._name = ""
        self._length = 0.0
        self._settled = 0  # the connection over which the claim was found to be ours; 0: none
        self._watched: set[str] = set()
        self._gone = ("", 0.0)  # a claimant whose znode is gone, and when that was seen

    def __repr__(self) -> str:
        return f"<Election {self._lease.role} leading={self.leading}>"

    @property
    def leading(self) -> bool:
        """True while this candidate may act as the leader; the clock is asked each time."""
        return self._lease.held

    async def won(self) -> None:
        """Return when this candidate leads."""
        await self._lease.won()

    async def lost(self) -> None:
        """Return when this candidate does not lead (any more)."""
        await self._lease.lost()

    async def stand(self) -> None:
        """Stand, lead, and stand anew, until cancelled. `withdraw` afterwards."""
        self._session.attach(self)
        try:
            await self._waiting.go_on(self._step, self._stop)
        finally:
            self._session.detach(self)
            self._stop("no longer a candidate")

    async def withdraw(self) -> None:
        """Give up the claim and remove the candidates made here. Raises ZooKeeperLost, NoAuthError."""
        claim, version = await self._read_claim()
        if claim.candidate.startswith(self._uuid):
            with contextlib.suppress(NoNodeError, BadVersionError):
                await self._session.set(self._folder, b"", version)
        for name in await self._candidates():
            if name.startswith(self._uuid):
                await self._remove(name)

    # --- the session's events ------------------------------------------------------------------------

    def touched(self, path: str) -> None:
        """A watch has fired. Ours are on lists, of znodes that can have no children: one fires when it is gone."""
        if path not in self._watched:
            return
        if path == f"{self._folder}/{self._name}":
            self._stop("its znode was removed")
        self._waiting.wake()

    def state_changed(self) -> None:
        """The connection is lost, or there is another one, with which everything is looked at again."""
        if not self._session.connected or self._session.connection != self._settled:
            self._stop(f"the connection was lost ({self._session.failure})")
        self._waiting.wake()

    def _stop(self, reason: str) -> None:
        self._settled = 0
        self._lease.end(reason)

    # --- steps ---------------------------------------------------------------------------------------

    async def _step(self) -> float:
        """Go one step on; the longest pause before the next (inf: until something changes)."""
        if not self._session.connected:
            return math.inf
        if self._settled != self._session.connection:
            self._watched.clear()
            pause = await self._approach(self._session.connection)
            self._waiting.complain("")
            if pause:
                return pause
        return await self._renew()

    async def _approach(self, connection: int) -> float:
        """Be a candidate, wait for the turn, claim; 0 when the claim is ours over this connection."""
        before = await self._enter()
        if not await self._lives(self._name):
            return jittered(RETRY)
        claim, version = await self._read_claim()
        if claim.candidate != self._name:
            # Looked at in this order: a claimant's znode that is not there yet is not mistaken for one that is gone.
            if before:
                return math.inf if await self._lives(before) else jittered(RETRY)
            if pause := await self._wait_for(claim, connection):
                return pause
            claim = _Claim(self._name, self._session.timeout * LEASE)
            try:
                await self._session.set(self._folder, msgspec.json.encode(claim), version)
            except (BadVersionError, NoNodeError):
                await self._session.sync(self._folder)  # what was read may have been old
                return jittered(RETRY)
        if not self._session.connected or self._session.connection != connection:
            return jittered(RETRY)
        self._length = min(claim.lease, self._session.timeout * LEASE)
        self._settled = connection
        return 0.0

    async def _wait_for(self, claim: _Claim, connection: int) -> float:
        """How long the one who claimed may still act: 0 when it does not, inf until it is gone."""
        holder = claim.candidate
        if not holder or holder.startswith(self._uuid):
            return 0.0
        if holder != self._gone[0]:
            if await self._lives(holder):
                return math.inf
            if self._session.connection != connection:
                return jittered(RETRY)  # with a new session, this answer may be older than the claim
            self._gone = (holder, self._clock())
        return max(0.0, self._gone[1] + claim.lease * DRIFT - self._clock())

    async def _renew(self) -> float:
        """Write our znode; leading goes on from when that was sent."""
        connection, sent = self._settled, self._clock()
        try:
            await self._session.set(f"{self._folder}/{self._name}", b"", -1)
        except NoNodeError:
            self._stop("its znode is gone")
            return jittered(RETRY)
        # What ended leading meanwhile has unsettled it.
        if connection and connection == self._settled == self._session.connection:
            self._lease.extend(sent + self._length)
        return max(0.0, sent + self._session.timeout * RENEW - self._clock())

    # --- znodes --------------------------------------------------------------------------------------

    async def _enter(self) -> str:
        """Have one candidate, found again or made; the name of the one before it ("": ours is the first)."""
        self._name = ""
        names = await self._candidates()
        for name in names:
            if name.startswith(self._uuid) and (stat := await self._session.exists(f"{self._folder}/{name}")):
                # More than one: the answer to a create was lost, or an earlier session has not ended yet.
                if stat.ephemeralOwner == self._session.session_id and not self._name:
                    self._name = name
                else:
                    await self._remove(name)
        if not self._name:
            await self._session.ensure(self._folder)
            path = await self._session.create(f"{self._folder}/{self._uuid}-", ephemeral=True, sequence=True)
            self._name = path.rpartition("/")[2]
            names = await self._candidates()
        return max((name for name in names if _sequence(name) < _sequence(self._name)), key=_sequence, default="")

    async def _candidates(self) -> list[str]:
        found = await self._session.children(self._folder)
        return sorted(filter(_NAME.fullmatch, found[0]), key=_sequence) if found is not None else []

    async def _lives(self, name: str) -> bool:
        """Whether a candidate's znode is there; if so, its end wakes us. Lease writes don't: they change no list."""
        path = f"{self._folder}/{name}"
        self._watched.add(path)
        return await self._session.children(path, watch=True) is not None

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(NoNodeError):
            await self._session.delete(f"{self._folder}/{name}")

    async def _read_claim(self) -> tuple[_Claim, int]:
        """The claim and the version to compare. What is no claim counts as one by somebody who is gone."""
        found = await self._session.get(self._folder)
        if found is None:
            return _Claim(), 0
        data, stat = found
        if not data:
            return _Claim(), stat.version
        with contextlib.suppress(msgspec.DecodeError):
            claim = msgspec.json.decode(data, type=_Claim)
            if _NAME.fullmatch(claim.candidate):
                return claim, stat.version
        return _Claim("unknown", self._session.timeout * LEASE), stat.version


def _sequence(name: str) -> int:
    return int(name.rpartition("-")[2])
