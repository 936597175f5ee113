# Which server gets a request, on which connection, and what happens when that fails.


cdef enum:
    PAUSE_TICKS = 4          # before all servers are tried anew

cdef bytes RETRY_AFTER = b"Retry-After: 5\r\n"  # seconds: an app that wakes takes some

OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL))
"""Why there is no connection, when the server is not to blame."""


cdef int dispatch(ClientConnection c, double now) except -1:
    """Send the request in hand to a server, or let it wait for one, or give up."""
    cdef Cluster cluster = c.cluster
    cdef ServerConnection s
    cdef Notes notes = c.notes
    cdef list tried = None if notes is None else notes.tried
    cdef Server server = cluster.pick(now, c.hash, None if notes is None else notes.cookie, tried)
    if server is None:
        server = to_wake(c, now)
        if server is None:
            return no_server(c, now)
    if c.state == CONNECTING and tried is not None and server in tried:
        return no_connection(c, now)
    cluster.begin(server, now)
    c.server = c.last = server
    if not c.fresh_only:
        s = pooled(server, c.idempotent, now)
        if s is not None:
            return send_request(c, s, now)
    return connect(c, server)


cdef Server to_wake(ClientConnection c, double now):
    """Where the app wakes: a server that nobody has reached yet, if it is this one's turn to try one."""
    cdef Cluster cluster = c.cluster
    if not cluster.hold or cluster.has_servers(now):
        return None
    return cluster.probe(now)


cdef int no_server(ClientConnection c, double now) except -1:
    """Nobody can take it now."""
    cdef Cluster cluster = c.cluster
    if not cluster.has_servers(now):
        if cluster.hold:
            return no_server_yet(c, now)
        cluster.counts.unavailable += 1
        return fail(c, 503, "no_server")
    if c.state == CONNECTING:  # it failed; so often, and it will not wait again at once
        c.rounds = min(c.rounds + 1, 254)
        if c.rounds > c.edge.retries + 1:
            return no_connection(c, now)
    if not cluster.wait(c):
        return fail(c, 503, "queue_full")
    if c.state != WAITING:  # else it goes on waiting, and not longer for that
        c.state = WAITING
        timer_set(c, c.edge.queue_ticks)
        hold_body(c)
    return 0


cdef inline double hold_left(ClientConnection c, double now) noexcept:
    """Seconds that the request may wait on for its app to be there."""
    return min(c.began + c.edge.hold_time, c.edge.hold_end) - now


cdef int no_server_yet(ClientConnection c, double now) except -1:
    """The app sleeps or wakes."""
    cdef Cluster cluster = c.cluster
    cdef double left = hold_left(c, now)
    if left <= 0:
        return held_too_long(c)
    if not cluster.wait(c, c.tries > 0):
        return fail_with(c, 503, RETRY_AFTER, "hold_full")
    if c.state != HELD:
        if c.waited == 0:
            cluster.counts.held += 1
        if c.notes is not None:
            c.notes.tried = None
        c.state = HELD
        timer_set(c, ticks_of(left))
        hold_body(c)
    return 0


cdef int held_too_long(ClientConnection c) except -1:
    c.cluster.counts.hold_timeouts += 1
    return fail_with(c, 503, RETRY_AFTER, "timeout_hold")


cdef int queue_expired(ClientConnection c) except -1:
    """It has waited for room as long as it may."""
    cdef double left = hold_left(c, clock())
    if c.cluster.held and left > 0:  # meanwhile there is no server at all
        c.cluster.counts.held += 1
        c.state = HELD
        timer_set(c, ticks_of(left))
        return 0
    c.cluster.counts.queue_timeouts += 1
    return fail(c, 503, "timeout_queue")


cdef int no_connection(ClientConnection c, double now) except -1:
    """There was none to any server with room. Those that start again are soon there, so wait a little, as HAProxy does;
    and as long as in the queue for one that has no room now."""
    cdef Cluster cluster = c.cluster
    if cluster.hold:
        if hold_left(c, now) <= 0:
            return held_too_long(c)
    elif not (has_untried(cluster, c.notes.tried) and now - c.began < c.edge.queue_ticks * TICK):
        if c.rounds >= c.edge.retries or not cluster.may_retry(now):
            cluster.counts.unavailable += 1
            return fail(c, 503, "no_connection")
        c.rounds += 1
    c.notes.tried = None
    c.state = PAUSING
    timer_set(c, PAUSE_TICKS)
    return 0


cdef bint has_untried(Cluster cluster, list tried) except -1:
    """Whether there is a server that has not failed the request: all of its places are taken, or others are first."""
    cdef Server server
    for server in cluster.ready:
        if server not in tried:
            return True
    return False


