# Connections that have to go: those that are idle, that give way to others, that take nothing of what they were sent.


cdef int end_idle(ClientConnection c) except -1:
    """Close a connection without a request, but one whose client still reads the last answer only when it has."""
    if c.state == FRESH or c.buffer is not None or c.stream.unacknowledged() == 0:
        return close_client(c)
    c.state = CLOSING
    c.unread = <uint32_t>0xFFFFFFFF
    return unless_read(c)


cdef int unless_read(ClientConnection c) except -1:
    """A connection that is to be closed is: with a reset if its client has read nothing since it was last looked at."""
    cdef uint32_t unread
    if c.stream is None:
        return 0
    unread = <uint32_t>min(<uint64_t>c.stream.unacknowledged(), <uint64_t>0xFFFFFFFE)
    if unread == 0:
        c.stream.abort()
    elif unread < c.unread:
        c.unread = unread
        timer_set(c, c.edge.client_ticks)
    else:
        count_word(c, "timeout_client")
        c.stream.reset()
    return 0


# --- giving way ---


cdef bint make_room(Edge edge) except -1:
    """Close a connection without a request, for a new one; False: there is none."""
    cdef ClientConnection c
    while edge.giving_way or look_for_room(edge):
        _, due, c = edge.giving_way.pop()
        if c.due != due or c.stream is None:
            continue  # it has had a request meanwhile
        if c.state != IDLE and c.state != FRESH:
            continue
        edge.words["idle_gave_way"] = edge.words.get("idle_gave_way", 0) + 1
        if c.state == FRESH:  # they are among the former
            edge.words["fresh_gave_way"] = edge.words.get("fresh_gave_way", 0) + 1
        close_client(c)
        return True
    return False


cdef bint look_for_room(Edge edge) except -1:
    """Choose those that may give way: first who never sent anything, then who is idle, of each the longest. False: there
    is none, or enough was looked at in this tick."""
    cdef ClientConnection c
    cdef list found = []
    cdef link *it
    cdef int at
    if edge.looked_in != edge.tick_now:
        edge.looked_in = edge.tick_now
        edge.looked_at = 0
    if edge.looked_at > MOST_LOOKS:
        return False
    for at in range(SLOTS):
        it = edge.wheel[at].next
        while it != &edge.wheel[at]:
            edge.looked_at += 1
            timed = <Timed>it.owner
            it = it.next
            if type(timed) is not ClientConnection:
                continue
            c = <ClientConnection>timed
            if c.state == IDLE:
                found.append((1, c.due, c))
            elif c.state == FRESH and c.due + FRESH_TICKS <= edge.tick_now + edge.request_ticks:
                found.append((0, c.due, c))
    found.sort(key=kind_and_due)
    edge.giving_way = found[MOST_GIVING_WAY - 1::-1]
    return len(found) > 0


def kind_and_due(tuple candidate):
    """The order in which connections give way."""
    return candidate[:2]
