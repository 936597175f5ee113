# Requests that are held: of a cluster with `hold` that has no server, or none that is known to take connections.
#
# An app that wakes has a task before its program listens, so the first connections to it fail. A server that comes while
# there is no other is *cold* until one has taken a connection, and so are all that are there when the last one that did
# has failed. While there are cold ones alone there is no server, as far as `pick` goes: requests stay in the queue, and
# one at a time may try each (`probe`), with a pause after each try. An answer, or a connection that lasts for a moment
# (a proxy in front of the program may take it and end it at once), and all of them go. Where there is a server that is
# not cold, the others are as any; one that takes no connection is left alone for a pause.
#
# Where there is a server again, those who were held, and who comes behind them, are let go some at a time: a program that
# has just begun queues few connections, and what is too much for that is lost to it for seconds. The window grows as long
# as they become fewer too slowly, so that they need not wait for answers that take long.

cdef double COLD_PAUSE = 0.5     # seconds from one try of a cold server to the next
cdef double WARM_AFTER = 0.1     # seconds that a connection to it is to last, without an answer
cdef int FIRST_WINDOW = 8        # requests that are let go at first
cdef double WIDEN_EVERY = 0.5    # seconds in which a quarter of them has to go, or the window grows
cdef int WIDEST = 1 << 24


cdef list without_cold(Cluster cluster, list ready, double now):
    """Those of the ready servers that requests may go to now; says when to look again."""
    cdef Server server
    cdef int warm = 0
    cluster.seen = max(cluster.seen, now)
    for server in ready:
        if server.cold and server.warm_at <= now:
            server.cold = False
        warm += not server.cold
    if warm == len(ready):
        return ready
    for server in ready:
        if not server.cold:
            continue
        if server.paused_until > now:
            cluster.recheck = min(cluster.recheck, server.paused_until)
        else:
            server.paused_until = -INFINITY  # whoever is woken for it may come a moment before the time that woke him
            server.cold = not warm  # where others can take its place, it need not be tried by one alone
        cluster.recheck = min(cluster.recheck, server.warm_at)
    if warm:
        return [server for server in ready if not (<Server>server).cold]
    cluster.cold = ready
    return []


cdef Server one_to_try(Cluster cluster, double now):
    """A cold server that is not paused; it is then, so that others wait for what comes of it."""
    cdef Server server
    for server in cluster.cold:
        if server.paused_until == -INFINITY:
            server.paused_until = now + COLD_PAUSE
            cluster.recheck = min(cluster.recheck, server.paused_until)
            cluster.seen = now
            cluster._look_again()
            return server
    return None


cdef int places_to_try(Cluster cluster) except -1:
    """How many may try one."""
    cdef Server server
    cdef int places = 0
    for server in cluster.cold:
        places += server.paused_until == -INFINITY
    return places


cdef bint took_none(Cluster cluster, Server server, double now) except -1:
    """It took no connection, or ended it at once. False: the last thing known of some other is not the same."""
    cdef Server other
    if server.gone or not _in_service(server):
        return False
    if not server.cold:
        for other in cluster.ready:
            if other is not server and (other.in_a_row == 0 or other.refused != other.failures):
                return False
        for other in cluster.ready:
            _cool(other, now)
    _cool(server, now)
    server.failures += 1
    cluster.seen = now
    cluster._sort_out(now)
    cluster._look_again()
    return True


cdef int _cool(Server server, double now) except -1:
    server.cold = True
    server.paused_until = now + COLD_PAUSE
    server.warm_at = INFINITY
    return 0


cdef int warms_up(Cluster cluster, Server server, double now) except -1:
    """It took a connection."""
    if server.warm_at == INFINITY:
        server.warm_at = now + WARM_AFTER
        cluster.recheck = min(cluster.recheck, server.warm_at)
        cluster.seen = now
        cluster._look_again()
    return 0


cdef int is_warm(Cluster cluster, Server server, double now) except -1:
    """It has answered."""
    server.cold = False
    cluster.seen = now
    cluster._sort_out(now)
    cluster._look_again()
    return 0


cdef int widen(Cluster cluster, double now) except -1:
    """Say how many may be at servers now; says when to look again."""
    cdef Server server
    if not cluster.paced or cluster.ready_count == 0:
        return 0
    if cluster.step == 0:
        cluster.step = cluster.window = FIRST_WINDOW
        for server in cluster.ready:  # what they had before
            cluster.window += server.active
    elif now < cluster.widen_at:
        cluster.recheck = min(cluster.recheck, cluster.widen_at)
        return 0
    elif cluster.waiting >= cluster.waited_then - cluster.waited_then // 4:
        cluster.window = min(cluster.window + cluster.step, WIDEST)
        cluster.step = min(2 * cluster.step, WIDEST)
    cluster.waited_then = cluster.waiting
    cluster.widen_at = now + WIDEN_EVERY
    cluster.recheck = min(cluster.recheck, cluster.widen_at)
    return 0


cdef int places_in_window(Cluster cluster) except -1:
    """How many may go now."""
    cdef Server server
    cdef int places = cluster.window
    cdef int room = 0
    for server in cluster.ready:
        places -= server.active
        room += max(0, cluster.limit - server.active)
    return max(0, min(places, room) if cluster.limit > 0 else places)


cdef object most_held(Cluster cluster, bint again):
    """How many may be held. Those who have tried a server come back to where there is room for them."""
    return cluster.max_held + (len(cluster.cold) if again and cluster.cold is not None else 0)


cdef int count_held(Cluster cluster) except -1:
    """How many are held, now that so many wait; the first is told of."""
    cdef int held = cluster.waiting if cluster.ready_count == 0 else 0
    cdef bint first = held > 0 and cluster.held == 0
    cluster.held = held
    if held > 0:
        cluster.paced = True
        cluster.step = 0
    if first and cluster.tell_held is not None:
        cluster.tell_held(cluster.name)
    return 0


cdef int hold_no_more(Cluster cluster) except -1:
    """Those who are held look anew, to find none."""
    cluster.held = 0
    if cluster.ready_count == 0:
        cluster.queue.wake_all()
    return 0
