# What a server answers, and how that goes to the client.


cdef int server_octets(ServerConnection s, bytes data) except -1:
    """Octets came from a server, in any state."""
    cdef ClientConnection c = s.client
    if c is None or s.state == IDLE:
        return close_server(s)  # nobody asked
    s.heard = True
    if s.state == SENT:
        if s.buffer is not None:
            data = s.buffer + data
            s.buffer = None
        return answer_head(s, c, data)
    if s.state == TUNNEL:
        return tunnel_back(s, c, data)
    if s.state == CONNECTING:  # it has not been asked yet
        s.stream.abort()
        return 0
    return answer_body(s, c, data)


cdef int answer_head(ServerConnection s, ClientConnection c, bytes data) except -1:
    """The answer's head is there, or a part of it."""
    cdef Py_ssize_t length
    cdef double now
    while True:
        length = http1_response(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), c.edge.max_head, c.edge.max_fields,
                                &head)
        if length == 0:
            s.buffer = data
            return 0
        if length < 0:
            return bad_answer(s, c, (<bytes>http1_fault_word(<int>-length)).decode())
        if head.status >= 200 or head.status == 101:
            break
        if not interim_answer(s, c, data):
            return 0
        if length == PyBytes_GET_SIZE(data):
            return 0
        data = data[length:]
    if head.status == 101 and (not c.upgrade or c.framing != NOTHING):
        return bad_answer(s, c, "upgrade")
    now = clock()
    c.first = <float>(now - c.began)
    c.status = head.status
    c.cluster.answered(s.server, now, now - s.began, head.status)
    c.body = None
    c.repeatable = False
    s.close = head.close or (head.minor == 0 and not head.keep_alive)
    s.state = ANSWERING
    c.state = ANSWERING
    answer_framing(s, c)
    return pass_head(s, c, data)


cdef bint interim_answer(ServerConnection s, ClientConnection c, bytes data) except -1:
    """An answer 1xx (RFC 9110 §15.2): passed on to those who know such. False: that was one too many."""
    c.interim += 1
    if c.interim > MOST_INTERIM:
        bad_answer(s, c, "interim")
        return False
    if head.status == 100:
        c.expecting = False
        if c.framing != NOTHING:
            timer_set(c, c.edge.client_ticks)
    if c.minor == 1:
        drop_fields(<uint64_t>1 << HTTP1_CONTENT_LENGTH | <uint64_t>1 << HTTP1_TRANSFER_ENCODING)
        send_client(c, new_answer_head(c, PyBytes_AS_STRING(data), None, False))
    return True


cdef inline void answer_framing(ServerConnection s, ClientConnection c) noexcept:
    """How the answer's body will come, and whether it has to be framed otherwise for the client (RFC 9112 §6.3)."""
    s.wrap = False
    if c.head_only or head.status == 304 or head.content_length == 0 or head.status == 101:
        s.framing = NOTHING
    elif head.chunked:
        s.framing = CHUNKED
        memset(&s.chunks, 0, sizeof(http1_chunks))
        if c.minor == 0:
            s.wrap = True
            c.close = True
    elif head.content_length > 0:
        s.framing = LENGTH
        s.left = head.content_length
    else:
        s.framing = TO_END
        s.close = True
        if c.minor == 1:
            s.wrap = True
        else:
            c.close = True


