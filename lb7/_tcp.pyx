# cython: boundscheck=False, wraparound=False, cdivision=True
"""TCP service ports: each connection of a client is joined to one of a server, and octets go both ways as they come.

    NEW ─▶ CHOOSING ─▶ [WAITING: all servers are full] ─▶ CONNECTING ─▶ JOINED ─▶ CLOSING ─▶ CLOSED
              ▲                                               │ failed
              └────────────── [PAUSING: all have] ◀───────────┘

- A client whose address is not allowed, for whom there is no server, or no room, gets a reset: TCP has no other word.
- A connection that fails goes to another server; only when all have failed, some seconds apart, the client is told.
- Each side is read only as fast as the other takes it. What a client sends before there is a server is kept: what came
  by one read, then it is not read any more.
- The end of one direction is passed on (RFC 9293 §3.6); a reset of one side is a reset of the other.
- A server that drains, or is gone, keeps the connections that it has.
- uvloop holds a transport only while it is read, and a transport and its protocol hold each other: so as long as there
  is a connection, its protocol holds itself, or the garbage collector would take both away.

Everything runs on the loop's thread. Times are looked at by `tick`, which is called some times a second.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from lb7._balance cimport Cluster, Server

import asyncio
import logging
import socket
import struct

from lb7.allowed import allowed as shared_list

cdef extern from "native/random64.h" nogil:
    uint64_t hash64(const char* octets, size_t length)

cdef enum:
    NEW, WAITING, CONNECTING, PAUSING, JOINED, CLOSING, CLOSED

cdef double PAUSE = 1.0         # seconds before all servers are tried anew
cdef double SWEEP = 1.0         # seconds between looks at joined connections, at most

cdef bytes RESET = struct.pack("ii", 1, 0)
cdef object logger = logging.getLogger("pharos.l7")


cdef double clock() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef str address_of(object transport):
    """The peer's address: IPv4 as such even where the socket is one of IPv6, without a scope."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple) or not peer:
        return ""
    address = peer[0].partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address


