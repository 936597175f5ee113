# Who serves a request: clusters of servers, how one is picked, and what keeps a bad one away.
#
# The order of calls for a request, all on the loop's thread; `now` is the clock of monotonic seconds, a coarse one will do:
#   admit → pick → begin → (answered | connect_failed | was_reset | timed_out) → end → [may_retry → pick → …] → leave
# `pick` gave None: has_servers → wait → room() → pick …; else 503. A cluster with `hold` and without servers, instead of 503:
#   [probe → begin → …] else wait → room() → pick …
cimport cython
from libc.stdint cimport uint64_t

cdef extern from "native/retry_budget.h" nogil:
    ctypedef struct retry_budget:
        pass
    void retry_budget_tried(retry_budget*, double)
    bint retry_budget_take(retry_budget*, double, double)


cdef enum:
    BUCKETS = 16          # of the histogram of latencies (LATENCY_BOUNDS), the last one without bound
    FEW = 4               # servers that are found without asking the list of them


ctypedef struct cluster_counts:  # words of 64 bits, of which `latency_sum` alone is no integer (native/grown.h)
    uint64_t requests          # that were admitted
    uint64_t status[6]         # answers by hundreds, kept up by `answered`; [0], none was given: by _proxy
    uint64_t received          # octets of requests' bodies and heads from clients; by _proxy
    uint64_t sent              # octets of answers to clients; by _proxy
    double latency_sum         # seconds
    uint64_t latency[BUCKETS]  # answers by time to the head of the server's answer
    uint64_t retries
    uint64_t retries_refused   # by the budget
    uint64_t connect_failures
    uint64_t resets            # servers that ended a connection instead of answering
    uint64_t timeouts          # servers that did not answer in time
    uint64_t ejections
    uint64_t overflow          # requests that were not admitted, or found the queue full
    uint64_t waited            # requests that waited for room
    uint64_t queue_timeouts    # by _proxy, as the three that follow
    uint64_t unavailable       # requests for which there was no server
    uint64_t denied            # by the allow-list
    uint64_t unauthorized
    uint64_t held              # requests that waited because there was no server; by _proxy and _tcp, as the one below
    uint64_t hold_timeouts


@cython.final
cdef class Server:
    # First what each request reads or writes: with many clusters all of it is far away, one line of the caches at a time.
    cdef readonly Cluster cluster
    cdef public list idle          # connections without a request, the newest last; their owner is _proxy
    cdef readonly int active       # requests that it has now
    # gone: no longer in its cluster. When it goes, `idle` is emptied and `connection.server_gone()`, a def method without
    # arguments, is called of each that was in it; one that comes free later is not to be put there.
    cdef readonly bint gone
    cdef readonly uint64_t requests
    cdef double ejected_until, latency, latency_at
    cdef int in_a_row, ejected_times
    cdef readonly bint cold        # it is not known to take connections (balance_waking.pxi)
    cdef readonly uint64_t failures
    cdef readonly str id, address, task
    cdef readonly int port
    cdef readonly bytes cookie     # what a sticky client sends
    cdef readonly int weight
    cdef readonly bint draining, down
    cdef public int connections    # open ones, kept up by _proxy
    cdef double began
    cdef double share              # the weight, less in slow start
    cdef double current            # of smooth weighted round robin
    cdef uint64_t seed             # of consistent hashing
    cdef double paused_until, warm_at  # while it is cold
    cdef uint64_t refused          # its `failures` when it last took no connection


@cython.final
cdef class Cluster:
    # First what each request reads or writes, as with servers.
    cdef readonly object spec          # the lb7.table.Cluster
    cdef readonly int active           # requests of it now, those that wait included
    cdef readonly int waiting
    cdef readonly int limit            # requests of one server, 0: no limit
    cdef int max_active, full, turn, balance
    cdef bint uniform
    cdef int ready_count
    cdef double recheck, seen
    cdef readonly bint hold            # requests wait when there is no server
    cdef void* few[FEW]                # the first of those that are `ready`
    cdef cluster_counts counts
    cdef readonly str name
    cdef readonly int held             # of those that wait, the ones for which there is no server
    cdef readonly list servers         # those that are not gone
    cdef object decision               # what rules say that do nothing but lead here; kept by _lookup
    # The server for a request, None when none can take it now. `hash`: of the client's address, the same in every worker
    # (not Python's). `cookie`: what the client sent, or None. `tried`: servers that failed this request, or None: taken
    # again only when there is no other.
    cpdef Server pick(self, double now, uint64_t hash, bytes cookie, list tried)
    # Whether there is a server that could take it when there is room.
    cpdef bint has_servers(self, double now)
    # Where there is none, and `hold`: one that nobody has reached yet, for this request to try; None: it is to wait.
    cpdef Server probe(self, double now)
    # Room for one more request of this cluster (max_requests_per_route). Only after True: leave, once.
    cpdef bint admit(self) noexcept
    cpdef void leave(self) noexcept
    # A request goes to this server; it is there no more.
    cpdef void begin(self, Server server, double now) noexcept
    cpdef void end(self, Server server)
    # How it went: for latency, ejection and counters. `latency` in seconds to the answer's head.
    cpdef void answered(self, Server server, double now, double latency, int status)
    # The same of a TCP connection that was made: `latency` in seconds of connecting; no status is counted.
    cpdef void connected(self, Server server, double now, double latency)
    # It took a connection. Needs to be told of one that is `cold` alone.
    cpdef int reached(self, Server server, double now) except -1
    cpdef void connect_failed(self, Server server, double now)
    cpdef void was_reset(self, Server server, double now)
    cpdef void timed_out(self, Server server, double now)
    # Whether the budget has room for one more try; takes it.
    cpdef bint may_retry(self, double now)
    # A request waits; `waiter.room()` (a def method without arguments) is called from the loop, once, when it should
    # pick again; it is out of the queue then, and may wait again in its old place. False when too many wait.
    # `again`: it has waited, or tried a server; it comes first. `stop_waiting` at any time, also of one that does not wait.
    cpdef bint wait(self, object waiter, bint again=*)
    cpdef void stop_waiting(self, object waiter)

    # What follows is of this module alone.
    cdef int workers, default_limit, eject_after, max_held, max_waiting
    cdef double eject_time, max_ejected, slow_start, retry_share
    cdef bint panic
    cdef list ready
    cdef list cold                 # while nobody has reached any: those to try; else None
    cdef dict by_cookie
    cdef object queue, timer, tell_held
    cdef double timer_at
    cdef bint paced                # some who wait were held: they are let go some at a time (balance_waking.pxi)
    cdef int window, step, waited_then
    cdef double widen_at
    cdef uint64_t random
    cdef retry_budget budget
    cdef cluster_counts told       # of `counts`
    cdef int _sort_out(self, double now) except -1
    cdef int _have_ready(self, list ready) except -1
    cdef int _return_surplus(self, double now) except -1
    cdef bint _may_eject(self, double now) except -1
    cdef void _measured(self, Server server, double now, double latency) noexcept
    cdef int _failed(self, Server server, double now) except -1
    cdef int _succeeded(self, Server server, double now) except -1
    cdef int _look_again(self) except -1
    cdef Server _stuck_to(self, double now, bytes cookie, list tried)
    cdef list _usable(self, list tried)
    cdef Server _next_in_turn(self, list tried)
    cdef Server _by_weight(self, list among, double load)
    cdef Server _least_loaded(self, list among)
    cdef Server _better_of_two(self, list among, double now)
    cdef Server _by_hash(self, list among, uint64_t hash)
    cdef Server _any(self, list among)
    cdef double _share(self, Server server, double now) noexcept
