# Connections as the proxy sees them: who uses one (Peer), and the ways to have one (Stream).
#
# All is called on the event loop's thread. A stream calls its peer from the loop, never from inside one of its own
# methods but for `slow`, so a peer may do with its streams whatever it wants at any time.
from libc.stdint cimport uint8_t, uint32_t


cdef class Stream
cdef class Poll


cdef class Peer:
    # It has a connection now: the first of all calls.
    cdef int opened(self, Stream stream) except -1
    # There is none: the error's number.
    cdef int unreachable(self, int error) except -1
    cdef int octets(self, bytes data) except -1
    # The other side sends no more. True: it may still be sent to.
    cdef bint ended(self) except -1
    # Much waits to be sent (HIGH_WATER); it is little again (LOW_WATER).
    cdef int slow(self) except -1
    cdef int quick(self) except -1
    # The connection is over: the last of all calls. `clean`: not by an error.
    cdef int lost(self, bint clean) except -1
    # One of these has failed.
    cdef int broken(self) except -1


cdef class Watched:
    """A file of a Poll."""
    cdef Poll poll
    cdef int fd
    cdef uint32_t mask                     # what epoll watches for; 0: it is not there
    cdef bint leaving                      # nothing happens to it any more; `leave` comes soon
    cdef int happened(self, uint32_t events) except -1
    cdef int leave(self) except -1
    cdef int failed(self) except -1
    cdef int watch(self, uint32_t mask) except -1


cdef class Stream(Watched):
    cdef readonly bytes address            # of the other side, as text: IPv4 as such even where the socket is one of IPv6
    cdef readonly bint half_closes         # it can be written to after the other side's end, and read after our own
    cdef int write(self, bytes octets) except -1
    # The first octets, and some of others, `start` to `end`.
    cdef int write_both(self, bytes first, bytes octets, Py_ssize_t start, Py_ssize_t end) except -1
    # Nothing more is sent than what was written.
    cdef int write_eof(self) except -1
    cdef int pause(self) except -1         # reading
    cdef int resume(self) except -1
    cdef int close(self) except -1         # when all that was written has gone
    cdef int abort(self) except -1         # at once
    # At once by a reset: what had not gone out goes nowhere. After any other end the kernel would keep that for minutes,
    # for a client that does not read.
    cdef int reset(self) except -1
    # Octets that were written and wait here.
    cdef size_t waiting(self) except? 0xFFFFFFFF
    # The same, and those that the other side has not acknowledged.
    cdef size_t unacknowledged(self) except? 0xFFFFFFFF


ctypedef struct piece:
    void *octets                           # a bytes object, owned
    Py_ssize_t at, end                     # what of it is still to be sent


cdef class PlainStream(Stream):
    cdef Peer peer
    cdef piece *pieces                     # that wait to be sent
    cdef uint32_t first, count, room       # of `pieces`
    cdef size_t queued                     # octets of them
    cdef uint8_t connecting, reading, eof, is_slow, clean
    cdef uint8_t shut                      # nothing more is taken to be sent, for one of these reasons or as it leaves:
    cdef uint8_t closing, eof_wanted, unsendable
    cdef int error                         # why there is no connection
    cdef int _connected(self) except -1
    cdef int _opened(self) except -1
    cdef int _not_connected(self, int error) except -1
    cdef int _read(self) except -1
    cdef int _flush(self) except -1
    cdef int _sent(self, size_t octets) except -1
    cdef int _keep(self, bytes octets, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int _not_sent(self, int error) except -1
    cdef void _drop(self) noexcept
    cdef int _end(self, bint clean) except -1


cdef class TransportStream(Stream):
    cdef readonly object transport


cdef class Listening(Watched):
    cdef object factory, sock
    cdef bint resting                      # there were no files for more connections
    cdef int accepted(self, int fd, bytes address) except -1
    cdef int rest(self, int error) except -1


cdef class Poll:
    cdef readonly object loop
    cdef int fd
    cdef bint running
    cdef list left                         # Watched that leave
    cdef int enters(self, Watched it) except -1
    cdef int leaves(self, Watched it) except -1
    cpdef object connect(self, Peer peer, str address, int port)
