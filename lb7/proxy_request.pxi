# A request: its head is read, decided upon and written anew for the server.

cdef enum:
    OUR_IDS = (1 << HTTP1_X_FORWARDED_FOR | 1 << HTTP1_X_FORWARDED_PROTO | 1 << HTTP1_X_FORWARDED_PORT
               | 1 << HTTP1_X_FORWARDED_HOST | 1 << HTTP1_FORWARDED)
    OWN_FIELDS = 1024        # octets of the fields that we add, at most, but for those that are appended to

cdef extern from "native/words64.h" nogil:
    void put_hex64(char *, uint64_t) noexcept


cdef inline char *put(char *at, const char *octets, Py_ssize_t length) noexcept:
    memcpy(at, octets, length)
    return at + length


cdef inline char *put_bytes(char *at, bytes octets) noexcept:
    return put(at, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))


cdef int begin_requests(ClientConnection c) except -1:
    """Take up the requests in the buffer, one after the other, until one is in hand or the last is not whole.

    Some are answered at once; `beginning` keeps these from taking up the next one inside of this."""
    cdef Py_ssize_t start, size, length
    cdef bytes data
    c.beginning = True
    while c.buffer is not None and c.state <= IDLE and not c.write_paused:
        data, start = c.buffer, c.at
        size = PyBytes_GET_SIZE(data) - start
        length = http1_request(PyBytes_AS_STRING(data) + start, size, c.edge.max_head, c.edge.max_fields, &head)
        if length == 0:
            head_begins(c, data, start)
            break
        if length < 0:
            refuse(c, http1_status_of(<int>-length), (<bytes>http1_fault_word(<int>-length)).decode())
            break
        if length == size:
            c.buffer = None
        else:
            c.at = start + length
        begin_request(c, data, start)
    c.beginning = False
    return 0


cdef int head_begins(ClientConnection c, bytes data, Py_ssize_t start) except -1:
    """A head is not whole yet. Its time runs from its first octet, and is not prolonged by others."""
    if c.eof:
        return close_client(c)
    if start:
        c.buffer = data[start:]
        c.at = 0
    if c.state == IDLE:
        timer_set(c, c.edge.request_ticks)
    c.state = HEAD
    return go_on_reading(c, STOP_FULL)


cdef int begin_request(ClientConnection c, bytes data, Py_ssize_t start) except -1:
    """Take up the request whose head stands there, and in `head` in parts."""
    cdef const char *octets = PyBytes_AS_STRING(data) + start
    cdef Decision decision
    cdef bint waits
    c.state = HEAD
    c.began = clock()
    c.minor = head.minor
    c.head_only = head.head
    c.upgrade = head.upgrade
    c.close = head.close or (head.minor == 0 and not head.keep_alive) or c.edge.draining
    c.received = head.length
    c.sent = c.status = c.tries = c.interim = c.kept = c.fresh_only = c.rounds = c.resets = 0
    c.waited = c.connecting = c.first = 0
    set_framing(c)
    if not acceptable(c, octets):
        return 0
    decision = find_decision(c, octets)
    if decision is None:
        return answer_self(c, 503, b"", "no_route", octets)
    if not decision.plain and special(c, decision, data, start):
        return 0
    if decision.cluster is None:
        return answer_self(c, 503, b"", "no_route", octets)
    count_request(c)
    if not decision.cluster.admit():
        return answer_self(c, 503, b"", "route_full", octets)
    c.cluster = decision.cluster
    c.cluster.counts.received += head.length
    c.decision = decision
    c.head = new_head(c, octets)
    if c.framing != NOTHING:
        waits = head.expect_continue
        if not body_begins(c):
            return 0
        c.expecting = waits and c.kept == 0
    return dispatch(c, c.began)


cdef inline void set_framing(ClientConnection c) noexcept:
    """How the body will come, and whether the request may be sent twice (RFC 9110 §9.2.2)."""
    c.expecting = False
    c.left = 0
    if head.chunked:
        c.framing = CHUNKED
        memset(&c.chunks, 0, sizeof(http1_chunks))
    elif head.content_length > 0:
        c.framing = LENGTH
        c.left = head.content_length
    else:
        c.framing = NOTHING
    c.repeatable = True


cdef inline bint is_idempotent(const char *method, uint32_t length) noexcept:
    if length == 3:
        return memcmp(method, b"GET", 3) == 0 or memcmp(method, b"PUT", 3) == 0
    if length == 4:
        return memcmp(method, b"HEAD", 4) == 0
    if length == 5:
        return memcmp(method, b"TRACE", 5) == 0
    if length == 6:
        return memcmp(method, b"DELETE", 6) == 0
    return length == 7 and memcmp(method, b"OPTIONS", 7) == 0


