# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The proxy: what happens to a request between the client's connection and a server's.

**One request at a time.** A client's connection is in one of the states below. What comes while a request is in hand is
its body, or is kept (and reading is stopped when that gets long) until the answer has gone:

    FRESH ──▶ HEAD ──▶ [AUTH] ──▶ [WAITING] ──▶ [CONNECTING] ──▶ SENT ──▶ ANSWERING ──▶ IDLE ──▶ HEAD …
                                                                             └──▶ TUNNEL

AUTH: a password is being hashed; WAITING: no server has room (HELD: there is none, for the app sleeps); CONNECTING: to a
server (PAUSING: there was no connection to any, and they are tried anew soon); SENT: the head has gone to the server and
no head has come back; TUNNEL: an upgrade was accepted. From any of them to CLOSING, or to LINGER first: then
our answer is sent and what the client still sends is thrown away for a while, for a client that sends to a closed
connection gets a reset and may never see the answer (RFC 9112 §9.6).

**Heads are written anew** from their parsed parts, with our own fields; bodies are passed on as they came. Where that
would give the very octets that came, those are used.

**Trying again.** A request goes to another server as long as nothing of it can have been acted on: no connection could
be made. Those for an app that sleeps or wakes wait as long as that may take, in the queue of its cluster, and one after the
other tries whether it is there (balance_waking.pxi). If a server ends a connection before it answered, only what may be done twice is (RFC 9110 §9.2.2), and only
while its whole body is still here. A request on a connection that was used before is first tried on a new one: servers
end idle connections at any time.

**Nothing waits for ever, nothing grows without limit.** Each connection has one deadline (proxy_timers.pxi). Each side
is read only as fast as the other takes it.

Everything runs on the event loop's thread. A request on the fast path makes no Python object but the octets it sends.
The files beside this one, proxy_*.pxi, are parts of it.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.math cimport INFINITY, ceil
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from lb7._balance cimport Cluster, Server
from lb7._http1 cimport *
from lb7._lookup cimport Decision, Table
from lb7._streams cimport Peer, Poll, Stream, TransportStream

import asyncio
import errno
import logging
import os

from lb7 import access_log, answers
from lb7.allowed import Allowed
from lb7._streams import poll_of
from lb7.certificates import server_name

cdef enum:
    FRESH, HEAD, IDLE, AUTH, WAITING, HELD, PAUSING, CONNECTING, SENT, ANSWERING, TUNNEL, LINGER, CLOSING, CLOSED

cdef enum:
    BY_HOST, BY_HOST_PORT, BY_SNI, BY_APP_ID, BY_NONE

cdef enum:
    NOTHING, LENGTH, CHUNKED, TO_END  # how what remains of a body is framed

cdef enum:
    # Why a client is not read, bits of `stops`: the server is slow, there is none yet, too much is kept.
    STOP_SLOW = 1
    STOP_WAIT = 2
    STOP_FULL = 4

cdef enum:
    KEPT_BODY = 65536        # octets of a request's body that are kept for another try
    KEPT_AHEAD = 65536       # octets of further requests that are kept while one is in hand
    JOINED = 16384           # octets that are rather copied than sent by themselves
    MOST_INTERIM = 16        # answers 1xx to one request
    LINGER_TICKS = 8
    LINGER_OCTETS = 4194304
    DRAIN_IDLE_TICKS = 4     # that connections without a request stay open when their edge drains
    DRAIN_FRESH_TICKS = 20   # the same of those that had none yet
    FRESH_TICKS = 4          # that a new connection may be silent before it gives way to others
    MOST_GIVING_WAY = 4096   # connections that are chosen at once to give way
    MOST_LOOKS = 262144      # at connections in one tick, in search of those
    LASTS_TICKS = 2          # that a connection to a server that has not answered yet is looked at before it is used
    SPARE = 8                # connections to a server that are kept though nobody asked for them any more

cdef double SAFE_IDLE = 1.0  # seconds without a request after which a connection gets only what may be sent twice

cdef object logger = logging.getLogger("pharos.l7")
cdef http1_head head         # of the message that is being read

include "proxy_timers.pxi"
include "proxy_counts.pxi"
include "proxy_reading.pxi"
include "proxy_request.pxi"
include "proxy_decide.pxi"
include "proxy_rewrite.pxi"
include "proxy_dispatch.pxi"
include "proxy_answer.pxi"
include "proxy_end.pxi"
include "proxy_leaving.pxi"
include "proxy_client.pxi"
include "proxy_server.pxi"
include "proxy_edge.pxi"
