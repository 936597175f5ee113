# A TCP connection without TLS.


cdef class PlainStream(Stream):
    def __cinit__(self):
        self.half_closes = True

    def __repr__(self):
        return f"<PlainStream {self.address.decode()} fd={self.fd} queued={self.queued} room={self.room} leaving={self.leaving}>"

    def __dealloc__(self):
        self._drop()
        free(self.pieces)
        if self.fd >= 0:
            c_close(self.fd)

    # --- what the poll calls ---

    cdef int happened(self, uint32_t events) except -1:
        if self.connecting:
            return self._connected()
        # What came is read before anything is sent: after a reset that would be lost by the error of sending.
        if self.reading:
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self._read()
        elif events & (EPOLLIN | EPOLLERR | EPOLLHUP):
            # Until it is read again. An end is then seen, too.
            self.watch(EPOLLOUT if self.count else 0)
        if self.count and not self.leaving and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            self._flush()
        return 0

    cdef int leave(self) except -1:
        cdef Peer peer = self.peer
        self.peer = None
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        if peer is None:
            return 0
        try:
            if not self.connecting:
                peer.lost(self.clean)
            elif self.error:
                peer.unreachable(self.error)
        except Exception:
            peer.broken()
        return 0

    cdef int failed(self) except -1:
        cdef Peer peer = self.peer
        self.abort()
        if peer is None:
            logger.exception("lb7: an error in a connection")
            return 0
        return peer.broken()

    cdef int _connected(self) except -1:
        """A connection was made, or could not be."""
        cdef int error = 0
        cdef socklen_t length = sizeof(error)
        if getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0:
            error = errno
        if error:
            return self._not_connected(error)
        self.connecting = False
        self.watch(EPOLLIN)
        return self._opened()

    cdef int _not_connected(self, int error) except -1:
        self.error = error
        return self.poll.leaves(self)

    cdef int _opened(self) except -1:
        self.reading = True
        self.peer.opened(self)
        return 0 if self.leaving else self.watch(self.mask | EPOLLIN)

    # --- reading ---

    cdef int _read(self) except -1:
        cdef Py_ssize_t count = recv(self.fd, received, READ, 0)
        if count > 0:
            return self.peer.octets(PyBytes_FromStringAndSize(received, count))
        if count < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self._end(False)
        if self.unsendable:
            return self._end(False)
        self.eof = True
        self.pause()
        self.watch(EPOLLOUT if self.count else 0)  # epoll would tell of the end again and again
        if not self.peer.ended():
            self.close()
        return 0

    cdef int pause(self) except -1:
        self.reading = False
        return 0

    cdef int resume(self) except -1:
        if self.eof or self.closing or self.leaving or self.reading:
            return 0
        self.reading = True
        return self.watch(self.mask | EPOLLIN)

    # --- writing ---

    cdef int write(self, bytes octets) except -1:
        cdef Py_ssize_t length = PyBytes_GET_SIZE(octets)
        cdef Py_ssize_t sent
        if self.shut:
            return 0
        if self.count:
            return self._keep(octets, 0, length)
        sent = send(self.fd, PyBytes_AS_STRING(octets), length, MSG_NOSIGNAL)
        if sent == length:
            return 0
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                return self._not_sent(errno)
            sent = 0
        return self._keep(octets, sent, length)

    cdef int write_both(self, bytes first, bytes octets, Py_ssize_t start, Py_ssize_t end) except -1:
        cdef iovec parts[2]
        cdef msghdr message
        cdef Py_ssize_t length = PyBytes_GET_SIZE(first)
        cdef Py_ssize_t sent = 0
        if self.shut:
            return 0
        if not self.count:
            memset(&message, 0, sizeof(message))
            parts[0].iov_base = PyBytes_AS_STRING(first)
            parts[0].iov_len = length
            parts[1].iov_base = PyBytes_AS_STRING(octets) + start
            parts[1].iov_len = end - start
            message.msg_iov = parts
            message.msg_iovlen = 2
            sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if sent == length + end - start:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return self._not_sent(errno)
                sent = 0
        if sent < length:
            self._keep(first, sent, length)
            sent = length
        return self._keep(octets, start + sent - length, end)

    cdef int write_eof(self) except -1:
        if self.shut:
            return 0
        self.shut = self.eof_wanted = True
        if not self.count:
            shutdown(self.fd, SHUT_WR)
        return 0

    cdef int _keep(self, bytes octets, Py_ssize_t at, Py_ssize_t end) except -1:
        """To be sent when there is room."""
        cdef piece *pieces
        if at == end:
            return 0
        if self.count == self.room and self.first > self.room // 2:
            self.count -= self.first
            memmove(self.pieces, self.pieces + self.first, self.count * sizeof(piece))
            self.first = 0
        if self.count == self.room:
            pieces = <piece *>realloc(self.pieces, (self.room + 8) * 2 * sizeof(piece))
            if pieces == NULL:
                raise MemoryError
            self.pieces = pieces
            self.room = (self.room + 8) * 2
        Py_INCREF(octets)
        self.pieces[self.count].octets = <void *>octets
        self.pieces[self.count].at = at
        self.pieces[self.count].end = end
        self.count += 1
        self.queued += end - at
        self.watch(self.mask | EPOLLOUT)
        if self.queued > HIGH_WATER and not self.is_slow:
            self.is_slow = True
            self.peer.slow()
        return 0

    cdef int _flush(self) except -1:
        """Send what waits, as far as there is room."""
        cdef iovec parts[PIECES]
        cdef msghdr message
        cdef Py_ssize_t sent
        cdef uint32_t at = 0, first = self.first
        memset(&message, 0, sizeof(message))
        while at < PIECES and first + at < self.count:
            parts[at].iov_base = PyBytes_AS_STRING(<bytes>self.pieces[first + at].octets) + self.pieces[first + at].at
            parts[at].iov_len = self.pieces[first + at].end - self.pieces[first + at].at
            at += 1
        message.msg_iov = parts
        message.msg_iovlen = at
        sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
        if sent < 0:
            return 0 if errno == EAGAIN or errno == EINTR else self._not_sent(errno)
        self._sent(sent)
        if not self.count:
            self.watch(self.mask & ~<uint32_t>EPOLLOUT)
            if self.closing:
                return self._end(True)
            if self.eof_wanted:
                shutdown(self.fd, SHUT_WR)
        if self.is_slow and self.queued <= LOW_WATER:
            self.is_slow = False
            self.peer.quick()
        return 0

    cdef int _sent(self, size_t octets) except -1:
        """So many of the octets that waited have gone."""
        cdef piece *it
        self.queued -= octets
        while self.first < self.count:
            it = &self.pieces[self.first]
            if octets < <size_t>(it.end - it.at):
                it.at += octets
                return 0
            octets -= it.end - it.at
            self.first += 1
            Py_DECREF(<object>it.octets)
        self.first = self.count = 0
        return 0

    cdef int _not_sent(self, int error) except -1:
        """Nothing can be sent any more. What had come before a reset is still there, such as the answer of a server that
        wants no more of a request: it is read first."""
        if not self.reading or error != EPIPE and error != ECONNRESET:
            return self._end(False)
        self.shut = self.unsendable = True
        self._drop()
        return self.watch(EPOLLIN)

    cdef void _drop(self) noexcept:
        """Forget what waits to be sent."""
        cdef uint32_t at
        for at in range(self.first, self.count):
            Py_DECREF(<object>self.pieces[at].octets)
        self.first = self.count = 0
        self.queued = 0

    # --- ending ---

    cdef int close(self) except -1:
        if self.closing or self.leaving:
            return 0
        self.shut = self.closing = True
        self.reading = False
        if not self.count:
            return self._end(True)
        return 0

    cdef int abort(self) except -1:
        self.error = 0  # nothing is told of a connection that was to be made and is given up
        return self._end(True)

    cdef int reset(self) except -1:
        cdef linger now
        now.l_onoff = 1
        now.l_linger = 0
        if self.fd >= 0:
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))
        return self.abort()

    cdef int _end(self, bint clean) except -1:
        """It is over: nothing more is read or sent."""
        if self.leaving:
            return 0
        self.clean = clean
        self.shut = True
        self.reading = False
        return self.poll.leaves(self)

    cdef size_t waiting(self) except? 0xFFFFFFFF:
        return self.queued

    cdef size_t unacknowledged(self) except? 0xFFFFFFFF:
        cdef int octets = 0
        if self.fd >= 0:
            ioctl(self.fd, TIOCOUTQ, &octets)
        return self.queued + octets