cdef int there_is_room(ClientConnection c) except -1:
    """It does not wait any more, or not in vain."""
    cdef double now = clock()
    if c.state == WAITING or c.state == HELD:
        c.waited = now - c.began
        dispatch(c, now)
    return 0


cdef inline int hold_body(ClientConnection c) except -1:
    """Take no more of a body for which there is no server yet."""
    if c.framing != NOTHING and c.kept:
        stop_reading(c, STOP_WAIT)
    return 0


cdef inline ServerConnection pooled(Server server, bint idempotent, double now):
    """The connection that was used last, None when there is none that is good enough."""
    cdef ServerConnection s
    cdef Py_ssize_t count = len(server.idle)
    if count == 0:
        return None
    s = <ServerConnection>server.idle[count - 1]
    if not idempotent and now - s.began > SAFE_IDLE:
        return None
    server.idle.pop()
    return s


cdef int connect(ClientConnection c, Server server) except -1:
    """Make a connection to the server for the request in hand."""
    cdef ServerConnection s = ServerConnection.__new__(ServerConnection)
    s.edge = c.edge
    s.server = server
    s.client = c
    s.began = clock()
    s.state = CONNECTING
    timer_set(s, c.edge.connect_ticks)
    c.state = CONNECTING
    c.upstream = s
    timer_clear(c)
    hold_body(c)
    s.dialed = poll_of_edge(c.edge).connect(s, server.address, server.port)
    return 0


cdef int not_connected(ServerConnection s) except -1:
    """No connection could be made, or not in time."""
    cdef ClientConnection c = s.client
    cdef Server server = s.server
    cdef double now = clock()
    s.state = CLOSED
    s.client = None
    timer_remove(s)
    if s.dialed is not None:
        s.dialed.abort()
        s.dialed = None
    if not s.ours:
        server.cluster.connect_failed(server, now)
    else:
        s.edge.words["own_limit"] = s.edge.words.get("own_limit", 0) + 1
    if c is None:
        return 0
    c.upstream = None
    left_server(c)
    add_tried(c, server)
    c.fresh_only = False
    if not server.cluster.hold and now - c.began - c.waited > c.edge.server_ticks * TICK:  # many silent servers, one after another
        server.cluster.counts.unavailable += 1
        return fail(c, 503, "no_connection")
    return dispatch(c, now)  # with the state CONNECTING still


cdef inline int left_server(ClientConnection c) except -1:
    """The request is at its server no more."""
    cdef Server server = c.server
    if server is not None:
        c.server = None
        server.cluster.end(server)
    return 0


cdef int add_tried(ClientConnection c, Server server) except -1:
    cdef Notes notes = notes_of(c)
    if notes.tried is None:
        notes.tried = []
    if server not in notes.tried:
        notes.tried.append(server)
    if c.tries < 255:
        c.tries += 1
    return 0


cdef int send_request(ClientConnection c, ServerConnection s, double now) except -1:
    """Hand the request, as far as it is there, to a server's connection."""
    cdef bytes octets = c.head
    s.client = c
    s.state = SENT
    s.heard = False
    s.began = now
    c.upstream = s
    c.state = SENT
    timer_clear(s)
    if c.framing == NOTHING or c.expecting:
        timer_set(c, c.edge.server_ticks)
    else:
        timer_set(c, c.edge.client_ticks)
    if c.body is not None:
        if c.kept < JOINED:
            octets = octets + b"".join(c.body)
        else:
            for piece in c.body:
                s.stream.write_both(octets, piece, 0, PyBytes_GET_SIZE(piece))
                octets = b""
            octets = None
        if not c.repeatable:
            c.body = None
    if octets is not None:
        s.stream.write(octets)
    if c.stops & STOP_WAIT:
        go_on_reading(c, STOP_WAIT)
    return 0


cdef int send_again(ClientConnection c, ServerConnection s, bint broke) except -1:
    """A server ended the connection before it answered: try once more if that does no harm, else tell the client."""
    cdef Server server = s.server
    cdef Cluster cluster = server.cluster
    cdef double now = clock()
    cdef bint stale = s.reused and broke
    c.upstream = None
    go_on_reading(c, STOP_SLOW)
    if not stale:
        cluster.was_reset(server, now)
    if not c.idempotent or not c.repeatable:
        return fail(c, 502, "reset")
    if stale:
        left_server(c)
        c.fresh_only = True  # others of that server may have ended with it
    else:
        if not (server.cold and server.latency < 0):  # else it has never answered: it begins only
            if c.resets >= c.edge.retries or not cluster.may_retry(now):
                return fail(c, 502, "reset")
            c.resets += 1
        left_server(c)
        add_tried(c, server)
        c.fresh_only = False
    c.state = HEAD
    return dispatch(c, now)