cdef bint acceptable(ClientConnection c, const char *octets) except -1:
    """False: it has been refused for what its head says."""
    cdef const char *method = octets + head.method
    c.idempotent = is_idempotent(method, head.method_len) and not head.upgrade
    if head.path_len == 0 and head.method_len == 7 and memcmp(method, b"CONNECT", 7) == 0:
        answer_self(c, 405, b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n", "connect", octets)
        return False
    if head.expect_other:
        answer_self(c, 417, b"", "expectation", octets)
        return False
    if c.edge.max_body > 0 and head.content_length > c.edge.max_body:
        answer_self(c, 413, b"", "long_body", octets)
        return False
    return True


cdef bytes new_head(ClientConnection c, const char *octets):
    """The request's head for a server: the request line, the fields that are passed on, and ours."""
    cdef Edge edge = c.edge
    cdef Notes notes = c.notes
    cdef char *at
    if not c.decision.plain:
        make_room_for(edge, length_of(c.decision.host_line) + (
            0 if notes is None else length_of(notes.path) + length_of(notes.fields)))
    at = edge.scratch
    at = put(at, octets + head.method, head.method_len)
    at = put(at, b" ", 1)
    if notes is not None and notes.path is not None:
        at = put_bytes(at, notes.path)
    elif head.path_len:
        at = put(at, octets + head.path, head.path_len)
    else:
        at = put(at, b"/", 1)
    at = put(at, b" HTTP/1.1\r\n", 11)
    if c.decision.host_line is not None:
        at = put_bytes(at, c.decision.host_line)
        drop_fields(<uint64_t>1 << HTTP1_HOST)
    elif not head.ids >> HTTP1_HOST & 1:
        # An HTTP/1.0 request may have none; RFC 9112 §3.2 asks for an empty one then.
        at = put(at, b"Host: ", 6)
        at = put(at, octets + head.host, head.host_len)
        at = put(at, b"\r\n", 2)
    if head.minor == 0 and head.ids >> HTTP1_EXPECT & 1:
        drop_fields(<uint64_t>1 << HTTP1_EXPECT)  # RFC 9110 §10.1.1
    if c.trusted:
        at = continued_fields(c, octets, at)
    else:
        at = first_fields(c, at)
    at += http1_copy_fields(octets, &head, at)
    if notes is not None and notes.fields is not None:
        at = put_bytes(at, notes.fields)
    if head.upgrade:
        at = put(at, b"Connection: upgrade\r\n", 21)
    at = put(at, b"\r\n", 2)
    return PyBytes_FromStringAndSize(edge.scratch, at - edge.scratch)


cdef inline Py_ssize_t length_of(bytes octets) noexcept:
    return 0 if octets is None else PyBytes_GET_SIZE(octets)


cdef int make_room_for(Edge edge, Py_ssize_t more) except -1:
    """Room for a head and so much more: what rules add is as long as labels are."""
    cdef size_t size = 3 * edge.max_head + 8 * HTTP1_MOST_FIELDS + OWN_FIELDS + more
    cdef char *larger
    if size > edge.scratch_size:
        larger = <char *>realloc(edge.scratch, size)
        if larger == NULL:
            raise MemoryError
        edge.scratch = larger
        edge.scratch_size = size
    return 0


cdef void drop_fields(uint64_t ids) noexcept:
    """Don't pass on the fields with these ids."""
    cdef uint32_t i
    if not head.ids & ids:
        return
    for i in range(head.fields):
        if <uint64_t>1 << head.field[i].id & ids:
            head.field[i].drop = True


cdef char *first_fields(ClientConnection c, char *at) noexcept:
    """Whose client is no trusted proxy: what it says of itself counts for nothing."""
    cdef uint64_t ids = OUR_IDS
    if c.address_len:
        at = put(at, b"X-Forwarded-For: ", 17)
        at = put(at, c.address, c.address_len)
        at = put(at, b"\r\n", 2)
    at = put_bytes(at, c.front.fields)
    if c.edge.request_id:
        ids |= <uint64_t>1 << HTTP1_X_REQUEST_ID
        at = put_request_id(c.edge, at)
    drop_fields(ids)
    return at


cdef char *continued_fields(ClientConnection c, const char *octets, char *at) noexcept:
    """Whose client is a trusted proxy: what it says is passed on, with its own address behind."""
    cdef uint64_t ids = head.ids
    cdef uint32_t i
    cdef http1_field *field
    at = put(at, b"X-Forwarded-For: ", 17)
    for i in range(head.fields):
        field = &head.field[i]
        if field.id == HTTP1_X_FORWARDED_FOR and field.value < field.value_end:
            at = put(at, octets + field.value, field.value_end - field.value)
            at = put(at, b", ", 2)
    if c.address_len:
        at = put(at, c.address, c.address_len)
    else:
        at = put(at, b"unknown", 7)  # RFC 7239 §6.2 has that word
    at = put(at, b"\r\n", 2)
    drop_fields(<uint64_t>1 << HTTP1_X_FORWARDED_FOR)
    if c.edge.compat:
        # There the port is set in any case, and the scheme where it is encrypted here.
        drop_fields(<uint64_t>1 << HTTP1_X_FORWARDED_PORT)
        if c.front.tls:
            drop_fields(<uint64_t>1 << HTTP1_X_FORWARDED_PROTO)
        at = put_bytes(at, c.front.fields)
    elif not ids >> HTTP1_X_FORWARDED_PROTO & 1 and not ids >> HTTP1_X_FORWARDED_PORT & 1:
        at = put_bytes(at, c.front.fields)
    elif not ids >> HTTP1_X_FORWARDED_PROTO & 1:
        at = put(at, b"X-Forwarded-Proto: https\r\n" if c.front.tls else b"X-Forwarded-Proto: http\r\n",
                 26 if c.front.tls else 25)
    if c.edge.request_id and not ids >> HTTP1_X_REQUEST_ID & 1:
        at = put_request_id(c.edge, at)
    return at


cdef char *put_request_id(Edge edge, char *at) noexcept:
    """128 random bits in hexadecimal digits."""
    at = put(at, b"X-Request-Id: ", 14)
    put_hex64(at, draw(edge))
    put_hex64(at + 16, draw(edge))
    return put(at + 32, b"\r\n", 2)


cdef inline uint64_t draw(Edge edge) noexcept:
    """The next of xorshift64*."""
    edge.random ^= edge.random >> 12
    edge.random ^= edge.random << 25
    edge.random ^= edge.random >> 27
    return edge.random * <uint64_t>0x2545F4914F6CDD1D
