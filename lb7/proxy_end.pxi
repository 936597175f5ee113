# How requests end: well, with an answer of ours, or not at all; and how connections do.


cdef int finish(ClientConnection c) except -1:
    """The request in hand has got its answer."""
    if c.edge.log_threshold and is_sampled(c.edge):
        write_log(c, None)
    return be_idle(c)


cdef int be_idle(ClientConnection c) except -1:
    """The request in hand is over. The connection waits for the next one, or is closed."""
    forget(c)
    if c.close or c.framing != NOTHING or c.edge.draining or c.eof and c.buffer is None:
        return close_client(c)
    c.state = IDLE
    timer_set(c, c.edge.idle_ticks)
    if c.stops:
        if kept_ahead(c) <= KEPT_AHEAD // 2:
            go_on_reading(c, c.stops)
        else:
            c.stops = STOP_FULL
    if c.buffer is not None and not c.beginning:
        return begin_requests(c)
    return 0


cdef inline int forget(ClientConnection c) except -1:
    """Leave the cluster, and keep nothing of the request."""
    if c.counted:
        c.counted = False
        c.edge.requests -= 1
        c.front.received += c.received
        c.front.sent += c.sent
    if c.cluster is not None:
        c.cluster.leave()
        c.cluster = None
    c.decision = None
    c.last = None
    c.head = None
    c.body = None
    c.notes = None
    return 0


cdef int fail(ClientConnection c, int status, str why) except -1:
    """The request in hand gets no answer of a server; where none was begun, one of ours."""
    return fail_with(c, status, b"", why)


cdef int fail_with(ClientConnection c, int status, bytes fields, str why) except -1:
    """The same with these fields."""
    let_go_of_server(c)
    if c.state == ANSWERING or c.state == TUNNEL or c.stream is None:
        return cut_off(c, why)
    count_word(c, why)
    return answer_with(c, status, fields, why)


cdef int refuse(ClientConnection c, int status, str why) except -1:
    """What the client sends is not understood, or too much, or too slow: nothing that follows is read."""
    let_go_of_server(c)
    if c.state == ANSWERING or c.state == TUNNEL:
        return cut_off(c, why)
    count_word(c, why)
    if c.state <= IDLE:
        # Of this request nothing is known.
        c.minor = 1
        c.head_only = False
        c.tries = c.received = c.sent = 0
        c.waited = c.connecting = c.first = 0
        c.began = clock()
        count_request(c)
    c.buffer = None
    c.framing = TO_END
    return answer_with(c, status, b"", why)


cdef int answer_self(ClientConnection c, int status, bytes fields, str why, const char *octets) except -1:
    """Answer the request whose head is in `head`, and that has not been admitted to a cluster."""
    count_request(c)
    count_word(c, why)
    if c.edge.log_threshold or status >= 500:
        remember_asked(notes_of(c), octets)
    return answer_with(c, status, fields, why)


cdef int answer_with(ClientConnection c, int status, bytes fields, str why) except -1:
    cdef bytes octets
    if c.framing != NOTHING or c.edge.draining:
        c.close = True
    octets = answers.answer(status, fields, bool(c.close), bool(c.head_only), c.minor)
    c.status = status
    c.sent += PyBytes_GET_SIZE(octets)
    if c.cluster is not None:
        c.cluster.counts.sent += PyBytes_GET_SIZE(octets)
        c.cluster.counts.status[status // 100] += 1
    c.stream.write(octets)
    if status >= 500:
        log_failure(c, why)
    elif c.edge.log_threshold and is_sampled(c.edge):
        write_log(c, why)
    return be_idle(c)


cdef int cut_off(ClientConnection c, str why) except -1:
    """An answer can't be brought to its end: the client is told by a connection that breaks."""
    count_word(c, why)
    log_failure(c, why)
    forget(c)
    c.buffer = None
    if c.stream is not None:
        c.state = CLOSING
        if c.write_paused or c.minor == 0:
            c.stream.reset()  # HTTP/1.0 may take any other end for that of the answer
        else:
            c.stream.abort()
    return 0


cdef int let_go_of_server(ClientConnection c) except -1:
    """The request in hand is at no server any more, and waits for none."""
    cdef ServerConnection s = c.upstream
    if c.state == WAITING or c.state == HELD:
        c.cluster.stop_waiting(c)
    left_server(c)
    if s is not None:
        c.upstream = None
        s.client = None
        if s.state != CONNECTING:  # else what comes of it is kept for others
            close_server(s)
    return 0


cdef int bad_answer(ServerConnection s, ClientConnection c, str why) except -1:
    """A server's answer is not HTTP, or not an answer to what it was asked."""
    if c.cluster is not None:
        c.cluster.was_reset(s.server, clock())
    if c.sent == 0 and c.state == ANSWERING:
        c.state = SENT  # nothing of it has gone to the client
    return fail(c, 502, "answer_" + why)


cdef int close_client(ClientConnection c) except -1:
    """Close the connection once all that was written has gone; read on for a while if the client still sends."""
    cdef bint unread = c.framing != NOTHING or c.buffer is not None
    c.buffer = None
    if c.stream is None:
        return 0
    c.unread = <uint32_t>0xFFFFFFFF
    if unread and not c.front.tls and not c.eof:
        c.state = LINGER
        c.left = 0
        timer_set(c, LINGER_TICKS)
        c.stream.write_eof()
        return go_on_reading(c, c.stops)
    c.state = CLOSING
    timer_set(c, c.edge.client_ticks)
    c.stream.close()
    return 0


cdef int client_gone(ClientConnection c, bint clean) except -1:
    """The client's connection has ended, whatever it was in the middle of. `clean`: not by an error."""
    cdef uint8_t state = c.state
    cdef ServerConnection s = c.upstream
    if AUTH <= state <= TUNNEL:
        if state == TUNNEL:
            if clean:
                c.upstream = None
                end_server(s)  # not before it has got all that the client sent
        else:
            count_word(c, "client_gone")
            if c.cluster is not None and state < ANSWERING:
                c.cluster.counts.status[0] += 1
        let_go_of_server(c)
        if c.edge.log_threshold and is_sampled(c.edge):
            write_log(c, None if state == TUNNEL else "client_gone")
    c.state = CLOSED
    c.buffer = None
    forget(c)
    timer_remove(c)
    return 0


cdef int broken(Timed it) except -1:
    """An error of ours: say so once, and leave nothing hanging."""
    cdef ClientConnection c
    cdef ServerConnection s
    logger.exception("lb7: an error in the proxy; the connection is closed")
    it.edge.words["error"] = it.edge.words.get("error", 0) + 1
    if isinstance(it, ServerConnection):
        s = <ServerConnection>it
        c = s.client
    else:
        c = <ClientConnection>it
        s = c.upstream
    if c is not None:
        client_gone(c, False)
        if c.stream is not None:
            c.stream.abort()
    if s is not None:
        s.client = None
        close_server(s)
    return 0
