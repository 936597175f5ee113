# cython: boundscheck=False, wraparound=False, cdivision=True
"""TCP service ports: each connection of a client is joined to one of a server, and octets go both ways as they come.

    NEW ─▶ CHOOSING ─▶ [WAITING: all servers are full] ─▶ CONNECTING ─▶ JOINED ─▶ CLOSING ─▶ CLOSED
              ▲                                               │ failed
              └────────────── [PAUSING: all have] ◀───────────┘

- A client whose address is not allowed, for whom there is no server, or no room, gets a reset: TCP has no other word.
- Where the cluster is to `hold` connections, they wait for a server if there is none, one after the other trying whether the
  app is there (balance_waking.pxi).
- A connection that fails goes to another server; only when all have failed, some seconds apart, the client is told.
- Each side is read only as fast as the other takes it. What a client sends before there is a server is kept: what came
  by one read, then it is not read any more.
- The end of one direction is passed on (RFC 9293 §3.6); a reset of one side is a reset of the other.
- A server that drains, or is gone, keeps the connections that it has.

Everything runs on the loop's thread. Times are looked at by `tick`, which is called some times a second.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from lb7._balance cimport Cluster, Server
from lb7._streams cimport Peer, Poll, Stream

import asyncio
import logging

from lb7._streams import poll_of
from lb7.allowed import allowed as shared_list

cdef extern from "native/random64.h" nogil:
    uint64_t hash64(const char* octets, size_t length)

cdef enum:
    NEW, WAITING, CONNECTING, PAUSING, JOINED, CLOSING, CLOSED

cdef double PAUSE = 1.0         # seconds before all servers are tried anew
cdef double SWEEP = 1.0         # seconds between looks at joined connections, at most

cdef object logger = logging.getLogger("pharos.l7")


cdef double clock() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Places:
    def __init__(self, most, most_each=0):
        """0: no limit."""
        self.most = most
        self.most_each = most_each
        self.by_client = {}

    cdef bint enter(self, str address) except -1:
        """Take a place, if one is free."""
        if self.most and self.open >= self.most:
            return False
        if self.most_each:
            of_client = self.by_client.get(address, 0)
            if of_client >= self.most_each:
                return False
            self.by_client[address] = of_client + 1
        self.open += 1
        return True

    cdef int leave(self, str address) except -1:
        self.open -= 1
        if self.most_each:
            left = self.by_client[address] - 1
            if left:
                self.by_client[address] = left
            else:
                del self.by_client[address]
        return 0


cdef class TcpFront:
    def __init__(self, settings, str name, Cluster cluster not None, allowed=None, Places places=None):
        """`allowed`: the cluster's allow-list, made here if not given. `places`: shared by all that divide the limits
        of `[l7]`; None: this one has them for itself."""
        self.settings = settings
        self.name = name
        self.words = {}
        self.waiting = set()
        self.joined = set()
        self.now = clock()
        self.poll = poll_of(asyncio.get_running_loop())
        self.places = places
        if places is None:
            self.places = Places(settings.max_connections, settings.max_connections_per_client)
        self.serve(cluster)
        if allowed is not None and self.spec.allow:
            self.allowed = allowed

    def __call__(self):
        cdef TcpClient client = TcpClient.__new__(TcpClient)
        client.front = self
        client.cluster = self.cluster
        return client

    def serve(self, Cluster cluster not None):
        """New connections go to this cluster from now on."""
        self.cluster = cluster
        self.spec = cluster.spec
        self.allowed = shared_list(self.spec.allow) if self.spec.allow else None

    def tick(self):
        """End what lasts too long; to be called some times a second."""
        cdef TcpClient client
        cdef double now = clock()
        cdef double tunnel = self.settings.tunnel_timeout, stalled = self.settings.client_timeout
        self.now = now
        if self.waiting:
            for client in [client for client in self.waiting if now >= (<TcpClient>client).due]:
                client.overdue()
        if now >= self.next_sweep:
            self.next_sweep = now + min(SWEEP, min(tunnel, stalled) / 4)
            for client in list(self.joined):
                client.look(now, tunnel, stalled)

    def close(self):
        """End all connections at once, by resets."""
        cdef TcpClient client
        for client in [*self.waiting, *self.joined]:
            client.refuse("closed")

    def counts(self):
        """Numbers of this listener since its start, by name; `open`: connections of clients that are open now."""
        return {
            "accepted": self.accepted,
            "open": self.open,
            "received": self.received,
            "sent": self.sent,
            **self.words,
        }

    cdef int count(self, str word) except -1:
        """Something seldom happened."""
        self.words[word] = self.words.get(word, 0) + 1
        return 0

    cdef bint admits(self, str address) except -1:
        """Whether the cluster's allow-list, as it is now, has the address."""
        if self.cluster.spec is not self.spec:
            self.serve(self.cluster)
        return self.allowed is None or self.allowed.contains(address)


