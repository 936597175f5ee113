# What is shown of clusters: their servers, and what is new of their counters, for whoever adds up several workers.

cdef extern from "native/grown.h" nogil:
    enum:
        GROWN_WORD
        GROWN_PLACES
        GROWN_MOST
    size_t grown_since(const void*, void*, size_t, size_t, char*)
    bint grown_added(void*, size_t, size_t, const char*, size_t)

cdef cluster_counts of_places
cdef size_t places = sizeof(cluster_counts) // GROWN_WORD
cdef size_t sum_place = (<char*>&of_places.latency_sum - <char*>&of_places) // GROWN_WORD
assert places <= GROWN_PLACES


def grown_of(list clusters not None, Py_ssize_t start, Py_ssize_t end):
    """Of some clusters: (name, what it counted since this was last asked) of those that counted anything, and those
    that have requests. What is returned is never returned again. A `Tally` can add it."""
    cdef list counted = [], busy = []
    cdef Cluster cluster
    cdef char grown[GROWN_MOST]
    cdef size_t length
    for cluster in clusters[start:end]:
        length = grown_since(&cluster.counts, &cluster.told, places, sum_place, grown)
        if length > 0:
            counted.append((cluster.name, grown[:length]))
        if cluster.active > 0 or cluster.waiting > 0:
            busy.append(cluster)
    return counted, busy


@cython.final
cdef class Tally:
    """The totals of one cluster in all workers."""
    cdef cluster_counts counts

    def add(self, bytes grown not None):
        """Add what `grown_of` said. Raises ValueError when it did not say this."""
        if not grown_added(&self.counts, places, sum_place, <const char*>grown, len(grown)):
            raise ValueError("not what a cluster has counted")

    def counts_dict(self):
        """What ever happened, by the words of the cluster's own."""
        cdef dict counts = self.counts
        return {word: value for word, value in counts.items() if (any(value) if isinstance(value, list) else value)}


cdef object _status_of(Server server, double slow_start, double now):
    if server.down:
        state = "down"
    elif server.draining:
        state = "draining"
    elif server.ejected_until > now:
        state = "ejected"
    elif server.cold:
        state = "waking"
    else:
        state = "slow-start" if server.began + slow_start > now else "up"
    return {
        "id": server.id,
        "task": server.task,
        "state": state,
        "weight": server.weight,
        "active": server.active,
        "connections": server.connections,
        "requests": server.requests,
        "failures": server.failures,
        "latency": max(0.0, server.latency),
    }
