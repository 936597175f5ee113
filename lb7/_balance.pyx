# cython: language_level=3, wraparound=False, cdivision=True
"""Who serves a request: clusters of servers, how one is picked, and what keeps a bad one away.

**Who can be picked.** Servers that are *ready*: their weight is above 0, checks from here don't fail (`down`), they are
not `draining` and not ejected. Of these, one that has room (`limit` requests at once) and has not failed this request
already; if all have, one that has. If every server that would be ready is ejected, all of them are used in spite of it
(panic: then it is the judge that errs). If all are down there is none, and the answer is 503, as HAProxy's. A server of
weight 0 serves only clients whose cookie names it; a draining one nobody new. A client whose server can't take it now,
full ones included, is given another, as by HAProxy's `option redispatch`.

**How.** Ready servers are kept in a list that is made anew only when something changes. *roundrobin* of equal weights is
a turn through it; of others the smooth one (each gains its weight, the richest is taken and pays for all). *leastconn*
takes the fewest requests for the weight, and among equals the smooth turn. *p2c* draws two by weight and takes the one
with the lower latency times load; the latency jumps to a peak and comes back within seconds. *source* is weighted
rendezvous hashing (Thaler and Ravishankar): a server that comes or goes moves only its own clients. *random* draws by
weight, *first* takes the first in the cluster's order that has room. In slow start, a server's weight grows from a tenth
to the whole; hashing pays no heed to that.

**Ejection.** So many failures in a row (no connection, a reset, no answer in time, a status of 500 or above) and a server
gets nothing for a while, the longer the more often; never more servers at once than the share allows, but one may be if
there are two. One good answer clears its record.

**Retries.** Of the last ten seconds, a share of the requests, and ten a second on top.

**The queue.** First come, first served: as long as somebody waits, `pick` gives nothing to those who come later. For each
place that comes free one is woken; should it not take the place, the next is. Where a cluster is to `hold` requests, they
also wait in it while there is no server (balance_waking.pxi).

Everything is called on the loop's thread. The clock is the caller's: seconds that never go back.

The files balance_*.pxi are parts of this one.
"""
import asyncio
import os

cimport cython
from libc.math cimport INFINITY, log

from lb7.waiting import Waiting

