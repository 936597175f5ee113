# TCP service ports: connections of clients, each joined to one of a server.
from libc.stdint cimport uint8_t, uint64_t

from lb7._balance cimport Cluster, Server
from lb7._streams cimport Peer, Poll, Stream


cdef class Places:
    """How many connections there may be at once, in all and from one address."""
    cdef readonly uint64_t open, most, most_each
    cdef dict by_client
    cdef bint enter(self, str address) except -1
    cdef int leave(self, str address) except -1


cdef class TcpFront:
    cdef readonly object settings
    cdef readonly str name
    cdef readonly Cluster cluster
    cdef readonly Places places
    cdef Poll poll
    cdef readonly uint64_t open, accepted, received, sent
    cdef object allowed, spec        # of the cluster's allow-list, and what it was made from
    cdef dict words
    cdef set waiting                 # clients without a server's connection yet
    cdef set joined                  # all others
    cdef double now, next_sweep      # as of the last tick
    cdef int count(self, str word) except -1
    cdef bint admits(self, str address) except -1


cdef class TcpClient(Peer):
    cdef TcpFront front
    cdef Cluster cluster
    cdef Server server               # that the connection was begun at
    cdef TcpServer upstream
    cdef Stream stream
    cdef str address
    cdef uint64_t hash
    cdef list tried, early           # servers that failed; octets that came before there was a server
    cdef double held_since           # 0: it was not
    cdef double began, due, last     # of the try; until when this state may last; when something went through
    cdef size_t unread               # octets that had not gone out when last looked at
    cdef int rounds
    cdef uint8_t state, entered, admitted, eof, takes_nothing
    cdef int choose(self) except -1
    cdef int hold(self, double now) except -1
    cdef int is_held(self, double now) except -1
    cdef int held_too_long(self) except -1
    cdef int connect(self, Server server) except -1
    cdef int stop_connecting(self) except -1
    cdef int not_connected(self) except -1
    cdef int all_failed(self, double now) except -1
    cdef int join(self, TcpServer upstream) except -1
    cdef int refuse(self, str word) except -1
    cdef int left_server(self) except -1
    cdef int over(self) except -1
    cdef int look(self, double now, double idle, double stalled) except -1


cdef class TcpServer(Peer):
    cdef TcpClient client
    cdef Server server
    cdef Stream stream
    cdef Stream dialed               # that is to be connected
    cdef uint8_t eof, takes_nothing, open, said