cdef int reset(object transport) except -1:
    """End a connection so that the peer knows that it went wrong: closing with nothing lingering sends a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass
    transport.abort()
    return 0


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


cdef class TcpClient:
    """The connection of a client, and what became of it."""

    # --- events of its transport ---

    def connection_made(self, transport):
        cdef TcpFront front = self.front
        Py_INCREF(self)
        self.transport = transport
        self.address = address_of(transport)
        self.half = transport.can_write_eof()
        self.last = front.now
        front.accepted += 1
        front.open += 1
        front.waiting.add(self)
        address = self.address.encode()
        self.hash = hash64(address, len(address))
        if not front.admits(self.address):
            self.cluster.counts.denied += 1
            self.refuse("denied")
            return
        self.entered = front.places.enter(self.address)
        if not self.entered:
            self.refuse("max_connections")
            return
        self.admitted = self.cluster.admit()
        if not self.admitted:
            self.refuse("max_requests_per_route")
            return
        self.choose()

    def data_received(self, data):
        self.last = self.front.now
        self.front.received += len(data)
        self.cluster.counts.received += len(data)
        if self.state == JOINED:
            if self.upstream.open:
                self.upstream.transport.write(data)
        elif self.state < JOINED:
            if self.early is None:
                self.early = []
            self.early.append(data)
            self.transport.pause_reading()

    def eof_received(self):
        """The client sends no more. True: it may still be sent to."""
        self.eof = True
        if self.state == JOINED and self.upstream.open:
            if self.upstream.eof:
                self.upstream.transport.close()
                return False
            self.upstream.transport.write_eof()
        return self.half

    def pause_writing(self):
        self.slow = True
        if self.upstream is not None and self.upstream.open:
            self.upstream.transport.pause_reading()

    def resume_writing(self):
        self.slow = False
        if self.upstream is not None and self.upstream.open and not self.upstream.eof:
            self.upstream.transport.resume_reading()

    def connection_lost(self, error):
        cdef TcpServer upstream = self.upstream
        self.transport = None
        if self.task is not None:
            self.task.cancel()
        if self.state == WAITING:
            self.cluster.stop_waiting(self)
        if self.state < JOINED:
            self.front.count("client_left")
            self.left_server()
        self.state = CLOSING
        if upstream is not None and upstream.open:
            if error is None:
                upstream.transport.close()
            else:
                reset(upstream.transport)
        self.ended()
        Py_DECREF(self)

    # --- which server ---

    cdef int choose(self) except -1:
        """Connect to a server, or wait for one, or give up."""
        cdef Cluster cluster = self.cluster
        cdef double now = clock()
        cdef Server server = cluster.pick(now, self.hash, None, self.tried)
        if server is None:
            if not cluster.has_servers(now):
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

    def room(self):
        """It waited for a server, and one may have room."""
        if self.state == WAITING:
            self.choose()

    def overdue(self):
        """Its state has lasted too long."""
        if self.state == CONNECTING:
            self.task.cancel()
            self.not_connected()
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
        self.task = asyncio.get_running_loop().create_task(dial(self, self.upstream, server.address, server.port))
        return 0

    cdef int not_connected(self) except -1:
        """The server did not take the connection, or not in time: another may."""
        cdef Server server = self.server
        self.upstream.client = None
        self.upstream = None
        self.task = None
        self.cluster.connect_failed(server, clock())
        self.front.count("connect_failed")
        self.left_server()
        if self.tried is None:
            self.tried = []
        self.tried.append(server)
        return self.choose()

    cdef int all_failed(self, double now) except -1:
        """Servers that start again are soon there, so they are all tried some times."""
        if self.rounds >= self.front.settings.retries or not self.cluster.may_retry(now):
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
        self.task = None
        self.tried = None
        self.cluster.connected(self.server, now, now - self.began)
        self.server.connections += 1
        self.front.waiting.discard(self)
        self.front.joined.add(self)
        early, self.early = self.early, None
        for data in early or ():
            upstream.transport.write(data)
        if self.eof:
            upstream.transport.write_eof()
        elif not upstream.slow:
            self.transport.resume_reading()
        return 0

    # --- how it ends ---

    cdef int refuse(self, str word) except -1:
        """Reset the client, and the server if there is one."""
        self.front.count(word)
        if self.state == WAITING:
            self.cluster.stop_waiting(self)
        if self.task is not None:
            self.task.cancel()
        if self.state < JOINED:
            self.left_server()
        self.state = CLOSING
        if self.upstream is not None and self.upstream.open:
            reset(self.upstream.transport)
        if self.transport is not None:
            reset(self.transport)
        return 0

    cdef int left_server(self) except -1:
        """It is at its server no more."""
        cdef Server server = self.server
        if server is not None:
            self.server = None
            self.cluster.end(server)
        return 0

    cdef int ended(self) except -1:
        """When both sides are gone, nothing of it is left."""
        cdef TcpFront front = self.front
        if self.state == CLOSED or self.transport is not None or self.upstream is not None and self.upstream.open:
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
        if self.transport is not None:
            unread += self.transport.get_write_buffer_size()
        if self.upstream is not None and self.upstream.open:
            unread += self.upstream.transport.get_write_buffer_size()
        if unread != self.unread:
            self.unread = unread
            self.last = now
        if now - self.last >= (idle if self.state == JOINED else stalled):
            self.refuse("tunnel_timeout" if self.state == JOINED else "close_timeout")
        return 0


cdef class TcpServer:
    """The connection to a server that a client is joined to."""

    def connection_made(self, transport):
        Py_INCREF(self)
        self.transport = transport
        if self.client is None or self.client.state != CONNECTING:  # it has left, or waited too long
            transport.abort()
            return
        self.open = True
        self.client.join(self)

    def data_received(self, data):
        cdef TcpClient client = self.client
        client.last = client.front.now
        client.front.sent += len(data)
        client.cluster.counts.sent += len(data)
        if client.transport is not None and client.state == JOINED:
            client.transport.write(data)

    def eof_received(self):
        cdef TcpClient client = self.client
        self.eof = True
        if client is None or client.transport is None:
            return False
        if client.eof or not client.half:
            client.transport.close()
            return False
        client.transport.write_eof()
        return True

    def pause_writing(self):
        self.slow = True
        if self.client.transport is not None:
            self.client.transport.pause_reading()

    def resume_writing(self):
        self.slow = False
        if self.client.transport is not None and not self.client.eof:
            self.client.transport.resume_reading()

    def connection_lost(self, error):
        if self.open:
            self.left(error)
        self.transport = None
        Py_DECREF(self)

    cdef int left(self, object error) except -1:
        cdef TcpClient client = self.client
        self.open = False
        self.server.connections -= 1
        client.left_server()
        if client.state == JOINED:
            client.state = CLOSING
        if client.transport is not None:
            if error is None:
                client.transport.close()
            else:
                self.server.cluster.was_reset(self.server, clock())
                reset(client.transport)
        return client.ended()


async def dial(TcpClient client, TcpServer upstream, str address, int port):
    """Whoever is connected calls `connection_made`, and it goes on from there."""
    try:
        await asyncio.get_running_loop().create_connection(lambda: upstream, address, port)
    except (OSError, asyncio.CancelledError):
        pass
    except Exception:
        logger.exception("lb7: connecting to %s port %d", address, port)
    if client.state == CONNECTING and client.upstream is upstream and not upstream.open:
        client.not_connected()
