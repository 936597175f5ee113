# A client's connection, as its stream and the wheel of time-outs drive it.


cdef class ClientConnection(Timed):
    """See the module."""

    cdef int opened(self, Stream stream) except -1:
        return client_made(self, stream)

    cdef int octets(self, bytes data) except -1:
        return client_octets(self, data)

    cdef bint ended(self) except -1:
        return client_eof(self)

    cdef int lost(self, bint clean) except -1:
        self.stream = None
        try:
            client_gone(self, clean)
        finally:
            client_left(self)
        return 0

    cdef int broken(self) except -1:
        return broken(self)

    cdef int slow(self) except -1:
        cdef ServerConnection s = self.upstream
        self.write_paused = True
        if self.state >= CLOSING:
            return 0
        self.unread = <uint32_t>min(<uint64_t>self.stream.waiting(), <uint64_t>0xFFFFFFFF)
        if s is not None and s.stream is not None and self.state >= SENT and not s.read_paused:
            s.read_paused = True
            s.stream.pause()
        if self.state >= ANSWERING:
            timer_set(self, self.edge.client_ticks)
        return 0

    cdef int quick(self) except -1:
        return client_resumed(self)

    def room(self):
        """A server may have room (Cluster.wait)."""
        try:
            there_is_room(self)
        except Exception:
            broken(self)

    def password_known(self, bint right):
        """The password was looked into (Credentials.ask)."""
        try:
            password_checked(self)
        except Exception:
            broken(self)

    cdef int expired(self) except -1:
        return client_expired(self)


cdef int client_made(ClientConnection c, Stream stream) except -1:
    """A connection was accepted: whose it is, and whether there is room for it."""
    cdef Edge edge = c.edge
    cdef Front front = c.front
    c.stream = stream
    edge.accepted += 1
    edge.connections += 1
    front.accepted += 1
    front.open += 1
    c.state = FRESH
    set_address(c, stream.address)
    if edge.trusted is not None:
        c.trusted = edge.trusted.contains((<bytes>c.address[:c.address_len]).decode())
    if front.by == BY_SNI:
        c.name = server_name((<TransportStream?>stream).transport)
    timer_set(c, min(edge.request_ticks, drain_ticks(c)) if edge.draining else edge.request_ticks)
    if edge.connections > edge.max_connections and not make_room(edge):
        return turn_away(c, "max_connections")
    if edge.max_per_client:
        c.by_client = True
        address = c.address[:c.address_len]
        open_now = edge.by_client.get(address, 0) + 1
        edge.by_client[address] = open_now
        if open_now > edge.max_per_client:
            return turn_away(c, "max_connections_per_client")
    return 0


cdef int set_address(ClientConnection c, bytes address) except -1:
    """The client's address as text."""
    cdef uint64_t value = <uint64_t>0xCBF29CE484222325
    cdef int i
    c.address_len = <uint8_t>min(len(address), <Py_ssize_t>MOST_ADDRESS)
    memcpy(c.address, PyBytes_AS_STRING(address), c.address_len)
    for i in range(<int>c.address_len):
        value = (value ^ <uint8_t>c.address[i]) * <uint64_t>0x100000001B3
    c.hash = value
    return 0


cdef int turn_away(ClientConnection c, str why) except -1:
    """Too many connections."""
    count_word(c, why)
    c.close = True
    c.state = HEAD
    c.stream.write(answers.answer(503, b"", True, False, 1))
    return close_client(c)


cdef int client_left(ClientConnection c) except -1:
    """Count it no more."""
    c.edge.connections -= 1
    c.front.open -= 1
    if c.by_client:
        address = c.address[:c.address_len]
        open_now = c.edge.by_client.get(address, 1) - 1
        if open_now:
            c.edge.by_client[address] = open_now
        else:
            c.edge.by_client.pop(address, None)
    return 0


cdef bint client_eof(ClientConnection c) except -1:
    """The client sends no more. True: it may still read.

    Who closes its connection looks the same as who only ends what it sends. So the latter is believed of those
    who said that it is their last request, and of others that they have gone."""
    cdef ServerConnection s = c.upstream
    c.eof = True
    if c.front.tls or c.state <= IDLE or c.state >= LINGER:
        return False
    if c.state == TUNNEL:
        s.eof_sent = True
        s.stream.write_eof()
        return not c.eof_sent
    return c.framing == NOTHING and (c.close or c.buffer is not None)


cdef int client_resumed(ClientConnection c) except -1:
    """The client has read what was written."""
    cdef ServerConnection s = c.upstream
    c.write_paused = False
    if c.state >= LINGER:
        return 0
    if s is not None and s.read_paused:
        s.read_paused = False
        s.stream.resume()
    if c.state == ANSWERING:
        timer_set(c, c.edge.server_ticks)
    elif c.state == TUNNEL:
        timer_set(c, c.edge.tunnel_ticks)
    elif c.state <= IDLE and c.buffer is not None:
        return begin_requests(c)
    return 0


cdef int client_expired(ClientConnection c) except -1:
    """Its time has come."""
    cdef uint8_t state = c.state
    if state == FRESH or state == IDLE:
        if not c.edge.draining:
            count_word(c, "timeout_request" if state == FRESH else "timeout_keep_alive")
        return end_idle(c)
    if state == HEAD:
        return refuse(c, 408, "timeout_request")
    if state == AUTH:
        return refuse(c, 503, "timeout_auth")
    if state == WAITING:
        return queue_expired(c)
    if state == HELD:
        return held_too_long(c)
    if state == PAUSING:
        c.state = HEAD
        return dispatch(c, clock())
    if state == SENT and c.framing != NOTHING and not c.expecting and not c.upstream.write_paused:
        return refuse(c, 408, "timeout_client")
    if state == SENT:
        c.cluster.timed_out(c.server, clock())
        return fail(c, 504, "timeout_server")
    if state == ANSWERING or state == TUNNEL:
        return stalled(c)
    return unless_read(c)  # CLOSING and LINGER have had their time


cdef int stalled(ClientConnection c) except -1:
    """An answer or a tunnel stands still."""
    cdef uint64_t unread
    if c.write_paused:
        unread = c.stream.waiting()
        if unread < c.unread:
            c.unread = <uint32_t>unread
            timer_set(c, c.edge.client_ticks)
            return 0
        return fail(c, 0, "timeout_client")
    if c.state == TUNNEL:
        return fail(c, 0, "timeout_tunnel")
    c.cluster.timed_out(c.server, clock())
    return fail(c, 0, "timeout_server")