cdef int pass_head(ServerConnection s, ClientConnection c, bytes data) except -1:
    """Send the head, and what of the body came with it."""
    cdef const char *octets = PyBytes_AS_STRING(data)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t taken
    cdef bytes added = None if c.decision.plain else answer_fields(c, s)
    cdef bytes written
    if c.edge.draining or c.framing != NOTHING and (s.close or c.expecting):
        c.close = True  # in the second case, because nobody reads more of the request, or it is not known what comes
    if head.status == 101:
        return begin_tunnel(s, c, data, added)
    if head.status == 204:
        drop_fields(<uint64_t>1 << HTTP1_CONTENT_LENGTH | <uint64_t>1 << HTTP1_TRANSFER_ENCODING)
    if s.wrap:
        return pass_wrapped(s, c, data, added)
    taken = length - head.length
    if taken:
        taken = take_answer(s, octets + head.length, taken)
        if taken < 0:
            return bad_answer(s, c, "bad_chunks")
    taken += head.length
    if added is None and is_as_written_anew(c, octets):
        written = data if taken == length else data[:taken]
    else:
        written = new_answer_head(c, octets, added, True)
        if taken - <Py_ssize_t>head.length > JOINED:
            c.sent += taken
            c.cluster.counts.sent += PyBytes_GET_SIZE(written) + taken - head.length
            c.stream.write_both(written, data, head.length, taken)
            return after_piece(s, c, taken == length)
        if taken > <Py_ssize_t>head.length:
            written = written + octets[head.length:taken]
    send_client(c, written)
    return after_piece(s, c, taken == length)


cdef inline int after_piece(ServerConnection s, ClientConnection c, bint clean) except -1:
    """A piece of the answer has been sent. `clean`: nothing came behind it."""
    if s.framing == NOTHING:
        return answer_complete(s, c, clean)
    if not c.write_paused:
        timer_set(c, c.edge.server_ticks)
    return 0


cdef inline int send_client(ClientConnection c, bytes octets) except -1:
    c.sent += PyBytes_GET_SIZE(octets)
    c.cluster.counts.sent += PyBytes_GET_SIZE(octets)
    c.stream.write(octets)
    return 0


cdef inline bint is_as_written_anew(ClientConnection c, const char *octets) noexcept:
    """Whether the head, made anew from its parts, would be what came."""
    cdef uint32_t i
    if head.minor == 0 or c.minor == 0 or c.close or octets[12] != c' ':
        return False
    for i in range(head.fields):
        if head.field[i].drop or head.field[i].odd:
            return False
    return True


cdef bytes new_answer_head(ClientConnection c, const char *octets, bytes added, bint final):
    """The head for the client: the status line, the fields that are passed on, what is added, and our Connection."""
    cdef Edge edge = c.edge
    cdef char *at
    if added is not None:
        make_room_for(edge, PyBytes_GET_SIZE(added))
    at = edge.scratch
    at = put(at, b"HTTP/1.1", 8)
    at = put(at, octets + 8, 4)
    at = put(at, b" ", 1)
    at = put(at, octets + head.target, head.target_len)
    at = put(at, b"\r\n", 2)
    if c.minor == 0:
        drop_fields(<uint64_t>1 << HTTP1_TRANSFER_ENCODING)
    at += http1_copy_fields(octets, &head, at)
    if added is not None:
        at = put_bytes(at, added)
    if head.status == 101:
        at = put(at, b"Connection: upgrade\r\n", 21)
    elif final and c.close:
        at = put(at, b"Connection: close\r\n", 19)
    elif final and c.minor == 0:
        at = put(at, b"Connection: keep-alive\r\n", 24)
    at = put(at, b"\r\n", 2)
    return PyBytes_FromStringAndSize(edge.scratch, at - edge.scratch)


cdef inline Py_ssize_t take_answer(ServerConnection s, const char *octets, Py_ssize_t length) noexcept:
    """How many of these octets belong to the answer's body; -1: its framing is bad."""
    cdef Py_ssize_t taken
    if s.framing == LENGTH:
        if length < s.left:
            s.left -= length
            return length
        s.framing = NOTHING
        return s.left
    if s.framing == CHUNKED:
        taken = http1_chunks_read(&s.chunks, octets, length)
        if s.chunks.state == HTTP1_CHUNKS_DONE:
            s.framing = NOTHING
        return taken
    return length if s.framing == TO_END else 0