cdef class TcpClient(Peer):
    """The connection of a client, and what became of it."""

    # --- what its stream tells ---

    cdef int opened(self, Stream stream) except -1:
        cdef TcpFront front = self.front
        self.stream = stream
        self.address = stream.address.decode()
        self.last = front.now
        front.accepted += 1
        front.open += 1
        front.waiting.add(self)
        self.hash = hash64(stream.address, PyBytes_GET_SIZE(stream.address))
        if not front.admits(self.address):
            self.cluster.counts.denied += 1
            return self.refuse("denied")
        self.entered = front.places.enter(self.address)
        if not self.entered:
            return self.refuse("max_connections")
        self.admitted = self.cluster.admit()
        if not self.admitted:
            return self.refuse("max_requests_per_route")
        return self.choose()

    cdef int octets(self, bytes data) except -1:
        self.last = self.front.now
        self.front.received += PyBytes_GET_SIZE(data)
        self.cluster.counts.received += PyBytes_GET_SIZE(data)
        if self.state == JOINED:
            if self.upstream.open:
                self.upstream.stream.write(data)
        elif self.state < JOINED:
            if self.early is None:
                self.early = []
            self.early.append(data)
            self.stream.pause()
        return 0

    cdef bint ended(self) except -1:
        self.eof = True
        if self.state == JOINED and self.upstream.open:
            if self.upstream.eof:
                self.upstream.stream.close()
                return False
            self.upstream.stream.write_eof()
        return self.stream.half_closes

    cdef int slow(self) except -1:
        self.takes_nothing = True
        if self.upstream is not None and self.upstream.open:
            self.upstream.stream.pause()
        return 0

    cdef int quick(self) except -1:
        self.takes_nothing = False
        if self.upstream is not None and self.upstream.open and not self.upstream.eof:
            self.upstream.stream.resume()
        return 0

    cdef int lost(self, bint clean) except -1:
        cdef TcpServer upstream = self.upstream
        self.stream = None
        if self.state == WAITING:
            self.cluster.stop_waiting(self)
        if self.state < JOINED:
            self.front.count("client_left")
            self.stop_connecting()
            self.left_server()
        self.state = CLOSING
        if upstream is not None and upstream.open:
            if clean:
                upstream.stream.close()
            else:
                upstream.stream.reset()
        return self.over()

    cdef int broken(self) except -1:
        logger.exception("lb7: an error in a TCP connection; it is closed")
        return self.refuse("error")

    # --- which server ---

    cdef int choose(self) except -1:
        """Connect to a server, or wait for one, or give up."""
        cdef Cluster cluster = self.cluster
        cdef double now = clock()
        cdef Server server = cluster.pick(now, self.hash, None, self.tried)
        if server is None:
            if not cluster.has_servers(now):
                if cluster.hold:
                    return self.hold(now)
                cluster.counts.unavailable += 1
                return self.refuse("no_server")
            if self.state == CONNECTING:  # it failed; so often, and it will not wait again
                self.rounds += 1
                if self.rounds > self.front.settings.retries + 1:
                    cluster.counts.unavailable += 1
                    return self.refuse("no_connection")
            if not cluster.wait(self):
                return self.refuse("queue_full")
            if self.state != WAITING:  # else it goes on waiting, and not longer for that
                self.state = WAITING
                self.due = now + self.front.settings.queue_timeout
            return 0
        if self.tried is not None and server in self.tried:
            return self.all_failed(now)
        return self.connect(server)

    cdef int hold(self, double now) except -1:
        """The app sleeps or wakes: try a server that nobody has reached yet, or wait."""
        cdef Cluster cluster = self.cluster
        cdef bint again = self.held_since > 0
        cdef Server server
        self.is_held(now)
        if now >= self.due:
            return self.held_too_long()
        server = cluster.probe(now)
        if server is not None:
            return self.connect(server)
        if not cluster.wait(self, again):
            return self.refuse("hold_full")
        self.tried = None
        self.state = WAITING
        return 0

    cdef int is_held(self, double now) except -1:
        """From now on, if it was not before."""
        if self.held_since == 0:
            self.held_since = now
            self.cluster.counts.held += 1
        self.due = self.held_since + self.front.settings.hold_timeout
        return 0

    cdef int held_too_long(self) except -1:
        if self.state == WAITING:
            self.cluster.stop_waiting(self)
        self.cluster.counts.hold_timeouts += 1
        return self.refuse("hold_timeout")

    def room(self):
        """It waited for a server, and one may have room."""
        if self.state == WAITING:
            self.choose()

    def overdue(self):
        """Its state has lasted too long."""
        if self.state == CONNECTING:
            self.stop_connecting()
            self.not_connected()
        elif self.state == WAITING and self.held_since > 0:
            self.held_too_long()
        elif self.state == WAITING and self.cluster.held > 0:  # it waited for room, and now there is no server at all
            self.is_held(clock())
        elif self.state == WAITING:
            self.cluster.stop_waiting(self)
            self.cluster.counts.queue_timeouts += 1
            self.refuse("queue_timeout")
        elif self.state == PAUSING:
            self.choose()

    cdef int connect(self, Server server) except -1:
        self.cluster.begin(server, clock())
        self.server = server
        self.state = CONNECTING
        self.began = clock()
        self.due = self.began + self.front.settings.connect_timeout
        self.upstream = TcpServer.__new__(TcpServer)
        self.upstream.client = self
        self.upstream.server = server
        self.upstream.dialed = self.front.poll.connect(self.upstream, server.address, server.port)
        return 0

    cdef int stop_connecting(self) except -1:
        """Nothing more is heard of the connection that is being made, if one is."""
        cdef TcpServer upstream = self.upstream
        if upstream is not None and upstream.dialed is not None:
            upstream.dialed.abort()
            upstream.dialed = None
        return 0

    cdef int not_connected(self) except -1:
        """The server did not take the connection, or not in time: another may."""
        cdef Server server = self.server
        if self.upstream is not None:
            self.upstream.client = None
            self.upstream = None
        if server is not None:
            self.cluster.connect_failed(server, clock())
            self.front.count("connect_failed")
            self.left_server()
            if self.tried is None:
                self.tried = []
            self.tried.append(server)
        return self.choose()

    cdef int all_failed(self, double now) except -1:
        """Servers that start again are soon there, so they are all tried some times."""
        if self.cluster.hold:
            self.is_held(now)
            if now >= self.due:
                return self.held_too_long()
        elif self.rounds >= self.front.settings.retries or not self.cluster.may_retry(now):
            self.cluster.counts.unavailable += 1
            return self.refuse("no_connection")
        self.rounds += 1
        self.tried = None
        self.state = PAUSING
        self.due = now + PAUSE
        return 0

    cdef int join(self, TcpServer upstream) except -1:
        """A server has taken the connection: pass on what came before, and read from both."""
        cdef double now = clock()
        self.state = JOINED
        self.tried = None
        self.cluster.connected(self.server, now, now - self.began)
        self.server.connections += 1
        self.front.waiting.discard(self)
        self.front.joined.add(self)
        early, self.early = self.early, None
        for data in early or ():
            upstream.stream.write(data)
        if self.eof:
            upstream.stream.write_eof()
        elif not upstream.takes_nothing:
            self.stream.resume()
        return 0

    # --- how it ends ---

    cdef int refuse(self, str word) except -1:
        """Reset the client, and the server if there is one."""
        self.front.count(word)
        if self.state == WAITING:
            self.cluster.stop_waiting(self)
        if self.state < JOINED:
            self.stop_connecting()
            self.left_server()
        self.state = CLOSING
        if self.upstream is not None and self.upstream.open:
            self.upstream.stream.reset()
        if self.stream is not None:
            self.stream.reset()
        return 0

    cdef int left_server(self) except -1:
        """It is at its server no more."""
        cdef Server server = self.server
        if server is not None:
            self.server = None
            self.cluster.end(server)
        return 0

    cdef int over(self) except -1:
        """When both sides are gone, nothing of it is left."""
        cdef TcpFront front = self.front
        if self.state == CLOSED or self.stream is not None or self.upstream is not None and self.upstream.open:
            return 0
        self.state = CLOSED
        self.upstream = None
        front.waiting.discard(self)
        front.joined.discard(self)
        front.open -= 1
        if self.entered:
            front.places.leave(self.address)
        if self.admitted:
            self.cluster.leave()
        return 0

    cdef int look(self, double now, double idle, double stalled) except -1:
        """End it when nothing goes through any more."""
        cdef size_t unread = 0
        if self.stream is not None:
            unread += self.stream.waiting()
        if self.upstream is not None and self.upstream.open:
            unread += self.upstream.stream.waiting()
        if unread != self.unread:
            self.unread = unread
            self.last = now
        if now - self.last >= (idle if self.state == JOINED else stalled):
            self.refuse("tunnel_timeout" if self.state == JOINED else "close_timeout")
        return 0


