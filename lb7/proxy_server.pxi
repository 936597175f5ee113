# A connection to a server, as its stream and the wheel of time-outs drive it.


cdef class ServerConnection(Timed):
    """See the module."""

    cdef int opened(self, Stream stream) except -1:
        return server_made(self, stream)

    cdef int unreachable(self, int error) except -1:
        self.dialed = None
        self.ours = error in OURS
        if self.state == CONNECTING:
            not_connected(self)
        return 0

    cdef int octets(self, bytes data) except -1:
        return server_octets(self, data)

    cdef bint ended(self) except -1:
        cdef ClientConnection c = self.client
        if self.state == IDLE:
            close_server(self)  # at once, so that no request is sent on it
        elif self.state == TUNNEL and c is not None and not c.front.tls and not self.eof_sent:
            c.eof_sent = True
            c.stream.write_eof()
            return True
        return False

    cdef int lost(self, bint clean) except -1:
        return server_left(self, clean)

    cdef int broken(self) except -1:
        return broken(self)

    cdef int slow(self) except -1:
        cdef ClientConnection c = self.client
        self.write_paused = True
        if c is not None:
            stop_reading(c, STOP_SLOW)
            if self.state == SENT:
                timer_set(c, c.edge.server_ticks)
        return 0

    cdef int quick(self) except -1:
        cdef ClientConnection c = self.client
        self.write_paused = False
        if c is not None:
            go_on_reading(c, STOP_SLOW)
            if self.state == SENT and c.framing != NOTHING:
                timer_set(c, c.edge.client_ticks)
        return 0

    def server_gone(self):
        """Its server is in the cluster no more (Cluster.change); only of one without a request."""
        close_server(self)

    cdef int expired(self) except -1:
        if self.state == CONNECTING:
            return not_connected(self) if self.stream is None else server_lasts(self)
        if self.state == IDLE or self.state == CLOSED:
            return close_server(self)
        return 0


cdef int server_made(ServerConnection s, Stream stream) except -1:
    """Connected."""
    cdef ClientConnection c = s.client
    cdef double now
    s.stream = stream
    s.dialed = None
    s.edge.upstreams.add(s)
    s.server.connections += 1
    if s.server.cold:
        s.server.cluster.reached(s.server, clock())
    if s.state != CONNECTING:
        stream.abort()  # given up a moment ago
        return 0
    now = clock()
    if c is None:
        return keep_server(s, now) if len(s.server.idle) < SPARE else close_server(s)
    c.connecting += <float>(now - s.began)
    if s.server.cold and not c.idempotent:
        timer_set(s, LASTS_TICKS)
        return 0
    return send_request(c, s, now)


cdef int server_lasts(ServerConnection s) except -1:
    """A connection to a server that has not answered yet was not ended at once, as something in front of a program that
    does not listen yet would: what may be sent but once can be sent."""
    cdef ClientConnection c = s.client
    return close_server(s) if c is None else send_request(c, s, clock())


cdef int server_left(ServerConnection s, bint clean) except -1:
    """The connection has ended. `clean`: not by an error."""
    cdef ClientConnection c = s.client
    cdef uint8_t state = s.state
    if s.stream is not None:
        s.edge.upstreams.discard(s)
        s.server.connections -= 1
    s.stream = None
    if state == CONNECTING:
        return not_connected(s)
    s.client = None
    close_server(s)
    if c is None:
        return 0
    if state == SENT:
        if s.heard:
            return bad_answer(s, c, "cut")
        return send_again(c, s, True)
    if state == ANSWERING and s.framing == TO_END and clean:
        if s.wrap:
            send_client(c, b"0\r\n\r\n")
        s.framing = NOTHING
        return answer_complete(s, c, False)
    if state == TUNNEL:
        return tunnel_ended(s, c)
    return cut_answer(s, c)


cdef int cut_answer(ServerConnection s, ClientConnection c) except -1:
    """A server left in the middle of its answer."""
    c.cluster.was_reset(s.server, clock())
    return fail(c, 0, "answer_cut")


cdef int tunnel_ended(ServerConnection s, ClientConnection c) except -1:
    """The server's side of an upgraded connection is over."""
    c.upstream = None
    left_server(c)
    c.framing = NOTHING
    return finish(c)