cdef extern from "native/random64.h" nogil:
    uint64_t mixed64(uint64_t)
    uint64_t hash64(const char*, size_t)
    uint64_t random64(uint64_t*)
    int scaled64(uint64_t, int)
    double fraction64(uint64_t)

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of latency but the last, seconds."""

BALANCES = ("roundrobin", "leastconn", "p2c", "source", "random", "first")

cdef enum:
    ROUNDROBIN, LEASTCONN, P2C, SOURCE, RANDOM, FIRST

cdef double LONGEST_EJECTION = 300.0
cdef double LEAST_SHARE = 0.1     # of the weight, when slow start begins
cdef double SLOW_STEPS = 50.0     # in which the share grows
cdef double DECAY = 10.0          # seconds in which a measured latency loses half of its say
cdef double[BUCKETS] bounds = [*LATENCY_BOUNDS, INFINITY]


@cython.final
cdef class Server:
    """One server of one cluster; made and changed by it."""

    def __repr__(self):
        return f"<Server {self.id} active={self.active}>"


cdef Server _new_server(object spec, Cluster cluster, double began):
    cdef Server server = Server.__new__(Server)
    server.id = spec.id
    server.address = spec.address
    server.port = spec.port
    server.cluster = cluster
    server.idle = []
    server.began = began
    cdef bytes name = server.id.encode()
    server.seed = hash64(name, len(name))
    server.latency = -1.0  # not known yet
    server.paused_until = -INFINITY
    server.warm_at = INFINITY
    return server


@cython.final
cdef class Cluster:
    """See the module. `spec`: a lb7.table.Cluster; `settings`: lb7.settings.Settings; `now`: seconds of the clock;
    `tell_held` is called with the name when a request is held and none was before.

    A server that comes when there are others already starts slowly, and so does one that was down.
    """

    def __init__(self, spec, settings, double now, tell_held=None):
        self.name = spec.name
        self.servers = []
        self.queue = Waiting(settings.max_waiting, self._places)
        self.tell_held = tell_held
        self.max_held, self.max_waiting = settings.max_held, settings.max_waiting
        self.max_active = settings.max_requests_per_route
        self.eject_after = settings.eject_after
        self.eject_time = settings.eject_time
        self.max_ejected = settings.max_ejected
        self.slow_start = settings.slow_start
        self.retry_share = settings.retry_budget
        self.workers = settings.workers
        self.default_limit = settings.max_requests_per_server
        self.random = int.from_bytes(os.urandom(8), "little") | 1
        self.turn = scaled64(random64(&self.random), 1 << 20)  # so that not all workers begin with the same server
        self.change(spec, now)

    def __repr__(self):
        return f"<Cluster {self.name} servers={len(self.servers)} ready={len(self.ready)} active={self.active}>"

    def change(self, spec, double now):
        """Go by this from now on. Servers that stay, by id, keep what is known of them; others are gone: each of their
        idle connections is told by `server_gone()`."""
        cdef Server server
        cdef dict known = {server.id: server for server in self.servers}
        cdef dict servers = {}
        cdef double began = now if self.servers else -INFINITY
        cdef int balance = BALANCES.index(spec.balance)
        cdef bint weighted_anew = False
        cdef bint held = self.hold
        cdef bint asleep = self.spec is not None and self.ready_count == 0  # at first, nothing speaks against any
        for value in spec.servers:
            if value.id in servers:
                continue
            server = known.pop(value.id, None)
            if server is None:
                server = _new_server(value, self, began)
                server.cold = asleep
            elif server.down and not value.down:
                server.began = now
                server.ejected_until = server.ejected_times = server.in_a_row = 0
            weighted_anew = weighted_anew or server.weight != value.weight
            server.task = value.task
            server.cookie = value.cookie.encode()
            server.weight = value.weight
            server.draining = value.draining
            server.down = value.down
            server.cold = server.cold and spec.hold
            servers[server.id] = server
        self.spec = spec
        self.hold = spec.hold
        self.servers = list(servers.values())
        self.balance = balance
        self.limit = -(-spec.max_requests_per_server // self.workers) or self.default_limit
        self.by_cookie = {server.cookie: server for server in self.servers if server.cookie} if spec.sticky else {}
        self.seen = now
        if weighted_anew:  # what was gained by another weight would take too long to be spent
            for server in self.servers:
                server.current = 0
        self._return_surplus(now)
        self._sort_out(now)
        if held and not self.hold:
            hold_no_more(self)
        self._look_again()
        _let_go(list(known.values()))

    def close(self):
        """The cluster is gone, and all its servers. Requests that wait are woken, to find none."""
        cdef list servers = self.servers
        self.servers = []
        self._have_ready([])
        self.cold = None
        self.hold = False
        self.decision = None
        self.by_cookie = {}
        self.full = 0
        self.recheck = INFINITY
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.queue is not None:
            hold_no_more(self)
            if self.active == 0 and self.waiting == 0:  # nobody can wait any more; the queue knows the cluster, and so would keep both
                self.queue = None
        _let_go(servers)

    # --- who is ready ---

    cdef int _sort_out(self, double now) except -1:
        """Make the list of ready servers, and say when it is to be made again."""
        cdef Server server
        cdef list wanted = []
        cdef list ready = []
        self.recheck = INFINITY
        self.full = 0
        self.cold = None
        for server in self.servers:
            if self.limit > 0 and server.active >= self.limit:
                self.full += 1
            if not _in_service(server):
                continue
            wanted.append(server)
            if server.ejected_until > now:
                self.recheck = min(self.recheck, server.ejected_until)
            else:
                ready.append(server)
        self.panic = not ready and len(wanted) > 0
        ready = wanted if self.panic else ready
        self._have_ready(without_cold(self, ready, now) if self.hold else ready)
        self.uniform = True
        for server in self.ready:
            server.share = self._share(server, now)
            if server.share != (<Server>self.ready[0]).share:
                self.uniform = False
        widen(self, now)
        if self.waiting > 0:
            self.queue.wake()
        return 0

    cdef int _have_ready(self, list ready) except -1:
        cdef int at
        self.ready = ready
        self.ready_count = <int>len(ready)
        for at in range(min(FEW, self.ready_count)):
            self.few[at] = <void*>ready[at]
        return 0

    cpdef bint has_servers(self, double now):
        if now >= self.recheck:
            self._sort_out(now)
        return self.ready_count > 0

    cdef double _share(self, Server server, double now) noexcept:
        """The weight, less in slow start; says when to ask again."""
        cdef double age = now - server.began
        if age >= self.slow_start:
            return server.weight
        self.recheck = min(self.recheck, now + self.slow_start / SLOW_STEPS)
        return server.weight * max(LEAST_SHARE, age / self.slow_start)

    # --- picking ---

    cpdef Server pick(self, double now, uint64_t hash, bytes cookie, list tried):
        cdef Server server
        cdef list among
        self.seen = now
        if now >= self.recheck:
            self._sort_out(now)
        if self.waiting > 0 and (self.limit > 0 or self.paced) and not self.queue.has_turn:
            return None
        if tried is not None and not tried:
            tried = None
        if cookie is not None and self.by_cookie:
            server = self._stuck_to(now, cookie, tried)
            if server is not None:
                return server
        if self.balance == ROUNDROBIN and self.uniform:
            return self._next_in_turn(tried)
        among = self.ready if self.full == 0 and tried is None else self._usable(tried)
        if len(among) < 2 or self.balance == FIRST:
            return <Server>among[0] if among else None
        if self.balance == LEASTCONN:
            return self._least_loaded(among)
        if self.balance == P2C:
            return self._better_of_two(among, now)
        if self.balance == SOURCE:
            return self._by_hash(among, hash)
        if self.balance == RANDOM:
            return self._any(among)
        return self._by_weight(among, -1.0)

    cdef Server _stuck_to(self, double now, bytes cookie, list tried):
        """The server that the client's cookie names, if it can take it."""
        cdef Server server = self.by_cookie.get(cookie)
        if server is None or server.down or server.draining or server.cold:
            return None
        if server.ejected_until > now and not self.panic:
            return None
        if self.limit > 0 and server.active >= self.limit:
            return None
        return None if tried is not None and server in tried else server

    cdef list _usable(self, list tried):
        """Ready servers with room that have not been tried; if all were, those with room."""
        cdef Server server
        cdef list room = self.ready
        cdef list fresh
        if self.full > 0:
            room = [server for server in self.ready if server.active < self.limit]
        if tried is None:
            return room
        fresh = [server for server in room if server not in tried]
        return fresh if fresh else room

    cdef Server _next_in_turn(self, list tried):
        cdef Server server
        cdef int count = self.ready_count
        cdef int at = self.turn
        for _ in range(count):
            if at >= count:
                at %= count
            server = <Server>self.few[at] if at < FEW else <Server>self.ready[at]
            at += 1
            if self.full > 0 and server.active >= self.limit:
                continue
            if tried is not None and server in tried:
                continue
            self.turn = at
            return server
        return None if tried is None else self._next_in_turn(None)

    cdef Server _by_weight(self, list among, double load):
        """Smooth weighted round robin among those with so many requests for the weight; below 0: among all."""
        cdef Server server
        cdef Server best = None
        cdef double total = 0
        for server in among:
            if load >= 0 and server.active / server.share != load:
                continue
            total += server.share
            server.current += server.share
            if best is None or server.current > best.current:
                best = server
        best.current -= total
        return best

    cdef Server _least_loaded(self, list among):
        """The fewest requests for the weight."""
        cdef Server server
        cdef Server best = None
        cdef double load
        cdef double least = INFINITY
        cdef int equals = 0
        cdef int count = <int>len(among)
        cdef int at = self.turn
        for _ in range(count):
            if at >= count:
                at %= count
            server = <Server>among[at]
            at += 1
            load = server.active / server.share
            if load < least:
                least, best, equals, self.turn = load, server, 1, at
                if server.active == 0 and self.uniform:
                    return best
            elif load == least:
                equals += 1
        return best if equals == 1 or self.uniform else self._by_weight(among, least)

    cdef Server _better_of_two(self, list among, double now):
        """The power of two choices, by peak latency and load."""
        cdef int count = <int>len(among)
        cdef int at, other
        cdef Server one, two
        if self.uniform:
            at = scaled64(random64(&self.random), count)
            other = scaled64(random64(&self.random), count - 1)
            one, two = <Server>among[at], <Server>among[other + (other >= at)]
        else:
            one, two = self._any(among), self._any(among)
        return one if _cost(one, now) <= _cost(two, now) else two

    cdef Server _by_hash(self, list among, uint64_t hash):
        """Weighted rendezvous hashing: the highest -weight/log(hash); of equal weights simply the highest hash."""
        cdef Server server
        cdef Server best = None
        cdef double score
        cdef double highest = -1.0
        hash = mixed64(hash)
        for server in among:
            score = fraction64(mixed64(hash ^ server.seed))
            if not self.uniform:
                score = -server.weight / log(score)
            if score > highest:
                highest, best = score, server
        return best

    cdef Server _any(self, list among):
        """One by chance and weight."""
        cdef Server server = None
        cdef double left = 0
        if self.uniform:
            return <Server>among[scaled64(random64(&self.random), <int>len(among))]
        for server in among:
            left += server.share
        left *= fraction64(random64(&self.random))
        for server in among:
            left -= server.share
            if left < 0:
                break
        return server

    # --- the course of a request ---

    cpdef bint admit(self) noexcept:
        if self.max_active > 0 and self.active >= self.max_active:
            self.counts.overflow += 1
            return False
        self.active += 1
        self.counts.requests += 1
        return True

    cpdef void leave(self) noexcept:
        self.active -= 1

    cpdef void begin(self, Server server, double now) noexcept:
        server.active += 1
        server.requests += 1
        if server.active == self.limit and not server.gone:
            self.full += 1
        retry_budget_tried(&self.budget, now)

    cpdef void end(self, Server server):
        if server.active == self.limit and not server.gone:
            self.full -= 1
        server.active -= 1
        if self.waiting > 0:
            self.queue.wake()

    cpdef void answered(self, Server server, double now, double latency, int status):
        cdef int bucket = 0
        while latency > bounds[bucket]:
            bucket += 1
        self.counts.latency[bucket] += 1
        self.counts.latency_sum += latency
        self.counts.status[status // 100 if 100 <= status < 600 else 0] += 1
        self._measured(server, now, latency)
        if server.cold:
            is_warm(self, server, now)
        if status >= 500:
            self._failed(server, now)
        else:
            self._succeeded(server, now)

    cpdef void connected(self, Server server, double now, double latency):
        self._measured(server, now, latency)
        self._succeeded(server, now)
        if server.cold:
            self.reached(server, now)

    cpdef int reached(self, Server server, double now) except -1:
        return warms_up(self, server, now) if server.cold else 0

    cpdef void connect_failed(self, Server server, double now):
        self.counts.connect_failures += 1
        if not self.hold or not took_none(self, server, now):
            self._failed(server, now)
            server.refused = server.failures

    cpdef void was_reset(self, Server server, double now):
        self.counts.resets += 1
        if not server.cold or not took_none(self, server, now):
            self._failed(server, now)

    cpdef void timed_out(self, Server server, double now):
        self.counts.timeouts += 1
        self._failed(server, now)

    cdef void _measured(self, Server server, double now, double latency) noexcept:
        """A peak counts at once; what is lower, the more the longer ago the last one is."""
        cdef double kept
        if latency >= server.latency:
            server.latency = latency
        else:
            kept = DECAY / (DECAY + max(0.0, now - server.latency_at))
            server.latency = server.latency * kept + latency * (1 - kept)
        server.latency_at = now

    # --- ejection ---

    cdef int _failed(self, Server server, double now) except -1:
        server.failures += 1
        if server.gone or server.ejected_until > now:
            return 0  # what it had before says nothing new
        server.in_a_row += 1
        if self.eject_after <= 0 or server.in_a_row < self.eject_after or not _in_service(server):
            return 0
        if not self._may_eject(now):
            return 0
        server.in_a_row = 0
        server.ejected_times += 1
        server.ejected_until = now + min(self.eject_time * server.ejected_times, LONGEST_EJECTION)
        self.counts.ejections += 1
        self._sort_out(now)
        return 0

    cdef int _succeeded(self, Server server, double now) except -1:
        server.in_a_row = 0
        if server.ejected_until > now and not self.panic:
            return 0  # an answer from before
        server.ejected_times = 0
        if server.ejected_until > now:
            server.ejected_until = 0
            self._sort_out(now)
        return 0

    cdef bint _may_eject(self, double now) except -1:
        cdef int wanted, ejected
        wanted, ejected = _ejected(self.servers, now)
        return ejected < _most_ejected(wanted, self.max_ejected)

    cdef int _return_surplus(self, double now) except -1:
        """Where others have gone, more may be ejected than the share allows."""
        cdef Server server
        cdef int wanted, ejected
        wanted, ejected = _ejected(self.servers, now)
        ejected -= _most_ejected(wanted, self.max_ejected)
        if ejected > 0:
            out = [server for server in self.servers if _in_service(server) and server.ejected_until > now]
            for server in sorted(out, key=_ejected_until)[:ejected]:
                server.ejected_until = 0
        return 0

    # --- retries and the queue ---

    cpdef bint may_retry(self, double now):
        if retry_budget_take(&self.budget, self.retry_share, now):
            self.counts.retries += 1
            return True
        self.counts.retries_refused += 1
        return False

    cpdef bint wait(self, object waiter, bint again=False):
        cdef bint has_turn = self.queue is not None and self.queue.has_turn
        cdef bint asleep = self.hold and self.ready_count == 0
        cdef object most = most_held(self, again) if asleep else self.max_held + self.max_waiting if self.paced else None
        if self.queue is None or not self.queue.add(waiter, most, again):
            self.counts.overflow += 1
            return False
        if not has_turn and not asleep and not again:
            self.counts.waited += 1
        self._look_again()
        return True

    cpdef Server probe(self, double now):
        if now >= self.recheck:
            self._sort_out(now)
        if self.cold is None or self.waiting > 0 and not self.queue.has_turn:
            return None
        return one_to_try(self, now)

    cpdef void stop_waiting(self, object waiter):
        if self.waiting > 0:
            self.queue.drop(waiter)

    def _places(self, int waiting):
        """Room at ready servers, now that so many wait."""
        cdef Server server
        cdef int places = 0
        self.waiting = waiting
        self.paced = self.paced and waiting > 0
        if self.hold:
            count_held(self)
        if self.cold is not None:
            return places_to_try(self)
        if self.paced and self.ready_count > 0:
            return places_in_window(self)
        if self.limit <= 0:
            return waiting if self.ready else 0
        for server in self.ready:
            places += max(0, self.limit - server.active)
        return places

    cdef int _look_again(self) except -1:
        """While somebody waits, don't rely on new requests to notice that an ejected server is back."""
        if self.timer is not None and self.recheck < self.timer_at:
            self.timer.cancel()
            self.timer = None
        if self.timer is None and self.waiting > 0 and self.recheck < INFINITY:
            self.timer_at = self.recheck
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(max(0.0, self.recheck - self.seen), self._back, self.recheck)
        return 0

    def _back(self, double at):
        self.timer = None
        self.seen = max(self.seen, at)
        self._sort_out(self.seen)
        self._look_again()

    # --- what is shown ---

    def counts_dict(self):
        """The counters by stable words, since the cluster is here; `status` by hundreds, `latency` by LATENCY_BOUNDS."""
        return self.counts

    def status(self):
        """Each server, as of the last request: `state` is up, down, draining, ejected, waking (it is cold) or slow-start."""
        return [_status_of(server, self.slow_start, self.seen) for server in self.servers]


include "balance_service.pxi"
include "balance_counts.pxi"
include "balance_waking.pxi"


cdef int _let_go(list servers) except -1:
    cdef Server server
    for server in servers:
        server.gone = True
    for server in servers:
        idle, server.idle = server.idle, []
        for connection in idle:
            connection.server_gone()
    return 0
