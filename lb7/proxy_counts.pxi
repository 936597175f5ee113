# What is counted, and what is logged.


cdef inline int count_request(ClientConnection c) except -1:
    """The request in hand is one that gets an answer."""
    if not c.counted:
        c.counted = True
        c.edge.begun += 1
        c.edge.requests += 1
        c.front.requests += 1
    return 0


cdef int count_word(ClientConnection c, str word) except -1:
    """Something seldom happened."""
    c.front.words[word] = c.front.words.get(word, 0) + 1
    return 0


cdef inline bint is_sampled(Edge edge) noexcept:
    """Whether this request is one of those that are logged."""
    return draw(edge) >> 32 < edge.log_threshold


cdef int log_failure(ClientConnection c, str why) except -1:
    """Failures are logged whatever share of requests is, but for those that are too many."""
    if c.edge.log_room:
        c.edge.log_room -= 1
        return write_log(c, why)
    c.edge.log_dropped += 1
    return 0


cdef int write_log(ClientConnection c, str why) except -1:
    """Log the request in hand; errors there do no harm to it."""
    cdef Notes notes = c.notes
    cdef tuple asked = None
    if notes is not None and notes.method is not None:
        asked = (notes.method, notes.host, notes.target)
    try:
        c.edge.log(access_log.record(
            (<bytes>c.address[:c.address_len]).decode(), c.front.name, c.head, asked, c.status,
            None if c.cluster is None else c.cluster.name, None if c.last is None else c.last.id, c.tries + 1,
            c.received, c.sent, c.waited, c.connecting, c.first, clock() - c.began, why,
        ))
    except Exception:
        logger.exception("lb7: the access log")
    return 0
