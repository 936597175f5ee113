# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""TCP connections of the edge, and the sockets that it listens on: files of an epoll inside of the event loop's.

The loop watches one file, the epoll (`loop.add_reader`), however many connections there are; what happened to them is
taken from it in batches, and read, written and accepted right here. A transport of uvloop's does the same for about
twice the instructions per request, and takes more than a kilobyte for each connection. TLS comes from uvloop: a Stream
is either a PlainStream or stands before such a transport.

**Writing** is tried at once; what the kernel does not take is kept and sent when there is room. **Reading**, while it is
paused, is not even asked for: only when something comes, epoll is told to keep still. **Ends**: whoever ends leaves at
the end of the batch, or in the loop's next turn; so no file is closed while events of it may lie in the batch, and
nobody is called from inside of what he calls.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EBADF, ECONNRESET, EINPROGRESS, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK
from libc.errno cimport EOPNOTSUPP, EPIPE, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

import fcntl
import logging
import os
import socket
import struct
import termios

cdef extern from "<sys/epoll.h>" nogil:
    enum: EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC
    enum: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)

cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_ERROR, SO_LINGER, SHUT_WR
    enum: MSG_NOSIGNAL
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        sa_family_t ss_family
    struct linger:
        int l_onoff
        int l_linger
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    int socket_ "socket"(int, int, int)
    int c_connect "connect"(int, const sockaddr *, socklen_t)
    int accept4(int, sockaddr *, socklen_t *, int)
    int getsockopt(int, int, int, void *, socklen_t *)
    int setsockopt(int, int, int, const void *, socklen_t)
    int shutdown(int, int)
    Py_ssize_t recv(int, void *, size_t, int)
    Py_ssize_t send(int, const void *, size_t, int)
    Py_ssize_t sendmsg(int, const msghdr *, int)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<netinet/in.h>" nogil:
    enum: IPPROTO_TCP, INET6_ADDRSTRLEN
    struct in_addr:
        pass
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        sa_family_t sin_family
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        sa_family_t sin6_family
        unsigned short sin6_port
        in6_addr sin6_addr
    unsigned short htons(unsigned short)

cdef extern from "<netinet/tcp.h>" nogil:
    enum: TCP_NODELAY

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int, const char *, void *)
    const char *inet_ntop(int, const void *, char *, socklen_t)

cdef extern from "<sys/ioctl.h>" nogil:
    enum: TIOCOUTQ
    int ioctl(int, unsigned long, void *)

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int)

cdef enum:
    BATCH = 64                   # events that are taken at once
    ACCEPTED = 64                # connections that are accepted at once from one socket
    PIECES = 16                  # that are sent at once
    READ = 262144                # octets that are read at once
    HIGH_WATER = 65536           # octets that wait, from which on a peer is told to write less
    LOW_WATER = 16384            # and down to which it has to be for more

cdef double OUT_OF_FILES = 0.1   # seconds in which nothing is accepted once there are no files for it
cdef bytes NO_LINGER = struct.pack("ii", 1, 0)
cdef object logger = logging.getLogger("pharos.l7")
cdef char received[READ]


cdef class Peer:
    """Who uses a stream; to asyncio, a protocol.

    As a protocol it holds itself while there is a connection: a transport that is not read is held by nobody but its
    protocol, which it holds, and the garbage collector would take both away.
    """

    cdef int opened(self, Stream stream) except -1:
        return 0

    cdef int unreachable(self, int error) except -1:
        return 0

    cdef int octets(self, bytes data) except -1:
        return 0

    cdef bint ended(self) except -1:
        return False

    cdef int slow(self) except -1:
        return 0

    cdef int quick(self) except -1:
        return 0

    cdef int lost(self, bint clean) except -1:
        return 0

    cdef int broken(self) except -1:
        return 0

    def connection_made(self, transport):
        Py_INCREF(self)
        try:
            self.opened(TransportStream(transport))
        except Exception:
            self.broken()

    def data_received(self, bytes data):
        try:
            self.octets(data)
        except Exception:
            self.broken()

    def eof_received(self):
        try:
            return self.ended()
        except Exception:
            self.broken()
        return False

    def pause_writing(self):
        try:
            self.slow()
        except Exception:
            self.broken()

    def resume_writing(self):
        try:
            self.quick()
        except Exception:
            self.broken()

    def connection_lost(self, exception):
        try:
            self.lost(exception is None)
        except Exception:
            self.broken()
        Py_DECREF(self)


cdef class Stream(Watched):
    cdef int write(self, bytes octets) except -1:
        raise NotImplementedError

    cdef int write_both(self, bytes first, bytes octets, Py_ssize_t start, Py_ssize_t end) except -1:
        raise NotImplementedError

    cdef int write_eof(self) except -1:
        raise NotImplementedError

    cdef int pause(self) except -1:
        raise NotImplementedError

    cdef int resume(self) except -1:
        raise NotImplementedError

    cdef int close(self) except -1:
        raise NotImplementedError

    cdef int abort(self) except -1:
        raise NotImplementedError

    cdef int reset(self) except -1:
        raise NotImplementedError

    cdef size_t waiting(self) except? 0xFFFFFFFF:
        raise NotImplementedError

    cdef size_t unacknowledged(self) except? 0xFFFFFFFF:
        raise NotImplementedError


include "streams_poll.pxi"
include "streams_plain.pxi"
include "streams_transport.pxi"