cdef class TcpServer(Peer):
    """The connection to a server that a client is joined to."""

    cdef int opened(self, Stream stream) except -1:
        self.dialed = None
        self.stream = stream
        self.open = True
        return self.client.join(self)

    cdef int unreachable(self, int error) except -1:
        self.dialed = None
        return 0 if self.client is None else self.client.not_connected()

    cdef int octets(self, bytes data) except -1:
        cdef TcpClient client = self.client
        self.said = True
        client.last = client.front.now
        client.front.sent += PyBytes_GET_SIZE(data)
        client.cluster.counts.sent += PyBytes_GET_SIZE(data)
        if client.stream is not None and client.state == JOINED:
            client.stream.write(data)
        return 0

    cdef bint ended(self) except -1:
        cdef TcpClient client = self.client
        self.eof = True
        if client.stream is None:
            return False
        if self.server.cold and not self.said and not client.eof:  # as something in front of a program that is not there yet
            self.server.cluster.was_reset(self.server, clock())
        if client.eof or not client.stream.half_closes:
            client.stream.close()
            return False
        client.stream.write_eof()
        return True

    cdef int slow(self) except -1:
        self.takes_nothing = True
        if self.client.stream is not None:
            self.client.stream.pause()
        return 0

    cdef int quick(self) except -1:
        self.takes_nothing = False
        if self.client.stream is not None and not self.client.eof:
            self.client.stream.resume()
        return 0

    cdef int lost(self, bint clean) except -1:
        cdef TcpClient client = self.client
        self.open = False
        self.stream = None
        self.server.connections -= 1
        client.left_server()
        if client.state == JOINED:
            client.state = CLOSING
        if client.stream is not None:
            if clean:
                client.stream.close()
            else:
                self.server.cluster.was_reset(self.server, clock())
                client.stream.reset()
        return client.over()

    cdef int broken(self) except -1:
        if self.client is not None:
            return self.client.broken()
        logger.exception("lb7: an error in a connection to a server")
        return 0
