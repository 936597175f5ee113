# The proxy's connections, and what they share.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from lb7._balance cimport Cluster, Server
from lb7._http1 cimport http1_chunks
from lb7._lookup cimport Decision, Table
from lb7._streams cimport Peer, Poll, Stream

cdef enum:
    SLOTS = 512              # of the wheel of time-outs
    MOST_ADDRESS = 46        # octets of an address as text

ctypedef struct link:
    link *next
    link *previous
    PyObject *owner          # borrowed: whoever is freed leaves its list


cdef class Edge
cdef class Front
cdef class ServerConnection


cdef class Timed(Peer):
    """Something with a time-out: in a slot of its edge's wheel, at `due` or before."""
    cdef link timer
    cdef Edge edge
    cdef uint32_t due, placed
    cdef int expired(self) except -1


cdef class Edge:
    cdef readonly object settings, log
    cdef public Poll poll          # where its connections are watched; None: not yet
    cdef readonly uint64_t connections, requests     # open now
    cdef readonly bint draining
    cdef dict words                                  # faults, time-outs, limits: word → times
    cdef dict by_client                              # connections of each address, when they are limited
    cdef set upstreams                               # all open connections to servers
    cdef object trusted                              # lb7.allowed.Allowed, or None: nobody
    cdef char *scratch
    cdef size_t scratch_size
    cdef uint64_t random, log_threshold
    cdef uint64_t accepted, begun, log_dropped
    cdef uint32_t log_room
    cdef double started
    cdef uint32_t tick_now
    cdef link wheel[SLOTS + 1]                        # the last one: what is due in this tick
    cdef list giving_way                              # (kind, due, connection): who is closed for a new one, the last first
    cdef uint32_t looked_in                           # the tick in which the wheel was last looked through for those
    cdef uint64_t looked_at                           # how many were looked at in that tick
    # Of settings. Times are in ticks.
    cdef uint32_t request_ticks, idle_ticks, client_ticks, server_ticks, connect_ticks, queue_ticks, tunnel_ticks
    cdef uint32_t pool_ticks
    cdef uint32_t max_head, max_fields, max_per_client, retries
    cdef uint64_t max_connections
    cdef int64_t max_body
    cdef double hold_time                             # seconds
    cdef double hold_end                              # when no request is held any more, by the clock
    cdef bint request_id, compat


cdef class Front:
    cdef readonly Edge edge
    cdef readonly str name
    cdef public Table table
    cdef readonly int port
    cdef readonly bint tls
    cdef uint8_t by
    cdef bytes fields            # X-Forwarded-Proto and -Port, as they are added
    cdef uint64_t accepted, open, requests, received, sent
    cdef dict words


cdef class Notes:
    """What is remembered of a request that is not plain, or that was tried more than once."""
    cdef list tried              # servers that failed it
    cdef bytes cookie            # its value, as the client sent it
    cdef bytes fields            # what is added to the request
    cdef bytes path              # instead of its own
    cdef str method, host, target  # as the client asked; None: as in the head that was sent


cdef class ClientConnection(Timed):
    cdef Front front
    cdef Stream stream
    cdef ServerConnection upstream   # that has the request in hand, or is to have it
    cdef Cluster cluster             # that the request was admitted to
    cdef Server server               # that it was begun at
    cdef Server last                 # that it was begun at last, for the log
    cdef Decision decision
    cdef Notes notes
    cdef bytes buffer                # a part of a head, or what came behind the request in hand
    cdef bytes head                  # of the request, as it goes to the server
    cdef list body                   # its body so far, as long as it may be needed again
    cdef str name                    # the TLS server name
    cdef uint64_t hash               # of the address
    cdef int64_t left                # octets of the body to come
    cdef http1_chunks chunks         # of the body
    cdef int64_t received, sent      # octets of this request and its answer
    cdef double began                # when the request's head was there
    cdef float waited, connecting, first   # seconds: in the queue, until connected, until the answer began
    cdef uint32_t at                 # where in the buffer the first octet is that was not dealt with
    cdef uint32_t kept               # octets in `body`
    cdef uint32_t unread             # octets of answers that had not gone out when last looked at
    cdef uint16_t status
    cdef uint8_t state, framing, minor, stops, tries
    cdef uint8_t close, head_only, upgrade, idempotent, repeatable, expecting, eof, write_paused, trusted, fresh_only
    cdef uint8_t interim, counted, rounds, resets, eof_sent, beginning, by_client
    cdef uint8_t address_len
    cdef char address[MOST_ADDRESS]


cdef class ServerConnection(Timed):
    cdef Server server
    cdef Stream stream               # None while there is no connection
    cdef Stream dialed               # that is to be connected
    cdef ClientConnection client
    cdef bytes buffer                # a part of a head
    cdef double began                # when the request in hand was sent; without one: when the last one ended
    cdef int64_t left
    cdef http1_chunks chunks
    cdef uint8_t state, framing, close, reused, heard, eof_sent, read_paused, write_paused, wrap
    cdef uint8_t ours                # it could not be connected for want of files or ports here
