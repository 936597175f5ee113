# When a client is read, and what of that is the body of the request in hand.


cdef inline int stop_reading(ClientConnection c, uint8_t why) except -1:
    if not c.stops and c.stream is not None:
        c.stream.pause()
    c.stops |= why
    return 0


cdef inline int go_on_reading(ClientConnection c, uint8_t why) except -1:
    if c.stops & why:
        c.stops &= ~why
        if not c.stops and not c.eof and c.stream is not None:
            c.stream.resume()
    return 0


cdef inline Py_ssize_t kept_ahead(ClientConnection c) noexcept:
    """Octets in the buffer."""
    return 0 if c.buffer is None else PyBytes_GET_SIZE(c.buffer) - c.at


cdef int keep(ClientConnection c, bytes data) except -1:
    """Put octets behind those in the buffer."""
    c.buffer = data if c.buffer is None else c.buffer[c.at:] + data
    c.at = 0
    return 0


cdef int client_octets(ClientConnection c, bytes data) except -1:
    """Octets came from the client, in any state."""
    cdef Py_ssize_t end = 0
    if c.state <= IDLE:
        return head_octets(c, data)
    if c.state == TUNNEL:
        return tunnel_octets(c, data)
    if c.state == LINGER:
        c.left += PyBytes_GET_SIZE(data)
        if c.left > LINGER_OCTETS:
            c.stream.abort()
        return 0
    if c.state >= CLOSING:
        return 0
    if c.framing != NOTHING:
        end = body_octets(c, data, 0)
        if end < 0 or end == PyBytes_GET_SIZE(data):
            return 0
    keep(c, data if end == 0 else data[end:])
    if kept_ahead(c) > KEPT_AHEAD:
        stop_reading(c, STOP_FULL)
    return 0


cdef int head_octets(ClientConnection c, bytes data) except -1:
    """Octets of a request's head, or of several."""
    if c.buffer is None:
        c.buffer = data
        c.at = 0
    else:
        keep(c, data)
        # A head that comes in many pieces is not read again before a line of it has ended.
        if (memchr(PyBytes_AS_STRING(data), c'\n', PyBytes_GET_SIZE(data)) == NULL
                and PyBytes_GET_SIZE(c.buffer) < c.edge.max_head):
            return 0
    if c.write_paused:  # its requests are taken up when it has read the answers to those before
        if kept_ahead(c) > KEPT_AHEAD:
            stop_reading(c, STOP_FULL)
        return 0
    return begin_requests(c)


cdef bint body_begins(ClientConnection c) except -1:
    """Take what is in the buffer as the beginning of the body. False: it was refused."""
    cdef bytes data = c.buffer
    cdef Py_ssize_t end
    if data is None:
        return True
    c.buffer = None
    end = body_octets(c, data, c.at)
    if end < 0:
        return False
    if c.framing != NOTHING:
        if c.eof:
            refuse(c, 400, "bad_length")
            return False
        go_on_reading(c, STOP_FULL)  # what was kept is all taken
    elif end < PyBytes_GET_SIZE(data):
        c.buffer = data
        c.at = end
    return True


cdef Py_ssize_t body_octets(ClientConnection c, bytes data, Py_ssize_t start) except -2:
    """Octets, from `start`, while the body of the request in hand is not complete. Where it ended, or all ended; -1: it
    was refused."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data) - start
    cdef Py_ssize_t taken = take_body(c, PyBytes_AS_STRING(data) + start, length)
    c.expecting = False
    if taken < 0:
        refuse(c, 400 if taken == -1 else 413, "bad_chunks" if taken == -1 else "long_body")
        return -1
    if start or taken < length:
        data = data[start:start + taken]
    keep_body(c, data)
    if c.state == SENT or c.state == ANSWERING:
        c.upstream.stream.write(data)
        if c.state == SENT and c.framing != NOTHING and not c.upstream.write_paused:
            timer_set(c, c.edge.client_ticks)
        elif not c.write_paused:
            timer_set(c, c.edge.server_ticks)
    elif c.framing != NOTHING:
        stop_reading(c, STOP_WAIT)
    return start + taken


cdef Py_ssize_t take_body(ClientConnection c, const char *octets, Py_ssize_t length) noexcept:
    """How many of these octets belong to the body; -1: its framing is bad, -2: it is too long."""
    cdef Py_ssize_t taken = length
    if c.framing == LENGTH:
        if length >= c.left:
            taken = c.left
            c.framing = NOTHING
        c.left -= taken
    else:
        taken = http1_chunks_read(&c.chunks, octets, length)
        if taken < 0:
            return -1
        c.left += taken
        if c.edge.max_body > 0 and c.left > c.edge.max_body:
            return -2
        if c.chunks.state == HTTP1_CHUNKS_DONE:
            c.framing = NOTHING
    c.received += taken
    c.cluster.counts.received += taken
    return taken


cdef int keep_body(ClientConnection c, bytes data) except -1:
    """Keep a piece of the body: until there is a server, and as long as another try may want it."""
    if c.state >= SENT and not c.repeatable:
        return 0
    if c.body is None:
        c.body = []
    c.body.append(data)
    c.kept += <uint32_t>PyBytes_GET_SIZE(data)
    if c.kept > KEPT_BODY:
        c.repeatable = False
        if c.state >= SENT:
            c.body = None
    return 0


cdef int tunnel_octets(ClientConnection c, bytes data) except -1:
    """From the client through an upgraded connection."""
    cdef ServerConnection s = c.upstream
    c.received += PyBytes_GET_SIZE(data)
    c.cluster.counts.received += PyBytes_GET_SIZE(data)
    if not c.write_paused:
        timer_set(c, c.edge.tunnel_ticks)
    s.stream.write(data)
    return 0