cdef int answer_body(ServerConnection s, ClientConnection c, bytes data) except -1:
    """A piece of the answer's body, and maybe what should not be behind it."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t taken
    if s.wrap:
        return wrapped_body(s, c, data)
    taken = take_answer(s, PyBytes_AS_STRING(data), length)
    if taken < 0:
        return bad_answer(s, c, "bad_chunks")
    send_client(c, data if taken == length else data[:taken])
    return after_piece(s, c, taken == length)


cdef int pass_wrapped(ServerConnection s, ClientConnection c, bytes data, bytes added) except -1:
    """Send the head of an answer whose body is framed otherwise than it came."""
    cdef bytes rest = None if head.length == PyBytes_GET_SIZE(data) else data[head.length:]
    if c.minor == 1:
        added = b"Transfer-Encoding: chunked\r\n" if added is None else added + b"Transfer-Encoding: chunked\r\n"
    send_client(c, new_answer_head(c, PyBytes_AS_STRING(data), added, True))
    if rest is None:
        return after_piece(s, c, True)
    return wrapped_body(s, c, rest)


cdef int wrapped_body(ServerConnection s, ClientConnection c, bytes data) except -1:
    """What ends with the connection as chunks for HTTP/1.1, chunks without their frames for HTTP/1.0."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t taken
    cdef size_t held = 0
    cdef bytes out
    if c.minor == 1:
        send_client(c, b"%x\r\n%b\r\n" % (length, data))
        return after_piece(s, c, True)
    out = PyBytes_FromStringAndSize(NULL, length)
    taken = http1_chunks_unwrap(&s.chunks, PyBytes_AS_STRING(data), length, PyBytes_AS_STRING(out), &held)
    if taken < 0:
        return bad_answer(s, c, "bad_chunks")
    if held:
        send_client(c, out[:held])
    if s.chunks.state == HTTP1_CHUNKS_DONE:
        s.framing = NOTHING
    return after_piece(s, c, taken == length)


cdef int answer_complete(ServerConnection s, ClientConnection c, bint clean) except -1:
    """The answer's last octet has been sent. The connection to the server is kept if nothing speaks against it."""
    c.upstream = None
    s.client = None
    left_server(c)
    if clean and not s.close and c.framing == NOTHING:
        keep_server(s, c.began + c.first)
    else:
        close_server(s)
    return finish(c)


cdef int keep_server(ServerConnection s, double idle_since) except -1:
    """For the next request."""
    cdef Server server = s.server
    if server.gone or server.draining or s.edge.draining or s.write_paused:
        return close_server(s)
    s.state = IDLE
    s.reused = True
    s.began = idle_since
    if s.read_paused:
        s.read_paused = False
        s.stream.resume()
    timer_set(s, s.edge.pool_ticks)
    server.idle.append(s)
    return 0


cdef int close_server(ServerConnection s) except -1:
    if s.state == IDLE and s in s.server.idle:
        s.server.idle.remove(s)
    s.state = CLOSED
    timer_remove(s)
    if s.stream is not None:
        s.stream.abort()
    return 0


cdef int end_server(ServerConnection s) except -1:
    """Close a connection once all that was written has gone, within the time of a pause."""
    s.client = None
    s.state = CLOSED
    timer_set(s, s.edge.server_ticks)
    if s.stream is not None:
        s.stream.close()
    return 0


# --- upgrades ---


cdef int begin_tunnel(ServerConnection s, ClientConnection c, bytes data, bytes added) except -1:
    """Both have agreed to go on in another protocol: from here octets are passed on as they are."""
    cdef bytes written = new_answer_head(c, PyBytes_AS_STRING(data), added, True)
    s.state = TUNNEL
    c.state = TUNNEL
    s.close = c.close = True
    if PyBytes_GET_SIZE(data) > <Py_ssize_t>head.length:
        written = written + data[head.length:]
    send_client(c, written)
    timer_set(c, c.edge.tunnel_ticks)
    if c.buffer is not None:
        data, c.buffer = c.buffer, None
        s.stream.write(data[c.at:])
    if c.eof:
        s.eof_sent = True
        s.stream.write_eof()
    go_on_reading(c, STOP_FULL)
    return 0


cdef int tunnel_back(ServerConnection s, ClientConnection c, bytes data) except -1:
    if not c.write_paused:
        timer_set(c, c.edge.tunnel_ticks)
    return send_client(c, data)
