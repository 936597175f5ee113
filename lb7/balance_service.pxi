# Which servers are in service, what one costs, and how many may be ejected.


cdef inline bint _in_service(Server server) noexcept:
    return server.weight > 0 and not server.draining and not server.down


cdef inline double _cost(Server server, double now) noexcept:
    """Latency times load; of a server that has not answered yet: none if it is idle, else more than of any other."""
    if server.latency < 0:
        return 1e6 * server.active
    return server.latency * DECAY / (DECAY + max(0.0, now - server.latency_at)) * (server.active + 1)


cdef (int, int) _ejected(list servers, double now):
    """How many servers are in service, and how many of them are ejected."""
    cdef Server server
    cdef int wanted = 0
    cdef int ejected = 0
    for server in servers:
        if _in_service(server):
            wanted += 1
            ejected += server.ejected_until > now
    return wanted, ejected


cdef int _most_ejected(int servers, double share) noexcept:
    """A share above 0 allows at least one of two or more; of one server, none."""
    if servers < 2 or share <= 0:
        return 0
    return max(1, <int>(servers * share + 1e-9))


def _ejected_until(Server server):
    return server.ejected_until
